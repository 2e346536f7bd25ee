"""Stand-ins of the official raw files: layout, sizes, sameness, refusals, and that they prepare."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from infoseg.data import fake, fake_content
from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
from infoseg.data.coco_masks import mask_of
from infoseg.data.fake import IMAGES, LISTS, MARK, TILES, write_fake
from infoseg.data.potsdam import COLOURS, LABELLED_TILES, prepare_potsdam
from infoseg.data.store import Prepared, load_prepared
from infoseg.errors import DataError

SMALL = {"scale": 1e-4, "tiles": 3, "tile_size": 240}
"""12 and 1 images, 5 and 1 of them listed for 15 classes, 4 and 1 for 3; two of three tiles
labelled."""
NO_PICTURES = ("annotations", "curated", "potsdam")


@pytest.fixture(scope="module")
def zipped(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fake") / "zipped"
    write_fake(out, **SMALL)
    return out


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fake") / "unpacked"
    write_fake(out, archives=False, **SMALL)
    return out


def members(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {n: opened.read(n) for n in opened.namelist() if not n.endswith("/")}


def hashes(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# ---- layout --------------------------------------------------------------------------------------


def test_the_counts_are_the_official_ones():
    assert IMAGES == {"train2017": 118_287, "val2017": 5_000}
    assert sum(LISTS["Coco164kFull_Stuff_Coarse_7.txt"].values()) == 51_804
    assert sum(LISTS["Coco164kFew_Stuff_6.txt"].values()) == 36_660
    assert len(TILES) == 38 and set(TILES) > LABELLED_TILES
    assert [row for row, _ in TILES].count(6) == 9 and (7, 13) in TILES
    assert len(fake_content.FINE_VALUES) == 171 and len(fake_content.CATEGORIES) == 80


@pytest.mark.parametrize(("tiles", "labelled"), [(38, 24), (24, 15), (3, 2), (2, 1), (1, 1)])
def test_tiles_keep_the_official_share_of_labels(tiles, labelled):
    chosen = fake._tiles(1.0, tiles)
    assert len(set(chosen)) == tiles
    assert len(LABELLED_TILES & set(chosen)) == labelled


def test_archives_have_the_official_names_and_members(zipped):
    assert set(hashes(zipped)) == {
        MARK,
        "coco/train2017.zip",
        "coco/val2017.zip",
        "coco/annotations_trainval2017.zip",
        "coco/stuffthingmaps_trainval2017.zip",
        *(f"coco/curated/{split}/{name}" for split in IMAGES for name in LISTS),
        "potsdam/4_Ortho_RGBIR.zip",
        "potsdam/5_Labels_for_participants.zip",
    }
    coco, isprs = zipped / "coco", zipped / "potsdam"
    images = {split: members(coco / f"{split}.zip") for split in IMAGES}
    assert [len(images[split]) for split in IMAGES] == [12, 1]
    names = [*images["train2017"], *images["val2017"]]
    assert all(re.fullmatch(r"(train|val)2017/0\d{11}\.jpg", name) for name in names)
    assert list(images["train2017"]) == sorted(images["train2017"])
    assert len({Path(name).stem for name in names}) == 13
    maps = members(coco / "stuffthingmaps_trainval2017.zip")
    assert [name.replace(".jpg", ".png") for name in names] == list(maps)
    assert list(members(coco / "annotations_trainval2017.zip")) == [
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
    ]
    assert list(members(isprs / "4_Ortho_RGBIR.zip")) == [
        f"4_Ortho_RGBIR/top_potsdam_{tile}_RGBIR.tif" for tile in ("2_10", "2_11", "2_13")
    ]
    assert list(members(isprs / "5_Labels_for_participants.zip")) == [
        f"5_Labels_for_participants/top_potsdam_{tile}_label.tif" for tile in ("2_10", "2_11")
    ]


def test_archives_unpack_to_the_tree(zipped, unpacked):
    places = {
        "coco/train2017.zip": "coco/images",
        "coco/val2017.zip": "coco/images",
        "coco/annotations_trainval2017.zip": "coco",
        "coco/stuffthingmaps_trainval2017.zip": "coco/stuffthingmaps",
        "potsdam/4_Ortho_RGBIR.zip": "potsdam",
        "potsdam/5_Labels_for_participants.zip": "potsdam",
    }
    expected = {name for name in hashes(zipped) if not name.endswith(".zip")}
    for archive, place in places.items():
        for name, content in members(zipped / archive).items():
            expected.add(f"{place}/{name}")
            assert (unpacked / place / name).read_bytes() == content, name
    assert set(hashes(unpacked)) == expected


def test_pictures_and_maps_are_as_large_as_cocos(zipped):
    maps = members(zipped / "coco/stuffthingmaps_trainval2017.zip")
    images = members(zipped / "coco/train2017.zip")
    for name, content in images.items():
        picture = Image.open(io.BytesIO(content))
        label = Image.open(io.BytesIO(maps[name.replace(".jpg", ".png")]))
        assert picture.size == label.size and picture.size in fake_content.SIZES
        assert (picture.format, picture.mode, label.format, label.mode) == (
            "JPEG", "RGB", "PNG", "L",
        )  # fmt: skip
        assert set(np.unique(label)) <= {*fake_content.FINE_VALUES, 255}
        assert len(np.unique(picture)) > 100
    assert 110_000 < np.mean([len(content) for content in images.values()]) < 230_000
    assert 3_000 < np.mean([len(content) for content in maps.values()]) < 9_000


def test_one_encoding_makes_any_number_of_different_files():
    jpeg, png = fake_content.jpeg_and_map(np.random.default_rng(0), 64, 48)
    for data, sign in ((jpeg, fake_content.signed_jpeg), (png, fake_content.signed_png)):
        one, other = sign(data, "1"), sign(data, "22")
        assert one != other
        first, second = (Image.open(io.BytesIO(signed)) for signed in (one, other))
        first.load()  # a PNG's comments are checked against their checksums
        assert "22" in str(second.info.get("comment", second.info.get("Comment")))
        np.testing.assert_array_equal(first, second)


def test_tiles_are_uncompressed_tiffs_of_four_bands_and_six_colours(unpacked):
    for tile in ("2_10", "2_11", "2_13"):
        file = unpacked / f"potsdam/4_Ortho_RGBIR/top_potsdam_{tile}_RGBIR.tif"
        with tifffile.TiffFile(file) as opened:
            [page] = opened.pages
            assert page.shape == (240, 240, 4) and page.dtype == np.uint8
            assert page.compression == 1 and file.stat().st_size < 240 * 240 * 4 + 1000
    label = tifffile.imread(
        unpacked / "potsdam/5_Labels_for_participants/top_potsdam_2_10_label.tif"
    )
    assert {tuple(c) for c in label.reshape(-1, 3) // 255} == set(COLOURS)
    assert label.shape == (240, 240, 3) and set(np.unique(label)) == {0, 255}


def test_a_tile_of_any_size_is_whole():
    pixels, colours = fake_content.tile(np.random.default_rng(0), 23)
    assert pixels.shape == (23, 23, 4) and colours.shape == (23, 23, 3)


def test_instances_have_cocos_structure(unpacked):
    for split in IMAGES:
        content = json.loads((unpacked / f"coco/annotations/instances_{split}.json").read_text())
        assert list(content) == ["info", "licenses", "images", "annotations", "categories"]
        assert len(content["categories"]) == 80
        assert content["categories"][0] == {"supercategory": "person", "id": 1, "name": "person"}
        images = {image["id"]: image for image in content["images"]}
        for image in images.values():
            file = unpacked / "coco/images" / split / image["file_name"]
            assert Image.open(file).size == (image["width"], image["height"])
        assert {a["image_id"] for a in content["annotations"]} <= images.keys()
        ids = [annotation["id"] for annotation in content["annotations"]]
        assert len(set(ids)) == len(ids)


def test_annotations_are_as_many_as_cocos_and_every_mask_fits():
    annotator = fake_content.Annotator(np.random.default_rng(0), first_id=7)
    found = [[json.loads(line) for line in annotator.annotate(i, 640, 427)] for i in range(2000)]
    every = [annotation for annotations in found for annotation in annotations]
    persons = [a for a in every if a["category_id"] == 1]
    assert annotator.persons == len(persons)
    assert len(every) / 2000 == pytest.approx(860_001 / 118_287, abs=0.4)
    assert len(persons) / 2000 == pytest.approx(262_465 / 118_287, abs=0.25)
    with_person = np.mean([any(a["category_id"] == 1 for a in of) for of in found])
    assert with_person == pytest.approx(0.542, abs=0.04)
    assert [a["id"] for a in every] == list(range(7, 7 + len(every)))
    crowds = [a for a in every if a["iscrowd"]]
    assert len(crowds) / len(every) == pytest.approx(0.012, abs=0.004)
    assert all(isinstance(a["segmentation"], dict) for a in crowds)
    for annotation in [*every[:300], *crowds]:
        mask = mask_of(annotation["segmentation"], 427, 640)
        x, y, width, height = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        assert rows.min() >= y - 1 and rows.max() <= y + height + 1
        assert columns.min() >= x - 1 and columns.max() <= x + width + 1


# ---- use -----------------------------------------------------------------------------------------


def prepare_all(raw: Path, out: Path) -> dict[str, Prepared]:
    prepare_coco_stuff(raw / "coco", out / "15", name="15", variant="stuff15")
    prepare_coco_stuff(raw / "coco", out / "3", name="3", variant="stuff3")
    prepare_coco_persons(raw / "coco", out / "persons", name="persons", shorter_side=64)
    prepare_potsdam(raw / "potsdam", out / "potsdam", name="potsdam", variant="potsdam6", crop=8)
    return {name: load_prepared(out / name) for name in ("15", "3", "persons", "potsdam")}


def test_both_layouts_prepare_into_the_same_data_of_the_right_counts(zipped, unpacked, tmp_path):
    made = prepare_all(zipped, tmp_path / "zipped")
    splits = {
        name: {split: count.images for split, count in prepared.meta.splits.items()}
        for name, prepared in made.items()
    }
    assert splits["15"] == {"train2017": 5, "val2017": 1}
    assert splits["3"] == {"train2017": 4, "val2017": 1}
    assert splits["persons"]["train2017"] >= 1 and splits["persons"]["val2017"] == 1
    assert splits["potsdam"] == {"train": 3 * 225}
    assert made["potsdam"].meta.splits["train"].labelled == 2 * 225
    assert all(prepared.meta.n_skipped == 0 for prepared in made.values())
    assert min(made["potsdam"].meta.class_pixels) > 0
    assert "not IIC's published ones" in " ".join(made["15"].meta.notes)
    for name, prepared in prepare_all(unpacked, tmp_path / "unpacked").items():
        assert prepared.meta.files == made[name].meta.files


def test_the_record_counts_what_was_written(unpacked):
    record = json.loads((unpacked / MARK).read_text())
    counts = record["counts"]
    assert counts["train2017 images"] == 12 and counts["stuff maps"] == 13
    assert counts["train2017 Coco164kFull_Stuff_Coarse_7.txt"] == 5
    assert (counts["tiles"], counts["labelled tiles"]) == (3, 2)
    written = json.loads((unpacked / "coco/annotations/instances_train2017.json").read_text())
    assert counts["train2017 annotations"] == len(written["annotations"])
    kinds = [annotation["category_id"] for annotation in written["annotations"]]
    assert counts["train2017 persons"] == kinds.count(1) > 0
    files = [file for file in unpacked.rglob("*") if file.is_file() and file.name != MARK]
    assert record["bytes"] == sum(file.stat().st_size for file in files)


# ---- sameness ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_whichever_parts_are_written(zipped, tmp_path):
    once, again = hashes(zipped), tmp_path / "again"
    write_fake(again, only=NO_PICTURES, **SMALL)
    pictures = ("coco/train2017", "coco/val2017", "coco/stuffthingmaps", MARK)
    without = {name: h for name, h in once.items() if not name.startswith(pictures)}
    assert {name: h for name, h in hashes(again).items() if name != MARK} == without
    write_fake(tmp_path / "pictures", only=("images", "stuffthingmaps"), **SMALL | {"scale": 2e-5})
    write_fake(tmp_path / "twice", only=("images", "stuffthingmaps"), **SMALL | {"scale": 2e-5})
    assert hashes(tmp_path / "pictures") == hashes(tmp_path / "twice")


def test_another_seed_gives_other_files(zipped, tmp_path):
    write_fake(tmp_path / "other", seed=1, only=NO_PICTURES, **SMALL)
    other, first = hashes(tmp_path / "other"), hashes(zipped)
    assert all(other[name] != first[name] for name in other)


# ---- refusals ------------------------------------------------------------------------------------


def test_a_folder_that_holds_anything_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="mine: is there already"):
        write_fake(tmp_path / "mine", **SMALL)
    assert hashes(tmp_path) == {"mine/photo.jpg": hashlib.sha256(b"x").hexdigest()}
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for taken in ("link", "mine/photo.jpg"):
        with pytest.raises(DataError, match="is there already"):
            write_fake(tmp_path / taken, **SMALL)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    write_fake(tmp_path / "empty", only=("curated",), **SMALL)
    assert set(os.listdir(tmp_path)) == {"empty"}
    assert set(os.listdir(tmp_path / "empty")) == {"coco", MARK}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": 0}, "scale"),
        ({"scale": 1.1}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"only": ["image"]}, "'image' is none of images"),
        ({"tiles": 0}, "tiles"),
        ({"tiles": 39}, "tiles"),
        ({"tile_size": 3}, "tile_size"),
    ],
)
def test_impossible_arguments_are_named(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        write_fake(tmp_path / "out", **SMALL | wrong)
    assert not any(tmp_path.iterdir())


def test_a_small_disk_is_refused_with_the_scale_that_would_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(fake.shutil, "disk_usage", lambda path: SimpleNamespace(free=3e9))
    with pytest.raises(DataError, match=r"needs 2\d\.\d GB at scale 1, .* 3\.0 GB") as caught:
        write_fake(tmp_path / "out")
    fits = float(re.search(r"Scale ([\d.]+) would fit", caught.value.advice)[1])
    assert 0.05 < fits < 3 / 26
    monkeypatch.setattr(fake.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e6))
    with pytest.raises(DataError, match="No scale would fit"):
        write_fake(tmp_path / "out")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["zipped", "unpacked"])
def test_the_room_asked_for_is_enough(layout, request):
    folder = request.getfixturevalue(layout)
    record = json.loads((folder / MARK).read_text())
    blocks = [file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()]
    assert sum(blocks) <= fake._needed(record, record["scale"]) < 2 * sum(blocks)


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "disk full"), DataError)],
)
def test_what_was_not_finished_leaves_nothing(tmp_path, monkeypatch, failure, raised):
    def fail(*arguments):
        raise failure

    monkeypatch.setattr(fake_content, "tile", fail)
    with pytest.raises(raised):
        write_fake(tmp_path / "out", only=NO_PICTURES, **SMALL)
    assert not any(tmp_path.iterdir())
