"""Groups of pictures that are alike, and the photographs of the repository."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import CPU, ROOT, Columns, training
from PIL import Image
from test_archives import pack

from infoseg.data.batches import DeviceData
from infoseg.data.folder import prepare_folder
from infoseg.data.prepare import list_files, make_raw
from infoseg.data.store import load_prepared
from infoseg.diagnostics import halves
from infoseg.errors import DataError
from infoseg.runs import Project
from infoseg.settings import LocalSource
from infoseg.views import Sees

#: The CRC-32 of "beach" is even, that of "lake" odd; of the pictures' names only d's is even.
GROUPS = {"a": "beach", "b": "beach", "c": "lake", "d": "lake"}


@pytest.fixture
def raw(tmp_path):
    """Four labelled pictures in two groups."""
    random = np.random.default_rng(0)
    for folder, shape, values in (("images", (32, 40, 3), 256), ("labels", (32, 40), 2)):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        for name in GROUPS:
            pixels = random.integers(0, values, shape, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "raw" / folder / f"{name}.png")
    describe(tmp_path / "raw", json.dumps(GROUPS))
    return tmp_path / "raw"


def describe(raw, groups):
    classes = '"labels": {"classes": {"0": "sky", "1": "road"}}'
    (raw / "dataset.json").write_text(f'{{{classes}, "groups": {groups}}}')


def prepare(raw, out, **more):
    prepare_folder(raw, out, name="set", labels="labels", **more)
    return load_prepared(out, verify=True)


def test_groups_reach_the_halves_of_an_evaluation(raw, tmp_path):
    prepared = prepare(raw, tmp_path / "out")
    assert dict(zip(prepared.index["id"], prepared.index["group"], strict=True)) == GROUPS
    data = DeviceData(prepared, 32, CPU, Sees())
    project = SimpleNamespace(params=SimpleNamespace(training=training()))
    measured = Project.measured(project, Columns("column"), data)
    assert halves(list(GROUPS)).sum() == 1
    counts = {half: part["images"] for half, part in measured["halves"].items()}
    assert counts == {"chosen": 2, "reported": 2}


def test_pictures_without_groups(raw, tmp_path):
    describe(raw, "{}")
    assert prepare(raw, tmp_path / "out").index["group"].tolist() == [""] * 4


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ('{"a": "1", "b": "1", "c": "2"}', "'d' is missing"),
        ('{"a": "1", "b": "1", "c": "2", "d": "2", "e": "2"}', "'e' is no picture"),
        ('{"a": "1", "b": "1", "c": "2", "d": 2}', "TypeError"),
        ('["1", "1", "2", "2"]', "AttributeError"),
    ],
)
def test_groups_that_do_not_name_every_picture_once(raw, tmp_path, groups, message):
    describe(raw, groups)
    with pytest.raises(DataError, match=rf'dataset\.json: .*{message}.*Expected "groups"'):
        prepare(raw, tmp_path / "out", on_bad_input="skip")
    assert not (tmp_path / "out").exists()


def test_a_zip_is_a_local_source(tmp_path):
    file = pack(tmp_path / "raw.zip", [("images/a.png", b"")])
    make_raw(LocalSource(kind="local", path=str(file)), file)
    [row] = list_files(file)
    assert (row["file"], row["bytes"]) == ("raw.zip", file.stat().st_size)
    file.write_bytes(file.read_bytes()[:-9])  # half-copied
    with pytest.raises(DataError, match=r"raw\.zip: is not a whole zip archive"):
        prepare(file, tmp_path / "out", on_bad_input="skip")


@pytest.mark.parametrize(
    ("name", "classes", "pictures", "groups"),
    [
        ("outdoor", ["sky", "vegetation", "road"], 326, 59),
        ("coast", ["water", "wet or shallow", "dry land"], 936, 155),
    ],
)
def test_the_photographs_of_the_repository(tmp_path, name, classes, pictures, groups):
    prepared = prepare(ROOT / f"data/photographs/{name}.zip", tmp_path / "out")
    index = prepared.index
    assert prepared.meta.classes == classes and len(index) == pictures
    assert set(index[["height", "width"]].min(axis=1)) == {96}
    assert index["group"].nunique() == groups
    chosen = halves(index["id"], index["group"])
    assert 0.4 < chosen.mean() < 0.6
    assert not set(index["group"][chosen]) & set(index["group"][~chosen])
    assert min(prepared.meta.class_pixels) > 0.1 * sum(prepared.meta.class_pixels)
