"""A question of the study as a picture: every run, by candidate and round."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from infoseg.reporting.style import ACCENT, INK, MUTED, new_figure, theme


def study_chart(frame: pd.DataFrame, title: str = "") -> Figure:
    """PA on the half that settings are chosen on, a dot per run, a tick at each round's mean.

    frame: a question's table (`infoseg.study.run_question`). Candidates from the best to the worst
    by the last round they were in; a facet per data set. What is concluded with is blue.
    """
    last = frame["round"].max()
    order = (
        frame.groupby(["round", "candidate"])["pa_chosen"]
        .mean()
        .sort_index(ascending=False)
        .reset_index()
        .sort_values(["round", "pa_chosen"], ascending=False, kind="stable")
        .drop_duplicates("candidate")["candidate"]
        .tolist()
    )
    concluded = set(frame[(frame["round"] == last) & frame["taken"]]["candidate"])
    datasets = list(dict.fromkeys(frame["dataset"]))
    with theme():
        figure = new_figure(2.2 + 2.6 * len(datasets), 0.27 * len(order) + 1.3)
        axes = figure.subplots(1, len(datasets), sharey=True, squeeze=False)[0]
        for ax, dataset in zip(axes, datasets, strict=True):
            for (number, candidate), runs in frame[frame["dataset"] == dataset].groupby(
                ["round", "candidate"]
            ):
                # Rounds one above the other within a candidate's row, the longest trained lowest.
                y = order.index(candidate) + 0.24 * (number - last / 2 - 0.5)
                final = number == last
                colour = ACCENT if candidate in concluded and final else INK if final else MUTED
                pa = runs["pa_chosen"]
                ax.plot(pa, [y] * len(pa), "o", ms=4, color=colour, alpha=0.7, mew=0)
                ax.plot(pa.mean(), y, "|", ms=10, mew=1.5, color=colour)
            ax.set_title(dataset, fontsize=8)
            ax.set_xlabel("PA on the choosing half (%)")
            ax.set_yticks(range(len(order)), order)
            ax.set_ylim(len(order) - 0.5, -0.5)
            ax.grid(axis="y", color="0.93", lw=0.6)
            ax.set_axisbelow(True)
            ax.tick_params(axis="y", length=0)
        steps = frame.groupby("round")["steps"].first()
        handles = [
            Line2D([], [], ls="", marker="o", ms=4, color=INK if n == last else MUTED, label=label)
            for n, label in ((n, f"{int(s)} steps") for n, s in steps.items() if pd.notna(s))
        ]
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        sns.despine(figure, left=True)
    return figure
