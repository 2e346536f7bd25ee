"""Signals of segmentations that are known, and the verdict that is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infoseg.diagnostics import Stripes
from infoseg.own import segment_picture
from infoseg.verdict import Signals, agreement, colour_clusters, look, verdict
from infoseg.views import Views

CLUSTERS = 3
SHADES = np.array([[200, 30, 20], [20, 60, 190], [240, 240, 240]], np.uint8)


def picture(seed: int) -> np.ndarray:
    """Blocks of 10 px in one of three colours, without any order."""
    blocks = np.random.default_rng(seed).integers(3, size=(6, 8))
    return SHADES[blocks.repeat(10, 0).repeat(10, 1)]


PICTURES = [picture(seed) for seed in range(6)]


def brightest(image: np.ndarray) -> np.ndarray:
    return image.argmax(-1).astype(np.uint8)


def layers(image: np.ndarray) -> np.ndarray:
    rows = np.arange(image.shape[0]) * CLUSTERS // image.shape[0]
    return np.broadcast_to(rows.astype(np.uint8)[:, None], image.shape[:2])


def by_colour(image: np.ndarray) -> np.ndarray:
    return segment_picture(colour_clusters(PICTURES, CLUSTERS), image, None)


def left_and_right(image: np.ndarray) -> np.ndarray:
    columns = np.arange(image.shape[1]) * CLUSTERS // image.shape[1]
    return np.broadcast_to(columns.astype(np.uint8), image.shape[:2])


def constant(image: np.ndarray) -> np.ndarray:
    return np.zeros(image.shape[:2], np.uint8)


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (layers, {"jitter": 1, "used": 3, "largest": 1 / 3, "colour": 0}),
        (left_and_right, {"jitter": 1, "colour": 0}),
        (constant, {"largest": 1, "used": 1, "colour": 0, "jitter": 0}),
        (by_colour, {"colour": 1, "colour_place": 0}),
    ],
)
def test_signals_of_segmentations_that_are_known(segment, expected):
    signals = look(segment, PICTURES, CLUSTERS)[0].as_dict()
    for name, value in expected.items():
        assert signals[name] == pytest.approx(value, abs=0.12), name


def test_layered_pictures_are_known_by_their_colours():
    layered = [SHADES[layers(image)] for image in PICTURES]
    assert look(constant, layered, CLUSTERS)[0].colour_place == 1


def test_k_means_finds_three_colours_and_takes_the_numbers_of_the_clusters():
    for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2]):

        def segment(image: np.ndarray, order: list[int] = order) -> np.ndarray:
            distances = np.abs(image[..., None, :].astype(int) - SHADES).sum(-1)
            return np.array(order, np.uint8)[distances.argmin(-1)]

        signals, _, colours = look(segment, PICTURES, CLUSTERS)
        assert signals.colour == 1
        for image in PICTURES:
            assert (segment_picture(colours, image, None) == segment(image)).all()


@settings(deadline=None)  # the first call imports SciPy's optimiser
@given(st.lists(st.integers(0, 2), min_size=6, max_size=40), st.permutations(range(3)))
def test_agreement_does_not_depend_on_the_names_of_matched_clusters(labels, names):
    array = np.array(labels)
    expected = 1.0 if len(set(labels)) > 1 else 0.0  # then nothing is beyond chance
    assert agreement(array, array, 3) == pytest.approx(expected)
    assert agreement(array, np.array(names)[array], 3, match=True) == pytest.approx(expected)


def test_agreement_is_cohens_kappa():
    # Two raters, 50 items: the textbook's 20, 5, 10, 15, whose kappa is 0.4.
    first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
    second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    assert agreement(first, second, 2) == pytest.approx(0.4)
    first, second = np.random.default_rng(0).integers(0, 3, (2, 100_000))
    assert abs(agreement(first, second, 3)) < 0.01


def test_stripes_are_as_equal_as_rows_allow():
    for height in (3, 32, 97):
        measured = Stripes(CLUSTERS).segment(Views(torch.zeros(1, 3, height, 5)))[0]
        rows = np.bincount(measured[:, 0].numpy(), minlength=CLUSTERS)
        assert rows.sum() == height and np.ptp(rows) <= 1


GOOD = Signals(clusters=3, largest=0.4, used=3, jitter=0.8, colour=0.4, colour_place=0.05)


@pytest.mark.parametrize(
    ("changes", "word", "reason"),
    [
        ({}, "useful", "keeps its labels when colours change (agreement 0.80)"),
        ({"starts": 0.2}, "useful", "other starts agree by 0.20"),
        ({"colour_place": 0.2}, "doubtful", "stripes may be as good"),
        ({"colour": 0.2}, "doubtful", "little in common with K-Means on colour (0.20)"),
        ({"jitter": 0.7}, "doubtful", "some labels change with the colours (0.70)"),
        ({"largest": 0.87}, "not useful", "one cluster holds 87 % of the pixels"),
        ({"used": 2}, "not useful", "only 2 of 3 clusters are used"),
        ({"jitter": 0.3}, "not useful", "labels change with the colours (agreement 0.30)"),
        ({"colour": 0.95}, "not useful", "it repeats K-Means on colour"),
        ({"colour": 0.05}, "not useful", "nothing in common with K-Means on colour"),
        ({"colour": 0.05, "jitter": 0.5}, "not useful", "labels change with the colours"),
    ],
)
def test_verdicts_and_their_reasons(changes, word, reason):
    measured = verdict(GOOD._replace(**changes))
    assert measured.word == word
    said = measured.sentences
    assert said[0].startswith(f"{word.capitalize()}: ") and reason in said[0]
