"""Exceptions that end a command with one readable sentence instead of a traceback."""

from __future__ import annotations

import errno
from importlib.resources.abc import Traversable
from pathlib import Path


def visible(text: str) -> str:
    """A text for the terminal, with what would move the cursor or change colours written out.

    Names of files and of an archive's members may hold any character.
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


class InfosegError(Exception):
    """Base of every error this package raises on purpose."""

    def __str__(self) -> str:
        return visible(super().__str__())


class DataError(InfosegError):
    """A file of a data set is missing, unreadable or says something impossible.

    problem: what is wrong, without the file's name; kept apart because ``meta.json`` lists it
        beside a path relative to the raw folder, never an absolute one.
    file: the file at fault, or None where no single file is. For a member of an archive it reads
        ``…/train2017.zip/train2017/000000000009.jpg``.
    advice: what the reader can do about it, as a sentence.
    """

    def __init__(
        self, problem: str, *, file: Traversable | str | None = None, advice: str = ""
    ) -> None:
        self.problem = problem
        self.file = None if file is None else Path(str(file))
        self.advice = advice
        text = problem if file is None else f"{file}: {problem}"
        super().__init__(f"{text}. {advice}".rstrip() if advice else text)


#: What to do when the system does not let a file be written.
_STORAGE_ADVICE = {
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


class StorageError(InfosegError, OSError):
    """A file or folder cannot be written: a full or read-only disk, no permission, and the like.

    Made like every OSError of errno, the system's words and the file; it still is one, for callers
    that can do without the file. Not a DataError: a full disk is no reason to leave out a picture.
    """

    #: Those that only writing can give.
    SURE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
    KNOWN = frozenset(_STORAGE_ADVICE)

    def __str__(self) -> str:
        return visible(
            f"{self.filename}: cannot be written ({self.strerror}). Nothing that was there before "
            f"was touched. {_STORAGE_ADVICE.get(self.errno, 'See to it and run again')}"
        )


class ParamsError(InfosegError):
    """A parameter is unknown, missing, of the wrong type or contradicts another."""


class TrainingError(InfosegError):
    """A training that cannot go on, for instance because its loss is no longer finite."""


def is_out_of_memory(name: str, text: str) -> bool:
    """Whether an exception of a type's name and a text says that memory ran out, a GPU's too."""
    return name in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in text


def memory_advice() -> str:
    return (
        "That is how it ends when memory runs out: run fewer side by side (`make repro JOBS=1`, "
        "`--jobs 1`), or choose a smaller optimiser.batch"
    )
