"""Downloads from a server that fails in every way: a verified file or a clear error, never else."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import resource
import shutil
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from http_server import FileServer, Reply, make_zip

from infoseg.data import official
from infoseg.data.official import SourceFile, download
from infoseg.files import InfosegError

#: Seconds to wait for another process, slow to start on a busy machine.
PATIENCE = 120


def random_zip(seed: int, name: str = "pictures/1.png", size: int = 300_000) -> bytes:
    return make_zip({name: random.Random(seed).randbytes(size)})


CONTENT, OTHER = random_zip(0), random_zip(1)
SIZE = len(CONTENT)
FLIPPED = CONTENT[:999] + bytes([CONTENT[999] ^ 1]) + CONTENT[1000:]


def spec_of(*urls: str, known: bool = True) -> SourceFile:
    """A table entry. known: its size and hash are in the table."""
    facts = {"contains": ["pictures/*.png"]}
    if known:
        facts = {"bytes": SIZE, "sha256": hashlib.sha256(CONTENT).hexdigest()}
    return SourceFile(name="a.zip", urls=urls, licence="any", terms="none", ask="Ask us.", **facts)


class Desk:
    """Where a test downloads to; every download leaves the right file or none."""

    def __init__(self, folder: Path, server: FileServer) -> None:
        self.folder, self.server, self.pauses = folder / "downloads", server, []
        self.target, self.part = self.folder / "group/a.zip", self.folder / "group/a.zip.part"

    def get(self, spec: SourceFile) -> None:
        download(spec, self.target)
        assert self.target.read_bytes() == CONTENT and not self.part.exists()

    def fails(self, spec: SourceFile, *words: str) -> None:
        with pytest.raises(InfosegError) as caught:
            self.get(spec)
        assert not self.target.exists()
        assert [word for word in words if word not in str(caught.value)] == []


@pytest.fixture
def desk(tmp_path, monkeypatch):
    sleep = time.sleep
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(official, "TIMEOUT", (5, 0.5))
    with FileServer() as server:
        desk = Desk(tmp_path, server)
        monkeypatch.setattr(time, "sleep", lambda s: (desk.pauses.append(s), sleep(min(s, 0.01))))
        yield desk


LOOP = Reply(302, headers={"Location": "/a"})
RANDOM = random.Random(2).sample(range(SIZE), 6)
BEGUN = Reply(content=OTHER, after=100_000)
PASSING = {
    "none": [],
    **{f"drops at {n}": [Reply(after=n)] for n in (0, 1, 65_536, 100_000, SIZE - 1)},
    **{f"resets at {n}": [Reply(after=n, reset=True)] for n in (0, 1, 100_000, SIZE - 1)},
    "no ranges": [Reply(after=200_000, ranges=False)] * 2,
    **{f"drops at {n}, again": [Reply(after=n), Reply(after=n // 3, reset=True)] for n in RANDOM},
    "drops often": [Reply(after=20_000)] * 14,
    **{f"answers {n} first": [Reply(n), Reply(n)] for n in (408, 425, 429, 500, 502, 503, 504)},
    "redirects": [LOOP],
    "slow": [Reply(pace=0.1, piece=50_000)],
    "stalls": [Reply(after=70_000, hold=True)],
    "stalls before the first byte": [Reply(after=0, hold=True)],
    "no length": [Reply(length=False, ranges=False)],
    "announces more than it sends": [Reply(announce=SIZE, content=CONTENT[:-9])],
    "the file changed": [BEGUN],
    "the file was longer": [Reply(content=random_zip(3, size=900_000), after=SIZE + 9)],
    "starts elsewhere": [Reply(after=100_000), Reply(shift=10)],
    "calls a zip an encoding": [Reply(after=9, headers={"Content-Encoding": "gzip"})] * 2,
}  # fmt: skip
#: Faults after which another address has to serve: pieces that do not fit, another size.
REFUSED = {
    "announces more than it sends", "the file changed", "the file was longer",
    "starts elsewhere",
}  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("fault", PASSING)
def test_the_right_file_results_after_a_passing_fault(desk, fault, known):
    first = desk.server.put("a", CONTENT, *PASSING[fault])
    second = desk.server.put("b", CONTENT)
    desk.get(spec_of(first, second, known=known))
    assert desk.server.starts("b") == [] or fault in REFUSED
    assert desk.server.plans["a"] == [] or fault in REFUSED or "again" in fault, "it was played"


HOSTS = Reply(302, headers={"Location": Path("/etc/hosts").as_uri()})
LASTING = {
    "missing": (Reply(404), "answers 404 Not Found"),
    "busy": (Reply(503), "answers 503"),
    "always drops": (Reply(after=1000, ranges=False), "broke off"),
    "always stalls": (Reply(after=70_000, hold=True, ranges=False), "broke off (ReadTimeoutError)"),
    "shorter": (Reply(announce=SIZE - 1), f"announces {SIZE - 1} bytes instead of {SIZE}"),
    "cut, no length": (
        Reply(content=CONTENT[:-5], length=False, ranges=False),
        f"has {SIZE - 5} bytes instead of {SIZE}",
    ),
    "endless": (
        Reply(content=CONTENT + bytes(200_000), length=False, ranges=False),
        f"does not end after its {SIZE} bytes",
    ),
    "another file": (Reply(content=OTHER), "has sha256"),
    "nobody": (None, "cannot be reached (NewConnectionError)"),
    "a loop": (LOOP, "cannot be reached (TooManyRedirects)"),
    "leads to a file": (HOSTS, "cannot be reached (InvalidSchema)"),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_is_named_and_another_address_serves(desk, fault, monkeypatch):
    monkeypatch.setattr(official, "RETRIES", 1)
    reply, words = LASTING[fault]
    nobody = "http://127.0.0.1:9/a"
    first = desk.server.put("a", CONTENT, usual=reply) if reply else nobody
    desk.fails(spec_of(first), f"{first} {words}", str(desk.target), "Ask us.")
    desk.get(spec_of(first, desk.server.put("b", CONTENT)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>moved</html>", "File is not a zip file"),
        (FLIPPED, "not a whole zip archive (pictures/1.png is damaged)"),
        (random_zip(0, "elsewhere/1.png"), "no member like pictures/*.png"),
    ],
)
def test_a_zip_of_unknown_hash_is_read_to_its_end(desk, content, words):
    desk.fails(spec_of(desk.server.put("a", content), known=False), words)
    assert not desk.part.exists()


def test_a_busy_server_is_obeyed_and_the_progress_shown(desk, capsys):
    busy = Reply(503, headers={"Retry-After": "7"})
    desk.get(spec_of(desk.server.put("a", CONTENT, busy)))
    assert desk.pauses == [7] and len(desk.server.requests) == 2
    assert "a.zip: 100%" in capsys.readouterr().err


def test_what_has_arrived_is_not_requested_again(desk):
    drops = Reply(after=100_000), Reply(after=50_000)
    desk.get(spec_of(desk.server.put("a", CONTENT, *drops)))
    assert desk.server.starts("a") == [None, 100_000, 150_000]


#: What an earlier call left, and where the requests of the next one start.
PARTS = {
    "begun": (CONTENT[:120_000], [120_000]),  # whichever address it came from
    "damaged": (b"damage" + CONTENT[6:120_000], [120_000, None]),
    "whole": (CONTENT, []),
    "another whole": (OTHER, [None]),
    "too long": (CONTENT + b"x", [SIZE + 1, None]),
    "empty": (b"", [None]),
}


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("left", PARTS)
def test_the_right_file_results_whatever_part_an_earlier_call_left(desk, left, ranges):
    part, starts = PARTS[left]
    desk.part.parent.mkdir(parents=True)
    desk.part.write_bytes(part)
    desk.get(spec_of(desk.server.put("a", CONTENT, usual=Reply(ranges=ranges))))
    assert desk.server.starts("a") == (starts if ranges else starts[:1])


def in_another_process(desk: Desk, spec: SourceFile) -> multiprocessing.Process:
    arguments = (spec, desk.target)
    process = multiprocessing.get_context("spawn").Process(target=download, args=arguments)
    process.start()
    assert desk.server.served.wait(PATIENCE)
    return process


def test_killed_in_the_middle_and_run_again(desk):
    spec = spec_of(desk.server.put("a", CONTENT, Reply(after=200_000, hold=True, pace=0.01)))
    process = in_another_process(desk, spec)
    while not (desk.part.exists() and desk.part.stat().st_size >= 131_072):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join(PATIENCE)
    assert process.exitcode and not desk.target.exists()
    desk.get(spec)
    assert desk.server.starts("a")[-1] >= 131_072


def test_two_processes_at_once_download_once(desk):
    spec = spec_of(desk.server.put("a", CONTENT, Reply(after=SIZE - 10, hold=True)))
    process = in_another_process(desk, spec)
    # The first waits at the end of its file; it goes on when the second waits, too.
    second = threading.Thread(target=desk.get, args=(spec,))
    second.start()
    second.join(0.3)
    assert second.is_alive() and len(desk.server.requests) == 1
    desk.server.stopped.set()
    second.join(PATIENCE)
    process.join(PATIENCE)
    assert process.exitcode == 0 and desk.target.read_bytes() == CONTENT
    assert [start and start > 0 for start in desk.server.starts("a")] == [None, True]


@pytest.mark.parametrize("known", [True, False])
def test_a_disk_too_small_is_noticed_before_anything_is_stored(desk, monkeypatch, known):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    spec = spec_of(desk.server.put("a", CONTENT), known=known)
    desk.fails(spec, f"{SIZE:,} bytes more are needed, 1,000 are left", str(desk.target), "Free")
    assert not desk.part.exists()
    if known:  # only what is still to come needs space
        desk.part.write_bytes(CONTENT[:-500])
        desk.get(spec)


def test_a_disk_that_fills_up_on_the_way(desk):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    spec = spec_of(desk.server.put("a", CONTENT))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        desk.fails(spec, "cannot be written (File too large)", str(desk.target))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    desk.get(spec)
    assert desk.server.starts("a") == [None, 200_000]
