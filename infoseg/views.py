"""What a method sees, and what is done to it: brightness, Sobel gradients, colour jitter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from infoseg.settings import JitterSettings


@dataclass(frozen=True)
class Views:
    """What a method sees of a batch.

    images: (B, C, H, W) float32 in 0..1. mask: (B, H, W) bool, true where a pixel is annotated;
    None for methods that do not ask for it, InfoSeg among them. regions: (B, H, W) int64, the
    superpixel of every pixel, 0..region_count-1 within its image and region_count outside the
    image; None for methods that do not ask.
    """

    images: Tensor
    mask: Tensor | None = None
    regions: Tensor | None = None
    region_count: int = 0


@dataclass(frozen=True)
class Sees:
    """What a method sees beside the images: the annotation mask, the superpixels."""

    mask: bool = False
    regions: bool = False


NOTHING = Sees()


#: Weights of red, green and blue in brightness (IIC's `custom_greyscale_to_tensor`).
GREY = (0.2989, 0.5870, 0.1140)


def luma(images: Tensor) -> Tensor:
    """Brightness of the first three channels, (B, C, H, W) → (B, 1, H, W)."""
    red, green, blue = images[:, :3].split(1, dim=1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def append_sobel(images: Tensor, intact: Tensor | None = None) -> Tensor:
    """Colours and two Sobel gradients, (B, C, H, W) → (B, C + 2, H, W), as IIC's COCO input.

    The gradients are those of the first three channels' grey image, of `intact` where the colours
    of `images` were changed; the borders are zero-padded.
    """
    grey = F.pad(luma(images if intact is None else intact), (1, 1, 1, 1))
    rows = grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    columns = grey[..., :-2] + 2 * grey[..., 1:-1] + grey[..., 2:]
    across = rows[..., :-2] - rows[..., 2:]
    down = columns[:, :, :-2] - columns[:, :, 2:]
    return torch.cat([images, across, down], 1)


def channels_last(images: Tensor) -> Tensor:
    """The same (B, C, H, W) in channels-last memory, whose layout convolutions hand on.

    So that a network computes alike in training and from loaded weights, and fastest.
    """
    # One channel is in either order, but convolutions go by its stride.
    if images.stride(1) == 1 and images.is_contiguous(memory_format=torch.channels_last):
        return images
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)


# ---- colour jitter -------------------------------------------------------------------------------

# Torchvision's four operations by their published definitions, a strength of its own for every
# image, in a fixed order (there the order is random; assumption: without effect on what is learnt).


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
    view = colour_jitter(images, settings, generator)
    draws = torch.rand(len(view), generator=generator, device=view.device)
    mirrored = (draws < flip)[:, None, None, None]
    return torch.where(mirrored, view.flip(-1), view), mirrored
