"""One official file over HTTP: resumed, retried, verified, and only then given its name.

While it grows it is called ``NAME.part``, with what the server said of it in ``NAME.part.json``.
What turns out to be another file is kept as ``NAME.bad-xxxxxxxx`` (of its SHA-256). Files whose
publisher gives no hash are verified by their content and pinned in a lock file.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import gzip
import hashlib
import http.client
import logging
import os
import random
import re
import shutil
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3
from pydantic import RootModel, ValidationError
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from infoseg.errors import DataError
from infoseg.files import write_json, write_whole
from infoseg.params_data import Strict

if TYPE_CHECKING:  # sources imports this module
    from infoseg.data.sources import Address, SourceFile

log = logging.getLogger(__name__)

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and seconds without a byte after which a connection counts as dead."""

_CHUNK = 64 * 1024
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "infoseg"}
_LONGEST_WAIT = 60.0
_WORTH_A_BAR = 2**26
"""Bytes whose hashing is noticed."""
_TARBALL_LIMIT = 2**30
"""Bytes that a tarball of lists may unpack to."""
NO_ZIP = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError,
    NotImplementedError, RuntimeError,
)  # fmt: skip
"""What ``zipfile`` raises for damage, depending on where it is."""

AGAIN = "It is damaged, not whole, or another release: replace it or move it elsewhere"

Judge = Callable[[Path, "Digests"], None]
"""Raises WrongFile if the file at a path, of these digests, is not the one that is wanted."""


class WrongFile(DataError):
    """A file is there, but is not the one that was published or recorded."""


class _Failed(Exception):
    """An address is given up."""


class _Interrupted(Exception):
    """A request came to nothing, or not to the end; the next may. after: seconds to wait."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


# ---- verification --------------------------------------------------------------------------------


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
        return _hash_stream(stream, file.name, md5, progress).digests()


def _hash_stream(stream: IO[bytes], name: str, md5: bool, progress: bool) -> Hashes:
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
        raise _wrong(f"has {size} bytes instead of {spec.bytes}", file)


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
            raise _wrong(f"its {kind} is {found[:12]}… instead of {known[:12]}…", file)
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


def _wrong(problem: str, file: Path) -> WrongFile:
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
    except NO_ZIP as error:
        raise _wrong(f"is not a whole zip archive ({error})", file) from None
    names = [member.filename.lower() for member in members]
    for pattern in contains:
        if not fnmatch.filter(names, pattern.lower()):
            raise _wrong(f"has no member like {pattern}", file)


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
                bytes=digests.bytes, sha256=digests.sha256, url=_shown(url), date=date
            )
            write_json(lock, {key: entries[key].model_dump() for key in sorted(entries)})
            log.warning(
                "%s: its publisher gives no hash; whole by its own checksums, so its SHA-256 %s "
                "was recorded in %s and must match from now on", name, digests.sha256, lock,
            )  # fmt: skip
        return entries[name]


# ---- the file while it grows ---------------------------------------------------------------------


class _Origin(Strict):
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

    def contradicts(self, other: _Origin) -> bool:
        pairs = ((self.etag, other.etag), (self.total, other.total))
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)


class _Part:
    """``NAME.part``, for one process at a time, hashed as it grows. Use as a context manager.

    joined: whether it is made of more than one answer.
    """

    def __init__(self, target: Path, *, md5: bool, progress: bool) -> None:
        self.target, self._md5, self._progress = target, md5, progress
        self.path = target.with_name(f"{target.name}.part")
        self._origin_file = target.with_name(f"{target.name}.part.json")

    def __enter__(self) -> _Part:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open_alone(self.path)
        try:
            self._file.seek(0)
            name = self.target.name
            self._hashes = _hash_stream(self._file, name, self._md5, self._progress)
        except BaseException:
            self._file.close()
            raise
        self.bar = byte_bar(self.target.name, None, self._progress, self.size)
        self.origin = self._read_origin()
        self.joined = self.size > 0
        return self

    def __exit__(self, *error: object) -> None:
        if not self._filled() and _is_at(self._file, self.path):
            self.path.unlink()
            self._origin_file.unlink(missing_ok=True)
        self._file.close()
        self.bar.close()

    def _filled(self) -> bool:
        return os.fstat(self._file.fileno()).st_size > 0

    def _read_origin(self) -> _Origin | None:
        with suppress(FileNotFoundError, ValidationError):
            return _Origin.model_validate_json(self._origin_file.read_bytes())
        return None

    @property
    def size(self) -> int:
        return self._hashes.bytes

    def digests(self) -> Digests:
        return self._hashes.digests()

    def come_from(self, origin: _Origin) -> None:
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
        return _set_aside(self.path, self.target, self.digests())

    def publish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self.path, self.target)
        self._origin_file.unlink(missing_ok=True)
        folder = os.open(self.target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise not_written(error, self.path) from None


def _open_alone(path: Path) -> IO[bytes]:
    """Open a file for appending once no other process has it open this way."""
    while True:
        file = path.open("a+b")
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("%s: another process is writing it; waiting for that one", path)
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):  # not renamed by the process that had it
                return file
        except BaseException:
            file.close()
            raise
        file.close()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes out by a file that is there meanwhile."""
    with _open_alone(path):
        try:
            yield
        finally:
            path.unlink()


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _set_aside(file: Path, target: Path, digests: Digests) -> Path:
    aside = target.with_name(f"{target.name}.bad-{digests.sha256[:8]}")
    os.replace(file, aside)  # an earlier one of this name has the same content
    return aside


def not_written(error: OSError, file: Path) -> DataError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return DataError(
        f"cannot be written ({error.strerror or error})",
        file=error.filename or file,
        advice="Free some space and run again: what has arrived is kept"
        if full
        else "Choose a downloads folder that can be written to",
    )


# ---- downloading ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _How:
    session: requests.Session
    lock: Path
    progress: bool
    retries: int
    timeout: tuple[float, float]
    wait: Callable[[float], object]


def download(
    spec: SourceFile,
    target: Path,
    *,
    lock: Path,
    progress: bool,
    retries: int = 5,
    timeout: tuple[float, float] = TIMEOUT,
    session: requests.Session | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> Path:
    """Bring an official file to ``target``, from the first of its addresses that has it.

    What an earlier call, interrupted or killed, left in ``target``'s part is continued. A file
    that is already at ``target`` is verified, and set aside if it is another one. lock: file that
    pins what has no published hash; tarballs that hold members are kept beside it. retries: how
    often a request is repeated without anything new before an address is given up. timeout: see
    ``TIMEOUT``. wait: is called with the seconds to pause between requests.

    Returns ``target``, a verified file. Raises DataError, which names every address and what went
    wrong there, with nothing at ``target``; also for a disk that is too small or cannot be written.
    """
    try:
        with logging_redirect_tqdm(), _session(session) as http_session:
            how = _How(http_session, lock, progress, retries, timeout, wait)
            return _download(spec, target, how)
    except OSError as error:
        raise not_written(error, target) from None


@contextmanager
def _session(given: requests.Session | None) -> Iterator[requests.Session]:
    if given is not None:
        yield given
        return
    with requests.Session() as session:
        session.max_redirects = 5
        yield session


def _download(spec: SourceFile, target: Path, how: _How) -> Path:
    judge = partial(check_file, spec, lock=how.lock, progress=how.progress)
    if target.is_file():
        digests = hash_file(target, md5=needs_md5(spec), progress=how.progress)
        try:
            judge(target, digests)
            return target
        except WrongFile as error:
            if not spec.urls:
                raise
            aside = _set_aside(target, target, digests)
            log.warning("%s; kept as %s", error, aside)
    failures = []
    for address in spec.urls:
        try:
            if address.member:
                _from_tarball(spec, address, target, how)
            else:
                judge_it = partial(judge, url=address.url)
                _from_address(spec, address.url, target, judge_it, how)
            return target
        except _Failed as failure:
            failures.append(f"{_shown(address.url)}: {failure}")
            log.warning("%s: %s", spec.name, failures[-1])
    if not spec.urls:
        raise DataError("has no address to download it from", file=target, advice=spec.ask)
    raise DataError(
        f"could not be downloaded. {'; '.join(failures)}",
        file=target,
        advice=f"Try again later (what has arrived is kept), or put the file there. {spec.ask}",
    )


def _from_address(spec: SourceFile, url: str, target: Path, judge: Judge, how: _How) -> None:
    """Fill the part, have it judged and rename it; raises _Failed."""
    for again in (False, True):
        with _Part(target, md5=needs_md5(spec), progress=how.progress) as part:
            if target.is_file():  # the process that had the part has finished it
                return
            _fill(part, spec, url, how)
            try:
                judge(part.path, part.digests())
            except WrongFile as error:
                reason = f"{error.problem}; kept as {part.set_aside().name}"
            else:
                part.publish()
                return
        if again or not part.joined:
            raise _Failed(reason)
        # The fault may be in what had arrived before, not in what this address sends.
        log.warning("%s: %s; once more from the start", target.name, reason)


def _fill(part: _Part, spec: SourceFile, url: str, how: _How) -> None:
    """Request until the part is whole; raises _Failed."""
    if spec.bytes is not None:
        check_space(part.target, spec.bytes - part.size)
    failures, furthest = 0, part.size
    while True:
        try:
            return _request(part, spec, url, how)
        except _Interrupted as failure:
            # Only what is new counts as progress: from the start over and over is none.
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures > how.retries:
                raise _Failed(f"{failure} (tried {failures} times)") from None
            pause = min(_LONGEST_WAIT, 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0)
            pause = max(pause, min(failure.after, 2 * _LONGEST_WAIT))
            log.info("%s: %s; again in %.1f s", _shown(url), failure, pause)
            how.wait(pause)


def _request(part: _Part, spec: SourceFile, url: str, how: _How) -> None:
    """Send one request and append what comes; returns if the part is then whole."""
    same = part.origin if part.origin and part.origin.url == _shown(url) else None
    total = spec.bytes if spec.bytes is not None else same and same.total
    if total is not None and part.size == total:
        return
    validator = same.validator if same else None
    known = spec.bytes is not None and (spec.sha256 or spec.md5)  # mixed parts would be noticed
    headers = dict(_HEADERS)
    if part.size and (validator or known) and (total is None or part.size < total):
        headers["Range"] = f"bytes={part.size}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = how.session.get(url, headers=headers, stream=True, timeout=how.timeout)
    except (requests.TooManyRedirects, ValueError) as error:  # ValueError: an address is malformed
        raise _Failed(_reason(error, how)) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:  # all of requests' are OSErrors
        raise _Interrupted(_reason(error, how)) from None
    with response:
        _check_status(response, part)
        start, total = _announced(response)
        if spec.bytes is not None and total not in (None, spec.bytes):
            raise _Failed(f"announces {total} bytes instead of {spec.bytes}")
        origin = _Origin(
            url=_shown(url),
            etag=response.headers.get("ETag"),
            modified=response.headers.get("Last-Modified"),
            total=total,
        )
        if response.status_code == 206:
            if start != part.size or (same and same.contradicts(origin)):
                part.rewind()
                raise _Interrupted("the file has changed at the server")
            part.joined = True
        elif part.size:  # the server has no ranges, or another file by now
            part.rewind()
        total = spec.bytes if spec.bytes is not None else total
        if total is not None:
            check_space(part.target, total - part.size)
        part.bar.total = total
        part.come_from(origin)
        _take_body(response, part, total, how)


def _check_status(response: requests.Response, part: _Part) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    reason = f"answers {status} {http.client.responses.get(status, '')}".rstrip()
    if status == 416:  # what is here is no beginning of what is there
        part.rewind()
        raise _Interrupted(reason)
    if status in (408, 425, 429) or status >= 500:
        after = response.headers.get("Retry-After", "")
        raise _Interrupted(reason, float(after) if re.fullmatch(r"\d{1,6}", after) else 0.0)
    raise _Failed(reason)


def _announced(response: requests.Response) -> tuple[int, int | None]:
    """Return where a body starts in the file, and the file's size if the server says it."""
    if response.status_code == 206:
        text = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text.strip())
        if match is None:
            raise _Failed("sends a part of the file without saying which")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _take_body(response: requests.Response, part: _Part, total: int | None, how: _How) -> None:
    try:
        # As sent, not decoded: a .tar.gz is to stay one.
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            part.append(chunk)
            if total is not None and part.size > total:
                part.rewind()
                raise _Failed(f"sends more than {total} bytes")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _Interrupted(_reason(error, how)) from None
    finally:
        part.flush()
    if total is not None and part.size < total:
        raise _Interrupted(f"stopped at {part.size} of {total} bytes")


def _reason(error: Exception, how: _How) -> str:
    """What went wrong, without the addresses that such errors repeat, with what they may hold."""
    connect, read = how.timeout
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {connect:g} s"
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return f"nothing was sent for {read:g} s"
    if isinstance(error, requests.TooManyRedirects):
        return "leads from one address to another too often"
    if isinstance(error, ValueError):
        return "is malformed, or leads to what is not http"
    inner: Exception | None = error
    while inner is not None:
        error = inner
        nested = (getattr(error, "reason", None), *error.args)
        inner = next((cause for cause in nested if isinstance(cause, Exception)), None)
    return f"the connection failed ({type(error).__name__})"


def check_space(target: Path, needed: int) -> None:
    """Raise DataError if the disk of ``target`` has less than so many bytes left."""
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise DataError(
            f"needs {amount(needed)} more, of which {target.parent} has {amount(free)} left",
            file=target,
            advice="Free some space, or choose a downloads folder on another disk",
        )


# ---- members of tarballs -------------------------------------------------------------------------


def _from_tarball(spec: SourceFile, address: Address, target: Path, how: _How) -> None:
    """Write a small file that is a member of a tarball; raises _Failed.

    The tarball stays beside the lock file, for the other members.
    """
    tarball = how.lock.parent / PurePosixPath(urlsplit(address.url).path).name

    def member(file: Path) -> bytes:
        content = _read_member(file, address.member, spec.bytes)
        if (found := hashlib.sha256(content).hexdigest()) != spec.sha256:
            raise _wrong(
                f"the SHA-256 of {address.member} is {found[:12]}… instead of {spec.sha256[:12]}…",
                file,
            )
        return content

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    content = None
    if tarball.is_file():
        try:
            content = member(tarball)
        except WrongFile as error:
            digests = hash_file(tarball, md5=False, progress=False)
            log.warning("%s; kept as %s", error, _set_aside(tarball, tarball, digests))
    if content is None:
        whole = spec.model_copy(update={"bytes": None, "sha256": None, "md5": None})
        _from_address(whole, address.url, tarball, lambda file, _: member(file), how)
        content = member(tarball)
    write_whole(target, write)


def _read_member(tarball: Path, suffix: str, size: int) -> bytes:
    """Return the regular file whose path ends with ``suffix``; raises WrongFile.

    The tarball is read to its end, so that damage behind the member is noticed too.
    """
    ending, found, unpacked = PurePosixPath(suffix).parts, None, 0
    try:
        with gzip.open(tarball) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                unpacked += member.size
                if unpacked > _TARBALL_LIMIT:
                    raise _wrong(f"unpacks to more than {amount(_TARBALL_LIMIT)}", tarball)
                parts = PurePosixPath(member.name).parts
                if parts[-len(ending) :] != ending or ".." in parts or not member.isreg():
                    continue
                if found is not None:
                    raise _wrong(f"has two members like {suffix}", tarball)
                if member.size != size:
                    raise _wrong(f"{suffix} has {member.size} bytes instead of {size}", tarball)
                found = archive.extractfile(member).read(size)
            while unpacked <= _TARBALL_LIMIT and (rest := stream.read(2**20)):
                unpacked += len(rest)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _wrong(f"is not a whole tarball ({error})", tarball) from None
    if found is None:
        raise _wrong(f"has no regular file {suffix}", tarball)
    return found


# ---- words ---------------------------------------------------------------------------------------


def byte_bar(title: str, total: int | None, progress: bool, done: int = 0) -> tqdm:
    return tqdm(
        desc=title, total=total, initial=done, unit="B", unit_scale=True, mininterval=1.0,
        disable=not progress,
    )  # fmt: skip


def amount(size: float) -> str:
    return tqdm.format_sizeof(size, "B")


def _shown(url: str) -> str:
    """An address without user, password and query, which may be secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
