"""The training, and one picture's segmentation every few steps of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from infoseg.evaluation import confusions, match_clusters, pixel_accuracy
from infoseg.machine import reproducible
from infoseg.reporting.data_flow import figure2
from infoseg.reporting.palette import IGNORED, UNMATCHED, colourise, legend_handles
from infoseg.reporting.placing import placed_axes
from infoseg.reporting.style import ACCENT, COMPACT_LEGEND, INK, new_figure, theme
from infoseg.tour.start import Tour
from infoseg.training import Optimisation

FRAMES = 8
#: What Eq. 8 comes to for a critic that cannot tell pairs apart.
GUESS = 2 * math.log(2)


@dataclass
class Film:
    """What was seen of a training: a frame now and then, and a loss for every few steps.

    labels: clusters of the picture, (M, N), one array per frame. steps, accuracies: of the frames,
    PA in percent over all labelled pictures. losses: (step, mean loss since the last). match: the
    class of each cluster, (K,), by the last frame; it gives the colours and nothing else.
    """

    total: int
    steps: list[int] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    match: np.ndarray = field(default_factory=lambda: np.zeros(0, int))


def frame_steps(steps: int, count: int = FRAMES) -> list[int]:
    """At which steps a frame is taken: 0, `steps`, and between them closer at the beginning."""
    places = np.linspace(0, 1, count) ** 2 * steps
    return sorted({math.ceil(place) for place in places})


def frames(tour: Tour, steps: int, count: int = FRAMES) -> Iterator[Film]:
    """Train the tour's network in place; yields the film so far at every frame, the start's first.

    Labels serve the accuracies and the colours, and nothing of them reaches the training.
    """
    method, film, due = tour.method, Film(steps), frame_steps(steps, count)
    method.optimiser = method.optimiser.model_copy(update={"steps": steps})
    with reproducible(tour.training, tour.seed):
        optimisation = Optimisation(method, tour.data, tour.training, tour.seed, "tour")
        _take(film, tour, 0)
        yield film
        while optimisation.step < steps:
            logged = optimisation.advance()
            if logged is not None:
                film.losses.append((optimisation.step, logged))
            if optimisation.step in due:
                _take(film, tour, optimisation.step)
                yield film
    method.eval()


def _take(film: Film, tour: Tour, step: int) -> None:
    counts = confusions(tour.method, tour.data, tour.training.evaluation_batch)[0].sum(0)
    film.match = match_clusters(counts)
    film.steps.append(step)
    film.labels.append(tour.inside.labels.numpy())
    film.accuracies.append(pixel_accuracy(counts, film.match))


def take_steps(tour: Tour, steps: int) -> None:
    """Train the tour's network in place, unseen."""
    for _ in frames(tour, steps, count=2):
        pass


def watch(tour: Tour, steps: int) -> Film:
    """Train the tour's network, and draw the film anew in place at every frame, while it grows.

    Returns the film; outside of a notebook nothing is drawn.
    """
    from IPython.display import display

    handle = None
    for number, film in enumerate(frames(tour, steps)):
        if number == 0:
            handle = display(draw(film, tour), display_id=True)
        elif handle:  # None outside of a notebook
            handle.update(draw(film, tour))
    return film


def data_flow(tour: Tour, film: Film) -> Figure:
    """Figure 2 of the paper for the picture: X, L, V, its labels and S, classes named by the film's
    match."""
    x = tour.inside
    match = [tour.classes[c] if c >= 0 else None for c in film.match]
    return figure2(
        x.picture, x.local, x.probabilities, x.labels, x.assigned, list(tour.classes), match
    )


def draw(film: Film, tour: Tour, columns: int = FRAMES) -> Figure:
    """The picture, its segmentation at every frame so far, its annotation; and the loss below.

    Clusters have the colour of the class they are matched to by the last frame, in all frames.
    """
    picture, annotation = tour.inside.picture, tour.annotation
    cell, gap, edge = 0.86, 0.06, 0.08
    wide = 2 * edge + (columns + 2) * (cell + gap) - gap
    total = (wide, 3.0)
    painted = np.where(film.match < 0, UNMATCHED, film.match)
    shown = [(picture, "picture")]
    shown += [
        (colourise(painted[labels]), f"step {step}\nPA {accuracy:.0f} %")
        for labels, step, accuracy in zip(film.labels, film.steps, film.accuracies, strict=True)
    ]
    with theme():
        figure = new_figure(*total, layout=None)
        places = [*range(len(shown)), columns + 1]
        for place, (image, caption) in zip(
            places, [*shown, (colourise(annotation), "annotation")], strict=True
        ):
            box = (edge + place * (cell + gap), total[1] - edge - cell, cell, cell)
            ax = placed_axes(figure, total, box)
            ax.imshow(image, interpolation="none")
            ax.set_xlabel(caption, fontsize=7.5, labelpad=3)
        below = figure.add_axes((0.62 / total[0], 0.62 / total[1], 1 - 0.75 / total[0], 0.3))
        if film.losses:
            below.plot(*zip(*film.losses, strict=True), color=ACCENT, lw=1.3)
        below.axhline(GUESS, color="0.5", lw=0.9, ls=(0, (4, 2)))
        below.annotate(
            "a guess, 2 log 2",
            (film.total, GUESS),
            (0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
            color=INK,
        )
        below.set_xlim(0, film.total)
        below.set_xlabel("step")
        below.set_ylabel("loss, nats")
        below.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        below.margins(y=0.15)
        sns.despine(ax=below)
        handles = legend_handles(tour.classes, ignored=bool((annotation == IGNORED).any()))
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(edge / total[0], 0.01),
            ncols=len(handles),
            **COMPACT_LEGEND,
        )
    return figure
