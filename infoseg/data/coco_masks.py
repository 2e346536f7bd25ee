"""COCO instance annotations to pixel masks: polygons and both run-length forms.

Written here because pycocotools needs a compiler on some systems and is used for nothing else.
Coordinates are COCO's: pixel (row, column) covers [column, column + 1) x [row, row + 1).
"""

from __future__ import annotations

import numpy as np

from infoseg.errors import DataError

OVERHANG = 2.0
"""Pixels by which a COCO polygon may leave its image; annotators' mice do."""

MAX_BITS = 60
"""Of a number in compressed run lengths; pycocotools has 32."""


def mask_of(segmentation: object, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool mask of one annotation's ``segmentation``.

    A list holds polygons, whose union counts; a dictionary holds a run-length encoding with
    ``counts`` as a list (crowds in COCO's files) or a compressed string. Raises DataError, without
    a file, where the annotation is malformed or does not fit the image.
    """
    mask = np.zeros((height, width), bool)
    add_mask(mask, segmentation)
    return mask


def add_mask(mask: np.ndarray, segmentation: object) -> None:
    """Set the pixels of one annotation in a (height, width) bool mask; errors as ``mask_of``."""
    height, width = mask.shape
    if isinstance(segmentation, list) and segmentation:
        for points in segmentation:
            _fill(mask, corners_of(points, height, width))
        return
    if isinstance(segmentation, dict) and {"counts", "size"} <= segmentation.keys():
        size = segmentation["size"]
        if not isinstance(size, list | tuple) or list(size) != [height, width]:
            raise DataError(
                f"run-length mask of size {size} for an image of {[height, width]} (height, width)"
            )
        counts = segmentation["counts"]
        if isinstance(counts, str | bytes):
            counts = decode_counts(counts)
        mask |= rle_mask(counts, height, width)
        return
    raise DataError("segmentation is neither polygons nor a run-length encoding")


def polygon_mask(points: object, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool mask of one polygon [x0, y0, x1, y1, ...] in pixels.

    A pixel belongs to it if its centre lies inside (even-odd rule). pycocotools traces the outline
    on a grid five times finer instead; the two differ in pixels the outline crosses.
    """
    mask = np.zeros((height, width), bool)
    _fill(mask, corners_of(points, height, width))
    return mask


def corners_of(points: object, height: int, width: int) -> np.ndarray:
    """Return a polygon's corners (N, 2) float64 as x, y; DataError unless they fit the image."""
    try:
        corners = np.asarray(points, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise DataError("polygon is not a flat list of x, y pairs") from None
    if len(corners) < 3:
        raise DataError(f"polygon of {len(corners)} points; a surface needs 3")
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    # A corner that is no number makes every comparison false.
    if not (
        min(left, top) >= -OVERHANG and right <= width + OVERHANG and bottom <= height + OVERHANG
    ):
        raise DataError(
            f"polygon reaches from ({left:g}, {top:g}) to ({right:g}, {bottom:g}), "
            f"outside its image of {width} x {height} pixels"
        )
    return corners


def _fill(mask: np.ndarray, corners: np.ndarray) -> None:
    """Set the pixels inside a polygon of corners (N, 2): scan lines through rows of pixel centres.

    Own code because libraries either draw the outline too (cv2, Pillow) or test every pixel
    against every edge (skimage.draw needs about five times as long).
    """
    height, width = mask.shape
    start, end = corners, np.concatenate([corners[1:], corners[:1]])
    upward = (start[:, 1] > end[:, 1])[:, None]
    (top_x, top_y), (bottom_x, bottom_y) = (
        np.where(upward, end, start).T,
        np.where(upward, start, end).T,
    )
    # Row r is crossed if its centre r + 0.5 lies in [top y, bottom y): half-open, so that a corner
    # exactly on a scan line counts once.
    first = _nearest_centre(top_y, height)
    counts = _nearest_centre(bottom_y, height) - first
    total = int(counts.sum())
    if not total:
        return
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(total) + np.repeat(first - counts.cumsum() + counts, counts)
    along = (row + 0.5 - top_y[edge]) / (bottom_y - top_y)[edge]
    # From this column on, centres lie right of the edge; inside is where an odd number does.
    column = _nearest_centre(top_x[edge] + along * (bottom_x - top_x)[edge], width)
    # Only the polygon's own rectangle is looked at: most people cover little of their picture.
    above, left, right = int(row.min()), int(column.min()), int(column.max())
    rows, columns = int(row.max()) + 1 - above, right - left
    place = (row - above) * (columns + 1) + (column - left)
    toggles = np.bincount(place, minlength=rows * (columns + 1)).astype(np.uint8)
    parity = toggles.reshape(rows, columns + 1).cumsum(axis=1, dtype=np.uint8)
    mask[above : above + rows, left:right] |= (parity[:, :columns] & 1).view(bool)


def _nearest_centre(position: np.ndarray, size: int) -> np.ndarray:
    """Return the first of ``size`` pixels whose centre is not before each position, or ``size``."""
    return np.minimum(np.maximum(np.ceil(position - 0.5), 0), size).astype(np.int64)


def rle_mask(counts: object, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool mask of run lengths 0s, 1s, 0s, ... down the columns."""
    runs = _integers(counts)
    # Each by itself, too: sums of numbers near 2**63 wrap around.
    if (
        runs.ndim != 1
        or (runs < 0).any()
        or (runs > height * width).any()
        or int(runs.sum()) != height * width
    ):
        raise DataError(f"run lengths do not add up to the {height * width} pixels of the image")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def _integers(counts: object) -> np.ndarray:
    try:
        runs = np.asarray(counts)
        if runs.size and runs.dtype.kind not in "iu":  # numpy would round 1.5 and read "12"
            raise ValueError
        return runs.astype(np.int64)
    except (TypeError, ValueError, OverflowError):
        raise DataError("run lengths are not integers") from None


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
        if shift > MAX_BITS:
            raise DataError(f"compressed run lengths contain a number of over {MAX_BITS} bits")
        if chunk & 0x20:
            continue
        if chunk & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("compressed run lengths end in the middle of a number")
    return counts
