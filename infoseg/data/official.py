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
import json
import logging
import os
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import filelock
import requests
import tenacity
import urllib3
import yaml
from tqdm import tqdm

from infoseg.data.archives import naming
from infoseg.files import DataError, write_json
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
    group: str, raw: Path | None, downloads: Path, *, fetch: bool, progress: bool = True
) -> list[tuple[Path, dict[str, str | int]]]:
    """Find every file of a group and of the groups it needs.

    raw: the user's folder. downloads: for what is fetched, and for ``verified.json``, the hashes of
    archives by name, size and time, so that 19 GB are read once. fetch: download what is missing.
    Files are looked for in raw, then in downloads, at the top and one folder down: as published,
    then unpacked.

    Returns of each file what a preparation reads, the zip or the folder that stands for the raw
    folder, and what ``files.csv`` states of it. Raises DataError for files that are missing, saying
    whom to ask and where to put them, or not the published ones, and for a failed download.
    """
    if raw is not None and not (raw.is_dir() and os.access(raw, os.R_OK)):
        raise DataError("raw folder not found or not readable", file=raw, advice="Check its path")
    files, missing = [], []
    for name in (*NEEDS.get(group, ()), group):
        for spec in load_table()[name]:
            verify = functools.partial(verify_file, spec, downloads / "verified.json")
            file = _find(spec, name, [raw, downloads], verify)
            if file is None and fetch and spec.urls:
                download(spec, downloads / name / spec.name, verify, progress)
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
    spec: SourceFile, group: str, bases: Sequence[Path | None], verify: Callable[[Path], str]
) -> tuple[Path, dict[str, str | int]] | None:
    for base in (base for base in bases if base and base.is_dir()):
        folders = [base, *sorted(path for path in base.iterdir() if path.is_dir())]
        folders.sort(key=lambda folder: folder.name.lower() != group)  # the group's own goes first
        for file in filter(Path.is_file, (folder / spec.name for folder in folders)):
            row = {"file": spec.name, "kind": "archive", "bytes": file.stat().st_size}
            # An id list is read below the folder that its name starts from.
            path = file if file.suffix == ".zip" else file.parents[spec.name.count("/")]
            return path, row | {"sha256": verify(file)}
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


def verify_file(spec: SourceFile, cache: Path, file: Path) -> str:
    """Return the SHA-256 of a file. Raises DataError unless it is the one the table describes.

    A zip of unknown hash is read to its end against its own checksums. cache: JSON of hashes.
    """
    facts, cached = file.stat(), {}
    key = f"{spec.name} {facts.st_size} {facts.st_mtime_ns}"
    with suppress(OSError, ValueError, TypeError):  # absent or damaged: hash again
        cached = dict(json.loads(cache.read_text(encoding="utf-8")))
    with naming(file, "cannot be read", _REPLACE):
        if spec.bytes not in (None, facts.st_size):  # before 19 GB are read
            raise DataError(f"has {facts.st_size} bytes instead of {spec.bytes}")
        sha256 = cached.get(key) or _digest(file, "sha256")
        if spec.sha256 not in (None, sha256):
            raise DataError(f"has SHA-256 {sha256[:12]}… instead of {spec.sha256[:12]}…")
        if key in cached:
            return sha256
        if spec.md5 and spec.md5 != (md5 := _digest(file, "md5")):
            raise DataError(f"has MD5 {md5[:12]}… instead of {spec.md5[:12]}…")
        if not (spec.sha256 or spec.md5):
            _check_zip(file, spec.contains)
    with suppress(OSError, DataError):  # a disk that cannot be written: hash again
        write_json(cache, cached | {key: sha256})
    return sha256


def _digest(file: Path, algorithm: str) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _check_zip(file: Path, contains: Sequence[str]) -> None:
    with naming(file, "is not a whole zip archive", _REPLACE), zipfile.ZipFile(file) as archive:
        if damaged := archive.testzip():
            raise DataError(f"is not a whole zip archive ({damaged} is damaged)")
        names = [name.lower() for name in archive.namelist()]
        for pattern in contains:
            if not fnmatch.filter(names, pattern):
                raise DataError(f"has no member like {pattern}")


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


class _Interrupted(_Unavailable):
    """A transfer broke off; the next request may continue it."""


def download(
    spec: SourceFile, target: Path, verify: Callable[[Path], str], progress: bool = True
) -> None:
    """Download a file from the first of its addresses that has it, verified before it is named.

    It grows as ``NAME.part``, which a later call continues if the table has a hash to tell whether
    the pieces fit. A wrong file is kept as ``NAME.bad``. Processes that want one file take turns.
    verify: raises DataError unless the file at a path is the wanted one.

    Raises DataError, with every address and what went wrong there, with nothing at ``target``; also
    for a disk that is too small or cannot be written.
    """
    retry = urllib3.Retry(
        RETRIES, backoff_factor=PAUSE, status_forcelist=BUSY, raise_on_status=False
    )
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(target.with_name(f".{target.name}.lock"))
        with lock, requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
            if target.exists():  # another process has just downloaded it
                return
            for url in spec.urls:
                try:
                    return _Transfer(session, url, spec, target, progress).run(verify)
                except _Unavailable as error:
                    failures.append(f"{url} {error}")
                    log.warning("%s: %s", target.name, failures[-1])
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        advice = "Free some space, or choose another downloads folder, and run again"
        raise DataError(problem, file=error.filename or target, advice=advice) from None
    problem = f"could not be downloaded: {'; '.join(failures)}"
    advice = f"Try again later, or put the file there. {spec.ask}"
    raise DataError(problem, file=target, advice=advice)


class _Transfer:
    """A file that grows as ``NAME.part`` from one address.

    tag: the strong ETag of what has arrived. stalls: requests in a row that brought nothing new.
    """

    def __init__(
        self, session: requests.Session, url: str, spec: SourceFile, target: Path, progress: bool
    ) -> None:
        self.get, self.url, self.target, self.quiet = session.get, url, target, not progress
        self.part = target.with_name(f"{target.name}.part")
        self.size, self.hashed, self.tag = spec.bytes, bool(spec.sha256 or spec.md5), None
        self.furthest = self.stalls = 0

    @property
    def arrived(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def run(self, verify: Callable[[Path], str]) -> None:
        """Fill the part, verify it and give it its name. Raises _Unavailable."""
        fill = tenacity.retry(
            retry=tenacity.retry_if_exception_type(_Interrupted),
            stop=lambda _: self.stalls > RETRIES,
            wait=lambda _: min(60, PAUSE * 2**self.stalls) * random.uniform(0.5, 1),
            reraise=True,
        )(self._request)
        for whole in (False, True):
            fill()
            try:
                verify(self.part)
                return os.replace(self.part, self.target)
            except DataError as error:
                self.part.replace(f"{self.target}.bad")
                if whole:
                    raise _Unavailable(f"{error.problem}; kept as {self.target.name}.bad") from None
                # The fault may lie in pieces that do not fit: once more from the start.

    def _request(self) -> None:
        """Send one request and append what comes; return if the part is then whole."""
        arrived, headers = self.arrived, {"Accept-Encoding": "identity", "User-Agent": "infoseg"}
        if arrived == self.size:
            return
        if arrived and (self.tag or self.hashed):  # requests leaves out what is None
            headers |= {"Range": f"bytes={arrived}-", "If-Range": self.tag}
        try:
            with self.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                self._receive(response, arrived)
        except urllib3.exceptions.HTTPError as error:
            raise _Interrupted(f"broke off ({type(error).__name__})") from None
        except (requests.RequestException, ValueError) as error:  # after urllib3's own retries
            cause = getattr(error.args[0] if error.args else None, "reason", error)
            raise _Unavailable(f"cannot be reached ({type(cause).__name__})") from None
        finally:
            self.stalls = 0 if self.arrived > self.furthest else self.stalls + 1
            self.furthest = max(self.furthest, self.arrived)

    def _receive(self, response: requests.Response, arrived: int) -> None:
        status, tag = response.status_code, response.headers.get("ETag", "")
        extent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        continues = extent and int(extent[1]) == arrived and tag in ("", self.tag or tag)
        if status in (206, 416) and not continues:
            self.part.unlink(missing_ok=True)
            raise _Interrupted("the file has changed at the server")
        if status not in (200, 206):
            raise _Unavailable(f"answers {status} {response.reason}")
        length = extent[2] if status == 206 else response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else self.size
        if self.size not in (None, total):
            raise _Unavailable(f"announces {total} bytes instead of {self.size}")
        if status == 200:  # the whole file
            self.part.unlink(missing_ok=True)
            arrived, self.tag = 0, tag if tag.startswith('"') else None
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - arrived > free:
            more = f"{total - arrived:,} bytes more are needed, {free:,} are left"
            raise OSError(errno.ENOSPC, more, str(self.target))
        bar = tqdm(total=total, initial=arrived, unit="B", unit_scale=True, disable=self.quiet)
        with bar, self.part.open("ab") as file:
            bar.set_description(self.target.name)
            for chunk in response.raw.stream(2**16, decode_content=False):  # as sent
                bar.update(file.write(chunk))
                if total is not None and file.tell() > total:
                    break
            file.flush()
            os.fsync(file.fileno())
        if total is not None and self.arrived != total:
            raise _Interrupted(f"sent {self.arrived} bytes instead of {total}")
