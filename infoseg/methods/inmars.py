"""InMARS, clustering of superpixels with adversarial regularisation (Mirsadeghi et al., 2021).

From the abstract (arXiv 2107.00691): images are partitioned into superpixels; these are clustered
by maximising mutual information; adversarial training with pixel noise and spatial perturbations
makes the clustering invariant to both. Nothing else was at hand, neither architecture nor
superpixel algorithm nor any number, so that all of this is an approximation. Assumptions:

- SLIC superpixels, computed once when a data set is prepared (any common algorithm would do).
- The trunk and head of IIC, like the other compared methods (so that objectives are compared).
- A region's class probabilities are the mean of its pixels' at the size of the input, where
  regions have the precision of a pixel.
- The objective is IMSAT's (Hu et al., 2017): H(Y|X) - mu H(Y) over the regions of a batch, plus the
  divergence under virtual adversarial perturbation. IMSAT has mu = 4 and weighs the divergence by
  10 (its lambda = 0.1 stands before the information).
- Noise is of a fixed L2 norm, added before the Sobel gradients and not clipped to 0..1.
- The spatial perturbation is a smooth displacement field, bounded in pixels, found by the same
  search. Images, regions and the prediction for the image itself are deformed alike; the latter is
  what the prediction for the deformed image is compared with.
- Every pixel is labelled with the cluster of its region.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call

from infoseg.adversarial import (
    divergence,
    smooth_field,
    unit_norm,
    unit_vectors,
    warp,
    worst_perturbation,
)
from infoseg.methods.information import region_information
from infoseg.methods.base import DataInfo, Method, relative_entropy
from infoseg.regions import pool_regions, spread_regions, superpixels
from infoseg.settings import InMARSSettings
from infoseg.methods.trunk import Head, Trunk
from infoseg.views import Sees, Views


class InMARS(Method):
    r"""Maximise the information between superpixels and classes, robust to the worst perturbation.

    $$\min_\psi \; H(y \mid x) - \mu H(y) + w_{\text{noise}} D_{\text{noise}}
    + w_{\text{shift}} D_{\text{shift}} \tag{2}$$

    $$D_r = \max_{\lVert r \rVert \le \epsilon_r}
    \mathrm{KL}\big(p(y \mid x) \,\big\Vert\, p(y \mid x + r)\big)$$

    x is a superpixel; its $p(y \mid x)$ is the mean over its pixels.
    """

    Settings = InMARSSettings
    sees = Sees(regions=True)

    def __init__(self, settings: InMARSSettings, data: DataInfo):
        super().__init__(settings, data)
        self.settings = settings
        self.optimiser = settings.optimiser
        self.trunk = Trunk(data.channels, settings.width, settings.sobel)
        self.head = Head(self.trunk.features, data.clusters)

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities of pixels, (B, C, H, W) → (B, K, H, W) float32."""
        return self.head(self.trunk(images), images.shape[-2:])

    def perturbed_probabilities(self, images: Tensor) -> Tensor:
        """As `probabilities`, but batch norm's running statistics stay as they are.

        Perturbed images are not what the network segments afterwards. In training they are
        normalised by their own batch's statistics, like those that are not perturbed.
        """
        recorded = {name: buffer.clone() for name, buffer in self.trunk.named_buffers()}
        features = functional_call(self.trunk, recorded, (images,))
        return self.head(features, images.shape[-2:])

    def weights(self, pixels: Tensor) -> Tensor:
        """What each region counts, from its number of pixels: 0 without any."""
        return pixels if self.settings.weigh_by_area else (pixels > 0).to(pixels.dtype)

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        settings, images = self.settings, views.images
        probabilities = self.probabilities(images)
        means, pixels = pool_regions(probabilities, superpixels(views), views.region_count)
        marginal, conditional = region_information(
            means.flatten(0, 1), self.weights(pixels).flatten()
        )
        loss = conditional - settings.entropy_weight * marginal

        grid = (len(images), 2, settings.grid, settings.grid)
        perturbations = (
            (settings.noise_weight, self.noise_change, images.shape, unit_norm, settings.epsilon),
            (settings.spatial_weight, self.spatial_change, grid, unit_vectors, settings.shift),
        )
        for weight, of_images, shape, unit, size in perturbations:
            if weight == 0:
                continue
            change = partial(of_images, views, probabilities.detach())
            start = torch.randn(shape, generator=generator, device=images.device)
            worst = worst_perturbation(
                change, start, unit, size, settings.xi, settings.power_iterations
            )
            loss = loss + weight * change(worst)
        return loss

    def noise_change(self, views: Views, target: Tensor, noise: Tensor) -> Tensor:
        """How far noise (B, C, H, W) moves the regions' probabilities from those of `target`.

        target (B, K, H, W): class probabilities of the images as they are. A scalar in nats.
        """
        regions, count = superpixels(views), views.region_count
        expected, pixels = pool_regions(target, regions, count)
        found, _ = pool_regions(self.perturbed_probabilities(views.images + noise), regions, count)
        return divergence(expected, found, self.weights(pixels))

    def spatial_change(self, views: Views, target: Tensor, nodes: Tensor) -> Tensor:
        """The same for a displacement field (B, 2, G, G), which deforms regions and target too."""
        count = views.region_count
        field = smooth_field(nodes, views.images.shape[-2:])
        ids = superpixels(views)[:, None].to(field.dtype)  # exact below 2^24
        regions = warp(ids, field.detach(), "nearest")[:, 0].long()
        expected, pixels = pool_regions(warp(target, field), regions, count)
        found, _ = pool_regions(
            self.perturbed_probabilities(warp(views.images, field)), regions, count
        )
        return divergence(expected, found, self.weights(pixels))

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        regions = superpixels(views)
        probabilities = self.probabilities(views.images)
        means, _ = pool_regions(probabilities, regions, views.region_count)
        probabilities = spread_regions(means, regions, outside=probabilities)
        return probabilities.argmax(1), relative_entropy(probabilities)
