"""Line integrals through images by Joseph's method, compiled by numba: projection, its exact adjoint, its derivatives.

A ray crosses the image along its main axis (the one it is more parallel to). At index k there, its position on the
other axis is b + m·k, in pixels; the image is interpolated linearly between the two pixels around it (Joseph, IEEE TMI
1, 1982). Outside the image is zero.
"""

import functools
from typing import Any

import numpy as np

CHUNKS = 16  # of rays in the adjoint, each with an image of its own: the sum does not depend on the number of threads


@functools.cache
def kernels() -> Any:
    """(project, backproject, moments), compiled on first use."""
    import numba

    inline = numba.njit(inline="always", fastmath=True)
    parallel = numba.njit(parallel=True, fastmath=True, cache=True, nogil=True)

    @inline
    def span(b, m, length, n):  # indices k from first to last − 1 where −1 < b + m·k < n
        if abs(m) < 1e-12:
            return (0, length) if -1 < b < n else (0, 0)
        low, high = (-1 - b) / m, (n - b) / m
        if m < 0:
            low, high = high, low
        first = max(0, int(np.floor(low)) + 1)
        return first, max(first, min(length, int(np.ceil(high))))

    @parallel
    def project(images, b, m, columns, out):  # (B, H, W), (R,), (R,), (R,) bool, (B, R)
        batch, height, width = images.shape
        for r in numba.prange(len(b)):
            along = columns[r]
            length, n = (width, height) if along else (height, width)
            first, last = span(b[r], m[r], length, n)
            scale = np.sqrt(1 + m[r] * m[r])
            for i in range(batch):
                total = 0.0
                for k in range(first, last):
                    position = b[r] + m[r] * k
                    j = int(np.floor(position))
                    f = position - j
                    if j >= 0:
                        total += (1 - f) * (images[i, j, k] if along else images[i, k, j])
                    if j + 1 < n:
                        total += f * (images[i, j + 1, k] if along else images[i, k, j + 1])
                out[i, r] = total * scale

    @parallel
    def backproject(values, b, m, columns, partial):  # (B, R), …, (CHUNKS, B, H, W) zeros
        chunks, batch, height, width = partial.shape
        rays = len(b)
        for c in numba.prange(chunks):
            for r in range(c * rays // chunks, (c + 1) * rays // chunks):
                along = columns[r]
                length, n = (width, height) if along else (height, width)
                first, last = span(b[r], m[r], length, n)
                scale = np.sqrt(1 + m[r] * m[r])
                for i in range(batch):
                    value = values[i, r] * scale
                    for k in range(first, last):
                        position = b[r] + m[r] * k
                        j = int(np.floor(position))
                        f = position - j
                        if along:
                            if j >= 0:
                                partial[c, i, j, k] += (1 - f) * value
                            if j + 1 < n:
                                partial[c, i, j + 1, k] += f * value
                        else:
                            if j >= 0:
                                partial[c, i, k, j] += (1 - f) * value
                            if j + 1 < n:
                                partial[c, i, k, j + 1] += f * value

    @parallel
    def moments(images, b, m, columns, in_b, in_m):  # derivatives of the projection in b and m, (B, R) each
        batch, height, width = images.shape
        for r in numba.prange(len(b)):
            along = columns[r]
            length, n = (width, height) if along else (height, width)
            first, last = span(b[r], m[r], length, n)
            scale = np.sqrt(1 + m[r] * m[r])
            for i in range(batch):
                total, slope, weighted = 0.0, 0.0, 0.0
                for k in range(first, last):
                    position = b[r] + m[r] * k
                    j = int(np.floor(position))
                    f = position - j
                    here = 0.0 if j < 0 else (images[i, j, k] if along else images[i, k, j])
                    there = 0.0 if j + 1 >= n else (images[i, j + 1, k] if along else images[i, k, j + 1])
                    total += (1 - f) * here + f * there
                    slope += there - here
                    weighted += k * (there - here)
                in_b[i, r] = scale * slope
                in_m[i, r] = scale * weighted + total * m[r] / scale

    return project, backproject, moments
