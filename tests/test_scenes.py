"""The rendered scenes: official layouts, the same bytes for a seed, nothing half-written."""

import itertools
import json
import shutil

import cv2
import numpy as np
import pytest
from helpers import prepare_raw
from PIL import Image
from test_archives import pack_folder

from infoseg.data import scenes
from infoseg.data.potsdam import COLOURS
from infoseg.data.scenes import write_coco, write_potsdam
from infoseg.files import DataError
from infoseg.settings import CocoScenesSource, PotsdamScenesSource

COCO = CocoScenesSource(
    kind="coco_scenes", stuff_images=10, person_images=6, val_share=0.3, long_side=160,
    short_side=120,
)  # fmt: skip
TILES = PotsdamScenesSource(kind="potsdam_scenes", tiles=2, unlabelled=1, tile_size=256)
READERS = [
    (write_coco, COCO, "coco_stuff", {"variant": "stuff15"}),
    (write_coco, COCO, "coco_persons", {"min_side": 0}),
    (write_potsdam, TILES, "potsdam", {"variant": "potsdam6", "grid": 2, "crop": 64}),
]

#: Official archive of every folder, and the folder's name in it. Id lists are published unpacked.
ZIPS = {
    "images/train2017": ("train2017.zip", "train2017/"),
    "images/val2017": ("val2017.zip", "val2017/"),
    "annotations": ("annotations_trainval2017.zip", "annotations/"),
    "stuffthingmaps": ("stuffthingmaps_trainval2017.zip", ""),
    "4_Ortho_RGBIR": ("4_Ortho_RGBIR.zip", "4_Ortho_RGBIR/"),
    "5_Labels_for_participants": ("5_Labels_for_participants.zip", "5_Labels_for_participants/"),
}


def replace(scenes, **changes):
    return scenes.model_copy(update=changes)


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    write_coco(root := tmp_path_factory.mktemp("scenes") / "coco", COCO)
    return root


@pytest.mark.parametrize(("write", "counts"), [(write_coco, COCO), (write_potsdam, TILES)])
def test_a_seed_decides_the_bytes(tmp_path, monkeypatch, write, counts):
    monkeypatch.setattr("time.time", itertools.count(1e9, 99).__next__)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, replace(counts, seed=seed))
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b and a.keys() == c.keys()
    assert not [n for n in a if n.endswith((".jpg", ".tif")) and a[n] == c[n]]


def test_a_picture_does_not_depend_on_the_count(coco, tmp_path):
    write_coco(tmp_path / "few", replace(COCO, stuff_images=7, person_images=3))
    few, more = files(tmp_path / "few"), files(coco)
    pictures = [name for name in few if name.endswith((".jpg", ".png"))]
    assert [sum(s in n for n in pictures) for s in ("train", "val")] == [16, 4]
    assert all(few[name] == more[name] for name in pictures)


@pytest.mark.parametrize(("write", "counts", "kind", "settings"), READERS)
def test_the_readers_take_folders_and_zips_alike(tmp_path, write, counts, kind, settings):
    raw = tmp_path / "raw"
    write(raw, counts)
    folders = prepare_raw(kind, raw, tmp_path / "folders", **settings)
    for folder, (name, inside) in ZIPS.items():
        if (raw / folder).exists():
            pack_folder(raw / name, raw / folder, inside)
            shutil.rmtree(raw / folder)
    zips = prepare_raw(kind, raw, tmp_path / "zips", **settings)
    assert zips.index.equals(folders.index)
    for name in ("images", "labels"):
        assert np.array_equal(getattr(zips, name), getattr(folders, name))
    assert all(folders.meta.class_pixels), "a class does not occur"


def test_persons_are_annotated_as_the_maps_have_them(coco, tmp_path):
    crowds = 0
    for split in ("train2017", "val2017"):
        content = json.loads((coco / f"annotations/instances_{split}.json").read_text())
        crowds += sum(entry["iscrowd"] for entry in content["annotations"])
    assert crowds
    prepared = prepare_raw("coco_persons", coco, tmp_path / "out", min_side=0, crowd="person")
    for i, row in enumerate(prepared.index.itertuples()):
        assert int(row.id) >= scenes.PERSON_ID
        drawn = np.asarray(Image.open(coco / f"stuffthingmaps/{row.split}/{row.id}.png")) == 0
        persons = prepared.label(i) == 1
        assert (persons & drawn).sum() >= 0.9 * (persons | drawn).sum()


def test_tiles_have_four_bands_and_labels_the_six_colours(tmp_path):
    write_potsdam(tmp_path / "raw", TILES)
    for folder, count, bands in (("4_Ortho_RGBIR", 3, 4), ("5_Labels_for_participants", 2, 3)):
        pictures = [cv2.imread(str(f), -1) for f in (tmp_path / "raw" / folder).iterdir()]
        assert [pixels.shape for pixels in pictures] == [(256, 256, bands)] * count
    colours = np.unique(np.reshape(pictures, (-1, 3))[:, ::-1], axis=0) / 255
    assert set(map(tuple, colours.tolist())) <= set(COLOURS)


def test_an_interrupted_rendering_leaves_what_was_there(tmp_path, monkeypatch):
    write_coco(tmp_path / "coco", replace(COCO, stuff_images=1))
    before = files(tmp_path / "coco")
    monkeypatch.setattr(scenes, "coco_picture", lambda *_: 1 / 0)
    for name in ("coco", "fresh"):
        with pytest.raises(ZeroDivisionError):
            write_coco(tmp_path / name, COCO)
    assert {p.name for p in tmp_path.iterdir()} == {"coco", ".coco.lock", ".fresh.lock"}
    assert files(tmp_path / "coco") == before


def test_scenes_are_replaced_and_what_a_kill_left_is_removed(tmp_path):
    (tmp_path / ".raw.partial/new").mkdir(parents=True)
    for tiles in (2, 1):
        write_potsdam(tmp_path / "raw", replace(TILES, tiles=tiles))
    assert len(list((tmp_path / "raw/5_Labels_for_participants").iterdir())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".raw.lock", "raw"]
    with pytest.raises(DataError, match="left alone"):
        write_coco(tmp_path, COCO)  # anybody else's folder
    assert (tmp_path / "raw").is_dir()


@pytest.mark.parametrize("wrong", [{"tiles": 25}, {"unlabelled": 15}, {"tile_size": 100}])
def test_impossible_tiles(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PotsdamScenesSource(kind="potsdam_scenes", **{"tiles": 1, "unlabelled": 1} | wrong)
