"""Means over superpixels, and back to pixels: no loop over images or regions.

Region ids are as in `infoseg.views.Views`: 0..count-1 within each image, count outside the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infoseg.views import Views


def superpixels(views: Views) -> Tensor:
    """The superpixel of every pixel, (B, H, W) int64. Raises ValueError where views have none."""
    if views.regions is None:
        raise ValueError(
            "this method works on superpixels, and these views have none: views.regions is None "
            "(data sets get theirs when they are prepared, single pictures from "
            "infoseg.data.superpixels)"
        )
    return views.regions


def pool_regions(values: Tensor, regions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean of a map over each region of each image.

    values (B, K, H, W), regions (B, H, W) int64 → means (B, count, K), at least float32, 0 for a
    region without pixels, and the number of pixels (B, count) in the same type. Pixels outside the
    image (id `count`) take no part. Gradients reach every pixel of a region alike.
    """
    # Sums of many pixels lose digits in half precision.
    values = values.to(torch.promote_types(values.dtype, torch.float32)).flatten(2)
    slots = regions.flatten(1)
    batch, classes, _ = values.shape
    # One slot more than there are regions, for what lies outside. Along the last dimension, which
    # on a CPU is several times as fast as rows of K, and adds up in the same order every time.
    sums = values.new_zeros(batch, classes, count + 1)
    sums = sums.scatter_add(2, slots[:, None].expand(-1, classes, -1), values)
    pixels = values.new_zeros(batch, count + 1).scatter_add(1, slots, torch.ones_like(values[:, 0]))
    means = sums / pixels.clamp_min(1)[:, None]
    return means[..., :count].transpose(1, 2), pixels[:, :count]


def spread_regions(means: Tensor, regions: Tensor, outside: Tensor) -> Tensor:
    """Every pixel gets the values of its region: the way back from `pool_regions`.

    means (B, R, K), regions (B, H, W) int64 → (B, K, H, W); pixels outside the image (id R) get
    those of `outside` (B, K, H, W).
    """
    count = means.shape[1]
    slots = regions.clamp_max(count - 1).flatten(1)[:, None].expand(-1, means.shape[2], -1)
    spread = means.transpose(1, 2).gather(2, slots).view_as(outside)
    return torch.where(regions[:, None] < count, spread, outside)
