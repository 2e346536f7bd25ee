"""Potsdam-6 and Potsdam-3 from the ISPRS 2D Semantic Labeling tiles.

Tiles ``top_potsdam_R_C_RGBIR.tif`` and labels ``top_potsdam_R_C_label.tif`` may lie anywhere below
a raw folder, or in ``4_Ortho_RGBIR.zip``, ``5_Labels_for_participants.zip`` and
``5_Labels_all.zip``, in any case and with numbers padded or not. IIC's preparation: halve, then cut
15 x 15 crops of 200 px.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from threading import Lock
from typing import Literal, Unpack

import cv2
import numpy as np

from infoseg.data.archives import RawFolders, files_below, places
from infoseg.data.ingest import Options, Sample, ingest, log
from infoseg.data.pictures import check_size, read_picture, rescale_labels
from infoseg.data.store import IGNORE
from infoseg.errors import DataError

ARCHIVES = ("4_Ortho_RGBIR.zip", "5_Labels_for_participants.zip", "5_Labels_all.zip")

CLASSES = {
    "potsdam6": ("road", "building", "low vegetation", "tree", "car", "clutter"),
    "potsdam3": ("road, car", "building, clutter", "vegetation, tree"),
}

COLOURS = ((1, 1, 1), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 1, 0), (1, 0, 0))
"""Label colours of the six classes in units of 255: white, blue, cyan, green, yellow, red."""

TO_THREE = (0, 1, 2, 2, 0, 1)
"""Potsdam-3 label of each of the six classes (IIC code)."""

LABELLED_TILES = frozenset(
    [(row, column) for row in range(2, 6) for column in range(10, 13)]
    + [(row, column) for row in (6, 7) for column in range(7, 13)]
)
"""The 24 tiles whose labels participants had, and so the paper's 5400 images; all 38 are out."""

N_TILES = 38

_THREADS = 2
"""Tiles at work at a time, one of them being read: 1 GB, whatever the number of cores."""

_NAME = re.compile(r"top_potsdam_0*(\d+)_0*(\d+)_(rgbir|label)\.tiff?", re.IGNORECASE)


@dataclass(frozen=True)
class _Tile:
    row: int
    column: int
    image: Traversable | None
    label: Traversable | None


def prepare_potsdam(
    raw: RawFolders,
    out: Path | str,
    *,
    variant: Literal["potsdam6", "potsdam3"],
    grid: int = 15,
    crop: int = 200,
    colour_tolerance: int = 80,
    **options: Unpack[Options],
) -> None:
    """Prepare Potsdam-6 or Potsdam-3 (RGBIR, 4 channels) into the directory ``out``.

    Every tile is halved (cv2 INTER_LINEAR on uint8, at exactly one half the mean of 2 x 2 pixels;
    labels INTER_NEAREST, i.e. the upper left of the four) and cut into ``grid`` x ``grid`` images
    of ``crop`` x ``crop`` pixels, named ``R_C_rNN_cNN`` after tile and position. A tile must be
    2 * grid * crop pixels wide and high: 6000 with the published 15 and 200. Images come in the
    order of tile row, tile column, crop row, crop column, as index.csv records; IIC shuffles
    without a seed, which cannot and need not be repeated.

    Only ``LABELLED_TILES`` get labels, the rest is unlabelled whatever lies in the folder; with
    all 38 tiles this gives 8550 images, 5400 of them labelled. A tile in a folder goes before the
    same in an archive; the participants' labels before those of 5_Labels_all.

    colour_tolerance: how far, per channel, a label's colour may be from 0 or 255. Labels that went
    through lossy compression are reported, and 6_7 has cars of (252, 255, 0) (public reports; not
    checked against the original here); IIC's exact match would reject them. Repairs are counted in
    the notes. 0 demands exact colours; at most 127. No tolerance makes labels of 5_Labels_all's
    tile 4_12, which shows them drawn over the picture (torchgeo issue 1727): that is an error.

    Raises DataError for a missing folder, a broken archive, no tiles, one tile twice, and, unless
    ``on_bad_input`` is "skip", for an unreadable file, another size or band count, a colour that is
    no class, a label missing for one of the 24 tiles, or a label without its tile.
    """
    tiles, reading = _find_tiles(places(raw, ARCHIVES)), Lock()
    count = sum(tile.image is not None for tile in tiles)
    notes = [f"{count} tiles instead of the {N_TILES} of the published data set."]

    def prepare(tile: _Tile) -> list[Sample]:
        with reading:
            half, labels, note = _read_tile(tile, grid * crop, colour_tolerance)
        if labels is not None and variant == "potsdam3":
            labels = np.array(TO_THREE, np.uint8)[labels]
        samples = []
        for i in range(grid):
            for j in range(grid):
                cut = np.s_[i * crop : (i + 1) * crop, j * crop : (j + 1) * crop]
                key = f"{tile.row}_{tile.column}_r{i:02d}_c{j:02d}"
                label = None if labels is None else labels[cut]
                samples.append(Sample(key, half[cut], label, note="" if samples else note))
        return samples

    options["threads"] = min(options.get("threads", _THREADS), _THREADS)
    ingest(
        raw, out, tiles, prepare,
        channels=4,
        classes=CLASSES[variant],
        parameters=dict(
            protocol="potsdam", variant=variant, grid=grid, crop=crop,
            colour_tolerance=colour_tolerance,
        ),
        notes=notes if count != N_TILES else (),
        **options,
    )  # fmt: skip


def _find_tiles(roots: Sequence[Traversable]) -> list[_Tile]:
    """Return every tile in any of the places, by row and column."""
    images: dict[tuple[int, int], Traversable] = {}
    labels: dict[tuple[int, int], Traversable] = {}
    for place in roots:
        tiles: dict[tuple[str, int, int], list[Traversable]] = defaultdict(list)
        for file in files_below(place):
            if match := _NAME.fullmatch(file.name):
                tiles[match[3].lower(), int(match[1]), int(match[2])].append(file)
        for (kind, row, column), files in tiles.items():
            if kind == "rgbir":
                images.setdefault((row, column), _only(files))
                continue
            file = _only([f for f in files if _participants(f)] or files)
            known = labels.setdefault((row, column), file)
            if _participants(file) and not _participants(known):
                labels[row, column] = file
    if not images:
        raise DataError(
            "no file named like top_potsdam_2_10_RGBIR.tif",
            file=roots[0],
            advice="Put 4_Ortho_RGBIR.zip and 5_Labels_for_participants.zip there, packed or not",
        )
    return [
        _Tile(row, column, images.get((row, column)), labels.get((row, column)))
        for row, column in sorted(images.keys() | labels.keys())
    ]


def _participants(file: Traversable) -> bool:
    """Say whether a label is of the participants' release, not of the later 5_Labels_all.

    By the folder's name or, at the top of an archive, by the archive's.
    """
    return "participants" in Path(str(file)).parent.name.lower()


def _only(files: list[Traversable]) -> Traversable:
    if len(files) > 1:
        raise DataError(
            f"the same tile is there twice, also as {files[1]}",
            file=files[0],
            advice="Remove one of the two",
        )
    return files[0]


def _read_tile(tile: _Tile, side: int, tolerance: int) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return a tile at half size, (side, side, 4) uint8, its labels or None, and a note."""
    if tile.image is None:
        raise DataError(
            "there is no RGBIR tile for this label", file=tile.label, advice="Add the tile"
        )
    full = read_picture(tile.image, 4)
    if full.shape[:2] != (2 * side, 2 * side):
        raise DataError(
            f"is {full.shape[1]} x {full.shape[0]} pixels; grid * crop asks for {2 * side} x "
            f"{2 * side}",
            file=tile.image,
            advice="Use an original tile, or change grid and crop",
        )
    half = cv2.resize(full, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR)
    del full  # 144 MB, before the 108 MB of the label come
    if (tile.row, tile.column) not in LABELLED_TILES:
        return half, None, ""
    if tile.label is None:
        raise DataError(
            "its label is missing although this is one of the 24 labelled tiles",
            file=tile.image,
            advice="Add top_potsdam_R_C_label.tif from 5_Labels_for_participants.zip",
        )
    colours = read_picture(tile.label)
    check_size(colours, (2 * side, 2 * side), tile.label)
    labels, off = colours_to_classes(colours, tile.label, tolerance)
    note = f"{tile.label.name}: {off} pixels off the six colours, rounded to them." if off else ""
    if off:
        log.warning(note)
    return half, rescale_labels(labels, 0.5), note


_STRIP = 128
"""Rows of a label that are decoded at a time."""

_NEITHER, _INEXACT = 8, 16
"""Bits of a channel that is neither on nor off; that is so only within the tolerance."""


def colours_to_classes(
    colours: np.ndarray, file: Traversable, tolerance: int = 0
) -> tuple[np.ndarray, int]:
    """Return the class 0-5 of every pixel of a (H, W, 3) uint8 label, and how many were inexact.

    A channel within ``tolerance`` of 0 or 255 counts as that. Raises DataError naming ``file``,
    the first colour that is no class, and where it stands in the full-size tile.
    """
    bits, classes = _colour_tables(tolerance)
    labels = np.empty(colours.shape[:2], np.uint8)
    wrong = inexact = 0
    first = None
    for top in range(0, len(colours), _STRIP):
        red, green, blue = cv2.split(cv2.LUT(colours[top : top + _STRIP], bits))
        code = red | green | blue
        labels[top : top + _STRIP] = strip = cv2.LUT(code, classes)
        inexact += np.count_nonzero(code & _INEXACT)
        if count := np.count_nonzero(strip == IGNORE):
            wrong += count
            if first is None:
                row, column = np.unravel_index(np.argmax(strip == IGNORE), strip.shape)
                first = top + int(row), int(column)
    if first is not None:
        raise DataError(
            f"colour {tuple(int(v) for v in colours[first])} at row {first[0]}, column {first[1]} "
            f"is none of the six classes ({wrong} such pixels)",
            file=file,
            advice="Use the label of 5_Labels_for_participants.zip: in 5_Labels_all tile 4_12 is a "
            "picture with labels drawn over it, and the _noBoundary labels have black lines. Or "
            "leave the tile out with on_bad_input=skip",
        )
    return labels, inexact


def _colour_tables(tolerance: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bits of every value in every channel, (1, 256, 3), and the class of every code.

    A pixel's code is the union of its channels' bits: red 4, green 2, blue 1.
    """
    values = np.arange(256)
    bits = np.zeros((1, 256, 3), np.uint8)
    for channel, bit in enumerate((4, 2, 1)):
        bits[0, values >= 255 - tolerance, channel] = bit
    bits[0, (values > tolerance) & (values < 255 - tolerance)] = _NEITHER
    bits[0, 1:255] |= _INEXACT
    classes = np.full(256, IGNORE, np.uint8)
    for label, (red, green, blue) in enumerate(COLOURS):
        code = 4 * red + 2 * green + blue
        classes[[code, code | _INEXACT]] = label
    return bits, classes
