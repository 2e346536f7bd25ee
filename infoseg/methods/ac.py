"""AC and ARL, autoregressive unsupervised segmentation (Ouali et al., ECCV 2020).

The two views of an image are two raster orders in which one network reads it. AC maximises the
mutual information between the two class maps by IIC's loss, here with the joint distribution
normalised (the only public code, unofficial, does not). Segmentation masks nothing. ARL, which the
paper adds, does the same for features; its loss and heads are not known, see `feature_loss`.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from infoseg.causal import STRIDE, OrderedNetwork, draw_orders, initialise, to_pixels
from infoseg.clustering_losses import iic_loss
from infoseg.methods.base import DataInfo, Method, relative_entropy
from infoseg.params import MethodSettings, OptimiserSettings, Positive, PositiveFloat
from infoseg.views import Views

NonNegative = Annotated[int, Field(ge=0)]


class ACSettings(MethodSettings):
    """width, blocks, norm: of the network, see `infoseg.causal.OrderedNetwork`. displacement,
    weight: of IIC's loss, T in pixels and lambda. resolution: where the loss compares class maps,
    at the size of the `input` or, much faster, of the `map`, whose cells have 4 px; T is rounded
    down to cells. arl_weight: of ARL's loss; 0 is AC alone. arl_window: its Omega reaches so many
    cells to each side. arl_features: length of its features. The input is colours (and infrared):
    Sobel gradients would look a pixel ahead in every order."""

    kind: Literal["ac"]
    width: PositiveFloat
    blocks: Positive
    norm: bool
    displacement: NonNegative
    weight: PositiveFloat
    resolution: Literal["input", "map"]
    arl_weight: Annotated[float, Field(ge=0)]
    arl_window: NonNegative
    arl_features: Positive
    optimiser: OptimiserSettings


class AC(Method):
    Settings = ACSettings

    def __init__(self, settings: ACSettings, data: DataInfo):
        super().__init__(settings, data)
        self.settings = settings
        self.optimiser = settings.optimiser
        self.network = OrderedNetwork(data.channels, settings.width, settings.blocks, settings.norm)
        self.head = nn.Conv2d(self.network.features, data.clusters, 1)
        self.head.apply(initialise)
        self.projection = None
        if settings.arl_weight:
            self.projection = nn.Conv2d(self.network.features, settings.arl_features, 1)
            self.projection.apply(initialise)

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
        loss = iic_loss(*maps, displacement, settings.weight)
        if self.projection is not None:
            pair = [self.projection(x) for x in features]
            loss = loss + settings.arl_weight * feature_loss(*pair, settings.arl_window)
        return loss

    def probabilities(self, features: Tensor) -> Tensor:
        """Class probabilities of cells, (B, F, h, w) → (B, K, h, w) float32.

        As IIC's, they are interpolated to pixels; the unofficial code interpolates logits.
        """
        return self.head(features).float().softmax(1)

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        images = views.images
        probabilities = to_pixels(self.probabilities(self.network(images)), images.shape[-2:])
        return probabilities.argmax(1), relative_entropy(probabilities)


def feature_loss(first: Tensor, second: Tensor, window: int) -> Tensor:
    """InfoNCE between features of two orders at all displacements of a window, a scalar in nats.

    first, second (B, P, h, w), images in random order. Displacements are at most `window` cells
    down and across. For each, a feature has to find the displaced feature of its own image among
    those of all B images at that place, by <a, b> / sqrt(P); the mean over displacements of the
    mean over places inside the map is returned, at least float32. Knowing nothing gives log B, and
    log B minus the loss is a lower bound on the mutual information.

    Assumption: ARL maximises the mutual information of features over a window, as the paper's page
    says; by which bound and from which head was not to be found. InfoNCE has nothing to tune but
    the scale and takes its negatives from other images of the batch, as InfoSeg does.
    Raises ValueError when the window reaches across the whole map.
    """
    height, width = first.shape[-2:]
    if window >= min(height, width):
        raise ValueError(f"arl_window is {window}, but the map has {height} x {width} cells")
    side = 2 * window + 1
    with torch.autocast(first.device.type, enabled=False):
        dtype = torch.promote_types(first.dtype, torch.float32)
        first, second = first.to(dtype) / math.sqrt(first.shape[1]), second.to(dtype)
        # Every cell's neighbours, (B, P, D, N) for D displacements and N cells, zero outside.
        displaced = F.unfold(second, side, padding=window).unflatten(1, (-1, side**2))
        inside = F.unfold(second.new_ones(1, 1, height, width), side, padding=window)
        scores = torch.einsum("bpn,cpdn->bcdn", first.flatten(2), displaced)
        own = scores.diagonal().movedim(-1, 0)
        surprise = ((scores.logsumexp(1) - own) * inside).sum(-1) / inside.sum(-1)
        return surprise.mean()
