"""How many images each rule for COCO-Persons keeps, against the number the paper states."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from infoseg.data.coco_layout import SPLITS
from infoseg.data.persons_rule import CROWDS, SIDES, Crowd, images_kept, nearest_share, shares_kept
from infoseg.reporting.style import INK, despine, new_figure, theme

CROWD_TITLES = {
    "ignore": "Crowds ignored",
    "person": "Crowds count as person",
    "exclude": "Images with crowds left out",
}


def images_by_share(
    table: pd.DataFrame,
    target: int,
    *,
    sides: Sequence[int] = SIDES,
    crowds: Sequence[Crowd] = CROWDS,
    splits: Sequence[str] = SPLITS,
) -> Figure:
    """Images kept against the minimum share of person pixels: a facet per handling of crowds, a
    line per minimum side, a dot where a line is nearest to ``target`` (dashed).

    table: of ``scan_coco_persons``. Raises ValueError for a table without images.
    """
    if table.empty:
        raise ValueError("there is no image to count")
    shares = np.linspace(0, 0.5, 501)
    colours = mpl.colormaps["viridis"](np.linspace(0, 1, len(sides) + 2))[1:-1]
    with theme():
        figure = new_figure(2.1 * len(crowds) + 0.6, 2.9)
        axes = figure.subplots(1, len(crowds), sharex=True, sharey=True, squeeze=False)[0]
        for ax, crowd in zip(axes, crowds, strict=True):
            for side, colour in zip(sides, colours, strict=True):
                kept = shares_kept(table, min_side=side, crowd=crowd, splits=splits)
                label = f"{side} px" if side else "none"
                ax.plot(100 * shares, images_kept(kept, shares), color=colour, lw=1.1, label=label)
                share, images = nearest_share(kept, target)
                if len(kept) and share <= shares[-1]:
                    ax.plot(100 * share, images, "o", color=colour, ms=3.5, clip_on=False)
            ax.axhline(target, color=INK, lw=0.9, ls=(0, (4, 2)), zorder=1)
            ax.set_title(CROWD_TITLES[crowd], fontsize=8)
            ax.grid(color="0.93", lw=0.6)
            ax.set_axisbelow(True)
            ax.set_xlabel("Minimum person share (%)")
            ax.set_xlim(0, 50)
        axes[0].set_ylim(0)
        axes[0].set_ylabel("Images")
        axes[0].yaxis.set_major_formatter("{x:,.0f}")
        axes[-1].annotate(
            f"{target:,}",
            (49, target),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7,
        )
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            title="Minimum side",
            title_fontsize=7.5,
            loc="outside lower center",
            ncols=len(sides),
        )
        despine(figure)
    return figure
