"""Potsdam: colours, crops, which tiles are labelled. Tiles of 8 x 8 px stand in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import prepare_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_archives import pack_folder

from infoseg.data.potsdam import colours_to_classes
from infoseg.files import DataError

#: White, blue, cyan, green, yellow, red: classes 0-5.
ORDER = ((255,) * 3, (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0))
IMAGES, LABELS = "4_Ortho_RGBIR", "5_Labels_for_participants"


def write_tile(raw, row, column, *, images=IMAGES, labels=LABELS):
    """Write a tile and its label of solid 2 x 2 blocks; return image and classes at half size."""
    random = np.random.default_rng([row, column])
    for folder in (images, labels):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 256, (8, 8, 4), np.uint8)
    file = raw / images / f"top_potsdam_{row}_{column}_RGBIR.tif"
    # Bands and colour space as in the official tiles: the fourth is an extra sample.
    tifffile.imwrite(file, pixels, photometric="rgb", extrasamples=["unspecified"])
    classes = random.permutation(np.arange(16) % 6).reshape(4, 4)
    colours = np.array(ORDER, np.uint8)[classes].repeat(2, 0).repeat(2, 1)
    tifffile.imwrite(raw / labels / f"top_potsdam_{row}_{column}_label.tif", colours)
    return (pixels.reshape(4, 2, 4, 2, 4).astype(int).sum(axis=(1, 3)) + 2) // 4, classes


def prepare(tmp_path, raw="raw", **more):
    settings = {"variant": "potsdam6", "grid": 1, "crop": 4} | more
    return prepare_raw("potsdam", tmp_path / raw, tmp_path / "out", **settings)


def test_tiles_are_halved_and_cut_row_by_row_and_24_have_labels(tmp_path):
    half10, classes10 = write_tile(tmp_path / "raw", 2, 10)
    half9, _ = write_tile(tmp_path / "raw", 2, 9)  # its label is not to be used
    prepared = prepare(tmp_path, grid=2, crop=2)
    assert list(prepared.index["id"]) == [
        f"2_{c}_r{i:02d}_c{j:02d}" for c in (9, 10) for i in (0, 1) for j in (0, 1)
    ]
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
    prepared = prepare(tmp_path, variant="potsdam3")
    np.testing.assert_array_equal(prepared.label(0), np.array([0, 1, 2, 2, 0, 1])[classes])
    assert prepared.meta.classes == ["road, car", "building, clutter", "vegetation, tree"]


@settings(max_examples=30, deadline=None)
@given(tolerance=st.integers(0, 127), seed=st.integers(0, 2**32 - 1))
def test_colours_are_decoded_pixel_by_pixel(tolerance, seed):
    random = np.random.default_rng(seed)
    classes = random.integers(0, 6, (9, 3))
    off = random.integers(0, tolerance + 1, (9, 3, 3)) * (random.random((9, 3, 1)) < 0.3)
    colours = np.abs(np.array(ORDER)[classes] - off).astype(np.uint8)
    labels, inexact = colours_to_classes(colours, Path("x.tif"), tolerance)
    np.testing.assert_array_equal(labels, classes)
    assert inexact == off.any(axis=2).sum()
    colours[7, 1] = (255, 0, 255)  # magenta is no class
    with pytest.raises(DataError, match=r"^x\.tif: colour \(255, 0, 255\) at row 7, column 1 is "):
        colours_to_classes(colours, Path("x.tif"), tolerance)


def test_colours_slightly_off_are_rounded_and_counted(tmp_path):
    _, classes = write_tile(tmp_path / "raw", 3, 10)
    file = tmp_path / "raw" / LABELS / "top_potsdam_3_10_label.tif"
    pixels = tifffile.imread(file)
    pixels[2, 2] = (252, 255, 0)
    tifffile.imwrite(file, pixels)
    prepared = prepare(tmp_path)
    classes[1, 1] = 4
    np.testing.assert_array_equal(prepared.label(0), classes)
    assert prepared.meta.notes[-1].startswith("top_potsdam_3_10_label.tif: 1 pixels off")
    with pytest.raises(DataError, match=r"colour \(252, 255, 0\) at row 2, column 2"):
        prepare(tmp_path, colour_tolerance=0)


@pytest.mark.parametrize("packed", [(), (LABELS,), (LABELS, "5_Labels_all")])
def test_participants_labels_win_over_a_later_release(tmp_path, packed):
    raw = tmp_path / "raw"
    _, classes = write_tile(raw, 2, 10)
    (raw / "5_Labels_all").mkdir()
    red = np.full((8, 8, 3), ORDER[5], np.uint8)
    tifffile.imwrite(raw / "5_Labels_all/top_potsdam_2_10_label.tif", red)
    for name in packed:
        pack_folder(raw / f"{name}.zip", raw / name)
        shutil.rmtree(raw / name)
    np.testing.assert_array_equal(prepare(tmp_path).label(0), classes)


def test_a_tile_that_is_twice_below_a_folder_is_refused(tmp_path):
    for name in ("4_Ortho_RGBIR", "a copy"):
        write_tile(tmp_path / "raw", 2, 10, images=name)
    with pytest.raises(DataError, match="the same tile is there twice, also as .*Remove one"):
        prepare(tmp_path)


@pytest.mark.parametrize("folder", [".", "Potsdam/4_Ortho_RGBIR/4_Ortho_RGBIR"])
def test_folders_and_spelling_do_not_matter(tmp_path, folder):
    half, classes = write_tile(tmp_path / "raw", 2, 10, images=folder, labels=folder)
    folder = tmp_path / "raw" / folder
    (folder / "top_potsdam_2_10_RGBIR.tif").rename(folder / "TOP_Potsdam_02_10_rgbir.TIF")
    (folder / "top_potsdam_2_10_label.tif").rename(folder / "top_potsdam_02_010_Label.tiff")
    prepared = prepare(tmp_path)
    np.testing.assert_array_equal(prepared.image(0), half)
    np.testing.assert_array_equal(prepared.label(0), classes)
    assert prepared.index["id"][0] == "2_10_r00_c00"


@pytest.mark.parametrize(
    ("compression", "planar"), [(None, True), ("zlib", False), ("zlib", True), ("lzw", False)]
)
def test_compressed_and_planar_tiles(tmp_path, compression, planar):
    half, _ = write_tile(tmp_path / "raw", 2, 13)
    file = tmp_path / f"raw/{IMAGES}/top_potsdam_2_13_RGBIR.tif"
    pixels = tifffile.imread(file)
    if compression == "lzw":
        Image.frombytes("RGBX", (8, 8), pixels.tobytes()).save(file, compression="tiff_lzw")
    else:
        config = "separate" if planar else "contig"
        pixels = np.moveaxis(pixels, 2, 0) if planar else pixels
        how = {"photometric": "rgb", "extrasamples": ["unspecified"], "planarconfig": config}
        tifffile.imwrite(file, pixels, compression=compression, **how)
    np.testing.assert_array_equal(prepare(tmp_path).image(0), half)
