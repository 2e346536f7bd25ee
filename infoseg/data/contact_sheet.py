"""A contact sheet: some images of a prepared data set, each beside its label."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from infoseg.data.store import Prepared
from infoseg.errors import DataError

CELL, GAP, PAIR_GAP, CAPTION, TITLE, EDGE, NARROWEST = 156, 3, 16, 20, 56, 10, 800
"""Sides and distances in pixels; no sheet is narrower than the last."""
PAIRS = 4
"""Images beside their labels in one row."""


def write_contact_sheet(prepared: Prepared, file: Path, n: int = 24) -> Path:
    """Write a PNG of ``n`` images, evenly spaced over the labelled ones, beside their labels.

    Every image is the largest square in its middle (what evaluation crops from), scaled; labels
    are painted in the colours of all figures, with a legend of the classes and their shares in the
    whole data set. A data set without labels shows images alone; one of fewer images, all of them.
    Of four bands the first three are shown.

    Raises ValueError if ``n`` is below 1 or the file no PNG, DataError for more classes than there
    are colours.
    """
    # Deferred: matplotlib takes longer to load than a check of the demo's data.
    from infoseg.reporting.palette import MAX_CLASSES, colourise, legend_handles
    from infoseg.reporting.placing import LINE, placed_axes
    from infoseg.reporting.style import COMPACT_LEGEND, PNG_DPI, new_figure, save_figure, theme

    if n < 1 or file.suffix != ".png":
        raise ValueError(f"n must be at least 1 and the file a .png, not {n} and {file}")
    classes = prepared.meta.classes
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"has {len(classes)} classes, and there are colours for {MAX_CLASSES}",
            file=prepared.path,
        )
    chosen, labelled = _chosen(prepared, n)
    captions = [str(prepared.index["id"].iat[i]) for i in chosen]
    pairs = [
        [_square(prepared.image(i)[..., :3], Image.Resampling.LANCZOS)]
        + [colourise(_square(prepared.label(i), Image.Resampling.NEAREST))] * labelled
        for i in chosen
    ]
    sheet, corners = _arrange(pairs)
    title = f"{prepared.meta.name}: {len(chosen)} of {len(prepared):,} images, none labelled"
    handles = []
    if labelled:
        count = int(prepared.index["labelled"].sum())
        title = (
            f"{prepared.meta.name}: {len(chosen)} of {count:,} labelled images, "
            "the middle square of each\npercent: share of all annotated pixels"
        )
        names = [f"{name} {share:.1f} %" for name, share in shares(prepared)]
        handles = legend_handles(names, ignored=prepared.meta.ignored_pixels > 0)
        if prepared.meta.ignored_pixels:
            handles[-1].set_label(f"ignored: {100 * prepared.meta.ignored_share:.1f} % of all")
    height, width = (length / PNG_DPI for length in sheet.shape[:2])
    edge, above = EDGE / PNG_DPI, TITLE / PNG_DPI
    columns = max(width, NARROWEST / PNG_DPI) // 1.4  # inches for a class and its share
    below = math.ceil(len(handles) / columns) * LINE + 0.1 * bool(handles) + edge
    total = (max(width, NARROWEST / PNG_DPI) + 2 * edge, above + height + below)
    with theme():
        figure = new_figure(*total, layout=None)
        axes = placed_axes(figure, total, (edge, below, width, height))
        axes.imshow(sheet, interpolation="none", aspect="auto")
        axes.set_axis_off()
        for (x, y), caption in zip(corners, captions, strict=True):
            axes.text(x, y, caption, fontsize=5.5, va="top")
        middle = 1 - above / 2 / total[1]
        figure.text(edge / total[0], middle, title, fontsize=8, va="center", linespacing=1.4)
        if handles:
            figure.legend(
                handles=handles, loc="lower left", ncols=int(columns),
                bbox_to_anchor=(edge / total[0], edge / total[1]), **COMPACT_LEGEND,
            )  # fmt: skip
    return save_figure(figure, file, title.replace("\n", "; "))


def _chosen(prepared: Prepared, n: int) -> tuple[list[int], bool]:
    """Return which images to show, and whether they are labelled."""
    labelled = np.flatnonzero(prepared.index["labelled"])
    candidates = labelled if len(labelled) else np.arange(len(prepared))
    places = np.linspace(0, len(candidates) - 1, min(n, len(candidates))).round().astype(int)
    return candidates[places].tolist(), len(labelled) > 0


def _square(pixels: np.ndarray, how: Image.Resampling) -> np.ndarray:
    """Return the middle square of (H, W) or (H, W, 3) pixels, scaled to a cell."""
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    middle = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return np.asarray(Image.fromarray(middle).resize((CELL, CELL), how))


def _arrange(pairs: list[list[np.ndarray]]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return all cells on one white picture (H, W, 3), and the lower left corner of every pair."""
    across = len(pairs[0])
    columns = min(PAIRS * 2 // across, len(pairs))
    wide = across * (CELL + GAP) - GAP + PAIR_GAP
    tall = CELL + CAPTION
    rows = -(-len(pairs) // columns)
    sheet = np.full((rows * tall, columns * wide - PAIR_GAP, 3), 255, np.uint8)
    corners = []
    for k, pair in enumerate(pairs):
        top, left = k // columns * tall, k % columns * wide
        for cell, picture in enumerate(pair):
            x = left + cell * (CELL + GAP)
            sheet[top : top + CELL, x : x + CELL] = picture
        corners.append((left, top + CELL + 2))
    return sheet, corners


def shares(prepared: Prepared) -> tuple[tuple[str, float], ...]:
    """Return every class and its percent of the annotated pixels; 0 if nothing is annotated."""
    meta = prepared.meta
    total = sum(meta.class_pixels) or 1
    percent = [100 * pixels / total for pixels in meta.class_pixels]
    return tuple(zip(meta.classes, percent, strict=True))
