"""Pictures side by side: Figure 4, comparisons of methods, contact sheets of a data set."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from infoseg.reporting.palette import IGNORED, UNMATCHED, colourise, legend_handles
from infoseg.reporting.style import (
    COMPACT_LEGEND,
    INK,
    PNG_DPI,
    new_figure,
    save_figure,
    theme,
)

# Inches.
CELL, GAP, GROUP_GAP, EDGE = 1.15, 0.05, 0.28, 0.08
ROW_TITLES, GROUP_TITLE, LETTERS, LEGEND_LINE, LEGEND_ENTRY = 0.42, 0.30, 0.22, 0.16, 1.12
MAX_COLUMNS = 8
SVG_LIMIT = 1_000_000


@dataclass(frozen=True)
class Panel:
    """One picture of Figure 4.

    image: (H, W, 3) uint8, or more channels of which the first three are shown. predictions: row
    title → (H, W) class ids after matching, 254 for clusters without a class; one entry for the
    paper's figure, several to compare methods. annotation: (H, W) class ids, 255 where nobody
    annotated. classes: names, in the order of the ids.
    Raises ValueError when the maps and the picture differ in size or an id has no name.
    """

    dataset_title: str
    letter: str
    image: np.ndarray
    predictions: Mapping[str, np.ndarray]
    annotation: np.ndarray
    classes: Sequence[str]

    def __post_init__(self) -> None:
        where = f"panel ({self.letter}) of {self.dataset_title}"
        for name, labels in {**self.predictions, "annotation": self.annotation}.items():
            if labels.shape != self.image.shape[:2]:
                raise ValueError(f"{where}: {name} is {labels.shape}, image {self.image.shape}")
            ids = np.unique(labels)
            unnamed = ids[(ids >= len(self.classes)) & (ids < UNMATCHED)]
            if len(unnamed):
                raise ValueError(f"{where}: {name} has id {unnamed[0]}, which has no class name")

    def rows(self) -> dict[str, np.ndarray]:
        """Row title → (H, W, 3) uint8; black where nobody annotated, in predictions too."""
        ignored = self.annotation == IGNORED
        painted = {
            title: colourise(np.where(ignored, IGNORED, labels))
            for title, labels in self.predictions.items()
        }
        annotation = colourise(self.annotation)
        return {"Image": self.image[..., :3], **painted, "Annotation": annotation}


@dataclass(frozen=True)
class _Group:
    """Panels of one data set that stand together under its title."""

    title: str
    panels: Sequence[Panel]

    @property
    def width(self) -> float:
        return len(self.panels) * (CELL + GAP) - GAP

    @property
    def legend_columns(self) -> int:
        return max(1, int((self.width + 0.3) / LEGEND_ENTRY))

    @property
    def legend_lines(self) -> int:
        return math.ceil(len(self.legend()) / self.legend_columns)

    def legend(self) -> list:
        unmatched = any((p == UNMATCHED).any() for x in self.panels for p in x.predictions.values())
        ignored = any((x.annotation == IGNORED).any() for x in self.panels)
        return legend_handles(self.panels[0].classes, unmatched, ignored)


def _bands(panels: Sequence[Panel]) -> list[list[_Group]]:
    """Groups by data set, in order of first appearance, broken into bands of MAX_COLUMNS."""
    by_title: dict[str, list[Panel]] = {}
    for panel in panels:
        by_title.setdefault(panel.dataset_title, []).append(panel)
    bands: list[list[_Group]] = [[]]
    for title, members in by_title.items():
        for start in range(0, len(members), MAX_COLUMNS):
            group = _Group(title, members[start : start + MAX_COLUMNS])
            if (
                bands[-1]
                and sum(len(g.panels) for g in bands[-1]) + len(group.panels) > MAX_COLUMNS
            ):
                bands.append([])
            bands[-1].append(group)
    return bands


def draw_panels(panels: Sequence[Panel], side: int = round(CELL * PNG_DPI)) -> Figure:
    """Figure 4: columns are pictures, rows the image, the prediction(s) and the annotation.

    Data sets stand side by side under their titles, each with a legend of its classes; more than
    eight pictures continue in a further band. side: pictures larger than this many pixels are
    reduced to it.
    Raises ValueError for no panel, or panels with predictions of different methods.
    """
    if not panels:
        raise ValueError("a figure needs at least one panel")
    titles = list(panels[0].rows())
    for panel in panels:
        if list(panel.rows()) != titles:
            raise ValueError(
                f"panel ({panel.letter}) of {panel.dataset_title} has the rows "
                f"{list(panel.rows())}, the first panel {titles}"
            )
    bands = _bands(panels)
    pictures = len(titles) * (CELL + GAP) - GAP
    heights = [
        GROUP_TITLE + pictures + LETTERS + max(g.legend_lines for g in band) * LEGEND_LINE + 0.2
        for band in bands
    ]
    width = max(sum(g.width + GROUP_GAP for g in band) - GROUP_GAP for band in bands)
    total = (ROW_TITLES + max(width, 2.2) + EDGE, sum(heights) + EDGE)
    with theme():
        figure = new_figure(*total, layout=None)
        top = total[1] - EDGE
        for band, height in zip(bands, heights, strict=True):
            left = ROW_TITLES
            for title, row in zip(titles, range(len(titles)), strict=True):
                y = top - GROUP_TITLE - row * (CELL + GAP) - CELL / 2
                _text(figure, total, ROW_TITLES - 0.08, y, textwrap.fill(title, 20), rotation=90)
            for group in band:
                _draw_group(figure, total, group, left, top, side)
                left += group.width + GROUP_GAP
            top -= height
    return figure


def _draw_group(
    figure: Figure, total: tuple[float, float], group: _Group, left: float, top: float, side: int
) -> None:
    """One data set: title, rule, pictures, letters, legend. left, top: its corner in inches."""
    from matplotlib.lines import Line2D

    wide, high = total
    _text(figure, total, left, top - 0.10, group.title, ha="left", size=9, weight="bold")
    rule = (top - 0.22) / high
    ends = [left / wide, (left + group.width) / wide]
    figure.add_artist(Line2D(ends, [rule, rule], color=INK, lw=0.6))
    bottom = top
    for column, panel in enumerate(group.panels):
        x = left + column * (CELL + GAP)
        for row, (name, picture) in enumerate(panel.rows().items()):
            bottom = top - GROUP_TITLE - row * (CELL + GAP) - CELL
            axes = figure.add_axes((x / wide, bottom / high, CELL / wide, CELL / high))
            smooth = Image.Resampling.LANCZOS if name == "Image" else Image.Resampling.NEAREST
            axes.imshow(_at_most(picture, side, smooth), interpolation="none")
            axes.set_axis_off()
        _text(figure, total, x + CELL / 2, bottom - 0.10, f"({panel.letter})")
    figure.legend(
        handles=group.legend(),
        loc="upper left",
        bbox_to_anchor=(left / wide, (bottom - LETTERS) / high),
        ncols=group.legend_columns,
        **COMPACT_LEGEND,
    )


def _text(figure: Figure, total: tuple[float, float], x: float, y: float, text: str, **style):
    style = {"ha": "center", "va": "center", "size": 8} | style
    if style.get("rotation") == 90:
        style |= {"ha": "right", "multialignment": "center"}
    figure.text(x / total[0], y / total[1], text, **style)


def _at_most(picture: np.ndarray, side: int, how: Image.Resampling) -> np.ndarray:
    """Reduce a picture so that its longer side has at most `side` pixels."""
    longest = max(picture.shape[:2])
    if longest <= side:
        return picture
    height, width = (max(1, round(s * side / longest)) for s in picture.shape[:2])
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), how))


def figure4(panels: Sequence[Panel], path_stem: Path) -> list[Path]:
    """Draw the panels and write <path_stem>.png (150 dpi) and <path_stem>.svg (below 1 MB)."""
    description = (
        f"Rows: {', '.join(panels[0].rows())}. Columns: "
        + "; ".join(f"({p.letter}) {p.dataset_title}" for p in panels)
        + ". Pixels that are not annotated are black."
        if panels
        else ""
    )
    png, svg = (path_stem.with_name(path_stem.name + suffix) for suffix in (".png", ".svg"))
    save_figure(draw_panels(panels), png, description)
    # Many noisy pictures do not fit at full size: reduce them until they do.
    for side in (round(CELL * PNG_DPI), 128, 96, 72, 48):
        save_figure(draw_panels(panels, side), svg, description)
        if svg.stat().st_size < SVG_LIMIT:
            break
    return [png, svg]
