"""Equation 8's pairs: <L(x), S(x)> and, under every reading of S(x'), <L(x), S(x')>."""

from __future__ import annotations

from typing import get_args

import torch
from matplotlib.figure import Figure
from torch import Tensor

from infoseg.losses import (
    class_scores,
    infoseg_loss,
    negative_scores,
    positive_scores,
)
from infoseg.settings import Marginal, ObjectiveSettings
from infoseg.tour.drawing import Picture, number, rows, signed
from infoseg.tour.start import Tour

READINGS: tuple[Marginal, ...] = get_args(Marginal)
#: What S(x') is made of: whose V, and the H of x' always.
MADE_OF = {
    "paired": "V of x′, as written",
    "random_position": "V of x′, moved",
    "same_class": "V of x",
    "rematched": "V of x among H(x′)",
    "log_sum_exp": "soft maximum",
    "mean_k": "mean of H(x′)",
}


def pair_scores(
    local: Tensor, glob: Tensor, settings: ObjectiveSettings, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """T of Eq. 8's joint and marginal pairs, every picture with the next: (B, U, V) each.

    local (B, P, U, V), glob (B, K, P).
    """
    grid = local.shape[-2:]
    local = local.flatten(2)
    factor = settings.score_factor

    def partner(x: Tensor) -> Tensor:
        return x.roll(-1, 0)

    scores = class_scores(local, glob, factor)
    crossed = class_scores(local, partner(glob), factor)
    generator = torch.Generator().manual_seed(seed)
    joint = positive_scores(scores, settings)
    marginal = negative_scores(scores, crossed, partner, settings, generator)
    return joint.unflatten(-1, grid), marginal.unflatten(-1, grid)


def pairs(tour: Tour) -> Figure:
    """T of the picture's joint and marginal pairs, and what Eq. 8 comes to, by reading.

    Maps show the one picture and its partner; the estimator is the mean over all pictures looked
    at. A guess earns -2 log 2 = -1.39. The joint pairs of all readings but `log_sum_exp` are alike.
    """
    images, local, glob = tour.features()
    found = {}
    for reading in READINGS:
        settings = tour.method.objective.model_copy(update={"marginal": reading})
        joint, marginal = pair_scores(local, glob, settings)
        generator = torch.Generator().manual_seed(0)
        bound = -float(infoseg_loss(local, glob, settings, generator))
        found[reading] = joint[0], marginal[0], bound
    most = max(float(x.abs().max()) for maps in found.values() for x in maps[:2])
    top = [
        Picture(images[i, :3].permute(1, 2, 0).clamp(0, 1), name, style={"interpolation": "auto"})
        for i, name in enumerate(("x", "x′"))
    ]
    top += [
        signed(found[name][0], f"T(x, x): mean {_mean(found[name][0])}\n{made_of}", most)
        for name, made_of in (("paired", "all but log_sum_exp"), ("log_sum_exp", "log_sum_exp"))
    ]
    bottom = [
        signed(
            marginal,
            f"T(x, x′): mean {_mean(marginal)}\n{MADE_OF[name]}\nEq. 8: {number(bound)}",
            most,
            name,
        )
        for name, (_, marginal, bound) in found.items()
    ]
    return rows([top, bottom], cell=1.2)


def _mean(x: Tensor) -> str:
    return number(float(x.mean()))
