"""Errors that end a command with one sentence; files that are written whole or not at all.

Imports nothing heavy.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any


def visible(text: str) -> str:
    """A text for the terminal, with what would move the cursor or change colours written out.

    Names of files and of an archive's members may hold any character.
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


# ---- errors --------------------------------------------------------------------------------------


class InfosegError(Exception):
    """Base of every error this package raises on purpose."""

    def __str__(self) -> str:
        return visible(super().__str__())


class ParamsError(InfosegError):
    """A parameter is unknown, missing, of the wrong type or contradicts another."""


class TrainingError(InfosegError):
    """A training that cannot go on, for instance because its loss is no longer finite."""


class DataError(InfosegError):
    """A file of a data set is missing, unreadable or says something impossible.

    problem: what is wrong, without the file's name; ``meta.json`` lists it beside a relative path.
    file: the file at fault, or None; `…/train2017.zip/train2017/000000000009.jpg` in an archive.
    advice: what the reader can do about it, as a sentence.
    """

    def __init__(
        self, problem: str, *, file: Traversable | str | None = None, advice: str = ""
    ) -> None:
        self.problem, self.advice = problem, advice
        self.file = None if file is None else Path(str(file))
        text = problem if file is None else f"{file}: {problem}"
        super().__init__(f"{text}. {advice}" if advice else text)


#: What to do when the system does not let a file be written.
STORAGE_ADVICE = {
    errno.ENOSPC: "Free some space there and run again",
    errno.EDQUOT: "Free some space or have your quota raised, and run again",
    errno.EFBIG: "Raise the limit on the size of files (`ulimit -f`), or choose another disk",
    errno.EROFS: "Remount that disk for writing, or work in a folder on another one",
    errno.EACCES: "Check who may write there, or work in another folder",
    errno.EPERM: "Check who may write there, or work in another folder",
    errno.EIO: "The disk itself reports a fault: see to it before running again",
    errno.ESTALE: "The network drive is gone: mount it again and run again",
    errno.ENOTDIR: "Move away the file that is where a folder should be",
    errno.EEXIST: "Move away the file that is where a folder should be",
    errno.EISDIR: "Move away the folder that is where the file should be",
    errno.ENAMETOOLONG: "Work in a folder with a shorter name",
}
#: Those that only writing gives, whatever file the system names: of a copy it is the source.
ONLY_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class StorageError(InfosegError, OSError):
    """A file or folder cannot be written: a full or read-only disk, no permission, and the like.

    Made like every OSError of errno, the system's words and the file. Not a DataError: a full disk
    is no reason to leave out a picture.
    """

    def __str__(self) -> str:
        return visible(
            f"{self.filename}: cannot be written ({self.strerror}). Nothing that was there before "
            f"was touched. {STORAGE_ADVICE[self.errno]}"
        )


def is_out_of_memory(name: str, text: str) -> bool:
    """Whether an exception of a type's name and a text says that memory ran out, a GPU's too."""
    return name in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in text


def memory_advice() -> str:
    """What to do when memory runs out, as the end of a sentence."""
    return (
        "That is how it ends when memory runs out: run fewer side by side (`make repro JOBS=1`, "
        "`--jobs 1`), or choose a smaller optimiser.batch"
    )


# ---- the repository ------------------------------------------------------------------------------


def find_root(start: Path | None = None) -> Path:
    """The repository: the nearest folder at or above `start` with `params.yaml`."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "params.yaml").exists():
            return folder
    raise InfosegError(
        f"{start} is not inside the repository (no params.yaml above it): go there first"
    )


def in_clone(root: Path) -> bool:
    """Whether a folder is a clone of this repository: other projects have a params.yaml, too."""
    return (root / "params.yaml").exists() and (root / "infoseg" / "conf").is_dir()


# ---- reading and writing -------------------------------------------------------------------------


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing `path`, or below it, into a StorageError.

    Errors about anything else pass: a file that is read meanwhile, a format that cannot hold what
    it is given.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        number, file = getattr(error, "errno", None), getattr(error, "filename", None)
        if reason := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors, from Rust
            number = int(reason[1])
        elif type(error) is OSError and number is None:  # Pillow gives no reason
            number = None if shutil.disk_usage(path.parent).free else errno.ENOSPC
        place = path if file is None else Path(os.fsdecode(file))
        concerned = place.is_relative_to(path.parent) or path.is_relative_to(place)
        if number in ONLY_WRITING or (number in STORAGE_ADVICE and concerned):
            raise StorageError(number, os.strerror(number), str(path)) from None
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises StorageError."""
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: all of it or nothing.

    Raises StorageError where the system does not let it be written, with nothing left behind.
    """
    temporary = path.with_name(f".{path.name[-60:]}.{os.getpid()}.tmp")  # a name has 255 bytes
    try:
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make sure that a rename in a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, stages: str) -> Any:
    """Raises DataError naming the stages that make the file when it is not there or not whole."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        problem = "not found" if missing else f"is not whole ({error})"
        raise DataError(problem, file=path, advice=f"Run {stages}") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON with one key a line. Raises ValueError for a NaN, which JSON has not."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write_text(text))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of possibly different columns; missing and None values are left empty."""
    text, columns = io.StringIO(), list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, lambda file: file.write_text(text.getvalue(), "utf-8", newline=""))
