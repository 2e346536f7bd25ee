"""What stands in the files that ``infoseg.data.fake`` writes: random pictures, maps, annotations.

Sizes and compressibility are those of the official files, because they decide what reading costs:
COCO's JPEGs are baseline, mostly of quality 96 without chroma subsampling, and hold 0.59 bytes per
pixel on average (239 of them measured); its stuff maps come to 5.4 KB (659 MB for 123,287).
"""

from __future__ import annotations

import io
import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from infoseg.data.coco_classes import FINE_NAMES, fine_to_coarse
from infoseg.data.potsdam import COLOURS
from infoseg.data.store_meta import IGNORE

SIZES = {
    (640, 480): 0.36,
    (640, 427): 0.26,
    (480, 640): 0.14,
    (427, 640): 0.08,
    (500, 375): 0.07,
    (375, 500): 0.04,
    (640, 360): 0.02,
    (640, 640): 0.02,
    (333, 500): 0.01,
}
"""Width and height of the pictures with their shares, roughly COCO's."""

_DROPPED = (
    "street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender, hair brush"
)
N_FINE_THINGS = 91
FINE_VALUES = np.array(
    [i for i, name in enumerate(FINE_NAMES) if name not in _DROPPED.split(", ")], np.uint8
)
"""The 171 values of stuffthingmaps: COCO never used eleven of its categories."""
CATEGORIES = [int(value) + 1 for value in FINE_VALUES if value < N_FINE_THINGS]
"""COCO's 80 category ids; the first is person."""

_GROUPS = """electronic appliance food furniture indoor kitchen accessory animal outdoor person
sports vehicle""".split()
MEAN_ROUGHNESS = 12.0
"""Mean amplitude of the finest noise; gives COCO's bytes per pixel, and their spread."""


def regions(rng: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    """Return (height, width) ids below ``count``: cells around random points, borders ragged."""
    at = np.mgrid[0:height, 0:width].astype(np.float32)
    for side, pixels in ((64, 24), (8, 3)):  # of a picture 480 pixels high
        at += pixels * height / 480 * np.stack([_noise(rng, height, width, side) for _ in range(2)])
    points = rng.uniform(0, (height, width), (count, 2)).astype(np.float32)
    # |at - point|² without |at|², which is the same for every point.
    distance = at.reshape(2, -1).T @ (-2 * points).T
    distance += (points**2).sum(1)
    return distance.argmin(1).reshape(height, width)


def picture(rng: np.random.Generator, cells: np.ndarray, channels: int = 3) -> np.ndarray:
    """Return (H, W, channels) uint8: every cell in a colour of its own, under noise."""
    height, width = cells.shape
    colours = rng.uniform(40, 215, (cells.max() + 1, channels)).astype(np.float32)
    amplitudes = {1: rng.exponential(MEAN_ROUGHNESS), 3: 8, 12: 10, 60: 15}
    texture = sum(a * _noise(rng, height, width, side) for side, a in amplitudes.items())
    return np.clip(colours[cells] + texture[..., None], 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, height: int, width: int, side: int) -> np.ndarray:
    """Return (height, width) float32 normal noise, smooth below ``side`` pixels."""
    coarse = rng.standard_normal((height // side + 2, width // side + 2), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def jpeg_and_map(rng: np.random.Generator, width: int, height: int) -> tuple[bytes, bytes]:
    """Return a JPEG as COCO's, and the stuff map of the same regions as a PNG."""
    cells = regions(rng, height, width, 12)
    values = rng.choice(FINE_VALUES, 12)
    # Stuff covers most of COCO; some of it nobody annotated.
    stuff = FINE_VALUES[FINE_VALUES >= N_FINE_THINGS]
    values[:8] = rng.choice(stuff, 8)
    values[8] = IGNORE
    image, labels = io.BytesIO(), io.BytesIO()
    Image.fromarray(picture(rng, cells)).save(image, "JPEG", quality=96, subsampling=0)
    Image.fromarray(values[cells]).save(labels, "PNG")
    return image.getvalue(), labels.getvalue()


def signed_jpeg(data: bytes, text: str) -> bytes:
    """Return a JPEG with a comment (COM segment) right after its start: other bytes, same pixels.

    A hundred encodings so become any number of different files.
    """
    comment = text.encode("ascii")
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


def signed_png(data: bytes, text: str) -> bytes:
    """Return a PNG with a comment (tEXt chunk) right after its header (IHDR)."""
    header = 8 + 25  # the signature and the chunk IHDR
    body = b"tEXt" + b"Comment\0" + text.encode("latin-1")
    length, checksum = (n.to_bytes(4, "big") for n in (len(body) - 4, zlib.crc32(body)))
    return data[:header] + length + body + checksum + data[header:]


def tile(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a tile (side, side, 4) uint8 and its label colours (side, side, 3) uint8.

    One block is repeated four times in both directions, and its regions have steps of four pixels:
    a tile of 6000 px takes half a second.
    """
    block = -(-side // 4)
    coarse = regions(rng, -(-block // 4), -(-block // 4), 24)
    cells = coarse.repeat(4, axis=0).repeat(4, axis=1)[:block, :block]
    classes = rng.permutation(24) % len(COLOURS)
    colours = 255 * np.array(COLOURS, np.uint8)[classes]

    def repeat(pixels: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.tile(pixels, (4, 4, 1))[:side, :side])

    return repeat(picture(rng, cells, 4)), repeat(colours[cells])


def tiff_frame(side: int, channels: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the pixels of an uncompressed TIFF of that size."""
    extra = {"extrasamples": ["unspecified"]} if channels == 4 else {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.tif"  # tifffile leaves a hole for pixels it is not given
        start, size = tifffile.imwrite(
            path, shape=(side, side, channels), dtype="uint8", photometric="rgb",
            planarconfig="contig", metadata=None, software=False, returnoffset=True, **extra,
        )  # fmt: skip
        with path.open("rb") as file:
            before = file.read(start)
            file.seek(start + size)
            return before, file.read()


# ---- annotations ---------------------------------------------------------------------------------


def categories() -> list[dict[str, Any]]:
    """Return COCO's 80 categories as they stand in instances_*.json."""
    coarse = fine_to_coarse()
    return [
        {"supercategory": _GROUPS[coarse[i - 1]], "id": i, "name": FINE_NAMES[i - 1]}
        for i in CATEGORIES
    ]


class Annotator:
    """Makes the annotations of one picture after another.

    Shares are train2017's: 860,001 annotations of 118,287 pictures; 54.2 % show a person, and then
    4.09 on average; 1.2 % are crowds. (Geometric and Poisson counts are an assumption.)
    """

    PERSON_SHARE, PERSONS, OTHERS, CROWDS = 0.542, 4.09, 5.05, 0.012

    def __init__(self, rng: np.random.Generator, first_id: int) -> None:
        self._rng = rng
        self.next_id = first_id
        self.persons = 0

    def annotate(self, image_id: int, width: int, height: int, person: bool = False) -> list[bytes]:
        """Return the annotations of a picture, JSON objects; ``person`` asks for one at least."""
        rng = self._rng
        person |= bool(rng.random() < self.PERSON_SHARE)
        persons = int(rng.geometric(1 / self.PERSONS)) if person else 0
        total = persons + int(rng.poisson(self.OTHERS))
        self.persons += persons
        others = rng.choice(CATEGORIES[1:], total - persons)
        kinds = [CATEGORIES[0]] * persons + others.tolist()
        crowds = (rng.random(total) < self.CROWDS).tolist()
        outlines = _outlines(rng, total, width, height)
        low, high = outlines.min(1), outlines.max(1)
        boxes = np.round(np.concatenate([low, high - low], axis=1), 2).tolist()
        following = np.roll(outlines, -1, axis=1)
        # The shoelace formula.
        twice = outlines[..., 0] * following[..., 1] - outlines[..., 1] * following[..., 0]
        areas = np.round(np.abs(twice.sum(1)) / 2, 2).tolist()
        lines = []
        for k, points in enumerate(outlines.reshape(total, 2 * outlines.shape[1]).tolist()):
            entry = {
                "segmentation": _box_runs(low[k], high[k], width, height)
                if crowds[k]
                else [points],
                "area": areas[k],
                "iscrowd": int(crowds[k]),
                "image_id": image_id,
                "bbox": boxes[k],
                "category_id": kinds[k],
                "id": self.next_id,
            }
            self.next_id += 1
            lines.append(json.dumps(entry).encode())
        return lines


def _outlines(rng: np.random.Generator, count: int, width: int, height: int) -> np.ndarray:
    """Return (count, corners, 2) star-shaped polygons in pixels, inside the picture."""
    corners = int(rng.integers(8, 41))
    angle = (np.arange(corners) + rng.random((count, corners))) * (2 * np.pi / corners)
    radius = np.exp(rng.normal(-2.2, 0.8, (count, 1))).clip(0.02, 0.6) * min(width, height)
    radius = radius * rng.uniform(0.6, 1, (count, corners))
    centre = rng.uniform(0, (width, height), (count, 1, 2))
    points = centre + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return np.round(points.clip(0, (width, height)), 2)


def _box_runs(low: np.ndarray, high: np.ndarray, width: int, height: int) -> dict[str, Any]:
    """Return the run lengths of a box, down the columns, as COCO writes a crowd."""
    left, top = np.minimum(low.astype(int), (width - 1, height - 1))
    right, bottom = np.maximum(high.astype(int), (left + 1, top + 1))
    tall, columns = int(bottom - top), int(right - left)
    runs = [int(left) * height + int(top), tall, *[height - tall, tall] * (columns - 1)]
    return {"counts": [*runs, height * width - sum(runs)], "size": [height, width]}
