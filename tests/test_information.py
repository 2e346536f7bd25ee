"""Joint sums, IIC's loss and region information against loops written from their definitions."""

from __future__ import annotations

import contextlib
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from infoseg.methods import correlation
from infoseg.methods.correlation import displaced_joint
from infoseg.methods.information import iic_loss, information_loss, region_information

#: (B, K, H, W, T): one class, one pixel, long and odd sides, images smaller than T.
SIZES = [
    (1, 1, 1, 1, 0),
    (2, 1, 3, 4, 1),
    (3, 2, 4, 5, 0),
    (2, 3, 5, 4, 1),
    (1, 4, 7, 3, 2),
    (2, 2, 2, 6, 3),
    (2, 5, 3, 3, 4),
    (1, 3, 1, 5, 4),
]


# ---- the reference: loops over displacements, classes, images and pixels, float64 ----------------


def slow_joint(first: Tensor, second: Tensor, displacement: int) -> Tensor:
    batch, classes, height, width = first.shape
    others, side = second.shape[1], 2 * displacement + 1
    moves = range(-displacement, displacement + 1)
    # Single numbers, by the place they come from: fewer operations to differentiate.
    f, g = (
        dict(zip(itertools.product(*map(range, x.shape)), x.flatten().unbind(), strict=True))
        for x in (first, second)
    )
    entries = []
    for dy, dx, k, m in itertools.product(moves, moves, range(classes), range(others)):
        entry = first.new_zeros(())
        for b, y, x in itertools.product(range(batch), range(height), range(width)):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                entry = entry + f[b, k, y, x] * g[b, m, y + dy, x + dx]
        entries.append(entry)
    return torch.stack(entries).view(side, side, classes, others)


def slow_information_loss(joints: Tensor, weight: float) -> Tensor:
    losses = []
    for joint in joints.flatten(0, 1):
        if not joint.any():
            continue
        P = joint / joint.sum()
        P = (P + P.T) / 2
        rows, columns = ([torch.log(sum(x)) for x in p.unbind()] for p in (P, P.T))
        loss = 0.0
        for (k, m), p in zip(itertools.product(range(len(P)), repeat=2), P.flatten(), strict=True):
            if p > 0:
                loss = loss - p * (torch.log(p) - weight * (rows[k] + columns[m]))
        losses.append(loss)
    return sum(losses) / len(losses)


def views(size, seed: int = 0, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    """Class probabilities of two views, (B, K, H, W)."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, *size[:4], generator=rng, dtype=torch.float64)
    first, second = torch.softmax(2 * scores, 2).to(dtype)
    return first, second


def random_mask(size, seed: int = 0) -> Tensor:
    batch, _, height, width = size[:4]
    rng = torch.Generator().manual_seed(100 + seed)
    mask = torch.rand(batch, height, width, generator=rng) < 0.6
    mask[0, 0, 0] = True
    return mask


def close(actual, expected, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# ---- the joint -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_joint_and_its_gradients_equal_the_loops(size):
    first, second = (x.requires_grad_() for x in views(size))
    expected = slow_joint(first, second, size[4])
    rng = torch.Generator().manual_seed(1)
    along = torch.randn(expected.shape, generator=rng, dtype=torch.float64)
    slopes = torch.autograd.grad(expected, (first, second), along)
    joint = displaced_joint(first, second, size[4])
    close(joint, expected)
    for a, b in zip(torch.autograd.grad(joint, (first, second), along), slopes, strict=True):
        close(a, b)


def test_the_joint_is_the_published_convolution_with_displacements_reversed():
    first, second = views((3, 4, 6, 7))
    published = F.conv2d(first.transpose(0, 1), second.transpose(0, 1), padding=2)
    close(displaced_joint(first, second, 2), published.permute(2, 3, 0, 1).flip(0, 1))


def test_blocks_change_nothing(monkeypatch):
    size = (5, 3, 6, 7)
    first, second = (x.requires_grad_() for x in views(size))
    along = torch.randn(5, 5, 3, 3, generator=torch.Generator().manual_seed(1)).double()

    def run() -> tuple[Tensor, ...]:
        joint = displaced_joint(first, second, 2)
        return joint, *torch.autograd.grad(joint, (first, second), along)

    whole = run()
    for size in (1, 20_000):  # one frequency at a time; some, and then the rest
        monkeypatch.setattr(correlation, "BLOCK_BYTES", size)
        for a, b in zip(run(), whole, strict=True):
            close(a, b)


class Sizes(TorchDispatchMode):
    """The largest tensor that any operation makes, in bytes, views counted by what they show."""

    largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for x in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(x, Tensor):
                self.largest = max(self.largest, x.numel() * x.element_size())
        return made


def test_memory_does_not_grow_with_pixels_times_displacements():
    first, second = (x.requires_grad_() for x in views((24, 4, 32, 32), dtype=torch.float32))
    with Sizes() as sizes:
        displaced_joint(first, second, 8).sum().backward()
    # A window that is gathered would take 289 times the input.
    assert sizes.largest <= 8 * first.numel() * first.element_size()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_inputs_are_summed_in_float32(dtype, autocast):
    first, second = (x.requires_grad_() for x in views((2, 3, 24, 24), dtype=dtype))
    context = torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext()
    with context:
        joint = displaced_joint(first, second, 1)
    assert joint.dtype == torch.float32
    close(joint.double(), displaced_joint(first.double(), second.double(), 1), 1e-5)
    joint.sum().backward()
    assert first.grad.dtype == dtype


# ---- IIC's loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_loss_and_its_gradients_equal_the_loops(size, masked):
    first, second = (x.requires_grad_() for x in views(size, seed=3))
    mask = random_mask(size) if masked else None
    shown = [x if mask is None else x * mask[:, None] for x in (first, second)]
    joint = slow_joint(*shown, size[4])
    for weight in (1.0, 1.5):
        expected = slow_information_loss(joint, weight)
        slopes = torch.autograd.grad(expected, (first, second), retain_graph=True)
        loss = iic_loss(first, second, size[4], weight, mask)
        close(loss, expected, 1e-11)
        for a, b in zip(torch.autograd.grad(loss, (first, second)), slopes, strict=True):
            close(a, b, 1e-10)


cases = st.tuples(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(0, 4)
)
fast = settings(deadline=None, max_examples=40)


@fast
@given(cases, st.integers(0, 99), st.floats(1, 2), st.randoms(use_true_random=False))
def test_the_loss_is_an_information_of_unnamed_classes_in_views_alike(size, seed, weight, random):
    first, second = views(size, seed)
    mask, order = random_mask(size, seed), random.sample(range(size[1]), size[1])
    before = iic_loss(first, second, size[4], weight, mask)
    close(iic_loss(second, first, size[4], weight, mask), before, 1e-11)
    close(iic_loss(first[:, order], second[:, order], size[4], weight, mask), before, 1e-11)
    information = -float(iic_loss(first, second, size[4], 1.0, mask))
    assert -1e-9 <= information <= math.log(size[1]) + 1e-9


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels, classes).movedim(-1, 1).double()


def test_pixels_outside_the_mask_have_no_influence_and_no_gradient():
    size = (2, 3, 6, 5)
    first, second = views(size)
    mask = random_mask(size)
    outside = ~mask[:, None].expand_as(first)
    expected = iic_loss(first, second, 2, 1.5, mask)
    for other in (17.0, math.nan):
        changed = [torch.where(outside, other, x).requires_grad_() for x in (first, second)]
        actual = iic_loss(*changed, 2, 1.5, mask)
        close(actual, expected)
        actual.backward()
        for x in changed:
            assert (x.grad[outside] == 0).all()
            assert (x.grad[~outside] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_empty_mask_is_worth_nothing_and_gives_no_gradient(dtype):
    first, second = (x.requires_grad_() for x in views((2, 3, 4, 4), dtype=dtype))
    loss = iic_loss(first, second, 2, 1.5, torch.zeros(2, 4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert (first.grad == 0).all() and (second.grad == 0).all()


def test_displacements_at_which_no_pixels_meet_are_left_out_of_the_mean():
    # In float32 the transforms leave rounding errors there, which must not be scaled up to 1.
    first, second = views((8, 3, 12, 12), dtype=torch.float32)
    mask = torch.zeros(8, 12, 12, dtype=torch.bool)
    mask[:, :, 4] = True
    within = iic_loss(first[..., 4:5], second[..., 4:5], 0, 1.0, None)
    assert float(iic_loss(first, second, 0, 1.0, mask)) == pytest.approx(
        float(within),
        rel=1e-5,
        abs=1e-7,  # a difference of logarithms near 1 in float32
    )
    column = displaced_joint(first[..., 4:5].double(), second[..., 4:5].double(), 3)
    expected = information_loss(column[:, 3], 1.0)
    actual = iic_loss(first, second, 3, 1.0, mask)
    assert float(actual) == pytest.approx(float(expected), rel=1e-5)


def test_certain_predictions_have_finite_gradients():
    labels = torch.randint(3, (2, 6, 6), generator=torch.Generator().manual_seed(0))
    first, second = (one_hot(x, 4).float().requires_grad_() for x in (labels, labels.flip(2)))
    loss = iic_loss(first, second, 1, 1.0, None)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(first.grad).all() and torch.isfinite(second.grad).all()


# ---- regions -------------------------------------------------------------------------------------


def slow_region_information(rows: Tensor, weights: Tensor) -> tuple[float, float]:
    def entropy(row) -> float:
        return -sum(p * math.log(p) for p in row if p > 0)

    total = float(weights.sum())
    rows, weights = rows.tolist(), [w / total for w in weights.tolist()]
    mean = [
        sum(w * row[k] for w, row in zip(weights, rows, strict=True)) for k in range(len(rows[0]))
    ]
    return entropy(mean), sum(w * entropy(row) for w, row in zip(weights, rows, strict=True))


@fast
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99), st.booleans())
def test_region_information_equals_the_loops_and_keeps_its_bounds(n, classes, seed, weighted):
    rng = torch.Generator().manual_seed(seed)
    rows = torch.softmax(3 * torch.randn(n, classes, generator=rng, dtype=torch.float64), 1)
    weights = torch.rand(n, generator=rng, dtype=torch.float64) if weighted else None
    if weighted and n > 1:
        weights[0], rows[0] = 0, 0  # an empty region
    actual = tuple(float(x) for x in region_information(rows, weights))
    counts = torch.ones(n) if weights is None else weights
    assert actual == pytest.approx(slow_region_information(rows, counts), abs=1e-11)
    marginal, conditional = actual
    assert -1e-11 <= conditional <= marginal + 1e-11 <= math.log(classes) + 2e-11
    if weighted:
        scaled = region_information(rows, 7 * weights)
        assert tuple(map(float, scaled)) == pytest.approx(actual, abs=1e-11)


def test_gradients_of_region_information_are_right_and_finite_where_rows_are_certain():
    rows = views((1, 3, 2, 2))[0].flatten(2)[0].T.contiguous().requires_grad_()
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(region_information, (rows, weights))
    rows = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 1]].requires_grad_()
    marginal, conditional = region_information(rows)
    assert marginal.item() == pytest.approx(math.log(2))
    assert conditional.item() == pytest.approx(0, abs=1e-12)
    (marginal - conditional).backward()
    assert torch.isfinite(rows.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_region_information_is_float32_and_of_no_regions_worth_nothing(dtype):
    rows = views((1, 3, 2, 2), dtype=dtype)[0].flatten(2)[0].T.contiguous().requires_grad_()
    expected = region_information(rows)
    with torch.autocast("cpu", torch.bfloat16):
        actual = region_information(rows)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    marginal, conditional = region_information(rows, torch.zeros(4))
    assert marginal.dtype == conditional.dtype == torch.float32
    assert marginal.item() == pytest.approx(0, abs=1e-12)
    assert conditional.item() == 0
    (marginal - conditional).backward()
    assert (rows.grad == 0).all()
