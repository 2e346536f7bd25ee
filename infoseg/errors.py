"""Exceptions that end a command with one readable sentence instead of a traceback."""

from __future__ import annotations

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

    def __init__(self, text: str = "") -> None:
        super().__init__(visible(text))


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


class ParamsError(InfosegError):
    """A parameter is unknown, missing, of the wrong type or contradicts another."""


class TrainingError(InfosegError):
    """A training that cannot go on, for instance because its loss is no longer finite."""
