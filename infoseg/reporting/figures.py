"""The charts: training curve, confusion, class shares, Table 1 as bars. All return a Figure.

Pictures side by side (Figure 4, contact sheets) are in `panels` and reachable from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from infoseg.reporting.palette import class_colours
from infoseg.reporting.panels import Panel, draw_panels, figure4
from infoseg.reporting.style import ACCENT, INK, despine, new_figure, save_figure, theme

__all__ = [
    "Panel",
    "class_shares",
    "confusion_heatmap",
    "draw_panels",
    "figure4",
    "known",
    "save_figure",
    "training_curve",
]

ANNOTATE_UP_TO = 8
"""Confusion matrices of up to this many classes carry their numbers."""


def training_curve(history: pd.DataFrame, title: str = "Loss and pixel accuracy") -> Figure:
    """Loss and PA by step, one above the other, the best PA marked.

    history: `history.csv`, with `step`, and `loss` and `pa` where the row has them. A method that
    is not optimised has no loss, and then PA stands alone.
    Raises ValueError when there is neither.
    """
    loss = known(history, "loss")
    accuracy = known(history, "pa")
    shown = [name for name, part in (("loss", loss), ("pa", accuracy)) if len(part)]
    if not shown:
        raise ValueError("this history holds neither a loss nor an evaluation")
    with theme():
        figure = new_figure(4.8, 1.7 * len(shown) + 0.5)
        axes = dict(
            zip(shown, np.atleast_1d(figure.subplots(len(shown), 1, sharex=True)), strict=True)
        )
        if "loss" in axes:
            axes["loss"].plot(loss["step"], loss["loss"], color=INK, lw=0.9)
            axes["loss"].set_ylabel("Loss")
        if "pa" in axes:
            _accuracy_by_step(axes["pa"], accuracy)
        for ax in axes.values():
            ax.grid(axis="y", color="0.9", lw=0.6)
        last = axes[shown[-1]]
        last.set_xlabel("Step")
        if history["step"].nunique() == 1:
            # One evaluation: an axis from -0.05 to 0.05 would read as if steps were fractions.
            last.set_xticks([int(history["step"].iloc[0])])
        despine(figure)
        figure.align_ylabels()
        axes[shown[0]].set_title(title)
    return figure


def known(history: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows of a `history.csv` in which a column holds a finite number; none without it."""
    if column not in history:
        return history.iloc[:0]
    values = pd.to_numeric(history[column])
    return history.assign(**{column: values})[np.isfinite(values)]


def _accuracy_by_step(ax: Any, accuracy: pd.DataFrame) -> None:
    """PA with its best evaluation marked, labelled on whichever side has room."""
    ax.plot(accuracy["step"], accuracy["pa"], color=ACCENT, lw=1.2, marker="o", ms=3)
    ax.set_ylabel("PA (%)")
    ax.margins(y=0.3)
    best = accuracy.loc[accuracy["pa"].idxmax()]
    ax.plot(best["step"], best["pa"], "o", ms=7, mfc="none", mec="#D55E00", mew=1.3)
    first, last = accuracy["step"].min(), accuracy["step"].max()
    right = last > first and best["step"] > (first + last) / 2
    ax.annotate(
        f"best {best['pa']:.1f} (step {int(best['step'])})",
        (best["step"], best["pa"]),
        xytext=(-3 if right else 3, 8),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=7.5,
        color="#B34700",
    )


def confusion_heatmap(part: dict[str, Any], title: str = "Confusion") -> Figure:
    """Where the pixels of each annotated class went, in percent of that class.

    part: `last` or `best` of an evaluation. Rows are annotated classes; columns are the clusters
    under the name of the class each was matched to, in the same order, then unmatched clusters. A
    class no cluster was matched to keeps an empty column, so that the diagonal stays the diagonal.
    A class without an annotated pixel has an empty row.
    """
    classes = list(part["iou"])
    counts = np.asarray(part["confusion"], dtype=float)
    match = [part["match"][str(k)] for k in range(len(counts))]
    matched = [counts[match.index(c)] if c in match else np.zeros(len(classes)) for c in classes]
    spare = [k for k, name in enumerate(match) if name is None]
    table = np.array(matched + [counts[k] for k in spare]).T
    pixels = counts.sum(0)[:, None]
    percent = np.divide(100 * table, pixels, out=np.full_like(table, np.nan), where=pixels > 0)
    numbers = len(classes) <= ANNOTATE_UP_TO
    size = 0.5 if numbers else 0.3
    import seaborn  # deferred: 1.5 s

    with theme():
        figure = new_figure(size * percent.shape[1] + 2.0, size * len(classes) + 1.3)
        ax = figure.subplots()
        seaborn.heatmap(
            percent,
            ax=ax,
            vmin=0,
            vmax=100,
            cmap="Blues",
            annot=numbers,
            fmt=".0f",
            annot_kws={"size": 7.5},
            linewidths=0.5,
            linecolor="white",
            xticklabels=[*classes, *(f"cluster {k}" for k in spare)],
            yticklabels=classes,
            cbar_kws={"label": "% of the annotated class", "shrink": 0.8, "ticks": [0, 50, 100]},
        )
        ax.set_facecolor("0.93")
        ax.set_aspect("equal")
        ax.tick_params(length=0)
        ax.set_xticks(ax.get_xticks(), ax.get_xticklabels(), rotation=45, ha="right")
        ax.set_yticks(ax.get_yticks(), ax.get_yticklabels(), rotation=0)
        ax.set_xlabel("Predicted (cluster matched to)")
        ax.set_ylabel("Annotated")
        ax.set_title(title)
    return figure


def class_shares(
    class_pixels: Sequence[int],
    classes: Sequence[str],
    ignored_pixels: int = 0,
    title: str = "Annotated pixels by class",
) -> Figure:
    """How much of the annotation each class holds, in the classes' colours and order.

    class_pixels, ignored_pixels: as in `meta.json`. The share nobody annotated is said in words,
    since percentages are of annotated pixels. Raises ValueError when nothing is annotated.
    """
    pixels = np.asarray(class_pixels, dtype=float)
    if not pixels.sum():
        raise ValueError("no pixel is annotated, so there are no shares to show")
    percent = 100 * pixels / pixels.sum()
    without = 100 * ignored_pixels / (pixels.sum() + ignored_pixels)
    with theme():
        figure = new_figure(4.6, 0.24 * len(classes) + 0.9)
        ax = figure.subplots()
        colours = class_colours(len(classes)) / 255
        bars = ax.barh(range(len(classes)), percent, color=colours, ec="0.3", lw=0.4, height=0.75)
        ax.bar_label(bars, [f"{value:.1f}" for value in percent], padding=3, fontsize=7.5)
        ax.set_yticks(range(len(classes)), classes)
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.set_xlim(0, 1.12 * percent.max())
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_xlabel(f"% of annotated pixels ({without:.1f} % of all pixels are not annotated)")
        ax.set_title(title)
        despine(figure)
    return figure
