"""The prepared data set: flat memory maps of pixels, an index and a description.

A directory holds ``images.bin`` (uint8, images of any size one after the other, each row by row
with its C channels interleaved), ``labels.bin`` (one uint8 per pixel in the same order),
``regions.bin`` (superpixels, one little-endian uint16 per pixel in the same order; only if there
are any), ``index.csv`` (which pixels belong to which image) and ``meta.json`` (:class:`Meta`).
Offsets count pixels, so one number addresses all three. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock
from pydantic import ValidationError

from infoseg.files import DataError, storing, sync_folder, visible, write_csv, write_whole
from infoseg.settings import Strict, SuperpixelSettings

if TYPE_CHECKING:
    import pandas as pd

IGNORE = 255
#: Header of ``index.csv``.
COLUMNS = ("id", "split", "offset", "height", "width", "labelled", "group")
#: What a prepared data set may consist of, beside ``meta.json``, in the order stated there.
FILES = ("images.bin", "labels.bin", "index.csv", "regions.bin")


class FileFacts(Strict):
    """Of one file of the prepared data set."""

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
    files: dict[Literal[FILES], FileFacts]
    sources: dict[str, str]
    parameters: dict[str, Any]
    n_skipped: int
    skipped: list[Skipped]
    notes: list[str]


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

    def damaged(name: str, problem: str) -> DataError:
        advice = "Run the preparation of this data set again"
        return DataError(problem, file=path / name, advice=advice)

    try:
        meta = Meta.model_validate_json((path / "meta.json").read_bytes())
    except FileNotFoundError:
        raise damaged("meta.json", "not found") from None
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise damaged("meta.json", f"is not a data set description ({reason})") from None
    for name, facts in meta.files.items():
        if not (file := path / name).is_file():
            raise damaged(name, "not found")
        if (size := file.stat().st_size) != facts.bytes:
            raise damaged(name, f"has {size} bytes instead of {facts.bytes}")
        if verify and sha256_of(file) != facts.sha256:
            raise damaged(name, "its contents have changed")
    texts = {"id": str, "split": str, "group": str}
    index = pd.read_csv(path / "index.csv", dtype=texts, keep_default_na=False)
    index = index.astype({"labelled": bool})
    sizes = index["height"] * index["width"]
    if (
        tuple(index.columns) != COLUMNS
        or (len(index), int(sizes.sum())) != (meta.n_images, meta.n_pixels)
        or not (index["offset"] == sizes.cumsum() - sizes).all()
    ):
        raise damaged("index.csv", "does not agree with meta.json")

    def pixels(file: str, kind: str, *shape: int) -> np.memmap:
        return np.memmap(path / file, kind, mode="r", shape=(meta.n_pixels, *shape))

    images, labels = pixels("images.bin", "u1", meta.channels), pixels("labels.bin", "u1")
    regions = pixels("regions.bin", "<u2") if meta.regions else None
    return Prepared(path, meta, index, images, labels, regions)


def halves(ids: Sequence[str], groups: Sequence[str] | None = None) -> np.ndarray:
    """Split images in two by a hash of their group or, where it is "", of their id.

    Images of one group (frames of a sequence) are alike and stay together. Returns (N,) bool, true
    for the half that settings are chosen on; it depends on these names alone.
    """
    names = ids if groups is None else [g or i for i, g in zip(ids, groups, strict=True)]
    return np.array([zlib.crc32(str(name).encode()) % 2 == 0 for name in names], dtype=bool)


# ---- writing -------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path, mark: str) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``path`` when everything is written.

    mark: a file by which a folder counts as ours and may be replaced. It grows as
    ``.<name>.partial``; a second writer waits for the first, and removes what a killed one left.
    Raises DataError for anybody else's folder or file, StorageError for a disk that is full.
    """
    ours = not path.exists() or (path.is_dir() and not path.is_symlink())
    if not ours or (path.exists() and any(path.iterdir()) and not (path / mark).is_file()):
        problem = f"is there already, was not written by infoseg (no {mark}) and is left alone"
        advice = "Choose another output directory, or move it elsewhere"
        raise DataError(problem, file=path, advice=advice)
    partial = path.with_name(f".{path.name}.partial")
    with storing(path), ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(FileLock(path.with_name(f".{path.name}.lock")))
        shutil.rmtree(partial, ignore_errors=True)
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        (partial / "new").mkdir(parents=True)
        yield partial / "new"
        if path.exists():
            path.rename(partial / "old")
        (partial / "new").rename(path)
        sync_folder(path.parent)


@dataclass
class PreparedWriter:
    """Write a prepared data set image by image; use as a context manager.

    path: directory to create or, if it is a prepared data set, to replace when the new one is
    complete. channels: 3 (RGB) or 4 (RGBIR). classes: names in label order; empty if nothing is
    labelled. parameters: JSON-able settings of the preparation. sources: raw path -> file to hash.
    superpixels: how the regions that :meth:`add` is given were made; None stores no regions.

    Memory stays at one image. Raises as ``replacing`` does.
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

    def __enter__(self) -> PreparedWriter:
        self.path, self.notes = Path(self.path), list(self.notes)
        self.skipped: list[Skipped] = []
        self._index: dict[str, dict[str, Any]] = {}
        self._n_pixels = self._regions = 0
        #: How often each value occurs in every channel, and among the labels.
        self._values = np.zeros((self.channels, 256), np.int64)
        self._labels = np.zeros(256, np.int64)
        names = ["images.bin", "labels.bin"] + ["regions.bin"] * bool(self.superpixels)
        with ExitStack() as stack:
            self._folder = stack.enter_context(replacing(self.path, "meta.json"))
            self._files = [stack.enter_context((self._folder / n).open("wb")) for n in names]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._stack:
            if error is not None:
                raise error  # where `replacing` sees it
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

        image: (H, W, C) uint8. labels: (H, W) uint8 of class indices and 255; None stores 255.
        regions: (H, W) uint16, ids from 0 without gaps; exactly where the data set has superpixels.
        group: of images that are alike and belong in one half, "" for none. Raises DataError for a
        repeated id, ValueError for a wrong shape or type or a label that is no class.
        """
        size, labelled = image.shape[:2], labels is not None
        if image_id in self._index:
            problem = f"the image id {image_id!r} occurs twice"
            raise DataError(problem, advice="Rename or remove one of the two")
        labels = labels if labelled else np.full(size, IGNORE, np.uint8)
        arrays = [image, labels] + ([] if regions is None else [regions])
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
        for counts, channel in zip(self._values, np.moveaxis(image, 2, 0), strict=True):
            counts += np.bincount(channel.ravel(), minlength=256)
        for file, pixels in zip(self._files, arrays, strict=True):
            file.write(np.ascontiguousarray(pixels).data.cast("B"))
        row = (image_id, split, self._n_pixels, *size, int(labelled), group)
        self._index[image_id] = dict(zip(COLUMNS, row, strict=True))
        self._n_pixels += size[0] * size[1]

    def skip(self, file: Path | str, reason: str) -> None:
        """Record an input that is left out; ``file`` is its path below the raw folder."""
        self.skipped.append(Skipped(file=visible(Path(file).as_posix()), reason=visible(reason)))

    def _finish(self) -> None:
        if not self._index:
            problem = (
                f"no image for the data set {self.name!r} ({len(self.skipped)} inputs skipped)"
            )
            raise DataError(problem, advice="Check the raw folder and the selection parameters")
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        rows, n, labels = list(self._index.values()), self._n_pixels, self._labels.tolist()
        write_csv(self._folder / "index.csv", rows)
        paths = [self._folder / name for name in FILES if (self._folder / name).exists()]
        splits: dict[str, list[int]] = {}
        for row in rows:
            splits.setdefault(row["split"], []).append(row["labelled"])
        # In whole numbers, so that mean and std do not depend on the order.
        sums, squares = ((self._values @ np.arange(256) ** k).tolist() for k in (1, 2))
        superpixels = self.superpixels and self.superpixels.model_dump()
        meta = Meta(
            format_version=2,
            name=self.name,
            channels=self.channels,
            classes=list(self.classes),
            ignore_index=IGNORE,
            n_images=len(rows),
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
        text = json.dumps(meta.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
        write_whole(self._folder / "meta.json", lambda file: file.write_text(text, "utf-8"))
