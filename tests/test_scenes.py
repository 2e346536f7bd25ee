"""The rendered scenes: official layouts, the same bytes for a seed, nothing half-written."""

import itertools
import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from infoseg.data import scenes
from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
from infoseg.data.potsdam import COLOURS, prepare_potsdam
from infoseg.data.scenes import write_coco, write_potsdam
from infoseg.data.store import load_prepared
from infoseg.errors import DataError
from infoseg.settings import CocoScenesSource, PotsdamScenesSource

COCO = CocoScenesSource(
    kind="coco_scenes", stuff_images=10, person_images=6, val_share=0.3, long_side=160,
    short_side=120,
)  # fmt: skip
TILES = PotsdamScenesSource(kind="potsdam_scenes", tiles=2, unlabelled=1, tile_size=256)
READERS = [
    (write_coco, COCO, prepare_coco_stuff, {"variant": "stuff15"}),
    (write_coco, COCO, prepare_coco_stuff, {"variant": "stuff3"}),
    (write_coco, COCO, prepare_coco_persons, {}),
    (write_potsdam, TILES, prepare_potsdam, {"variant": "potsdam6", "grid": 2, "crop": 64}),
]


def replace(scenes, **changes):
    return scenes.model_copy(update=changes)


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    write_coco(root := tmp_path_factory.mktemp("scenes") / "coco", COCO)
    return root


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("write", "counts"), [(write_coco, COCO), (write_potsdam, TILES)])
def test_a_seed_decides_the_bytes(tmp_path, monkeypatch, write, counts, zipped):
    monkeypatch.setattr("time.time", itertools.count(1e9, 99).__next__)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, replace(counts, seed=seed), zipped=zipped)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b and a.keys() == c.keys()
    assert not [n for n in a if n.endswith((".jpg", ".tif", ".zip")) and a[n] == c[n]]


def test_a_picture_does_not_depend_on_the_count(coco, tmp_path):
    write_coco(tmp_path / "few", replace(COCO, stuff_images=7, person_images=3))
    few, more = files(tmp_path / "few"), files(coco)
    pictures = [name for name in few if name.endswith((".jpg", ".png"))]
    assert [sum(s in n for n in pictures) for s in ("train", "val")] == [16, 4]
    assert all(few[name] == more[name] for name in pictures)


@pytest.mark.parametrize(("write", "counts", "prepare", "settings"), READERS)
def test_the_readers_take_folders_and_zips_alike(tmp_path, write, counts, prepare, settings):
    for zipped in (False, True):
        write(tmp_path / f"raw-{zipped}", counts, zipped=zipped)
        prepare(tmp_path / f"raw-{zipped}", tmp_path / f"{zipped}", name="set", **settings)
    assert {p.suffix for p in (tmp_path / "raw-True").rglob("*.*")} <= {".zip", ".txt", ".json"}
    folders, zips = (load_prepared(tmp_path / name) for name in ("False", "True"))
    assert zips.index.equals(folders.index)
    for name in ("images", "labels"):
        assert np.array_equal(getattr(zips, name), getattr(folders, name))
    assert all(folders.meta.class_pixels), "a class does not occur"


def mask_of(entry, shape):
    """An independent reading of an annotation: Pillow's polygons, or plain run lengths."""
    if entry["iscrowd"]:
        counts = entry["segmentation"]["counts"]
        return np.repeat(np.arange(len(counts)) % 2, counts).reshape(shape[::-1]).T.astype(bool)
    sheet = Image.new("1", shape[::-1])
    for points in entry["segmentation"]:
        ImageDraw.Draw(sheet).polygon([value - 0.5 for value in points], fill=1)
    return np.asarray(sheet)


def test_persons_are_annotated_as_the_maps_have_them(coco):
    crowds = 0
    for split in ("train2017", "val2017"):
        content = json.loads((coco / f"annotations/instances_{split}.json").read_text())
        crowds += sum(entry["iscrowd"] for entry in content["annotations"])
        for image in content["images"]:
            shape, name = (image["height"], image["width"]), image["file_name"]
            labels = Image.open(coco / f"stuffthingmaps/{split}/{name[:-4]}.png")
            assert Image.open(coco / f"images/{split}/{name}").size == labels.size == shape[::-1]
            persons = np.zeros(shape, bool)
            for entry in content["annotations"]:
                if entry["image_id"] == image["id"]:
                    mask = mask_of(entry, shape)
                    assert abs(mask.sum() - entry["area"]) < 0.15 * entry["area"]
                    x, y, wide, high = entry["bbox"]
                    assert mask[y : y + high, x : x + wide].sum() >= 0.97 * mask.sum()
                    persons |= mask
            drawn = np.asarray(labels) == 0
            assert drawn.any() == (image["id"] >= scenes.PERSON_ID)
            assert (persons & drawn).sum() >= 0.9 * (persons | drawn).sum()
    assert crowds


def test_tiles_have_four_bands_and_labels_the_six_colours(tmp_path):
    write_potsdam(tmp_path / "raw", TILES)
    tiles = sorted((tmp_path / "raw/4_Ortho_RGBIR").iterdir())
    labels = sorted((tmp_path / "raw/5_Labels_for_participants").iterdir())
    for file in tiles + labels:
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert pixels.shape == (256, 256, 4 if file in tiles else 3)
        if file in labels:
            colours = np.unique(pixels.reshape(-1, 3)[:, ::-1], axis=0) / 255
            assert set(map(tuple, colours.tolist())) <= set(COLOURS)
    assert (len(tiles), len(labels)) == (3, 2)


def test_an_interrupted_rendering_leaves_what_was_there(tmp_path, monkeypatch):
    write_coco(tmp_path / "coco", replace(COCO, stuff_images=1))
    before = files(tmp_path / "coco")
    monkeypatch.setattr(scenes, "coco_picture", lambda *_: 1 / 0)
    for name in ("coco", "fresh"):
        with pytest.raises(ZeroDivisionError):
            write_coco(tmp_path / name, COCO)
    assert [p.name for p in tmp_path.iterdir()] == ["coco"] and files(tmp_path / "coco") == before


def test_scenes_are_replaced_and_what_a_kill_left_is_removed(tmp_path):
    for name in (".raw.killed.tmp", ".raw.busy.tmp"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".raw.killed.tmp", (0, 0))
    for tiles in (2, 1):
        write_potsdam(tmp_path / "raw", replace(TILES, tiles=tiles))
    assert len(list((tmp_path / "raw/5_Labels_for_participants").iterdir())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".raw.busy.tmp", "raw"]


def test_anybody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="left alone"):
        write_coco(tmp_path, COCO)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("wrong", [{"tiles": 25}, {"unlabelled": 15}, {"tile_size": 100}])
def test_impossible_tiles(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PotsdamScenesSource(kind="potsdam_scenes", **{"tiles": 1, "unlabelled": 1} | wrong)
