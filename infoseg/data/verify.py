"""Whether a file is the published one: sizes, hashes, checksums inside, and the lock file."""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import hashlib
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

from pydantic import RootModel, ValidationError
from tqdm import tqdm

from infoseg.data.archives import ARCHIVE_DAMAGE
from infoseg.data.source_table import SourceFile
from infoseg.errors import DataError
from infoseg.files import write_json
from infoseg.settings import Strict

log = logging.getLogger(__name__)

_WORTH_A_BAR = 2**26
"""Bytes whose hashing is noticed."""

AGAIN = "It is damaged, not whole, or another release: replace it or move it elsewhere"


class WrongFile(DataError):
    """A file is there, but is not the one that was published or recorded."""


@dataclass(frozen=True)
class Digests:
    """Size in bytes and hashes of a file; md5 is "" where nobody asked for it."""

    bytes: int
    sha256: str
    md5: str = ""


class Pinned(Strict):
    """What the lock file says of a file whose publisher gives no hash; url is "" where it was not
    downloaded but found on the disk, date the day of the record."""

    bytes: int
    sha256: str
    url: str
    date: str


class _Lock(RootModel[dict[str, Pinned]]):
    pass


class Hashes:
    """Digests of what comes bit by bit."""

    def __init__(self, md5: bool) -> None:
        self.bytes = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def update(self, data: bytes) -> None:
        self.bytes += len(data)
        self._sha256.update(data)
        if self._md5:
            self._md5.update(data)

    def digests(self) -> Digests:
        md5 = self._md5.hexdigest() if self._md5 else ""
        return Digests(self.bytes, self._sha256.hexdigest(), md5)


def needs_md5(spec: SourceFile) -> bool:
    """Whether MD5 is all that is known of a file."""
    return spec.md5 is not None and spec.sha256 is None


def hash_file(file: Path, *, md5: bool, progress: bool) -> Digests:
    """Return size and hashes of a file on the disk."""
    with file.open("rb") as stream:
        return hash_stream(stream, file.name, md5, progress).digests()


def hash_stream(stream: IO[bytes], name: str, md5: bool, progress: bool) -> Hashes:
    hashes = Hashes(md5)
    size = os.fstat(stream.fileno()).st_size
    with byte_bar(f"checking {name}", size, progress and size > _WORTH_A_BAR) as bar:
        while chunk := stream.read(2**20):
            hashes.update(chunk)
            bar.update(len(chunk))
    return hashes


def check_size(spec: SourceFile, file: Path, size: int) -> None:
    """Raise WrongFile for a file that has another number of bytes than the table says."""
    if spec.bytes is not None and size != spec.bytes:
        raise wrong_file(f"has {size} bytes instead of {spec.bytes}", file)


def check_file(
    spec: SourceFile,
    file: Path,
    digests: Digests,
    *,
    lock: Path,
    url: str = "",
    progress: bool = False,
) -> None:
    """Raise WrongFile unless a file is the one that the table describes.

    Where the table has no hash, the lock file's must match; where that has none either, the zip is
    read to its end against its checksums, must have the members that the table expects, and is
    then recorded in the lock file as coming from ``url``. Raises DataError for a damaged lock file.
    """
    check_size(spec, file, digests.bytes)
    for kind, known, found in (
        ("SHA-256", spec.sha256, digests.sha256),
        ("MD5", spec.md5, digests.md5),
    ):
        if known and found and known != found:
            raise wrong_file(f"its {kind} is {found[:12]}… instead of {known[:12]}…", file)
    if spec.sha256 or spec.md5:
        return
    pinned = read_lock(lock).get(spec.name)
    if pinned is None:
        check_zip(file, spec.contains, progress)
        pinned = _pin(spec.name, digests, url, lock)
    if (digests.bytes, digests.sha256) != (pinned.bytes, pinned.sha256):
        raise WrongFile(
            f"its SHA-256 is {digests.sha256[:12]}… instead of {pinned.sha256[:12]}… as recorded "
            f"on {pinned.date} in {lock} (to accept another release, remove its entry there)",
            file=file,
            advice=AGAIN,
        )


def wrong_file(problem: str, file: Path) -> WrongFile:
    return WrongFile(problem, file=file, advice=AGAIN)


def check_zip(file: Path, contains: Sequence[str], progress: bool = False) -> None:
    """Raise WrongFile for a zip with a damaged member, or with none for one of the patterns."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            with byte_bar(f"testing {file.name}", size, progress) as bar:
                for member in members:
                    with archive.open(member) as stream:  # never gives more than its index says
                        while chunk := stream.read(2**20):
                            bar.update(len(chunk))
    except ARCHIVE_DAMAGE as error:
        raise wrong_file(f"is not a whole zip archive ({error})", file) from None
    names = [member.filename.lower() for member in members]
    for pattern in contains:
        if not fnmatch.filter(names, pattern.lower()):
            raise wrong_file(f"has no member like {pattern}", file)


def read_lock(lock: Path) -> dict[str, Pinned]:
    """Return the lock file's entries, none if there is no such file; DataError if it is damaged."""
    try:
        return _Lock.model_validate_json(lock.read_bytes()).root
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise DataError(
            f"is damaged ({error.error_count()} errors, the first: {error.errors()[0]['msg']})",
            file=lock,
            advice="Restore it, or remove it to have the files recorded anew",
        ) from None


def _pin(name: str, digests: Digests, url: str, lock: Path) -> Pinned:
    """Record a file unless another process has just done so; return what is recorded."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _alone(lock.with_name(f".{lock.name}.writing")):
        entries = read_lock(lock)
        if name not in entries:
            date = datetime.now(UTC).date().isoformat()
            entries[name] = Pinned(
                bytes=digests.bytes, sha256=digests.sha256, url=shown(url), date=date
            )
            write_json(lock, {key: entries[key].model_dump() for key in sorted(entries)})
            log.warning(
                "%s: its publisher gives no hash; whole by its own checksums, so its SHA-256 %s "
                "was recorded in %s and must match from now on", name, digests.sha256, lock,
            )  # fmt: skip
        return entries[name]


def open_alone(path: Path) -> IO[bytes]:
    """Open a file for appending once no other process has it open this way."""
    while True:
        file = path.open("a+b")
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("%s: another process is writing it; waiting for that one", path)
                fcntl.flock(file, fcntl.LOCK_EX)
            if is_at(file, path):  # not renamed by the process that had it
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def not_written(error: OSError, file: Path) -> DataError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return DataError(
        f"cannot be written ({error.strerror or error})",
        file=error.filename or file,
        advice="Free some space and run again: what has arrived is kept"
        if full
        else "Choose a downloads folder that can be written to",
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes out by a file that is there meanwhile."""
    with open_alone(path):
        try:
            yield
        finally:
            path.unlink()


def check_space(target: Path, needed: int) -> None:
    """Raise DataError if the disk of ``target`` has less than so many bytes left."""
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise DataError(
            f"needs {amount(needed)} more, of which {target.parent} has {amount(free)} left",
            file=target,
            advice="Free some space, or choose a downloads folder on another disk",
        )


def byte_bar(title: str, total: int | None, progress: bool, done: int = 0) -> tqdm:
    return tqdm(
        desc=title, total=total, initial=done, unit="B", unit_scale=True, mininterval=1.0,
        disable=not progress,
    )  # fmt: skip


def amount(size: float) -> str:
    return tqdm.format_sizeof(size, "B")


def shown(url: str) -> str:
    """An address without user, password and query, which may be secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
