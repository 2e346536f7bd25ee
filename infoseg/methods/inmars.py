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
- The search is that of virtual adversarial training (Miyato et al., 2018): near an image, the
  divergence between the predictions there and at a perturbed image is a quadratic form, and power
  iteration finds its first eigenvector from a random start, at one gradient per iteration.
- Every pixel is labelled with the cluster of its region.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from infoseg.methods.base import DataInfo, Method, relative_entropy
from infoseg.methods.information import region_information
from infoseg.methods.trunk import Head, Trunk
from infoseg.settings import InMARSSettings
from infoseg.views import Sees, Views

#: Added to probabilities before the logarithm, so that a class of probability 0 has a finite one.
FLOOR = 1e-8


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
        buffers = {name: buffer.clone() for name, buffer in self.trunk.named_buffers()}
        features = functional_call(self.trunk, buffers, (images,))
        return self.head(features, images.shape[-2:])

    def weights(self, pixels: Tensor) -> Tensor:
        """What each region counts, from its number of pixels: 0 without any."""
        return pixels if self.settings.weigh_by_area else (pixels > 0).to(pixels.dtype)

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        settings, images = self.settings, views.images
        probabilities = self.probabilities(images)
        means, pixels = pool_regions(probabilities, views.regions, views.region_count)
        weights = self.weights(pixels).flatten()
        marginal, conditional = region_information(means.flatten(0, 1), weights)
        loss = conditional - settings.entropy_weight * marginal

        grid = (len(images), 2, settings.grid, settings.grid)
        perturbations = (
            (settings.noise_weight, self.noise_change, images.shape, unit_norm, settings.epsilon),
            (settings.spatial_weight, self.spatial_change, grid, unit_vectors, settings.shift),
        )
        xi, iterations = settings.xi, settings.power_iterations
        for weight, of_images, shape, unit, size in perturbations:
            if weight == 0:
                continue
            change = partial(of_images, views, probabilities.detach())
            start = torch.randn(shape, generator=generator, device=images.device)
            worst = worst_perturbation(change, start, unit, size, xi, iterations)
            loss = loss + weight * change(worst)
        return loss

    def noise_change(self, views: Views, target: Tensor, noise: Tensor) -> Tensor:
        """How far noise (B, C, H, W) moves the regions' probabilities from those of `target`.

        target (B, K, H, W): class probabilities of the images as they are. A scalar in nats.
        """
        return self._change(views.images + noise, target, views.regions, views.region_count)

    def spatial_change(self, views: Views, target: Tensor, nodes: Tensor) -> Tensor:
        """The same for a displacement field (B, 2, G, G), which deforms regions and target too."""
        field = smooth_field(nodes, views.images.shape[-2:])
        ids = views.regions[:, None].to(field.dtype)  # exact below 2^24
        regions = warp(ids, field.detach(), "nearest")[:, 0].long()
        images, target = warp(views.images, field), warp(target, field)
        return self._change(images, target, regions, views.region_count)

    def _change(self, images: Tensor, target: Tensor, regions: Tensor, count: int) -> Tensor:
        expected, pixels = pool_regions(target, regions, count)
        predicted, _ = pool_regions(self.perturbed_probabilities(images), regions, count)
        return divergence(expected, predicted, self.weights(pixels))

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        regions = views.regions
        probabilities = self.probabilities(views.images)
        means, _ = pool_regions(probabilities, regions, views.region_count)
        # Every pixel gets the mean of its region; outside the image, its own.
        slots = regions.clamp_max(views.region_count - 1).flatten(1)[:, None]
        spread = means.mT.take_along_dim(slots, dim=2).view_as(probabilities)
        inside = regions[:, None] < views.region_count
        probabilities = torch.where(inside, spread, probabilities)
        return probabilities.argmax(1), relative_entropy(probabilities)


# ---- superpixels: 0..count-1 within each image, count outside the image --------------------------


def pool_regions(values: Tensor, regions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean of a map over each region of each image, without a loop over images or regions.

    values (B, K, H, W), regions (B, H, W) int64 → means (B, count, K), at least float32, 0 for a
    region without pixels, and the number of pixels (B, count) in the same type. Pixels outside the
    image (id `count`) take no part. Gradients reach every pixel of a region alike.
    """
    # Sums of many pixels lose digits in half precision.
    values = values.to(torch.promote_types(values.dtype, torch.float32)).flatten(2)
    slots = regions.flatten(1)
    batch, classes, _ = values.shape
    # One slot more than there are regions, for what lies outside. Along the last dimension, which
    # on a CPU is several times as fast as rows of K, and adds up in the same order every time.
    sums = values.new_zeros(batch, classes, count + 1)
    sums = sums.scatter_add(2, slots[:, None].expand(-1, classes, -1), values)
    pixels = values.new_zeros(batch, count + 1).scatter_add(1, slots, torch.ones_like(values[:, 0]))
    means = sums / pixels.clamp_min(1)[:, None]
    return means[..., :count].transpose(1, 2), pixels[:, :count]


# ---- the worst perturbation ----------------------------------------------------------------------


def divergence(target: Tensor, predicted: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of KL(target || predicted), a scalar in nats, 0 where the two are equal.

    target, predicted (..., K): probabilities, at least float32. weights (...): not negative; what
    has weight 0 takes no part. Gradients flow into both arguments: detach what is to stay.

    Summed as t log(t / p) - t + p, which is the same for probabilities: but for rounding, its terms
    are never negative, and its slope vanishes class by class where the two are equal, instead of
    cancelling across classes.
    """
    t, p = target + FLOOR, predicted + FLOOR
    divergences = (t * (t / p).log() - t + p).sum(-1)
    return (weights * divergences).sum() / weights.sum().clamp_min(1)


def unit_norm(noise: Tensor) -> Tensor:
    """Scaled to an L2 norm of 1 for each image, (B, ...); zeros stay zeros."""
    flat = noise.flatten(1)
    # First by the largest value: the squares of small gradients would underflow.
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    return F.normalize(flat, dim=1).view_as(noise)


def unit_vectors(nodes: Tensor) -> Tensor:
    """Every vector of (B, 2, G, G) scaled to length 1; zeros stay zeros.

    Each node goes as far as it may: of all fields within that bound, the one that a gradient points
    to (assumption). A common factor per image would leave most of a field nearly still.
    """
    return F.normalize(unit_norm(nodes), dim=1)


def worst_perturbation(
    change: Callable[[Tensor], Tensor],
    start: Tensor,
    unit: Callable[[Tensor], Tensor],
    size: float,
    xi: float,
    iterations: int,
) -> Tensor:
    """The perturbation of a given size that changes the prediction most, by power iteration.

    change: divergence as a function of the perturbation, a sum or mean over images. start (B, ...):
    random. unit: scales a perturbation to size 1, image by image. xi: gradients are taken at `xi`
    times the final size; far below it rounding weighs more, and the worst of small perturbations
    need not be the worst of that size. iterations: 0 leaves the random direction.
    Returns `size` times a unit, (B, ...), without a graph. Gradients are taken with respect to the
    perturbation alone: those of the weights are neither computed nor touched.
    """
    direction = unit(start)
    for _ in range(iterations):
        probe = (xi * size * direction).detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(change(probe), probe)
        direction = unit(gradient)
    return (size * direction).detach()


def smooth_field(nodes: Tensor, size: torch.Size) -> Tensor:
    """A displacement of every pixel from those of a coarse grid, (B, 2, G, G) → (B, 2, H, W).

    Bilinear between the nodes, which reach from border to border, so that no pixel moves further
    than the furthest node. In pixels, x before y.
    """
    return F.interpolate(nodes, size, mode="bilinear", align_corners=True)


def warp(images: Tensor, field: Tensor, mode: str = "bilinear") -> Tensor:
    """Images (B, C, H, W) deformed by a field (B, 2, H, W) in pixels, x before y.

    Pixel (x, y) shows what was at (x, y) + field(x, y): content moves against the field, to the
    left where its x is positive. Beyond the border the nearest pixel is repeated. Differentiable
    in the field; mode `nearest` is for ids.
    """
    # In the coordinates of `grid_sample` the image reaches from -1 to 1, border to border.
    height, width = images.shape[-2:]
    x, y = (
        (2 * torch.arange(n, dtype=field.dtype, device=field.device) + 1) / n - 1
        for n in (width, height)
    )
    grid = torch.stack(
        [x + field[:, 0] * (2 / width), y[:, None] + field[:, 1] * (2 / height)], dim=-1
    )
    return F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
