"""Superpixels: a partition into connected regions that follow edges, stored with the data set."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label
from skimage.transform import resize

from infoseg.data import superpixels as module
from infoseg.data.ingest import Sample, ingest
from infoseg.data.store import load_prepared
from infoseg.data.superpixels import region_count, superpixels
from infoseg.files import DataError
from infoseg.settings import FolderParams, SuperpixelSettings

SETTINGS = SuperpixelSettings(pixels_per_region=40, compactness=10.0, smoothing=0.5)


def settings(**changes):
    return SETTINGS.model_copy(update=changes)


def smooth_image(height=90, width=130, channels=3, seed=0):
    """Blobs of colour some ten pixels wide: structure without hard edges."""
    coarse = np.random.default_rng(seed).random((height // 12 + 2, width // 12 + 2, channels))
    return (resize(coarse, (height, width), order=1) * 255).astype(np.uint8)


IMAGES = {
    "smooth": smooth_image(),
    "one tone": np.full((50, 60, 3), 9, np.uint8),
    "noise": np.random.default_rng(3).integers(0, 256, (90, 130, 3), np.uint8),
    "one pixel": np.zeros((1, 1, 3), np.uint8),
    "one row": smooth_image(1, 300),
    "tall": smooth_image(200, 3),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("size", [7, 40, 100])
def test_every_pixel_belongs_to_one_connected_region_and_numbers_have_no_gaps(name, size):
    image = IMAGES[name]
    image.setflags(write=False)  # as it comes from a memory map
    regions = superpixels(image, settings(pixels_per_region=size))
    assert (regions.shape, regions.dtype) == (image.shape[:2], np.uint16)
    numbers, first = np.unique(regions, return_index=True)
    np.testing.assert_array_equal(numbers, np.arange(region_count(regions)))
    assert (np.diff(first) > 0).all()  # numbered by first pixel, row by row
    pieces = label(regions.astype(int), background=-1, connectivity=1)
    assert pieces.max() == region_count(regions)


@pytest.mark.parametrize("compactness", [10, 30])
def test_no_region_straddles_an_obvious_edge(compactness):
    annotation = np.repeat([0, 1], (33, 47))[:, None].repeat(60, 1)
    tone = np.array([[40, 60, 50], [200, 180, 220]])[annotation]
    image = (tone + np.random.default_rng(0).integers(-4, 5, tone.shape)).astype(np.uint8)
    regions = superpixels(image, settings(compactness=compactness, smoothing=0)).ravel()
    shares = np.bincount(regions, annotation.ravel()) / np.bincount(regions)
    assert set(shares) == {0.0, 1.0}


def test_infrared_plays_no_part_and_too_few_pixels_are_one_region():
    image = smooth_image(channels=4)
    expected = superpixels(image[..., :3], SETTINGS)
    image[..., 3] = IMAGES["noise"][..., 0]
    np.testing.assert_array_equal(superpixels(image, SETTINGS), expected)
    assert not superpixels(smooth_image(5, 11), SETTINGS).any()  # 55 px, fewer than 1.5 * 40
    assert superpixels(smooth_image(5, 30), SETTINGS).any()


def ingested(path, threads=2, **changes):
    """Nine inputs of two images each."""
    images = [smooth_image(40 + 7 * i, 60 - 5 * i, seed=i) for i in range(9)]

    def prepare(i):
        return [Sample(f"{i}_{k}", images[i] + np.uint8(k), None) for k in range(2)]

    how = {"name": "toy", "channels": 3, "classes": (), "protocol": "toy", "decides": ()}
    of_set = FolderParams.model_construct(**{"superpixels": SETTINGS} | changes)
    ingest([path.parent], path, of_set, range(9), prepare, threads=threads, **how)
    return load_prepared(path, verify=True)


def test_regions_are_stored_and_do_not_depend_on_the_number_of_threads(tmp_path):
    first, *others = [ingested(tmp_path / str(threads), threads=threads) for threads in (1, 2, 5)]
    assert all(prepared.meta == first.meta for prepared in others)  # with the hashes of the files
    expected = [superpixels(first.image(i), SETTINGS) for i in range(18)]
    for i, regions in enumerate(expected):
        np.testing.assert_array_equal(first.region(i), regions)
    assert first.meta.regions == max(map(region_count, expected))
    assert first.meta.parameters["superpixels"] == SETTINGS.model_dump()


def test_more_regions_than_fit_name_the_size_and_what_to_do(tmp_path, monkeypatch, caplog):
    every_pixel = settings(pixels_per_region=1, compactness=1e6)
    assert superpixels(smooth_image(255, 257), every_pixel).max() == module.MAX_REGIONS - 1
    with pytest.raises(DataError, match=r"256 x 256 pixels .* 65536 .*pixels_per_region"):
        superpixels(smooth_image(256, 256), every_pixel)
    monkeypatch.setattr(module, "MAX_REGIONS", 60)
    with pytest.raises(DataError, match=r"^40 x 60 pixels make \d+ superpixels"):
        ingested(tmp_path / "set")
    prepared = ingested(tmp_path / "set", superpixels=None)
    assert not (tmp_path / "set/regions.bin").exists() and prepared.meta.regions == 0
    with pytest.raises(DataError, match="prepared without superpixels"):
        prepared.region(0)
    prepared = ingested(tmp_path / "set", on_bad_input="skip")
    assert 0 < len(prepared) < 18 and prepared.meta.n_skipped == 9 - len(prepared) / 2
    assert "pixels_per_region" in caplog.text
