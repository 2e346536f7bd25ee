"""Official files in a project: used in place, stated, checked; asked for where they are missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import requests
import yaml
from helpers import one_data_set

from infoseg.cli import main
from infoseg.data.scenes import CocoScenes, write_coco
from infoseg.errors import DataError, ParamsError
from infoseg.runs import Project
from infoseg.settings import compose, parse_params

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """COCO unpacked: eight pictures with their annotations, without COCO-Stuff's label maps."""
    folder = tmp_path_factory.mktemp("mine") / "raw"
    write_coco(folder / "coco", CocoScenes(stuff_images=0, person_images=8, val_share=0.25))
    for name in ("stuffthingmaps", "curated"):
        shutil.rmtree(folder / "coco" / name)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def get(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr(requests.Session, "request", get)
    monkeypatch.delenv("INFOSEG_RAW", raising=False)


def project(home: Path, raw: Path | None, make_missing: bool = False) -> Project:
    tree = compose("paper")
    for source in tree["sources"].values():
        source["raw"] = None if raw is None else str(raw)
    tree["datasets"]["coco_persons"] |= {"images": None, "min_side": 0, "superpixels": None}
    return Project(home, parse_params(tree, "test"), home, make_missing)


def test_unpacked_files_are_used_in_place_and_stated_alike_on_every_machine(raw, tmp_path):
    made = project(tmp_path, raw)
    before = sorted(raw.rglob("*"))
    made.make_raw("coco")
    assert sorted(raw.rglob("*")) == before
    stated = (tmp_path / "raw/paper/coco/files.csv").read_text()
    assert stated.splitlines()[0] == "file,kind,bytes,files" and str(tmp_path) not in stated
    assert list(made.raw_files("coco")["file"]) == [
        "train2017.zip",
        "val2017.zip",
        "annotations_trainval2017.zip",
    ]
    prepared = made.prepare("coco_persons")
    assert 1 <= len(prepared) <= 8
    assert any("reconstruction" in note for note in prepared.meta.notes)


def test_files_that_changed_after_they_were_stated_are_refused(raw, tmp_path):
    made = project(tmp_path, raw)
    made.make_raw("coco")
    picture = next((raw / "coco").rglob("*.jpg"))
    content = picture.read_bytes()
    picture.write_bytes(content + b"x")
    try:
        with pytest.raises(DataError, match=r"train2017\.zip is .*run data@coco again"):
            made.prepare("coco_persons")
    finally:
        picture.write_bytes(content)
    made.prepare("coco_persons")


def test_the_environment_names_the_raw_folder(raw, tmp_path, monkeypatch):
    monkeypatch.setenv("INFOSEG_RAW", str(raw))
    made = project(tmp_path, None)
    made.make_raw("coco")
    assert pd.read_csv(tmp_path / "raw/paper/coco/files.csv")["kind"].unique() == ["tree"]


def test_potsdam_has_to_be_asked_for_and_the_message_says_how(tmp_path):
    with pytest.raises(DataError) as caught:
        project(tmp_path, None).make_raw("potsdam")
    message = str(caught.value)
    for part in ("4_Ortho_RGBIR.zip", "5_Labels_for_participants.zip", "isprs.org", "Potsdam.zip"):
        assert part in message
    assert str(tmp_path / "downloads/potsdam") in message
    assert not (tmp_path / "raw").exists()


def test_preparing_downloads_nothing(tmp_path):
    """Rendering what is missing is expected of the command line; 20 GB over the network are not."""
    with pytest.raises(DataError, match=r"train2017\.zip .*data stage download"):
        project(tmp_path, None, make_missing=True).prepare("coco_persons")


def test_a_raw_folder_among_the_pipelines_outputs_is_refused(tmp_path):
    with pytest.raises(ParamsError, match=r"sources\.coco\.raw: .*deletes at will"):
        project(tmp_path, tmp_path / "raw").make_raw("coco")


def test_the_command_line_checks_and_fetches(raw, tmp_path, monkeypatch, capsys):
    tree = compose("paper")
    for source in tree["sources"].values():
        source["raw"] = str(raw)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "potsdam", "coco"]) == 1  # and goes on after the first
    said = capsys.readouterr()
    assert "potsdam: " in said.err and "coco: " in said.out
    assert (tmp_path / "raw/paper/coco/files.csv").is_file()
    assert main(["data"]) == 1
    text = capsys.readouterr().out
    assert "coco: there" in text and "coco_persons: not prepared" in text
    assert "potsdam: missing" in text and "4_Ortho_RGBIR.zip" in text
    assert "`infoseg data fetch cocostuff --profile paper`" in text


def test_fetching_makes_a_folder_for_every_source_of_the_profile(tmp_path, monkeypatch, capsys):
    tree = one_data_set(pictures=1)
    mine = {"kind": "local", "path": str(tmp_path / "mine")}
    tree["sources"]["coco"] |= {"stuff_images": 1, "person_images": 1}
    tree["sources"]["mine"], tree["profile"]["sources"] = mine, ["mine", "coco"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch"]) == 1
    said = capsys.readouterr()
    assert "mine: raw folder not found" in said.err and str(tmp_path / "raw/tiny/coco") in said.out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/1.png").write_bytes(b"1")
    assert main(["data", "fetch", "mine"]) == 0
    assert sorted(path.name for path in (tmp_path / "raw/tiny").iterdir()) == ["coco", "mine"]
    assert len(list((tmp_path / "raw/tiny/coco/images").rglob("*.jpg"))) == 2
    assert "1.png,1," in (tmp_path / "raw/tiny/mine/files.csv").read_text()
