"""`infoseg data`: a line for every source and data set; and a reader for every kind of data set."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from helpers import ROOT, one_data_set, random_images

from infoseg.cli import data_status
from infoseg.data.prepare import readers
from infoseg.data.store import PreparedWriter
from infoseg.runs import Project
from infoseg.settings import KINDS, parse_params

NAME = "coco_stuff3"
COMMAND = f"run `infoseg prepare {NAME} --profile tiny`"


@pytest.fixture
def project(tmp_path) -> Project:
    """The tiny profile with COCO-Stuff-3 alone, without superpixels; its raw files are there."""
    tree = one_data_set(2)
    tree["datasets"][NAME]["superpixels"] = None
    (tmp_path / "raw/tiny/coco").mkdir(parents=True)
    return Project(tmp_path, parse_params(tree, "test"), ROOT)


def write(project: Project, classes: int = 3, side: int = 144, **changes) -> None:
    """Prepared arrays as the project's settings, but for the changes, would make them."""
    images, labels = random_images(4, size=side, classes=2)
    labels[0][:], labels[1][:], labels[2][:], labels[3] = 255, 0, 1, None
    with PreparedWriter(
        project.prepared(NAME), name=NAME, channels=3, notes=["a note"],
        classes=[f"class{i}" for i in range(classes)],
        parameters=project.params.datasets[NAME].model_dump() | changes,
    ) as writer:  # fmt: skip
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            writer.add(f"image{i}", image, label, "train")
        writer.skip("images/two.jpg", "cannot be decoded")


def status(project: Project, capsys) -> tuple[int, list[str]]:
    code = data_status(project)
    return code, capsys.readouterr().out.splitlines()


def test_missing_sources_and_data_sets_say_what_to_do(project, capsys):
    code, lines = status(project, capsys)
    assert code == 1
    assert lines == [f"coco: there, {project.raw('coco')}", f"{NAME}: not prepared; {COMMAND}"]
    project.raw("coco").rmdir()
    _, lines = status(project, capsys)
    assert re.fullmatch(r"coco: missing, .*/coco: not found; `infoseg prepare` renders.*", lines[0])


def test_prepared_with_counts_shares_and_size(project, capsys):
    write(project)
    size = sum(file.stat().st_size for file in project.prepared(NAME).iterdir()) / 1e6
    code, [_, line] = status(project, capsys)
    assert code == 0
    assert line == (
        f"{NAME}: prepared, 4 images (train 4), 3 labelled, {size:.1f} MB; % of pixels: "
        "class0 50.0, class1 50.0, class2 0.0, ignored 33.3; "
        "1 left out (images/two.jpg: cannot be decoded, …); a note"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scale": 0.5}, f"prepared with another scale; {COMMAND}"),
        ({"classes": 4}, f"datasets.{NAME}: clusters is 3 but .*{COMMAND}"),
        ({"side": 40}, rf"datasets.{NAME}.crop is .*{COMMAND}"),
    ],
)
def test_data_made_for_other_settings_are_outdated(project, capsys, changes, reason):
    write(project, **changes)
    code, [_, line] = status(project, capsys)
    assert code == 1 and re.fullmatch(f"{NAME}: outdated, {reason}", line)


DAMAGES = {"flip": lambda content: b"?" + content[1:], "cut": lambda content: content[:-3]}


@pytest.mark.parametrize("name", ["images.bin", "labels.bin", "index.csv", "meta.json"])
@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_a_damaged_file_is_named(project, capsys, name, damage):
    write(project)
    file = project.prepared(NAME) / name
    content = file.read_bytes()
    file.unlink()
    if damage in DAMAGES:
        file.write_bytes(DAMAGES[damage](content))
    code, [_, line] = status(project, capsys)
    assert code == 1 and line.startswith(f"{NAME}: damaged, {file}: ") and COMMAND in line


def test_every_kind_of_data_set_has_a_reader():
    assert readers().keys() == KINDS.keys()


def test_what_only_looks_at_data_loads_no_decoder():
    code = "import sys, infoseg.data.prepare; print({'cv2', 'PIL', 'pycocotools'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
