"""What a notebook shows of one training: its signal, and the pictures every method is shown by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infoseg.examples import Examples
from infoseg.params import Run
from infoseg.reporting.figures import Panel, draw_panels, training_curve

if TYPE_CHECKING:
    from infoseg.project import Project


def train_and_show(project: Project, dataset: str, wanted: str, seed: int, *methods: str) -> None:
    """Train those of `methods` that are wanted, and show the signal and eight segmentations.

    wanted: a method of `conf/`, or "all". A variant of a method (`infoseg_eq8`) belongs to the
    section of its kind. Prints a line where nothing here is wanted.
    """
    from IPython.display import display

    kind = None if wanted == "all" else project.params.method(wanted, dataset).kind
    chosen = methods if kind is None else [wanted] if kind in methods else []
    if not chosen:
        print("Not part of this run.")
    for method in chosen:
        run = Run(dataset=dataset, method=method, seed=seed)
        project.train(dataset, method, seed)
        title = project.params.method(method, dataset).title
        display(training_curve(project.history(run), title=f"{title}, {run.key}"))
        if project.load(dataset).index["labelled"].any():  # pictures are shown beside annotations
            display(segments(project.clusters(run), dataset, title))


def segments(examples: Examples, dataset: str, title: str):
    """Pictures, clusters and annotations, where the clusters have not been matched to classes."""
    clusters = int(examples.predictions.max()) + 1
    names = [*examples.classes, *(f"cluster {i}" for i in range(len(examples.classes), clusters))]
    return draw_panels(
        [
            Panel(dataset, letter, image, {title: prediction}, annotation, names)
            for letter, image, prediction, annotation in zip(
                "abcdefgh",
                examples.images,
                examples.predictions,
                examples.annotations,
                strict=False,
            )
        ]
    )
