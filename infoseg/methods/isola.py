"""Isola: co-occurrence in space (Isola et al., 2015), as IIC's authors adapted it.

Do two patches touch, or do they lie far apart?
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from infoseg.methods.base import DataInfo
from infoseg.methods.pairs import PatchPairs, Size
from infoseg.settings import IsolaSettings


class Isola(PatchPairs):
    r"""Predict whether two patches adjoin ($a = 1$) or not; segments are k-means of features.

    $$\max_\psi \; \mathbb{E} \, \log p_\psi(a \mid \text{patches at } u, \; v)$$
    """

    Settings = IsolaSettings
    # Centres in opposite corners of a square of this side are two patches apart.
    smallest = 1 + math.sqrt(2)

    def __init__(self, settings: IsolaSettings, data: DataInfo):
        super().__init__(settings, data, 1)

    def draw(self, count: int, size: Size, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pairs that touch at a corner, or lie two patches apart or more."""
        adjoining = torch.rand(count, generator=generator, device=generator.device) < 0.5
        corners = torch.randint(2, (count, 2), generator=generator, device=generator.device)
        near = self.patch * (2 * corners - 1)
        far = far_offsets(count, size, self.patch, generator)
        return torch.where(adjoining[:, None], near, far), adjoining

    def losses(self, logits: Tensor, answers: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits[:, 0], answers.float(), reduction="none")


def far_offsets(count: int, size: Size, patch: int, generator: torch.Generator) -> Tensor:
    """Offsets of pairs drawn uniformly from all whose centres are two patches apart or more.

    (n, 2) int64 pixels. Instead of drawing until a pair is far enough: every offset, weighted by
    the number of pairs that have it. The released code draws the distance uniformly, which favours
    near pairs.
    """
    device = generator.device
    y, x = (torch.arange(patch - side, side - patch + 1, device=device) for side in size)
    pairs = (size[0] - patch + 1 - y.abs())[:, None] * (size[1] - patch + 1 - x.abs())
    pairs = pairs * (y.square()[:, None] + x.square() >= (2 * patch) ** 2)
    cumulative = pairs.flatten().cumsum(0)
    draws = torch.rand(count, generator=generator, device=device, dtype=torch.float64)
    index = torch.searchsorted(cumulative, (draws * cumulative[-1]).long(), right=True)
    return torch.stack([y[index // len(x)], x[index % len(x)]], 1)
