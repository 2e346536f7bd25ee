"""`infoseg export`: weights that say all about themselves, and what damage to them is called."""

from __future__ import annotations

import json
import re
import struct

import numpy as np
import pytest
import torch
from helpers import CPU, ROOT, build, card, method_settings
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_segmentation import picture, weights

import infoseg.weights
from infoseg.cli import main
from infoseg.data.store import sha256_of
from infoseg.files import DataError, write_json
from infoseg.own import Segmenter, segment_files
from infoseg.runs import Project
from infoseg.settings import Run, compose, parse_params
from infoseg.weights import (
    EXPORT_FORMAT,
    LIMITS,
    WEIGHTS_FORMAT,
    Export,
    card_path,
    describe_run,
    export_run,
    export_weights,
    load_weights,
    read_weights,
    save_weights,
)

FACTS = Export(
    format=EXPORT_FORMAT,
    title="Trial",
    data="nothing",
    licence="none needed",
    images=7,
    labelled=5,
    shorter_side=64,
    cluster_names=["sky", None, "ground"],
    pa={"0": 61.25, "1": 55.0},
    miou=40.0,
    constant_pa=51.0,
    commit="abc",
    signals=["Flips agree."],
    limits=list(LIMITS),
)


@pytest.fixture
def exported(tmp_path):
    source, _ = weights(tmp_path, "infoseg")
    return export_weights(source, tmp_path / "out/trial.safetensors", FACTS)


def test_what_is_exported_is_read_back(tmp_path, exported):
    read, model = read_weights(exported, CPU), Segmenter(exported, "cpu")
    assert read.export == FACTS
    assert (model.title, model.shorter_side, model.card) == ("Trial", 64, read.text)
    assert model.names == ["cluster 0 (sky)", "cluster 1", "cluster 2 (ground)"]
    assert read.text == card_path(exported).read_text()
    for text in (
        "61.2 %, after one match",
        "61.2 (seed 0), 55.0 (seed 1); mean 58.1 ± 4.4",
        "Licence: none needed",
        "7 images (5 labelled",
        '"tau": 0.8',
        "- Flips agree.",
        *LIMITS,
    ):
        assert text in read.text
    before = load_weights(tmp_path / "w.safetensors", CPU)[0].state_dict()
    assert all(torch.equal(value, before[name]) for name, value in read.method.state_dict().items())
    # The header alone says all: version, settings and card.
    with safe_open(exported, "pt") as file:
        header = json.loads(file.metadata()["infoseg"])
    assert header["export"]["format"] == EXPORT_FORMAT
    assert header["settings"] == method_settings("infoseg")
    assert exported.stat().st_mode & 0o044 == 0o044


def test_a_runs_own_weights_go_on_being_read(tmp_path):
    path, _ = weights(tmp_path, "infoseg")
    read = read_weights(path, CPU)
    assert read.export is None
    model = Segmenter(path, "cpu")
    assert model.shorter_side == 48  # its crop
    assert model.names == ["cluster 0", "cluster 1", "cluster 2"]
    # And what is exported is a run's weights to whoever knows nothing of exporting.
    exported = export_weights(path, tmp_path / "e.safetensors", FACTS)
    assert load_weights(exported, CPU)[1] == read.card


def test_the_same_run_exports_the_same_bytes(tmp_path, exported):
    again = export_weights(tmp_path / "w.safetensors", tmp_path / "again.safetensors", FACTS)
    assert again.read_bytes() == exported.read_bytes()


def test_every_damage_is_named(exported):
    """Cut anywhere, or a bit changed anywhere: an error that names the file, or the same answer."""
    whole = exported.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = np.random.default_rng(0)
    for length in (0, 5, 8, 100, header, header + 4, len(whole) - 1):
        exported.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"trial\.safetensors: cannot be read as weights"):
            read_weights(exported, CPU)

    def flipped(at: int) -> None:
        content = bytearray(whole)
        content[at] ^= 1 << int(rng.integers(8))
        exported.write_bytes(content)

    for at in rng.integers(header, len(whole), 10):
        flipped(at)
        with pytest.raises(DataError, match="they are not those that were exported"):
            read_weights(exported, CPU)
    survived = 0
    for at in rng.integers(0, header, 150):
        flipped(at)
        try:
            read_weights(exported, CPU)
            survived += 1  # a letter of the card's text, for instance
        except DataError as error:
            assert "trial.safetensors" in str(error)
            assert error.advice
    assert survived < 150


def rewritten(path, **entries) -> None:
    """The same file with other entries in its header; an ellipsis leaves one out."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["infoseg"]) | entries
    header = {name: value for name, value in header.items() if value is not ...}
    save_file(load_file(path), path, {"infoseg": json.dumps(header)})


OTHER_EXPORT = f"has export format 9, this version reads {EXPORT_FORMAT}.*version of infoseg"
OTHER_WEIGHTS = f"has weights format 9, this version reads {WEIGHTS_FORMAT}"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"export": FACTS.model_dump() | {"format": 9}}, OTHER_EXPORT),
        ({"format": 9}, OTHER_WEIGHTS),
        ({"format": 9, "crop": ...}, OTHER_WEIGHTS),  # whatever else another version says
        ({"crop": ...}, "cannot be read as weights .*crop"),
        ({"export": "x"}, "cannot be read as weights"),
        ({"export": []}, "cannot be read as weights"),
        ({"export": {"format": EXPORT_FORMAT}}, "cannot be read as weights"),
        ({"export": FACTS.model_dump() | {"cluster_names": ["a"]}}, "1 names for 3 clusters"),
        ({"sha256": ...}, "cannot be read as weights"),
        ({"sha256": "0"}, "they are not those that were exported"),
    ],
)
def test_headers_of_others(exported, entries, message):
    rewritten(exported, **entries)
    with pytest.raises(DataError, match=message) as caught:
        read_weights(exported, CPU)
    assert "\n" not in str(caught.value)


def test_foreign_files(tmp_path, capsys):
    for name, text in (("half", "{"), ("list", "[]"), ("deep", "[" * 100_000)):
        save_file({"a": torch.zeros(3)}, tmp_path / name, {"infoseg": text})
    save_file({"a": torch.zeros(3)}, tmp_path / "foreign")
    torch.save({"a": torch.zeros(3)}, tmp_path / "torch.pt")
    Image.fromarray(picture()).save(tmp_path / "one.png")
    messages = {"foreign": "holds weights of another program", "missing": "not found"}
    for name in ("foreign", "torch.pt", "one.png", "missing", ".", "half", "list", "deep"):
        arguments = ["segment", str(tmp_path / "one.png"), str(tmp_path / "out")]
        assert main([*arguments, "--weights", str(tmp_path / name)]) == 1
        said, message = capsys.readouterr().err, messages.get(name, "cannot be read as weights")
        assert said.count("\n") == 1 and message in said and str(tmp_path / name) in said
    assert not (tmp_path / "out").exists()


def test_weights_that_come_with_the_repository(tmp_path, monkeypatch, capsys):
    pictures = tmp_path / "one.png"
    Image.fromarray(picture()).save(pictures)
    source, _ = weights(tmp_path, "infoseg")
    shipped = export_weights(source, tmp_path / "shipped.safetensors", FACTS)
    monkeypatch.setattr(infoseg.weights, "DEFAULT_WEIGHTS", shipped)
    assert main(["segment", str(pictures), str(tmp_path / "out"), "--device", "cpu"]) == 0
    page = (tmp_path / "out/index.html").read_text()
    assert "cluster 0 (sky)" in page and re.search(r"with\s+Trial\.", page)


def test_what_ships_can_be_read():
    path = infoseg.weights.DEFAULT_WEIGHTS
    read = read_weights(path, CPU)
    assert read.export is not None
    assert path.stat().st_size < 8e6
    assert card_path(path).read_text() == read.text


def test_exporting_over_the_run_itself_is_refused(tmp_path):
    source, _ = weights(tmp_path, "infoseg")
    before = source.read_bytes()
    with pytest.raises(DataError, match="is the run's own file"):
        export_weights(source, source, FACTS)
    with pytest.raises(DataError, match=r"end in \.safetensors"):
        export_weights(source, tmp_path / "w.bin", FACTS)
    assert source.read_bytes() == before


@pytest.fixture
def project(tmp_path):
    """Runs of the tiny profile as they lie on a disk, of which two of three seeds are evaluated."""
    project = Project(tmp_path, parse_params(compose("tiny"), "tiny"), ROOT)
    settings = project.params.method("infoseg", "coco_stuff3").numbers()
    method = build("infoseg", **{k: settings[k] for k in settings if k not in ("kind", "title")})
    for seed, pa in ((0, 60.0), (1, 50.0), (2, None)):
        run = Run(dataset="coco_stuff3", method="infoseg", seed=seed)
        about = {
            "step": 30,
            "settings": settings,
            "crop": 64,
            "classes": ["sky", "ground", "plant"],
        }
        path = project.weights_path(run)
        save_weights(path, method.state_dict(), card("infoseg", **run.model_dump() | about))
        if pa is not None:
            match = {"0": "sky", "1": "plant", "2": "ground"}
            last = {"pa": pa, "miou": 30.0, "constant_pa": 44.0, "match": match}
            made = {"settings": settings, "weights": sha256_of(path)}
            evaluation = {"last": last, "made_with": made, "diverged": ""}
            write_json(project.evaluation_path(run), evaluation)
    return project


def test_a_run_of_a_project_is_exported(tmp_path, project, monkeypatch):
    monkeypatch.setattr(infoseg.weights, "git_commit", lambda root: "c0ffee")
    path = export_run(project, "coco_stuff3-infoseg-1", tmp_path / "e.safetensors")
    read = read_weights(path, CPU)
    assert read.export.pa == {"0": 60.0, "1": 50.0}
    assert read.export.cluster_names == ["sky", "plant", "ground"]
    assert read.export.commit == "c0ffee"
    assert "Pixel accuracy of these weights: 50.0 %" in read.text
    assert "scenes drawn by" in read.text and "\nlicense: mit\n" in read.text
    assert "expect little on photographs" in read.text
    assert "coco_stuff3" in read.card.dataset
    Image.fromarray(picture(120, 100)).save(tmp_path / "one.png")
    assert segment_files(tmp_path / "one.png", tmp_path / "out", path, device="cpu").done == ["one"]


def test_a_run_that_was_not_evaluated_has_no_accuracy(tmp_path, project):
    """Not even its sisters': they are other weights."""
    path = export_run(project, "coco_stuff3-infoseg-2", tmp_path / "e.safetensors")
    read = read_weights(path, CPU)
    assert read.export.pa == {} and read.export.cluster_names is None
    assert "Not measured" in read.text


@pytest.mark.parametrize("key", ["settings", "diverged"])
def test_evaluations_of_older_settings_and_of_seeds_that_diverged_are_left_out(
    tmp_path, project, key
):
    file = project.runs / "evaluations/coco_stuff3/infoseg-0.json"
    evaluation = json.loads(file.read_text())
    if key == "settings":
        evaluation["made_with"]["settings"]["optimiser"]["steps"] = 99
    else:
        evaluation["diverged"] = "at step 3"
        del evaluation["last"]
    file.write_text(json.dumps(evaluation))
    path = export_run(project, "coco_stuff3-infoseg-1", tmp_path / "e.safetensors")
    assert read_weights(path, CPU).export.pa == {"1": 50.0}


def test_an_unknown_run_is_answered_with_those_there_are(project):
    with pytest.raises(DataError, match="no such run. There are: coco_stuff3-infoseg-0, "):
        export_run(project, "coco_stuff3-infoseg-7")


@pytest.mark.parametrize(("dataset", "part"), [("coco_stuff", "CC BY 4.0"), ("potsdam", "ISPRS")])
def test_licences_of_official_files_are_those_of_their_list(tmp_path, dataset, part):
    project = Project(tmp_path, parse_params(compose("paper"), "paper"), ROOT)
    run = Run(dataset=dataset, method="infoseg", seed=0)
    about = card("infoseg", dataset=dataset)
    save_weights(project.weights_path(run), build("infoseg").state_dict(), about)
    assert part in describe_run(project, run).licence
