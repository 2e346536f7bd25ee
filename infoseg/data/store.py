"""The prepared data set: flat memory maps of pixels, an index and a description.

A directory holds ``images.bin`` (uint8, images of any size one after the other, each row by row
with its C channels interleaved), ``labels.bin`` (one uint8 per pixel in the same order),
``regions.bin`` (superpixels, one little-endian uint16 per pixel in the same order; only if there
are any), ``index.csv`` (which pixels belong to which image) and ``meta.json`` (:class:`Meta`).
Offsets count pixels, so one number addresses all three. The same input gives the same bytes.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import math
import os
import shutil
import uuid
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import KW_ONLY, dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from filelock import FileLock, Timeout
from pydantic import ValidationError, field_validator

from infoseg.files import DataError, storing, sync_folder, visible
from infoseg.settings import Strict, SuperpixelSettings

if TYPE_CHECKING:
    import pandas as pd

IGNORE = 255
#: Header of ``index.csv``.
COLUMNS = ("id", "split", "offset", "height", "width", "labelled", "group")
#: What a prepared data set may consist of, beside ``meta.json``, in the order stated there.
FILES = ("images.bin", "labels.bin", "index.csv", "regions.bin")
_AGAIN = "Run the preparation of this data set again"


class FileFacts(Strict):
    """Size in bytes and SHA-256 of one file of the prepared data set."""

    bytes: int
    sha256: str


class SplitCount(Strict):
    """How many images a split has, and how many of them carry labels."""

    images: int
    labelled: int


class Skipped(Strict):
    """An input that was left out: its path below the raw folder, and why."""

    file: str
    reason: str


class Meta(Strict):
    """``meta.json``: everything that is known about a prepared data set.

    class_pixels: labelled pixels of each class, in class order.
    ignored_share: share of 255 among the pixels of labelled images; 0 if none is labelled.
    mean, std: per channel over all pixels of all images, in 0..1 (values / 255).
    regions: largest number of superpixels in an image; 0 if none were computed.
    sources: SHA-256 of the raw files that decide what is in the data set, by their raw path.
    """

    format_version: Literal[2]
    name: str
    channels: int
    classes: list[str]
    ignore_index: int
    n_images: int
    n_pixels: int
    splits: dict[str, SplitCount]
    class_pixels: list[int]
    ignored_pixels: int
    ignored_share: float
    mean: list[float]
    std: list[float]
    regions: int
    files: dict[str, FileFacts]
    sources: dict[str, str]
    parameters: dict[str, Any]
    n_skipped: int
    skipped: list[Skipped]
    notes: list[str]

    @field_validator("files")
    @classmethod
    def _files_are_known(cls, files: dict[str, FileFacts]) -> dict[str, FileFacts]:
        # Names become paths, and a prepared data set may come from somebody else.
        if unknown := files.keys() - set(FILES):
            raise ValueError(f"{min(unknown)!r} is no file of a prepared data set")
        return files


def sha256_of(file: Traversable) -> str:
    """Return the SHA-256 of a file, or of an archive's member, as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A prepared data set opened for reading; pixels stay on disk until they are touched.

    images: (n_pixels, C) uint8. labels: (n_pixels,) uint8, 255 = ignore.
    regions: (n_pixels,) uint16, superpixels numbered from 0 in every image; None if there are none.
    index: one row per image with columns id, split, offset, height, width, labelled (bool), group
    ("" for none); image i owns the pixels ``offset`` to ``offset + height * width``.
    """

    path: Path
    meta: Meta
    index: pd.DataFrame
    images: np.memmap
    labels: np.memmap
    regions: np.memmap | None

    def __len__(self) -> int:
        return len(self.index)

    def image(self, i: int) -> np.ndarray:
        """Return image i as (H, W, C) uint8, a read-only view."""
        return self._view(self.images, i)

    def label(self, i: int) -> np.ndarray:
        """Return the labels of image i as (H, W) uint8, a read-only view."""
        return self._view(self.labels, i)

    def region(self, i: int) -> np.ndarray:
        """Return the superpixels of image i as (H, W) uint16, a read-only view.

        Raises DataError when the data set was prepared without any.
        """
        if self.regions is None:
            raise DataError("was prepared without superpixels", file=self.path)
        return self._view(self.regions, i)

    def _view(self, pixels: np.ndarray, i: int) -> np.ndarray:
        offset, height, width = map(int, self.index[["offset", "height", "width"]].iloc[i])
        return pixels[offset : offset + height * width].reshape(height, width, *pixels.shape[1:])


def load_prepared(path: Path | str, verify: bool = False) -> Prepared:
    """Open a prepared data set.

    Format version, file sizes and the index's own consistency are always checked; ``verify``
    also reads every byte to compare the hashes. Raises DataError naming the file at fault.
    """
    import pandas as pd  # deferred: a third of a second that commands without data do not need

    path = Path(path)
    meta = _load_meta(path / "meta.json")
    for name, facts in meta.files.items():
        _check_file(path / name, facts, verify)
    texts = {"id": str, "split": str, "group": str}
    index = pd.read_csv(path / "index.csv", dtype=texts, keep_default_na=False)
    index = index.astype({"labelled": bool})
    sizes = index["height"] * index["width"]
    if (
        tuple(index.columns) != COLUMNS
        or (len(index), int(sizes.sum())) != (meta.n_images, meta.n_pixels)
        or not (index["offset"] == sizes.cumsum() - sizes).all()
    ):
        raise DataError("does not agree with meta.json", file=path / "index.csv", advice=_AGAIN)

    def pixels(file: str, kind: str, *shape: int) -> np.memmap:
        return np.memmap(path / file, kind, mode="r", shape=(meta.n_pixels, *shape))

    images, labels = pixels("images.bin", "u1", meta.channels), pixels("labels.bin", "u1")
    regions = pixels("regions.bin", "<u2") if meta.regions else None
    return Prepared(path, meta, index, images, labels, regions)


def halves(ids: Sequence[str], groups: Sequence[str] | None = None) -> np.ndarray:
    """Split images in two by a hash of their group or, where it is "", of their id.

    Images of one group (frames of a sequence, tiles of a photograph) are alike, so that they stay
    together. Returns (N,) bool, true for the half that settings are chosen on. Fixed for ever: it
    depends on these names alone, not on order, seed or count.
    """
    names = ids if groups is None else [g or i for i, g in zip(ids, groups, strict=True)]
    return np.array([zlib.crc32(str(name).encode()) % 2 == 0 for name in names], dtype=bool)


def _load_meta(file: Path) -> Meta:
    try:
        return Meta.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        problem = "not found"
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        problem = f"is not a data set description ({key}: {first['msg']})"
    raise DataError(problem, file=file, advice=_AGAIN)


def _check_file(file: Path, facts: FileFacts, verify: bool) -> None:
    if not file.is_file():
        problem = "not found"
    elif (size := file.stat().st_size) != facts.bytes:
        problem = f"has {size} bytes instead of {facts.bytes}: truncated or overwritten"
    elif verify and sha256_of(file) != facts.sha256:
        problem = "its contents have changed"
    else:
        return
    raise DataError(problem, file=file, advice=_AGAIN)


# ---- writing -------------------------------------------------------------------------------------


@dataclass
class PreparedWriter:
    """Write a prepared data set image by image; use as a context manager.

    path: directory to create. A prepared data set already there is replaced only when the new one
        is complete; anything else there is refused with :class:`DataError`.
    channels: 3 (RGB) or 4 (RGBIR). classes: names in label order; empty if nothing is labelled.
    parameters: JSON-able settings of the preparation. sources: raw path -> file to hash.
    superpixels: how the regions that :meth:`add` is given were made, recorded among the
        parameters; None stores no regions.

    Memory stays at one image. Files grow in a hidden sibling directory, which is renamed on a clean
    exit and removed on an exception. A killed process leaves it behind (``.<name>.partial-*``), and
    nothing under ``path``; the next writer removes it, because nobody holds its lock.
    """

    path: Path
    _: KW_ONLY
    name: str
    channels: int
    classes: Sequence[str]
    parameters: Mapping[str, Any]
    sources: Mapping[str, Traversable] | None = None
    notes: Sequence[str] = ()
    superpixels: SuperpixelSettings | None = None

    def __post_init__(self) -> None:
        self.path, self.notes = Path(self.path), list(self.notes)
        self.skipped: list[Skipped] = []
        self._index: dict[str, tuple] = {}
        self._n_pixels = self._regions = 0
        self._labels = np.zeros(256, np.int64)
        self._sums = np.zeros((2, self.channels), np.int64)
        # Random, so that two preparations of one data set never write into each other's files.
        self._partial = self.path.with_name(f".{self.path.name}.partial-{uuid.uuid4().hex[:8]}")

    def __enter__(self) -> PreparedWriter:
        ours = not self.path.exists() or (self.path / "meta.json").is_file()
        if not ours and (self.path.is_file() or any(self.path.iterdir())):
            raise DataError(
                "is there already and is not a prepared data set",
                file=self.path,
                advice="Choose another output directory, or remove it yourself",
            )
        lock = Path(f"{self._partial}.lock")
        with storing(self.path), ExitStack() as stack:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self.path)
            stack.callback(lock.unlink, missing_ok=True)
            stack.enter_context(FileLock(lock, blocking=False))
            stack.callback(shutil.rmtree, self._partial, ignore_errors=True)
            self._partial.mkdir()
            names = ["images.bin", "labels.bin"] + ["regions.bin"] * bool(self.superpixels)
            self._files = [(self._partial / name).open("wb") for name in names]
            for file in self._files:
                stack.callback(_give_up, file)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack, storing(self.path):
            if kind is None:
                self._finish()

    def add(
        self,
        image_id: str,
        image: np.ndarray,
        labels: np.ndarray | None,
        split: str,
        regions: np.ndarray | None = None,
        group: str = "",
    ) -> None:
        """Append one image.

        image: (H, W, C) uint8. labels: (H, W) uint8 of class indices and 255, or None for an
        unlabelled image, which stores 255 everywhere. regions: (H, W) uint16, every number from 0
        to the largest; exactly where the data set has superpixels. group: of images that are alike
        and belong in one half, "" for none. Raises DataError for a repeated id, ValueError for a
        wrong shape or type or a label that is no class, StorageError for a disk that is full.
        """
        import cv2  # deferred: reading does not need it

        size, labelled = image.shape[:2], labels is not None
        if image_id in self._index:
            raise DataError(
                f"the image id {image_id!r} occurs twice", advice="Rename or remove one of the two"
            )
        stored = labels if labelled else np.full(size, IGNORE, np.uint8)
        arrays = [image, stored] + ([] if regions is None else [regions])
        expected = [((*size, self.channels), "u1"), (size, "u1"), (size, "<u2")][: len(self._files)]
        if [(pixels.shape, pixels.dtype) for pixels in arrays] != expected or not image.size:
            raise ValueError(f"{image_id}: expected arrays of {expected}, and not empty")
        if regions is not None:
            self._regions = max(self._regions, int(regions.max()) + 1)
        if labelled:
            counts = np.bincount(labels.ravel(), minlength=256)
            if counts[len(self.classes) : IGNORE].any():
                raise ValueError(f"{image_id}: a label is none of {len(self.classes)} classes")
            self._labels += counts
        # Integers in float64, so that mean and std are exact and independent of the order.
        sums = cv2.sumElems(image), cv2.sumElems(np.square(image, dtype=np.uint16))
        self._sums += np.array(sums, np.int64)[:, : self.channels]
        with storing(self.path):
            for file, pixels in zip(self._files, arrays, strict=True):
                file.write(np.ascontiguousarray(pixels).data.cast("B"))
        row = (image_id, split, self._n_pixels, *size, int(labelled), group)
        self._index[image_id] = row
        self._n_pixels += size[0] * size[1]

    def skip(self, file: Path | str, reason: str) -> None:
        """Record an input that is left out; ``file`` is its path below the raw folder."""
        self.skipped.append(Skipped(file=visible(Path(file).as_posix()), reason=visible(reason)))

    def _finish(self) -> None:
        if not self._index:
            raise DataError(
                f"no image for the data set {self.name!r} ({len(self.skipped)} inputs skipped)",
                advice="Check the raw folder and the selection parameters",
            )
        for file in self._files:
            file.close()
        with (self._partial / "index.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *self._index.values()])
        meta = json.dumps(self._meta().model_dump(mode="json"), indent=1, ensure_ascii=False)
        (self._partial / "meta.json").write_text(f"{meta}\n", encoding="utf-8")
        for path in self._partial.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder(self._partial)
        aside = Path(f"{self._partial}.old")
        with suppress(FileNotFoundError):
            self.path.rename(aside)
        self._partial.rename(self.path)
        sync_folder(self.path.parent)
        shutil.rmtree(aside, ignore_errors=True)

    def _meta(self) -> Meta:
        paths = [self._partial / name for name in FILES if (self._partial / name).exists()]
        splits: dict[str, list[int]] = {}
        for _, split, *_, labelled, _ in self._index.values():
            splits.setdefault(split, []).append(labelled)
        superpixels = self.superpixels and self.superpixels.model_dump()
        n, labels, (sums, squares) = self._n_pixels, self._labels.tolist(), self._sums.tolist()
        return Meta(
            format_version=2,
            name=self.name,
            channels=self.channels,
            classes=list(self.classes),
            ignore_index=IGNORE,
            n_images=len(self._index),
            n_pixels=n,
            splits={s: SplitCount(images=len(x), labelled=sum(x)) for s, x in splits.items()},
            class_pixels=labels[: len(self.classes)],
            ignored_pixels=labels[IGNORE],
            ignored_share=labels[IGNORE] / max(1, sum(labels)),
            mean=[total / n / 255 for total in sums],
            std=[math.sqrt(n * q - s**2) / n / 255 for s, q in zip(sums, squares, strict=True)],
            regions=self._regions,
            files={p.name: FileFacts(bytes=p.stat().st_size, sha256=sha256_of(p)) for p in paths},
            sources={key: sha256_of(file) for key, file in sorted((self.sources or {}).items())},
            parameters={**self.parameters, "superpixels": superpixels},
            n_skipped=len(self.skipped),
            skipped=self.skipped,
            notes=self.notes,
        )


def _remove_abandoned(path: Path) -> None:
    """Remove what killed writers of ``path`` left: what lies beside a lock that nobody holds."""
    for file in path.parent.glob(f".{glob.escape(path.name)}.partial-*.lock"):
        with suppress(Timeout, OSError), FileLock(file, blocking=False):
            shutil.rmtree(file.with_suffix(""), ignore_errors=True)
            shutil.rmtree(file.with_suffix(".old"), ignore_errors=True)
            file.unlink(missing_ok=True)


def _give_up(file: BinaryIO) -> None:
    with suppress(OSError):  # what is buffered has no room on a full disk, and is not wanted
        file.close()
