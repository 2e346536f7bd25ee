"""Pieces of figures that are placed by hand, in inches: pictures, legends, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from infoseg.reporting.palette import UNMATCHED
from infoseg.reporting.style import COMPACT_LEGEND

LINE = 0.16
"""Height of a line of a legend, in inches."""


def as_picture(image: ArrayLike) -> np.ndarray:
    """(H, W, 3) uint8 of (H, W, 3 or more), uint8 or float in 0..1; further channels left out.

    Raises ValueError for another shape, type or range.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] < 3:
        raise ValueError(f"a picture is (H, W, 3 or more), got {image.shape}")
    image = image[..., :3]
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f" or image.min() < 0 or image.max() > 1:
        raise ValueError(f"a picture is uint8, or float in 0..1, got {image.dtype}")
    return np.round(image * 255).astype(np.uint8)


def check_named(labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raises ValueError for ids that are no class, nor 254 or 255."""
    ids = np.unique(labels)
    unnamed = ids[(ids < 0) | ((ids >= len(classes)) & (ids < UNMATCHED))]
    if len(unnamed):
        raise ValueError(f"id {unnamed[0]} has no name among {len(classes)} classes")


def check_position(position: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Raises ValueError for a (row, column) outside the grid."""
    row, column = position
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        raise ValueError(f"position {tuple(position)} is outside the {shape[0]} x {shape[1]} grid")


def placed_axes(
    figure: Figure, total: tuple[float, float], box: tuple[float, float, float, float]
) -> Axes:
    """Axes without ticks at (left, bottom, width, height) of a page of `total`, all in inches."""
    wide, high = total
    left, bottom, width, height = box
    ax = figure.add_axes((left / wide, bottom / high, width / wide, height / high))
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def bottom_legend(
    figure: Figure, handles: list[Any], columns: int, edge: float, right: bool = False
) -> None:
    """Legend in a lower corner, a few hundredths of the figure's width (`edge`) from its side."""
    figure.legend(
        handles=handles,
        loc=f"lower {'right' if right else 'left'}",
        bbox_to_anchor=(1 - edge if right else edge, 0.02),
        ncols=columns,
        **COMPACT_LEGEND,
    )
