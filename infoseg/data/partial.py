"""A download while it grows: ``NAME.part``, and ``NAME.part.json`` with what the server said."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from infoseg.data.verify import (
    Digests,
    Hashes,
    byte_bar,
    hash_stream,
    is_at,
    not_written,
    open_alone,
)
from infoseg.files import sync_folder, write_json
from infoseg.settings import Strict


class Origin(Strict):
    """Where a part comes from and what the server said of the whole file."""

    url: str
    etag: str | None
    modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """What If-Range may name: a weak tag promises nothing about bytes."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified

    def contradicts(self, other: Origin) -> bool:
        pairs = ((self.etag, other.etag), (self.total, other.total))
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)


class Part:
    """``NAME.part``, for one process at a time, hashed as it grows. Use as a context manager.

    joined: whether it is made of more than one answer.
    """

    def __init__(self, target: Path, *, md5: bool, progress: bool) -> None:
        self.target, self._md5, self._progress = target, md5, progress
        self.path = target.with_name(f"{target.name}.part")
        self._origin_file = target.with_name(f"{target.name}.part.json")

    def __enter__(self) -> Part:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._file = open_alone(self.path)
        try:
            self._file.seek(0)
            name = self.target.name
            self._hashes = hash_stream(self._file, name, self._md5, self._progress)
        except BaseException:
            self._file.close()
            raise
        self.bar = byte_bar(self.target.name, None, self._progress, self.size)
        self.origin = self._read_origin()
        self.joined = self.size > 0
        return self

    def __exit__(self, *error: object) -> None:
        if not self._filled() and is_at(self._file, self.path):
            self.path.unlink()
            self._origin_file.unlink(missing_ok=True)
        self._file.close()
        self.bar.close()

    def _filled(self) -> bool:
        return os.fstat(self._file.fileno()).st_size > 0

    def _read_origin(self) -> Origin | None:
        with suppress(FileNotFoundError, ValidationError):
            return Origin.model_validate_json(self._origin_file.read_bytes())
        return None

    @property
    def size(self) -> int:
        return self._hashes.bytes

    def digests(self) -> Digests:
        return self._hashes.digests()

    def come_from(self, origin: Origin) -> None:
        if origin != self.origin:
            write_json(self._origin_file, origin.model_dump())
            self.origin = origin

    def append(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise not_written(error, self.path) from None
        self._hashes.update(data)
        self.bar.update(len(data))

    def rewind(self) -> None:
        self.joined = False
        self._file.truncate(0)
        self._hashes = Hashes(self._md5)
        self.bar.reset()

    def set_aside(self) -> Path:
        self._file.flush()
        self._origin_file.unlink(missing_ok=True)
        return set_aside(self.path, self.target, self.digests())

    def publish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self.path, self.target)
        self._origin_file.unlink(missing_ok=True)
        sync_folder(self.target.parent)

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise not_written(error, self.path) from None


def set_aside(file: Path, target: Path, digests: Digests) -> Path:
    """Keep what is not the wanted file beside ``target``, under a name that says so; return it."""
    aside = target.with_name(f"{target.name}.bad-{digests.sha256[:8]}")
    os.replace(file, aside)  # an earlier one of this name has the same content
    return aside
