"""The look of every figure, how figures become files, and pictures beside their segmentations.

What one notebook alone draws is code of that notebook.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from infoseg.files import write_whole
from infoseg.results.palette import IGNORED, UNMATCHED, colourise, legend_handles

#: InfoSeg, and whatever else a figure is about; what it is compared with.
ACCENT, MUTED = "#0072B2", "0.45"
#: Matplotlib's settings in every figure: `plt.rcParams.update(STYLE)`.
STYLE: dict[str, Any] = {
    # DejaVu comes with matplotlib: the same text on every machine.
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.edgecolor": "0.25",
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 1.0,
    "legend.handleheight": 1.0,
    "legend.labelspacing": 0.3,
    "legend.columnspacing": 1.0,
    "legend.borderaxespad": 0,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    # Ids inside SVG files come from this salt instead of a random number.
    "svg.hashsalt": "infoseg",
    "svg.fonttype": "path",
    # Names of classes and data sets may hold a dollar sign; our own formulas ask for it.
    "text.parse_math": False,
}
# Inches: side of a picture, between pictures, between data sets, for row titles, title, legend.
CELL, GAP, APART, LEFT, TOP, BELOW = 1.15, 0.05, 0.28, 0.48, 0.28, 0.62
#: Pictures side by side in a band; further data sets continue below.
ACROSS = 8


def save_figure(figure: Figure, path: Path, description: str) -> Path:
    """Write a PNG or an SVG, whole or not at all, with the same bytes for the same figure.

    path: decides the format by its suffix. description: alt text, kept in the file.
    Raises ValueError for another format, and without a description.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in ("png", "svg") or not description.strip():
        raise ValueError(f"{path}: figures are .png or .svg, and have a description")
    # matplotlib writes its version or today's date unless these are None.
    unstable = ("Date", "Creator") if kind == "svg" else ("Software",)
    metadata = dict.fromkeys(unstable) | {"Description": description}
    with mpl.rc_context(STYLE):
        write_whole(path, lambda file: figure.savefig(file, format=kind, metadata=metadata))
    return path


class Pictures(NamedTuple):
    """Pictures of one data set for `draw_pictures`.

    images: (N, H, W, 3) uint8, or more channels, of which three are shown. predictions: title of a
    row → (N, H, W) class ids, 254 for clusters without a class. annotations: (N, H, W) class ids,
    255 where nobody annotated. classes: names, in the order of the ids.
    """

    title: str
    images: np.ndarray
    predictions: Mapping[str, np.ndarray]
    annotations: np.ndarray
    classes: Sequence[str]

    def rows(self) -> dict[str, np.ndarray]:
        """Title of a row → (N, H, W, 3) uint8; predictions are black where nobody annotated.

        Raises ValueError when maps and pictures differ in size, or an id has no name.
        """
        rows, hidden = {"Image": self.images[..., :3]}, self.annotations == IGNORED
        for title, labels in {**self.predictions, "Annotation": self.annotations}.items():
            unnamed = (labels >= len(self.classes)) & (labels < UNMATCHED)
            if {labels.shape, hidden.shape} != {self.images.shape[:3]} or unnamed.any():
                raise ValueError(f"{self.title}, {title}: another size, or an id without a name")
            rows[title] = colourise(np.where(hidden, IGNORED, labels))
        return rows


@mpl.rc_context(STYLE)
def draw_pictures(groups: Sequence[Pictures]) -> Figure:
    """Figure 4: columns are pictures; rows the image, each method's prediction, the annotation.

    Data sets stand side by side under their titles, each with a legend of its classes; those that
    make more than eight pictures continue in a further band.
    """
    bands: list[list[Pictures]] = [[]]
    for part in groups:
        if bands[-1] and sum(len(p.images) for p in [*bands[-1], part]) > ACROSS:
            bands.append([])
        bands[-1].append(part)
    titles = list(bands[0][0].rows())
    columns = max(sum(len(p.images) for p in band) for band in bands)
    extra = max(len(band) for band in bands) - 1
    wide = LEFT + max(columns, 2) * (CELL + GAP) + extra * APART
    high = TOP + len(titles) * (CELL + GAP) + BELOW
    figure = plt.figure(figsize=(wide, high * len(bands)))
    figure.set_layout_engine("none")  # everything is placed by hand
    plt.close(figure)  # Jupyter shows it once, where it is returned
    letters = itertools.cycle("abcdefghijklmnopqrstuvwxyz")
    for number, band in enumerate(bands):
        left, top = LEFT, high * (len(bands) - number) - TOP
        for place, part in enumerate(band):
            rows = part.rows()
            for i in range(len(part.images)):
                for j, (title, pictures) in enumerate(rows.items()):
                    corner = left / wide, (top - CELL - j * (CELL + GAP)) / (high * len(bands))
                    size = CELL / wide, CELL / (high * len(bands))
                    ax = figure.add_axes((*corner, *size), xticks=[], yticks=[], frame_on=False)
                    ax.imshow(pictures[i], interpolation="none")
                    if i == place == 0:
                        ax.set_ylabel(textwrap.fill(title, 20), labelpad=4)
                    if i == j == 0:
                        ax.set_title(part.title, weight="bold")
                ax.set_xlabel(f"({next(letters)})", labelpad=2)
                if i == 0:
                    unmatched = any((p == UNMATCHED).any() for p in part.predictions.values())
                    ignored = bool((part.annotations == IGNORED).any())
                    ax.legend(
                        handles=legend_handles(part.classes, unmatched, ignored),
                        loc="upper left",
                        bbox_to_anchor=(0, -0.14),
                        ncols=max(1, round(len(part.images) * (CELL + GAP) / 1.12)),
                    )
                left += CELL + GAP
            left += APART
    return figure
