"""A zip archive being written, or the tree it would unpack to: one interface for both."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO

_DATE = (2017, 9, 1, 0, 0, 0)


class Archive:
    """Write members into ``path``, a zip archive if its name ends so, otherwise a folder.

    Use as a context manager. Members are dated 2017 and stored in the order of writing, so the
    same content gives the same bytes. An archive is on the disk when the block ends; of a folder's
    thousands of files that is not made sure, which stand-ins do not need.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None

    def __enter__(self) -> Archive:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.suffix == ".zip":
            self._zip = zipfile.ZipFile(self.path, "x")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._zip is None:
            return
        self._zip.close()
        if kind is None:
            with open(self.path, "rb+") as file:
                os.fsync(file.fileno())

    def folder(self, name: str) -> None:
        """Write a folder; it goes before its files, as archivers do."""
        if self._zip is None:
            (self.path / name).mkdir(parents=True)
        else:
            self._zip.writestr(_header(f"{name}/"), b"")

    def file(
        self, member: str, pieces: Iterable[bytes | memoryview], *, deflate: bool = False
    ) -> None:
        """Write a file piece by piece, in an archive stored or deflated."""
        with self._open(member, deflate) as stream:
            for piece in pieces:
                stream.write(piece)

    def _open(self, member: str, deflate: bool) -> IO[bytes]:
        if self._zip is None:
            return open(self.path / member, "xb")
        header = _header(member)
        if deflate:
            header.compress_type = zipfile.ZIP_DEFLATED
        return self._zip.open(header, "w")


def _header(member: str) -> zipfile.ZipInfo:
    header = zipfile.ZipInfo(member, _DATE)
    header.create_system = 3  # Unix, whatever system this is
    header.external_attr = (0o40755 << 16 | 0x10) if member.endswith("/") else 0o100644 << 16
    return header
