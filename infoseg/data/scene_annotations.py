"""COCO's two ways of writing a mask: polygons, and run lengths for crowds."""

import numpy as np
from skimage.measure import approximate_polygon, find_contours, label, regionprops

TOLERANCE = 0.4  # pixels by which a polygon may leave the mask's outline
SMALLEST = 12  # pixels; smaller pieces of a person are not annotated


def polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines of a mask (h, w) bool as COCO has them: flat lists x0, y0, x1, y1, ….

    Coordinates are those of pixel corners, 0..w and 0..h. A COCO polygon cannot have a hole (an
    arm on the hip makes one), so the mask is cut in two through every hole first.
    """
    h, w = mask.shape
    out = []
    for piece in _without_holes(mask):
        padded = np.pad(piece, 1).astype(np.float32)
        for line in find_contours(padded, 0.5):
            line = approximate_polygon(line, TOLERANCE)
            if len(line) < 4:
                continue
            points = line[:-1, ::-1] - 0.5  # x, y; the padding takes one, the pixel centre a half
            points = np.clip(points, 0, [w, h])
            if _area(points) >= SMALLEST:
                out.append([round(float(v), 2) for v in points.ravel()])
    return out


def run_lengths(mask: np.ndarray) -> dict:
    """Uncompressed RLE: runs of 0 and 1 in turn, down the columns, the first run being of 0."""
    flat = np.concatenate([[0], mask.T.ravel().astype(np.int8)])
    change = np.flatnonzero(np.diff(flat)) if mask.any() else np.array([], int)
    counts = np.diff(np.concatenate([[0], change, [mask.size]]))
    return {"counts": [int(n) for n in counts], "size": [int(n) for n in mask.shape]}


def annotation(number: int, image: int, mask: np.ndarray, crowd: bool) -> dict | None:
    """One entry of instances_*.json for a person's mask, or None if nothing of it is left."""
    segmentation = run_lengths(mask) if crowd else polygons(mask)
    if not segmentation or not mask.any():
        return None
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(cols[0]), int(rows[0])
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "segmentation": segmentation,
        "bbox": [x, y, int(cols[-1]) - x + 1, int(rows[-1]) - y + 1],
        "area": int(mask.sum()),
        "iscrowd": int(crowd),
    }


def _without_holes(mask: np.ndarray) -> list[np.ndarray]:
    """Pieces of the mask, side by side, none of which encloses background."""
    h, w = mask.shape
    outside = label(~np.pad(mask, 1, constant_values=False), connectivity=2)
    cuts = {0, w}
    for region in regionprops(outside):
        if region.label != outside[0, 0] and region.area >= 4:
            cuts.add(int(np.clip(round(region.centroid[1] - 1), 1, w - 1)))
    edges = sorted(cuts)
    pieces = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        piece = np.zeros_like(mask)
        piece[:, a:b] = mask[:, a:b]
        if piece.any():
            pieces.append(piece)
    return pieces


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
