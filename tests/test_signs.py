"""Failure signs on constructed evaluations: collapse, permuted labels, good answers, chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoseg.diagnostics import chance_accuracy, labels_permute, signs, summarise

PIXELS = 1000


def part(counts: np.ndarray, entropy: float | None = None) -> dict:
    """An evaluation part from the confusion of each image, (N, K, C)."""
    counts = np.asarray(counts, dtype=np.int64)
    names = [f"class {c}" for c in range(counts.shape[2])]
    ids = [f"image {i}" for i in range(len(counts))]
    return summarise(counts, ids, names) | {"assignment_entropy": entropy}


def shares(images: int, classes: int, seed: int = 0) -> np.ndarray:
    """Pixels of each class in each image, (N, C): images differ, no class is rare."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(PIXELS, rng.dirichlet(np.full(classes, 4.0), size=images))


def right(pixels: np.ndarray, quality: float = 1.0) -> np.ndarray:
    """Clusters that are the classes; 1 - quality of every class is spread over all clusters."""
    classes = pixels.shape[1]
    spread = quality * np.eye(classes) + (1 - quality) / classes
    return np.round(spread[None] * pixels[:, None, :]).astype(np.int64)


def permuted(pixels: np.ndarray, quality: float = 1.0, seed: int = 0) -> np.ndarray:
    """The same segments as `right`, under labels drawn anew for every image."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(image) for image in right(pixels, quality)])


def test_a_good_answer_has_no_sign_unless_stripes_are_as_good():
    actual = part(right(shares(50, 3), 0.9), entropy=0.4)
    assert signs(actual) == signs(actual, stripes_pa=actual["pa"] - 0.1) == []
    [sign] = signs(actual, stripes_pa=99)
    assert sign == f"no better than horizontal stripes (PA {actual['pa']:.1f}, stripes 99.0)"


def test_collapse_is_said_in_numbers_and_not_taken_for_permuted_labels():
    pixels = shares(50, 3)
    counts = np.zeros((50, 3, 3), int)
    counts[:, 1] = pixels
    first, second = signs(part(counts))
    assert first == "uses 1 of 3 clusters"
    constant = 100 * pixels.sum(0).max() / pixels.sum()
    assert second == (
        f"no better than one class everywhere (PA {constant:.1f}, constant answer {constant:.1f})"
    )


def test_permuted_labels_are_told_from_bad_segments():
    pixels = shares(60, 3)
    evaluation = part(permuted(pixels, 0.9))
    actual = [text for text in signs(evaluation) if text.startswith("labels permute")]
    within = evaluation["pa"] + evaluation["permutation_gap"]
    assert within > 90 and evaluation["pa"] < 50  # the case is what it is meant to be
    assert actual == [
        f"labels permute between images (within-image PA {within:.0f}, "
        f"data-set PA {evaluation['pa']:.0f})"
    ]
    # Segments no better than chance have nothing to permute, whatever a match per image gains.
    assert not labels_permute(part(permuted(pixels, 0.1)))


@pytest.mark.parametrize("classes", [2, 3, 6, 15])
def test_answers_that_know_nothing_do_not_count_as_permuted(classes):
    """Each image has a favourite cluster and a commonest class: a match per image gains a lot."""
    rng = np.random.default_rng(1)
    pixels = rng.multinomial(PIXELS, rng.dirichlet(np.full(classes, 0.8), size=200))
    usage = rng.dirichlet(np.full(classes, 0.8), size=200)
    counts = np.round(usage[:, :, None] * pixels[:, None, :]).astype(int)
    evaluation = part(counts)
    assert evaluation["permutation_gap"] > 5
    assert not labels_permute(evaluation)


@pytest.mark.parametrize(
    ("actual", "sign"),
    [
        (14, []),  # of 500 pixels beyond the largest class: PA 52.8
        (4, ["hardly better than one class everywhere (PA 50.8, constant answer 50.0)"]),
        (0, ["no better than one class everywhere (PA 50.0, constant answer 50.0)"]),
    ],
)
def test_the_constant_answer_is_a_bar_with_a_margin(actual, sign):
    counts = np.zeros((20, 3, 3), int)
    counts[:, 0] = [500, 300 - actual, 200 - actual]
    counts[:, 1, 1] = counts[:, 2, 2] = actual
    texts = signs(part(counts))
    assert [text for text in texts if "one class everywhere" in text] == sign


def test_uniform_v_is_named_only_when_v_is_known_to_be_uniform():
    counts = right(shares(20, 3), 0.9)
    assert signs(part(counts, 0.99)) == ["V is still uniform (entropy 0.99 of log K)"]
    assert signs(part(counts, 0.97)) == signs(part(counts, None)) == []
    without = part(counts)
    del without["assignment_entropy"]
    assert signs(without) == []


def test_clusters_are_missed_only_where_there_are_classes_for_them():
    pixels = shares(40, 3)
    pixels[:, 2] = 0
    pixels[0, 2] = 30  # a class of a thousandth of the pixels needs no cluster of its own
    assert signs(part(right(pixels))) == []
    # More clusters than classes: all of them count.
    counts = np.concatenate([right(shares(40, 3)), np.zeros((40, 3, 3), int)], axis=1)
    assert signs(part(counts)) == ["uses 3 of 6 clusters"]


def test_no_annotation_no_verdict():
    assert signs(part(np.zeros((4, 3, 3)))) == ["no pixel is annotated, so nothing was measured"]


def test_chance_is_that_of_cluster_sizes():
    pixels = np.tile([500, 300, 200], (20, 1))
    assert chance_accuracy(right(pixels, 0.0)) == pytest.approx(100 / 3, abs=0.2)
    collapsed = np.zeros((20, 3, 3), int)
    collapsed[:, 0] = pixels
    assert chance_accuracy(collapsed) == pytest.approx(50)


sizes = st.tuples(st.integers(1, 12), st.integers(2, 5), st.integers(2, 5))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_a_perfect_answer_never_shows_a_sign(images, classes, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.multinomial(PIXELS, rng.dirichlet(np.full(classes, 0.5), size=images))
    assert signs(part(right(pixels))) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_perfect_segments_under_random_labels_always_permute(classes, seed):
    pixels = shares(150, classes, seed)
    assert labels_permute(part(permuted(pixels, seed=seed)))
    assert not labels_permute(part(right(pixels)))
