"""What notebook 2 shows: clusters under the colour of the class they fit."""

import numpy as np
import pytest

from infoseg.diagnostics import Examples
from infoseg.reporting import sections
from infoseg.reporting.palette import IGNORED, UNMATCHED


@pytest.fixture
def drawn(monkeypatch) -> list:
    panels: list = []
    monkeypatch.setattr(sections, "draw_panels", panels.extend)
    return panels


def examples(predictions: np.ndarray, annotations: np.ndarray, classes: list[str]) -> Examples:
    return Examples(
        images=np.zeros((*annotations.shape, 3), np.uint8),
        predictions=predictions.astype(np.uint8),
        annotations=annotations.astype(np.uint8),
        classes=np.array(classes),
    )


def test_clusters_take_the_colour_of_the_class_they_fit(drawn):
    annotations = np.random.default_rng(0).integers(0, 3, (4, 6, 6))
    predictions = np.array([2, 0, 1])[annotations]  # the same segments under other numbers
    annotations[0, :2] = IGNORED
    sections.segments(examples(predictions, annotations, ["sky", "plant", "ground"]), "d", "M")
    assert [panel.letter for panel in drawn] == ["a", "b", "c", "d"]
    for panel in drawn:
        seen = panel.annotation != IGNORED
        assert (panel.predictions["M"][seen] == panel.annotation[seen]).all()


def test_clusters_beyond_the_classes_have_no_colour_of_a_class(drawn):
    annotations = np.repeat([0, 0, 0, 1, 1, 1], 6).reshape(1, 6, 6)
    predictions = np.repeat([0, 0, 2, 1, 1, 1], 6).reshape(1, 6, 6)
    sections.segments(examples(predictions, annotations, ["sky", "plant"]), "d", "M")
    assert drawn[0].predictions["M"][:, 0].tolist() == [0, 0, UNMATCHED, 1, 1, 1]
