"""Seeds are chosen by how far their segmentations agree, whatever their clusters are called."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import CPU, ROOT, Columns, random_images, write_prepared
from hypothesis import given
from hypothesis import strategies as st

from infoseg import selection
from infoseg.cli import main
from infoseg.errors import DataError, ParamsError
from infoseg.params import Run, compose, parse_params
from infoseg.project import Project
from infoseg.restarts import selected_seeds, train_restarts
from infoseg.runs import load_weights, save_weights
from infoseg.selection import (
    SIDE,
    agreement,
    choose_seed,
    label_maps,
    read_maps,
    seed_agreements,
    write_maps,
)
from infoseg.views import DeviceData

LABELS = st.lists(st.integers(0, 2), min_size=6, max_size=40)


@given(LABELS)
def test_equal_labels_agree_wholly_unless_nothing_is_beyond_chance(labels):
    array = np.array(labels)
    expected = 1.0 if len(set(labels)) > 1 else 0.0
    assert agreement(array, array, 3) == pytest.approx(expected)


@given(LABELS, st.permutations(range(3)))
def test_matched_agreement_does_not_depend_on_the_names_of_clusters(labels, names):
    array = np.array(labels)
    renamed = np.array(names)[array]
    expected = 1.0 if len(set(labels)) > 1 else 0.0
    assert agreement(array, renamed, 3, match=True) == pytest.approx(expected)


def test_agreement_is_cohens_kappa():
    # Two raters, 50 items: the textbook's 20, 5, 10, 15, whose kappa is 0.4.
    first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
    second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    assert agreement(first, second, 2) == pytest.approx(0.4)


def test_independent_labels_do_not_agree():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3, (2, 100_000))
    assert abs(agreement(first, second, 3)) < 0.01


def four_seeds() -> list[np.ndarray]:
    """A segmentation, the same under other names, a tenth of it changed, and one of its own."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (4, 8, 8)).astype(np.uint8)
    renamed = np.array([2, 0, 1], np.uint8)[labels]
    blurred = np.where(rng.random(labels.shape) < 0.1, 0, labels).astype(np.uint8)
    return [blurred, labels, renamed, rng.integers(0, 3, labels.shape).astype(np.uint8)]


def test_the_seed_that_others_share_most_is_chosen():
    maps = four_seeds()
    found = seed_agreements(maps)
    assert found[1] == pytest.approx(found[2], abs=0.05)
    assert found[1] > found[0] > found[3]
    assert found[3] < 0.2
    # By hand: the mean of the three agreements it takes part in.
    pairs = [agreement(maps[0], maps[i], 3, match=True) for i in (1, 2, 3)]
    assert found[0] == pytest.approx(sum(pairs) / 3)
    assert choose_seed(found) in (1, 2)


def test_too_few_seeds_choose_nothing():
    one, two = four_seeds()[:2]
    assert math.isnan(seed_agreements([one])[0])
    assert seed_agreements([one, two])[0] == seed_agreements([one, two])[1]
    with pytest.raises(ParamsError, match="2 seeds are too few.*3 or more"):
        choose_seed(seed_agreements([one, two]))


@pytest.mark.parametrize("labelled", [True, False])
def test_maps_are_of_the_first_images_thinned_out(tmp_path, labelled, monkeypatch):
    images, labels = random_images(6, 40)
    labels = labels if labelled else [None] * 6
    data = DeviceData(write_prepared(tmp_path / "p", images, labels, 3 * labelled), 32, CPU)
    maps = label_maps(Columns("column"), data, 4)
    assert maps.shape == (6, SIDE, SIDE) and maps.dtype == np.uint8
    assert (maps[:, :, :16] == 0).all() and (maps[:, :, 16:] == 1).all()
    monkeypatch.setattr(selection, "KEPT", 5)
    monkeypatch.setattr(selection, "SIDE", 8)
    assert label_maps(Columns("column"), data, 2).shape == (5, 8, 8)


def test_maps_that_are_not_whole_are_an_error_that_names_the_stage(tmp_path):
    path = tmp_path / "m.npz"
    write_maps(path, four_seeds()[0], "abc")
    maps, weights = read_maps(path, "evaluate@x")
    assert np.array_equal(maps, four_seeds()[0]) and weights == "abc"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"m\.npz(.|\n)*evaluate@x"):
        read_maps(path, "evaluate@x")
    with pytest.raises(DataError, match="evaluate@x"):
        read_maps(tmp_path / "none.npz", "evaluate@x")


@pytest.fixture
def project(tmp_path) -> Project:
    made = compose(ROOT / "conf", "tiny")
    made["sources"]["coco"] |= {"stuff_images": 16, "person_images": 2}
    made["methods"]["infoseg"]["optimiser"]["steps"] = 2
    return Project(tmp_path, parse_params(made, "test"), ROOT, make_missing=True)


def test_restarts_leave_the_weights_of_the_seed_that_agrees_best(project):
    folder, found = train_restarts(project, "coco_stuff3", "infoseg", [3, 4, 5])
    told = json.loads((folder / "selection.json").read_text())
    assert told["agreements"] == dict(zip("345", found, strict=True))
    assert told["by"] == "seed_agreement"
    assert told["seed"] == 3 + int(np.argmax(found))
    assert load_weights(folder / "weights.safetensors", CPU)[1].seed == told["seed"]
    assert folder.name == "coco_stuff3-infoseg-selected"


def test_maps_of_older_weights_are_made_again_and_are_those_evaluation_makes(project):
    runs = [Run(dataset="coco_stuff3", method="infoseg", seed=seed) for seed in (0, 1)]
    for run in runs:
        project.evaluate(run.dataset, run.method, run.seed)
    first, second = (project.maps(run) for run in runs)
    path = project.maps_path(runs[0])
    whole = path.read_bytes()
    files = [project.runs / run.key / "weights.safetensors" for run in runs]
    card = load_weights(files[0], CPU)[1]
    save_weights(files[0], load_weights(files[1], CPU)[0].state_dict(), card)
    assert np.array_equal(project.maps(runs[0]), second)
    project.train("coco_stuff3", "infoseg", 0)
    assert np.array_equal(project.maps(runs[0]), first)
    assert path.read_bytes() == whole


def test_two_restarts_are_refused_before_anything_is_trained(project):
    with pytest.raises(ParamsError, match="2 are too few"):
        train_restarts(project, "coco_stuff3", "infoseg", [0, 1])
    assert not project.runs.exists()


def test_the_command_trains_restarts_and_says_what_they_agree_by(project, monkeypatch, capsys):
    monkeypatch.setattr(Project, "runs", project.folder / "runs" / "tiny")
    monkeypatch.setattr(Project, "prepared", lambda self, dataset: project.folder / dataset)
    monkeypatch.setattr(Project, "raw", lambda self, source: project.folder / "raw")
    words = ["train", "coco_stuff3", "random_cnn", "--profile", "tiny", "--restarts", "3"]
    words += ["-S", "sources.coco.stuff_images=6", "-S", "sources.coco.person_images=2"]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said[:3]] == ["seed 0", "seed 1", "seed 2"]
    assert said[3].endswith("coco_stuff3-random_cnn-selected")


def test_cells_with_three_seeds_have_a_selected_one():
    maps = dict(enumerate(four_seeds()))
    project = SimpleNamespace(maps=lambda run: maps[run.seed])
    runs = [a_run("a", seed) for seed in (3, 0, 1, 2)] + [a_run("b", 0)]
    [(cell, seed)] = selected_seeds(project, runs).items()
    assert cell == ("d", "a") and seed in (1, 2)


def a_run(method: str, seed: int):
    return SimpleNamespace(dataset="d", method=method, seed=seed)
