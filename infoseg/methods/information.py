"""Equations 1 and 2 of the paper: mutual information of class predictions, as others maximise it.

Eq. 1 maximises I(y; y'), the information that the classes of two views of an image share, over the
network. Eq. 2 splits it into H(y) - H(y|y'): many classes in use, each told by the other view.
`iic_loss` is Eq. 1 for pixels (IIC, Ji et al. 2019; AC, Ouali et al. 2020). `region_information`
has the two terms of Eq. 2 with the input in the place of y' (InMARS, Mirsadeghi et al. 2021).
All are exact, because classes are discrete; all are in nats.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from infoseg.methods.correlation import displaced_joint

#: Where a logarithm is taken of less, it is of this: float64's epsilon at any precision, IIC's EPS.
SMALLEST = sys.float_info.epsilon


def iic_loss(
    first: Tensor, second: Tensor, displacement: int, weight: float, mask: Tensor | None = None
) -> Tensor:
    """Minus the information of Eq. 1 between pixels up to T apart: IIC's local loss (Ji et al.).

    first, second (B, K, H, W): class probabilities of two views, brought to the same frame. mask
    (B, H, W), bool: pixels outside it count in neither view. displacement: T in pixels. Otherwise
    as `information_loss`. Returns a scalar, at least float32; exchanging the views does not change
    it.
    """
    if mask is not None:
        outside = ~mask[:, None]
        first, second = first.masked_fill(outside, 0), second.masked_fill(outside, 0)
    return information_loss(displaced_joint(first, second, displacement), weight)


def information_loss(joint: Tensor, weight: float) -> Tensor:
    """Mean over displacements of -sum_kl P_kl (log P_kl - weight (log P_k + log P_l)).

    joint (..., K, K): sums over pairs of pixels of the products of their class probabilities, at
    every displacement; P is the joint scaled to sum 1, then (P + P^T) / 2; P_k is its marginal.
    weight: IIC's lambda. At 1 this is -I, from -log K to 0. Above, it is -I - 2 (weight - 1) H(y):
    Eq. 2's entropy counts for more, which favours classes of one size. Returns a scalar.

    Displacements at which less than half a pair of pixels meets (none does, but for rounding) are
    left out of the mean, and a joint without any pair is worth 0, without gradient [assumption: a
    mask may be empty; the published code divides 0 by 0].
    """
    total = joint.sum((-2, -1), keepdim=True)
    paired = total > 0.5
    joint = torch.where(paired, joint / total.clamp(min=0.5), 0)
    joint = (joint + joint.mT) / 2
    marginal = _log(joint.sum(-1))
    log_product = marginal[..., :, None] + marginal[..., None, :]
    loss = -(joint * (_log(joint) - weight * log_product)).sum()
    return loss / paired.sum().clamp(min=1)


def region_information(
    probabilities: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The terms H(Y) and H(Y|X) of Eq. 2, X being the region: InMARS maximises their difference.

    probabilities (N, K): class probabilities of N regions. weights (N,), not negative: what each
    region counts, all alike by default; 0 for empty ones. Returns two scalars, at least float32:
    the entropy of the weighted mean of the rows, and the weighted mean of the rows' entropies, with
    0 <= H(Y|X) <= H(Y) <= log K. Both are 0 (to 1e-14 K), without gradient, if all weights are.
    """
    dtype = torch.promote_types(probabilities.dtype, torch.float32)
    probabilities = probabilities.to(dtype)
    if weights is None:
        weights = probabilities.new_ones(len(probabilities))
    weights = weights.to(dtype)
    weights = (weights / weights.sum().clamp(min=SMALLEST))[:, None]
    marginal = _entropy((weights * probabilities).sum(0))
    return marginal, (weights * _entropy(probabilities)[:, None]).sum()


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=SMALLEST).log()


def _entropy(p: Tensor) -> Tensor:
    """(..., K) → (...); the slope of -p log p is infinite at 0, and made 0 there."""
    return torch.special.entr(p.clamp(min=SMALLEST)).sum(-1)
