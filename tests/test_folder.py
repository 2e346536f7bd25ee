"""A folder of one's own: mixed formats and sizes, optional labels; faults are in test_damage."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_archives import pack_folder

from infoseg.data.folder import prepare_folder
from infoseg.data.store import load_prepared
from infoseg.errors import DataError


@pytest.fixture
def raw(tmp_path):
    """Three pictures, two of them labelled with sky 0 and road 1."""
    random = np.random.default_rng(0)
    folder = tmp_path / "raw"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for name, size in (("b.png", (6, 9)), ("a.PNG", (5, 4)), ("c.png", (7, 7))):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name, format="png")
    for name, size in (("b.png", (6, 9)), ("a.png", (5, 4))):
        labels = random.choice(np.array([0, 1, 255], np.uint8), size)
        Image.fromarray(labels).save(folder / "labels" / name)
    (folder / "dataset.json").write_text(
        json.dumps({"labels": {"classes": {"0": "sky", "1": "road"}}, "ignore_index": 255})
    )
    return folder


def prepare(raw, **more):
    prepare_folder(raw, raw.parent / "out", **({"name": "f", "labels": "labels"} | more))
    return load_prepared(raw.parent / "out", verify=True)


def pixels_of(file):
    with Image.open(file) as picture:
        return np.asarray(picture)


def test_mixed_sizes_with_and_without_labels(raw):
    prepared = prepare(raw)
    assert list(prepared.index["id"]) == ["a", "b", "c"]
    assert prepared.index["labelled"].tolist() == [True, True, False]
    for i, (picture, labels) in enumerate([("a.PNG", "a.png"), ("b.png", "b.png")]):
        np.testing.assert_array_equal(prepared.image(i), pixels_of(raw / "images" / picture))
        np.testing.assert_array_equal(prepared.label(i), pixels_of(raw / "labels" / labels))
    assert (prepared.label(2) == 255).all()
    assert prepared.meta.classes == ["sky", "road"]
    assert list(prepared.meta.sources) == ["dataset.json"]


def test_without_labels_and_without_a_description(raw):
    (raw / "dataset.json").unlink()
    assert prepare(raw).meta.classes == ["class 0", "class 1"]
    prepared = prepare(raw, labels=None)
    assert not prepared.index["labelled"].any() and prepared.meta.classes == []


def test_a_zip_and_a_flat_folder_give_the_same_images(raw, tmp_path):
    images = [image.copy() for image in map(prepare(raw).image, range(3))]
    archive = pack_folder(tmp_path / "zipped/own.zip", raw)
    assert prepare(archive).meta == prepare(raw).meta
    prepared = prepare(raw / "images", labels=str(raw / "labels"))
    assert prepared.meta.classes == ["sky", "road"]
    for i, image in enumerate(images):
        np.testing.assert_array_equal(prepared.image(i), image)


def test_a_picture_is_turned_upright(raw):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 200  # first row bright
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show
    Image.fromarray(pixels).save(raw / "images/z.png", exif=exif)
    upright = prepare(raw).image(3)
    assert upright.shape == (6, 4, 3)
    assert (upright[:, 3] == 200).all() and (upright[:, :3] == 0).all()


def test_shorter_side_averages_and_never_enlarges(raw):
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, ::2] = 100
    Image.fromarray(pixels).save(raw / "images/d.png")
    labels = np.zeros((8, 12), np.uint8)
    labels[:4] = 1
    Image.fromarray(labels).save(raw / "labels/d.png")
    prepared = prepare(raw, shorter_side=4)
    assert [prepared.image(i).shape[:2] for i in range(4)] == [(5, 4), (4, 6), (4, 4), (4, 6)]
    assert (prepared.image(3) == 50).all()
    assert prepared.label(3)[:, 0].tolist() == [1, 1, 0, 0]
    assert prepare(raw, shorter_side=100).image(0).shape == (5, 4, 3)


def test_four_bands(raw):
    shutil.rmtree(raw / "images")
    (raw / "images").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (5, 4, 4), np.uint8)
    tifffile.imwrite(raw / "images/t.tif", pixels, photometric="rgb")
    np.testing.assert_array_equal(prepare(raw, labels=None, channels=4).image(0), pixels)


def test_a_picture_that_is_too_large_is_refused_by_its_header(raw):
    (raw / "images/b.png").write_bytes(b"P6 30000 30000 255\n")
    with pytest.raises(DataError, match=r"b\.png: is 30,000 x 30,000 pixels.*Cut it"):
        prepare(raw)
