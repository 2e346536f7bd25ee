"""Writing a prepared data set: streamed, hashed on the way, published by one rename."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import cv2
import numpy as np

from infoseg.data.abandoned import hold, remove_abandoned
from infoseg.data.store_meta import (
    COLUMNS,
    FORMAT_VERSION,
    IGNORE,
    FileFacts,
    Meta,
    Skipped,
    SplitCount,
    sha256_of,
)
from infoseg.errors import DataError
from infoseg.files import storing, sync_folder
from infoseg.settings import SuperpixelSettings


class _HashedFile:
    """A file being written whose size and SHA-256 are known without reading it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = open(path, "wb")
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    def finish(self) -> FileFacts:
        _sync(self._file)
        self._file.close()
        return FileFacts(bytes=self._bytes, sha256=self._hash.hexdigest())

    def close(self) -> None:
        """Give up what is not finished."""
        with suppress(OSError):  # what is buffered has no room on a full disk, and is not wanted
            self._file.close()


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


class PreparedWriter:
    """Write a prepared data set image by image; use as a context manager.

    path: directory to create. A prepared data set already there is replaced only when the new one
        is complete; anything else there is refused with :class:`DataError`.
    channels: 3 (RGB) or 4 (RGBIR). classes: names in label order; empty if nothing is labelled.
    parameters: JSON-able settings of the preparation. sources: raw path -> file to hash.
    superpixels: how the regions that :meth:`add` is given were made, recorded among the
        parameters; None stores no regions.

    Memory stays at one image, however large the data set. Files grow in a hidden sibling
    directory, which is renamed on a clean exit and removed on an exception. A killed process leaves
    it behind (``.<name>.partial-*``), and nothing under ``path``; the next writer removes it.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        name: str,
        channels: int,
        classes: Sequence[str],
        parameters: Mapping[str, Any],
        sources: Mapping[str, Traversable | str] | None = None,
        notes: Sequence[str] = (),
        superpixels: SuperpixelSettings | None = None,
    ) -> None:
        if channels not in (3, 4):
            raise ValueError(f"channels must be 3 or 4, not {channels}")
        if len(classes) > IGNORE:
            raise ValueError(f"at most {IGNORE} classes fit beside the ignore value {IGNORE}")
        self.path = Path(path)
        self.name, self.channels, self.classes = name, channels, list(classes)
        self.superpixels, self.notes = superpixels, list(notes)
        recorded = None if superpixels is None else superpixels.model_dump()
        self.parameters = dict(parameters) | {"superpixels": recorded}
        self.sources = dict(sources or {})
        self.skipped: list[Skipped] = []
        self._ids: set[str] = set()
        self._splits: dict[str, list[int]] = {}
        self._n_pixels = self._labelled_pixels = self._most_regions = 0
        self._label_counts = [0] * 256
        self._files: dict[str, _HashedFile] = {}
        self._sums, self._squares = [0] * channels, [0] * channels

    def __enter__(self) -> PreparedWriter:
        if self.path.exists() and not _is_replaceable(self.path):
            raise DataError(
                "is there already and is not a prepared data set",
                file=self.path,
                advice="Choose another output directory, or remove it yourself",
            )
        self._partial = self._sibling("partial")
        with storing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.path, "partial")
            self._partial.mkdir()
            self._lock = hold(self._partial)
        try:
            self._begin()
        except BaseException:
            self._clear_up()
            raise
        return self

    def _begin(self) -> None:
        names = ["images.bin", "labels.bin", "index.csv"]
        names += [] if self.superpixels is None else ["regions.bin"]
        with storing(self.path):
            for name in names:
                self._files[name] = _HashedFile(self._partial / name)
        self._append("index.csv", _csv_line(COLUMNS))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with storing(self.path):
                    self._finish()
        finally:
            self._clear_up()

    def _clear_up(self) -> None:
        for file in self._files.values():
            file.close()
        # After a successful rename there is nothing left under this name.
        shutil.rmtree(self._partial, ignore_errors=True)
        os.close(self._lock)

    def _append(self, name: str, data: bytes | memoryview) -> None:
        with storing(self.path):
            self._files[name].write(data)

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
        and must not be split, "" for none. Raises DataError for a repeated
        id or a label that is no class, ValueError for a wrong shape or type or for such regions,
        StorageError for a disk that is full.
        """
        if image.ndim != 3 or image.shape[2] != self.channels or image.dtype != np.uint8:
            raise ValueError(
                f"{image_id}: expected (H, W, {self.channels}) uint8, "
                f"got {image.shape} {image.dtype}"
            )
        height, width = image.shape[:2]
        if not height * width:
            raise ValueError(f"{image_id}: the image has no pixels")
        if image_id in self._ids:
            raise DataError(
                f"the image id {image_id!r} occurs twice", advice="Rename or remove one of the two"
            )
        if (regions is None) != (self.superpixels is None):
            raise ValueError(f"{image_id}: regions go with a data set's superpixels, and only then")
        if labels is not None:
            _check_map(labels, "labels", np.uint8, image_id, (height, width))
            counts = np.bincount(labels.ravel(), minlength=256)
            wrong = np.flatnonzero(counts[len(self.classes) : IGNORE])
            if wrong.size:
                raise DataError(
                    f"{image_id}: label {len(self.classes) + int(wrong[0])} is not one of the "
                    f"{len(self.classes)} classes"
                )
            self._label_counts = [a + int(b) for a, b in zip(self._label_counts, counts)]  # noqa: B905
            self._labelled_pixels += height * width
        # Sums of integers in float64, so that mean and std are exact and independent of the order.
        sums = cv2.sumElems(image)
        squares = cv2.sumElems(np.square(image, dtype=np.uint16))
        for channel in range(self.channels):
            self._sums[channel] += int(sums[channel])
            self._squares[channel] += int(squares[channel])
        if regions is not None:
            _check_map(regions, "regions", np.uint16, image_id, (height, width))
            if not np.bincount(regions.ravel()).all():
                raise ValueError(f"{image_id}: the numbers of the regions have gaps")
            self._most_regions = max(self._most_regions, int(regions.max()) + 1)
            self._append("regions.bin", np.ascontiguousarray(regions, "<u2").data.cast("B"))
        stored = np.full((height, width), IGNORE, np.uint8) if labels is None else labels
        self._append("images.bin", np.ascontiguousarray(image).data.cast("B"))
        self._append("labels.bin", np.ascontiguousarray(stored).data.cast("B"))
        row = (image_id, split, self._n_pixels, height, width, int(labels is not None), group)
        self._append("index.csv", _csv_line(row))
        self._ids.add(image_id)
        count = self._splits.setdefault(split, [0, 0])
        count[0] += 1
        count[1] += labels is not None
        self._n_pixels += height * width

    def skip(self, file: Path | str, reason: str) -> None:
        """Record an input that is left out; ``file`` is its path below the raw folder."""
        self.skipped.append(Skipped(file=Path(file).as_posix(), reason=reason))

    def _sibling(self, role: str) -> Path:
        # Random, so that two preparations of one data set never write into each other's files.
        return self.path.parent / f".{self.path.name}.{role}-{uuid.uuid4().hex[:8]}"

    def _finish(self) -> None:
        if not self._ids:
            raise DataError(
                f"no image for the data set {self.name!r} ({len(self.skipped)} inputs skipped)",
                advice="Check the raw folder and the selection parameters",
            )
        n, ignored = self._n_pixels, self._label_counts[IGNORE]
        meta = Meta(
            format_version=FORMAT_VERSION,
            name=self.name,
            channels=self.channels,
            classes=self.classes,
            ignore_index=IGNORE,
            n_images=len(self._ids),
            n_pixels=n,
            splits={
                split: SplitCount(images=images, labelled=labelled)
                for split, (images, labelled) in self._splits.items()
            },
            class_pixels=self._label_counts[: len(self.classes)],
            ignored_pixels=ignored,
            ignored_share=ignored / self._labelled_pixels if self._labelled_pixels else 0.0,
            mean=[total / n / 255 for total in self._sums],
            std=[
                math.sqrt(n * squares - total**2) / n / 255
                for total, squares in zip(self._sums, self._squares, strict=True)
            ],
            regions=self._most_regions,
            files={name: file.finish() for name, file in self._files.items()},
            sources={key: sha256_of(file) for key, file in sorted(self.sources.items())},
            parameters=self.parameters,
            n_skipped=len(self.skipped),
            skipped=self.skipped,
            notes=self.notes,
        )
        with open(self._partial / "meta.json", "w", encoding="utf-8") as file:
            json.dump(meta.model_dump(mode="json"), file, indent=1, ensure_ascii=False)
            file.write("\n")
            _sync(file)
        sync_folder(self._partial)
        self._publish()

    def _publish(self) -> None:
        old = self._sibling("old") if self.path.exists() else None
        if old:
            self.path.rename(old)
        try:
            self._partial.rename(self.path)
        except OSError:
            if old:
                old.rename(self.path)
            raise
        sync_folder(self.path.parent)
        if old:
            shutil.rmtree(old, ignore_errors=True)


def _check_map(
    pixels: np.ndarray, what: str, kind: type, image_id: str, size: tuple[int, int]
) -> None:
    if pixels.shape != size or pixels.dtype != kind:
        raise ValueError(
            f"{image_id}: expected {what} {size} {np.dtype(kind)}, "
            f"got {pixels.shape} {pixels.dtype}"
        )


def _csv_line(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()


def _is_replaceable(path: Path) -> bool:
    return path.is_dir() and ((path / "meta.json").is_file() or not any(path.iterdir()))
