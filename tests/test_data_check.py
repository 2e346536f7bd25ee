"""`infoseg data check`: the state of every data set, in words, and contact sheets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, random_images, write_prepared
from PIL import Image

from infoseg.data import contact_sheet
from infoseg.data.check import Status, check_data, format_status, write_contact_sheet
from infoseg.data.contact_sheet import CAPTION, CELL, EDGE, GAP, PAIR_GAP, TITLE
from infoseg.data.store import PreparedWriter, load_prepared
from infoseg.errors import DataError
from infoseg.params import Params, compose, parse_params
from infoseg.project import Project
from infoseg.reporting.palette import class_colours

NAME = "coco_stuff3"
SIDE = 144
"""Of the images here, in pixels; the tiny profile's crop fits in."""


@pytest.fixture(scope="module")
def tree() -> dict:
    """The tiny profile with COCO-Stuff-3 alone, without superpixels."""
    made = compose(ROOT / "conf", "tiny")
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


# ---- contact sheets ------------------------------------------------------------------------------


def pair_corner(k: int, cells: int = 2) -> tuple[int, int]:
    """Where the k-th image's cell begins on the sheet: row and column in pixels."""
    across = 4 * 2 // cells
    wide = cells * (CELL + GAP) - GAP + PAIR_GAP
    return TITLE + k // across * (CELL + CAPTION), EDGE + k % across * wide


def test_a_contact_sheet_shows_24_images_beside_their_labels(tmp_path):
    colours = class_colours(3)
    images = [np.full((40, 90, 4), 5 * i, np.uint8) for i in range(47)]
    for image in images:
        image[:, :25] = image[:, 65:] = 255  # outside the middle square
    labels = [np.full((40, 90), i % 3, np.uint8) for i in range(47)]
    made = write_prepared(tmp_path / "data", images, labels)
    file = write_contact_sheet(made, tmp_path / "sheet.png")
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        assert picture.width == 4 * (2 * CELL + GAP) + 3 * PAIR_GAP + 2 * EDGE
        assert picture.height >= TITLE + 6 * (CELL + CAPTION) + EDGE
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for k in range(24):  # evenly spaced: every second one
        row, column = pair_corner(k)
        cell = pixels[row + 4 : row + CELL - 4, column + 4 : column + CELL - 4]
        assert abs(cell - 5 * 2 * k).max() <= 1
        at = column + CELL + GAP
        label = pixels[row + 4 : row + CELL - 4, at + 4 : at + CELL - 4]
        assert (label == colours[2 * k % 3]).all()


def test_the_sheet_differs_when_the_labels_do(tmp_path):
    images, labels = random_images(3)
    sheets = []
    for name in ("one", "same", "other"):
        if name == "other":
            labels[1][10, 10] = (labels[1][10, 10] + 1) % 3
        made = write_prepared(tmp_path / name, images, labels)
        sheets.append(write_contact_sheet(made, tmp_path / f"{name}.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_labelled_images_go_before_unlabelled_ones(tmp_path):
    images, labels = random_images(5)
    made = write_prepared(tmp_path / "some", images, [None, labels[1], None, labels[3], None])
    assert contact_sheet._chosen(made, 24) == ([1, 3], True)
    assert contact_sheet._chosen(made, 1) == ([1], True)
    none = write_prepared(tmp_path / "none", images, [None] * 5, classes=0)
    assert contact_sheet._chosen(none, 3) == ([0, 2, 4], False)
    file = write_contact_sheet(none, tmp_path / "none.png", n=3)
    pixels = np.asarray(Image.open(file).convert("RGB"))
    row, column = pair_corner(2, cells=1)
    expected = np.asarray(Image.fromarray(images[4]).resize((CELL, CELL), Image.Resampling.LANCZOS))
    shown = pixels[row : row + CELL, column : column + CELL].astype(int)
    assert abs(shown - expected).mean() < 1


def test_sheets_that_cannot_be_drawn_are_refused(tmp_path):
    made = write_prepared(tmp_path / "data", *random_images(1))
    for file, n in (("sheet.jpg", 24), ("sheet.png", 0)):
        with pytest.raises(ValueError, match=r"\.png"):
            write_contact_sheet(made, tmp_path / file, n)
    many = write_prepared(tmp_path / "many", *random_images(1), classes=28)
    with pytest.raises(DataError, match="28 classes"):
        write_contact_sheet(many, tmp_path / "sheet.png")
    assert not list(tmp_path.glob("*.png"))
    assert json.loads((tmp_path / "data/meta.json").read_text())["n_images"] == 1
