"""The tour of the paper: numbers that can be counted by hand, and captions that say what is."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from helpers import OPTIMISER, ROOT, build, device_data, training

from infoseg import tour as figures
from infoseg.inspection import look_inside
from infoseg.losses import infoseg_loss, jsd_lower_bound
from infoseg.reporting.palette import class_colours, colourise
from infoseg.tour import bounds, drawing, learning, maps, readings
from infoseg.tour.start import Tour


@pytest.fixture
def tour(tmp_path) -> Tour:
    """A network of noise on noise: six pictures of 32 px."""
    method = build("infoseg", optimiser=OPTIMISER)
    data = device_data(tmp_path / "data")
    items = data.evaluated[:3]
    return Tour(method.eval(), data, ["a", "b", "c"], items, training(), seed=0)


def captions(figure) -> list[str]:
    return [ax.get_xlabel() for ax in figure.axes]


def numbers(text: str) -> list[float]:
    return [float(found.replace("−", "-")) for found in re.findall(r"−?\d+(?:\.\d+)?", text)]


def shown(ax) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


LOG3 = math.log(3)
#: Of "a third exchanged": two classes of three are told right two times in three.
PARTLY = 2 / 3 * -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))


@pytest.mark.parametrize(
    ("name", "entropy", "conditional"),
    [
        ("equal", LOG3, 0),
        ("names exchanged", LOG3, 0),
        ("a third exchanged", LOG3, PARTLY),
        ("unrelated", LOG3, LOG3),
        ("one class", 0, 0),
    ],
)
def test_information_of_the_toy_maps_is_what_counting_gives(name, entropy, conditional):
    found = maps.information(maps.joint(*maps.toy_maps()[name]))
    assert found == pytest.approx((entropy - conditional, entropy, conditional), abs=1e-5)


def test_the_joint_counts_pairs_of_labels_and_is_symmetric():
    first, second = torch.tensor([[0, 0], [1, 2]]), torch.tensor([[0, 1], [1, 2]])
    expected = torch.tensor([[2, 1, 0], [1, 2, 0], [0, 0, 2]]) / 8
    torch.testing.assert_close(maps.joint(first, second), expected)


def test_information_is_the_difference_of_the_entropies_for_any_joint():
    for seed in range(5):
        joint = torch.rand(4, 4, generator=torch.Generator().manual_seed(seed))
        joint = (joint + joint.T) / (2 * joint.sum())
        found, entropy, conditional = maps.information(joint)
        assert found == pytest.approx(entropy - conditional, abs=1e-5) and found >= 0


def test_label_maps_show_each_pair_its_joint_and_its_information():
    figure = figures.label_maps()
    assert len(figure.axes) == 3 * len(maps.toy_maps())
    for (first, second), top, middle, bottom in zip(
        maps.toy_maps().values(), *np.reshape(figure.axes, (3, -1)), strict=True
    ):
        assert (shown(top) == colourise(first.numpy())).all()
        assert (shown(middle) == colourise(second.numpy())).all()
        joint = maps.joint(first, second)
        assert (shown(bottom) == joint.numpy()).all()
        found, entropy, conditional = maps.information(joint)
        largest = float(joint.max())
        told = numbers(bottom.get_xlabel())
        assert told == pytest.approx([largest, entropy, conditional, found], abs=0.006)


def test_temperatures_mix_the_colours_by_v_and_name_its_entropy(tour):
    figure = figures.temperatures(tour, [1e-6, 0.8, 1e6])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["τ = 1e-06", "τ = 0.8", "τ = 1e+06"]
    entropies = [numbers(text)[0] for text in captions(figure)]
    assert entropies[0] == 1 and entropies[2] == 0 and entropies == sorted(entropies, reverse=True)
    undecided, _, decided = (shown(ax) for ax in figure.axes)
    mean = class_colours(3).astype(float).mean(0)
    assert np.abs(undecided - mean).max() <= 1
    assert (decided == colourise(tour.inside.scores.argmax(0).numpy())).all()


def test_score_maps_have_one_scale_and_the_range_of_each_class(tour):
    picture, *classes = figures.score_maps(tour).axes
    scores = tour.inside.scores
    assert (shown(picture) == tour.inside.picture).all() and len(classes) == 3
    assert len({ax.images[0].get_clim() for ax in classes}) == 1
    for k, (ax, score) in enumerate(zip(classes, scores, strict=True), 1):
        assert (shown(ax) == score.numpy()).all()
        told = numbers(ax.get_xlabel())
        assert told == pytest.approx([k, float(score.min()), float(score.max())], abs=0.006)


def test_label_steps_are_the_methods_own_in_either_order(tour):
    learning.take_steps(tour, 10)  # at first all positions are of one class
    _, low, *over = figures.label_steps(tour).axes
    inside = tour.inside
    assert (shown(low) == colourise(inside.scores.argmax(0).numpy())).all()
    labels = []
    for upsampling in ("labels", "scores"):
        tour.method.upsampling = upsampling
        labels.append(tour.inside.labels.numpy())
    for ax, expected in zip(over, labels, strict=True):
        painted = 0.45 * inside.picture + 0.55 * colourise(expected)
        assert np.abs(shown(ax) - painted).max() <= 0.5
    differ = 100 * (labels[0] != labels[1]).mean()
    assert differ > 0 and numbers(over[1].get_xlabel()) == pytest.approx([differ], abs=0.06)


def test_assignments_tell_the_scores_of_soft_and_hard_s(tour):
    axes = figures.assignments(tour).axes
    inside = tour.inside
    v, scores = inside.probabilities, inside.scores
    soft, hard = float((v * scores).sum(0).mean()), float(scores.amax(0).mean())
    assert len(axes) == 6 and hard > soft
    assert numbers(axes[4].get_xlabel())[-1] == pytest.approx(soft, abs=0.006)
    used = len(scores.argmax(0).unique())
    assert numbers(axes[5].get_xlabel()) == pytest.approx([used, 3, hard], abs=0.006)
    # Hard S has the colour of the class's own H wherever the class is the arg max.
    stripes = shown(axes[3])[[0, 4, 7], 0]
    assert np.abs(shown(axes[5]) - stripes[scores.argmax(0)].astype(float)).max() <= 1


def test_by_colour_names_the_accuracy_of_its_own_match(tour):
    _, painted, annotation = figures.by_colour(tour).axes
    assert (shown(annotation) == colourise(tour.annotation)).all()
    right = 100 * (shown(painted) == shown(annotation)).all(-1).mean()
    assert numbers(painted.get_xlabel()) == pytest.approx([3, right], abs=0.51)


def test_the_critic_is_the_log_ratio_of_densities():
    from scipy.stats import multivariate_normal, norm

    joint = multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]])
    for x, y in [(0.0, 0.0), (1.0, 0.5), (-2.0, 1.5)]:
        expected = joint.logpdf([x, y]) - norm.logpdf(x) - norm.logpdf(y)
        found = float(bounds.critic(torch.tensor(x), torch.tensor(y)))
        assert found == pytest.approx(expected, abs=1e-5)


def test_dv_comes_to_the_information_and_varies_more_than_jsd_in_small_batches():
    found = bounds.estimates([4, 4000], draws=20).set_index(["bound", "batch"])
    large = found.loc[("dv", 4000)]
    assert large["mean"] == pytest.approx(bounds.information(), abs=3 * large["std"])
    assert bounds.information() == pytest.approx(0.83, abs=0.005)
    assert found.loc[("dv", 4), "std"] > 2 * found.loc[("jsd", 4), "std"]
    assert found.loc[("jsd", 4000), "mean"] < 0


def test_dv_pushes_by_softmax_and_jsd_by_sigmoid():
    scores = torch.tensor([-2.0, 0.0, 3.0])
    found = bounds.pushes(scores)
    np.testing.assert_allclose(found["dv"], torch.softmax(scores, 0), atol=1e-6)
    np.testing.assert_allclose(found["jsd"], torch.sigmoid(scores) / 3, atol=1e-6)


def test_two_bounds_draws_both_in_three_panels():
    worth, push, batch = figures.two_bounds(batches=(4, 8), draws=5).axes
    jsd, dv = (line.get_ydata() for line in worth.lines[:2])
    assert max(jsd) <= 0 and jsd[0] == pytest.approx(-2 * math.log(2)) and max(dv) > 10
    assert len(push.patches) == 2 * 16
    assert len(batch.lines) == 3 and batch.get_ylabel() == "nats"


def test_pair_scores_are_those_of_the_loss(tour):
    _, local, glob = tour.features()
    for reading in readings.READINGS:
        settings = tour.method.objective.model_copy(update={"marginal": reading})
        joint, marginal = readings.pair_scores(local, glob, settings, seed=3)
        generator = torch.Generator().manual_seed(3)
        expected = -infoseg_loss(local, glob, settings, generator)
        torch.testing.assert_close(jsd_lower_bound(joint, marginal), expected)


def test_pairs_show_every_reading_with_its_own_numbers(tour):
    axes = figures.pairs(tour).axes
    assert len(axes) == 4 + len(readings.READINGS)
    _, local, glob = tour.features()
    for reading, ax in zip(readings.READINGS, axes[4:], strict=True):
        settings = tour.method.objective.model_copy(update={"marginal": reading})
        marginal = readings.pair_scores(local, glob, settings)[1][0]
        assert (shown(ax) == marginal.numpy()).all()
        loss = infoseg_loss(local, glob, settings, torch.Generator().manual_seed(0))
        told = numbers(ax.get_xlabel())
        assert told[0] == pytest.approx(float(marginal.mean()), abs=0.006)
        assert told[-2:] == pytest.approx([8, -float(loss)], abs=0.006)


def test_frames_are_taken_from_first_to_last_closer_at_the_beginning():
    assert learning.frame_steps(1000, 5) == [0, 63, 250, 563, 1000]
    assert learning.frame_steps(3, 8) == [0, 1, 2, 3]


def test_the_film_is_of_a_training_that_changes_the_network_in_place(tour):
    before = tour.inside
    films = [len(film.labels) for film in learning.frames(tour, 6, count=3)]
    assert films == [1, 2, 3]
    assert not torch.equal(before.scores, tour.inside.scores)
    assert not tour.method.training


def test_the_film_draws_each_frame_with_its_step_and_accuracy(tour):
    *_, film = learning.frames(tour, 6, count=3)
    assert film.steps == [0, 2, 6] and film.losses[-1][0] == 6
    assert (film.labels[-1] == tour.inside.labels.numpy()).all()
    picture, *seen, annotation, curve = learning.draw(film, tour).axes
    told = [numbers(ax.get_xlabel()) for ax in seen]
    expected = [[s, a] for s, a in zip(film.steps, film.accuracies, strict=True)]
    assert np.abs(np.array(told) - expected).max() <= 0.5
    for ax, labels in zip(seen, film.labels, strict=True):
        assert (shown(ax) == colourise(film.match[labels])).all()
    assert (shown(annotation) == colourise(tour.annotation)).all()
    assert curve.lines[0].get_xydata().tolist() == [list(map(float, x)) for x in film.losses]


def test_the_same_seed_gives_the_same_film(tmp_path):
    films = []
    for name in "ab":
        data = device_data(tmp_path / name)
        method = build("infoseg", optimiser=OPTIMISER)
        again = Tour(method, data, ["a", "b", "c"], data.evaluated[:3], training(), seed=0)
        films.append(list(learning.frames(again, 5, count=2))[-1])
    assert films[0].losses == films[1].losses and films[0].accuracies == films[1].accuracies


def test_features_of_the_pictures_are_those_of_the_one_and_leave_no_trace(tour):
    tour.method.train()
    images, local, glob = tour.features()
    assert tour.method.training and len(images) == 3 and not local.requires_grad
    inside = tour.inside
    torch.testing.assert_close(local[0], inside.local)
    torch.testing.assert_close(glob[0], inside.glob)
    second = look_inside(tour.method, tour.data.views(*tour._centre(2), mask=False), 1)
    torch.testing.assert_close(local[1], second.local)


def test_rows_leave_room_for_captions_and_refuse_nothing():
    one = drawing.Picture(np.zeros((4, 4)), "a\nb", "title")
    figure = drawing.rows([[one, one], [one]])
    assert len(figure.axes) == 3
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert boxes[2].y1 <= boxes[0].y0 + 0.5  # the second row starts below the first one's captions
    assert all(box.y0 >= -0.5 and box.x0 >= -0.5 for box in boxes)
    with pytest.raises(ValueError, match="no picture"):
        drawing.rows([[]])


def test_tests_shorten_a_notebook_by_its_parameters_cell():
    from types import SimpleNamespace

    namespace: dict = {}
    exec((ROOT / "notebooks" / "conftest.py").read_text(), namespace)
    cell = SimpleNamespace(metadata={"tags": ["parameters"]}, source="early = 100\nsteps = 1000")
    item = SimpleNamespace(cell=cell, path=ROOT / "notebooks" / "00_paper.ipynb")
    other = SimpleNamespace(path=ROOT / "tests" / "test_tour.py")
    namespace["pytest_collection_modifyitems"]([item, other])
    assert cell.source == "early = 4\nsteps = 10"
    cell.source = "early = 100"
    with pytest.raises(AssertionError, match="no parameter steps"):
        namespace["pytest_collection_modifyitems"]([item])
