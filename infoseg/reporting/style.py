"""The look of every figure, in one place, and how figures become files with the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from infoseg.files import write_whole

ACCENT = "#0072B2"
"""InfoSeg, and whatever else a figure is about."""
STRONG = "#5AA5DA"
"""The same for areas, light enough for whiskers to show on it."""
MUTED = "#B5C0C8"
"""What it is compared with."""
INK = "0.25"
PNG_DPI = 150
COMPACT_LEGEND: dict[str, Any] = {
    "borderaxespad": 0,
    "borderpad": 0,
    "handlelength": 0.9,
    "handleheight": 0.9,
    "handletextpad": 0.4,
    "columnspacing": 0.9,
    "labelspacing": 0.25,
}
"""Legends of pictures: squares of colour, close together."""

#: As seaborn's "ticks" at "paper" size, whose import takes longer than most figures.
_RC: dict[str, Any] = {
    **dict.fromkeys(("axes.labelcolor", "text.color", "xtick.color", "ytick.color"), "0.15"),
    "axes.axisbelow": True,
    "lines.solid_capstyle": "round",
    "lines.linewidth": 1.2,
    "lines.markersize": 4.8,
    "patch.edgecolor": "white",
    "patch.force_edgecolor": True,
    "patch.linewidth": 0.8,
    "grid.color": "0.8",
    "xtick.major.size": 4.8,
    "ytick.major.size": 4.8,
    # DejaVu comes with matplotlib: the same text on every machine.
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    # Ids inside SVG files come from this salt instead of a random number.
    "svg.hashsalt": "infoseg",
    "svg.fonttype": "path",
    # Names of classes and data sets may hold a dollar sign; our own formulas ask for it.
    "text.parse_math": False,
}


@contextmanager
def theme() -> Iterator[None]:
    """Draw in the house style without changing the reader's own settings."""
    with mpl.rc_context(_RC):
        yield


def despine(figure: Figure, left: bool = False) -> None:
    """Remove the upper and right edges of all axes, and the left ones if asked for."""
    for axes in figure.axes:
        axes.spines[["top", "right"] + ["left"] * left].set_visible(False)


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """An empty figure, sizes in inches.

    It is closed for pyplot at once: Jupyter shows it once, where it is returned, and hundreds of
    them do not pile up in memory. Drawing and saving go on working.
    """
    figure = plt.figure(figsize=(width, height), layout=layout)
    plt.close(figure)
    return figure


def save_figure(figure: Figure, path: Path, description: str = "") -> Path:
    """Write a PNG or an SVG, whole or not at all, with the same bytes for the same figure.

    path: decides the format by its suffix. description: alternative text, kept in the file.
    Raises ValueError for another format.
    """
    kind = path.suffix.removeprefix(".")
    if kind == "svg":
        # matplotlib writes today's date unless told not to.
        metadata = {"Date": None, "Creator": None, "Description": description or None}
    elif kind == "png":
        metadata = {"Software": None, "Description": description or None}
    else:
        raise ValueError(f"{path}: figures are written as .png or .svg")
    with theme():
        write_whole(
            path,
            lambda file: figure.savefig(file, format=kind, dpi=PNG_DPI, metadata=metadata),
        )
    return path
