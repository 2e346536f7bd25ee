"""COCO instance annotations to pixel masks: polygons and both run-length forms.

Written here because pycocotools needs a compiler on some systems and is used for nothing else.
Coordinates are COCO's: pixel (row, column) covers [column, column + 1) x [row, row + 1).
"""

from __future__ import annotations

import numpy as np

from infoseg.errors import DataError

OVERHANG = 2.0
"""Pixels by which a COCO polygon may leave its image; annotators' mice do."""


def mask_of(segmentation: object, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool mask of one annotation's ``segmentation``.

    A list holds polygons, whose union counts; a dictionary holds a run-length encoding with
    ``counts`` as a list (crowds in COCO's files) or a compressed string. Raises DataError, without
    a file, where the annotation is malformed or does not fit the image.
    """
    if isinstance(segmentation, list) and segmentation:
        mask = np.zeros((height, width), bool)
        for points in segmentation:
            mask |= polygon_mask(points, height, width)
        return mask
    if isinstance(segmentation, dict) and {"counts", "size"} <= segmentation.keys():
        if list(segmentation["size"]) != [height, width]:
            raise DataError(
                f"run-length mask of size {segmentation['size']} for an image of "
                f"{[height, width]} (height, width)"
            )
        counts = segmentation["counts"]
        if isinstance(counts, str | bytes):
            counts = decode_counts(counts)
        return rle_mask(counts, height, width)
    raise DataError("segmentation is neither polygons nor a run-length encoding")


def polygon_mask(points: object, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool mask of one polygon [x0, y0, x1, y1, ...] in pixels.

    A pixel belongs to it if its centre lies inside (even-odd rule). pycocotools traces the outline
    on a grid five times finer instead; the two differ in pixels the outline crosses.
    """
    try:
        corners = np.asarray(points, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise DataError("polygon is not a flat list of x, y pairs") from None
    if len(corners) < 3:
        raise DataError(f"polygon of {len(corners)} points; a surface needs 3")
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (
        not (np.isfinite(corners).all() and (low >= -OVERHANG).all())
        or (high > np.array([width, height]) + OVERHANG).any()
    ):
        raise DataError(
            f"polygon reaches from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}), "
            f"outside its image of {width} x {height} pixels"
        )
    return _fill(corners, height, width)


def _fill(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill a polygon of corners (N, 2) as x, y: a scan line through every row of pixel centres.

    Own code because libraries either draw the outline too (cv2, Pillow) or test every pixel
    against every edge (skimage.draw needs about five times as long).
    """
    start, end = corners, np.roll(corners, -1, axis=0)
    upward = (start[:, 1] > end[:, 1])[:, None]
    top, bottom = np.where(upward, end, start), np.where(upward, start, end)
    # Row r is crossed if its centre r + 0.5 lies in [top y, bottom y): half-open, so that a corner
    # exactly on a scan line counts once.
    first = np.clip(np.ceil(top[:, 1] - 0.5), 0, height).astype(np.int64)
    counts = np.clip(np.ceil(bottom[:, 1] - 0.5), 0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(len(edge)) - np.repeat(counts.cumsum() - counts, counts) + first[edge]
    along = (row + 0.5 - top[edge, 1]) / (bottom[edge, 1] - top[edge, 1])
    x = top[edge, 0] + along * (bottom[edge, 0] - top[edge, 0])
    # From this column on, centres lie right of the edge; inside is where an odd number does.
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    toggles = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    parity = toggles.astype(np.uint8).reshape(height, width + 1).cumsum(axis=1, dtype=np.uint8)
    return (parity[:, :width] & 1).astype(bool)


def rle_mask(counts: object, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool mask of run lengths 0s, 1s, 0s, ... down the columns."""
    try:
        runs = np.asarray(counts, np.int64)
    except (TypeError, ValueError, OverflowError):
        raise DataError("run lengths are not integers") from None
    if runs.ndim != 1 or (runs < 0).any() or int(runs.sum()) != height * width:
        raise DataError(f"run lengths do not add up to the {height * width} pixels of the image")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def decode_counts(text: str | bytes) -> list[int]:
    """Decode COCO's compressed run lengths (pycocotools' string form).

    Each number is a chain of characters; ord - 48 holds five bits, least significant first, and
    0x20 announces another. The last one's 0x10 is the sign. From the fourth number on, the
    difference to the number two places before is stored.
    """
    codes = text.encode("latin-1", "replace") if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for code in codes:
        chunk = code - 48
        if not 0 <= chunk < 64:
            raise DataError("compressed run lengths contain a character that is no code")
        value |= (chunk & 0x1F) << shift
        shift += 5
        if chunk & 0x20:
            continue
        if chunk & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("compressed run lengths end in the middle of a number")
    return counts
