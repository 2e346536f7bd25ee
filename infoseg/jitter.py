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
    # Colour by colour: three times as fast on a CPU as channels-last memory.
    rgb = images[:, :3].contiguous()
    draws = torch.rand(4, len(images), 1, 1, 1, generator=generator, device=images.device)
    strengths = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    brightness, contrast, saturation, hue = (
        strength * (2 * draw - 1) for strength, draw in zip(strengths, draws, strict=True)
    )
    rgb = (rgb * (1 + brightness)).clamp(0, 1)
    rgb = _blend(rgb, luma(rgb).mean((2, 3), keepdim=True), 1 + contrast)
    rgb = turn_hue(_blend(rgb, luma(rgb), 1 + saturation), hue)
    return torch.empty_like(images).copy_(torch.cat([rgb, images[:, 3:]], 1))


def _blend(images: Tensor, grey: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(grey, images, factor).clamp(0, 1)


def turn_hue(rgb: Tensor, turn: Tensor) -> Tensor:
    """Add `turn` (broadcast), in full circles, to the hue of (B, 3, H, W) images in 0..1."""
    red, green, blue = rgb.split(1, dim=1)
    value = rgb.amax(1, keepdim=True)
    chroma = value - rgb.amin(1, keepdim=True)
    # The hue in sixths of a circle: from the brightest channel, by how the next two differ.
    sixth = chroma.clamp_min(1e-8).reciprocal()
    hue = torch.where(green == value, 2 + (blue - red) * sixth, 4 + (red - green) * sixth)
    hue = torch.where(red == value, (green - blue) * sixth, hue) + 6 * turn
    hue -= 6 * (hue / 6).floor()
    # Back again: a channel falls from the value by as much of the chroma as its hue is away.
    shares = (hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs()
    return torch.cat([value - chroma * (1 - share.clamp(0, 1)) for share in shares], 1)


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
