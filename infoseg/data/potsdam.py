"""Potsdam-6 and Potsdam-3 from the ISPRS 2D Semantic Labeling tiles.

Tiles ``top_potsdam_R_C_RGBIR.tif`` and labels ``top_potsdam_R_C_label.tif`` may lie anywhere below
a raw folder, or in the published archives, in any case and with numbers padded or not. IIC's
preparation: halve, then cut 15 x 15 crops of 200 px.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np

from infoseg.data.archives import files_below, places
from infoseg.data.ingest import Sample, ingest
from infoseg.data.pictures import check_size, read_picture, rescale_labels
from infoseg.data.store import IGNORE
from infoseg.files import DataError
from infoseg.settings import PotsdamParams

ARCHIVES = ("4_Ortho_RGBIR.zip", "5_Labels_for_participants.zip", "5_Labels_all.zip")
CLASSES = {
    "potsdam6": ("road", "building", "low vegetation", "tree", "car", "clutter"),
    "potsdam3": ("road, car", "building, clutter", "vegetation, tree"),
}
#: Label colours of the six classes in units of 255: white, blue, cyan, green, yellow, red.
COLOURS = ((1, 1, 1), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 1, 0), (1, 0, 0))
#: Potsdam-3 label of each of the six classes (IIC code).
TO_THREE = np.array([0, 1, 2, 2, 0, 1], np.uint8)
#: Row and column of the 24 tiles whose labels participants had, the paper's 5400 images.
LABELLED_TILES = frozenset(
    [(row, column) for row in range(2, 6) for column in range(10, 13)]
    + [(row, column) for row in (6, 7) for column in range(7, 13)]
)
N_TILES = 38
#: Tiles at work at a time, one of them being read: 1 GB, whatever the number of cores.
_THREADS = 2
_NAME = re.compile(r"top_potsdam_0*(\d+)_0*(\d+)_(rgbir|label)\.tiff?", re.IGNORECASE)


def prepare_potsdam(
    raw: Sequence[Path], out: Path, settings: PotsdamParams, **options: Any
) -> None:
    """Prepare Potsdam-6 or Potsdam-3 (RGBIR, 4 channels) into the directory ``out``.

    Every tile is halved (cv2 INTER_LINEAR on uint8, i.e. the mean of 2 x 2 pixels; labels
    INTER_NEAREST, i.e. the upper left of the four) and cut into ``grid`` x ``grid`` images of
    ``crop`` x ``crop`` pixels, by tile row, tile column, crop row, crop column (IIC shuffles
    without a seed). A tile has 2 * grid * crop pixels a side: 6000 as published. Only
    ``LABELLED_TILES`` get labels; all 38 tiles give 8550 images, 5400 of them labelled. IIC takes
    exact colours alone, but 6_7 is reported to have cars of (252, 255, 0) (not checked against the
    original): those within ``colour_tolerance`` are repaired, and the notes count them.

    Raises DataError for a missing folder, a broken archive, no tiles, and, unless ``on_bad_input``
    is "skip", for an unreadable file, another size or band count, a colour that is no class, and a
    labelled tile or its label missing.
    """
    tiles, reading = find_tiles(places(raw, ARCHIVES)), Lock()
    grid, crop, tolerance = settings.grid, settings.crop, settings.colour_tolerance
    count = sum("rgbir" in files for files in tiles.values())
    notes = [f"{count} tiles instead of the {N_TILES} of the published data set."]

    def prepare(tile: tuple[int, int]) -> list[Sample]:
        with reading:
            half, labels, note = _read_tile(tile, tiles[tile], grid * crop, tolerance)
        if labels is not None and settings.variant == "potsdam3":
            labels = TO_THREE[labels]
        samples = []
        for i, j in np.ndindex(grid, grid):
            cut = np.s_[i * crop : (i + 1) * crop, j * crop : (j + 1) * crop]
            key = f"{tile[0]}_{tile[1]}_r{i:02d}_c{j:02d}"
            samples.append(Sample(key, half[cut], None if labels is None else labels[cut]))
        samples[0].note = note
        return samples

    options["threads"] = min(options.get("threads", _THREADS), _THREADS)
    ingest(
        raw, out, settings, sorted(tiles), prepare, channels=4, classes=CLASSES[settings.variant],
        protocol="potsdam", decides=("variant", "grid", "crop", "colour_tolerance"),
        notes=notes if count != N_TILES else (), **options,
    )  # fmt: skip


def find_tiles(roots: Sequence[Traversable]) -> dict[tuple[int, int], dict[str, Traversable]]:
    """Return the files of every tile, by row and column, then by "rgbir" and "label".

    The participants' labels go before those of 5_Labels_all, then one root before the next. Raises
    DataError where there is no tile, and for one that is twice below a root.
    """
    tiles, ranks, ranked = defaultdict(dict), {}, []
    for place, root in enumerate(roots):
        for file in filter(lambda file: _NAME.fullmatch(file.name), files_below(root)):
            # The release by the folder's name, or the archive's.
            later = "participants" not in Path(str(file)).parent.name.lower()
            ranked.append(((later, place), file))
    for rank, file in sorted(ranked, key=lambda pair: pair[0]):
        row, column, kind = _NAME.fullmatch(file.name).groups()
        kinds, kind = tiles[int(row), int(column)], kind.lower()
        if ranks.get((row, column, kind)) == rank:
            problem = f"the same tile is there twice, also as {kinds[kind]}"
            raise DataError(problem, file=file, advice="Remove one of the two")
        ranks.setdefault((row, column, kind), rank)
        kinds.setdefault(kind, file)
    if not any("rgbir" in kinds for kinds in tiles.values()):
        advice = f"Put {ARCHIVES[0]} and {ARCHIVES[1]} there"
        problem = "no file named like top_potsdam_2_10_RGBIR.tif"
        raise DataError(problem, file=roots[0], advice=advice)
    return tiles


def _read_tile(
    tile: tuple[int, int], files: dict[str, Traversable], side: int, tolerance: int
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return a tile at half size, (side, side, 4) uint8, its labels or None, and a note."""
    image, label = files.get("rgbir"), files.get("label")
    if image is None:
        raise DataError("there is no RGBIR tile for this label", file=label, advice="Add the tile")
    full = read_picture(image, 4)
    if full.shape[:2] != (2 * side, 2 * side):
        problem = f"is {full.shape[1]} x {full.shape[0]} pixels; grid * crop asks for {2 * side}"
        raise DataError(problem, file=image, advice="Use an original tile, or change grid and crop")
    half = cv2.resize(full, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR)
    del full  # 144 MB, before the 108 MB of the label come
    if tile not in LABELLED_TILES:
        return half, None, ""
    if label is None:
        problem = "its label is missing although this is one of the 24 labelled tiles"
        advice = f"Add top_potsdam_R_C_label.tif from {ARCHIVES[1]}"
        raise DataError(problem, file=image, advice=advice)
    colours = read_picture(label)
    check_size(colours, (2 * side, 2 * side), label)
    labels, inexact = colours_to_classes(colours, label, tolerance)
    note = f"{label.name}: {inexact} pixels off the six colours, rounded to them."
    return half, rescale_labels(labels, 0.5), note if inexact else ""


def colours_to_classes(
    colours: np.ndarray, file: Traversable, tolerance: int = 0
) -> tuple[np.ndarray, int]:
    """Return the class 0-5 of every pixel of a (H, W, 3) uint8 label, and how many were inexact.

    A channel within ``tolerance`` (at most 127) of 0 or 255 counts as that. Raises DataError naming
    ``file``, the first colour that is no class, and where it stands in the full-size tile.
    """
    class_of_code = np.full(8, IGNORE, np.uint8)
    class_of_code[np.array(COLOURS) @ (4, 2, 1)] = range(6)
    code, distance = np.zeros((2, *colours.shape[:2]), np.uint8)
    for channel in cv2.split(colours):
        code = 2 * code + (channel > 127)
        distance = np.maximum(distance, np.minimum(channel, 255 - channel))
    labels = class_of_code[code]
    labels[distance > tolerance] = IGNORE
    wrong = labels == IGNORE
    if wrong.any():
        row, column = np.unravel_index(np.argmax(wrong), wrong.shape)
        raise DataError(
            f"colour {tuple(colours[row, column].tolist())} at row {row}, column {column} is none "
            f"of the six classes ({wrong.sum()} such pixels)",
            file=file,
            # torchgeo issue 1727: in 5_Labels_all, 4_12 shows labels drawn over the picture.
            advice=f"Use the label of {ARCHIVES[1]}, neither that of tile 4_12 in 5_Labels_all nor "
            "a _noBoundary one, or leave the tile out with on_bad_input=skip",
        )
    return labels, np.count_nonzero(distance)
