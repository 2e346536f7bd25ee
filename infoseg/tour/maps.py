"""Equations 1 and 2 on label maps small enough to count by hand."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from infoseg.clustering_losses import information_loss, region_information
from infoseg.correlation import displaced_joint
from infoseg.reporting.palette import colourise
from infoseg.tour.drawing import Picture, number, rows

SIDE, CLASSES = 6, 3


def toy_maps() -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs y, y' of 6 x 6 maps of three classes, by what tells them apart: (6, 6) int64 each."""
    stripes = (torch.arange(SIDE) * CLASSES // SIDE).expand(SIDE, -1)
    exchanged = torch.tensor([1, 0, 2])[stripes]
    # Two rows of six go wrong: the first two classes change places there.
    partly = torch.where(torch.arange(SIDE)[:, None] < 2, exchanged, stripes)
    return {
        "equal": (stripes, stripes),
        "names exchanged": (stripes, exchanged),
        "a third exchanged": (stripes, partly),
        "unrelated": (stripes, stripes.T),
        "one class": (torch.zeros_like(stripes), torch.zeros_like(stripes)),
    }


def joint(first: Tensor, second: Tensor, classes: int = CLASSES) -> Tensor:
    """Joint distribution of the labels of two maps, (H, W) int64 each → (K, K) float32, sum 1.

    Made symmetric, as IIC does, because either map might have come first.
    """
    one_hot = [F.one_hot(x, classes).permute(2, 0, 1)[None].float() for x in (first, second)]
    counts = displaced_joint(*one_hot, displacement=0)[0, 0]
    return (counts + counts.T) / (2 * counts.sum())


def information(joint: Tensor) -> tuple[float, float, float]:
    """I(y; y'), H(y) and H(y|y') of Eq. 2 in nats, of a joint distribution (K, K).

    I is what IIC's loss says, the two entropies what InMARS's does, with y' in place of the region.
    """
    given = joint.sum(0)
    rows_given = joint.T / given.clamp(min=1e-12)[:, None]
    entropy, conditional = region_information(rows_given, given)
    return -float(information_loss(joint, weight=1.0)), float(entropy), float(conditional)


def label_maps() -> Figure:
    """Pairs of maps, one above the other, their joint distribution, and Eq. 2 for them."""
    top, middle, bottom = [], [], []
    for name, (first, second) in toy_maps().items():
        together = joint(first, second)
        found, entropy, conditional = information(together)
        top.append(Picture(colourise(first.numpy()), "y", name, lines=True))
        middle.append(Picture(colourise(second.numpy()), "y′", lines=True))
        caption = (
            f"P(y, y′), largest {number(float(together.max()))}\n"
            f"H(y) = {number(entropy)}\nH(y|y′) = {number(conditional)}\n"
            f"I(y; y′) = {number(found)}"
        )
        style = {"cmap": "Greys", "vmin": 0, "vmax": float(together.max())}
        bottom.append(Picture(together.numpy(), caption, style=style))
    return rows([top, middle, bottom], cell=1.15)
