"""Each class's IoU against its share of the annotation: what a high PA is made of (5.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infoseg.reporting.palette import class_colours
from infoseg.reporting.style import new_figure, theme

SHARES = (0, 1, 2, 5, 10, 20, 30, 40, 60, 80, 100)
"""Ticks of `class_report`, in percent."""


def class_report(
    part: Mapping[str, Any],
    class_shares: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """IoU of each class against its share of the annotation: the raw-material argument of 5.2.

    The paper says that methods reach their PA on a few generic classes that hold over half of all
    pixels; then high points stand on the right. part: `last` or `best` of an evaluation.
    class_shares: percent of the annotated pixels by class name; by default the column sums of the
    part's confusion. The heading counts the largest classes that together hold over half. Classes
    that are neither annotated nor predicted have no IoU and no point.
    Raises ValueError when nothing is annotated or shares and classes have different names.
    """
    classes = list(part["iou"])
    shares = _shares(part) if class_shares is None else dict(class_shares)
    if set(shares) != set(classes):
        raise ValueError(f"shares of {sorted(shares)}, but IoU of {sorted(classes)}")
    percent = np.array([shares[name] for name in classes], dtype=float)
    if not percent.sum() > 0:
        raise ValueError("no pixel is annotated, so there are no shares to show")
    count = generic_classes(percent)
    iou = np.array([np.nan if v is None else v for v in part["iou"].values()], dtype=float)
    known = ~np.isnan(iou)
    verb = "holds" if count == 1 else "hold"
    heading = f"{count} of {len(classes)} classes {verb} over half of the annotated pixels"
    colours = class_colours(len(classes)) / 255
    with theme():
        figure = new_figure(4.8, 3.6)
        ax = figure.subplots()
        ax.grid(color="0.92", lw=0.6)
        ax.set_axisbelow(True)
        ax.scatter(
            percent[known], iou[known], s=34, c=colours[known], ec="0.25", lw=0.6, clip_on=False
        )
        # By square roots, which part the many small classes and still have room for none at all.
        ax.set_xscale("function", functions=(_signed_root, _signed_square))
        ax.set_xlim(-0.004 * percent.max(), 1.25 * percent.max())
        ax.set_xticks([tick for tick in SHARES if tick <= 1.25 * percent.max()])
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set_ylim(-4, max(20.0, 1.15 * float(np.nanmax(iou, initial=0))))
        ax.set_xlabel("Share of the annotated pixels (%, spaced by square roots)")
        ax.set_ylabel("IoU (%)")
        ax.set_title(f"{title}\n{heading}" if title else heading)
        sns.despine(figure)
        names = [name for name, shown in zip(classes, known, strict=True) if shown]
        _label_points(figure, ax, np.stack([percent[known], iou[known]], 1), names)
    return figure


def _signed_root(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.sqrt(np.abs(x))


def _signed_square(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.square(x)


def generic_classes(shares: Sequence[float] | np.ndarray) -> int:
    """The smallest number of classes that together hold over half of the pixels.

    shares: of each class, in any unit. Raises ValueError when they add up to nothing.
    """
    ordered = np.sort(np.asarray(shares, dtype=float))[::-1]
    if not ordered.sum() > 0:
        raise ValueError("no class holds a pixel")
    return int(np.argmax(ordered.cumsum() > ordered.sum() / 2)) + 1


def _shares(part: Mapping[str, Any]) -> dict[str, float]:
    """Percent of the annotated pixels by class, from the confusion's columns."""
    pixels = np.asarray(part["confusion"], dtype=float).sum(0)
    percent = 100 * pixels / max(1.0, pixels.sum())
    return dict(zip(part["iou"], percent.tolist(), strict=True))


#: Where a label may stand beside its point, in points, best first: (x, y, horizontal alignment).
BESIDE = sorted(
    (
        (side * x, sign * y, "left" if side > 0 else "right")
        for x in (6, 18, 34)
        for y in (0, 6, 12, 19, 27, 36, 46)
        for side in (1, -1)
        for sign in ((1, -1) if y else (1,))
    ),
    key=lambda place: abs(place[0]) + abs(place[1]),
)
LEADER = 13
"""A label further from its point than this, in points, is tied to it by a line."""


def _label_points(figure: Figure, ax: Axes, points: np.ndarray, names: Sequence[str]) -> None:
    """Write each name beside its point (N, 2), where it covers no other name or point.

    From the right to the left, each takes the place of `BESIDE` that covers least, lines to points
    included. Labels stay out of the layout, which would otherwise move the points after the places
    were chosen.
    """
    figure.draw_without_rendering()
    frame = ax.get_window_extent().extents
    places = ax.transData.transform(points)
    point = figure.dpi / 72
    taken = [np.r_[place - 4 * point, place + 4 * point] for place in places]
    # Points along the lines drawn so far, which later labels are to leave free.
    ties = np.empty((0, 2))

    def tie_to(i: int, place: tuple[float, float, str]) -> np.ndarray:
        """Ten points on the line from a label to its point; none where it stands close by."""
        far = abs(place[0]) + abs(place[1]) > LEADER
        offsets = np.linspace(0.1, 1, 10)[:, None] * np.array(place[:2]) * point
        return places[i] + offsets if far else ties[:0]

    for i in np.lexsort((-points[:, 1], -points[:, 0])):
        label = ax.annotate(
            names[i], points[i], (0, 0), textcoords="offset points", va="center", fontsize=7
        )
        label.set_in_layout(False)

        def cost(
            place: tuple[float, float, str], label: Any = label, i: int = i, ties: Any = ties
        ) -> float:
            label.set_position(place[:2])
            label.set_ha(place[2])
            box = label.get_window_extent().extents
            covered = sum(_overlap(box, other) for j, other in enumerate(taken) if j != i)
            line = tie_to(i, place)
            covered += 50 * _inside(ties, box)
            covered += 50 * sum(_inside(line, other) for j, other in enumerate(taken) if j != i)
            # Leaving the figure is worse than any overlap inside it.
            return covered + 1e6 * (box[0] < frame[0] or box[1] < frame[1] or box[2] > frame[2])

        x, y, align = best = min(BESIDE, key=cost)
        cost(best)
        taken.append(label.get_window_extent().extents)
        if len(tie_to(i, best)):
            ties = np.concatenate([ties, tie_to(i, best)])
            line = {"arrowstyle": "-", "lw": 0.5, "color": "0.5", "shrinkA": 0, "shrinkB": 3}
            start = (x - 1 if align == "left" else x + 1, y)
            tie = ax.annotate("", points[i], start, textcoords="offset points", arrowprops=line)
            tie.set_in_layout(False)


def _inside(dots: np.ndarray, box: np.ndarray) -> int:
    """How many points (N, 2) lie in a box (left, bottom, right, top)."""
    return int(((dots > box[:2]) & (dots < box[2:])).all(1).sum())


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Common area of two boxes (left, bottom, right, top)."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(np.prod(np.maximum(sides, 0)))
