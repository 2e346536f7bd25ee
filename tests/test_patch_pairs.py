"""Doersch and Isola: where patches lie, what is asked about them, and which pairs count."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from helpers import build, data_info, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from infoseg.files import ParamsError
from infoseg.methods.doersch import doersch_offsets, drop_colours
from infoseg.methods.isola import diagonal_offsets, far_offsets
from infoseg.methods.patch_pairs import cut, place
from infoseg.views import Views, append_sobel

KINDS = ["doersch", "isola"]
SEEDS = st.integers(0, 2**31)
PATCHES = st.sampled_from([1, 3, 5, 7])
#: Rows and columns from the first centre to the second, by Doersch's direction.
DIRECTIONS = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1)]


def views(
    batch: int = 6, height: int = 24, width: int = 21, channels: int = 3, masked: bool = True
) -> Views:
    images = torch.rand(batch, channels, height, width, generator=seeded(1))
    mask = torch.rand(batch, height, width, generator=seeded(2)) < 0.3
    return Views(images, mask if masked else None)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(2, 14)] * 2), st.tuples(*[st.integers(8, 30)] * 2), PATCHES, SEEDS)
def test_patches_are_slices_of_the_interpolated_map(low, size, patch, seed):
    features = torch.randn(2, 3, *low, generator=seeded(seed))
    reach, (height, width) = patch // 2, size
    corners = product((reach, height - 1 - reach), (reach, width - 1 - reach))
    centres = torch.tensor([*corners, (height // 2, reach), (reach, width // 2)]).view(2, 3, 2)
    whole = F.interpolate(features, size, mode="bilinear", align_corners=False)
    patches = cut(features, centres, patch, size)
    assert patches.shape == (2, 3, 3, patch, patch)
    for b, i in product(range(2), range(3)):
        (y, x), found = centres[b, i].tolist(), patches[b, i]
        expected = whole[b, :, y - reach : y + reach + 1, x - reach : x + reach + 1]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_patches_are_float32_under_autocast():
    features = torch.randn(1, 2, 9, 9, generator=seeded())
    centres = torch.tensor([[[5, 7], [9, 9]]])
    with torch.autocast("cpu", torch.bfloat16):
        found = cut(features.bfloat16(), centres, 5, (20, 20))
    expected = cut(features.bfloat16().float(), centres, 5, (20, 20))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(9, 13), st.integers(9, 13), SEEDS)
def test_first_centres_are_all_those_for_which_both_patches_fit(down, along, height, width, seed):
    offset = torch.tensor([[down, along]]).expand(4000, 2)
    found = Counter(map(tuple, place(offset, (height, width), 3, seeded(seed)).tolist()))
    valid = [
        (y, x)
        for y, x in product(range(1, height - 1), range(1, width - 1))
        if 1 <= y + down < height - 1 and 1 <= x + along < width - 1
    ]
    expected = 4000 / len(valid)
    assert set(found) <= set(valid)
    assert all(abs(found[place] - expected) < 6 * math.sqrt(expected) + 1 for place in valid)


def placed(kind: str, patch: int, size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Offsets and answers of many pairs, whose patches are seen to lie within the image."""
    method = build(kind, patch=patch, pairs="image", pairs_per_image=50)
    first, second, answers = method.place_pairs(8, size, seeded(seed))
    assert first.shape == second.shape == (8, 50, 2) and answers.shape == (8, 50)
    for centre in (first, second):
        assert (centre >= patch // 2).all()
        assert (centre <= torch.tensor(size) - 1 - patch // 2).all()
    return (second - first).flatten(0, 1), answers.flatten()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([3, 5, 7, 11]), st.integers(0, 9), st.integers(0, 9), SEEDS)
def test_doersch_takes_one_and_a_half_to_two_patches_in_the_direction_it_asks_for(p, h, w, seed):
    offset, direction = placed("doersch", p, (3 * p + h, 3 * p + w), seed)
    assert torch.equal(offset.sign(), torch.tensor(DIRECTIONS)[direction])
    rows, columns = offset.abs().T
    assert ((rows == columns) | (rows == 0) | (columns == 0)).all()
    distance = offset.double().norm(dim=1)  # to the nearest pixel in rows and in columns
    assert ((distance > 1.5 * p - 0.72) & (distance < 2 * p + 0.72)).all()


@pytest.mark.parametrize("directions", [8, 9])
def test_directions_and_distances_are_uniform(directions):
    offset, direction = doersch_offsets(20000, 101, directions, seeded())
    share = direction.bincount(minlength=9) / 20000
    assert ((share[:directions] - 1 / directions).abs() < 0.01).all()
    assert share[directions:].sum() == 0
    quantiles = np.quantile(offset.double().norm(dim=1) / 101, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quantiles, [1.5, 1.625, 1.75, 1.875, 2], atol=0.01)


@pytest.mark.parametrize("directions", [8, 9])
def test_the_head_has_an_output_for_each_direction_asked_for(directions):
    method = build("doersch", directions=directions, pairs="image", pairs_per_image=50)
    *_, answers = method.place_pairs(6, (24, 21), seeded())
    assert answers.unique().tolist() == list(range(directions))
    assert method.head.last.out_features == directions
    assert method.loss(views(), seeded()).isfinite()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([3, 5, 7, 11]), st.integers(0, 30), st.integers(0, 30), SEEDS)
def test_isola_asks_whether_patches_touch_at_a_corner_or_lie_two_patches_apart(p, h, w, seed):
    least = math.ceil(2.4143 * p)
    offset, adjoining = placed("isola", p, (least + h, least + w), seed)
    touching = (offset.abs() == p).all(1)
    far = offset.double().norm(dim=1) >= 2 * p
    assert torch.equal(adjoining, touching)
    assert torch.equal(~adjoining, far)
    assert 0.35 < adjoining.float().mean() < 0.65  # of 400: six standard deviations


def test_far_pairs_are_those_of_drawing_until_far_enough():
    """Against all pairs of centres in a small image, counted one by one."""
    height, width, patch, count = 12, 9, 3, 100_000
    centres = list(product(range(1, height - 1), range(1, width - 1)))
    ways = Counter((c - a, d - b) for (a, b), (c, d) in product(centres, centres))
    ways = {offset: n for offset, n in ways.items() if math.hypot(*offset) >= 2 * patch}
    found = Counter(map(tuple, far_offsets(count, (height, width), patch, seeded()).tolist()))
    assert set(found) == set(ways)
    for offset, n in ways.items():
        expected = count * n / sum(ways.values())
        assert abs(found[offset] - expected) < 6 * math.sqrt(expected)


def test_the_four_corners_are_equally_likely():
    found = Counter(map(tuple, diagonal_offsets(8000, 7, seeded()).tolist()))
    assert set(found) == {(7, 7), (7, -7), (-7, 7), (-7, -7)}
    assert all(abs(n - 2000) < 200 for n in found.values())


@pytest.mark.parametrize(("kind", "least"), [("doersch", 33), ("isola", 27)])
def test_too_small_images_are_an_error_naming_crop_and_patch(kind, least):
    method = build(kind, patch=11, pairs="image")
    for seed in range(20):
        assert method.loss(views(4, least, least + 3), seeded(seed)).isfinite()
    for size in ((least - 1, 60), (60, least - 1)):
        with pytest.raises(ParamsError, match=rf"crop.*{size[0]} x {size[1]} px.*patch.*{least}"):
            method.loss(views(2, *size), seeded())


def test_patches_have_a_central_pixel():
    with pytest.raises(ValidationError, match="must be odd"):
        build("isola", patch=10)


@given(st.integers(3, 4), SEEDS)
@settings(max_examples=20, deadline=None)
def test_one_colour_stays_and_two_become_noise_around_its_mean(channels, seed):
    images = torch.rand(40, channels, 12, 10, generator=seeded(seed))
    mean, std = torch.tensor([0.2, 0.5, 0.8]), torch.tensor([0.1, 0.2, 0.3])
    found = drop_colours(images, mean, std, seeded(seed))
    assert found.shape == images.shape
    kept = []
    for before, after in zip(images, found, strict=True):
        same = [torch.equal(before[c], after[c]) for c in range(channels)]
        assert sum(same[:3]) == 1 and all(same[3:])
        k = same.index(True)
        noise = torch.stack([after[c] for c in range(3) if c != k])
        assert abs(noise.mean() - mean[k]) < 0.1 * std[k] / 10
        assert 0.75 < noise.std() / (std[k] / 100) < 1.25
        assert not torch.equal(noise[0], noise[1])
        kept.append(k)
    assert set(kept) == {0, 1, 2}


def by_hand(method, seen: Views, seed: int) -> tuple[Tensor, list[bool]]:
    """The loss pair by pair from the definition, without dropout, and which pairs count."""
    generator, (batch, _, *size) = seeded(seed), seen.images.shape
    images, reach = seen.images, method.patch // 2
    if hasattr(method, "directions"):
        mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.full((3,), 0.2)  # of data_info()
        images = drop_colours(images, mean, std, generator)
    *centres, answers = method.place_pairs(batch, tuple(size), generator)
    pairs = list(product(range(batch), range(method.pairs_per_image)))
    gradients = append_sobel(seen.images)[:, images.shape[1] :]  # of the intact pictures
    given = torch.cat([images, gradients], 1) if method.trunk.sobel else images
    whole = F.interpolate(method.trunk.layers(given), size, mode="bilinear", align_corners=False)
    halves = []
    for which in centres:
        places = [(b, *which[b, i].tolist()) for b, i in pairs]
        maps = torch.stack(
            [
                whole[b, :, y - reach : y + reach + 1, x - reach : x + reach + 1]
                for b, y, x in places
            ]
        )
        maps = F.conv2d(maps, method.head.branch[0].weight, padding=1)
        maps = maps - maps.mean((0, 2, 3), keepdim=True)
        halves.append(maps / (maps.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt())
    losses, counts = [], []
    for n, (b, i) in enumerate(pairs):
        both = torch.cat([half[n].clamp_min(0).flatten() for half in halves])
        hidden = (method.head.joint.weight @ both + method.head.joint.bias).clamp_min(0)
        logits = method.head.last.weight @ hidden + method.head.last.bias
        answer = int(answers[b, i])
        if len(logits) == 1:
            probability = 1 / (1 + torch.exp(-logits[0]))
            losses.append(-torch.log(probability if answer else 1 - probability))
        else:
            losses.append(-torch.log(torch.exp(logits[answer]) / torch.exp(logits).sum()))
        marked = [seen.mask is None or bool(seen.mask[b, *which[b, i]]) for which in centres]
        counts.append(any(marked))
    kept = [loss for loss, count in zip(losses, counts, strict=True) if count]
    return sum(kept, torch.zeros(())) / max(1, len(kept)), counts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("pairs", "n"), [("batch", 1), ("image", 1), ("batch", 2), ("image", 3)])
@pytest.mark.parametrize(("channels", "sobel", "masked"), [(3, True, True), (4, False, False)])
def test_the_loss_is_that_of_the_definition(kind, pairs, n, channels, sobel, masked):
    how = {"pairs": pairs, "pairs_per_image": n, "sobel": sobel, "dropout": 0.0}
    method = build(kind, data_info(3, channels), **how)
    with torch.no_grad():  # as initialised, all logits are near zero
        method.head.joint.weight.mul_(20)
        method.head.last.weight.mul_(100)
        method.head.last.bias.uniform_(-1, 1)
    seen, ignored = views(channels=channels, masked=masked), 0
    values = []
    for seed in range(5):
        expected, counts = by_hand(method, seen, seed)
        torch.testing.assert_close(method.loss(seen, seeded(seed)), expected, rtol=1e-4, atol=1e-5)
        ignored += counts.count(False)
        values.append(expected.item())
    assert np.ptp(values) > 0.1
    assert (5 * n < ignored < 25 * n) if masked else ignored == 0


@pytest.mark.parametrize("kind", KINDS)
def test_without_annotated_pixels_loss_and_gradients_are_zero(kind):
    method, seen = build(kind), views()
    loss = method.loss(Views(seen.images, torch.zeros_like(seen.mask)), seeded())
    loss.backward()
    assert loss == 0
    assert all((parameter.grad == 0).all() for parameter in method.parameters())


@pytest.mark.parametrize(("pairs", "expected"), [("batch", 2), ("image", 16)])
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_alike_in_all_images_or_placed_in_each(kind, pairs, expected):
    method = build(kind, pairs=pairs, pairs_per_image=2)
    steps = [method.place_pairs(8, (60, 60), seeded(seed)) for seed in range(20)]
    found = torch.stack(
        [torch.cat([*step[:2], step[2][..., None]], 2).flatten(0, 1) for step in steps]
    )
    assert found.shape == (20, 16, 5)
    distinct = [len(step.unique(dim=0)) for step in found]
    assert max(distinct) == expected and min(distinct) >= expected - 1
    assert len(found[:, 0].unique(dim=0)) == 20  # another step, another pair
    assert len(found[:, 0, 4].unique()) > 1  # and another answer


def test_dropout_silences_a_share_in_training_and_nothing_in_use():
    head = build("isola", head_width=400, dropout=0.25).head
    head.last = nn.Identity()
    patches = torch.randn(2, 3, head.branch[0].in_channels, 5, 5, generator=seeded())
    plain = head.eval()(*patches, seeded())
    assert torch.equal(head(*patches, seeded(1)), plain)
    head.train().branch.eval()
    found = head(*patches, seeded())
    assert torch.equal(head(*patches, seeded()), found)
    on = plain > 0
    silent = (found[on] == 0).float().mean()
    assert abs(silent - 0.25) < 0.06
    torch.testing.assert_close(found[found > 0], plain[found > 0] / 0.75)


@pytest.mark.parametrize(("kind", "chance", "reached"), [("doersch", 9, 1.8), ("isola", 2, 0.64)])
def test_training_beats_chance_where_places_can_be_told(kind, chance, reached):
    """Brightness that rises downwards in red, to the right in green: any patch tells its place."""
    method, generator = build(kind, pairs="image", head_width=16), seeded()
    y, x = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    ramps = torch.stack([y, x, (x + y) / 2]) / 24
    optimiser = torch.optim.Adam(method.parameters(), lr=3e-3)
    losses = []
    for _ in range(140):
        noise = 0.02 * torch.randn(16, 3, 24, 24, generator=generator)
        loss = method.loss(Views(ramps + noise), generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[:5]) == pytest.approx(math.log(chance), abs=0.1)
    assert np.mean(losses[-20:]) < reached < math.log(chance)
