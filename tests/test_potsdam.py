"""Potsdam: colours, crops, which tiles are labelled, and faults. Tiles of 8 x 8 px stand in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_archives import pack_folder

from infoseg.data.potsdam import colours_to_classes, prepare_potsdam
from infoseg.data.store import load_prepared
from infoseg.errors import DataError
from infoseg.settings import SuperpixelSettings

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


def test_labels_beyond_the_24_are_not_used(tmp_path):
    write_tile(tmp_path / "raw", 2, 10)
    write_tile(tmp_path / "raw", 2, 13, label=True)
    assert prepare(tmp_path).index["labelled"].tolist() == [True] * 4 + [False] * 4


def test_archives_give_the_same_bytes_as_folders(tmp_path):
    for row in (2, 3):
        write_tile(tmp_path / "raw", row, 10)
    write_tile(tmp_path / "raw", 2, 13, label=False)
    meta = prepare(tmp_path).meta
    folder = tmp_path / "raw"
    archives = tmp_path / "packed"
    archives.mkdir()
    for name in (IMAGES, LABELS):
        pack_folder(archives / f"{name}.zip", folder / name)
    labels_unpacked = tmp_path / "mixed"
    shutil.copytree(folder / LABELS, labels_unpacked / LABELS)
    shutil.copy(archives / f"{IMAGES}.zip", labels_unpacked)
    for raw in (archives, labels_unpacked, [folder, archives]):
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
        pack_folder(raw / f"{name}.zip", raw / name)
        shutil.rmtree(raw / name)
    np.testing.assert_array_equal(prepare(tmp_path, grid=1, crop=4).label(0), classes)


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


@pytest.mark.parametrize("form", ["plain", "planar", "zlib", "zlib planar", "lzw"])
def test_compressed_and_planar_tiles(tmp_path, form):
    half, _ = write_tile(tmp_path / "raw", 2, 13, label=False)
    file = tmp_path / f"raw/{IMAGES}/top_potsdam_2_13_RGBIR.tif"
    pixels = tifffile.imread(file)
    if form == "lzw":
        Image.frombytes("RGBX", (8, 8), pixels.tobytes()).save(file, compression="tiff_lzw")
        content = file.read_bytes()
    else:
        planar = "planar" in form
        tifffile.imwrite(
            file, np.moveaxis(pixels, 2, 0) if planar else pixels, photometric="rgb",
            planarconfig="separate" if planar else "contig", extrasamples=["unspecified"],
            compression="zlib" if "zlib" in form else None,
        )  # fmt: skip
    np.testing.assert_array_equal(prepare(tmp_path, grid=1, crop=4).image(0), half)
    if form == "lzw":
        place = content.index(b"\x80")  # where LZW starts
        file.write_bytes(content[:place] + bytes(40) + content[place + 40 :])
        with pytest.raises(DataError, match="RGBIR.tif: cannot be decoded"):
            prepare(tmp_path, grid=1, crop=4)


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


def test_colours_slightly_off_are_rounded_and_counted(tmp_path, caplog):
    write_tile(tmp_path / "raw", 2, 10)
    _, classes = write_tile(tmp_path / "raw", 3, 10)
    file = tmp_path / "raw" / LABELS / "top_potsdam_3_10_label.tif"
    pixels = tifffile.imread(file)
    pixels[2, 2] = (252, 255, 0)
    tifffile.imwrite(file, pixels)
    prepared = prepare(tmp_path, grid=1, crop=4)
    classes[1, 1] = 4
    np.testing.assert_array_equal(prepared.label(1), classes)
    assert prepared.meta.notes[-1].startswith("top_potsdam_3_10_label.tif: 1 pixels off")
    assert "top_potsdam_3_10_label.tif: 1 pixels off" in caplog.text
    with pytest.raises(DataError, match=r"colour \(252, 255, 0\) at row 2, column 2"):
        prepare(tmp_path, colour_tolerance=0)
