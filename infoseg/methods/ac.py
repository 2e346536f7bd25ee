"""AC, autoregressive unsupervised segmentation (Ouali et al., ECCV 2020).

The two views of an image are two raster orders in which one network reads it. AC maximises the
mutual information between the two class maps by IIC's loss. Segmentation masks nothing. ARL, which
the paper adds for features, is left out: its loss and heads are not known.

The network can be made to see only what comes earlier in a raster order: every 3x3 convolution has
a mask for each of 8 orders; everything else works cell by cell. The map has one cell for each 4x4
pixels (fewer at the right and lower border), aligned to the upper left corner whatever the order.
Under an order, a cell depends on no pixel that comes after the last of its own pixels. That holds
in evaluation mode: in training, batch statistics mix all positions. As in PixelCNN, stacked masks
also hide some earlier cells: for rows read rightwards, those that lie further to the right than up.

Widths, blocks, activations and initialisation are those of an unofficial implementation, the only
public code. Assumptions, where this one differs:

- The joint distribution of IIC's loss is normalised.
- That stem (3x3 with stride 2, then 3x3 max pooling with stride 2) looks ahead in every order. Here
  its convolution is masked too and has stride 1, and 4x4 cells that do not overlap are pooled: the
  same stride, and a receptive field of 6 px for 7.
- Masks alone. That code moves kernels a row back as well, in training but not in inference, so that
  a weight would meet one neighbour in training and another in inference.
- Running statistics are those of unmasked activations, because inference masks nothing, and sums
  over 9 taps are larger than sums over 5.
- Features may be normalised before they are put to use (see `OrderedNetwork`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infoseg.methods.base import DataInfo, Method, relative_entropy
from infoseg.methods.information import iic_loss
from infoseg.settings import ACSettings
from infoseg.views import Views, channels_last

ORDERS = 8
#: Side of a cell in pixels.
STRIDE = 4


class AC(Method):
    r"""Maximise the information between the classes of two raster orders, pixels up to T apart.

    $$\max_\psi \; \frac{1}{(2T + 1)^2} \sum_{\lvert t \rvert \le T} I(y^o_u; y^{o'}_{u + t})
    \tag{1}$$

    $y^o_u$ is the class of a pixel given those before it in raster order $o$.
    """

    Settings = ACSettings

    def __init__(self, settings: ACSettings, data: DataInfo):
        super().__init__(settings, data)
        self.network = OrderedNetwork(data.channels, settings.width, settings.blocks, settings.norm)
        self.head = nn.Conv2d(self.network.features, data.clusters, 1)
        self.head.apply(initialise)

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        settings, images = self.settings, views.images
        # Two passes and not one of twice the batch: a convolution has one mask for all images, and
        # either order is normalised by its own statistics.
        orders = draw_orders(2, generator, images.device).split(1)
        features = [self.network(images, order) for order in orders]
        # After them: were it first, autocast might keep the weights it casts without gradients.
        with torch.no_grad():
            self.network(images)  # for the running statistics
        maps = [self.probabilities(x) for x in features]
        displacement = settings.displacement
        if settings.resolution == "input":
            maps = [to_pixels(x, images.shape[-2:]) for x in maps]
        else:
            displacement //= STRIDE
        return iic_loss(*maps, displacement, settings.weight)

    def probabilities(self, features: Tensor) -> Tensor:
        """Class probabilities of cells, (B, F, h, w) → (B, K, h, w) float32.

        As IIC's, they are interpolated to pixels; the unofficial code interpolates logits.
        """
        return self.head(features).float().softmax(1)

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        images = views.images
        probabilities = to_pixels(self.probabilities(self.network(images)), images.shape[-2:])
        return probabilities.argmax(1), relative_entropy(probabilities)


def order_taps() -> Tensor:
    """Which taps of a 3x3 kernel each order allows: (8, 3, 3) float, 1 where allowed, else 0.

    A tap is allowed if its cell is the centre or comes before it. Orders 0 to 3 read row by row,
    4 to 7 column by column; where bit 0 is set from right to left, where bit 1 is set upwards.
    """
    order = torch.arange(ORDERS)[:, None, None]
    step = torch.arange(-1, 2)
    x = step * (1 - 2 * (order & 1))
    y = step[:, None] * (1 - (order & 2))
    return (torch.where(order < 4, 3 * y + x, 3 * x + y) <= 0).float()


def draw_orders(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """`count` different orders, uniformly at random: (count,) int64, drawn on the device."""
    return torch.rand(ORDERS, generator=generator, device=device).argsort()[:count]


class OrderedConv(nn.Conv2d):
    """Zero-padded 3x3 convolution, (B, C, H, W) → (B, F, H, W), under `taps` (3, 3) or all."""

    def __init__(self, channels: int, features: int, bias: bool = True):
        super().__init__(channels, features, 3, padding=1, bias=bias)

    def forward(self, x: Tensor, taps: Tensor | None = None) -> Tensor:
        weight = self.weight if taps is None else self.weight * taps
        return F.conv2d(x, weight, self.bias, padding=1)


class OrderedNorm(nn.BatchNorm2d):
    """Batch norm that keeps running statistics of unmasked activations alone, for inference.

    In training it normalises by the statistics of the batch it is given, masked or not.
    """

    def forward(self, x: Tensor, taps: Tensor | None = None) -> Tensor:
        if taps is None or not self.training:
            return super().forward(x)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


class Block(nn.Module):
    """Twice the channels: an ordered 3x3 and a 1x1 convolution, then two residual pairs of 1x1.

    A ReLU after every convolution, no normalisation; the first shortcut is filled up with zeros.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.ordered = OrderedConv(channels, 2 * channels)
        self.points = nn.ModuleList(nn.Conv2d(2 * channels, 2 * channels, 1) for _ in range(5))

    def forward(self, x: Tensor, taps: Tensor | None = None) -> Tensor:
        first, *pairs = self.points
        shortcut = F.pad(x, (0, 0, 0, 0, 0, x.shape[1]))
        x = shortcut + torch.relu_(first(torch.relu_(self.ordered(x, taps))))
        for enter, leave in zip(pairs[::2], pairs[1::2], strict=True):
            x = x + torch.relu_(leave(torch.relu_(enter(x))))
        return x


class OrderedNetwork(nn.Module):
    """(B, C, H, W) images → (B, features, ceil(H/4), ceil(W/4)) under an order, or seeing all.

    width: factor on the 64 channels of the stem; every one of the `blocks` doubles them.
    norm: whether features are normalised at the end (not in the unofficial code). Sums of ReLUs
    have a large mean; through it most untrained heads put nearly every pixel into one cluster,
    where the loss has next to no slope (6 of 8 at width 1, on rendered scenes).
    """

    def __init__(self, channels: int, width: float, blocks: int, norm: bool):
        super().__init__()
        features = max(4, round(64 * width))
        # No bias: batch norm subtracts it again.
        self.stem = OrderedConv(channels, features, bias=False)
        self.stem_norm = OrderedNorm(features)
        self.pool = nn.MaxPool2d(STRIDE, ceil_mode=True)
        self.blocks = nn.ModuleList(Block(features << i) for i in range(blocks))
        self.features = features << blocks
        # Whatever follows scales and shifts.
        self.norm = OrderedNorm(self.features, affine=False) if norm else None
        self.register_buffer("taps", order_taps(), persistent=False)
        self.apply(initialise)

    def forward(self, images: Tensor, order: Tensor | None = None) -> Tensor:
        """order (1,): int64 in 0..7, on the device of the images; None masks nothing.

        The host would wait for an index without dimensions.
        """
        taps = None if order is None else self.taps[order][0]
        x = self.stem_norm(self.stem(channels_last(images), taps), taps)
        x = self.pool(torch.relu_(x))
        for block in self.blocks:
            x = block(x, taps)
        return x if self.norm is None else self.norm(x, taps)


def initialise(module: nn.Module) -> None:
    """Xavier-normal weights of convolutions, as in the unofficial code; biases as PyTorch has."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight)


def to_pixels(cells: Tensor, size: torch.Size) -> Tensor:
    """Bilinear interpolation of a map of cells to pixels: (B, K, h, w) → (B, K, *size).

    By the factor 4 and then cut off, so that border cells that hold fewer pixels stay in place.
    """
    pixels = F.interpolate(cells, scale_factor=STRIDE, mode="bilinear", align_corners=False)
    return pixels[..., : size[0], : size[1]]
