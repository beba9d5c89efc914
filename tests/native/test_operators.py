"""The C++ operators against their Python twins."""

import json

import pytest
import torch

from pnpkit import native
from pnpkit.errors import SpecError
from pnpkit.likelihoods import Gaussian
from pnpkit.operators import CT, MRI, Blur, Inpainting, SuperResolution
from pnpkit.priors.native_problem import twin
from pnpkit.problem import Problem
from pnpkit.spec import encode

from .problems import assert_near, draw, kernel, lines, mask, needs_native

pytestmark = needs_native


OPERATORS = {
    "inpainting": lambda: Inpainting(mask=mask(1, 13, 16)),
    "inpainting, colour, weights": lambda: Inpainting(mask=mask(3, 13, 16) * 0.7, shape=(3, 13, 16)),
    "inpainting, complex": lambda: Inpainting(mask=mask(1, 13, 16), complex=True),
    "inpainting, per sample": lambda: Inpainting(mask=mask(2, 1, 13, 16)),
    "blur": lambda: Blur(kernel=kernel(), shape=(1, 13, 16)),
    "blur, odd": lambda: Blur(kernel=kernel(h=4, w=5), shape=(2, 13, 15)),
    "blur, complex": lambda: Blur(kernel=kernel(), shape=(1, 13, 16), complex=True),
    "blur, per sample": lambda: Blur(kernel=kernel(3, 2), shape=(1, 13, 16)),
    "super-resolution ×2": lambda: SuperResolution(kernel=kernel(), factor=2, shape=(1, 12, 16)),
    "super-resolution ×3": lambda: SuperResolution(kernel=kernel(), factor=3, shape=(2, 12, 15)),
    "super-resolution ×4, large kernel": lambda: SuperResolution(
        kernel=kernel(h=12, w=12), factor=4, shape=(1, 24, 20)
    ),
    "super-resolution, complex": lambda: SuperResolution(kernel=kernel(), factor=2, shape=(1, 12, 16), complex=True),
    "super-resolution, per sample": lambda: SuperResolution(kernel=kernel(4, 2), factor=2, shape=(1, 12, 16)),
    "single-coil MRI": lambda: MRI(mask=mask(1, 12, 16)),
    "single-coil MRI, odd": lambda: MRI(mask=mask(1, 13, 15)),
    "CT, parallel": lambda: CT(angles=torch.linspace(0, 3.0, 9), shape=(1, 13, 16), detectors=21, pitch=0.9),
    "CT, fan, colour": lambda: CT(
        angles=torch.linspace(0.1, 6.0, 11),
        shape=(2, 12, 15),
        detectors=23,
        offset=torch.tensor([0.3]),
        pixel=0.8,
        source_to_axis=20.0,
        source_to_detector=31.0,
    ),
    "CT, per sample": lambda: CT(
        angles=torch.rand(2, 8, generator=torch.Generator().manual_seed(0)) * 3, shape=(1, 9, 9), detectors=13
    ),
    "multi-coil MRI": lambda: MRI(mask=mask(1, 12, 16), maps=draw(3, 12, 16, complex=True)),
    "multi-coil MRI, lines": lambda: MRI(mask=lines(12, 16, -2), maps=draw(3, 12, 16, complex=True)),
    "multi-coil MRI, columns": lambda: MRI(mask=lines(12, 16, -1), maps=draw(3, 12, 16, complex=True)),
    "multi-coil MRI, all": lambda: MRI(mask=torch.ones(1, 12, 16), maps=draw(3, 12, 16, complex=True)),
    "multi-coil MRI, per sample": lambda: MRI(mask=mask(2, 1, 12, 16), maps=draw(2, 3, 12, 16, complex=True)),
}


def problem_of(name: str, sigma: float | torch.Tensor = 0.1) -> Problem:
    op = OPERATORS[name]().with_cg(tol=1e-6, max_iter=300)
    y = draw(2, *op.out_shape, seed=5, complex=op.out_dtype.is_complex)
    return Problem(op, Gaussian(sigma=sigma), y)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_python(name):
    problem = problem_of(name, torch.tensor([0.1, 0.3]))
    op, other = problem.operator, twin(problem)
    x = draw(2, *op.in_shape, seed=6, complex=op.in_dtype.is_complex)
    tau = torch.tensor([0.3, 7.0])
    assert_near(other.forward(x), op(x))
    assert_near(other.adjoint(problem.y), op.adjoint(problem.y))
    assert_near(other.normal(x), op.normal(x))
    assert_near(other.prox_l2(x, tau), op.prox_l2(x, problem.y, tau))
    assert_near(other.initial(), problem.initial())
    assert_near(
        other.lipschitz, problem.lipschitz, 1e-3 if "coil" in name or "CT" in name else 1e-5
    )  # a bound within 1 %, or power iteration
    assert_near(other.noise_level, problem.noise_level, 1e-3)


def test_parameters_per_sample_are_for_as_many_measurements():
    op = Inpainting(mask=mask(2, 1, 8, 8))
    spec, tensors = encode(op)
    for samples in (1, 3):
        with pytest.raises(SpecError, match=f"has {samples} samples but the operator's parameters are for 2"):
            native.load().Problem(json.dumps(spec), tensors, draw(samples, 1, 8, 8), torch.tensor(0.1))
