"""Adversarial perturbations that need no labels: pixel noise and smooth displacements.

Virtual adversarial training (Miyato et al., 2018): near an image, the divergence between the
prediction there and the prediction at a perturbed image is a quadratic form, and the perturbation
of a given size that changes the prediction most is along its first eigenvector. Power iteration
finds that from a random start, at one gradient per iteration. The same search serves both kinds of
perturbation (assumption: nothing is known of how InMARS searches).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

#: Added to probabilities before the logarithm, so that a class of probability 0 has a finite one.
FLOOR = 1e-8


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
    times the final size; far below it rounding weighs more, and what is found is the worst for
    small perturbations, which need not be the worst of that size. iterations: 0 leaves the random
    direction. Returns `size` times a unit, (B, ...), without a graph. Gradients are taken
    with respect to the perturbation alone: those of the weights are neither computed nor touched.
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
    where = torch.stack(
        [x + field[:, 0] * (2 / width), y[:, None] + field[:, 1] * (2 / height)], dim=-1
    )
    return F.grid_sample(images, where, mode=mode, padding_mode="border", align_corners=False)
