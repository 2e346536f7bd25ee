"""Colour jitter of a batch on its device: a strength of its own for every image, no loop over them.

Torchvision's four operations, by their published definitions, in a fixed order (there the order is
random; assumption: without effect on what is learnt).
"""

from __future__ import annotations

import torch
from torch import Tensor

from infoseg.settings import JitterSettings
from infoseg.views import luma


def colour_jitter(images: Tensor, settings: JitterSettings, generator: torch.Generator) -> Tensor:
    """(B, C, H, W) in 0..1 → the same, RGB jittered, further channels (infrared) as they were."""
    rgb, rest = images[:, :3], images[:, 3:]
    strengths = images.new_tensor(
        [settings.brightness, settings.contrast, settings.saturation, settings.hue]
    )
    draws = torch.rand(4, len(images), 1, 1, 1, generator=generator, device=images.device)
    draws = (2 * draws - 1) * strengths.view(4, 1, 1, 1, 1)
    brightness, contrast, saturation, hue = draws
    rgb = (rgb * (1 + brightness)).clamp(0, 1)
    rgb = _blend(rgb, luma(rgb).mean((2, 3), keepdim=True), 1 + contrast)
    rgb = _blend(rgb, luma(rgb), 1 + saturation)
    return torch.cat([turn_hue(rgb, hue), rest], 1)


def _blend(images: Tensor, grey: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(grey.expand_as(images), images, factor).clamp(0, 1)


def turn_hue(rgb: Tensor, turn: Tensor) -> Tensor:
    """Add `turn` (broadcast, in full circles) to the hue of (B, 3, H, W) images in 0..1."""
    value, brightest = rgb.max(1, keepdim=True)
    chroma = value - rgb.amin(1, keepdim=True)
    # The hue in sixths of a circle: which channel is brightest, and how the next two differ.
    differences = rgb.roll(-1, 1) - rgb.roll(-2, 1)
    difference = differences.gather(1, brightest) / chroma.clamp_min(1e-8)
    hue = 2 * brightest + difference + 6 * turn
    # Back again: a channel falls from the value by as much of the chroma as its hue is away.
    offsets = torch.tensor([5.0, 3.0, 1.0], device=rgb.device).view(1, 3, 1, 1)
    k = (offsets + hue).remainder(6)
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def jittered_view(
    images: Tensor, settings: JitterSettings, flip: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """IIC's second view: colours jittered, then mirrored left to right with probability `flip`.

    (B, C, H, W) → the view, and (B, 1, 1, 1) bool, true where it is mirrored.
    """
    other = colour_jitter(images, settings, generator)
    draws = torch.rand(len(other), generator=generator, device=other.device)
    mirrored = (draws < flip)[:, None, None, None]
    return torch.where(mirrored, other.flip(-1), other), mirrored
