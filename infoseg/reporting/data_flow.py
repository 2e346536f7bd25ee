"""Figure 2 of the paper for one real image: from X to its segmentation, and to S."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from infoseg.diagnostics import class_ids
from infoseg.reporting.palette import GREY, UNMATCHED, class_colours, colourise, legend_handles
from infoseg.reporting.placing import LINE, as_picture, bottom_legend, placed_axes
from infoseg.reporting.style import ACCENT, INK, new_figure, theme

# Inches.
CELL, VOLUME, EDGE, SHORT, LONG = 1.3, 2.1, 0.08, 0.35, 0.85
HIGH = 2 * CELL + 0.85
GAP = 0.05
COLUMNS = 7
TAIL = 2.0
"""Percent of positions at either end that a principal colour may saturate."""


def figure2(
    image: ArrayLike,
    local: ArrayLike,
    probabilities: ArrayLike,
    labels: ArrayLike,
    assigned: ArrayLike,
    classes: Sequence[str],
    match: Sequence[str | None] | None = None,
) -> Figure:
    """Figure 2's data flow for one real image: X, L, V, the arg max, S.

    image: (H, W, 3 or more) uint8, or float in 0..1. local: L, (P, U, V). probabilities: V,
    (K, U, V). labels: cluster of every pixel, (H, W). assigned: S, (P, U, V); all as
    `infoseg.inspection.look_inside` gives them. classes: names. match: the class of each cluster,
    None where it has none; without it cluster k is class k. Solid arrows are the segmentation step,
    dashed ones the mutual-information step.
    Raises ValueError when shapes do not fit together or a cluster has no name.
    """
    picture, labels = as_picture(image), np.asarray(labels)
    local, assigned, volume = (
        np.asarray(x, dtype=np.float64) for x in (local, assigned, probabilities)
    )
    _check(picture, local, volume, labels, assigned)
    ids = _class_ids(len(volume), classes, match)
    if labels.min() < 0 or labels.max() >= len(volume):
        raise ValueError(f"labels are clusters 0 to {len(volume) - 1}, got {labels.max()}")
    features, targets = principal_colours(local, assigned)
    handles = legend_handles(classes, UNMATCHED in ids)
    total = (
        2 * EDGE + 3 * CELL + VOLUME + SHORT + 2 * LONG,
        HIGH + LINE * math.ceil(len(handles) / COLUMNS) + 0.12,
    )
    lefts = np.cumsum([EDGE, CELL + SHORT, CELL + LONG, VOLUME + LONG])
    top = total[1] - EDGE
    upper, lower = top - CELL / 2, top - 1.5 * CELL - 0.42
    middle = (upper + lower) / 2
    tall = CELL * min(1.0, picture.shape[0] / picture.shape[1])
    with theme():
        figure = new_figure(*total, layout=None)
        page = _page(figure, total)

        def panel(left: float, centre: float, shown: np.ndarray, text: str, **style: Any) -> None:
            wide = tall * picture.shape[1] / picture.shape[0]
            box = (left + (CELL - wide) / 2, centre - tall / 2, wide, tall)
            ax = placed_axes(figure, total, box)
            ax.imshow(shown, aspect="auto", **({"interpolation": "none"} | style))
            ax.set_xlabel(text, fontsize=7.5, labelpad=3)

        panel(lefts[0], middle, picture, "Image X", interpolation="auto")
        panel(lefts[1], middle, features, "Local features L")
        panel(lefts[3], upper, colourise(ids[labels]), "Segmentation")
        panel(lefts[3], lower, targets, "Assigned features S")
        _volume(figure, total, (lefts[2], middle - VOLUME / 2), volume, ids, len(classes))
        under = middle - VOLUME / 2 - 0.12
        words = f"Class probabilities V, K = {len(volume)}"
        _say(page, lefts[2] + VOLUME / 2, under, words, size=7.5)
        _say(page, lefts[2] + VOLUME / 2, under - 0.14, "white 0, black 1", size=6.5, color="0.4")
        # Said under L alone; S stands where its arrow says what it is.
        words = "first three principal\ncomponents, here and in S"
        at = lefts[1] + CELL / 2, middle - tall / 2 - 0.34
        _say(page, *at, words, size=6.5, color="0.4")
        _flow(page, lefts[0] + CELL, lefts[1], middle)
        _flow(page, lefts[1] + CELL, lefts[2], middle, "softmax\nτ ⟨L, H$_k$⟩")
        _flow(page, lefts[2] + VOLUME, lefts[3], upper, "arg max")
        _flow(page, lefts[2] + VOLUME, lefts[3], lower, "Σ$_k$ V$_k$ H$_k$", dashed=True)
        # The second step: from L below everything else to S.
        start, end, depth = lefts[1] + CELL / 2, lefts[3], lower - CELL / 2 + 0.05
        page.plot([start, start], [middle - tall / 2 - 0.52, depth], **_line(True))
        _flow(page, start - GAP, end, depth, dashed=True)
        _say(page, start + 0.08, depth - 0.1, "maximise mutual information", size=7, ha="left")
        bottom_legend(figure, handles, COLUMNS, EDGE / total[0])
    return figure


def principal_colours(local: ArrayLike, assigned: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """L's first three principal components as red, green, blue, and S in the same colours.

    local, assigned: (P, U, V). Returns two (U, V, 3) uint8. The projection is L's; one scale serves
    both, so that equal features have equal colours. Components that L does not have are mid-grey.
    """
    local, assigned = np.asarray(local, np.float64), np.asarray(assigned, np.float64)
    grid = local.shape[1:]
    rows = [x.reshape(len(x), -1).T for x in (local, assigned)]
    mean = rows[0].mean(0)
    _, spread, axes = np.linalg.svd(rows[0] - mean, full_matrices=False)
    axes = axes[:3][spread[:3] > 1e-9 * max(spread[0], 1e-30)]
    # A component's sign is arbitrary: the largest weight is made positive.
    largest = np.abs(axes).argmax(1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    both = np.concatenate([(x - mean) @ axes.T for x in rows])
    low, high = np.percentile(both, [TAIL, 100 - TAIL], axis=0)
    scaled = np.clip((both - low) / np.maximum(high - low, 1e-12), 0, 1)
    colours = np.full((len(both), 3), 0.5)
    colours[:, : scaled.shape[1]] = scaled
    painted = np.round(colours * 255).astype(np.uint8)
    half = len(rows[0])
    return painted[:half].reshape(*grid, 3), painted[half:].reshape(*grid, 3)


def _check(
    picture: np.ndarray,
    local: np.ndarray,
    volume: np.ndarray,
    labels: np.ndarray,
    assigned: np.ndarray,
) -> None:
    """Raises ValueError for shapes that do not belong to one image."""
    for name, array in (("L", local), ("V", volume), ("S", assigned)):
        if array.ndim != 3 or array.shape[1:] != local.shape[1:]:
            raise ValueError(f"{name} is {array.shape}, on another grid than L, {local.shape}")
    if assigned.shape != local.shape:
        raise ValueError(f"S is {assigned.shape}, L {local.shape}: they are of the same length")
    if labels.shape != picture.shape[:2]:
        raise ValueError(f"labels are {labels.shape}, the image {picture.shape[:2]}")


def _class_ids(
    clusters: int, classes: Sequence[str], match: Sequence[str | None] | None
) -> np.ndarray:
    """Class id of each cluster, 254 where it has none: (K,) int64."""
    if match is None:
        match = list(classes)
    if len(match) != clusters:
        raise ValueError(f"V has {clusters} clusters, but {len(match)} of them are named")
    unknown = [name for name in match if name is not None and name not in classes]
    if unknown:
        raise ValueError(f"'{unknown[0]}' is not among the classes {list(classes)}")
    return np.array(class_ids(match, classes), dtype=np.int64)


def _volume(
    figure: Figure,
    total: tuple[float, float],
    corner: tuple[float, float],
    volume: np.ndarray,
    ids: np.ndarray,
    classes: int,
) -> None:
    """One small map per cluster in a square grid, framed in the colour of its class."""
    colours = np.append(class_colours(classes), [GREY], axis=0) / 255
    # By class, which is the legend's order; clusters without a class come last.
    order = np.argsort(ids, kind="stable")
    across = math.ceil(math.sqrt(len(order)))
    down = math.ceil(len(order) / across)
    pitch = VOLUME / across
    gap = 0.07 if across <= 3 else 0.05
    start = corner[1] + (VOLUME + down * pitch) / 2
    for place, cluster in enumerate(order):
        row, column = divmod(place, across)
        box = (
            corner[0] + column * pitch + gap / 2,
            start - (row + 1) * pitch + gap / 2,
            pitch - gap,
            pitch - gap,
        )
        ax = placed_axes(figure, total, box)
        ax.imshow(
            volume[cluster], cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="none"
        )
        for spine in ax.spines.values():
            spine.set(edgecolor=colours[min(ids[cluster], classes)], linewidth=2)


def _page(figure: Figure, total: tuple[float, float]) -> Axes:
    """Invisible axes over the whole figure, in inches."""
    page = figure.add_axes((0, 0, 1, 1))
    page.set_xlim(0, total[0])
    page.set_ylim(0, total[1])
    page.set_axis_off()
    return page


def _line(dashed: bool) -> dict[str, Any]:
    return {"color": ACCENT if dashed else INK, "lw": 1.0, "ls": (0, (4, 2)) if dashed else "-"}


def _flow(
    page: Axes, start: float, end: float, y: float, text: str = "", dashed: bool = False
) -> None:
    """An arrow to the right with what it does written above it."""
    page.plot([start + GAP, end - GAP - 0.05], [y, y], **_line(dashed))
    style = {"arrowstyle": "-|>", "lw": 0, "color": _line(dashed)["color"], "mutation_scale": 8}
    page.annotate("", (end - GAP + 0.02, y), (end - GAP - 0.1, y), arrowprops=style)
    _say(page, (start + end) / 2, y + 0.07, text, size=7, va="bottom", parse_math=True)


def _say(page: Axes, x: float, y: float, text: str, **style: Any) -> None:
    page.text(x, y, text, **{"ha": "center", "va": "center", "linespacing": 1.2} | style)
