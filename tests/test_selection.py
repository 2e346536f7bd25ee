"""Seeds are chosen by how far their segmentations agree, whatever their clusters are called."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import CPU, ROOT, Columns, random_images, write_prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from infoseg import selection
from infoseg.cli import main
from infoseg.data.batches import DeviceData
from infoseg.files import ParamsError
from infoseg.restarts import train_restarts
from infoseg.runs import Project
from infoseg.selection import SIDE, agreement, choose_seed, label_maps, seed_agreements
from infoseg.settings import compose, parse_params

LABELS = st.lists(st.integers(0, 2), min_size=6, max_size=40)


@given(LABELS)
def test_equal_labels_agree_wholly_unless_nothing_is_beyond_chance(labels):
    array = np.array(labels)
    expected = 1.0 if len(set(labels)) > 1 else 0.0
    assert agreement(array, array, 3) == pytest.approx(expected)


@settings(deadline=None)  # the first call imports SciPy's optimiser
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


@pytest.fixture
def project(tmp_path) -> Project:
    made = compose("tiny")
    made["sources"]["coco"] |= {"stuff_images": 16, "person_images": 2}
    made["methods"]["infoseg"]["optimiser"]["steps"] = 2
    return Project(tmp_path, parse_params(made, "test"), ROOT, make_missing=True)


def test_two_restarts_are_refused_before_anything_is_trained(project):
    with pytest.raises(ParamsError, match="2 are too few"):
        train_restarts(project, "coco_stuff3", "infoseg", [0, 1])
    assert not project.runs.exists()


def test_the_command_trains_restarts_and_names_the_one_that_agrees_best(
    project, monkeypatch, capsys
):
    """Beside the seeds of the settings, which stay as they are."""
    project.train("coco_stuff3", "infoseg")
    monkeypatch.setattr("infoseg.runs.Project", lambda *_, **__: project)
    words = ["train", "coco_stuff3", "infoseg", "--seed", "3", "--restarts", "3"]
    assert main([*words, "--profile", "tiny"]) == 0
    *said, chosen = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["seed 3", "seed 4", "seed 5"]
    found = [float(line.split()[7]) for line in said]
    best, agreements = train_restarts(project, "coco_stuff3", "infoseg", [3, 4, 5])
    assert found == [round(value, 2) for value in agreements]
    assert best.seed == 3 + int(np.argmax(agreements)) and chosen == str(project.weights_path(best))
    kept = {path.stem for path in project.weights_path(best).parent.glob("*.safetensors")}
    assert kept == {"0", "3", "4", "5"}
