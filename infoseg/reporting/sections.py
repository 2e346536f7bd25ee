"""The pictures that every method is shown by, straight after its training."""

from __future__ import annotations

import numpy as np

from infoseg.data.store import IGNORE
from infoseg.diagnostics import UNMATCHED, Examples
from infoseg.evaluation import match_clusters
from infoseg.reporting.figures import Panel, draw_panels


def segments(examples: Examples, dataset: str, title: str):
    """Pictures, predictions and annotations, clusters painted in the colour of a class.

    examples: with cluster numbers as predictions. Which class a cluster is painted as is settled by
    one match over these pictures alone, for looking at; the evaluation's is over the data set.
    """
    annotated = examples.annotations != IGNORE
    clusters, classes = int(examples.predictions.max()) + 1, len(examples.classes)
    counts = np.zeros((clusters, classes), np.int64)
    np.add.at(counts, (examples.predictions[annotated], examples.annotations[annotated]), 1)
    match = match_clusters(counts)
    painted = np.where(match < 0, UNMATCHED, match).astype(np.uint8)[examples.predictions]
    return draw_panels(
        [
            Panel(dataset, letter, image, {title: prediction}, annotation, list(examples.classes))
            for letter, image, prediction, annotation in zip(
                "abcdefgh", examples.images, painted, examples.annotations, strict=False
            )
        ]
    )
