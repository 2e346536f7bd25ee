"""The procedural scenes: the layouts readers rely on, determinism, colour not being enough."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from infoseg.data import scene_views, scenes
from infoseg.data.coco import IGNORE, STUFF15_CLASSES, stuff3_lookup, stuff15_lookup
from infoseg.data.scene_annotations import polygons, run_lengths
from infoseg.data.scenes import CocoScenes, PotsdamScenes, write_coco, write_potsdam

SPLITS = ("train2017", "val2017")
SMALL = CocoScenes(stuff_images=46, person_images=8)
TINY = CocoScenes(stuff_images=3, person_images=2, long_side=160, short_side=120, val_share=0.4)
TILE = PotsdamScenes(tiles=2, unlabelled=1, tile_size=512)
SMALLEST_SHARE = 0.015  # every stuff class must have this share of all stuff pixels


def files(root):
    """Path below root -> bytes, of every file."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def read(path):
    return np.asarray(Image.open(path))


def listed(root, name):
    return {i for s in SPLITS for i in (root / "curated" / s / name).read_text().split()}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "coco"
    write_coco(root, SMALL)
    return root


@pytest.fixture(scope="module")
def potsdam(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "potsdam"
    write_potsdam(root, TILE)
    return root


@pytest.fixture(scope="module")
def annotations(coco):
    """Both splits' annotation files, and per image id the fine labels."""
    contents = [json.loads((coco / f"annotations/instances_{s}.json").read_text()) for s in SPLITS]
    labels = {int(p.stem): read(p) for p in (coco / "stuffthingmaps").rglob("*.png")}
    return contents, labels


# --- determinism -------------------------------------------------------------------------------


ONE_TILE = PotsdamScenes(tiles=1, unlabelled=0, tile_size=256)


@pytest.mark.parametrize(("write", "scenes"), [(write_coco, TINY), (write_potsdam, ONE_TILE)])
def test_same_seed_same_bytes_other_seed_other_pictures(tmp_path, write, scenes):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, replace(scenes, seed=seed))
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    pictures = [name for name in a if name.endswith((".jpg", ".tif"))]
    assert len(pictures) == (5 if write is write_coco else 2)
    assert not [name for name in pictures if c.get(name) == a[name]]


def test_higher_counts_leave_earlier_pictures_alone(tmp_path):
    write_coco(tmp_path / "few", TINY)
    write_coco(
        tmp_path / "more", CocoScenes(**{**vars(TINY), "stuff_images": 5, "person_images": 3})
    )
    few, more = files(tmp_path / "few"), files(tmp_path / "more")
    pictures = [name for name in few if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 10
    assert all(few[name] == more[name] for name in pictures)
    assert len([name for name in more if name.endswith(".jpg")]) == 8


# --- COCO layout -------------------------------------------------------------------------------


def test_every_picture_has_a_map_of_its_size_with_legal_values(coco):
    pictures = sorted((coco / "images").rglob("*.jpg"))
    assert len(pictures) == 54
    for path in pictures:
        labels = Image.open(coco / "stuffthingmaps" / path.parent.name / f"{path.stem}.png")
        image = Image.open(path)
        assert (image.mode, labels.mode, len(path.stem)) == ("RGB", "L", 12)
        assert image.size == labels.size
        assert min(image.size) >= 200
        values = np.unique(np.asarray(labels))
        assert np.all((values < 182) | (values == IGNORE))


def test_val_share_is_kept_and_landscape_and_portrait_occur(coco):
    train, val = ({p.name for p in (coco / "images" / split).iterdir()} for split in SPLITS)
    assert len(val) == 4 and not train & val
    sizes = [Image.open(p).size for p in (coco / "images").rglob("*.jpg")]
    assert any(w > 1.15 * h for w, h in sizes) and any(h > 1.15 * w for w, h in sizes)


def test_curated_lists_hold_what_they_promise(coco, annotations):
    _, labels = annotations
    full, few = listed(coco, scenes.FULL_LIST), listed(coco, scenes.FEW_LIST)
    stuff = {f"{i:012d}" for i in labels if i < scenes.PERSON_ID}
    assert full <= stuff and few <= stuff
    assert len(few) >= 0.5 * len(stuff)
    for i in stuff:
        share15 = np.mean(stuff15_lookup()[labels[int(i)]] != IGNORE)
        share3 = np.mean(stuff3_lookup()[labels[int(i)]] != IGNORE)
        assert (i in full) == (share15 >= 0.75)
        assert i not in few or share3 >= 0.5
        assert not np.any(labels[int(i)] == 0), "a person in a stuff picture"
    text = (coco / "curated/train2017" / scenes.FEW_LIST).read_text()
    assert text.endswith("\n") and text.split("\n")[:-1] == sorted(text.split())


def test_all_stuff_classes_have_their_share(annotations):
    _, labels = annotations
    counts = sum(
        np.bincount(stuff15_lookup()[x].ravel(), minlength=256)[:15]
        for i, x in labels.items()
        if i < scenes.PERSON_ID
    )
    share = dict(zip(STUFF15_CLASSES, counts / counts.sum(), strict=True))
    assert min(share.values()) >= SMALLEST_SHARE, share


def test_horizons_vary(annotations):
    """Position alone must not tell sky from ground."""
    _, labels = annotations
    heights = [
        np.mean(np.argwhere(stuff3_lookup()[x] == 2)[:, 0]) / len(x)
        for i, x in labels.items()
        if i < scenes.PERSON_ID and (stuff3_lookup()[x] == 2).mean() > 0.05
    ]
    assert np.ptp(heights) > 0.25


# --- people ------------------------------------------------------------------------------------


def rasterise(entry, shape):
    """An independent reading of an annotation: Pillow's polygons, or plain run lengths."""
    if entry["iscrowd"]:
        counts = entry["segmentation"]["counts"]
        assert entry["segmentation"]["size"] == list(shape) and sum(counts) == shape[0] * shape[1]
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        return flat.reshape(shape[::-1]).T.astype(bool)
    sheet = Image.new("1", shape[::-1])
    for flat in entry["segmentation"]:
        assert len(flat) >= 6 and len(flat) % 2 == 0
        xs, ys = flat[::2], flat[1::2]
        assert min(flat) >= 0 and max(xs) <= shape[1] and max(ys) <= shape[0]
        points = [(x - 0.5, y - 0.5) for x, y in zip(xs, ys, strict=True)]
        ImageDraw.Draw(sheet).polygon(points, fill=1)
    return np.asarray(sheet)


def test_annotations_agree_with_the_maps(annotations):
    contents, labels = annotations
    found, crowds, people = {}, 0, []
    for content in contents:
        assert {"id": 1, "name": "person"}.items() <= content["categories"][0].items()
        sizes = {e["id"]: (e["height"], e["width"]) for e in content["images"]}
        assert all(labels[i].shape == size for i, size in sizes.items())
        assert all(e["file_name"] == f"{e['id']:012d}.jpg" for e in content["images"])
        for entry in content["annotations"]:
            mask = rasterise(entry, sizes[entry["image_id"]])
            assert abs(mask.sum() - entry["area"]) <= 0.1 * entry["area"] + 20
            x, y, w, h = entry["bbox"]
            assert mask[y : y + h, x : x + w].sum() >= 0.97 * mask.sum()
            found.setdefault(entry["image_id"], np.zeros(mask.shape, bool))
            found[entry["image_id"]] |= mask
            crowds += entry["iscrowd"]
            people.append(entry["id"])
    assert len(set(people)) == len(people)
    assert crowds == 1
    drawn = {i for i in labels if i >= scenes.PERSON_ID}
    assert set(found) == drawn
    for i in drawn:
        person = labels[i] == 0
        assert 0.08 < person.mean() < 0.72
        assert (person & found[i]).sum() / (person | found[i]).sum() > 0.9


def test_polygons_keep_the_hole_between_arm_and_body():
    ring = np.zeros((60, 80), bool)
    ring[10:50, 10:70] = True
    ring[20:40, 25:55] = False
    entry = {"segmentation": polygons(ring), "iscrowd": 0}
    again = rasterise(entry, ring.shape)
    assert not again[30, 40] and again[15, 40]
    assert (ring & again).sum() / (ring | again).sum() > 0.9


def test_run_lengths_go_down_the_columns_and_start_with_background():
    mask = np.array([[1, 0], [1, 1], [0, 1]], bool)
    assert run_lengths(mask) == {"counts": [0, 2, 2, 2], "size": [3, 2]}
    assert run_lengths(np.zeros((2, 3), bool))["counts"] == [6]


# --- colour is not enough ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_class_pixels(coco, annotations):
    """Colours (n, 3), classes (n,) and hues of a sample of the three-class pictures."""
    _, labels = annotations
    rng = np.random.default_rng(0)
    colours, classes, means = [], [], []
    for i in sorted(listed(coco, scenes.FEW_LIST)):
        path = next((coco / "images").glob(f"*/{i}.jpg"))
        truth, rgb = stuff3_lookup()[labels[int(i)]], read(path)
        for k in range(3):
            if np.mean(truth == k) > 0.05:
                means.append((k, rgb[truth == k].mean(0)))
        rows, cols = np.nonzero(truth != IGNORE)
        pick = rng.integers(len(rows), size=600)
        colours.append(rgb[rows[pick], cols[pick]])
        classes.append(truth[rows[pick], cols[pick]])
    return np.concatenate(colours) / 255.0, np.concatenate(classes), means


def test_clustering_colours_does_not_solve_three_classes(three_class_pixels):
    colours, classes, _ = three_class_pixels
    assert set(np.unique(classes)) == {0, 1, 2}
    found = KMeans(3, n_init=3, random_state=0).fit_predict(colours)
    table = np.histogram2d(found, classes, bins=(3, 3))[0]
    accuracy = table[linear_sum_assignment(-table)].sum() / len(classes)
    assert accuracy < 0.7


def test_every_class_comes_in_many_hues(three_class_pixels):
    *_, means = three_class_pixels
    for k in range(3):
        rgb = np.array([m for kind, m in means if kind == k])
        a, b = rgb[:, 0] - rgb[:, 1], (rgb[:, 0] + rgb[:, 1]) / 2 - rgb[:, 2]
        quarter = np.unique(np.floor(np.arctan2(b, a) / (np.pi / 2)))
        assert len(quarter) >= 3, f"class {k} keeps to {len(quarter)} quarter(s) of the hues"
        assert rgb.mean(1).std() > 15, f"class {k} is always equally bright"


# --- Potsdam -----------------------------------------------------------------------------------


def test_potsdam_layout(potsdam):
    ortho = sorted(p.name for p in (potsdam / "4_Ortho_RGBIR").iterdir())
    marked = sorted(p.name for p in (potsdam / "5_Labels_for_participants").iterdir())
    assert ortho == [f"top_potsdam_{t}_RGBIR.tif" for t in ("2_10", "2_13", "3_10")]
    assert marked == [f"top_potsdam_{t}_label.tif" for t in ("2_10", "3_10")]
    for name in ortho:
        image = tifffile.imread(potsdam / "4_Ortho_RGBIR" / name)
        assert (image.shape, image.dtype) == ((512, 512, 4), np.uint8)
        assert image.reshape(-1, 4).std(0).min() > 10


def test_potsdam_labels_have_only_the_six_colours_each_often_enough(potsdam):
    total = np.zeros(6)
    for path in (potsdam / "5_Labels_for_participants").iterdir():
        image = tifffile.imread(path)
        assert (image.shape, image.dtype) == ((512, 512, 3), np.uint8)
        hits = [np.all(image == colour, axis=2).mean() for colour in scenes.POTSDAM_COLOURS]
        assert sum(hits) == pytest.approx(1)
        total += hits
    share = total / 2
    assert share.min() > 0.012, share
    assert share[4] < 0.08, "cars are small things"


def test_infrared_alone_does_not_give_vegetation(potsdam):
    """Best single threshold on the infrared band over all tiles stays clearly below perfect."""
    values, plants = [], []
    for path in (potsdam / "5_Labels_for_participants").iterdir():
        image = tifffile.imread(path)
        name = path.name.replace("label", "RGBIR")
        values.append(tifffile.imread(potsdam / "4_Ortho_RGBIR" / name)[..., 3].ravel())
        plants.append(((image[..., 1] == 255) & (image[..., 0] == 0)).ravel())
    values, plants = np.concatenate(values), np.concatenate(plants)
    best = max(np.mean((values > t) == plants) for t in range(20, 220, 10))
    assert 0.6 < best < 0.93


# --- folders and parameters --------------------------------------------------------------------


def test_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    write_coco(tmp_path / "coco", TINY)
    before = files(tmp_path / "coco")
    monkeypatch.setattr(scene_views, "compose", fail)
    for name in ("coco", "fresh"):
        with pytest.raises(KeyboardInterrupt):
            write_coco(tmp_path / name, TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["coco"]
    assert files(tmp_path / "coco") == before


def test_own_folder_is_replaced(tmp_path):
    write_potsdam(tmp_path / "p", PotsdamScenes(tiles=2, unlabelled=0, tile_size=256))
    write_potsdam(tmp_path / "p", PotsdamScenes(tiles=1, unlabelled=0, tile_size=256))
    assert len(list((tmp_path / "p/4_Ortho_RGBIR").iterdir())) == 1
    mark = json.loads((tmp_path / "p" / scenes.MARK).read_text())
    assert mark["parameters"]["tiles"] == 1 and mark["layout"] == "potsdam"
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("mark", [None, "{}", "no json", '{"generator": "another"}'])
def test_foreign_folder_is_left_alone(tmp_path, mark):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    if mark is not None:
        (tmp_path / "mine" / scenes.MARK).write_text(mark)
    with pytest.raises(FileExistsError, match="left alone"):
        write_coco(tmp_path / "mine", TINY)
    assert (tmp_path / "mine/thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"stuff_images": -1}, {"val_share": 1}, {"short_side": 400}, {"short_side": 20}],
)
def test_impossible_coco_parameters_are_refused(wrong):
    with pytest.raises(ValueError):
        CocoScenes(**wrong)


@pytest.mark.parametrize("wrong", [{"tiles": 25}, {"unlabelled": 15}, {"tile_size": 100}])
def test_impossible_potsdam_parameters_are_refused(wrong):
    with pytest.raises(ValueError):
        PotsdamScenes(**wrong)


KILLED = """
import os, signal, sys
from infoseg.data import scenes

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

scenes._save = killed
scenes.write_coco(scenes.Path(sys.argv[1]), scenes.CocoScenes(stuff_images=3, person_images=0))
"""


def test_what_a_killed_rendering_left_is_removed_by_the_next(tmp_path):
    root = tmp_path / "coco"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root)])
    assert killed.returncode == -signal.SIGKILL
    assert [path.name[:14] for path in tmp_path.iterdir()] == [".coco.writing-"]
    write_coco(root, TINY)
    assert list(tmp_path.iterdir()) == [root]
