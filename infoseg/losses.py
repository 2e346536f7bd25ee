"""Equations 3 to 8 of the paper: class probabilities, assignments, and mutual-information bounds.

Notation as in the paper: L local features, H global features, V class probabilities, S the global
feature assigned to a position. Positions (i, j) are flattened to N = U * V.

Every term of Eq. 8 is a dot product of L with a weighted sum of the K global features of some
image, and <L, sum_k w_k H_k> = sum_k w_k <L, H_k>. So only the scores <L, H_k>, (B, K, N) numbers,
are ever computed; S itself, (B, P, N) numbers, never is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from infoseg.settings import ObjectiveSettings


def class_scores(local: Tensor, glob: Tensor, factor: float = 1.0) -> Tensor:
    """Dot products <L_ij, H_k> of every local with every global feature of the same image (4.2).

    local (..., P, N), glob (..., K, P) → (..., K, N), at least float32: sums over P = 1024 products
    overflow float16 and lose digits in bfloat16.
    """
    with torch.autocast(local.device.type, enabled=False):
        return factor * (_at_least_float32(glob) @ _at_least_float32(local))


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def class_probabilities(scores: Tensor, tau: float) -> Tensor:
    """V of Eq. 3: softmax over the classes of the scaled scores. (..., K, N) → (..., K, N)."""
    return torch.softmax(tau * scores, dim=-2)


def hard_assignment(scores: Tensor) -> Tensor:
    """One-hot of Eq. 4's arg max, (..., K, N): the assignment of Table 2's `hard` rows."""
    return torch.zeros_like(scores).scatter_(-2, scores.argmax(-2, keepdim=True), 1.0)


def jsd_lower_bound(positive: Tensor, negative: Tensor) -> Tensor:
    """Jensen-Shannon bound, Eq. 7: E_joint[-sp(-T)] - E_marginal[sp(T)], sp(x) = log(1 + e^x).

    positive, negative: scores T of joint and marginal pairs, any shapes. Returns a scalar in
    nats, at most 0; 0 is perfect discrimination. A training signal, not an amount of information.
    """
    return -F.softplus(-positive).mean() - F.softplus(negative).mean()


def dv_lower_bound(positive: Tensor, negative: Tensor) -> Tensor:
    """Donsker-Varadhan bound: E_joint[T] - log E_marginal[exp T], at each position, then averaged.

    positive (B, N); negative (..., N), whose leading dimensions are the samples of the marginal.
    Returns a scalar in nats; unbounded above.
    The expectations stand inside Eq. 6's mean over positions, so the logarithm is taken position by
    position (as written in Eqs 6 and 7).
    """
    negative = negative.flatten(0, -2)
    log_mean_exp = torch.logsumexp(negative, dim=0) - math.log(len(negative))
    return (positive.mean(0) - log_mean_exp).mean()


BOUNDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "jsd": jsd_lower_bound,
    "dv": dv_lower_bound,
}


def soft_maximum(scores: Tensor, tau: float) -> Tensor:
    """(1/tau) log sum_k exp(tau <L, H_k>), (..., K, N) → (..., N): the log-sum-exp critic."""
    return torch.logsumexp(tau * scores, dim=-2) / tau


def _assign(scores: Tensor, settings: ObjectiveSettings) -> Tensor:
    """Weights over the classes by which Eq. 5 assigns a global feature: soft V or one-hot."""
    if settings.assignment == "hard":
        return hard_assignment(scores)
    weights = class_probabilities(scores, settings.tau)
    return weights if settings.gradient_through_v else weights.detach()


def _critic(scores: Tensor, settings: ObjectiveSettings) -> Tensor:
    """The score of a position given all K scores: log-sum-exp, or the maximum when hard."""
    return scores.amax(-2) if settings.assignment == "hard" else soft_maximum(scores, settings.tau)


def positive_scores(scores: Tensor, settings: ObjectiveSettings) -> Tensor:
    """T of joint pairs in Eq. 8, <L(x), S(x)> = sum_k V_k <L, H_k>: (B, K, N) → (B, N)."""
    if settings.marginal == "log_sum_exp":
        return _critic(scores, settings)
    return (_assign(scores, settings) * scores).sum(-2)


def negative_scores(
    scores: Tensor,
    crossed: Tensor,
    partner: Callable[[Tensor], Tensor],
    settings: ObjectiveSettings,
    generator: torch.Generator | None = None,
) -> Tensor:
    """T of marginal pairs in Eq. 8, <L(x), S(x')>, under the chosen reading of S(x').

    scores (B, K, N): <L(x), H_k(x)>. crossed (..., K, N): <L(x), H_k(x')>, whose leading dimensions
    enumerate the pairs (x, x'). partner: maps a per-image tensor (B, ...) to the same quantity of
    x' for every pair. Returns (..., N).

    `paired`           Eq. 8 as written: V and H of x', at the same position;
    `random_position`  the same at positions of x' drawn at random, one permutation per image;
    `same_class`       V of x, H of x';
    `rematched`        V' from the pair itself, softmax_k(tau <L(x), H_k(x')>), H of x';
    `log_sum_exp`      (1/tau) log sum_k exp(tau <L(x), H_k(x')>) in place of a weighted sum;
    `mean_k`           the plain mean over the K global features of x'.
    """
    marginal = settings.marginal
    if marginal == "log_sum_exp":
        return _critic(crossed, settings)
    if marginal == "mean_k":
        return crossed.mean(-2)
    if marginal == "rematched":
        weights = _assign(crossed, settings)
    elif marginal == "same_class":
        weights = _assign(scores, settings)
    else:
        weights = _assign(scores, settings)
        if marginal == "random_position":
            weights = _permute_positions(weights, generator)
        weights = partner(weights)
    return (weights * crossed).sum(-2)


def _permute_positions(weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """A fresh random order of the N positions in every image of (B, K, N)."""
    batch, classes, n = weights.shape
    keys = torch.rand(batch, 1, n, generator=generator, device=weights.device)
    return weights.gather(-1, keys.argsort(-1).expand(-1, classes, -1))


def infoseg_loss(
    local: Tensor,
    glob: Tensor,
    settings: ObjectiveSettings | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Minus the estimator of Eq. 8 (or its DV form) in the objective of Eq. 6.

    local (B, P, U, V), glob (B, K, P), B at least 2. settings: None for the defaults. Returns a
    scalar in nats, at least float32; never below 0 under `jsd`. Images of a batch must be in random
    order: the derangement pairs each with its successor, which in a randomly ordered batch is a
    random cyclic derangement.
    Raises ValueError when the batch holds fewer than two images, since there is no pair then.
    """
    settings = settings or ObjectiveSettings()
    batch = local.shape[0]
    if batch < 2:
        raise ValueError(f"Eq. 8 pairs every image with another one: batch is {batch}, at least 2")
    local = local.flatten(2)
    if settings.negatives == "derangement":

        def partner(x: Tensor) -> Tensor:
            return x.roll(-1, dims=0)

        # One product for both, since reading the local features is what takes the time.
        both = class_scores(local, torch.cat([glob, partner(glob)], 1), settings.score_factor)
        scores, crossed = both.chunk(2, dim=1)
    else:
        # Pair (r, x) of shape (B - 1, B): image x with the one r + 1 places further on.
        shifts = torch.arange(1, batch, device=local.device)[:, None]
        others = (torch.arange(batch, device=local.device) + shifts) % batch

        def partner(x: Tensor) -> Tensor:
            return x[others]

        # One matrix product per image: all (B K) global features against its N local ones.
        everything = class_scores(local, glob.flatten(0, 1).expand(batch, -1, -1))
        everything = settings.score_factor * everything.unflatten(1, (batch, -1))
        crossed = everything[torch.arange(batch, device=local.device), others]
        scores = class_scores(local, glob, settings.score_factor)
    positive = positive_scores(scores, settings)
    negative = negative_scores(scores, crossed, partner, settings, generator)
    return -BOUNDS[settings.measure](positive, negative)
