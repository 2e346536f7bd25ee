"""One official file over HTTP: resumed, retried, verified, and only then given its name.

While it grows it is called ``NAME.part``, with what the server said of it in ``NAME.part.json``.
What turns out to be another file is kept as ``NAME.bad-xxxxxxxx`` (of its SHA-256). Files whose
publisher gives no hash are verified by their content and pinned in a lock file.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm.contrib.logging import logging_redirect_tqdm

from infoseg.data.partial import Origin, Part, set_aside
from infoseg.data.source_table import Address, SourceFile
from infoseg.data.tarball import read_member
from infoseg.data.verify import (
    Digests,
    WrongFile,
    check_file,
    check_space,
    hash_file,
    needs_md5,
    not_written,
    shown,
    wrong_file,
)
from infoseg.errors import DataError
from infoseg.files import write_whole

log = logging.getLogger(__name__)

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and seconds without a byte after which a connection counts as dead."""

_CHUNK = 64 * 1024
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "infoseg"}
_LONGEST_WAIT = 60.0

Judge = Callable[[Path, "Digests"], None]
"""Raises WrongFile if the file at a path, of these digests, is not the one that is wanted."""


class _Failed(Exception):
    """An address is given up."""


class _Interrupted(Exception):
    """A request came to nothing, or not to the end; the next may. after: seconds to wait."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


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
            aside = set_aside(target, target, digests)
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
            failures.append(f"{shown(address.url)}: {failure}")
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
        with Part(target, md5=needs_md5(spec), progress=how.progress) as part:
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


def _fill(part: Part, spec: SourceFile, url: str, how: _How) -> None:
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
            log.info("%s: %s; again in %.1f s", shown(url), failure, pause)
            how.wait(pause)


def _request(part: Part, spec: SourceFile, url: str, how: _How) -> None:
    """Send one request and append what comes; returns if the part is then whole."""
    same = part.origin if part.origin and part.origin.url == shown(url) else None
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
        origin = Origin(
            url=shown(url),
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


def _check_status(response: requests.Response, part: Part) -> None:
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


def _take_body(response: requests.Response, part: Part, total: int | None, how: _How) -> None:
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


def _from_tarball(spec: SourceFile, address: Address, target: Path, how: _How) -> None:
    """Write a small file that is a member of a tarball; raises _Failed.

    The tarball stays beside the lock file, for the other members.
    """
    tarball = how.lock.parent / PurePosixPath(urlsplit(address.url).path).name

    def member(file: Path) -> bytes:
        content = read_member(file, address.member, spec.bytes)
        if (found := hashlib.sha256(content).hexdigest()) != spec.sha256:
            raise wrong_file(
                f"the SHA-256 of {address.member} is {found[:12]}… instead of {spec.sha256[:12]}…",
                file,
            )
        return content

    content = None
    if tarball.is_file():
        try:
            content = member(tarball)
        except WrongFile as error:
            digests = hash_file(tarball, md5=False, progress=False)
            log.warning("%s; kept as %s", error, set_aside(tarball, tarball, digests))
    if content is None:
        whole = spec.model_copy(update={"bytes": None, "sha256": None, "md5": None})
        _from_address(whole, address.url, tarball, lambda file, _: member(file), how)
        content = member(tarball)
    write_whole(target, lambda temporary: temporary.write_bytes(content))
