"""What Doersch and Isola have in common: a network that looks at two patches of a feature map.

Facts from IIC's released code, whose authors adapted both methods to segmentation: features are
interpolated to the size of the input, two square patches are cut from them, and a siamese head says
how the patches lie to each other. Afterwards the features, without the head, are clustered by
k-means. Left out: the jitter of colours that the released data loader adds for all its methods.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infoseg.files import ParamsError
from infoseg.methods.base import DataInfo
from infoseg.methods.feature_clusters import FeatureClusters
from infoseg.settings import PatchSettings
from infoseg.trunk import Trunk
from infoseg.views import Views

Size = tuple[int, int]


class PatchPairs(FeatureClusters):
    """A trunk trained by a question about two patches.

    A method defines `draw` (where the patches lie and the answer) and `losses`, and may change what
    the trunk is shown in training (`disguise`). outputs: of the head.
    """

    #: Sides of a patch in the shorter side of an image, at least: `draw` counts on it.
    smallest: ClassVar[float]

    def __init__(self, settings: PatchSettings, data: DataInfo, outputs: int):
        trunk = Trunk(data.channels, settings.width, settings.sobel)
        super().__init__(settings, data, trunk.features)
        self.trunk = trunk
        self.head = PairHead(trunk.features, outputs, settings)
        self.patch = settings.patch
        self.alike = settings.pairs == "batch"
        self.pairs_per_image = settings.pairs_per_image
        self.optimiser = settings.optimiser

    @abstractmethod
    def draw(self, count: int, size: Size, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The way from the first to the second centre, and the answer, `count` times.

        (n, 2) int64 pixels down and to the right, and (n,), on the generator's device.
        """

    @abstractmethod
    def losses(self, logits: Tensor, answers: Tensor) -> Tensor:
        """(n, outputs) float32, (n,) → (n,)."""

    def disguise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What the trunk is shown of training images, (B, C, H, W) → (B, C, H, W)."""
        return images

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(images)

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        """Mean over the pairs one of whose two centres is annotated, 0 where there are none.

        Raises ParamsError when the images are too small for the patches.
        """
        images = self.disguise(views.images, generator)
        size = tuple(images.shape[-2:])
        first, second, answers = self.place_pairs(len(images), size, generator)
        # As released: gradients of the intact picture, whatever was done to its colours after them.
        features = self.trunk(images, views.images)
        patches = (cut(features, x, self.patch, size).flatten(0, 1) for x in (first, second))
        losses = self.losses(self.head(*patches, generator).float(), answers.flatten())
        if views.mask is None:
            return losses.mean()
        weights = annotated(views.mask, first) | annotated(views.mask, second)
        return (weights.flatten() * losses).sum() / weights.sum().clamp_min(1)

    def place_pairs(self, batch: int, size: Size, generator: torch.Generator) -> list[Tensor]:
        """First and second centres, (B, n, 2) int64 rows and columns, and the answers, (B, n)."""
        least = math.ceil(self.smallest * self.patch)
        if min(size) < least:
            raise ParamsError(
                f"crop: images of {size[0]} x {size[1]} px are too small for pairs of patches of "
                f"{self.patch} px; choose a crop of at least {least} px or a smaller patch"
            )
        n = self.pairs_per_image
        offset, answers = self.draw(n if self.alike else batch * n, size, generator)
        first = place(offset, size, self.patch, generator)
        return [
            x.unflatten(0, (-1, n)).expand(batch, n, *x.shape[1:])
            for x in (first, first + offset, answers)
        ]


class PairHead(nn.Module):
    """Two patches of features to logits, as released.

    On each patch a 3x3 convolution without bias, batch norm (with statistics of first and second
    patches apart) and ReLU; both flattened and concatenated; a linear layer, ReLU, dropout; a
    linear layer. Convolutions start Kaiming-normal (fan-in), linear layers from N(0, 0.01^2).
    At the paper's settings, 11 px and 1024, the first linear layer alone has 254 million weights:
    1 GB of weights, 4 GB with their gradients and Adam's moments.
    """

    def __init__(self, features: int, outputs: int, settings: PatchSettings):
        super().__init__()
        width = settings.head_width
        self.branch = nn.Sequential(
            nn.Conv2d(features, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.joint = nn.Linear(2 * width * settings.patch**2, width)
        self.last = nn.Linear(width, outputs)
        self.dropout = settings.dropout
        nn.init.kaiming_normal_(self.branch[0].weight, mode="fan_in", nonlinearity="relu")
        for layer in (self.joint, self.last):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
        """(n, F, patch, patch) twice → (n, outputs)."""
        both = torch.cat([self.branch(x).flatten(1) for x in (first, second)], 1)
        hidden = F.relu(self.joint(both))
        if self.training:
            # Not nn.Dropout, which draws from the global generator.
            draws = torch.rand(hidden.shape, generator=generator, device=hidden.device)
            hidden = hidden * (draws >= self.dropout) / (1 - self.dropout)
        return self.last(hidden)


def place(offset: Tensor, size: Size, patch: int, generator: torch.Generator) -> Tensor:
    """First centres, uniform among those for which both patches lie within the image.

    offset: (n, 2), see `PatchPairs.draw`; its entries must leave room, |offset| <= size - patch.
    Returns (n, 2) int64, row and column. The released code draws first centres at least 1.5 patches
    away from the border, and again until the second patch fits.
    """
    # float64 so that the product cannot round up to the first place outside.
    draws = torch.rand(offset.shape, generator=generator, device=offset.device, dtype=torch.float64)
    rows, columns = offset.abs().unbind(1)
    places = torch.stack([size[0] - patch + 1 - rows, size[1] - patch + 1 - columns], 1)
    return (draws * places).long() + patch // 2 + (-offset).clamp_min(0)


def cut(features: Tensor, centres: Tensor, patch: int, size: Size) -> Tensor:
    """Patches of features interpolated to `size`, n from each image.

    features: (B, F, h, w). centres: (B, n, 2). Returns (B, n, F, patch, patch), float32: what
    bilinear `F.interpolate` and slicing give, without the (B, F, H, W) map in between.
    """
    span = torch.arange(patch, device=centres.device) - patch // 2
    # Pixel centres in -1..1, which are the same places in maps of any resolution.
    y, x = (
        (2 * (centre[..., None] + span) + 1) / side - 1
        for centre, side in zip(centres.unbind(-1), size, strict=True)
    )
    grid = torch.stack(torch.broadcast_tensors(x[..., None, :], y[..., :, None]), -1)
    # The n patches one below another, so that features are not repeated for each.
    with torch.autocast(features.device.type, enabled=False):
        found = F.grid_sample(
            features.float(), grid.flatten(1, 2), padding_mode="border", align_corners=False
        )
    return found.unflatten(2, (-1, patch)).transpose(1, 2)


def annotated(mask: Tensor, centres: Tensor) -> Tensor:
    """Whether images are annotated at centres: (B, H, W) bool, (B, n, 2) → (B, n) bool."""
    y, x = centres.unbind(-1)
    return mask[torch.arange(len(mask), device=mask.device)[:, None], y, x]
