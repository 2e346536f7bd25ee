"""Small pictures in rows with what there is to say under each: the one layout of the tour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from infoseg.reporting.palette import class_colours
from infoseg.reporting.placing import bottom_legend, placed_axes
from infoseg.reporting.style import new_figure, theme

# Inches.
CELL, GAP, EDGE, TEXT, TITLE = 1.3, 0.12, 0.08, 0.135, 0.24
#: Numbers with a sign: blue below 0, white 0, red above.
SIGNED = "RdBu_r"


@dataclass(frozen=True)
class Picture:
    """One picture of a row.

    shown: (H, W) for a colour map, or (H, W, 3). caption: lines under it. title: above it. style:
    for imshow. lines: whether its cells are divided by lines, for maps of few positions.
    """

    shown: ArrayLike
    caption: str = ""
    title: str = ""
    style: dict[str, Any] = field(default_factory=dict)
    lines: bool = False


def rows(
    pictures: Sequence[Sequence[Picture]], cell: float = CELL, legend: Sequence[Any] = ()
) -> Figure:
    """Rows of pictures, all of one width. cell: that width, in inches. legend: handles, below.

    Every picture has axes of its own, in reading order. Raises ValueError for no picture.
    """
    if not any(pictures):
        raise ValueError("there is no picture to draw")
    columns = max(len(row) for row in pictures)
    above = [TITLE * any(one.title for one in row) for row in pictures]
    below = [
        0.08 + TEXT * max((one.caption.count("\n") + 1 for one in row if one.caption), default=0)
        for row in pictures
    ]
    total = (
        2 * EDGE + columns * (cell + GAP) - GAP,
        2 * EDGE + sum(above) + sum(below) + len(pictures) * cell + 0.16 * bool(legend),
    )
    with theme():
        figure = new_figure(*total, layout=None)
        top = total[1] - EDGE
        for row, over, under in zip(pictures, above, below, strict=True):
            for column, one in enumerate(row):
                box = (EDGE + column * (cell + GAP), top - over - cell, cell, cell)
                _draw(figure, total, box, one)
            top -= over + cell + under
        if legend:
            bottom_legend(figure, list(legend), len(legend), EDGE / total[0])
    return figure


def _draw(
    figure: Figure,
    total: tuple[float, float],
    box: tuple[float, float, float, float],
    picture: Picture,
) -> None:
    ax = placed_axes(figure, total, box)
    shown = np.asarray(picture.shown)
    ax.imshow(shown, aspect="auto", **({"interpolation": "none"} | picture.style))
    if picture.lines:
        for line, count in zip((ax.axhline, ax.axvline), shown.shape[:2], strict=True):
            for place in range(1, count):
                line(place - 0.5, color="white", lw=0.5)
    ax.set_xlabel(picture.caption, fontsize=7.5, labelpad=3, linespacing=1.15)
    if picture.title:
        ax.set_title(picture.title, fontsize=8, pad=3)


def signed(values: ArrayLike, caption: str, most: float, title: str = "") -> Picture:
    """A map of numbers around 0, (U, V); the colours end at -most and most."""
    style = {"cmap": SIGNED, "vmin": -most, "vmax": most}
    return Picture(values, caption, title, style)


def mixed_colours(weights: ArrayLike) -> np.ndarray:
    """Class colours mixed by class probabilities: (K, U, V) → (U, V, 3) uint8.

    Undecided positions have the mean of the colours, decided ones that of their class.
    """
    weights = np.asarray(weights, dtype=float)
    colours = class_colours(len(weights)).astype(float)
    return np.round(np.einsum("kuv,kc->uvc", weights, colours)).clip(0, 255).astype(np.uint8)


def number(value: float, digits: int = 2) -> str:
    """A number with a minus sign of its proper length, and no minus before 0."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")
