"""Superpixels: a partition into connected regions that follow edges, stored with the data set."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import two_tone_images, write_prepared
from pydantic import ValidationError
from skimage.measure import label

from infoseg.data import superpixels as module
from infoseg.data.folder import prepare_folder
from infoseg.data.ingest import Sample, ingest
from infoseg.data.store import PreparedWriter, load_prepared
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


@pytest.mark.parametrize("size", [20, 40, 100, 250])
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_the_mean_area_is_near_what_was_asked(size, smoothing):
    image = smooth_image(150, 220)
    count = region_count(superpixels(image, settings(size, smoothing=smoothing)))
    assert 0.75 * size < 150 * 220 / count < 1.5 * size


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


def test_more_compact_regions_have_shorter_borders():
    image = smooth_image()

    def border(compactness):
        regions = superpixels(image, settings(compactness=compactness))
        return (regions[1:] != regions[:-1]).sum() + (regions[:, 1:] != regions[:, :-1]).sum()

    assert border(100) < border(10) < border(1)


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


@pytest.mark.parametrize(
    "wrong",
    [{"pixels_per_region": 0}, {"pixels_per_region": 2.5}, {"compactness": 0}, {"smoothing": -1}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        settings(**wrong)


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


def test_a_data_set_that_loses_its_superpixels_loses_the_file(tmp_path):
    write_prepared(tmp_path / "set", *picture_set(), superpixels=settings())
    write_prepared(tmp_path / "set", *picture_set())
    assert not (tmp_path / "set/regions.bin").exists()


def test_damaged_regions_are_named(tmp_path):
    write_prepared(tmp_path / "set", *picture_set(), superpixels=settings())
    file = tmp_path / "set/regions.bin"
    whole = file.read_bytes()
    file.write_bytes(b"\1" + whole[1:])
    load_prepared(tmp_path / "set")
    with pytest.raises(DataError, match=r"regions\.bin: its contents have changed"):
        load_prepared(tmp_path / "set", verify=True)
    file.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"regions\.bin: has \d+ bytes"):
        load_prepared(tmp_path / "set")
    file.unlink()
    with pytest.raises(DataError, match=r"regions\.bin: not found"):
        load_prepared(tmp_path / "set")


@pytest.mark.parametrize(
    ("asked", "regions"),
    [
        (None, np.zeros((2, 3), np.uint16)),
        (settings(), None),
        (settings(), np.zeros((3, 2), np.uint16)),
        (settings(), np.zeros((2, 3), np.int64)),
        (settings(), np.full((2, 3), 1, np.uint16)),
        (settings(), np.array([[0, 0, 2], [0, 0, 2]], np.uint16)),
    ],
)
def test_regions_that_do_not_fit_are_refused(tmp_path, asked, regions):
    with pytest.raises(ValueError, match="regions"):
        with PreparedWriter(
            tmp_path / "set", name="toy", channels=3, classes=(), parameters={}, superpixels=asked
        ) as writer:
            writer.add("x", np.zeros((2, 3, 3), np.uint8), None, "train", regions)
    assert not list(tmp_path.iterdir())


def ingested(path, *, threads=2, samples_per_item=1, asked=None, on_bad_input="error"):
    images, _ = picture_set(9)

    def prepare(i):
        return [
            Sample(f"{i}_{k}", images[i] + np.uint8(k), None, "train")
            for k in range(samples_per_item)
        ]

    with PreparedWriter(
        path, name="toy", channels=3, classes=(), parameters={}, superpixels=asked or settings()
    ) as writer:
        ingest(
            writer, range(9), prepare,
            raw=path.parent, on_bad_input=on_bad_input, threads=threads,
        )  # fmt: skip
    return load_prepared(path, verify=True)


def test_bytes_do_not_depend_on_the_number_of_threads(tmp_path):
    for threads in (1, 2, 5):
        ingested(tmp_path / str(threads), threads=threads, samples_per_item=2)
    for file in (tmp_path / "1").iterdir():
        for other in "25":
            assert (tmp_path / other / file.name).read_bytes() == file.read_bytes(), file.name


def test_every_image_of_an_input_gets_its_own_regions(tmp_path):
    prepared = ingested(tmp_path / "set", samples_per_item=2)
    assert len(prepared) == 18
    for i in range(18):
        np.testing.assert_array_equal(
            prepared.region(i), superpixels(prepared.image(i), settings())
        )


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
    assert 0 < len(prepared) < 9 and prepared.meta.n_skipped == 9 - len(prepared)
    assert "pixels_per_region" in caplog.text


def test_a_folder_of_pictures_is_prepared_with_superpixels(tmp_path):
    from PIL import Image

    (tmp_path / "raw/images").mkdir(parents=True)
    for i in range(2):
        Image.fromarray(smooth_image(60, 80, seed=i)).save(tmp_path / f"raw/images/{i}.png")
    prepare_folder(
        tmp_path / "raw", tmp_path / "out", name="f", shorter_side=30, superpixels=settings(20)
    )
    prepared = load_prepared(tmp_path / "out", verify=True)
    # Made of the prepared image, not of the raw one.
    assert prepared.image(0).shape == (30, 40, 3)
    np.testing.assert_array_equal(prepared.region(0), superpixels(prepared.image(0), settings(20)))
