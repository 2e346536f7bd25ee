"""AC, autoregressive unsupervised segmentation (Ouali et al., ECCV 2020).

The two views of an image are two raster orders in which one network reads it. AC maximises the
mutual information between the two class maps by IIC's loss, here with the joint distribution
normalised (the only public code, unofficial, does not). Segmentation masks nothing. ARL, which
the paper adds for features, is left out: its loss and heads are not known.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from infoseg.causal import STRIDE, OrderedNetwork, draw_orders, initialise, to_pixels
from infoseg.clustering_losses import iic_loss
from infoseg.methods.base import DataInfo, Method, relative_entropy
from infoseg.settings import (
    ACSettings,
)
from infoseg.views import Views


class AC(Method):
    r"""Maximise the information between the classes of two raster orders, pixels up to T apart.

    $$\max_\psi \; \frac{1}{(2T + 1)^2} \sum_{\lvert t \rvert \le T} I(y^o_u; y^{o'}_{u + t})
    \tag{1}$$

    $y^o_u$ is the class of a pixel given those before it in raster order $o$.
    """

    Settings = ACSettings

    def __init__(self, settings: ACSettings, data: DataInfo):
        super().__init__(settings, data)
        self.settings = settings
        self.optimiser = settings.optimiser
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
