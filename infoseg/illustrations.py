"""Figures 1 to 3 of the paper and the charts around its tables, from the runs of a profile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F

from infoseg.data.batches import DeviceData
from infoseg.diagnostics import class_ids
from infoseg.inspection import Inside, look_inside
from infoseg.machine import reproducible
from infoseg.methods.base import Method
from infoseg.reporting.charts import seeds_strip, training_signals
from infoseg.reporting.figures import confusion_heatmap
from infoseg.reporting.network_figures import colour_segmentation, figure1, figure2
from infoseg.reporting.style import save_figure
from infoseg.results import trivial_frame
from infoseg.settings import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from infoseg.runs import Project

#: The variant with one global feature (Local Deep InfoMax), which Figure 1 shows where it was run.
SINGLE = "single"


class Illustration(NamedTuple):
    """A figure of the report: file stem, heading, what it shows to who cannot see it, caption."""

    name: str
    heading: str
    alt: str
    caption: str


ILLUSTRATIONS = (
    Illustration(
        "seeds",
        "Spread over seeds",
        "One dot per training, by method and data set, with the means and two trivial answers.",
        "Pixel accuracy of every training. Differences smaller than the spread say nothing.",
    ),
    Illustration(
        "figure4",
        "Figure 4: predictions",
        "Rows: pictures, predictions of each method, annotations. Black is not annotated.",
        "Picked by a rule, not by hand: per data set, evenly spaced in rank by their pixel "
        "accuracy under the last method, seed 0, from the best on the left to the worst on the "
        "right, among images of the half for reporting that are annotated at least half as much as "
        "the median one.",
    ),
    Illustration(
        "figure1",
        "Figure 1: why one feature is not enough",
        "Four panels: a picture, its segmentation by colour, its similarity to one global "
        "feature, and InfoSeg's segmentation.",
        "The picture at the middle of the ranking. (b) SLIC and k-means on colours; (c) cosine of "
        "the local features with the one global feature of a network trained with K = 1.",
    ),
    Illustration(
        "figure2",
        "Figure 2: the data flow for one picture",
        "From a picture to local features L, class probabilities V, labels, and the assigned "
        "global features S.",
        "L and S by the first three principal components of L, in the same colours.",
    ),
    Illustration(
        "figure3",
        "Figure 3: the network at the paper's size",
        "Blocks A, B, C and D with their layers and the shapes between them.",
        "Kernels, channels and strides are assumptions that fit the paper's caption.",
    ),
    Illustration(
        "signals",
        "Training signals",
        "Loss, pixel accuracy, entropy of V, permutation gap and clusters used by step.",
        "Collapse shows as few clusters used, permutation of labels between images as a gap that "
        "stays open while the loss falls.",
    ),
    Illustration(
        "confusion",
        "Confusion matrix",
        "Where the pixels of each annotated class went, in percent of the class.",
        "What the paper puts into its supplement.",
    ),
)


def illustrations(project: Project) -> list[Path]:
    """Draw results/<profile>/figures/{figure1,figure2,seeds,signals,confusion}.{png,svg}.

    InfoSeg's first seed is shown. Where the network with one global feature was not trained, Figure
    1 has the mean of InfoSeg's own in its place.
    """
    profile = project.params.profile
    run = project.first_run(profile.figures.dataset, "infoseg")
    evaluation = project.evaluation(run)
    picture = _middle_picture(evaluation)
    method = project.model(run)
    data = project.crops(run.dataset, method)  # once: it may be gigabytes
    inside = _look(project, method, data, picture)
    match = list(evaluation["last"]["match"].values())
    classes = list(evaluation["last"]["iou"])
    ids = class_ids(match, classes)
    single = _single(project, run, data, picture)
    confusion = project.first_run(profile.figures.confusion, "infoseg")
    other = project.evaluation(confusion)
    drawn: dict[str, Callable[[], Figure]] = {
        "figure1": lambda: figure1(
            inside.picture,
            colour_segmentation(inside.picture, len(classes)),
            _similarity(single or inside),
            None,
            torch.tensor(ids)[inside.labels].numpy(),
            classes,
        ),
        "figure2": lambda: figure2(
            inside.picture,
            inside.local,
            inside.probabilities,
            inside.labels,
            inside.assigned,
            classes,
            match,
        ),
        "seeds": lambda: _seeds(project),
        "signals": lambda: _signals(project),
        "confusion": lambda: confusion_heatmap(
            other["last"], f"Confusion on {other['dataset_title']}, InfoSeg"
        ),
    }
    alts = {illustration.name: illustration.alt for illustration in ILLUSTRATIONS}
    paths = []
    for name, draw in drawn.items():
        figure = draw()
        for suffix in (".png", ".svg"):
            path = project.results / "figures" / f"{name}{suffix}"
            paths.append(save_figure(figure, path, alts[name]))
    return paths


def _seeds(project: Project) -> Figure:
    """Runs of Table 1 that did not diverge, beside the trivial answers."""
    evaluations = [project.evaluation(run) for run in project.params.runs()]
    whole = [evaluation for evaluation in evaluations if not evaluation["diverged"]]
    answers = trivial_frame(project, project.params.profile.datasets)
    trivial = answers.pivot(index="dataset_title", columns="method", values="pa_mean")
    return seeds_strip(whole, trivial, project.params.profile.reported)


def _middle_picture(evaluation: dict[str, Any]) -> int:
    """The image at the middle of the ranking by PA: neither the best nor the worst."""
    quantiles = evaluation["last"]["quantiles"]
    return quantiles[len(quantiles) // 2]["item"]


def _look(project: Project, method: Method, data: DeviceData, item: int) -> Inside:
    """What a network makes of one evaluated image."""
    place = data.evaluated[item : item + 1]
    with reproducible(project.params.training, seed=0):
        return look_inside(method, data.views(data.centre(place), place, mask=False))


def _single(project: Project, run: Run, data: DeviceData, item: int) -> Inside | None:
    alone = Run(dataset=run.dataset, method=SINGLE, seed=run.seed)
    if alone.key not in {ablation.key for ablation in project.params.ablations()}:
        return None
    project.evaluation(alone)  # trains it where that is allowed
    return _look(project, project.model(alone), data, item)


def _similarity(inside: Inside):
    """Cosine of every local feature with the mean global one, (U, V)."""
    glob = inside.glob.mean(0)
    return F.cosine_similarity(inside.local, glob[:, None, None], dim=0).numpy()


def _signals(project: Project) -> Figure:
    """Trainings of InfoSeg, with re-matched negatives where they are a row, and of IIC."""
    dataset = project.params.profile.figures.dataset
    shown = [
        run
        for run in project.params.runs()
        if run.dataset == dataset and run.method in ("infoseg", "infoseg_rematched", "iic")
    ]
    # InfoSeg's own first, whose colour stands for it.
    shown.sort(key=lambda run: run.method != "infoseg")
    titles = {run.method: project.params.method(run.method, dataset).title for run in shown}
    return training_signals(
        {run.key: project.history(run) for run in shown},
        title=project.params.datasets[dataset].title,
        method_titles=titles,
    )
