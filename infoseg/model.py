"""The InfoSeg network, Figure 3 of the paper: blocks A, B, C, D.

    image ── A ──┬── C ──────────────► L   local features,  (B, P, U, V)
                 └── B ── C' ── D ───► H   global features, (B, K, P)

Known from the paper: what each block is for, d = 4 (U = M/4, V = N/4), P = 1024, that C is a
residual block of pointwise convolutions used twice with separate weights, and that D is one linear
layer per class. Layer counts, channels, normalisation and initialisation are not given; every
default is an assumption chosen to fit Figure 3's caption (`infoseg.settings.NetworkSettings`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from infoseg.settings import NetworkSettings, Norm
from infoseg.views import channels_last, luma

#: (kernel, channels, stride) of each convolution, the paper's legend order "W x W, C, d".
BLOCK_A = {
    "figure3": ((3, 64, 1), (4, 128, 2), (3, 256, 1), (4, 512, 2), (3, 512, 1)),
    "cheap": ((4, 128, 2), (4, 512, 2), (1, 512, 1)),
    "dim": ((4, 64, 2), (4, 128, 2)),
}
LAYER_B = (4, 512, 2)


def _convolutions(
    layers: tuple[tuple[int, int, int], ...], channels: int, width: float
) -> tuple[nn.Sequential, int]:
    """Convolution + batch norm + ReLU for each (kernel, channels, stride); (module, channels)."""
    modules: list[nn.Module] = []
    for kernel, out, stride in layers:
        out = max(8, round(out * width))
        # Padding that keeps the grid (odd kernels) or halves it exactly (4x4, stride 2). The bias
        # is left out because batch norm subtracts it again.
        conv = nn.Conv2d(channels, out, kernel, stride, padding=(kernel - 1) // 2, bias=False)
        modules += [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        channels = out
    return nn.Sequential(*modules), channels


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a (B, C, H, W) map, each position by itself."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


def _norm(kind: Norm, channels: int) -> nn.Module:
    if kind == "layer":
        return ChannelNorm(channels)
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()


class BlockC(nn.Module):
    """Residual block of pointwise convolutions (4.2): 1x1 → BN → ReLU → 1x1, plus a 1x1 shortcut.

    No normalisation after the sum by default: with a layer norm there, dot products at P = 1024
    start with a standard deviation of about 18, and Eq. 3 close to one-hot. Without, it is about 5,
    and V is decided but not one-hot: mean largest V 0.83 to 0.85 at K = 3.
    """

    def __init__(self, channels: int, features: int, norm: Norm):
        super().__init__()
        self.expand = nn.Conv2d(channels, features, 1, bias=False)
        self.norm = nn.BatchNorm2d(features)
        self.mix = nn.Conv2d(features, features, 1)
        self.shortcut = nn.Conv2d(channels, features, 1)
        self.out = _norm(norm, features)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu_(self.norm(self.expand(x)))
        return self.out(self.mix(hidden) + self.shortcut(x))


class BlockD(nn.Module):
    """One linear layer per class, (B, Q) → (B, K, P), computed as a single matrix product.

    inputs: Q, which is P but where block C is left out.
    """

    def __init__(self, features: int, classes: int, inputs: int | None = None):
        super().__init__()
        self.classes = classes
        # The default initialisation depends on the fan-in alone, so K layers side by side start
        # exactly as K layers apart would.
        self.linear = nn.Linear(inputs or features, classes * features)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (self.classes, -1))


class Network(nn.Module):
    """Images to local and global features (Figure 3).

    channels: of the input, 3 (RGB) or 4 (RGB and infrared). classes: K. settings: None for the
    defaults. mean, std: per channel, in the units of the images (0 to 1); used by `standardise:
    dataset`; None leaves the images as they are.
    """

    #: Downsampling rate d of the local features (5.1).
    stride = 4

    def __init__(
        self,
        channels: int = 3,
        classes: int = 3,
        settings: NetworkSettings | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ):
        super().__init__()
        settings = settings or NetworkSettings()
        self.classes = classes
        self.standardise = settings.standardise
        self.grey = settings.input == "grey"
        whole = settings.standardise == "dataset" and mean is not None and std is not None
        # Buffers, so that weights carry the colours they were trained with to new pictures.
        self.register_buffer("mean", torch.tensor(mean if whole else [0.0] * channels))
        self.register_buffer("std", torch.tensor(std if whole else [1.0] * channels))
        features = settings.features
        self.block_a, a = _convolutions(
            BLOCK_A[settings.block_a], channels - 2 * self.grey, settings.width
        )
        convolutions, b = _convolutions((LAYER_B,) * settings.layers_b, a, settings.width)
        # The average of the last map, so that images of any size work.
        self.block_b = nn.Sequential(convolutions, nn.AdaptiveAvgPool2d(1))
        if settings.block_c == "none":
            features = a
            self.block_c_local = _norm(settings.norm_c, a)
            self.block_c_global = _norm(settings.norm_c, b)
        else:
            self.block_c_local = BlockC(a, features, settings.norm_c)
            self.block_c_global = BlockC(b, features, settings.norm_c)
            b = features
        self.norm_d = _norm(settings.norm_d, b)
        self.block_d = BlockD(features, classes, b)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, C, M, N) in 0..1 → local (B, P, U, V) and global (B, K, P) features."""
        patches = self.block_a(self._input(images))
        local = self.block_c_local(patches)
        image_level = self.norm_d(self.block_c_global(self.block_b(patches)))
        return local, self.block_d(image_level.flatten(1))

    def _input(self, images: Tensor) -> Tensor:
        if self.standardise == "image":
            std, mean = torch.std_mean(images, (2, 3), correction=0, keepdim=True)
            images = (images - mean) / (std + 1 / 255)  # a flat image has no contrast to divide by
        else:
            images = (images - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)
        if self.grey:
            images = torch.cat([luma(images), images[:, 3:]], 1)
        return channels_last(images)
