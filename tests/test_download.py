"""Downloads from a server that fails in every way: a verified file or a clear error, never else."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from http_server import FileServer, Reply, file_server
from pydantic import ValidationError

from infoseg.data import verify as module
from infoseg.data.download import download
from infoseg.data.sources import Address, SourceFile
from infoseg.data.verify import WrongFile, check_zip
from infoseg.errors import DataError

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
PATIENCE = 120
"""Seconds to wait for another process, which on a busy machine is slow to start."""
Usage = namedtuple("Usage", "total used free")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def spec_of(content: bytes, *urls: str, known: bool = True, **more) -> SourceFile:
    """A table entry; known: its size and hash are in the table."""
    facts = {"bytes": len(content), "sha256": sha256(content)}
    return SourceFile(
        name="a.zip",
        urls=[Address(url=url) for url in urls],
        licence="any",
        terms="none",
        ask="Ask us.",
        **{**(facts if known else {"contains": ["pictures/*.png"]}), **more},
    )


def make_zip(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in (members or {"x": b"?" * 50_000}).items():
            archive.writestr(f"pictures/{name}.png", content)
    return out.getvalue()


class Desk:
    """Where a test downloads to; every download leaves the right file or none."""

    def __init__(self, folder: Path, server: FileServer) -> None:
        self.folder, self.server = folder / "downloads", server
        self.target = self.folder / "group" / "a.zip"
        self.lock = self.folder / "sources.lock"
        self.pauses: list[float] = []

    @property
    def part(self) -> Path:
        return self.target.with_name("a.zip.part")

    def get(self, spec: SourceFile, right: bytes, **more) -> Path:
        settings = {"lock": self.lock, "progress": False, "timeout": (5, 5)} | more
        try:
            return download(spec, self.target, wait=self.pauses.append, **settings)
        finally:
            assert not self.target.exists() or self.holds(right)

    def fails(self, spec: SourceFile, right: bytes, *words: str, **more) -> DataError:
        with pytest.raises(DataError) as caught:
            self.get(spec, right, **more)
        assert not self.target.exists()
        for word in words:
            assert word in str(caught.value)
        return caught.value

    def holds(self, right: bytes) -> bool:
        return self.target.read_bytes() == right

    def aside(self) -> list[str]:
        return [sha256(file.read_bytes()) for file in sorted(self.folder.rglob("*.bad-*"))]

    def names(self) -> set[str]:
        return {file.name for file in self.folder.rglob("*") if file.is_file()}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def desk(tmp_path):
    with file_server() as server:
        yield Desk(tmp_path, server)


# ---- good and bad connections --------------------------------------------------------------------


def test_a_good_server_gives_the_file_and_nothing_else_is_left(desk, capsys):
    spec = spec_of(CONTENT, desk.server.put("a", CONTENT))
    assert desk.get(spec, CONTENT, progress=True) == desk.target
    assert desk.holds(CONTENT)
    assert desk.names() == {"a.zip"} and not desk.pauses
    assert "a.zip: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("reset", [True, False])
def test_connections_dropped_at_random_bytes(tmp_path, ranges, reset):
    """Twelve downloads, each dropped up to four times, at 30 positions and the ends."""
    chance = random.Random(2)
    with file_server() as server:
        for i in range(12):
            drops = sorted(chance.randrange(len(CONTENT)) for _ in range(chance.randint(1, 4)))
            drops += [[0], [1], [len(CONTENT) - 1], []][i % 4]
            url = server.put(f"{i}", CONTENT, *(
                Reply(after=drop, ranges=ranges, reset=reset) for drop in drops
            ))  # fmt: skip
            desk = Desk(tmp_path / f"{i}", server)
            desk.get(spec_of(CONTENT, url), CONTENT)
            assert desk.holds(CONTENT) and desk.names() == {"a.zip"}
            assert len(server.starts(f"{i}")) > 1
    if ranges and not reset:
        assert any(asked.start for asked in server.asked)


def test_what_has_arrived_is_not_asked_for_again(desk):
    url = desk.server.put("a", CONTENT, Reply(after=100_000), Reply(after=50_000))
    desk.get(spec_of(CONTENT, url), CONTENT)
    assert desk.server.starts("a") == [None, 100_000, 150_000]
    assert {a.headers.get("If-Range") for a in desk.server.asked[1:]} == {
        f'"{sha256(CONTENT)[:16]}"'
    }


def test_progress_resets_the_count_of_failures(desk):
    url = desk.server.put("a", CONTENT, *[Reply(after=20_000)] * 14)
    desk.get(spec_of(CONTENT, url), CONTENT, retries=1)
    assert len(desk.pauses) == 14 and max(desk.pauses) <= 1


def test_an_address_is_given_up_when_nothing_new_comes(desk):
    url = desk.server.put("a", CONTENT, usual=Reply(after=1000, ranges=False))
    error = desk.fails(spec_of(CONTENT, url), CONTENT, url, "Ask us.", retries=4)
    assert "tried 5 times" in str(error)
    # Twice as long every time, up to half of it left to chance.
    assert len(desk.pauses) == 4
    assert all(0.5 * 2**i <= pause <= 2**i for i, pause in enumerate(desk.pauses))
    assert desk.part.stat().st_size == 1000  # kept


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_servers_in_trouble_are_asked_again(desk, status):
    busy = Reply(status, headers={"Retry-After": "7"})
    url = desk.server.put("a", CONTENT, Reply(status), busy)
    desk.get(spec_of(CONTENT, url), CONTENT)
    assert desk.pauses[0] <= 1 and desk.pauses[1] == 7


def test_a_slow_server_is_waited_for(desk):
    url = desk.server.put("a", CONTENT, Reply(pace=0.1, piece=25_000))
    desk.get(spec_of(CONTENT, url), CONTENT, timeout=(5, 1))
    assert len(desk.server.asked) == 1


def test_a_stalled_server_is_not(desk):
    url = desk.server.put("a", CONTENT, Reply(after=70_000, hold=True))
    desk.get(spec_of(CONTENT, url), CONTENT, timeout=(5, 0.2))
    assert len(desk.server.asked) == 2 and desk.server.starts("a")[1] > 0
    url = desk.server.put("b", CONTENT, usual=Reply(after=70_000, hold=True, ranges=False))
    desk.target.unlink()
    desk.fails(spec_of(CONTENT, url), CONTENT, "nothing was sent", timeout=(5, 0.1), retries=1)


def test_nobody_at_the_first_address(desk):
    good = desk.server.put("a", CONTENT)
    desk.get(spec_of(CONTENT, "http://127.0.0.1:9/a", good), CONTENT, retries=1)
    assert len(desk.pauses) == 1


# ---- other answers -------------------------------------------------------------------------------


def test_missing_at_the_first_address(desk, caplog):
    url = desk.server.put("a", CONTENT, usual=Reply(404))
    mirror = desk.server.put("b", CONTENT)
    desk.get(spec_of(CONTENT, url, mirror), CONTENT)
    assert not desk.pauses and "404" in caplog.text
    desk.target.unlink()
    desk.fails(spec_of(CONTENT, url, f"{url}x"), CONTENT, f"{url}: answers 404 Not Found", "a.zip")
    assert not desk.names()


@pytest.mark.parametrize("more", [-1, 5, 100_000])
def test_another_length_is_refused_before_anything_is_taken(desk, more):
    url = desk.server.put("a", CONTENT, usual=Reply(announce=len(CONTENT) + more))
    desk.fails(spec_of(CONTENT, url), CONTENT, f"{len(CONTENT) + more} bytes instead of 300000")
    assert not desk.names() and len(desk.server.asked) == 1
    desk.get(spec_of(CONTENT, url, desk.server.put("b", CONTENT)), CONTENT)


def test_a_length_longer_than_what_is_sent(desk):
    content = make_zip()
    url = desk.server.put("a", content, usual=Reply(announce=len(content) + 10))
    spec = spec_of(content, url, known=False)
    desk.fails(spec, content, "tried 6 times")
    assert len(desk.server.asked) < 20
    desk.get(spec_of(content, desk.server.put("a", content), known=False), content)


@pytest.mark.parametrize("sent", [CONTENT[:-1000], CONTENT + b"x"])
def test_no_length_announced_and_another_sent(desk, sent):
    url = desk.server.put("a", sent, usual=Reply(length=False, ranges=False))
    desk.fails(spec_of(CONTENT, url), CONTENT)
    assert not desk.aside()
    desk.get(spec_of(CONTENT, desk.server.put("b", CONTENT, Reply(length=False))), CONTENT)


def test_a_wrong_file_is_kept_aside_and_the_mirror_asked(desk, caplog):
    bad, good = desk.server.put("a", OTHER), desk.server.put("b", CONTENT)
    desk.get(spec_of(CONTENT, bad, good), CONTENT)
    start = sha256(OTHER)[:8]
    assert desk.names() == {"a.zip", f"a.zip.bad-{start}"} and desk.aside() == [sha256(OTHER)]
    assert f"kept as a.zip.bad-{start}" in caplog.text
    assert desk.server.starts("a") == [None]  # once is enough
    desk.target.unlink()
    desk.fails(spec_of(CONTENT, bad), CONTENT, "SHA-256", start)
    assert desk.aside() == [sha256(OTHER)]


def test_md5_alone_is_verified(desk):
    md5 = hashlib.md5(CONTENT).hexdigest()
    urls = desk.server.put("a", OTHER), desk.server.put("b", CONTENT, Reply(after=5))
    desk.get(spec_of(CONTENT, *urls, md5=md5, sha256=None), CONTENT)
    assert desk.aside() == [sha256(OTHER)]


def test_a_server_without_ranges_starts_over(desk):
    url = desk.server.put("a", CONTENT, Reply(after=200_000, ranges=False), Reply(ranges=False))
    desk.get(spec_of(CONTENT, url), CONTENT)
    assert desk.server.starts("a") == [None, 200_000]


def test_a_file_that_changed_between_two_parts(desk):
    # Without hashes, so that the tag alone can tell.
    old, new = make_zip(x=b"a" * 200_000), make_zip(x=b"b" * 200_000)
    url = desk.server.put("a", new, Reply(content=old, after=100_000))
    desk.get(spec_of(new, url, known=False), new)
    assert desk.server.starts("a") == [None, 100_000]


def test_a_server_that_ignores_if_range_is_not_believed(desk):
    old, new = make_zip(x=b"a" * 200_000), make_zip(x=b"b" * 200_000)
    stamp = {"Last-Modified": "Thu, 01 Feb 2018 00:00:00 GMT"}  # the same, so that a part is sent
    first = Reply(content=old, after=100_000, etag="", headers=stamp)
    url = desk.server.put("a", new, first, Reply(etag="", headers=stamp))
    # Neither side can tell, but the checksums do; then it is fetched once more, whole.
    desk.get(spec_of(new, url, known=False), new)
    assert desk.server.starts("a") == [None, 100_000, None] and len(desk.aside()) == 1
    desk.target.unlink()
    tagged = Reply(etag='"2"')
    first = replace(first, etag='"1"', after=90_000)
    careless = replace(tagged, headers={"Last-Modified": '"1"'})  # takes the old tag for its own
    url = desk.server.put("b", new, first, careless, usual=tagged)
    desk.get(spec_of(new, url, known=False), new)
    assert desk.server.starts("b") == [None, 90_000, None] and len(desk.aside()) == 1


def test_without_a_tag_or_hash_parts_are_not_put_together(desk):
    content = make_zip(x=b"a" * 200_000)
    for name, tag in (("a", ""), ("b", 'W/"weak"')):
        url = desk.server.put(name, content, Reply(after=100_000, etag=tag))
        desk.get(spec_of(content, url, known=False), content)
        assert desk.server.starts(name) == [None, None]
        desk.target.unlink()
    stamp = {"Last-Modified": "Thu, 01 Feb 2018 00:00:00 GMT"}
    dated = Reply(etag="", headers=stamp)
    url = desk.server.put("c", content, Reply(after=100_000, etag="", headers=stamp), usual=dated)
    desk.get(spec_of(content, url, known=False), content)
    assert desk.server.starts("c") == [None, 100_000]


def test_a_part_that_is_no_part_of_the_file(desk):
    # 416: longer than the file by now; then one that begins elsewhere than asked for.
    old, new = make_zip(x=b"a" * 200_000), make_zip(x=b"b" * 10_000)
    tag = '"1"'
    url = desk.server.put("a", new, Reply(content=old, after=100_000, etag=tag), Reply(etag=tag))
    desk.get(spec_of(new, url, known=False), new)
    assert desk.server.starts("a") == [None, 100_000, None]
    url = desk.server.put("b", CONTENT, Reply(after=100_000), Reply(shift=10))
    desk.target.unlink()
    desk.get(spec_of(CONTENT, url), CONTENT)
    assert desk.server.starts("b") == [None, 100_000, None]


def test_redirects_are_followed_but_not_for_ever_and_only_to_http(desk):
    good = desk.server.put("a", CONTENT)
    to = desk.server.put("to", b"", usual=Reply(302, headers={"Location": good}))
    desk.get(spec_of(CONTENT, to), CONTENT)
    desk.target.unlink()
    loop = desk.server.put("loop", b"", usual=Reply(302, headers={"Location": "/loop"}))
    secret = desk.folder / "secret"
    secret.write_bytes(CONTENT)
    file = desk.server.put("file", b"", usual=Reply(302, headers={"Location": secret.as_uri()}))
    desk.fails(spec_of(CONTENT, loop, file), CONTENT, "too often", "not http")
    assert len(desk.server.starts("loop")) <= 6 and not desk.pauses


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://a/b", "http://me:pw@a/b", "a/b"])
def test_only_plain_http_addresses_are_in_a_table(url):
    with pytest.raises(ValidationError, match="http"):
        spec_of(CONTENT, url)


def test_secrets_in_an_address_are_not_told(desk, caplog):
    caplog.set_level(logging.DEBUG, "infoseg")
    url = desk.server.put("a", CONTENT, usual=Reply(404))
    urls = f"{url}?key=hunter2", "http://127.0.0.1:9/a?key=hunter2"
    error = desk.fails(spec_of(CONTENT, *urls), CONTENT, url, retries=1)
    assert "hunter2" not in f"{error} {caplog.text}"
    session = requests.Session()
    session.auth = ("me", "hunter2")
    error = desk.fails(spec_of(CONTENT, *urls), CONTENT, session=session, retries=0)
    assert (
        "hunter2" not in f"{error} {caplog.text}" and desk.server.asked[-1].headers["Authorization"]
    )


# ---- parts that an earlier call left -------------------------------------------------------------


def leave_part(desk: Desk, size: int = 120_000) -> None:
    url = desk.server.put("a", CONTENT, Reply(after=size), usual=Reply(500))
    desk.fails(spec_of(CONTENT, url), CONTENT, "500", retries=1)
    assert desk.part.stat().st_size == size


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(desk):
    leave_part(desk)
    desk.get(spec_of(CONTENT, desk.server.put("a", CONTENT)), CONTENT)
    assert desk.server.starts("a")[-1] == 120_000
    assert desk.names() == {"a.zip"}


def test_another_address_goes_on_where_the_hash_is_known(desk):
    leave_part(desk)
    desk.get(spec_of(CONTENT, desk.server.put("b", CONTENT)), CONTENT)
    assert desk.server.starts("b") == [120_000]
    assert desk.server.asked[-1].headers.get("If-Range") is None


@pytest.mark.parametrize("ranges", [True, False])
def test_a_damaged_part_is_set_aside_and_the_file_fetched_whole(desk, ranges):
    leave_part(desk)
    with desk.part.open("r+b") as file:
        file.write(b"damage")
    url = desk.server.put("b", CONTENT, usual=Reply(ranges=ranges))
    desk.get(spec_of(CONTENT, url), CONTENT)
    # Where the server has no parts the damaged one is not used at all.
    assert desk.aside() == ([sha256(b"damage" + CONTENT[6:])] if ranges else [])
    assert desk.server.starts("b") == ([120_000, None] if ranges else [120_000])


def test_a_part_that_is_whole_or_too_long(desk):
    leave_part(desk)
    desk.part.write_bytes(CONTENT)  # killed before the file got its name
    asked = len(desk.server.asked)
    desk.get(spec_of(CONTENT, desk.server.put("a", CONTENT)), CONTENT)
    assert len(desk.server.asked) == asked
    desk.target.unlink()
    desk.part.write_bytes(CONTENT + b"x")
    desk.get(spec_of(CONTENT, desk.server.put("a", CONTENT)), CONTENT)
    assert desk.server.starts("a")[-1] is None


SCRIPT = """
import json, sys
from pathlib import Path
from infoseg.data.download import download
from infoseg.data.sources import SourceFile
spec, target, lock = json.loads(sys.argv[1])
download(SourceFile.model_validate(spec), Path(target), lock=Path(lock), progress=False)
"""


def in_another_process(desk: Desk, spec: SourceFile) -> subprocess.Popen:
    arguments = json.dumps([spec.model_dump(mode="json"), str(desk.target), str(desk.lock)])
    return subprocess.Popen([sys.executable, "-c", SCRIPT, arguments], stderr=subprocess.PIPE)


def test_killed_in_the_middle_and_run_again(desk):
    spec = spec_of(CONTENT, desk.server.put("a", CONTENT, Reply(after=200_000, hold=True)))
    process = in_another_process(desk, spec)
    assert desk.server.served.wait(PATIENCE)
    while not (desk.part.exists() and desk.part.stat().st_size >= 131_072):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not desk.target.exists()
    desk.get(spec, CONTENT)
    assert desk.server.starts("a")[-1] >= 131_072 and desk.names() == {"a.zip"}


def test_two_processes_at_once_download_once(desk, caplog):
    gate = Reply(after=len(CONTENT) - 10, hold=True)
    spec = spec_of(CONTENT, desk.server.put("a", CONTENT, gate))
    process = in_another_process(desk, spec)
    assert desk.server.served.wait(PATIENCE)
    # The first is at the end of its file and waits; it goes on when the second is known to wait.
    here = threading.Thread(target=desk.get, args=(spec, CONTENT))
    here.start()
    while "another process" not in caplog.text:
        assert here.is_alive()
        time.sleep(0.01)
    desk.server.stopped.set()
    here.join(PATIENCE)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told.decode()
    assert desk.holds(CONTENT) and desk.names() == {"a.zip"}
    assert len(desk.server.asked) == 2 and desk.server.asked[1].start > 0  # both by the first


def test_a_part_that_its_process_has_renamed_is_not_written_to(desk, caplog):
    desk.part.parent.mkdir(parents=True)
    spec = spec_of(CONTENT, desk.server.put("a", CONTENT))
    with desk.part.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        here = threading.Thread(target=desk.get, args=(spec, CONTENT))
        here.start()
        while "another process" not in caplog.text:
            assert here.is_alive()
            time.sleep(0.01)
        renamed = desk.part.rename(desk.part.with_name("renamed"))
    here.join(PATIENCE)
    assert desk.holds(CONTENT) and renamed.read_bytes() == b""


# ---- disk and files that are there ---------------------------------------------------------------


def test_a_disk_too_small_is_noticed_before_anything_is_fetched(desk, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 10**6 - 1000, 1000))
    url = desk.server.put("a", CONTENT)
    desk.fails(spec_of(CONTENT, url), CONTENT, "needs 300kB", "1.00kB left")
    assert not desk.server.asked and not desk.names()
    content = make_zip()
    desk.fails(spec_of(content, desk.server.put("b", content), known=False), content, "needs")
    assert len(desk.server.asked) == 1 and not desk.names()


def test_only_what_is_still_to_come_needs_space(desk, monkeypatch):
    leave_part(desk, 299_500)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 10**6 - 1000, 1000))
    desk.get(spec_of(CONTENT, desk.server.put("a", CONTENT)), CONTENT)


def test_a_folder_that_cannot_be_written(desk):
    desk.folder.parent.mkdir(exist_ok=True)
    desk.folder.write_text("a file where the folder should be")
    spec = spec_of(CONTENT, desk.server.put("a", CONTENT))
    with pytest.raises(DataError, match="cannot be written"):
        download(spec, desk.target, lock=desk.lock, progress=False)


def test_a_file_that_is_there_is_not_downloaded_again(desk):
    desk.target.parent.mkdir(parents=True)
    desk.target.write_bytes(CONTENT)
    desk.get(spec_of(CONTENT, desk.server.put("a", CONTENT)), CONTENT)
    assert not desk.server.asked


def test_another_file_in_its_place_is_kept_aside(desk, caplog):
    desk.target.parent.mkdir(parents=True)
    desk.target.write_bytes(OTHER)
    with pytest.raises(WrongFile, match="SHA-256"):
        download(spec_of(CONTENT), desk.target, lock=desk.lock, progress=False)
    assert desk.holds(OTHER)  # no address: nothing to replace it with
    desk.get(spec_of(CONTENT, desk.server.put("a", CONTENT)), CONTENT)
    assert desk.aside() == [sha256(OTHER)] and "kept as" in caplog.text


def test_no_address(desk):
    desk.fails(spec_of(CONTENT), CONTENT, "no address", "Ask us.")


# ---- files of unknown hash -----------------------------------------------------------------------


def test_the_first_file_of_unknown_hash_is_pinned(desk, caplog):
    content = make_zip()
    url = desk.server.put("a", content, Reply(after=100))
    desk.get(spec_of(content, f"{url}?key=hunter2", known=False), content)
    pinned = json.loads(desk.lock.read_text())["a.zip"]
    assert (
        pinned["bytes"] == len(content)
        and pinned["sha256"] == sha256(content)
        and pinned["url"] == url
    )
    assert len(pinned["date"]) == 10
    assert sha256(content) in caplog.text and str(desk.lock) in caplog.text
    assert desk.names() == {"a.zip", "sources.lock"}
    desk.target.unlink()
    before = desk.lock.read_bytes()
    desk.get(spec_of(content, url, known=False), content)
    assert desk.lock.read_bytes() == before


def test_a_later_download_must_match_the_lock_file(desk):
    first, second = make_zip(x=b"1"), make_zip(x=b"2")
    desk.get(spec_of(first, desk.server.put("a", first), known=False), first)
    desk.target.unlink()
    url = desk.server.put("a", second)
    desk.fails(spec_of(first, url, known=False), first, str(desk.lock), "instead of")
    assert desk.aside() == [sha256(second)]
    desk.lock.unlink()
    desk.get(spec_of(second, url, known=False), second)


def test_a_damaged_lock_file_stops_the_download(desk):
    content = make_zip()
    desk.folder.mkdir()
    for text in ("{", '{"a.zip": {"sha256": "x"}}', "[]"):
        desk.lock.write_text(text)
        url = desk.server.put("a", content)
        desk.fails(spec_of(content, url, known=False), content, str(desk.lock), "is damaged")
        assert desk.lock.read_text() == text


def test_the_first_of_two_processes_to_pin_a_file_decides(desk, monkeypatch):
    first, second = make_zip(x=b"1"), make_zip(x=b"2")

    def check_zip(*_):  # meanwhile the other process is done
        entry = {"bytes": len(first), "sha256": sha256(first), "url": "", "date": "2021-09-28"}
        desk.lock.write_text(json.dumps({"a.zip": entry}))

    monkeypatch.setattr(module, "check_zip", check_zip)
    url = desk.server.put("a", second)
    desk.fails(spec_of(first, url, known=False), first, "2021-09-28", str(desk.lock))


def test_files_pinned_at_the_same_time_are_all_in_the_lock_file(desk):
    content = make_zip()
    url = desk.server.put("a", content)
    specs = [
        spec_of(content, url, known=False).model_copy(update={"name": f"{i}"}) for i in range(8)
    ]
    threads = [
        threading.Thread(
            target=download,
            args=(spec, desk.folder / spec.name),
            kwargs={"lock": desk.lock, "progress": False},
        )
        for spec in specs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(desk.lock.read_text())) == [spec.name for spec in specs]


@pytest.mark.parametrize("what", ["page", "cut", "flipped", "other"])
def test_what_is_no_whole_zip_is_not_pinned(desk, what):
    good = make_zip()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("elsewhere/x.png", b"x")
    bad = {
        "page": b"<html>moved</html>",
        "cut": good[:-5],
        "flipped": bytes(flipped),
        "other": out.getvalue(),
    }[what]
    desk.fails(spec_of(good, desk.server.put("a", bad), known=False), good, "kept as")
    assert desk.aside() == [sha256(bad)] and not desk.lock.exists()


def test_check_zip_names_the_pattern(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip())
    check_zip(tmp_path / "a.zip", ["*pictures/*.PNG"])
    with pytest.raises(WrongFile, match=r"no member like train/\*"):
        check_zip(tmp_path / "a.zip", ["*.png", "train/*"])


# ---- members of tarballs -------------------------------------------------------------------------

LIST = b"".join(b"%012d\n" % i for i in range(1000))


def make_tarball(*members: tuple[str, bytes | str]) -> bytes:
    """A member's content, or as a string the target of a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


NAME = "curated/train/a.txt"
GOOD = make_tarball(("COCO/curated/val/a.txt", b"?"), (f"COCO/x/{NAME}", LIST), ("z", b"z" * 5000))


def member_spec(url: str, **more) -> SourceFile:
    spec = spec_of(LIST, **more)
    return spec.model_copy(update={"urls": (*spec.urls, Address(url=url, member=NAME))})


def test_a_member_of_a_tarball(desk):
    url = desk.server.put("lists.tar.gz", GOOD, Reply(after=100))
    desk.get(member_spec(url), LIST)
    assert desk.names() == {"a.zip", "lists.tar.gz"}
    # The tarball stays for the other members.
    desk.target.unlink()
    asked = len(desk.server.asked)
    desk.get(member_spec(url), LIST)
    assert len(desk.server.asked) == asked


def test_a_damaged_tarball_that_is_there_is_fetched_again(desk):
    desk.folder.mkdir()
    (desk.folder / "lists.tar.gz").write_bytes(GOOD[:-20])
    desk.get(member_spec(desk.server.put("lists.tar.gz", GOOD)), LIST)
    assert desk.aside() == [sha256(GOOD[:-20])]


BAD_TARBALLS = {
    "cut at its end": (GOOD[:-20], "not a whole tarball"),
    "cut in two": (GOOD[: len(GOOD) // 2], "not a whole tarball"),
    "checksum": (GOOD[:-8] + bytes(4) + GOOD[-4:], "not a whole tarball"),
    "not compressed": (b"no tarball", "not a whole tarball"),
    "compressed": (gzip.compress(b"no tarball"), "not a whole tarball"),
    "empty": (make_tarball(), "no regular file"),
    "another split": (make_tarball(("curated/val/a.txt", LIST)), "no regular file"),
    "another folder": (make_tarball(("xcurated/train/a.txt", LIST)), "no regular file"),
    "link": (make_tarball((NAME, "/etc/hosts")), "no regular file"),
    "leads out": (make_tarball((f"../../{NAME}", LIST)), "no regular file"),
    "twice": (make_tarball((NAME, LIST), (f"again/{NAME}", LIST)), "two members"),
    "size": (make_tarball((NAME, LIST + b"x")), "13001 bytes instead of 13000"),
    "content": (make_tarball((NAME, b"x" * len(LIST))), "SHA-256"),
}


@pytest.mark.parametrize(("tarball", "word"), BAD_TARBALLS.values(), ids=BAD_TARBALLS.keys())
def test_a_tarball_without_the_right_member(desk, tarball, word):
    url = desk.server.put("lists.tar.gz", tarball)
    desk.fails(member_spec(url), LIST, word, "kept as lists.tar.gz.bad-")
    assert desk.aside() == [sha256(tarball)]
    assert not (desk.folder / "lists.tar.gz").exists()


def test_the_tarball_comes_after_the_plain_file(desk):
    plain = desk.server.put("plain", LIST, usual=Reply(404))
    spec = spec_of(LIST, plain)
    member = Address(url=desk.server.put("lists.tar.gz", GOOD), member=NAME)
    desk.get(spec.model_copy(update={"urls": (*spec.urls, member)}), LIST)
    assert [asked.path for asked in desk.server.asked] == ["plain", "lists.tar.gz"]


def test_a_tarball_stays_one_where_the_server_calls_it_an_encoding(desk):
    encoded = Reply(headers={"Content-Encoding": "x-gzip"}, after=300)
    usual = Reply(headers={"Content-Encoding": "x-gzip"})
    desk.get(member_spec(desk.server.put("lists.tar.gz", GOOD, encoded, usual=usual)), LIST)
    assert os.path.getsize(desk.folder / "lists.tar.gz") == len(GOOD)
