"""InMARS: means over superpixels, adversarial noise and displacement, and the sum of it all."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from helpers import build, data_info, seeded
from torch.nn import functional as F

from infoseg.methods.inmars import (
    divergence,
    pool_regions,
    smooth_field,
    unit_norm,
    unit_vectors,
    warp,
    worst_perturbation,
)
from infoseg.views import Views

COUNT = 20


def views(batch: int = 3, height: int = 32, width: int = 36, channels: int = 3) -> Views:
    """Smooth images in ragged regions, of which some ids do not occur, with a frame outside."""
    coarse = torch.rand(batch, channels, 5, 5, generator=seeded(1))
    images = F.interpolate(coarse, (height, width), mode="bilinear")
    images += 0.05 * torch.rand(images.shape, generator=seeded(2))
    ragged = torch.rand(batch, 2, height, width, generator=seeded(3))
    rows = ((torch.arange(height)[:, None] + 5 * ragged[:, 0]) // 12).long()
    columns = ((torch.arange(width) + 5 * ragged[:, 1]) // 12).long()
    regions = 4 * rows + columns + torch.arange(batch)[:, None, None]
    regions[:, :2] = COUNT
    return Views(images / 1.05, regions=regions, region_count=COUNT)


def pool_by_hand(values: torch.Tensor, regions: torch.Tensor, count: int):
    means = torch.zeros(len(values), count, values.shape[1], dtype=values.dtype)
    pixels = torch.zeros(len(values), count, dtype=values.dtype)
    for b in range(len(values)):
        for region in range(count):
            here = regions[b] == region
            pixels[b, region] = here.sum()
            if here.any():
                means[b, region] = values[b][:, here].mean(1)
    return means, pixels


# ---- regions -------------------------------------------------------------------------------------


def test_pooling_is_the_mean_over_each_region_of_each_image():
    seen = views()
    values = torch.randn(3, 7, 32, 36, dtype=torch.float64, generator=seeded())
    means, pixels = pool_regions(values, seen.regions, COUNT)
    expected, expected_pixels = pool_by_hand(values, seen.regions, COUNT)
    assert means.dtype == torch.float64
    torch.testing.assert_close(means, expected)
    assert torch.equal(pixels, expected_pixels)
    assert (pixels == 0).any() and (means[pixels == 0] == 0).all()
    assert (pixels.sum(1) == 30 * 36).all()


# ---- segmentation --------------------------------------------------------------------------------


@torch.no_grad()
def test_every_region_gets_the_arg_max_of_its_mean_probabilities():
    method, seen = build("inmars", data_info(5)), views()
    for module in method.modules():  # the initial statistics make all pixels look alike
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    method.probabilities(seen.images)
    method.eval()
    probabilities = method.probabilities(seen.images)
    means, pixels = pool_by_hand(probabilities, seen.regions, COUNT)
    labels, entropy = method.segment_with_entropy(seen)
    assert len(labels.unique()) > 1
    assert not torch.equal(labels, probabilities.argmax(1))
    for b in range(3):
        for region in pixels[b].nonzero()[:, 0]:
            actual = labels[b][seen.regions[b] == region]
            assert (actual == means[b, region].argmax()).all()
    assert torch.equal(labels[:, :2], probabilities.argmax(1)[:, :2])
    # The entropy is that of what a pixel's label is read from.
    of_regions = (pixels * torch.special.entr(means).sum(-1)).sum(1)
    of_frame = torch.special.entr(probabilities[:, :, :2]).sum((1, 2, 3))
    expected = (of_regions + of_frame) / (32 * 36) / np.log(5)
    torch.testing.assert_close(entropy, expected.float())


# ---- the divergence ------------------------------------------------------------------------------


def test_the_divergence_is_the_weighted_mean_of_kullback_and_leibler():
    target, predicted = torch.randn(2, 50, 4, dtype=torch.float64, generator=seeded()).softmax(-1)
    weights = torch.rand(50, dtype=torch.float64, generator=seeded(1)) * 9
    each = (target * (target / predicted).log()).sum(-1)
    expected = (weights * each).sum() / weights.sum()
    torch.testing.assert_close(divergence(target, predicted, weights), expected, rtol=1e-6, atol=0)
    # It is not symmetric.
    assert abs(divergence(predicted, target, weights) - expected) > 1e-3


@pytest.mark.parametrize("distance", [0.0, 1e-6, 1e-3, 1.0, 100.0])
def test_the_divergence_is_never_negative_and_zero_between_equals(distance):
    logits = torch.randn(1000, 1, 6, generator=seeded())
    target = logits.softmax(-1)
    other = (logits + distance * torch.randn(logits.shape, generator=seeded(1))).softmax(-1)
    actual = torch.stack([divergence(t, p, torch.ones(1)) for t, p in zip(target, other)])  # noqa: B905
    assert actual.isfinite().all()
    assert (actual >= -1e-6).all()
    assert (actual == 0).all() if distance == 0 else actual.mean() >= 0


def test_certainty_gives_finite_divergence_and_gradients():
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    predicted = torch.tensor([[0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    actual = divergence(target, predicted, torch.ones(2))
    actual.backward()
    assert 5 < actual < 50
    assert predicted.grad.isfinite().all() and predicted.grad[0, 0] < 0


# ---- the search ----------------------------------------------------------------------------------


def test_power_iteration_finds_the_first_eigenvector_of_every_image():
    factors = torch.randn(2, 6, 6, generator=seeded())
    shapes = factors @ factors.mT
    expected = torch.linalg.eigh(shapes).eigenvectors[..., -1]

    def change(x):
        return torch.einsum("bi,bij,bj->", x, shapes, x)

    start = torch.randn(2, 6, generator=seeded(1))
    actual = worst_perturbation(change, start, unit_norm, 0.5, 0.1, 60)
    cosine = (actual * expected).sum(1) / 0.5
    torch.testing.assert_close(cosine.abs(), torch.ones(2), rtol=1e-3, atol=0)
    untouched = worst_perturbation(change, start, unit_norm, 0.5, 0.1, 0)
    torch.testing.assert_close(untouched, 0.5 * start / start.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_units_do_not_depend_on_the_scale_of_a_gradient(scale):
    x = torch.randn(3, 2, 4, 4, generator=seeded())
    x[1] = 0
    norms = unit_norm(scale * x).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0, 0.0, 1.0]))
    lengths = unit_vectors(scale * x).norm(dim=1)
    torch.testing.assert_close(
        lengths, torch.ones(3, 4, 4) * torch.tensor([1, 0, 1])[:, None, None]
    )
    torch.testing.assert_close(
        F.cosine_similarity(unit_vectors(scale * x)[0], x[0], dim=0), torch.ones(4, 4)
    )


KINDS = {
    "noise": ("noise_change", unit_norm, (3, 3, 32, 36), 1.0),
    "field": ("spatial_change", unit_vectors, (3, 2, 3, 3), 2.0),
}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_changes_more_than_chance(kind, precision):
    name, unit, shape, size = KINDS[kind]
    method, seen = build("inmars", width=0.1), views()
    xi = method.settings.xi

    def change_in(dtype):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            target = method.perturbed_probabilities(seen.images).detach()
            return partial(getattr(method, name), seen, target)

    start = torch.randn(shape, generator=seeded())
    search = change_in(precision)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        actual = worst_perturbation(search, start, unit, size, xi, 1)
    assert all(parameter.grad is None for parameter in method.parameters())
    change = change_in(torch.float32)
    with torch.no_grad():
        chance = [
            change(size * unit(torch.randn(shape, generator=seeded(s)))) for s in range(1, 17)
        ]
        # Noise has many more directions to choose from.
        assert change(actual) > (5 if kind == "noise" else 1.4) * torch.stack(chance).mean()
        assert change(torch.zeros(shape)) < 1e-6


# ---- displacement --------------------------------------------------------------------------------


def test_the_field_is_smooth_and_bounded_and_reaches_its_nodes():
    nodes = 3 * unit_vectors(torch.randn(4, 2, 4, 4, generator=seeded()))
    field = smooth_field(nodes, torch.Size((31, 46)))
    assert field.shape == (4, 2, 31, 46)
    assert field.norm(dim=1).max() <= 3 + 1e-5
    torch.testing.assert_close(field[:, :, ::10, ::15], nodes)
    # From one pixel to the next, at most the share of the way between two nodes.
    assert field.diff(dim=2).abs().max() <= 2 * 3 / 10 + 1e-5
    assert field.diff(dim=3).abs().max() <= 2 * 3 / 15 + 1e-5


@pytest.mark.parametrize(("x", "y"), [(0, 0), (2, 0), (0, 3), (-4, 1)])
def test_content_moves_against_the_field_and_the_border_repeats(x, y):
    images = torch.rand(2, 3, 17, 24, generator=seeded())
    field = torch.tensor([x, y], dtype=torch.float32)[:, None, None].expand(2, 2, 17, 24)
    actual = warp(images, field)
    for row, column in np.ndindex(17, 24):
        expected = images[..., min(max(row + y, 0), 16), min(max(column + x, 0), 23)]
        torch.testing.assert_close(actual[..., row, column], expected, rtol=0, atol=1e-4)


def constant_nodes(x: float, y: float, batch: int = 3) -> torch.Tensor:
    return torch.tensor([x, y])[:, None, None].expand(batch, 2, 3, 3)


def test_a_prediction_that_moves_with_the_image_has_not_changed():
    method, seen = build("inmars"), views()
    pointwise = torch.randn(3, 3, generator=seeded())

    def predict(images):
        return torch.einsum("kc,bchw->bkhw", 9 * pointwise, images).softmax(1)

    method.perturbed_probabilities = predict
    target = predict(seen.images)
    assert method.spatial_change(seen, target, constant_nodes(3.0, -2.0)) < 1e-6
    # One that stays where it is has.
    method.perturbed_probabilities = lambda images: target
    assert method.spatial_change(seen, target, constant_nodes(3.0, -2.0)) > 1e-3


def test_regions_and_target_are_displaced_with_the_image():
    method, seen = build("inmars"), views()
    target, actual = torch.randn(2, 3, 3, 32, 36, generator=seeded()).softmax(2)
    method.perturbed_probabilities = lambda images: actual
    rows = (torch.arange(32) - 2).clamp(0, 31)
    columns = (torch.arange(36) + 3).clamp(0, 35)
    moved, regions = target[:, :, rows][..., columns], seen.regions[:, rows][..., columns]
    expected, pixels = pool_by_hand(moved, regions, COUNT)
    predicted, _ = pool_by_hand(actual, regions, COUNT)
    by_hand = (expected * (expected / predicted).log()).sum(-1)[pixels > 0].mean()
    change = method.spatial_change(seen, target, constant_nodes(3.0, -2.0))
    torch.testing.assert_close(change, by_hand, rtol=1e-4, atol=1e-7)


# ---- the objective -------------------------------------------------------------------------------


@pytest.mark.parametrize("by_area", [False, True])
@torch.no_grad()
def test_the_objective_is_the_information_between_regions_and_clusters(by_area):
    method = build("inmars", noise_weight=0.0, spatial_weight=0.0, weigh_by_area=by_area)
    seen = views()
    rows = []
    means, pixels = pool_by_hand(method.probabilities(seen.images).double(), seen.regions, COUNT)
    for b, region in np.ndindex(3, COUNT):
        if n := int(pixels[b, region]):
            rows += [means[b, region].numpy()] * (n if by_area else 1)
    entropy = [-(row * np.log(row)).sum() for row in rows]
    mean = np.mean(rows, 0)
    expected = np.mean(entropy) + 1.5 * (mean * np.log(mean)).sum()
    assert method.loss(seen, seeded()).item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_the_sum_of_its_parts_at_what_the_search_found():
    method, seen = build("inmars", width=0.1), views()
    actual = method.loss(seen, seeded())
    gradient = torch.autograd.grad(actual, method.trunk.layers[0].weight)[0]

    probabilities = method.probabilities(seen.images)
    constant = probabilities.detach()
    means, pixels = pool_regions(probabilities, seen.regions, COUNT)
    rows = means[pixels > 0]
    mean = rows.mean(0)
    expected = torch.special.entr(rows).sum(1).mean() - 1.5 * torch.special.entr(mean).sum()
    draw = seeded()
    for (name, unit, shape, _), weight, size in zip(KINDS.values(), (2, 3), (1, 2), strict=True):
        change = partial(getattr(method, name), seen, constant)
        start = torch.randn(shape, generator=draw)
        worst = worst_perturbation(change, start, unit, size, 1.0, 1)
        expected = expected + weight * change(worst)
    torch.testing.assert_close(actual, expected)
    by_hand = torch.autograd.grad(expected, method.trunk.layers[0].weight)[0]
    assert gradient.abs().max() > 0
    torch.testing.assert_close(gradient, by_hand, rtol=1e-4, atol=1e-6)


def test_perturbations_reach_the_network_before_the_sobel_gradients():
    method, seen = build("inmars"), views()
    noise = torch.randn(seen.images.shape, generator=seeded())
    images = []
    method.trunk.register_forward_pre_hook(lambda module, inputs: images.append(inputs[0]))
    target = method.probabilities(seen.images).detach()
    method.noise_change(seen, target, noise)
    method.spatial_change(seen, target, constant_nodes(1.0, 1.0))
    assert [x.shape[1] for x in images] == [3, 3, 3]
    torch.testing.assert_close(images[1], seen.images + noise)
    torch.testing.assert_close(
        images[2][..., :-1, :-1], seen.images[..., 1:, 1:], atol=1e-4, rtol=0
    )


def test_perturbed_passes_leave_no_trace_in_the_running_statistics():
    states = []
    for weight in (0.0, 1.0):
        method = build("inmars", noise_weight=weight, spatial_weight=weight)
        with torch.no_grad():  # a loss may be looked at without training
            method.loss(views(), seeded())
        method.loss(views(), seeded()).backward()
        states.append(method.state_dict())
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name
    assert states[0]["trunk.layers.1.num_batches_tracked"] == 2
