"""Line integrals through images by Joseph's method, compiled by numba: projection, its exact adjoint, its derivatives.

A ray crosses the image along its main axis (the one it is more parallel to). At index k there, its position on the
other axis is b + m·k, in pixels; the image is interpolated linearly between the two pixels around it (Joseph, IEEE TMI
1, 1982). Outside the image is zero.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

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

    @inline
    def ray(b, m, along, height, width):  # its indices on the main axis, pixels across it, length of one step
        length, n = (width, height) if along else (height, width)
        first, last = span(b, m, length, n)
        return first, last, n, np.sqrt(1 + m * m)

    @inline
    def tap(position):  # the pixel below a position, and the weight of the one above
        j = int(np.floor(position))
        return j, position - j

    @inline
    def pixel(image, j, k, along, n):  # j on the other axis, k along the main one
        if j < 0 or j >= n:
            return 0.0
        return image[j, k] if along else image[k, j]

    @inline
    def add(image, j, k, along, n, value):
        if 0 <= j < n:
            if along:
                image[j, k] += value
            else:
                image[k, j] += value

    @parallel
    def project(images, b, m, columns, out):  # (B, H, W), (R,), (R,), (R,) bool, (B, R)
        batch, height, width = images.shape
        for r in numba.prange(len(b)):
            along = columns[r]
            first, last, n, scale = ray(b[r], m[r], along, height, width)
            for i in range(batch):
                total = 0.0
                for k in range(first, last):
                    j, f = tap(b[r] + m[r] * k)
                    total += (1 - f) * pixel(images[i], j, k, along, n) + f * pixel(images[i], j + 1, k, along, n)
                out[i, r] = total * scale

    @parallel
    def backproject(values, b, m, columns, partial):  # (B, R), …, (CHUNKS, B, H, W) zeros
        chunks, batch, height, width = partial.shape
        rays = len(b)
        for c in numba.prange(chunks):
            for r in range(c * rays // chunks, (c + 1) * rays // chunks):
                along = columns[r]
                first, last, n, scale = ray(b[r], m[r], along, height, width)
                for i in range(batch):
                    image, value = partial[c, i], values[i, r] * scale
                    for k in range(first, last):
                        j, f = tap(b[r] + m[r] * k)
                        add(image, j, k, along, n, (1 - f) * value)
                        add(image, j + 1, k, along, n, f * value)

    @parallel
    def moments(images, b, m, columns, in_b, in_m):  # derivatives of the projection in b and m, (B, R) each
        batch, height, width = images.shape
        for r in numba.prange(len(b)):
            along = columns[r]
            first, last, n, scale = ray(b[r], m[r], along, height, width)
            for i in range(batch):
                total, slope, weighted = 0.0, 0.0, 0.0
                for k in range(first, last):
                    j, f = tap(b[r] + m[r] * k)
                    here, there = pixel(images[i], j, k, along, n), pixel(images[i], j + 1, k, along, n)
                    total += (1 - f) * here + f * there
                    slope += there - here
                    weighted += k * (there - here)
                in_b[i, r] = scale * slope
                in_m[i, r] = scale * weighted + total * m[r] / scale

    return tuple(_with_torchs_threads(k) for k in (project, backproject, moments))


def _with_torchs_threads(kernel: Callable[..., None]) -> Callable[..., None]:
    """Run it on as many threads as torch has: numba shares OpenMP with torch and would leave it with its own number."""
    import numba

    @functools.wraps(kernel)
    def run(*arrays: Any) -> None:
        threads = torch.get_num_threads()
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        try:
            kernel(*arrays)
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)

    return run
