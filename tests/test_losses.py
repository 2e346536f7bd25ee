"""Equations 3 to 8: every reading against a slow reference written straight from the paper."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from helpers import objective, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from infoseg import losses
from infoseg.losses import (
    ObjectiveSettings,
    class_scores,
    dv_lower_bound,
    infoseg_loss,
    jsd_lower_bound,
)

MARGINALS = ("paired", "random_position", "same_class", "rematched", "log_sum_exp", "mean_k")
ASSIGNMENTS = ("soft", "hard")
MEASURES = ("jsd", "dv")
NEGATIVES = ("derangement", "all_pairs")
EVERY = list(itertools.product(MARGINALS, ASSIGNMENTS, MEASURES, NEGATIVES))
READINGS = list(itertools.product(MARGINALS, ASSIGNMENTS))


# ---- the reference: loops over images, positions and classes, P-vectors, float64 -----------------


class Reference:
    """Eqs 3 to 8 for local features L (B, P, N) and global features H (B, K, P)."""

    def __init__(self, local: Tensor, glob: Tensor, settings: ObjectiveSettings, order: Tensor):
        self.settings, self.order = settings, order
        self.batch, self.classes, self.n = local.shape[0], glob.shape[1], local.shape[2]
        self.L = [[local[x, :, n] for n in range(self.n)] for x in range(self.batch)]
        self.H = [[glob[x, k] for k in range(self.classes)] for x in range(self.batch)]

    def T(self, a: Tensor, b: Tensor) -> Tensor:
        return self.settings.score_factor * (a * b).sum()

    def assignment(self, a: Tensor, H: list[Tensor]) -> list[Tensor]:
        """V of Eq. 3, or the one-hot of Eq. 4."""
        scores = [self.T(a, h) for h in H]
        if self.settings.assignment == "hard":
            best = max(range(len(H)), key=lambda k: float(scores[k].detach()))
            return [torch.tensor(float(k == best), dtype=a.dtype) for k in range(len(H))]
        powers = [torch.exp(self.settings.tau * score) for score in scores]
        V = [power / sum(powers) for power in powers]
        return V if self.settings.gradient_through_v else [v.detach() for v in V]

    def S(self, V: list[Tensor], H: list[Tensor]) -> Tensor:
        """Eq. 5, the P-vector."""
        total = torch.zeros_like(H[0])
        for v, h in zip(V, H, strict=True):
            total = total + v * h
        return total

    def set_critic(self, a: Tensor, H: list[Tensor]) -> Tensor:
        scores = [self.T(a, h) for h in H]
        if self.settings.assignment == "hard":
            return max(scores, key=lambda score: float(score.detach()))
        tau = self.settings.tau
        return torch.log(sum(torch.exp(tau * score) for score in scores)) / tau

    def joint(self, x: int, n: int) -> Tensor:
        a, H = self.L[x][n], self.H[x]
        if self.settings.marginal == "log_sum_exp":
            return self.set_critic(a, H)
        return self.T(a, self.S(self.assignment(a, H), H))

    def marginal(self, x: int, other: int, n: int) -> Tensor:
        a, H = self.L[x][n], self.H[other]
        reading = self.settings.marginal
        if reading == "log_sum_exp":
            return self.set_critic(a, H)
        if reading == "mean_k":
            return self.T(a, sum(H) / len(H))
        if reading == "paired":
            V = self.assignment(self.L[other][n], H)
        elif reading == "random_position":
            V = self.assignment(self.L[other][int(self.order[other, n])], H)
        elif reading == "same_class":
            V = self.assignment(a, self.H[x])
        else:
            assert reading == "rematched"
            V = self.assignment(a, H)
        return self.T(a, self.S(V, H))

    def pairs(self) -> list[tuple[int, int]]:
        images = range(self.batch)
        if self.settings.negatives == "derangement":
            return [(x, (x + 1) % self.batch) for x in images]
        return [(x, other) for x in images for other in images if other != x]

    def loss(self) -> Tensor:
        pairs, total = self.pairs(), 0.0
        for n in range(self.n):
            positive = [self.joint(x, n) for x in range(self.batch)]
            negative = [self.marginal(x, other, n) for x, other in pairs]
            if self.settings.measure == "jsd":
                first = sum(-torch.log(1 + torch.exp(-t)) for t in positive) / len(positive)
                second = sum(torch.log(1 + torch.exp(t)) for t in negative) / len(negative)
            else:
                first = sum(positive) / len(positive)
                second = torch.log(sum(torch.exp(t) for t in negative) / len(negative))
            total = total + (first - second)
        return -total / self.n


def features(
    batch: int = 3, classes: int = 3, length: int = 5, seed: int = 0, dtype=torch.float64
) -> tuple[Tensor, Tensor]:
    """L (B, P, 2, 3) and H (B, K, P)."""
    rng = torch.Generator().manual_seed(seed)
    local = torch.randn(batch, length, 2, 3, generator=rng, dtype=torch.float64)
    glob = torch.randn(batch, classes, length, generator=rng, dtype=torch.float64)
    return local.to(dtype), glob.to(dtype)


def drawn_order(batch: int, n: int, seed: int = 0) -> Tensor:
    """The positions that `random_position` draws with this seed, (B, N)."""
    return losses._permute_positions(torch.arange(n).expand(batch, 1, n), seeded(seed))[:, 0]


def reference(local: Tensor, glob: Tensor, chosen: ObjectiveSettings) -> Tensor:
    flat = local.flatten(2)
    return Reference(flat, glob, chosen, drawn_order(flat.shape[0], flat.shape[2])).loss()


@pytest.mark.parametrize("batch", [2, 4])
@pytest.mark.parametrize("through_v", [True, False])
@pytest.mark.parametrize(("marginal", "assignment", "measure", "negatives"), EVERY)
def test_loss_and_gradients_equal_the_references(
    marginal, assignment, measure, negatives, through_v, batch
):
    chosen = objective(
        marginal=marginal,
        assignment=assignment,
        measure=measure,
        negatives=negatives,
        score_factor=0.7,
        gradient_through_v=through_v,
    )
    inputs = [x.requires_grad_() for x in features(batch=batch)]
    expected, exact = reference(*inputs, chosen), infoseg_loss(*inputs, chosen, seeded())
    torch.testing.assert_close(exact, expected, rtol=1e-12, atol=1e-12)
    single = infoseg_loss(*(x.float() for x in inputs), chosen, seeded())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-5)
    slopes = (torch.autograd.grad(loss, inputs) for loss in (exact, expected))
    for actual, by_hand in zip(*slopes, strict=True):
        torch.testing.assert_close(actual, by_hand, rtol=1e-10, atol=1e-12)


# ---- one class: Local Deep InfoMax ---------------------------------------------------------------


@pytest.mark.parametrize(("marginal", "assignment"), READINGS)
@pytest.mark.parametrize("through_v", [True, False])
def test_one_class_is_local_deep_infomax(marginal, assignment, through_v):
    local, glob = features(batch=5, classes=1)
    chosen = objective(marginal=marginal, assignment=assignment, gradient_through_v=through_v)
    flat, single = local.flatten(2), glob[:, 0]
    positive = torch.einsum("bpn,bp->bn", flat, single)
    negative = torch.einsum("bpn,bp->bn", flat, torch.cat([single[1:], single[:1]]))
    expected = torch.log1p(torch.exp(-positive)).mean() + torch.log1p(torch.exp(negative)).mean()
    actual = infoseg_loss(local, glob, chosen, seeded())
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


# ---- permuting the classes of an image -----------------------------------------------------------


@pytest.mark.parametrize(("marginal", "assignment"), READINGS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_the_names_of_the_classes_of_an_image_matter_to_same_class_alone(
    marginal, assignment, negatives
):
    # S is a sum over the classes of one image, so an order of its own per image is invisible to
    # every reading that takes V and H from the same image; `same_class` takes V of x and H of x'.
    local, glob = features(classes=4)
    chosen = objective(marginal=marginal, assignment=assignment, negatives=negatives)
    orders = ([2, 0, 3, 1], [1, 0, 2, 3], [3, 2, 0, 1])
    renamed = glob[:, orders[0]], torch.stack([h[p] for h, p in zip(glob, orders, strict=True)])
    before, alike, own = (infoseg_loss(local, x, chosen, seeded()) for x in (glob, *renamed))
    assert float(alike) == pytest.approx(float(before), rel=1e-12)
    assert (abs(float(own - before)) > 1e-3) == (marginal == "same_class")
    assert marginal == "same_class" or float(own) == pytest.approx(float(before), rel=1e-12)


# ---- who meets whom ------------------------------------------------------------------------------


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_a_batch_of_one_is_an_error(negatives):
    local, glob = features(batch=1)
    with pytest.raises(ValueError, match="batch is 1"):
        infoseg_loss(local, glob, objective(negatives=negatives))


def test_random_positions_are_a_fresh_permutation_per_image_the_same_for_all_classes():
    batch, classes, n = 6, 4, 50
    marked = torch.arange(batch * classes * n, dtype=torch.float64).view(batch, classes, n)
    actual = losses._permute_positions(marked, seeded())
    orders = actual[:, 0] - marked[:, 0, :1]
    for k in range(classes):
        assert torch.equal(actual[:, k] - marked[:, k, :1], orders)
    for order in orders:
        assert sorted(order.tolist()) == list(range(n))
        assert order.tolist() != list(range(n))
    assert len({tuple(order.tolist()) for order in orders}) == batch
    again = losses._permute_positions(marked, seeded())
    other = losses._permute_positions(marked, seeded(8))
    assert torch.equal(actual, again)
    assert not torch.equal(actual, other)


# ---- bounds --------------------------------------------------------------------------------------

scores_lists = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8)


@settings(deadline=None)
@given(scores_lists, scores_lists)
def test_the_jensen_shannon_bound_never_exceeds_zero(positive, negative):
    bound = jsd_lower_bound(torch.tensor([positive]), torch.tensor([negative]))
    assert math.isfinite(bound)
    assert bound <= 0


def test_the_jensen_shannon_bound_is_log_four_below_zero_when_nothing_is_told_apart():
    zero = torch.zeros(4, 3)
    assert float(jsd_lower_bound(zero, zero)) == pytest.approx(-math.log(4))
    perfect = jsd_lower_bound(torch.full((4, 3), 50.0), torch.full((4, 3), -50.0))
    assert float(perfect) == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(st.floats(-1e3, 1e3, width=32), st.integers(1, 9))
def test_a_constant_is_worth_nothing_to_the_donsker_varadhan_bound(constant, pairs):
    positive, negative = torch.zeros(3, 5).double(), torch.zeros(pairs, 3, 5).double()
    assert float(dv_lower_bound(positive + constant, negative + constant)) == pytest.approx(
        0, abs=1e-9
    )
    positive, negative = (torch.randn(x.shape, generator=seeded()) for x in (positive, negative))
    before = float(dv_lower_bound(positive.double(), negative.double()))
    after = dv_lower_bound(positive.double() + constant, negative.double() + constant)
    assert float(after) == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize(("marginal", "assignment", "measure", "negatives"), EVERY)
def test_scores_of_ten_thousand_stay_finite(marginal, assignment, measure, negatives):
    chosen = objective(
        marginal=marginal, assignment=assignment, measure=measure, negatives=negatives
    )
    local, glob = features(dtype=torch.float32)
    local, glob = local.sign() * 100, glob.sign() * 20  # dot products up to 1e4
    assert class_scores(local.flatten(2), glob).abs().max() == 1e4
    local.requires_grad_(), glob.requires_grad_()
    loss = infoseg_loss(local, glob, chosen, seeded())
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(local.grad).all()
    assert torch.isfinite(glob.grad).all()


# ---- scores, V, S --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_features_are_summed_in_float32(dtype, autocast):
    local = torch.full((1, 1024, 1), 16.0, dtype=dtype)
    local[0, 0] = 0.125
    glob = torch.full((1, 1, 1024), 16.0, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        scores = class_scores(local, glob)
    assert scores.dtype == torch.float32
    # Beyond float16's largest number, with digits that bfloat16 does not have.
    assert float(scores) == 1023 * 256 + 2
