"""What a notebook shows of one training: its signal, and the pictures every method is shown by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from infoseg.evaluation import match_clusters
from infoseg.examples import UNMATCHED, Examples
from infoseg.params import Run
from infoseg.reporting.figures import Panel, draw_panels, training_curve
from infoseg.views import IGNORE

if TYPE_CHECKING:
    from infoseg.project import Project


class Sections:
    """The sections of notebook 2: each trains what is wanted of the methods it is about.

    wanted: a method of `conf/`, or "all". A variant of a method (`infoseg_eq8`) belongs to the
    section of its kind.
    """

    def __init__(self, project: Project, dataset: str, wanted: str, seed: int):
        self.project, self.dataset, self.wanted, self.seed = project, dataset, wanted, seed
        self.seen: set[str] = set()

    def __call__(self, *methods: str) -> None:
        """Train those of `methods` that are wanted; show the signal and eight segmentations."""
        self.seen.update(methods)
        alone = [self.wanted] if self.wanted != "all" and self._kind(self.wanted) in methods else []
        self._show(methods if self.wanted == "all" else alone)

    def others(self) -> None:
        """The section of what had none before: of the profile's methods, where all are wanted."""
        asked = self.project.params.profile.methods if self.wanted == "all" else [self.wanted]
        self._show([method for method in asked if self._kind(method) not in self.seen])

    def _kind(self, method: str) -> str:
        return self.project.params.method(method, self.dataset).kind

    def _show(self, methods: Sequence[str]) -> None:
        from IPython.display import display

        project, dataset = self.project, self.dataset
        if not methods:
            print("Not part of this run.")
        for method in methods:
            run = Run(dataset=dataset, method=method, seed=self.seed)
            project.train(dataset, method, self.seed)
            title = project.params.method(method, dataset).title
            display(training_curve(project.history(run), title=f"{title}, {run.key}"))
            if project.load(dataset).index["labelled"].any():  # shown beside annotations
                display(segments(project.clusters(run), dataset, title))


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
