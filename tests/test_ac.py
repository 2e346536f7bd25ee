"""AC: what every order sees, the loss from its definition, inference without masks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from helpers import build, seeded
from torch.nn import functional as F

from infoseg.methods import ac
from infoseg.methods.ac import ORDERS, STRIDE, OrderedNetwork, draw_orders
from infoseg.methods.information import iic_loss
from infoseg.views import Views

ALL = torch.ones(3, 3)


def reading(order: int, height: int, width: int) -> list[tuple[int, int]]:
    """Places (row, column) of a grid as the order reads them."""
    rows = range(height)[:: -1 if order & 2 else 1]
    columns = range(width)[:: -1 if order & 1 else 1]
    if order < 4:
        return [(y, x) for y in rows for x in columns]
    return [(y, x) for x in columns for y in rows]


def hand_made_mask(order: int | None) -> torch.Tensor:
    if order is None:
        return ALL
    places = reading(order, 3, 3)
    mask = torch.zeros(3, 3)
    for place in places[: places.index((1, 1)) + 1]:
        mask[place] = 1
    return mask


def views(batch: int = 3, height: int = 18, width: int = 21, channels: int = 3, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    return Views(torch.rand(batch, channels, height, width, generator=rng))


def index(order: int | None) -> torch.Tensor | None:
    return None if order is None else torch.tensor([order])


# ---- orders --------------------------------------------------------------------------------------


def test_drawn_orders_are_different_and_every_pair_occurs():
    rng = seeded()
    pairs = [tuple(draw_orders(2, rng, torch.device("cpu")).tolist()) for _ in range(4000)]
    assert set(pairs) == set(itertools.permutations(range(ORDERS), 2))
    assert max(pairs.count(pair) for pair in set(pairs)) < 2 * 4000 / 56
    again = seeded()
    assert pairs[:5] == [
        tuple(draw_orders(2, again, torch.device("cpu")).tolist()) for _ in range(5)
    ]


# ---- what a cell depends on ----------------------------------------------------------------------


def dependence(network: OrderedNetwork, order: int | None, height: int, width: int):
    """Which pixels each cell depends on, by gradients: {cell: (H, W) bool}.

    Over many images and channels, because ReLUs and pooling let one image through in part only.
    """
    images = torch.rand(192, 3, height, width, generator=seeded(1)) - 0.5
    images.requires_grad_()
    cells = network(images, index(order))
    weights = torch.rand(cells.shape[:2], generator=seeded(2)) + 0.5
    actual = {}
    for place in itertools.product(*map(range, cells.shape[2:])):
        value = (cells[(..., *place)] * weights).sum()
        [slope] = torch.autograd.grad(value, images, retain_graph=True)
        actual[place] = (slope != 0).any(0).any(0)
    return actual


def pixels_of(cell: tuple[int, int], height: int, width: int) -> list[tuple[int, int]]:
    top, left = STRIDE * cell[0], STRIDE * cell[1]
    return [
        (y, x)
        for y in range(top, min(top + STRIDE, height))
        for x in range(left, min(left + STRIDE, width))
    ]


@pytest.mark.parametrize(("height", "width"), [(13, 18), (12, 9)])
@pytest.mark.parametrize("order", range(ORDERS))
def test_a_cell_depends_on_its_own_pixels_and_earlier_ones_alone(order, height, width):
    torch.manual_seed(3)
    network = OrderedNetwork(3, 0.06, 2, norm=True).eval()
    places = reading(order, height, width)
    seen, own = {}, {}
    for cell, pixels in dependence(network, order, height, width).items():
        seen[cell] = {places.index((y, x)) for y, x in pixels.nonzero().tolist()}
        own[cell] = {places.index(pixel) for pixel in pixels_of(cell, height, width)}
    first = min(own, key=lambda cell: max(own[cell]))
    for cell in seen:
        assert max(seen[cell]) == max(own[cell]) and own[cell] <= seen[cell]
        assert cell == first or min(seen[cell]) < min(own[cell])


# ---- the network ---------------------------------------------------------------------------------


def network_by_hand(method, images: torch.Tensor, order: int | None) -> torch.Tensor:
    """Class probabilities of cells in training mode, from the weights and a hand-made mask."""
    mask, net = hand_made_mask(order), method.network

    def normalised(x):
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt()

    def point(conv, x):
        weighted = torch.einsum("fc,bchw->bfhw", conv.weight[:, :, 0, 0], x)
        return weighted + conv.bias[:, None, None]

    x = F.conv2d(images, net.stem.weight * mask, padding=1)
    x = normalised(x) * net.stem_norm.weight[:, None, None] + net.stem_norm.bias[:, None, None]
    height, width = x.shape[-2:]
    x = torch.stack(
        [
            torch.stack(
                [x[:, :, i : i + 4, j : j + 4].amax((2, 3)) for j in range(0, width, 4)], -1
            )
            for i in range(0, height, 4)
        ],
        -2,
    ).relu()
    for block in net.blocks:
        y = F.conv2d(x, block.ordered.weight * mask, block.ordered.bias, padding=1).relu()
        y = point(block.points[0], y).relu()
        y = torch.cat([y[:, : x.shape[1]] + x, y[:, x.shape[1] :]], 1)
        for i in (1, 3):
            y = y + point(block.points[i + 1], point(block.points[i], y).relu()).relu()
        x = y
    return point(method.head, normalised(x) if net.norm is not None else x).softmax(1)


def interpolated(cells: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear interpolation by what it is: a mean of two rows of two columns of cells."""
    for dim, count in ((2, size[0]), (3, size[1])):
        last, parts = cells.shape[dim] - 1, []
        for pixel in range(count):
            place = max(0.0, (pixel + 0.5) / 4 - 0.5)
            low = min(int(place), last)
            high = min(low + 1, last)
            parts.append(
                torch.lerp(cells.select(dim, low), cells.select(dim, high), place - int(place))
            )
        cells = torch.stack(parts, dim)
    return cells


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("resolution", ["input", "map"])
def test_the_loss_is_that_of_the_definition(monkeypatch, resolution, norm):
    method, seen = build("ac", norm=norm, resolution=resolution), views()
    with torch.no_grad():
        torch.nn.init.normal_(method.network.stem_norm.bias)
        torch.nn.init.uniform_(method.network.stem_norm.weight, 0.5, 2)
    asked = []

    def draw(count, rng, device):
        asked.append((count, rng))
        return torch.tensor([6, 1])

    monkeypatch.setattr(ac, "draw_orders", draw)
    rng = seeded()
    with torch.no_grad():
        actual = method.train().loss(seen, rng)
        maps = [network_by_hand(method, seen.images, order) for order in (6, 1)]
    assert asked == [(2, rng)]
    displacement, weight = method.settings.displacement, method.settings.weight
    assert (displacement, weight) == (4, 1.5)
    if resolution == "input":
        maps = [interpolated(x, (18, 21)) for x in maps]
    else:
        displacement = 1
    assert maps[0].shape[-2:] == ((18, 21) if resolution == "input" else (5, 6))
    expected = iic_loss(*maps, displacement, weight).item()
    assert actual.item() == pytest.approx(expected, abs=1e-5)
    assert (maps[0] - maps[1]).abs().max() > 0.01


def test_running_statistics_are_those_of_unmasked_activations():
    method, seen = build("ac").train(), views()
    expected = build("ac").train()
    with torch.no_grad():
        for seed in range(3):
            method.loss(seen, seeded(seed))
            expected.network(seen.images)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(method.state_dict()[name], value, msg=name)
    assert method.network.norm.running_mean.abs().max() > 0.01
    # A masked pass does not change them, and in evaluation mode it is normalised by them.
    with torch.no_grad():
        before = method.network.stem_norm.running_mean.clone()
        method.network(seen.images, index(3))
        assert torch.equal(method.network.stem_norm.running_mean, before)
        network, image = method.eval().network, seen.images[:1]
        whole, alone = network(seen.images, index(3))[:1], network(image, index(3))
    torch.testing.assert_close(whole, alone)


# ---- inference -----------------------------------------------------------------------------------


def recorded(**changes):
    """A method whose running statistics are exactly those of `views(3)`, unmasked."""
    method = build("ac", **changes).train()
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        method.network(views().images)
    return method.eval()


@pytest.mark.parametrize("norm", [True, False])
@torch.no_grad()
def test_segmentation_masks_nothing_and_interpolates_probabilities(norm):
    method, seen = recorded(norm=norm), views()
    low = network_by_hand(method, seen.images, None)
    expected = interpolated(low, (18, 21))
    labels, entropy = method.segment_with_entropy(seen)
    # But for ties of rounding, and the correction of the running variance.
    assert (labels == expected.argmax(1)).float().mean() > 0.99
    assert len(labels.unique()) > 1 or not norm
    relative = -(expected * expected.log()).sum(1).mean((1, 2)) / math.log(3)
    torch.testing.assert_close(entropy, relative, rtol=0.01, atol=0.01)
    for order in range(ORDERS):
        masked = method.probabilities(method.network(seen.images, index(order)))
        assert (masked - low).abs().max() > 0.02
