"""Potsdam: colours, crops, which tiles are labelled, and faults. Tiles of 8 x 8 px stand in."""

from __future__ import annotations

import shutil
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from infoseg.data import potsdam
from infoseg.data.potsdam import colours_to_classes, prepare_potsdam
from infoseg.data.store import load_prepared
from infoseg.errors import DataError
from infoseg.params_data import SuperpixelSettings

WHITE, BLUE, CYAN = (255, 255, 255), (0, 0, 255), (0, 255, 255)
GREEN, YELLOW, RED = (0, 255, 0), (255, 255, 0), (255, 0, 0)
ORDER = (WHITE, BLUE, CYAN, GREEN, YELLOW, RED)  # classes 0-5

IMAGES, LABELS = "4_Ortho_RGBIR", "5_Labels_for_participants"


def write_tile(raw, row, column, *, label=True, seed=0, side=8, images=IMAGES, labels=LABELS):
    """Write a tile and its label of solid 2 x 2 blocks; return image and classes at half size."""
    random = np.random.default_rng([seed, row, column])
    (raw / images).mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 256, (side, side, 4), np.uint8)
    file = raw / images / f"top_potsdam_{row}_{column}_RGBIR.tif"
    # Bands and colour space as in the official tiles: the fourth is an extra sample.
    tifffile.imwrite(file, pixels, photometric="rgb", extrasamples=["unspecified"])
    # Every class occurs.
    classes = random.permutation(np.arange((side // 2) ** 2) % 6).reshape(side // 2, -1)
    if label:
        (raw / labels).mkdir(parents=True, exist_ok=True)
        colours = np.array(ORDER, np.uint8)[classes].repeat(2, 0).repeat(2, 1)
        tifffile.imwrite(raw / labels / f"top_potsdam_{row}_{column}_label.tif", colours)
    blocks = pixels.reshape(side // 2, 2, side // 2, 2, 4).astype(int).sum(axis=(1, 3))
    return (blocks + 2) // 4, classes


def prepare(tmp_path, **more):
    settings = {"name": "p", "variant": "potsdam6", "grid": 2, "crop": 2} | more
    prepare_potsdam(tmp_path / "raw", tmp_path / "out", **settings)
    return load_prepared(tmp_path / "out", verify=True)


def test_tiles_are_halved_and_cut_row_by_row(tmp_path):
    raw = tmp_path / "raw"
    half10, classes10 = write_tile(raw, 2, 10)
    half9, _ = write_tile(raw, 2, 9, label=False)
    prepared = prepare(tmp_path)
    assert list(prepared.index["id"]) == [
        f"2_{c}_r{i:02d}_c{j:02d}" for c in (9, 10) for i in (0, 1) for j in (0, 1)
    ]
    assert prepared.index["labelled"].tolist() == [False] * 4 + [True] * 4
    assert set(prepared.index["split"]) == {"train"}
    for k, (i, j) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        np.testing.assert_array_equal(prepared.image(k), half9[i : i + 2, j : j + 2])
        np.testing.assert_array_equal(prepared.image(4 + k), half10[i : i + 2, j : j + 2])
        assert (prepared.label(k) == 255).all()
        np.testing.assert_array_equal(prepared.label(4 + k), classes10[i : i + 2, j : j + 2])
    assert prepared.meta.channels == 4
    assert prepared.meta.splits["train"].model_dump() == {"images": 8, "labelled": 4}
    assert prepared.meta.notes == ["2 tiles instead of the 38 of the published data set."]


def test_three_classes_group_six(tmp_path):
    _, classes = write_tile(tmp_path / "raw", 2, 10)
    assert set(classes.ravel()) == set(range(6))
    prepared = prepare(tmp_path, variant="potsdam3", grid=1, crop=4)
    expected = np.array([0, 1, 2, 2, 0, 1])[classes]
    np.testing.assert_array_equal(prepared.label(0), expected)
    assert prepared.meta.classes == ["road, car", "building, clutter", "vegetation, tree"]


@settings(max_examples=30, deadline=None)
@given(
    rows=st.sampled_from([1, 5, 127, 128, 129, 300]),
    tolerance=st.integers(0, 127),
    seed=st.integers(0, 2**32 - 1),
    wrong=st.booleans(),
)
def test_colours_are_decoded_pixel_by_pixel(rows, tolerance, seed, wrong):
    random = np.random.default_rng(seed)
    classes = random.integers(0, 6, (rows, 3))
    off = random.integers(0, tolerance + 1, (rows, 3, 3)) * (random.random((rows, 3, 1)) < 0.3)
    colours = np.abs(np.array(ORDER)[classes] - off).astype(np.uint8)
    at = int(random.integers(rows)), int(random.integers(3))
    if wrong:
        colours[at] = (255, 0, 255)  # magenta is no class
        with pytest.raises(DataError) as caught:
            colours_to_classes(colours, Path("x.tif"), tolerance)
        said = f"x.tif: colour (255, 0, 255) at row {at[0]}, column {at[1]} is none of the six"
        assert str(caught.value).startswith(said) and "(1 such pixels)" in str(caught.value)
        return
    labels, inexact = colours_to_classes(colours, Path("x.tif"), tolerance)
    np.testing.assert_array_equal(labels, classes)
    assert inexact == off.any(axis=2).sum()


def test_labels_drawn_over_the_picture_say_what_to_do(tmp_path):
    write_tile(tmp_path / "raw", 4, 12, labels="5_Labels_all")
    file = tmp_path / "raw/5_Labels_all/top_potsdam_4_12_label.tif"
    picture = tifffile.imread(tmp_path / f"raw/{IMAGES}/top_potsdam_4_12_RGBIR.tif")[..., :3]
    tifffile.imwrite(file, picture // 2 + tifffile.imread(file) // 2)
    with pytest.raises(DataError, match="Use the label of 5_Labels_for_participants.*on_bad_input"):
        prepare(tmp_path)


def test_labels_beyond_the_24_are_not_used(tmp_path):
    write_tile(tmp_path / "raw", 2, 10)
    write_tile(tmp_path / "raw", 2, 13, label=True)
    assert prepare(tmp_path).index["labelled"].tolist() == [True] * 4 + [False] * 4


def pack(archive, folder):
    """Put the files of a folder at the top of an archive, as some of the published ones are."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(folder.iterdir()):
            target.write(file, file.name)


def test_archives_give_the_same_bytes_as_folders(tmp_path):
    for row in (2, 3):
        write_tile(tmp_path / "raw", row, 10)
    write_tile(tmp_path / "raw", 2, 13, label=False)
    meta = prepare(tmp_path).meta
    folder = tmp_path / "raw"
    archives = tmp_path / "packed"
    archives.mkdir()
    for name in (IMAGES, LABELS):
        pack(archives / f"{name}.zip", folder / name)
    labels_unpacked = tmp_path / "mixed"
    shutil.copytree(folder / LABELS, labels_unpacked / LABELS)
    shutil.copy(archives / f"{IMAGES}.zip", labels_unpacked)
    for raw in (archives, labels_unpacked, [labels_unpacked, archives], [folder, archives]):
        prepare_potsdam(raw, tmp_path / "new", name="p", variant="potsdam6", grid=2, crop=2)
        assert load_prepared(tmp_path / "new", verify=True).meta == meta


@pytest.mark.parametrize("packed", ["nothing", "participants", "all", "both"])
def test_participants_labels_win_over_a_later_release(tmp_path, packed):
    raw = tmp_path / "raw"
    _, classes = write_tile(raw, 2, 10)
    write_tile(raw, 2, 10, labels="5_Labels_all")
    other = np.zeros((8, 8, 3), np.uint8) + np.array(RED, np.uint8)
    tifffile.imwrite(raw / "5_Labels_all/top_potsdam_2_10_label.tif", other)
    folders = {"nothing": [], "participants": [LABELS], "all": ["5_Labels_all"]}
    for name in folders.get(packed, [LABELS, "5_Labels_all"]):
        pack(raw / f"{name}.zip", raw / name)
        shutil.rmtree(raw / name)
    np.testing.assert_array_equal(prepare(tmp_path, grid=1, crop=4).label(0), classes)


def test_few_tiles_are_in_memory_at_a_time(tmp_path, monkeypatch):
    for column in range(7, 13):
        write_tile(tmp_path / "raw", 6, column)
    lock, now, most = threading.Lock(), 0, 0
    read = potsdam.read_tiff

    def counted(*arguments):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        try:
            return read(*arguments)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(potsdam, "read_tiff", counted)
    assert len(prepare(tmp_path, threads=6)) == 24
    assert most == 2


@pytest.mark.parametrize("images", [".", "Potsdam/4_Ortho_RGBIR/4_Ortho_RGBIR", "x"])
def test_folders_and_spelling_do_not_matter(tmp_path, images):
    half, classes = write_tile(tmp_path / "raw", 2, 10, images=images, labels=images)
    folder = tmp_path / "raw" / images
    (folder / "top_potsdam_2_10_RGBIR.tif").rename(folder / "TOP_Potsdam_02_10_rgbir.TIF")
    (folder / "top_potsdam_2_10_label.tif").rename(folder / "top_potsdam_02_010_Label.tiff")
    prepared = prepare(tmp_path, grid=1, crop=4)
    np.testing.assert_array_equal(prepared.image(0), half)
    np.testing.assert_array_equal(prepared.label(0), classes)
    assert prepared.index["id"][0] == "2_10_r00_c00"


def test_compressed_and_planar_tiles(tmp_path):
    half, _ = write_tile(tmp_path / "raw", 2, 10, label=False)
    file = tmp_path / f"raw/{IMAGES}/top_potsdam_2_13_RGBIR.tif"
    write_tile(tmp_path / "raw", 2, 10)
    pixels = tifffile.imread(tmp_path / f"raw/{IMAGES}/top_potsdam_2_10_RGBIR.tif")
    tifffile.imwrite(
        file, np.moveaxis(pixels, 2, 0), photometric="rgb", planarconfig="separate",
        extrasamples=["unspecified"], compression="lzw",
    )  # fmt: skip
    prepared = prepare(tmp_path, grid=1, crop=4)
    np.testing.assert_array_equal(prepared.image(1), half)


def test_bytes_do_not_depend_on_threads(tmp_path):
    superpixels = SuperpixelSettings(pixels_per_region=1, compactness=1000, smoothing=0)
    for row in range(2, 6):
        for column in (10, 11):
            write_tile(tmp_path / "raw", row, column)
    for threads in (1, 2):
        prepared = prepare(tmp_path, threads=threads, superpixels=superpixels)
        assert prepared.meta.regions > 1  # in crops of four bands
        (tmp_path / "out").rename(tmp_path / str(threads))
    for file in ("images.bin", "labels.bin", "regions.bin", "index.csv", "meta.json"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def _edit_label(colour, row=3, column=5):
    def damage(raw):
        file = raw / LABELS / "top_potsdam_3_10_label.tif"
        pixels = tifffile.imread(file)
        pixels[row, column] = colour
        tifffile.imwrite(file, pixels)

    return damage


def test_colours_slightly_off_are_rounded_and_counted(tmp_path, caplog):
    write_tile(tmp_path / "raw", 2, 10)
    _, classes = write_tile(tmp_path / "raw", 3, 10)
    _edit_label((252, 255, 0), 2, 2)(tmp_path / "raw")
    prepared = prepare(tmp_path, grid=1, crop=4)
    classes[1, 1] = 4
    np.testing.assert_array_equal(prepared.label(1), classes)
    assert prepared.meta.notes[-1].startswith("top_potsdam_3_10_label.tif: 1 pixels off")
    assert "top_potsdam_3_10_label.tif: 1 pixels" in caplog.text
    with pytest.raises(DataError, match=r"colour \(252, 255, 0\) at row 2, column 2"):
        prepare(tmp_path, colour_tolerance=0)


IMAGE3, LABEL3 = f"{IMAGES}/top_potsdam_3_10_RGBIR.tif", f"{LABELS}/top_potsdam_3_10_label.tif"


def _truncate(name):
    def damage(raw):
        (raw / name).write_bytes((raw / name).read_bytes()[:-100])

    return damage


def _write(name, *shape, dtype=np.uint8):
    return lambda raw: tifffile.imwrite(
        raw / name, np.zeros(shape, dtype), photometric="minisblack"
    )


FAULTS = {
    "truncated tile": (_truncate(IMAGE3), IMAGE3, "cannot be decoded"),
    "truncated label": (_truncate(LABEL3), LABEL3, "cannot be decoded"),
    "text": (lambda raw: (raw / IMAGE3).write_text("404"), IMAGE3, "cannot be decoded"),
    "three bands": (_write(IMAGE3, 8, 8, 3), IMAGE3, "instead of 4 bands"),
    "sixteen bits": (_write(IMAGE3, 8, 8, 4, dtype=np.uint16), IMAGE3, "uint16"),
    "size of the tile": (_write(IMAGE3, 8, 10, 4), IMAGE3, "is 10 x 8 pixels"),
    "size of the label": (_write(LABEL3, 6, 8, 3), LABEL3, "is 8 x 6 pixels"),
    "missing label": (lambda raw: (raw / LABEL3).unlink(), IMAGE3, "label is missing"),
    "missing tile": (lambda raw: (raw / IMAGE3).unlink(), LABEL3, "no RGBIR tile"),
    "black": (_edit_label((0, 0, 0)), LABEL3, r"colour \(0, 0, 0\) at row 3, column 5"),
    "magenta": (_edit_label((255, 0, 255)), LABEL3, r"colour \(255, 0, 255\) at row 3, column 5"),
    "grey": (_edit_label((128, 255, 0)), LABEL3, r"colour \(128, 255, 0\) at row 3, column 5"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    damage, name, message = FAULTS[fault]
    for row in (2, 3, 4):
        write_tile(tmp_path / "raw", row, 10)
    damage(tmp_path / "raw")
    with pytest.raises(DataError, match=message) as caught:
        prepare(tmp_path)
    assert str(tmp_path / "raw" / name) in str(caught.value)
    assert not (tmp_path / "out").exists()
    prepared = prepare(tmp_path, on_bad_input="skip")
    assert {i.rsplit("_", 2)[0] for i in prepared.index["id"]} == {"2_10", "4_10"}
    assert [s.file for s in prepared.meta.skipped] == [name]


@pytest.mark.parametrize("on_bad_input", ["error", "skip"])
def test_missing_folders_and_doubled_tiles_always_fail(tmp_path, on_bad_input):
    with pytest.raises(DataError, match="raw folder not found"):
        prepare(tmp_path, on_bad_input=on_bad_input)
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match="no file named like"):
        prepare(tmp_path, on_bad_input=on_bad_input)
    write_tile(tmp_path / "raw", 2, 10)
    write_tile(tmp_path / "raw", 2, 10, images="copy")
    with pytest.raises(DataError, match="the same tile is there twice"):
        prepare(tmp_path, on_bad_input=on_bad_input)
