"""Superpixels: a partition into connected regions that follow edges, stored with the data set."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import two_tone_images, write_prepared
from skimage.measure import label

from infoseg.data import superpixels as module
from infoseg.data.ingest import Sample, ingest
from infoseg.data.store import load_prepared
from infoseg.data.superpixels import region_count, superpixels
from infoseg.errors import DataError
from infoseg.settings import SuperpixelSettings


def settings(pixels_per_region=40, compactness=10.0, smoothing=0.5):
    return SuperpixelSettings(
        pixels_per_region=pixels_per_region, compactness=compactness, smoothing=smoothing
    )


def smooth_image(height=90, width=130, channels=3, seed=0):
    """Blobs of colour some ten pixels wide: structure without hard edges."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 12 + 2, width // 12 + 2, channels)).astype(float)
    rows, columns = np.arange(height) / 12, np.arange(width) / 12
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = (rows - r)[:, None, None], (columns - c)[None, :, None]
    upper = coarse[r][:, c] * (1 - fc) + coarse[r][:, c + 1] * fc
    lower = coarse[r + 1][:, c] * (1 - fc) + coarse[r + 1][:, c + 1] * fc
    return (upper * (1 - fr) + lower * fr).astype(np.uint8)


def noise_image(height=60, width=70):
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


IMAGES = {
    "smooth": smooth_image(),
    "four channels": smooth_image(channels=4),
    "two tones": two_tone_images(1)[0][0],
    "one tone": np.full((50, 60, 3), 9, np.uint8),
    "noise": noise_image(),
    "one pixel": np.zeros((1, 1, 3), np.uint8),
    "one row": smooth_image(1, 300),
    "thin": smooth_image(3, 200),
    "tall": smooth_image(200, 3),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("size", [7, 40, 100])
def test_every_pixel_belongs_to_one_connected_region_and_numbers_have_no_gaps(name, size):
    image = IMAGES[name]
    regions = superpixels(image, settings(size))
    assert (regions.shape, regions.dtype) == (image.shape[:2], np.uint16)
    count = region_count(regions)
    np.testing.assert_array_equal(np.unique(regions), np.arange(count))
    pieces = label(regions.astype(int), background=-1, connectivity=1)
    assert pieces.max() == count
    # Numbered by first pixel, row by row.
    _, first = np.unique(regions, return_index=True)
    assert (np.diff(first) > 0).all()


@pytest.mark.parametrize("compactness", [10, 30])
@pytest.mark.parametrize("seed", range(4))
def test_no_region_straddles_an_obvious_edge(seed, compactness):
    rng = np.random.default_rng(seed)
    annotation = np.zeros((80, 60), int)
    annotation[rng.integers(20, 60) :] = 1
    tone = np.array([[40, 60, 50], [200, 180, 220]])[annotation]
    image = (tone + rng.integers(-4, 5, tone.shape)).astype(np.uint8)
    regions = superpixels(image, settings(compactness=compactness, smoothing=0)).ravel()
    shares = np.bincount(regions, annotation.ravel()) / np.bincount(regions)
    assert set(shares) == {0.0, 1.0}


def test_the_same_image_gives_the_same_regions():
    image = smooth_image()
    before = image.copy()
    image.setflags(write=False)  # as it comes from a memory map
    np.testing.assert_array_equal(superpixels(image, settings()), superpixels(image, settings()))
    np.testing.assert_array_equal(image, before)


def test_infrared_plays_no_part():
    image = smooth_image(channels=4)
    expected = superpixels(image[..., :3], settings())
    image[..., 3] = noise_image(*image.shape[:2])[..., 0]
    np.testing.assert_array_equal(superpixels(image, settings()), expected)


def test_an_image_too_small_for_two_regions_is_one():
    assert not superpixels(smooth_image(5, 11), settings(40)).any()  # 55 px, fewer than 1.5 * 40
    assert superpixels(smooth_image(5, 30), settings(40)).any()


def picture_set(count=5):
    images = [smooth_image(40 + 7 * i, 60 - 5 * i, seed=i) for i in range(count)]
    return images, [None] * count


def test_regions_come_back_as_they_were_made(tmp_path):
    images, labels = picture_set()
    prepared = write_prepared(tmp_path / "set", images, labels, superpixels=settings())
    expected = [superpixels(image, settings()) for image in images]
    for i, regions in enumerate(expected):
        np.testing.assert_array_equal(prepared.region(i), regions)
    assert prepared.regions.dtype == np.uint16 and len(prepared.regions) == prepared.meta.n_pixels
    assert prepared.meta.regions == max(region_count(regions) for regions in expected)
    assert prepared.meta.parameters == {"superpixels": settings().model_dump()}
    stored = np.concatenate([regions.ravel() for regions in expected])
    assert (tmp_path / "set/regions.bin").read_bytes() == stored.astype("<u2").tobytes()


def test_without_settings_there_are_none(tmp_path):
    prepared = write_prepared(tmp_path / "set", *picture_set())
    assert prepared.regions is None and prepared.meta.regions == 0
    assert not (tmp_path / "set/regions.bin").exists()
    assert prepared.meta.parameters == {"superpixels": None}
    with pytest.raises(DataError, match="prepared without superpixels"):
        prepared.region(0)


def ingested(path, *, threads=2, **more):
    """Nine inputs of two images each."""
    images, _ = picture_set(9)

    def prepare(i):
        return [Sample(f"{i}_{k}", images[i] + np.uint8(k), None) for k in range(2)]

    ingest(
        path.parent, path, range(9), prepare, name="toy", channels=3, classes=(), parameters={},
        superpixels=settings(), threads=threads, **more,
    )  # fmt: skip
    prepared = load_prepared(path, verify=True)
    for i in range(len(prepared)):
        np.testing.assert_array_equal(
            prepared.region(i), superpixels(prepared.image(i), settings())
        )
    return prepared


def test_bytes_do_not_depend_on_the_number_of_threads(tmp_path):
    for threads in (1, 2, 5):
        assert len(ingested(tmp_path / str(threads), threads=threads)) == 18
    for file in (tmp_path / "1").iterdir():
        for other in "25":
            assert (tmp_path / other / file.name).read_bytes() == file.read_bytes(), file.name


def test_more_regions_than_fit_name_the_image_and_what_to_do(tmp_path, monkeypatch, caplog):
    every_pixel = settings(1, compactness=1e6)
    regions = superpixels(smooth_image(255, 257), every_pixel)
    assert regions.max() == module.MAX_REGIONS - 1
    with pytest.raises(DataError, match=r"256 x 256 pixels .* 65536 .*pixels_per_region"):
        superpixels(smooth_image(256, 256), every_pixel)
    monkeypatch.setattr(module, "MAX_REGIONS", 60)
    with pytest.raises(DataError, match=r"0_0: 40 x 60 pixels make \d+ superpixels"):
        ingested(tmp_path / "set")
    prepared = ingested(tmp_path / "set", on_bad_input="skip")
    assert 0 < len(prepared) < 18 and prepared.meta.n_skipped == 9 - len(prepared) / 2
    assert "pixels_per_region" in caplog.text
