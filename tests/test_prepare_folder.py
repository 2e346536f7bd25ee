"""A folder of one's own: mixed formats and sizes, optional labels, and faults."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from infoseg.data.folder import prepare_folder
from infoseg.data.store import load_prepared
from infoseg.errors import DataError


@pytest.fixture
def raw(tmp_path):
    """A folder of three pictures, two of them labelled with sky 0 and road 1."""
    random = np.random.default_rng(0)
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
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


def test_mixed_sizes_with_and_without_labels(raw):
    prepared = prepare(raw)
    assert list(prepared.index["id"]) == ["a", "b", "c"]
    assert prepared.index["labelled"].tolist() == [True, True, False]
    for i, (picture, labels) in enumerate([("a.PNG", "a.png"), ("b.png", "b.png")]):
        np.testing.assert_array_equal(
            prepared.image(i), np.asarray(Image.open(raw / "images" / picture))
        )
        np.testing.assert_array_equal(
            prepared.label(i), np.asarray(Image.open(raw / "labels" / labels))
        )
    assert (prepared.label(2) == 255).all()
    assert prepared.meta.classes == ["sky", "road"]
    assert list(prepared.meta.sources) == ["dataset.json"]


def test_without_labels_and_without_a_description(raw):
    (raw / "dataset.json").unlink()
    prepared = prepare(raw, labels=None)
    assert not prepared.index["labelled"].any() and prepared.meta.classes == []
    with pytest.raises(DataError, match="no class names.*pass classes"):
        prepare(raw)
    assert prepare(raw, classes=["x", "y"]).meta.classes == ["x", "y"]


def test_palette_labels_are_read_as_indices(raw):
    indices = np.asarray(Image.open(raw / "labels/b.png"))
    picture = Image.fromarray(indices).convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([7, 8, 9] * 256)
    picture.save(raw / "labels/b.png")
    assert Image.open(raw / "labels/b.png").mode == "P"
    np.testing.assert_array_equal(prepare(raw).label(1), indices)


def test_grey_jpeg_alpha_and_tiff_pictures(raw):
    shutil.rmtree(raw / "images")
    (raw / "images").mkdir()
    Image.fromarray(np.full((4, 6), 77, np.uint8)).save(raw / "images/g.jpeg")
    Image.new("RGBA", (3, 2), (1, 2, 3, 0)).save(raw / "images/h.png")
    Image.new("RGB", (3, 2), (4, 5, 6)).save(raw / "images/i.TIFF")
    (raw / "images/notes.txt").write_text("not a picture")
    prepared = prepare(raw, labels=None)
    assert [prepared.image(i)[0, 0].tolist() for i in range(3)] == [[77] * 3, [1, 2, 3], [4, 5, 6]]
    assert prepared.image(0).shape == (4, 6, 3)


def test_exif_orientation_is_applied(raw):
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


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-30])


def _label(value, size=(9, 6), mode="L"):
    return lambda file: Image.new(mode, size, value).save(file)


def _sixteen_bits(file):
    Image.fromarray(np.zeros((6, 9), np.uint16)).save(file)


FAULTS = {
    "truncated picture": ("images/b.png", _truncate, "cannot be decoded"),
    "text": ("images/b.png", lambda f: f.write_text("404"), "not a picture"),
    "empty file": ("images/b.png", lambda f: f.write_bytes(b""), "not a picture"),
    "sixteen bits": ("images/b.png", _sixteen_bits, "more than 8 bits"),
    "truncated label": ("labels/b.png", _truncate, "cannot be decoded"),
    "label size": ("labels/b.png", _label(0, (9, 7)), "is 9 x 7 pixels, its image is 9 x 6"),
    "label value": ("labels/b.png", _label(2), "value 2 at row 0, column 0 is none of the 2"),
    "coloured label": ("labels/b.png", _label((0, 0, 0), mode="RGB"), "palette indices"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(raw, fault, caplog):
    name, damage, message = FAULTS[fault]
    damage(raw / name)
    with pytest.raises(DataError, match=message) as caught:
        prepare(raw)
    assert str(raw / name) in str(caught.value)
    assert not (raw.parent / "out").exists()
    prepared = prepare(raw, on_bad_input="skip")
    assert list(prepared.index["id"]) == ["a", "c"]
    assert [s.file for s in prepared.meta.skipped] == [name]
    assert name in caplog.text


def test_a_label_without_a_picture(raw):
    Image.new("L", (2, 2)).save(raw / "labels/ghost.png")
    with pytest.raises(DataError, match="ghost.png: there is no picture"):
        prepare(raw)
    prepared = prepare(raw, on_bad_input="skip")
    assert len(prepared) == 3 and prepared.meta.skipped[0].file == "labels/ghost.png"


@pytest.mark.parametrize("on_bad_input", ["error", "skip"])
def test_what_is_wrong_with_the_folder_itself_always_fails(raw, on_bad_input):
    def fails(message, **more):
        with pytest.raises(DataError, match=message):
            prepare(raw, on_bad_input=on_bad_input, **more)

    fails("labels3: folder not found", labels="labels3")
    for content in ("{", "[]", '{"labels": {"classes": {"1": "sky"}}}', '{"ignore_index": 0}'):
        (raw / "dataset.json").write_text(content)
        fails("dataset.json: does not describe the classes of 'labels'")
    shutil.copy(raw / "images/b.png", raw / "images/b.jpg")
    fails("b.png: has the same name as b.jpg")
    shutil.rmtree(raw / "images")
    fails("images: folder not found")
    (raw / "images").mkdir()
    fails("holds no file")


def test_a_mistyped_policy_is_refused(raw):
    with pytest.raises(ValueError, match="on_bad_input"):
        prepare(raw, on_bad_input="ignore")
