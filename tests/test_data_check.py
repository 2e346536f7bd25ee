"""`infoseg data check`: the state of every data set, in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, random_images

from infoseg.data.check import Status, check_data, format_status
from infoseg.data.store import PreparedWriter, load_prepared
from infoseg.runs import Project
from infoseg.settings import Params, compose, parse_params

NAME = "coco_stuff3"
SIDE = 144
"""Of the images here, in pixels; the tiny profile's crop fits in."""


@pytest.fixture(scope="module")
def tree() -> dict:
    """The tiny profile with COCO-Stuff-3 alone, without superpixels."""
    made = compose("tiny")
    made["profile"]["datasets"] = [NAME]
    made["datasets"][NAME]["superpixels"] = None
    return made


@pytest.fixture(scope="module")
def params(tree) -> Params:
    return parse_params(tree, "test")


@pytest.fixture
def project(tmp_path, params) -> Project:
    return Project(tmp_path, params, ROOT)


def write(project: Project, images, labels, classes: int = 3, skipped=(), **changes) -> None:
    """Prepared arrays as the project's settings, but for the changes, would make them."""
    parameters = project.params.datasets[NAME].model_dump() | changes
    with PreparedWriter(
        project.prepared(NAME),
        name=NAME,
        channels=3,
        classes=[f"class{i}" for i in range(classes)],
        parameters=parameters,
    ) as writer:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            writer.add(f"image{i}", image, label, "train")
        for file in skipped:
            writer.skip(file, "cannot be decoded")


@pytest.fixture
def prepared(project) -> Project:
    """A project whose data set is there: four images, three labelled, a class absent."""
    images, labels = random_images(4, size=SIDE, classes=2)
    labels[0][:] = 255
    write(project, images, [*labels[:3], None])
    return project


def state_of(project: Project, **how) -> Status:
    [status] = check_data(project, **how)
    assert (status.dataset, status.title) == (NAME, project.params.datasets[NAME].title)
    assert status.folder == project.prepared(NAME)
    return status


def test_raw_files_that_are_not_there_are_missing(project):
    status = state_of(project)
    assert status.state == "missing" and status.contents is None
    assert str(project.raw("coco")) in status.problem
    assert f"infoseg prepare {NAME} --profile tiny" in status.advice
    assert "renders" in status.advice


def test_for_ones_own_files_the_setting_to_correct_is_named(tmp_path, tree):
    local = {"kind": "local", "path": str(tmp_path / "nowhere")}
    changed = tree | {"sources": tree["sources"] | {"coco": local}}
    status = state_of(Project(tmp_path, parse_params(changed, "test"), ROOT))
    assert status.state == "missing" and "nowhere" in status.problem
    assert "sources.coco.path" in status.advice


def test_raw_files_that_are_not_prepared_are_present(project):
    project.raw("coco").mkdir(parents=True)
    status = state_of(project)
    assert (status.state, status.problem) == ("present", "")
    assert status.advice == f"Run `infoseg prepare {NAME} --profile tiny`"


def test_what_is_wrong_with_raw_files_can_be_asked_elsewhere(prepared, tree):
    changed = tree | {
        "datasets": tree["datasets"] | {"again": tree["datasets"][NAME]},
        "profile": tree["profile"]
        | {"datasets": [NAME, "again"], "inputs": {NAME: "coco", "again": "coco"}},
    }
    asked = []

    def raw_problem(source: str) -> str:
        asked.append(source)
        return "val2017.zip is missing"

    both = Project(prepared.folder, parse_params(changed, "test"), ROOT)
    states = check_data(both, raw_problem=raw_problem)
    assert [status.state for status in states] == ["prepared", "missing"]
    assert states[1].problem == "val2017.zip is missing"
    assert asked == ["coco"]


def test_a_prepared_data_set_is_counted(prepared):
    status = state_of(prepared)
    assert (status.state, status.problem, status.advice) == ("prepared", "", "")
    contents, folder = status.contents, prepared.prepared(NAME)
    assert (contents.images, contents.labelled, contents.splits) == (4, 3, {"train": (4, 3)})
    labels = np.concatenate([load_prepared(folder).label(i).ravel() for i in (1, 2)])
    share = 100 * np.mean(labels == 0)
    expected = [("class0", share), ("class1", 100 - share), ("class2", 0.0)]
    assert [name for name, _ in contents.shares] == [name for name, _ in expected]
    assert [value for _, value in contents.shares] == pytest.approx([v for _, v in expected])
    assert contents.ignored == pytest.approx(100 / 3)
    assert contents.bytes == sum(file.stat().st_size for file in folder.iterdir())


def test_checking_changes_nothing(prepared):
    def state() -> list:
        return [(f, f.stat().st_mtime_ns) for f in sorted(prepared.folder.rglob("*"))]

    before = state()
    check_data(prepared)
    assert state() == before


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "flipped": (flip, "contents have changed"),
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "truncated"),
    "longer": (lambda file: file.write_bytes(file.read_bytes() + b"x"), "overwritten"),
    "missing": (lambda file: file.unlink(), "not found"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), "not found"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["images.bin", "labels.bin", "index.csv"])
def test_a_damaged_file_is_named(prepared, name, damage):
    file = prepared.prepared(NAME) / name
    harm, problem = DAMAGE[damage]
    harm(file)
    status = state_of(prepared)
    assert (status.state, status.file, status.contents) == ("corrupt", file, None)
    assert str(file) in status.problem and problem in status.problem
    assert f"infoseg prepare {NAME}" in status.advice


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"format_version": 0}'])
def test_a_damaged_description_is_named(prepared, content):
    file = prepared.prepared(NAME) / "meta.json"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    status = state_of(prepared)
    assert (status.state, status.file) == ("corrupt", file)


def outdated(project: Project, classes: int = 3, side: int = SIDE, **changes) -> Status:
    images, labels = random_images(1, size=side, classes=classes)
    write(project, images, labels, classes, skipped=["images/two.jpg"], **changes)
    status = state_of(project)
    assert (status.state, status.contents.images) == ("outdated", 1)
    assert status.advice
    return status


def test_data_made_with_another_setting_are_outdated(project):
    assert "another scale" in outdated(project, scale=0.5).problem


def test_data_that_contradict_the_settings_are_outdated(project):
    assert f"datasets.{NAME}" in outdated(project, classes=4).problem
    side = project.params.datasets[NAME].crop - 1
    assert f"datasets.{NAME}.crop" in outdated(project, side=side).problem


def test_the_states_in_words(prepared):
    damaged = Project(prepared.folder / "other", prepared.params, ROOT)
    status = outdated(damaged, scale=0.5)
    text = format_status([state_of(prepared), status], width=80)
    assert all(len(line) <= 80 or " " not in line.strip() for line in text.splitlines())
    for words in (
        f"{NAME} (COCO-Stuff-3): prepared",
        "4 images (train 4), 3 labelled",
        "class2 0.0",
        "33.3 % of the labelled",
        f"{NAME} (COCO-Stuff-3): outdated",
        "1 image (train 1), all labelled",
        "1 input left out: images/two.jpg: cannot be decoded",
        f"infoseg prepare {NAME} --profile tiny",
    ):
        assert words in " ".join(text.split()), words
