"""The steps joined up, on the tiny profile, and what they say when something is wrong."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import one_data_set
from PIL import Image

from infoseg.cli import main
from infoseg.errors import DataError, InfosegError, ParamsError
from infoseg.files import find_root
from infoseg.params import Run, parse_params
from infoseg.project import Project
from infoseg.results import figure4
from infoseg.summary import report, write_readme

ROOT = Path(__file__).parent.parent
RUN = Run(dataset="coco_stuff3", method="infoseg", seed=0)


@pytest.fixture(scope="module")
def tree() -> dict:
    """The tiny profile, smaller still."""
    made = one_data_set(pictures=2)
    made["sources"]["coco"] |= {"stuff_images": 24, "person_images": 2}
    made["methods"]["infoseg"]["optimiser"] |= {"steps": 8, "batch": 4}
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory, tree) -> Path:
    """A repository with settings and one prepared data set; the first tests add runs to it."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("conf", "docs"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    project(folder, tree, make_missing=True).prepare("coco_stuff3")
    return folder


def project(home: Path, tree: dict, make_missing: bool = False) -> Project:
    return Project(home, parse_params(tree, "test"), home, make_missing)


def changed(tree: dict, key: str, value) -> dict:
    copy = json.loads(json.dumps(tree))
    *path, last = key.split(".")
    place = copy
    for name in path:
        place = place[name]
    place[last] = value
    return copy


# The tests of the first part run in order: each uses what the one before has made.


def test_the_command_line_prepares_trains_and_evaluates(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert main(["prepare"]) == 0
    assert "coco_stuff3: " in capsys.readouterr().out
    assert main(["train", "coco_stuff3", "infoseg"]) == 0
    folder = home / "runs/tiny/coco_stuff3-infoseg-0"
    assert {path.name for path in folder.iterdir()} == {
        "weights.safetensors",
        "best.safetensors",
        "history.csv",
        "provenance.json",
        "timing.json",
    }
    capsys.readouterr()
    assert not (home / "runs/tiny/evaluations").exists(), "training evaluates no run"
    assert main(["evaluate", "coco_stuff3", "infoseg"]) == 0
    assert not (home / "results").exists(), "one evaluation makes no table"
    out = capsys.readouterr().out
    assert "last  step      8: PA" in out and "chosen with labels" in out


def test_provenance_says_what_ran_where(home):
    folder = home / "runs/tiny/coco_stuff3-infoseg-0"
    made, timing = (
        json.loads((folder / f"{n}.json").read_text()) for n in ("provenance", "timing")
    )
    assert set(made["git"]) == {"commit", "dirty"} and len(made["code_sha256"]) == 64
    assert made["versions"]["torch"] and made["device"] and "driver" in made
    assert made["settings"]["optimiser"]["steps"] == 8 and made["training"]["threads"]
    assert (made["seed"], made["deterministic"]) == (0, True)
    assert made["precision"] in ("float32", "bfloat16")
    assert set(made["data"]) == {"images.bin", "labels.bin", "regions.bin", "index.csv"}
    assert {"seconds", "images_per_second", "peak_memory_bytes"} <= set(timing)


def test_all_makes_what_is_missing_and_then_nothing(home, monkeypatch, capfd):
    monkeypatch.chdir(home)
    assert main(["all", "--jobs", "2"]) == 0
    assert "InfoSeg" in capfd.readouterr().out
    results = home / "results/tiny"
    timing = (results / "timing.csv").read_text()
    assert all(f"coco_stuff3-{name}-0" in timing for name in ("kmeans", "iic_mi", "single"))
    page = (results / "report.html").read_text()
    assert "IIC-MI" in page and "clusters per class = 0" in page
    weights = home / "runs/tiny/coco_stuff3-kmeans-0/weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert main(["all"]) == 0
    assert weights.stat().st_mtime_ns == before


def test_the_figure_shows_matched_predictions_of_the_same_pictures(home, tree):
    made = project(home, tree)
    ours = made.examples(RUN)
    theirs = made.examples(RUN.model_copy(update={"method": "kmeans"}))
    ours_blind, theirs_blind = (found.chosen(by_rank=False) for found in (ours, theirs))
    assert np.array_equal(ours_blind.images, theirs_blind.images)
    assert set(np.unique(ours.predictions)) <= {0, 1, 2}
    for path in figure4(made):
        assert path.exists()


def test_the_figure_leaves_out_data_sets_that_the_profile_has_not(home, tree):
    tree = copy.deepcopy(tree)
    tree["profile"]["figure4"]["panels"]["coco_persons"] = 2
    made = project(home, tree)
    assert "coco_persons" in made.params.datasets
    assert all(path.exists() for path in figure4(made))


def test_the_readmes_results_are_written_between_its_markers_and_nowhere_else(home, tree):
    made = project(home, tree)
    readme = home / "README.md"
    readme.write_text("before\n<!-- results:demo -->\nold\n<!-- /results -->\nafter\n")
    assert not write_readme(made)  # of another profile
    readme.write_text("before\n<!-- results:tiny -->\nold\n<!-- /results -->\nafter\n")
    assert write_readme(made)
    text = readme.read_text()
    assert text.startswith("before\n<!-- results:tiny -->\n\n**Pixel accuracy on")
    assert text.endswith("<!-- /results -->\nafter\n")
    assert "old" not in text and "| IIC-MI |" in text and "not decided" in text
    assert write_readme(made) and readme.read_text() == text


def test_a_report_without_its_figures_names_the_stages(home, tree):
    made = project(home, changed(tree, "profile.name", "tiny"))
    (home / "results/tiny/seeds.svg").unlink()
    with pytest.raises(DataError, match="seeds.svg.*stages figures"):
        report(made)


def test_a_run_is_exported_and_segments_alone(home, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(home)
    written = tmp_path / "alone.safetensors"
    assert main(["export", RUN.key, "--to", str(written)]) == 0
    card = tmp_path / "alone.safetensors.md"
    assert capsys.readouterr().out.split() == [str(written), str(card)]
    assert "Pixel accuracy of these weights" in card.read_text()
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    words = ["segment", "a.png", "out", "--weights", "alone.safetensors"]
    assert main(words) == 0
    monkeypatch.chdir(home)
    assert main(["export", "coco_stuff3-infoseg-9"]) == 1
    said = capsys.readouterr().err
    assert "There are: " in said and RUN.key in said


def test_an_evaluation_of_other_data_is_not_current(home, tree):
    made = project(home, tree)
    assert made.is_current(RUN)
    path = made.prepared("coco_stuff3") / "meta.json"
    text = path.read_text()
    meta = json.loads(text)
    meta["files"]["labels.bin"]["sha256"] = "0" * 64
    path.write_text(json.dumps(meta))
    assert not made.is_current(RUN)
    path.write_text(text)


def test_without_inputs_the_stage_to_run_is_named(tmp_path, tree):
    made = project(tmp_path, tree)
    with pytest.raises(DataError, match="data@coco"):
        made.prepare("coco_stuff3")
    with pytest.raises(DataError, match="prepare@coco_stuff3"):
        made.train("coco_stuff3", "infoseg", 0)
    with pytest.raises(DataError, match="train@coco_stuff3-infoseg-0"):
        made.evaluation(RUN)
    with pytest.raises(DataError, match="evaluate@coco_stuff3-infoseg-0"):
        made.examples(RUN)


def test_arrays_prepared_with_other_settings_are_not_used(home, tree):
    other = changed(tree, "datasets.coco_stuff3.scale", 0.5)
    with pytest.raises(DataError, match=r"another scale.*prepare@coco_stuff3"):
        project(home, other).load("coco_stuff3")


def test_a_crop_larger_than_every_image_is_named(home, tree):
    other = changed(tree, "datasets.coco_stuff3.crop", 400)
    with pytest.raises(ParamsError, match=r"datasets\.coco_stuff3\.crop is 400"):
        project(home, other).load("coco_stuff3")


def test_without_padding_the_smallest_image_counts(home, tree):
    other = changed(
        changed(tree, "datasets.coco_stuff3.crop", 78), "datasets.coco_stuff3.pad", False
    )
    with pytest.raises(ParamsError, match="smallest image"):
        project(home, other).load("coco_stuff3")


def test_without_evaluations_in_training_the_last_weights_alone_are_evaluated(tmp_path, tree):
    quick = project(tmp_path, changed(tree, "training.evaluations", 0), make_missing=True)
    found = quick.evaluate("coco_stuff3", "infoseg", 0)
    assert found["start"] is None and found["best"] == found["last"]
    assert found["last"]["step"] == 8


def test_a_truncated_array_is_never_trained_on(home, tree, tmp_path):
    made = project(home, tree)
    copy = Project(tmp_path, made.params, home)
    shutil.copytree(made.prepared("coco_stuff3"), copy.prepared("coco_stuff3"))
    images = copy.prepared("coco_stuff3") / "images.bin"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"images\.bin.*truncated"):
        copy.train("coco_stuff3", "infoseg", 0)
    assert not copy.runs.exists()


def test_a_half_written_evaluation_is_named(home, tree, tmp_path):
    made = Project(tmp_path, parse_params(tree, "test"), home)
    path = made.evaluation_path(RUN)
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 1, "last"')
    with pytest.raises(DataError, match=r"coco_stuff3-infoseg-0\.json"):
        made.evaluation(RUN)


def test_files_of_ones_own_among_the_pipelines_outputs_are_refused(tmp_path, tree):
    local = {"kind": "local", "path": str(tmp_path / "raw" / "tiny" / "coco")}
    made = project(tmp_path, changed(tree, "sources.coco", local))
    with pytest.raises(ParamsError, match="deletes at will"):
        made.raw("coco")


def test_local_files_are_listed_and_not_copied(tmp_path, tree):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.jpg").write_bytes(b"x" * 10)
    made = project(tmp_path, changed(tree, "sources.coco", {"kind": "local", "path": str(mine)}))
    assert made.make_raw("coco") == mine
    [stated] = (tmp_path / "raw/tiny/coco").iterdir()
    assert "a.jpg,10," in stated.read_text()


def test_missing_local_files_are_named(tmp_path, tree, monkeypatch, capsys):
    local = {"kind": "local", "path": str(tmp_path / "nowhere")}
    with pytest.raises(DataError, match="nowhere"):
        project(tmp_path, changed(tree, "sources.coco", local)).make_raw("coco")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train", "coco_stuf3", "infoseg"], "coco_stuf3"),
        (["train", "coco_stuff3", "infosegg"], "infosegg"),
        (["train", "coco_stuff3", "infoseg", "--profile", "papr"], "papr"),
        (["params", "-S", "training.thread=2"], "training.thread"),
        (["params", "--profile", "tiny", "-S", "training.thread=2"], "training.thread"),
        (["params", "-S", "training.threads=two"], "training.threads"),
        (["train", "coco_stuff3", "infoseg", "-S", "training.device=cuda"], "training.device"),
    ],
)
def test_a_typo_on_the_command_line_is_named_without_a_traceback(
    home, monkeypatch, capsys, words, named
):
    if "training.device=cuda" in words and torch.cuda.is_available():
        words = [*words[:-1], "training.device=cuda:99"]
    monkeypatch.chdir(home)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("infoseg: ") and named in error


def test_outside_the_repository_the_command_line_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InfosegError, match="not inside the repository"):
        find_root()


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate", "all", "segment"])
def test_help_explains_every_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 8
