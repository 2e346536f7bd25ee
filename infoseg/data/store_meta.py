"""What a prepared data set says about itself: the contents of ``meta.json``."""

from __future__ import annotations

import hashlib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

FORMAT_VERSION = 2
IGNORE = 255
COLUMNS = ("id", "split", "offset", "height", "width", "labelled", "group")
"""Header of ``index.csv``."""
FILES = {"images.bin", "labels.bin", "regions.bin", "index.csv"}
"""What a prepared data set may consist of, beside ``meta.json``."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileFacts(_Strict):
    """Size in bytes and SHA-256 of one file of the prepared data set."""

    bytes: int
    sha256: str


class SplitCount(_Strict):
    """How many images a split has, and how many of them carry labels."""

    images: int
    labelled: int


class Skipped(_Strict):
    """An input that was left out: its path below the raw folder, and why."""

    file: str
    reason: str


class Meta(_Strict):
    """``meta.json``: everything that is known about a prepared data set.

    class_pixels: labelled pixels of each class, in class order.
    ignored_share: share of 255 among the pixels of labelled images; 0 if none is labelled.
    mean, std: per channel over all pixels of all images, in 0..1 (values / 255).
    regions: largest number of superpixels in an image; 0 if none were computed.
    sources: SHA-256 of the raw files that decide what is in the data set, by their raw path.
    """

    format_version: int
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
        if unknown := files.keys() - FILES:
            raise ValueError(f"{min(unknown)!r} is no file of a prepared data set")
        return files


def sha256_of(file: Traversable | str) -> str:
    """Return the SHA-256 of a file, or of an archive's member, as 64 hexadecimal digits."""
    with (Path(file) if isinstance(file, str) else file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
