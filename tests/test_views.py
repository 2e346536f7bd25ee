"""Crops, flips, masks, batches and Sobel gradients against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import (
    CPU,
    build,
    device_data,
    in_memory,
    random_images,
    seeded,
    training,
    write_prepared,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from infoseg.data.batches import DeviceData, TrainingBatches, evaluated_crops
from infoseg.files import DataError, ParamsError
from infoseg.training import HISTORY_FIGURES, train
from infoseg.views import Sees, append_sobel

SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4)


def images_of(sizes, channels: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    # Never 0, so that padding can be told from pixels.
    images = [rng.integers(1, 256, (h, w, channels), np.uint8) for h, w in sizes]
    labels = [rng.choice(np.array([0, 1, 2, 255], np.uint8), (h, w)) for h, w in sizes]
    return images, labels


def padded(array: np.ndarray, size: int, fill: int) -> np.ndarray:
    """`array` with `size` more rows and columns of `fill` on every side."""
    width = [(size, size), (size, size)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, width, constant_values=fill)


def cut(array: np.ndarray, top: int, left: int, size: int, fill: int) -> np.ndarray:
    """The crop by slicing, `fill` where it hangs over the edge."""
    return padded(array, size, fill)[top + size : top + 2 * size, left + size : left + 2 * size]


def bytes_of(views) -> np.ndarray:
    """(B, H, W, C) uint8 of the images of views."""
    return (views.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def places(data: DeviceData, rows: torch.Tensor, item: int) -> tuple[int, int, bool]:
    """Top, left and flip of a crop, read off its row numbers."""
    width = int(data.width[item])
    inside = rows < data.outside
    i, j = (int(v) for v in inside.nonzero()[0])
    place = int(rows[i, j] - data.offset[item])
    y, x = divmod(place, width)
    flipped = bool(inside[i, j + 1 :].any() and rows[i, j + 1] < rows[i, j])
    size = rows.shape[-1]
    return y - i, x - (size - 1 - j) if flipped else x - j, flipped


@settings(deadline=None, max_examples=100)
@given(
    SIZES,
    st.integers(2, 24),
    st.integers(0, 9),
    st.sampled_from([3, 4]),
    st.booleans(),
    st.integers(0, 99),
)
def test_random_crops_equal_slices_and_stay_inside(sizes, size, larger, channels, flip, seed):
    images, labels = images_of(sizes, channels, seed)
    data = DeviceData(in_memory(images, labels), size + larger, CPU)
    items = torch.arange(len(sizes)).repeat(3)
    own = size if larger else None  # training's crops are evaluation's where nothing is said
    rows = data.random(items, seeded(seed), flip, own)
    views = data.views(rows, items, mask=True)
    found, annotation = bytes_of(views), data.annotation(rows).numpy()
    assert views.images.shape == (len(items), channels, size, size)
    assert views.images.dtype == torch.float32
    for b, item in enumerate(items.tolist()):
        height, width = sizes[item]
        # A crop with a single column inside cannot be told from its mirror image by its row
        # numbers, so both readings are tried and one must fit.
        fits = []
        for flipped in (False, True) if flip else (False,):
            top, left, mirrored = places(data, rows[b].flip(-1) if flipped else rows[b], item)
            fit = not mirrored
            for side, first in ((height, top), (width, left)):
                if side >= size:
                    fit &= 0 <= first <= side - size
                else:
                    fit &= first == (side - size) // 2
            if not fit:
                continue
            image, label = (
                cut(array, top, left, size, fill)
                for array, fill in ((images[item], 0), (labels[item], 255))
            )
            if flipped:
                image, label = image[:, ::-1], label[:, ::-1]
            fits.append(
                np.array_equal(found[b], image)
                and np.array_equal(annotation[b], label)
                and np.array_equal(views.mask[b].numpy(), label != 255)
            )
        assert any(fits)


@settings(deadline=None, max_examples=100)
@given(SIZES, st.integers(2, 24), st.sampled_from([3, 4]))
def test_centre_crops_equal_slices(sizes, size, channels):
    images, labels = images_of(sizes, channels)
    data = DeviceData(in_memory(images, labels), size, CPU)
    items = torch.arange(len(sizes))
    rows = data.centre(items)
    views, annotation = data.views(rows, items, mask=False), data.annotation(rows)
    assert views.images.is_contiguous(memory_format=torch.channels_last)
    assert not views.images.is_contiguous()
    found = bytes_of(views)
    for i, (height, width) in enumerate(sizes):
        top, left = (height - size) // 2, (width - size) // 2
        assert np.array_equal(found[i], cut(images[i], top, left, size, 0))
        assert np.array_equal(annotation[i].numpy(), cut(labels[i], top, left, size, 255))


def test_random_crops_cover_every_place_uniformly_and_flip_half_the_time(tmp_path):
    images, labels = images_of([(14, 12)], 3)
    data = DeviceData(write_prepared(tmp_path / "p", images, labels), 8, CPU)
    items = torch.zeros(7000, dtype=torch.int64)
    rows = data.random(items, seeded(), flip=True)
    flipped = rows[:, 0, 0] > rows[:, 0, -1]
    corner = torch.where(flipped, rows[:, 0, -1], rows[:, 0, 0])
    counts = torch.zeros(7, 5, 2)
    for top, left, flip in zip(
        (corner // 12).tolist(), (corner % 12).tolist(), flipped.tolist(), strict=True
    ):
        counts[top, left, int(flip)] += 1
    assert counts.min() > 0
    assert stats.chisquare(counts.flatten().numpy()).pvalue > 0.01


def test_the_mask_is_false_on_ignored_pixels_and_true_on_all_pixels_of_unlabelled_images(tmp_path):
    images, labels = images_of([(20, 20), (20, 20), (6, 20)], 3)
    labels[1] = None
    labels[2] = None
    data = DeviceData(write_prepared(tmp_path / "p", images, labels), 8, CPU)
    items = torch.arange(3)
    rows = data.centre(items)
    mask = data.views(rows, items, mask=True).mask
    assert np.array_equal(mask[0].numpy(), labels[0][6:14, 6:14] != 255)
    assert mask[1].all()
    assert mask[2, 1:7].all()
    assert not mask[2, [0, 7]].any()
    assert data.views(rows, items, mask=False).mask is None


@pytest.mark.parametrize(
    ("kind", "method", "sees"), [("infoseg", "loss", 10 * [False]), ("kmeans", "fit", 2 * [True])]
)
def test_only_methods_whose_authors_used_the_mask_see_it(tmp_path, kind, method, sees):
    model = build(kind)
    data = device_data(tmp_path / "p", sees=model.sees)
    masked, original = [], getattr(model, method)

    def spy(views, *rest):
        views = [views] if method == "loss" else list(views)
        masked.extend(one.mask is not None for one in views)
        return original(views[0] if method == "loss" else iter(views), *rest)

    setattr(model, method, spy)
    train(model, data, training(), 0, lambda: dict.fromkeys(HISTORY_FIGURES, 1.0))
    assert masked == sees


def marked_data(tmp_path, count: int) -> DeviceData:
    """Images of one colour each, 1 to `count`, by which they can be told apart."""
    images = [np.full((9, 9, 3), i + 1, np.uint8) for i in range(count)]
    return DeviceData(write_prepared(tmp_path / "p", images, [None] * count), 8, CPU)


def members(views) -> list[int]:
    return bytes_of(views)[:, 0, 0, 0].tolist()


def test_an_epoch_holds_every_image_at_most_once_and_drops_the_rest(tmp_path):
    data = marked_data(tmp_path, 11)
    batches = TrainingBatches(data, 4, True, seeded())
    epochs = [[members(next(batches)) for _ in range(2)] for _ in range(30)]
    for epoch in epochs:
        seen = [image for batch in epoch for image in batch]
        assert all(len(batch) == 4 for batch in epoch)
        assert len(set(seen)) == 8
    assert {image for epoch in epochs for batch in epoch for image in batch} == set(range(1, 12))
    assert len({tuple(map(tuple, epoch)) for epoch in epochs}) == 30


def test_batches_follow_the_seed_and_may_hold_all_images_or_be_smaller_crops(tmp_path):
    data = marked_data(tmp_path / "a", 5)
    batches = TrainingBatches(data, 5, True, seeded())
    assert all(sorted(members(next(batches))) == [1, 2, 3, 4, 5] for _ in range(3))
    smaller = TrainingBatches(data, 4, True, seeded(), crop=6)
    assert next(smaller).images.shape == (4, 3, 6, 6)
    assert next(evaluated_crops(data, 4)).images.shape == (4, 3, 8, 8)
    data = DeviceData(write_prepared(tmp_path / "p", *random_images(6, 20)), 8, CPU)

    def first(seed: int) -> torch.Tensor:
        batches = TrainingBatches(data, 3, True, seeded(seed))
        return torch.stack([next(batches).images for _ in range(5)])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("batch", "crop", "error", "words"),
    [
        (4, None, DataError, r"optimiser\.batch is 4.*only 3 images"),
        (2, 9, ParamsError, r"optimiser\.crop is 9, larger than .* 8"),
    ],
)
def test_batches_that_cannot_be_are_errors_naming_the_setting(tmp_path, batch, crop, error, words):
    with pytest.raises(error, match=words):
        next(TrainingBatches(marked_data(tmp_path, 3), batch, True, seeded(), crop=crop))


def test_without_labels_fitting_sees_every_image_once_in_order(tmp_path):
    batches = list(evaluated_crops(marked_data(tmp_path, 7), 3))
    assert [members(views) for views in batches] == [[1, 2, 3], [4, 5, 6], [7]]


def test_fitting_sees_the_centre_crops_of_labelled_images_and_what_the_method_may_see(tmp_path):
    images, labels = images_of([(20, 20)] * 5, 3)
    labels[0] = labels[3] = None
    prepared = write_prepared(tmp_path / "p", images, labels, classes=5)
    for sees in (Sees(), Sees(mask=True)):
        data = DeviceData(prepared, 8, CPU, sees)
        assert (len(data), data.classes, data.evaluated.tolist()) == (5, 5, [1, 2, 4])
        assert data.labelled.tolist() == [False, True, True, False, True]
        batches = list(evaluated_crops(data, 2))
        found = np.concatenate([bytes_of(views) for views in batches])
        assert np.array_equal(found, np.stack([images[i][6:14, 6:14] for i in (1, 2, 4)]))
        for views, rows in zip(batches, ([1, 2], [4]), strict=True):
            expected = np.stack([labels[i][6:14, 6:14] != 255 for i in rows])
            assert (views.mask is not None) == sees.mask
            assert views.mask is None or np.array_equal(views.mask.numpy(), expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_sobel_gradients_equal_scipys(channels):
    images = torch.rand(2, channels, 9, 13, generator=seeded())
    found = append_sobel(images)
    assert found.shape == (2, channels + 2, 9, 13)
    assert torch.equal(found[:, :channels], images)
    other = torch.cat([1 - images, found[:, channels:]], 1)
    assert torch.equal(append_sobel(1 - images, images), other)
    grey = np.tensordot(images[:, :3].numpy(), [0.2989, 0.587, 0.114], axes=([1], [0]))
    for b in range(2):
        # SciPy's gradient grows to the right and downwards, IIC's kernel to the left and upwards.
        for channel, axis in ((channels, 1), (channels + 1, 0)):
            expected = -ndimage.sobel(grey[b], axis=axis, mode="constant")
            np.testing.assert_allclose(found[b, channel].numpy(), expected, atol=1e-5)
