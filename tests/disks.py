"""Disks that are full, read-only or limited, for tests of what is written to them."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A small disk of its own, mounted over a folder."""

    def __init__(self, folder: Path):
        self.folder, self._filler = folder, folder / "filler"

    def mount(self, *options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self.folder)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")

    def fill(self) -> None:
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._filler.unlink()

    def lock(self) -> None:
        self._remount("ro")

    def unlock(self) -> None:
        self._remount("rw")

    def _remount(self, mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True)


@contextlib.contextmanager
def disk_over(folder: Path, size: str = "16m") -> Iterator[Disk]:
    """A disk over a folder, with what the folder holds."""
    disk = Disk(folder)
    with tempfile.TemporaryDirectory() as aside:
        subprocess.run(["cp", "-a", f"{folder}/.", aside], check=True)
        disk.mount(f"size={size}")
        try:
            subprocess.run(["cp", "-a", f"{aside}/.", str(folder)], check=True)
            yield disk
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What is in a folder, hidden files too: a file that is written anew is another one."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "filler"]
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.read_bytes()) for path in files
    }


@contextlib.contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file may grow larger: a fault of the disk that needs no permission to be made."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
