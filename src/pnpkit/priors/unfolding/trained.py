"""Diff-Unfolding with trained weights."""

from typing import Self

from torch import nn

from pnpkit.priors.trained_posterior import TrainedPosterior
from pnpkit.priors.unfolding.network import UnfoldingNetwork


class DiffUnfolding(TrainedPosterior):
    """E[x0 | x_t, y] by a trained unrolled network that meets the operator in its data steps only.

    So any linear operator with Gaussian noise can be put in at run time, trained on or not (Diff-Unfolding, Wang,
    Shoushtari & Kamilov 2025, arXiv 2505.11393; from its abstract: architecture, conditioning, training and sampling
    are reconstructions). Any height and width. Each call makes as many network calls as there are stages;
    ``calls["prior"]`` of a result counts them.

    Parameters
    ----------
    weights : the name of shipped weights, or a .safetensors file written by ``pnpkit train`` with ``posterior`` in its
        recipe, which holds the architecture, the range of sigma and whether images are complex.
    arithmetic : "bfloat16" runs the convolutions in it; data steps stay in float32.
    backend : "native" runs network and data steps in C++ (``pnpkit native build``; docs/native.md), "auto" does so
        where it is built and the images are float32 on the CPU without gradients.
    compiled : run the network through ``torch.compile``: a minute at the first call of each image size, faster after.
    """

    form = "pnpkit-unfolding-1"

    @classmethod
    def network(cls) -> type[nn.Module]:
        return UnfoldingNetwork

    @classmethod
    def example(cls) -> Self:
        return cls(weights="unfold_photos")
