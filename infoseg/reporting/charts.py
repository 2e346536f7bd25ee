"""Charts of what one number hides: training signals and the spread of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from infoseg.diagnostics import reported_part
from infoseg.reporting.figures import known
from infoseg.reporting.markup import DAGGER
from infoseg.reporting.style import ACCENT, INK, despine, new_figure, theme

__all__ = ["seeds_strip", "training_signals"]

SIGNALS = {
    "loss": "Loss",
    "pa": "PA (%)",
    "assignment_entropy": "Entropy of V\n(of log K)",
    "permutation_gap": "Permutation\ngap (%)",
    "clusters_used": "Clusters\nused",
}
"""Columns of `history.csv` that `training_signals` draws, from top to bottom."""

#: Okabe and Ito's colours without blue, which is InfoSeg's, and light yellow; two darker ones.
LINES = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "0.35", "#87000F", "#5B3A9E")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))


# ---- training signals ----------------------------------------------------------------------------


def training_signals(
    histories: Mapping[str, pd.DataFrame],
    title: str = "",
    method_titles: Mapping[str, str] | None = None,
) -> Figure:
    """Loss, PA, entropy of V, permutation gap and clusters used by step, one below the other.

    Collapse shows as an entropy near 0 or 1 with few clusters used; permutation of labels between
    images as a gap that stays open while the loss falls. histories: run key ("<data set>-<method>-
    <seed>", as `Run.key`) → its `history.csv`. Runs that differ in their seed alone share a colour,
    the first of them thick. A signal that no history holds has no row; a method evaluated once is
    a dot. Losses of different methods are different quantities: only their course compares.
    method_titles: what the legend calls a method; its key where it is not told.
    Raises ValueError when there is nothing to draw.
    """
    signals = {
        key: {name: known(history, name) for name in SIGNALS} for key, history in histories.items()
    }
    rows = [name for name in SIGNALS if any(len(run[name]) for run in signals.values())]
    if not rows:
        raise ValueError("these histories hold none of " + ", ".join(SIGNALS))
    names = _method_names(list(histories))
    styles = _method_styles(list(dict.fromkeys(names.values())))
    columns = 4 if len(styles) > 3 else max(1, len(styles))
    with theme():
        below = 0.16 * -(-len(styles) // columns)
        figure = new_figure(5.4, 1.15 * len(rows) + 0.7 + below)
        axes = np.atleast_1d(figure.subplots(len(rows), 1, sharex=True))
        for ax, name in zip(axes, rows, strict=True):
            seen: set[str] = set()
            for key, run in signals.items():
                method, part = names[key], run[name]
                if part.empty:
                    continue
                style = {"lw": 0.7, "alpha": 0.75} if method in seen else {"lw": 1.5}
                seen.add(method)
                if len(part) == 1:
                    style |= {"marker": "o", "ms": 3.5}
                ax.plot(part["step"], part[name], **(styles[method] | style))
            ax.set_ylabel(SIGNALS[name])
            ax.grid(axis="y", color="0.92", lw=0.6)
            ax.margins(y=0.12)
        if "assignment_entropy" in rows:
            axes[rows.index("assignment_entropy")].set_ylim(-0.05, 1.05)
        if "clusters_used" in rows:
            ax = axes[rows.index("clusters_used")]
            ax.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
            ax.set_ylim(bottom=0)
        axes[-1].set_xlabel("Step")
        axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if title:
            axes[0].set_title(title)
        despine(figure)
        figure.align_ylabels()
        titles = dict(method_titles or {})
        handles = [
            Line2D([], [], lw=1.5, label=titles.get(name, name), **style)
            for name, style in styles.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure


def _method_names(keys: Sequence[str]) -> dict[str, str]:
    """Run key → what its colour stands for: the key without seed, and without a shared data set."""
    parts = {
        key: key.rsplit("-", 1)[0] if key.rsplit("-", 1)[-1].isdigit() else key for key in keys
    }
    heads = {part.split("-", 1)[0] for part in parts.values()}
    if len(heads) == 1 and all("-" in part for part in parts.values()):
        return {key: part.split("-", 1)[1] for key, part in parts.items()}
    return parts


def _method_styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of each: InfoSeg's first variant has the house's blue."""
    first = next((m for m in methods if "infoseg" in m.lower()), None)
    others = [m for m in methods if m != first]
    styles: dict[str, dict[str, Any]] = {
        m: {"color": LINES[i % len(LINES)], "ls": DASHES[i // len(LINES) % len(DASHES)]}
        for i, m in enumerate(others)
    }
    if first is not None:
        styles[first] = {"color": ACCENT, "ls": "-"}
    return {m: styles[m] for m in methods}


# ---- seeds ---------------------------------------------------------------------------------------


def seeds_strip(
    evaluations: Sequence[Mapping[str, Any]],
    trivial: pd.DataFrame,
    reported: str = "all",
    title: str = "",
) -> Figure:
    """PA of every seed, by method, a facet per data set: how much of a difference is luck.

    evaluations: of any runs (`Project.evaluation`), the last weights of each. trivial: PA of one
    class and of equal stripes by title of the data set. reported: see `tables.table1`. A dot per
    seed, a tick at the mean. Dashed: one class everywhere. Dotted: equal stripes.
    Facets have their own scales, for the spread is what they are to show.
    Raises ValueError without an evaluation.
    """
    import seaborn  # deferred: 1.5 s

    if not evaluations:
        raise ValueError("a strip plot needs at least one evaluation")
    frame = pd.DataFrame(
        {
            "dataset": e["dataset_title"],
            "method": e["method_title"] + (DAGGER if e["uses_mask"] else ""),
            "pa": reported_part(e["last"], reported)["pa"],
        }
        for e in evaluations
    )
    datasets, methods = (list(dict.fromkeys(frame[name])) for name in ("dataset", "method"))
    colours = {m: ACCENT if m.startswith("InfoSeg") else "0.45" for m in methods}
    with theme():
        width = 1.5 + 1.5 * max(len(datasets), 2)
        figure = new_figure(width, 0.26 * len(methods) + 1.2)
        axes = figure.subplots(1, len(datasets), sharey=True, squeeze=False)[0]
        for ax, dataset in zip(axes, datasets, strict=True):
            rows = frame[frame["dataset"] == dataset]
            # Without jitter: where dots coincide so do the seeds, and no draw moves a byte.
            seaborn.stripplot(
                rows,
                x="pa",
                y="method",
                order=methods,
                hue="method",
                hue_order=methods,
                palette=colours,
                jitter=False,
                size=4.5,
                alpha=0.65,
                legend=False,
                ax=ax,
            )
            means = rows.groupby("method")["pa"].mean()
            for place, method in enumerate(methods):
                if method in means:
                    ax.plot(means[method], place, "|", ms=13, mew=1.5, color=colours[method])
            for name, dashes in (("one class", (0, (4, 2))), ("equal stripes", (0, (1, 1.5)))):
                ax.axvline(trivial.loc[dataset, name], color=INK, lw=0.9, ls=dashes, zorder=0)
            ax.set_title(dataset, fontsize=8)
            ax.set_xlabel("PA (%)")
            ax.set_ylabel("")
            ax.margins(x=0.08)
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
            ax.grid(axis="y", color="0.93", lw=0.6)
            ax.set_axisbelow(True)
            ax.tick_params(axis="y", length=0)
        axes[0].set_ylim(len(methods) - 0.5, -0.5)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        despine(figure, left=True)
        _strip_legend(figure, len(datasets), any(e["uses_mask"] for e in evaluations))
    return figure


def _strip_legend(figure: Figure, facets: int, masked: bool) -> None:
    handles = [
        Line2D([], [], ls="", marker="o", ms=4.5, color=INK, alpha=0.65, label="one seed"),
        Line2D([], [], ls="", marker="|", ms=9, mew=1.5, color=INK, label="mean of seeds"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 2)), label="one class everywhere"),
        Line2D([], [], color=INK, lw=0.9, ls=(0, (1, 1.5)), label="equal stripes"),
    ]
    if masked:
        handles.append(Line2D([], [], ls="", label=f"{DAGGER} sees the annotation mask"))
    columns = len(handles) if facets > 3 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
