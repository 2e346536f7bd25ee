"""A folder of one's own, the photographs of the repository, and groups of pictures alike.

Faults are in test_damage.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from helpers import CPU, ROOT, Columns, changed, prepare_raw, training
from PIL import Image
from test_archives import pack_folder

from infoseg.cli import main
from infoseg.data.batches import DeviceData
from infoseg.data.prepare import list_files
from infoseg.diagnostics import halves
from infoseg.files import DataError
from infoseg.runs import Project
from infoseg.settings import compose, parse_params
from infoseg.views import Sees

#: The CRC-32 of "beach" is even, that of "lake" odd; of the pictures' names only d's is even.
GROUPS = {"a": "beach", "b": "beach", "c": "lake", "d": "lake"}


def save(file, pixels, **more):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, format="png", **more)


def describe(raw, **more):
    content = {"labels": {"classes": {"0": "sky", "1": "road"}}, "ignore_index": 255} | more
    (raw / "dataset.json").write_text(json.dumps(content))


def write_folder(raw, sizes=((6, 9), (6, 9), (6, 9)), names=("a.png", "b.png", "c.png")):
    """Write pictures of (height, width), each with a label map of sky 0, road 1 and 255."""
    random = np.random.default_rng(0)
    for name, size in zip(names, sizes, strict=True):
        save(raw / "images" / name, random.integers(0, 256, (*size, 3), np.uint8))
        labels = random.choice(np.array([0, 1, 255], np.uint8), size)
        save(raw / "labels" / name.lower(), labels)
    describe(raw)


@pytest.fixture
def raw(tmp_path):
    """Three pictures, two of them labelled."""
    folder = tmp_path / "raw"
    write_folder(folder, [(6, 9), (5, 4), (7, 7)], ["b.png", "a.PNG", "c.png"])
    (folder / "labels/c.png").unlink()
    return folder


def prepare(raw, **more):
    return prepare_raw("folder", raw, raw.parent / "out", **({"labels": "labels"} | more))


def test_mixed_sizes_with_and_without_labels(raw):
    prepared = prepare(raw)
    assert list(prepared.index["id"]) == ["a", "b", "c"]
    assert prepared.index["labelled"].tolist() == [True, True, False]
    assert prepared.index["group"].tolist() == [""] * 3
    for i, (picture, labels) in enumerate([("a.PNG", "a.png"), ("b.png", "b.png")]):
        for array, file in (
            (prepared.image, f"images/{picture}"),
            (prepared.label, f"labels/{labels}"),
        ):
            np.testing.assert_array_equal(array(i), np.asarray(Image.open(raw / file)))
    assert (prepared.label(2) == 255).all()
    assert prepared.meta.classes == ["sky", "road"]
    assert list(prepared.meta.sources) == ["dataset.json"]


def test_without_labels_and_without_a_description(raw):
    (raw / "dataset.json").unlink()
    assert prepare(raw).meta.classes == ["class 0", "class 1"]
    prepared = prepare(raw, labels=None)
    assert not prepared.index["labelled"].any() and prepared.meta.classes == []


def test_maps_of_255_alone_are_no_labels_and_the_evaluation_says_so(tmp_path):
    raw = tmp_path / "pictures"
    write_folder(raw, [(40, 40)] * 3)
    for file in (raw / "labels").iterdir():
        save(file, np.full_like(Image.open(file), 255))
    (raw / "dataset.json").unlink()
    prepared = prepare(raw)
    assert not prepared.index["labelled"].any() and prepared.meta.classes == []
    tree = changed(compose("folder"), "sources.pictures.path", str(raw))
    tree["datasets"]["pictures"] |= {"labels": "labels", "crop": 32, "shorter_side": None}
    tree["profile"]["sources"]["pictures"] = str(raw)
    project = Project(tmp_path, parse_params(tree, "test"), ROOT, make_missing=True)
    with pytest.raises(DataError, match="no labels to evaluate with"):
        project.evaluate("pictures", "kmeans", 0)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_report_of_ones_own_pictures(tmp_path, monkeypatch, capsys, labelled):
    write_folder(tmp_path / "pictures", [(40, 40)] * 3)
    (tmp_path / "pictures/dataset.json").unlink()
    monkeypatch.setenv("INFOSEG_PICTURES", str(tmp_path / "pictures"))
    (tmp_path / "params.yaml").write_text("")
    for name in ("docs", "notebooks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    changes = [f"methods.infoseg.optimiser.{x}" for x in ("steps=2", "batch=2", "crop=32")]
    changes += ["datasets.pictures.crop=32"]
    changes += ["datasets.pictures.labels=labels", "datasets.pictures.clusters=2"] * labelled
    words = ["report", "--profile", "folder", *(word for x in changes for word in ("-S", x))]
    assert main(words) == 0
    said = capsys.readouterr().out
    if labelled:
        [page] = tmp_path.glob("results/*/report.html")
        assert "source not stated" in page.read_text() and "| K-Means" in said
        return
    assert "no labels to measure with" in said
    for method in ("kmeans", "infoseg"):
        [page] = tmp_path.glob(f"results/*/pages/pictures-{method}-0/index.html")
        assert "With the labels" not in page.read_text()
    [history] = tmp_path.glob("runs/*/pictures/infoseg/history.csv")
    assert history.read_text().startswith("seed,step,loss\n")


def test_a_zip_and_a_flat_folder_give_the_same_images(raw, tmp_path):
    expected = prepare(raw).meta
    archive = pack_folder(tmp_path / "own.zip", raw)
    [row] = list_files(archive)
    assert (row["file"], row["bytes"]) == ("own.zip", archive.stat().st_size)
    assert prepare(archive).meta == expected
    flat = prepare(raw / "images", labels=str(raw / "labels")).meta
    assert (flat.classes, flat.files) == (expected.classes, expected.files)
    archive.write_bytes(archive.read_bytes()[:-9])  # half-copied
    with pytest.raises(DataError, match=r"own\.zip: is not a whole zip archive"):
        prepare(archive, on_bad_input="skip")


def test_a_picture_is_turned_upright(raw):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 200  # first row bright
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show
    save(raw / "images/z.png", pixels, exif=exif)
    upright = prepare(raw).image(3)
    assert upright.shape == (6, 4, 3)
    assert (upright[:, 3] == 200).all() and (upright[:, :3] == 0).all()


def test_shorter_side_averages_and_never_enlarges(raw):
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, ::2] = 100
    save(raw / "images/d.png", pixels)
    save(raw / "labels/d.png", np.repeat([1, 0], 4)[:, None].repeat(12, 1).astype(np.uint8))
    prepared = prepare(raw, shorter_side=4)
    assert [prepared.image(i).shape[:2] for i in range(4)] == [(5, 4), (4, 6), (4, 4), (4, 6)]
    assert (prepared.image(3) == 50).all()
    assert prepared.label(3)[:, 0].tolist() == [1, 1, 0, 0]
    assert prepare(raw, shorter_side=100).image(0).shape == (5, 4, 3)


def test_four_bands(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 4, 4), np.uint8)
    (tmp_path / "raw").mkdir()
    tifffile.imwrite(tmp_path / "raw/t.tif", pixels, photometric="rgb")
    prepared = prepare(tmp_path / "raw", labels=None, channels=4)
    np.testing.assert_array_equal(prepared.image(0), pixels)


def test_a_picture_that_is_too_large(raw):
    (raw / "images/b.png").write_bytes(b"P6 30000 30000 255\n")
    with pytest.raises(DataError, match=r"b\.png: is 30,000 x 30,000 pixels.*Cut it"):
        prepare(raw)


# ---- groups, and the photographs of the repository -----------------------------------------------


def test_groups_reach_the_halves_of_an_evaluation(tmp_path):
    write_folder(tmp_path / "raw", [(32, 40)] * 4, [f"{name}.png" for name in GROUPS])
    describe(tmp_path / "raw", groups=GROUPS)
    prepared = prepare(tmp_path / "raw")
    assert dict(zip(prepared.index["id"], prepared.index["group"], strict=True)) == GROUPS
    data = DeviceData(prepared, 32, CPU, Sees())
    project = SimpleNamespace(params=SimpleNamespace(training=training()))
    measured = Project.measured(project, Columns("column"), data)
    assert halves(list(GROUPS)).sum() == 1
    counts = {half: part["images"] for half, part in measured["halves"].items()}
    assert counts == {"chosen": 2, "reported": 2}


def test_groups_that_do_not_name_every_picture_once(raw):
    for groups, message in (
        ({"a": "1", "b": "1"}, "'c' is missing"),
        ({"a": "1", "b": "1", "c": "2", "e": "2"}, "'e' is no picture"),
        ({"a": "1", "b": "1", "c": 2}, "TypeError"),
    ):
        describe(raw, groups=groups)
        with pytest.raises(DataError, match=rf'dataset\.json: .*{message}.*Expected "groups"'):
            prepare(raw, on_bad_input="skip")
    assert not (raw.parent / "out").exists()


@pytest.mark.parametrize(
    ("name", "classes", "pictures", "groups"),
    [
        ("outdoor", ["sky", "vegetation", "road"], 326, 59),
        ("coast", ["water", "wet or shallow", "dry land"], 936, 155),
    ],
)
def test_the_photographs_of_the_repository(tmp_path, name, classes, pictures, groups):
    archive = ROOT / f"data/photographs/{name}.zip"
    prepared = prepare_raw("folder", archive, tmp_path / "out", labels="labels")
    index = prepared.index
    assert prepared.meta.classes == classes and len(index) == pictures
    assert set(index[["height", "width"]].min(axis=1)) == {96}
    assert index["group"].nunique() == groups
    chosen = halves(index["id"], index["group"])
    assert 0.4 < chosen.mean() < 0.6
    assert not set(index["group"][chosen]) & set(index["group"][~chosen])
    assert min(prepared.meta.class_pixels) > 0.1 * sum(prepared.meta.class_pixels)
