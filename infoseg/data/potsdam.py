"""Potsdam-6 and Potsdam-3 from the ISPRS 2D Semantic Labeling tiles.

Tiles ``top_potsdam_R_C_RGBIR.tif`` and labels ``top_potsdam_R_C_label.tif`` may lie anywhere below
the raw folder (the archives use ``4_Ortho_RGBIR`` and ``5_Labels_for_participants``), in any case
and with numbers padded or not. IIC's preparation: halve, then cut 15 x 15 crops of 200 px.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from infoseg.data.imaging import check_same_size, read_tiff, rescale_labels
from infoseg.data.ingest import OnBadInput, Sample, ingest, log
from infoseg.data.store_writer import PreparedWriter
from infoseg.errors import DataError
from infoseg.params_data import SuperpixelSettings

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

_NAME = re.compile(r"top_potsdam_0*(\d+)_0*(\d+)_(rgbir|label)\.tiff?", re.IGNORECASE)


@dataclass(frozen=True)
class _Tile:
    row: int
    column: int
    image: Path | None
    label: Path | None

    @property
    def labelled(self) -> bool:
        return (self.row, self.column) in LABELLED_TILES


def prepare_potsdam(
    raw: Path | str,
    out: Path | str,
    *,
    name: str,
    variant: Literal["potsdam6", "potsdam3"],
    grid: int = 15,
    crop: int = 200,
    colour_tolerance: int = 80,
    superpixels: SuperpixelSettings | None = None,
    on_bad_input: OnBadInput = "error",
    progress: bool = False,
    threads: int = 2,
) -> None:
    """Prepare Potsdam-6 or Potsdam-3 (RGBIR, 4 channels) into the directory ``out``.

    Every tile is halved (cv2 INTER_LINEAR on uint8, at exactly one half the mean of 2 x 2 pixels;
    labels INTER_NEAREST, i.e. the upper left of the four) and cut into ``grid`` x ``grid`` images
    of ``crop`` x ``crop`` pixels, named ``R_C_rNN_cNN`` after tile and position. A tile must be
    2 * grid * crop pixels wide and high: 6000 with the published 15 and 200. Tiles come in the
    order of row and column; IIC shuffles without a seed, which cannot and need not be repeated.

    Only ``LABELLED_TILES`` get labels, the rest is unlabelled whatever lies in the folder; with
    all 38 tiles this gives 8550 images, 5400 of them labelled.

    colour_tolerance: how far, per channel, a label's colour may be from 0 or 255. The distributed
    label of tile 4_12 went through lossy compression and 6_7 has cars of (252, 255, 0) (public
    reports; not checked against the original here); IIC's exact match would reject both. Repairs
    are counted in the notes. 0 demands exact colours; at most 127.

    superpixels: settings of the superpixels to store with every image; None stores none.

    Raises DataError for a missing folder or a folder without tiles, and, unless ``on_bad_input``
    is "skip", for an unreadable file, another size or band count, a colour that is no class, a
    label missing for one of the 24 tiles, or a label without its tile.
    """
    raw = Path(raw)
    if variant not in CLASSES:
        raise ValueError(f"variant must be one of {sorted(CLASSES)}, not {variant!r}")
    if grid < 1 or crop < 1 or not 0 <= colour_tolerance <= 127:
        raise ValueError("grid and crop must be at least 1, colour_tolerance in 0..127")
    tiles = _find_tiles(raw)
    notes = []
    count = sum(tile.image is not None for tile in tiles)
    if count != N_TILES:
        notes.append(f"{count} tiles instead of the {N_TILES} of the published data set.")
    repaired: dict[str, int] = {}

    def prepare(tile: _Tile) -> list[Sample]:
        half, labels = _read_tile(tile, grid * crop, colour_tolerance, repaired)
        if labels is not None and variant == "potsdam3":
            labels = np.array(TO_THREE, np.uint8)[labels]
        return [
            Sample(
                f"{tile.row}_{tile.column}_r{i:02d}_c{j:02d}",
                half[i * crop : (i + 1) * crop, j * crop : (j + 1) * crop],
                None
                if labels is None
                else labels[i * crop : (i + 1) * crop, j * crop : (j + 1) * crop],
                "train",
            )
            for i in range(grid)
            for j in range(grid)
        ]

    with PreparedWriter(
        out,
        name=name,
        channels=4,
        classes=CLASSES[variant],
        parameters={
            "protocol": "potsdam",
            "variant": variant,
            "grid": grid,
            "crop": crop,
            "colour_tolerance": colour_tolerance,
            "on_bad_input": on_bad_input,
        },
        notes=notes,
        superpixels=superpixels,
    ) as writer:
        ingest(
            writer, tiles, prepare,
            raw=raw, on_bad_input=on_bad_input, progress=progress, threads=threads,
        )  # fmt: skip
        for file, pixels in sorted(repaired.items()):
            writer.notes.append(f"{file}: {pixels} pixels off the six colours, rounded to them.")


def _find_tiles(raw: Path) -> list[_Tile]:
    """Return every tile found below ``raw``, by row and column."""
    if not raw.is_dir():
        raise DataError("raw folder not found", file=raw, advice="Check the path of the raw data")
    found: dict[tuple[int, int], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(raw.rglob("*")):
        if match := _NAME.fullmatch(file.name):
            row, column, kind = int(match[1]), int(match[2]), match[3].lower()
            found[row, column][kind].append(file)
    if not any(kinds["rgbir"] for kinds in found.values()):
        raise DataError(
            "no file named like top_potsdam_2_10_RGBIR.tif",
            file=raw,
            advice="Unpack 4_Ortho_RGBIR.zip and 5_Labels_for_participants.zip there",
        )
    return [
        _Tile(row, column, _only(kinds["rgbir"]), _only(_participants(kinds["label"])))
        for (row, column), kinds in sorted(found.items())
    ]


def _participants(files: list[Path]) -> list[Path]:
    """Prefer the participants' labels where a later release (5_Labels_all) lies beside them."""
    return [f for f in files if "participants" in f.parent.name.lower()] or files


def _only(files: list[Path]) -> Path | None:
    if len(files) > 1:
        raise DataError(
            f"the same tile is there twice, also as {files[1]}",
            file=files[0],
            advice="Remove one of the two",
        )
    return files[0] if files else None


def _read_tile(
    tile: _Tile, side: int, tolerance: int, repaired: dict[str, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a tile at half size: (side, side, 4) uint8 and its labels (side, side) or None."""
    if tile.image is None:
        raise DataError(
            "there is no RGBIR tile for this label", file=tile.label, advice="Add the tile"
        )
    full = read_tiff(tile.image, 4)
    if full.shape[:2] != (2 * side, 2 * side):
        raise DataError(
            f"is {full.shape[1]} x {full.shape[0]} pixels; grid * crop asks for {2 * side} x "
            f"{2 * side}",
            file=tile.image,
            advice="Use an original tile, or change grid and crop",
        )
    half = cv2.resize(full, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR)
    if not tile.labelled:
        return half, None
    if tile.label is None:
        raise DataError(
            "its label is missing although this is one of the 24 labelled tiles",
            file=tile.image,
            advice="Add top_potsdam_R_C_label.tif from 5_Labels_for_participants.zip",
        )
    colours = read_tiff(tile.label, 3)
    check_same_size(colours, full, tile.label)
    labels, off = colours_to_classes(colours, tile.label, tolerance)
    if off:
        log.warning("%s: %d pixels off the six label colours, rounded", tile.label, off)
        repaired[tile.label.name] = off
    return half, rescale_labels(labels, 0.5)


def colours_to_classes(
    colours: np.ndarray, file: Path, tolerance: int = 0
) -> tuple[np.ndarray, int]:
    """Return the class 0-5 of every pixel of a (H, W, 3) uint8 label, and how many were inexact.

    A channel within ``tolerance`` of 0 or 255 counts as that. Raises DataError naming ``file``,
    the first colour that is no class, and where it stands in the full-size tile.
    """
    table = np.full(8, 255, np.uint8)
    for label, (red, green, blue) in enumerate(COLOURS):
        table[4 * red + 2 * green + blue] = label
    weights = np.zeros((3, 256), np.uint8)  # bit of a channel that is on
    values = np.arange(256)
    for channel, bit in enumerate((4, 2, 1)):
        weights[channel] = np.where(values >= 255 - tolerance, bit, 0)
        weights[channel][(values > tolerance) & (values < 255 - tolerance)] = 8
    code = weights[0][colours[..., 0]] | weights[1][colours[..., 1]] | weights[2][colours[..., 2]]
    labels = np.append(table, np.full(8, 255, np.uint8))[code]
    wrong = labels == 255
    if wrong.any():
        row, column = np.unravel_index(np.argmax(wrong), wrong.shape)
        raise DataError(
            f"colour {tuple(int(v) for v in colours[row, column])} at row {row}, column {column} "
            f"is none of the six classes ({int(wrong.sum())} such pixels)",
            file=file,
            advice="Use the original label file, not the _noBoundary one",
        )
    exact = (values == 0) | (values == 255)
    return labels, int((~exact[colours].all(axis=-1)).sum())
