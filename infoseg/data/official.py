"""The official files: find them on this disk, verify them, download what is missing.

``official.yaml`` is the table. A file may be there as published or unpacked, in the user's own
folder (read, never written to) or among the downloads.
"""

from __future__ import annotations

import errno
import fnmatch
import functools
import hashlib
import itertools
import logging
import os
import re
import shutil
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import filelock
import requests
import urllib3
import yaml
from tqdm import tqdm

from infoseg.data.archives import naming
from infoseg.files import DataError, StorageError, storing
from infoseg.settings import Strict

log = logging.getLogger(__name__)

_REPLACE = "It is damaged, not whole, or another release: replace it or move it elsewhere"
#: Groups of files without which another group is of no use.
NEEDS = {"cocostuff": ("coco", "curated")}


class SourceFile(Strict):
    """One official file; ``official.yaml`` says what each key means."""

    name: str
    urls: tuple[str, ...]
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    contains: tuple[str, ...] = ()
    trees: tuple[tuple[str, ...], ...] = ()
    instead: str | None = None
    licence: str
    terms: str
    ask: str


@functools.cache
def load_table() -> dict[str, tuple[SourceFile, ...]]:
    """Return the official files by group."""
    table = yaml.safe_load(Path(__file__).with_name("official.yaml").read_text(encoding="utf-8"))
    return {group: tuple(SourceFile(**file) for file in files) for group, files in table.items()}


# ---- find and verify -----------------------------------------------------------------------------


def find_files(
    group: str, raw: Path | None, downloads: Path, *, verify: bool, fetch: bool = False
) -> list[tuple[Path, dict[str, Any]]]:
    """Find every file of a group and of the groups it needs, in raw, then in downloads.

    raw: the user's folder. verify: read archives to their end; their sizes are always compared.
    fetch: download what is missing. A file may lie at the top or one folder down, as published or
    unpacked.

    Returns of each file the zip or the folder that a preparation reads, and its row of
    ``files.csv``. Raises DataError for files that are missing, saying whom to ask and where to put
    them, or that are not the published ones, and for a failed download.
    """
    if raw is not None and not (raw.is_dir() and os.access(raw, os.R_OK)):
        raise DataError("raw folder not found or not readable", file=raw, advice="Check its path")
    files, missing = [], []
    for name in (*NEEDS.get(group, ()), group):
        for spec in load_table()[name]:
            file = _find(spec, name, [raw, downloads], verify)
            if file is None and fetch and spec.urls:
                download(spec, downloads / name / spec.name)
                file = _find(spec, name, [downloads], verify)
            (missing if file is None else files).append(file or spec)
    if missing:
        advice = " ".join(dict.fromkeys(spec.ask for spec in missing))
        advice += f" Put what is missing into {downloads / group}" + (f" or {raw}" if raw else "")
        if all(spec.urls for spec in missing):
            advice += ", or let the data stage download it"
        raise DataError(f"{', '.join(spec.name for spec in missing)}: not there", advice=advice)
    return files


def _find(
    spec: SourceFile, group: str, bases: Sequence[Path | None], verify: bool
) -> tuple[Path, dict[str, Any]] | None:
    for base in (base for base in bases if base and base.is_dir()):
        folders = [base, *sorted(path for path in base.iterdir() if path.is_dir())]
        folders.sort(key=lambda folder: folder.name.lower() != group)  # the group's own goes first
        for file in filter(Path.is_file, (folder / spec.name for folder in folders)):
            row = {"file": spec.name, "kind": "archive"} | verify_file(spec, file, verify)
            # An id list is read below the folder that its name starts from.
            return file if file.suffix == ".zip" else file.parents[spec.name.count("/")], row
        for folder, patterns in itertools.product(folders, spec.trees):
            if all(matches := [_matches(folder, pattern) for pattern in patterns]):
                sizes = [file.stat().st_size for file in itertools.chain(*matches)]
                row = {"file": spec.name, "kind": "tree", "bytes": sum(sizes), "files": len(sizes)}
                return folder, row
    if spec.instead:
        later = spec.model_copy(update={"name": spec.instead, "instead": None, "trees": ()})
        return _find(later, group, bases, verify)
    return None


def _matches(folder: Path, pattern: str) -> list[Path]:
    """List the files below a folder that a pattern of the table names, in any case."""
    below, _, name = pattern.rpartition("/")
    # Hidden files are not the publisher's: macOS adds one per file.
    fits = re.compile(rf"(?!\.){fnmatch.translate(name)}", re.IGNORECASE).match
    walk = os.walk(folder) if below == "**" else itertools.islice(os.walk(folder / below), 1)
    return [Path(at, file) for at, _, files in walk for file in files if fits(file)]


def verify_file(spec: SourceFile, file: Path, whole: bool = True) -> dict[str, Any]:
    """Return size and SHA-256 of a file. Raises DataError unless it is the one in the table.

    whole: read it to its end, a zip of unknown hash against its own checksums; otherwise the size
    alone is compared and returned.
    """
    with naming(file, "cannot be read", _REPLACE):
        if spec.bytes not in (None, size := file.stat().st_size):
            raise DataError(f"has {size} bytes instead of {spec.bytes}")
        if not whole:
            return {"bytes": size}
        sha256 = _check_hash(file, "sha256", spec.sha256)
        if spec.md5:
            _check_hash(file, "md5", spec.md5)
        if spec.contains:
            with zipfile.ZipFile(file) as archive:
                if damaged := archive.testzip():
                    raise DataError(f"is not a whole zip archive ({damaged} is damaged)")
                names = [name.lower() for name in archive.namelist()]
            for pattern in spec.contains:
                if not fnmatch.filter(names, pattern):
                    raise DataError(f"has no member like {pattern}")
        return {"bytes": size, "sha256": sha256}


def _check_hash(file: Path, algorithm: str, expected: str | None) -> str:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, algorithm).hexdigest()
    if expected not in (None, digest):
        raise DataError(f"has {algorithm} {digest[:12]}… instead of {expected[:12]}…")
    return digest


# ---- download ------------------------------------------------------------------------------------

#: Seconds to connect, and seconds without a byte after which a connection counts as dead.
TIMEOUT = (10.0, 60.0)
#: How often a request is repeated without anything new before an address is given up.
RETRIES = 5
#: Seconds of the first pause between requests; each later one is twice as long, up to a minute.
PAUSE = 1.0
#: Answers of servers that may do better later.
BUSY = (408, 425, 429, 500, 502, 503, 504)


class _Unavailable(Exception):
    """An address does not give the file."""


def download(spec: SourceFile, target: Path) -> None:
    """Download a file from the first of its addresses that has it, verified before it is named.

    It grows as ``NAME.part``, which a later call continues. A part that turns out wrong is removed,
    and every address has a second turn. Processes that want one file take turns.

    Raises DataError, with every address and what went wrong there, StorageError for a disk that is
    too small or cannot be written; nothing is at ``target`` then.
    """
    part, failures = target.with_name(f"{target.name}.part"), []
    retry = urllib3.Retry(
        RETRIES, backoff_factor=PAUSE, status_forcelist=BUSY, raise_on_status=False
    )
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(target.with_name(f".{target.name}.lock"))
        with lock, requests.Session() as session:
            if target.exists():  # another process has just downloaded it
                return
            for scheme in ("http://", "https://"):
                session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
            for url in spec.urls * 2:
                try:
                    _fill(session, url, spec, part)
                    verify_file(spec, part)
                    os.replace(part, target)
                    return
                except _Unavailable as error:
                    failures.append(f"{url} {error}")
                except DataError as error:
                    part.unlink(missing_ok=True)
                    failures.append(f"{url} {error.problem}")
                log.warning("%s: %s", target.name, failures[-1])
    problem = f"could not be downloaded: {'; '.join(dict.fromkeys(failures))}"
    advice = f"Try again later, or put the file there. {spec.ask}"
    raise DataError(problem, file=target, advice=advice)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fill(session: requests.Session, url: str, spec: SourceFile, part: Path) -> None:
    """Append to a part what an address has of the rest, in as many requests as that takes."""
    stalls = 0  # requests in a row that brought nothing new
    while (arrived := _size(part)) != spec.bytes:
        headers = {"Accept-Encoding": "identity", "User-Agent": "infoseg"}
        headers |= {"Range": f"bytes={arrived}-"} if arrived else {}
        try:
            with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                return _receive(response, spec, part)
        except urllib3.exceptions.HTTPError as error:
            stalls = 0 if _size(part) > arrived else stalls + 1
            if stalls > RETRIES:
                raise _Unavailable(f"broke off ({type(error).__name__})") from None
            time.sleep(min(60, PAUSE * 2**stalls))
        except (requests.RequestException, ValueError) as error:  # after urllib3's own retries
            cause = getattr(error.args[0] if error.args else None, "reason", error)
            raise _Unavailable(f"cannot be reached ({type(cause).__name__})") from None


def _receive(response: requests.Response, spec: SourceFile, part: Path) -> None:
    if response.status_code == 416:  # nothing follows: the part is too long
        part.unlink(missing_ok=True)
    if response.status_code not in (200, 206):
        raise _Unavailable(f"answers {response.status_code} {response.reason}")
    start = _size(part) if response.status_code == 206 else 0  # 200: the whole file
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else spec.bytes
    if spec.bytes not in (None, total):
        raise _Unavailable(f"announces {total} bytes instead of {spec.bytes}")
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        more = f"{total - start:,} bytes more are needed, {free:,} are left"
        raise StorageError(errno.ENOSPC, more, str(part))
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=spec.name)
    with bar, part.open("ab" if start else "wb") as file:
        for chunk in response.raw.stream(2**16, decode_content=False):  # as sent
            bar.update(file.write(chunk))
            if spec.bytes is not None and file.tell() > spec.bytes:
                raise DataError(f"does not end after its {spec.bytes} bytes")
        file.flush()
        os.fsync(file.fileno())
