"""Full-size stand-ins of the official raw files, to rehearse a preparation without a network.

Below the folder lie ``coco/`` and ``potsdam/``, as below the one that INFOSEG_RAW names: the same
archives (or the trees that unpacking them gives), counts, sizes and layouts as the official ones,
random content (``infoseg.data.fake_content``). ``FAKE.json`` says what they are. Sources of kind
``official`` refuse them, whose hashes are not the published ones; kind ``local`` reads them.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from infoseg.data import coco_layout
from infoseg.data import fake_content as content
from infoseg.data.abandoned import hold, remove_abandoned
from infoseg.data.coco_layout import IIC_LISTS, SPLITS
from infoseg.data.fake_archives import Archive
from infoseg.data.potsdam import LABELLED_TILES
from infoseg.errors import DataError
from infoseg.files import make_folder, storing

GENERATOR, VERSION = "infoseg.data.fake", 1
MARK = "FAKE.json"
NOTE = "Random stand-ins of the official files, of no use but for rehearsals."
PARTS = ("images", "stuffthingmaps", "annotations", "curated", "potsdam")
IMAGES = {"train2017": 118_287, "val2017": 5_000}
LISTS = {
    file: {split: count for name, split, count in IIC_LISTS.values() if name == variant}
    for variant, file in coco_layout.LISTS.items()
}
TILES = sorted(
    (row, column)
    for row, columns in {2: (10, 14), 3: (10, 14), 4: (10, 15), 5: (10, 15), 6: (7, 15), 7: (7, 13)}
    .items()
    for column in range(columns[0], columns[1] + 1)
)  # fmt: skip
TILE_SIZE = 6000
"""Side of an official tile in pixels."""

LAST_ID = 581_929
"""COCO's largest image id; ids are drawn from 1 to it."""
VARIANTS = 24
"""Different pictures of each size; a comment with the image's id makes every file another."""
BYTES = {"images": 172_000, "stuffthingmaps": 6_200, "annotations": 4_400, "curated": 20}
"""Bytes per image and part, more rather than less, with an archive's index; for the disk space."""
_PLAN, _PICTURE, _ANNOTATIONS, _LIST, _TILE = range(5)  # what a random stream is for


@dataclass(frozen=True)
class _Split:
    """The images of a split: ids, increasing; indices of their sizes and of their variants."""

    name: str
    ids: np.ndarray
    sizes: np.ndarray
    variants: np.ndarray

    def photos(self) -> Iterator[tuple[int, tuple[int, int], int]]:
        """Yield id, (width, height), variant."""
        sizes = list(content.SIZES)
        for image_id, size, variant in zip(self.ids, self.sizes, self.variants, strict=True):
            yield int(image_id), sizes[size], int(variant)


def write_fake(
    out: Path | str,
    *,
    scale: float = 1.0,
    seed: int = 0,
    archives: bool = True,
    only: Sequence[str] = (),
    tiles: int | None = None,
    tile_size: int = TILE_SIZE,
    progress: bool = False,
) -> dict[str, Any]:
    """Write stand-ins of COCO 2017, COCO-Stuff, IIC's id lists and Potsdam below ``out``.

    scale: share of the official counts, in (0, 1], and at least one of everything; sizes are never
    scaled. archives: the official zips (26 GB at full scale), otherwise the trees they unpack to.
    only: some of ``PARTS`` instead of all. tiles: number of Potsdam tiles instead of 38 * scale; 24
    of 38 have a label, at least one. tile_size: side of a tile in pixels.

    The same arguments give the same bytes with the same versions of Pillow, NumPy and OpenCV,
    whichever parts are written. Returns what ``FAKE.json`` holds: arguments, counts, bytes. Nothing
    stands under ``out`` before all of it is written. Memory stays below 1 GB.

    Raises ValueError for an impossible argument; DataError where ``out`` holds anything, or the
    disk has too little room, with the scale that would fit.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be in (0, 1], not {scale}")
    if unknown := sorted(set(only) - set(PARTS)):
        raise ValueError(f"only: {unknown[0]!r} is none of {', '.join(PARTS)}")
    if tile_size < 4 or not (tiles is None or 1 <= tiles <= len(TILES)):
        raise ValueError(f"tile_size must be at least 4, tiles 1 to {len(TILES)}")
    out = Path(out)
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise DataError(
            "is there already; stand-ins are written into a folder of their own",
            file=out,
            advice="Choose another folder, or remove it yourself",
        )
    asked = {
        "scale": scale,
        "seed": seed,
        "archives": archives,
        "parts": [part for part in PARTS if part in (only or PARTS)],
        "tiles": tiles,
        "tile_size": tile_size,
    }
    make_folder(out.parent)
    _check_space(out, asked)
    fresh = out.with_name(f".{out.name}.writing-{uuid.uuid4().hex[:8]}")
    remove_abandoned(out, "writing")
    with storing(out):
        fresh.mkdir()
    lock = hold(fresh)
    try:
        counts = _Writer(fresh, asked, progress).write()
        sizes = [file.stat().st_size for file in fresh.rglob("*") if file.is_file()]
        head = {"generator": GENERATOR, "version": VERSION, "note": NOTE}
        record = head | asked | {"counts": counts, "bytes": sum(sizes)}
        (fresh / MARK).write_text(json.dumps(record, indent=1) + "\n")
        if out.exists():
            out.rmdir()  # fails if something was put there meanwhile
        fresh.rename(out)
    except OSError as error:
        raise DataError(
            f"cannot be written ({error.strerror or error})",
            file=out,
            advice="Check the disk's free space and the folder's permissions",
        ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        os.close(lock)
    return record


class _Writer:
    """Writes the parts, one after another, into a folder, and counts what it writes."""

    def __init__(self, folder: Path, asked: dict[str, Any], progress: bool) -> None:
        self.coco, self.isprs = folder / "coco", folder / "potsdam"
        self.seed, self.scale = asked["seed"], asked["scale"]
        self.asked, self.progress = asked, progress
        self.counts: dict[str, int] = {}
        self.splits = self._plan()
        self.encoded = cache(self._encode)

    def write(self) -> dict[str, int]:
        for part in self.asked["parts"]:
            getattr(self, f"_{part}")()
        return self.counts

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *what])

    def _plan(self) -> list[_Split]:
        """Decide ids, sizes and variants: the same whichever parts are written."""
        rng = self._rng(_PLAN)
        counts = [_scaled(IMAGES[split], self.scale) for split in SPLITS]
        ids = rng.choice(LAST_ID, sum(counts), replace=False) + 1
        shares = list(content.SIZES.values())
        return [
            _Split(
                split,
                np.sort(part),
                rng.choice(len(shares), len(part), p=shares),
                rng.integers(VARIANTS, size=len(part)),
            )
            for split, part in zip(SPLITS, np.split(ids, counts[:1]), strict=True)
        ]

    def _encode(self, size: tuple[int, int], variant: int) -> tuple[bytes, bytes]:
        return content.jpeg_and_map(self._rng(_PICTURE, *size, variant), *size)

    def _archive(self, folder: Path, name: str, unpacked: str = "") -> Archive:
        return Archive(folder / f"{name}.zip" if self.asked["archives"] else folder / unpacked)

    def _bar(self, total: int, what: str) -> tqdm:
        return tqdm(total=total, desc=what, unit="file", mininterval=1.0, disable=not self.progress)

    def _images(self) -> None:
        for split in self.splits:
            bar = self._bar(len(split.ids), split.name)
            with bar, self._archive(self.coco, split.name, "images") as archive:
                archive.folder(split.name)
                for image_id, size, variant in split.photos():
                    jpeg = content.signed_jpeg(self.encoded(size, variant)[0], str(image_id))
                    archive.file(f"{split.name}/{image_id:012d}.jpg", [jpeg])
                    bar.update()
            self.counts[f"{split.name} images"] = len(split.ids)

    def _stuffthingmaps(self) -> None:
        total = sum(len(split.ids) for split in self.splits)
        name = "stuffthingmaps_trainval2017"
        bar = self._bar(total, "stuffthingmaps")
        with bar, self._archive(self.coco, name, "stuffthingmaps") as archive:
            for split in self.splits:
                archive.folder(split.name)
                for image_id, size, variant in split.photos():
                    png = content.signed_png(self.encoded(size, variant)[1], str(image_id))
                    archive.file(f"{split.name}/{image_id:012d}.png", [png])
                    bar.update()
        self.counts["stuff maps"] = total

    def _annotations(self) -> None:
        with self._archive(self.coco, "annotations_trainval2017") as archive:
            archive.folder("annotations")
            first_id = 1
            for number, split in enumerate(self.splits):
                annotator = content.Annotator(self._rng(_ANNOTATIONS, number), first_id)
                lines = self._instances(split, annotator)
                archive.file(f"annotations/instances_{split.name}.json", lines, deflate=True)
                self.counts[f"{split.name} annotations"] = annotator.next_id - first_id
                self.counts[f"{split.name} persons"] = annotator.persons
                first_id = annotator.next_id

    def _instances(self, split: _Split, annotator: content.Annotator) -> Iterator[bytes]:
        """Yield the pieces of instances_*.json, in the order of COCO's keys."""
        info = {"description": "Random stand-in of COCO 2017", "version": "1.0", "year": 2017}
        licences = [{"url": "", "id": 1, "name": "None: random content"}]
        head = json.dumps({"info": info, "licenses": licences})
        yield head[:-1].encode() + b', "images": ['
        for i, (image_id, (width, height), _) in enumerate(split.photos()):
            entry = {"license": 1, "file_name": f"{image_id:012d}.jpg", "height": height}
            entry |= {"width": width, "date_captured": "2017-09-01 00:00:00", "id": image_id}
            yield (b", " if i else b"") + json.dumps(entry).encode()
        yield b'], "annotations": ['
        separator = b""
        with self._bar(len(split.ids), f"instances_{split.name}") as bar:
            for i, (image_id, size, _) in enumerate(split.photos()):
                # Even the smallest stand-in shows a person, or COCO-Persons would be empty.
                if lines := annotator.annotate(image_id, *size, person=i == 0):
                    yield separator + b", ".join(lines)
                    separator = b", "
                bar.update()
        yield b'], "categories": ' + json.dumps(content.categories()).encode() + b"}"

    def _curated(self) -> None:
        for number, (name, counts) in enumerate(LISTS.items()):
            for split in self.splits:
                rng = self._rng(_LIST, number, IMAGES[split.name])
                chosen = rng.choice(split.ids, _scaled(counts[split.name], self.scale), False)
                file = self.coco / "curated" / split.name / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("".join(f"{i:012d}\n" for i in sorted(chosen)))
                self.counts[f"{split.name} {name}"] = len(chosen)

    def _potsdam(self) -> None:
        chosen = _tiles(self.scale, self.asked["tiles"])
        frames = [content.tiff_frame(self.asked["tile_size"], channels) for channels in (4, 3)]
        with (
            self._bar(len(chosen), "Potsdam") as bar,
            self._archive(self.isprs, "4_Ortho_RGBIR") as images,
            self._archive(self.isprs, "5_Labels_for_participants") as labels,
        ):
            images.folder("4_Ortho_RGBIR")
            labels.folder("5_Labels_for_participants")
            for tile in chosen:
                self._tile(tile, frames, images, labels)
                bar.update()
        labelled = sum(tile in LABELLED_TILES for tile in chosen)
        self.counts |= {"tiles": len(chosen), "labelled tiles": labelled}

    def _tile(
        self,
        tile: tuple[int, int],
        frames: list[tuple[bytes, bytes]],
        images: Archive,
        labels: Archive,
    ) -> None:
        """Write one tile; a method of its own, so that its 252 MB are gone before the next."""
        pixels, colours = content.tile(self._rng(_TILE, *tile), self.asked["tile_size"])
        name = f"top_potsdam_{tile[0]}_{tile[1]}"
        start, end = frames[0]
        images.file(f"4_Ortho_RGBIR/{name}_RGBIR.tif", (start, pixels.data, end))
        if tile in LABELLED_TILES:
            start, end = frames[1]
            member = f"5_Labels_for_participants/{name}_label.tif"
            labels.file(member, (start, colours.data, end), deflate=True)


def _scaled(count: int, scale: float) -> int:
    return max(1, round(count * scale))


def _tiles(scale: float, tiles: int | None) -> list[tuple[int, int]]:
    """Return tiles by row and column, with and without labels in the official proportion."""
    count = tiles or _scaled(len(TILES), scale)
    labelled = max(1, round(count * len(LABELLED_TILES) / len(TILES)))
    with_labels = [tile for tile in TILES if tile in LABELLED_TILES]
    without = [tile for tile in TILES if tile not in LABELLED_TILES]
    return sorted(with_labels[:labelled] + without[: count - labelled])


def _check_space(out: Path, asked: dict[str, Any]) -> None:
    """Raise DataError unless the disk has room, naming the largest scale it has room for."""
    free = shutil.disk_usage(out.parent).free
    if _needed(asked, asked["scale"]) <= free:
        return
    fits = next((n / 1000 for n in range(1000, 0, -1) if _needed(asked, n / 1000) <= free), None)
    raise DataError(
        f"needs {_needed(asked, asked['scale']) / 1e9:.1f} GB at scale {asked['scale']:g}, and its "
        f"disk has {free / 1e9:.1f} GB free",
        file=out,
        advice=f"Scale {fits:g} would fit" if fits else "No scale would fit: choose another disk",
    )


def _needed(asked: dict[str, Any], scale: float) -> int:
    """Return an upper estimate of the bytes on the disk at some scale."""
    archives, parts = asked["archives"], asked["parts"]
    block = 0 if archives else 4096  # a file of its own fills whole blocks
    per_image = sum(BYTES.get(part, 0) for part in parts)
    per_image += block * sum(part in ("images", "stuffthingmaps") for part in parts)
    images = sum(_scaled(count, scale) for count in IMAGES.values())
    # A label deflates to a hundredth; unpacked it has 3 bytes per pixel.
    per_pixel = 4 + (0.1 if archives else 3) * len(LABELLED_TILES) / len(TILES)
    tiles = len(_tiles(scale, asked["tiles"])) if "potsdam" in parts else 0
    return int(images * per_image + tiles * asked["tile_size"] ** 2 * per_pixel) + (1 << 20)
