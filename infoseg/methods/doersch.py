"""Doersch: context prediction (Doersch et al., ICCV 2015), as IIC's authors adapted it.

In which of eight directions does the second patch lie? Colours are dropped, since the fringes that
lenses cause would give a patch's place away.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from infoseg.methods.base import DataInfo
from infoseg.methods.pairs import PatchPairs, Size
from infoseg.settings import DoerschSettings


class Doersch(PatchPairs):
    r"""Predict the direction $d$ in which the second patch lies; segments are k-means of features.

    $$\max_\psi \; \mathbb{E} \, \log p_\psi(d \mid \text{patches at } u, \; u + o_d)$$
    """

    Settings = DoerschSettings
    # A patch, at most two sides to the centre of the other.
    smallest = 3.0

    def __init__(self, settings: DoerschSettings, data: DataInfo):
        super().__init__(settings, data, settings.directions)
        self.register_buffer("mean", torch.tensor(data.mean[:3]), persistent=False)
        self.register_buffer("std", torch.tensor(data.std[:3]), persistent=False)

    def draw(self, count: int, size: Size, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Steps of 1.5 to 2 patches in multiples of 45 degrees: 0 is to the right, 2 down.

        Offsets are rounded to the nearest pixel (the released code rounds down), so diagonals stay
        diagonal.
        """
        device, directions = generator.device, self.settings.directions
        direction = torch.randint(directions, (count,), generator=generator, device=device)
        radius = 1.5 + 0.5 * torch.rand(count, generator=generator, device=device)
        angle = direction * (math.pi / 4)
        offset = self.patch * radius[:, None] * torch.stack([angle.sin(), angle.cos()], 1)
        return offset.round().long(), direction

    def losses(self, logits: Tensor, answers: Tensor) -> Tensor:
        return F.cross_entropy(logits, answers, reduction="none")

    def disguise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Replace two of red, green and blue by noise, another two in each image; infrared stays.

        The noise has the data set's mean of the channel that stays, and 1/100 of its deviation.
        """
        kept = torch.randint(3, (len(images),), generator=generator, device=images.device)
        colours = images[:, :3]
        noise = torch.randn(colours.shape, generator=generator, device=images.device)
        mean, std = (values[kept].view(-1, 1, 1, 1) for values in (self.mean, self.std))
        noise = mean + std / 100 * noise
        stays = (torch.arange(3, device=images.device) == kept[:, None])[:, :, None, None]
        return torch.cat([torch.where(stays, colours, noise), images[:, 3:]], 1)
