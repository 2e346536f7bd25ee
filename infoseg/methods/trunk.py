"""The VGG-like trunk and head of IIC's segmentation networks, shared by the compared methods.

Facts from the authors' released code: 3x3 convolutions with padding 1 and without bias, batch norm
and ReLU; 64, 128, max pooling by 2, 256, 256, and twice 512 with dilation 2; Kaiming-normal
initialisation (fan-in). The head is a 1x1 convolution with padding 1 (so its map is one pixel wider
on each side) and a softmax, interpolated bilinearly to the size of the input.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from infoseg.views import append_sobel, channels_last

#: (channels, dilation) of the convolutions; padding stays 1 even where the dilation is 2, as
#: released, which is why an input of 128 px gives a map of 60 and one of 200 a map of 96.
CONVOLUTIONS = ((64, 1), (128, 1), (256, 1), (256, 1), (512, 2), (512, 2))
#: Modules before the pooling and with it: two convolutions with norm and ReLU.
POOLING = 7


class Trunk(nn.Module):
    """(B, C, H, W) images → (B, 512 * width, H/2 - 2, W/2 - 2) features.

    sobel: the input is the colours and their two Sobel gradients (IIC's COCO input, not Potsdam's).
    width: factor on the channels, 1 as released.
    """

    #: Gradient checkpointing up to the pooling, whose activations are the largest.
    recompute = False

    def __init__(self, channels: int, width: float, sobel: bool | None):
        super().__init__()
        self.sobel = channels == 3 if sobel is None else sobel
        channels += 2 if self.sobel else 0
        modules: list[nn.Module] = []
        for out, dilation in CONVOLUTIONS:
            if len(modules) == POOLING - 1:
                modules.append(nn.MaxPool2d(2))
            out = max(8, round(out * width))
            conv = nn.Conv2d(channels, out, 3, padding=1, dilation=dilation, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
            modules += [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            channels = out
        self.layers = nn.Sequential(*modules)
        self.features = channels

    def forward(self, images: Tensor, intact: Tensor | None = None) -> Tensor:
        """intact: the same images before their colours were changed; see `append_sobel`."""
        images = channels_last(append_sobel(images, intact) if self.sobel else images)
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return self.layers(images)
        first, rest = self.layers[:POOLING], self.layers[POOLING:]
        options: dict[str, Any] = {"use_reentrant": False}
        # The compiler takes no contexts, and records statistics once without.
        if not torch.compiler.is_compiling():
            options["context_fn"] = lambda: (contextlib.nullcontext(), _frozen_statistics(first))
        return rest(checkpoint(first, images, **options))


@contextlib.contextmanager
def _frozen_statistics(modules: nn.Module) -> Iterator[None]:
    """Batch norm as in training, but without counting the batch a second time."""
    norms = [m for m in modules.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


class Head(nn.Module):
    """A 1x1 convolution from features to class probabilities, one sub-head of the released code."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.conv = nn.Conv2d(features, classes, 1, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, features: Tensor, size: torch.Size) -> Tensor:
        """Class probabilities at `size`, (B, K, H, W): softmax first, then interpolation."""
        probabilities = self.conv(features).float().softmax(1)
        return F.interpolate(probabilities, size, mode="bilinear", align_corners=False)
