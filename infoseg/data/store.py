"""The prepared data set: flat memory maps of pixels, an index and a description.

A directory holds ``images.bin`` (uint8, images of any size one after the other, each row by row
with its C channels interleaved), ``labels.bin`` (one uint8 per pixel in the same order),
``regions.bin`` (superpixels, one little-endian uint16 per pixel in the same order; only if they
were asked for), ``index.csv`` (which pixels belong to which image) and ``meta.json``
(:class:`Meta`). Offsets count pixels, so one number addresses all three. The same input gives the
same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from infoseg.data.store_meta import COLUMNS, FORMAT_VERSION, IGNORE, FileFacts, Meta, sha256_of
from infoseg.data.store_writer import PreparedWriter
from infoseg.errors import DataError

__all__ = ["FORMAT_VERSION", "IGNORE", "Meta", "Prepared", "PreparedWriter", "load_prepared"]

_AGAIN = "Run the preparation of this data set again"


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
        pixels, height, width = self._where(i)
        return self.images[pixels].reshape(height, width, self.meta.channels)

    def label(self, i: int) -> np.ndarray:
        """Return the labels of image i as (H, W) uint8, a read-only view."""
        pixels, height, width = self._where(i)
        return self.labels[pixels].reshape(height, width)

    def region(self, i: int) -> np.ndarray:
        """Return the superpixels of image i as (H, W) uint16, a read-only view.

        Raises DataError when the data set was prepared without any.
        """
        if self.regions is None:
            raise DataError("was prepared without superpixels", file=self.path)
        pixels, height, width = self._where(i)
        return self.regions[pixels].reshape(height, width)

    def _where(self, i: int) -> tuple[slice, int, int]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"image {i} of a data set of {len(self)}")
        offset, height, width = (int(self.index[c].iat[i]) for c in ("offset", "height", "width"))
        return slice(offset, offset + height * width), height, width


def load_prepared(path: Path | str, verify: bool = False) -> Prepared:
    """Open a prepared data set.

    Format version, file sizes and the index's own consistency are always checked; ``verify``
    also reads every byte to compare the hashes. Raises DataError naming the file at fault.
    """
    path = Path(path)
    meta = _load_meta(path / "meta.json")
    for file, facts in meta.files.items():
        _check_file(path / file, facts, verify)
    texts = {"id": str, "split": str, "group": str}
    index = pd.read_csv(path / "index.csv", dtype=texts, keep_default_na=False)
    index = index.astype({"labelled": bool})
    index["group"] = index.get("group", "")  # none in data prepared before there were groups
    sizes = index["height"] * index["width"]
    if (
        tuple(index.columns) != COLUMNS
        or len(index) != meta.n_images
        or int(sizes.sum()) != meta.n_pixels
        or not (index["offset"] == sizes.cumsum() - sizes).all()
    ):
        raise DataError("does not agree with meta.json", file=path / "index.csv", advice=_AGAIN)

    def pixels(file: str, kind: str, *shape: int) -> np.memmap:
        return np.memmap(path / file, kind, mode="r", shape=(meta.n_pixels, *shape))

    return Prepared(
        path=path,
        meta=meta,
        index=index,
        images=pixels("images.bin", "u1", meta.channels),
        labels=pixels("labels.bin", "u1"),
        regions=pixels("regions.bin", "<u2") if meta.regions else None,
    )


def _load_meta(file: Path) -> Meta:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        version = raw["format_version"]
    except FileNotFoundError:
        raise DataError("not found", file=file, advice=_AGAIN) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"is not a data set description ({error})", file=file, advice=_AGAIN
        ) from None
    if version != FORMAT_VERSION:
        raise DataError(
            f"format version {version}, this program reads {FORMAT_VERSION}",
            file=file,
            advice=_AGAIN,
        )
    try:
        return Meta.model_validate(raw)
    except ValidationError as error:
        raise DataError(
            f"is not a data set description ({error.errors()[0]['msg']})",
            file=file,
            advice=_AGAIN,
        ) from None


def _check_file(file: Path, facts: FileFacts, verify: bool) -> None:
    if not file.is_file():
        raise DataError("not found", file=file, advice=_AGAIN)
    size = file.stat().st_size
    if size != facts.bytes:
        raise DataError(
            f"has {size} bytes instead of {facts.bytes}: truncated or overwritten",
            file=file,
            advice=_AGAIN,
        )
    if verify and sha256_of(file) != facts.sha256:
        raise DataError("its contents have changed", file=file, advice=_AGAIN)
