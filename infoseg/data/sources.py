"""The official files: which they are, where they lie on this disk, and getting what is missing.

``sources.yaml`` is the table. A file may be there as published or unpacked, in the user's own
folder (read, never written to) or among the downloads.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import logging
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from infoseg.data.archives import ARCHIVE_DAMAGE
from infoseg.data.source_table import TABLE, Address, Group, SourceFile, Sources, load_sources
from infoseg.data.verify import (
    AGAIN,
    Digests,
    Hashes,
    WrongFile,
    amount,
    byte_bar,
    check_file,
    check_size,
    check_space,
    hash_file,
    needs_md5,
    read_lock,
)
from infoseg.errors import DataError, StorageError
from infoseg.files import make_folder, write_json, write_whole

__all__ = [
    "TABLE",
    "Address",
    "Found",
    "Group",
    "SourceFile",
    "Sources",
    "check_manifest",
    "load_sources",
    "manifest",
    "resolve",
]

log = logging.getLogger(__name__)


# ---- finding -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """An official file on this disk.

    name: of the file, as in the table. kind: "archive" as published (a plain file such as an id
    list too), "tree" unpacked. path: what a preparation reads: the zip itself, or the folder that
    stands for the raw folder. digests: of an archive. patterns: the files of a tree.
    """

    name: str
    kind: Literal["archive", "tree"]
    path: Path
    digests: Digests | None = None
    patterns: tuple[str, ...] = ()


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise DataError(problem, file=error.filename, advice="Check its permissions") from None


@_reading()
def resolve(
    group: str,
    raw: Path | None,
    downloads: Path,
    *,
    download: bool,
    progress: bool,
    sources: Sources | None = None,
) -> list[Found]:
    """Find every file of a group, and of the groups it needs, and download what is missing.

    raw: the user's folder, never written to; None where there is none. downloads: the folder that
    downloaded files go to, and ``verified.json`` (hashes of what was read once, so that 19 GB are
    not read at every call) and ``sources.lock``. Of each file the first of these counts, in raw
    before downloads: as published, below the folder itself, a folder of the group's name or any
    folder one down; unpacked, in one of the layouts of the table; inside the archive its publisher
    hands it out in, from which it is taken into downloads. download: fetch the rest.

    Raises DataError if files are missing that may not or cannot be downloaded, saying which, whom
    to ask and where to put them; for an archive that is not the published one; for a download that
    failed.
    """
    sources = sources or load_sources()
    if group not in sources.groups:
        raise DataError(f"there is no group of files {group!r} (but {', '.join(sources.groups)})")
    if raw is not None and not raw.is_dir():
        raise DataError("raw folder not found", file=raw, advice="Check the path of the raw data")
    search = _Search(raw, downloads, download, progress)
    wanted = [(name, f) for name in sources.with_needs(group) for f in sources.groups[name].files]
    found = {f.name: search.find(f, name, sources.groups[name].folders) for name, f in wanted}
    missing = [(name, spec) for name, spec in wanted if found[spec.name] is None]
    if missing and not (download and all(spec.urls for _, spec in missing)):
        raise _missing(missing, raw, downloads, download)
    if missing:
        from infoseg.data.download import download as fetch  # deferred: an HTTP client, rarely used

    for name, spec in missing:
        target = downloads / name / spec.name
        fetch(spec, target, lock=search.lock, progress=progress)
        found[spec.name] = search.archive(spec, target, fresh=True)
    return [found[spec.name] for _, spec in wanted]


class _Search:
    """Looks for files in the user's folder, then among the downloads."""

    def __init__(self, raw: Path | None, downloads: Path, download: bool, progress: bool) -> None:
        self._bases = [base for base in (raw, downloads) if base is not None and base.is_dir()]
        self._downloads, self._download, self._progress = downloads, download, progress
        self._verified = _Verified(downloads / "verified.json")
        self.lock = downloads / "sources.lock"

    def find(self, spec: SourceFile, group: str, folders: Sequence[str]) -> Found | None:
        roots = (group, *folders, ".")
        for base in self._bases:
            if file := _file_below(base, group, spec.name):
                return self._archive_or_none(spec, file, group)
            if found := next((f for root in roots if (f := _tree_at(base / root, spec))), None):
                return found
        outers = [_file_below(base, group, spec.inside) for base in self._bases if spec.inside]
        for outer in filter(None, outers):
            if found := self._take_out(spec, outer, group):
                return found
        for name in spec.instead:
            if found := self.find(spec.named(name), group, folders):
                return found
        return None

    def _archive_or_none(self, spec: SourceFile, file: Path, group: str) -> Found | None:
        """None for a damaged download, where it may be downloaded again."""
        try:
            return self.archive(spec, file)
        except WrongFile as error:
            ours = file == self._downloads / group / spec.name
            if not (ours and spec.urls and self._download):
                raise
            log.warning("%s", error)
            return None

    def archive(self, spec: SourceFile, file: Path, fresh: bool = False) -> Found:
        """Verify an archive where it lies. fresh: its download has just verified it."""
        size = file.stat().st_size
        check_size(spec, file, size)  # before 19 GB are read
        digests = self._verified.get(file, needs_md5(spec))
        if digests is None:
            pinned = read_lock(self.lock).get(spec.name)
            sha256 = spec.sha256 or (pinned and pinned.sha256)
            if fresh and sha256:
                digests = Digests(size, sha256)
            else:
                digests = hash_file(file, md5=needs_md5(spec), progress=self._progress)
        check_file(spec, file, digests, lock=self.lock, progress=self._progress)
        self._verified.put(file, digests)
        parts = len(PurePosixPath(spec.name).parts)
        path = file if file.suffix.lower() == ".zip" else file.parents[parts - 1]
        return Found(spec.name, "archive", path, digests)

    def _take_out(self, spec: SourceFile, outer: Path, group: str) -> Found | None:
        """Take a file out of the archive it is handed out in, into the downloads, if it is there.

        No other member is touched, and no member's name becomes a path.
        """
        target, hashes = self._downloads / group / spec.name, Hashes(needs_md5(spec))
        with _unpacking(outer), zipfile.ZipFile(outer) as archive:
            members = [m for m in archive.infolist() if PurePosixPath(m.filename).name == spec.name]
            if not members:
                return None
            if len(members) > 1:
                raise DataError(f"has two members named {spec.name}", file=outer, advice=AGAIN)
            size = members[0].file_size

            def write(file: Path) -> None:
                bar = byte_bar(f"unpacking {spec.name}", size, self._progress)
                # A member never gives more than the archive's index says it has.
                with archive.open(members[0]) as stream, file.open("wb") as out, bar:
                    while chunk := stream.read(2**20):
                        out.write(chunk)
                        hashes.update(chunk)
                        bar.update(len(chunk))
                check_file(spec, file, hashes.digests(), lock=self.lock, progress=self._progress)

            make_folder(target.parent)
            check_space(target, size)
            write_whole(target, write)
        self._verified.put(target, hashes.digests())
        return self.archive(spec, target)


@contextmanager
def _unpacking(outer: Path) -> Iterator[None]:
    """Turn what goes wrong into errors that name the archive."""
    try:
        yield
    except WrongFile as error:
        problem = f"what is inside is another file: {error.problem}"
        raise DataError(problem, file=outer, advice=error.advice) from None
    except ARCHIVE_DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            raise DataError(
                f"cannot be unpacked ({error.strerror})",
                file=error.filename or outer,
                advice="Check the space and the permissions of the disk",
            ) from None
        raise DataError(f"cannot be unpacked ({error})", file=outer, advice=AGAIN) from None


def _file_below(base: Path, group: str, name: str) -> Path | None:
    folders = sorted(Path(entry.path) for entry in os.scandir(base) if entry.is_dir())
    places = (base / name, base / group / name, *(folder / name for folder in folders))
    return next((file for file in places if file.is_file()), None)


def _tree_at(root: Path, spec: SourceFile) -> Found | None:
    for patterns in spec.trees:
        if all(next(_matches(root, pattern), None) for pattern in patterns):
            return Found(spec.name, "tree", root, patterns=patterns)
    return None


def _matches(root: Path, pattern: str) -> Iterator[os.DirEntry[str]]:
    """Yield the files below a folder that a pattern of the table names."""
    folder, _, name = pattern.rpartition("/")
    deep = folder == "**"
    wanted = re.compile(fnmatch.translate(name), re.IGNORECASE)
    folders = [root if deep else root / folder]
    while folders:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                # Hidden files are not the publisher's: macOS adds one per file.
                if not entry.name.startswith(".") and wanted.match(entry.name) and entry.is_file():
                    yield entry
                elif deep and entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))


class _Verified:
    """``verified.json``: hashes of archives by path, size and time of change."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def _read(self) -> dict[str, Any]:
        try:
            entries = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # only a cache
            return {}
        return entries if isinstance(entries, dict) else {}

    def get(self, archive: Path, md5: bool) -> Digests | None:
        entry = self._read().get(str(archive.resolve()))
        now = archive.stat()
        with suppress(TypeError, KeyError, AttributeError):
            digests = Digests(now.st_size, entry["sha256"], entry["md5"])
            then = (entry["bytes"], entry["modified_ns"])
            if then == (now.st_size, now.st_mtime_ns) and (digests.md5 or not md5):
                return digests
        return None

    def put(self, archive: Path, digests: Digests) -> None:
        entries, key, now = self._read(), str(archive.resolve()), archive.stat()
        entry = {
            "bytes": now.st_size,
            "modified_ns": now.st_mtime_ns,
            "sha256": digests.sha256,
            "md5": digests.md5,
        }
        if entries.get(key) == entry:
            return
        try:
            write_json(self._file, entries | {key: entry})
        except StorageError as error:
            log.warning("%s; hashes are computed again", error)


def _missing(
    missing: Sequence[tuple[str, SourceFile]], raw: Path | None, downloads: Path, download: bool
) -> DataError:
    """Say which files are missing, whom to ask for them and where to put them."""
    if download:  # the rest will be downloaded once these are there
        missing = [(group, spec) for group, spec in missing if not spec.urls]
    names = [f"{f.name} ({amount(f.bytes)})" if f.bytes else f.name for _, f in missing]
    groups = list(dict.fromkeys(group for group, _ in missing))
    where = [*(str(downloads / group) for group in groups), *([str(raw)] if raw else [])]
    what = ["them" if len(missing) > 1 else "it"]
    what += [f"{outer} as it is" for outer in sorted({f.inside for _, f in missing if f.inside})]
    advice = list(dict.fromkeys(spec.ask for _, spec in missing))
    put = f"Put {' or '.join(what)} into {' or '.join(where)}"
    if not download and all(spec.urls for _, spec in missing):
        put += f", or let the data stage download what is missing ({', '.join(groups)})"
    return DataError(
        f"{', '.join(names)}: not there{', and cannot be downloaded' if download else ''}",
        advice=" ".join([*advice, put]),
    )


# ---- the manifest --------------------------------------------------------------------------------


def manifest(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Return what was found as rows that are the same on every machine.

    Each has file and kind; an archive bytes and sha256; a tree the number of its files and their
    bytes.
    """
    return [_row(one) for one in found]


def _row(one: Found) -> dict[str, Any]:
    if one.digests is not None:
        return {
            "file": one.name,
            "kind": one.kind,
            "bytes": one.digests.bytes,
            "sha256": one.digests.sha256,
        }
    sizes = [entry.stat().st_size for p in one.patterns for entry in _matches(one.path, p)]
    return {"file": one.name, "kind": one.kind, "bytes": sum(sizes), "files": len(sizes)}


def check_manifest(
    rows: Path | Iterable[Mapping[str, object]], found: Sequence[Found], *, stage: str = ""
) -> None:
    """Raise DataError unless what was found is what a manifest says.

    rows: of ``manifest``, or the CSV file that they were written to. stage: makes the manifest;
    named in the advice.
    """
    advice = f"Restore the files, or run {stage or 'the stage that makes the manifest'} again"
    file = rows if isinstance(rows, Path) else None
    then = {row["file"]: row for row in map(_words, _read_rows(rows) if file else rows)}
    now = {row["file"]: row for row in map(_words, manifest(found))}
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            raise DataError(
                f"{name} is {_told(now.get(name))} on the disk, but {_told(then.get(name))} when "
                "the data were stated",
                file=file,
                advice=advice,
            )


def _read_rows(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:
        raise DataError("not found", file=file, advice="Run the data stage first") from None
    if not all(row.get("file") for row in rows):
        raise DataError("is no manifest: it has no column file", file=file)
    return rows


def _words(row: Mapping[str, object]) -> dict[str, str]:
    """A row as its CSV file has it, without what is empty."""
    return {key: str(value) for key, value in row.items() if value not in (None, "")}


def _told(row: Mapping[str, str] | None) -> str:
    if row is None:
        return "missing"
    return ", ".join(f"{key} {value}" for key, value in row.items() if key != "file")
