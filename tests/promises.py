"""Pages of docs/ that say what a user is told: their tables, held against what really is said."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HEAD = "| {} | The message says | What to do |\n|---|---|---|\n"
FAULTS = ROOT / "docs/troubleshooting.md"
#: What heads the first column of its tables.
FIRST = ("At first", "What happened")


def promised(page: Path, first: str) -> dict[str, tuple[str, str]]:
    """(message, advice) patterns of a page's tables, by their first column, headed `first`."""
    rows = {}
    for table in page.read_text(encoding="utf-8").split(HEAD.format(first))[1:]:
        for line in table.split("\n\n")[0].splitlines():
            wrong, message, advice = (cell.strip() for cell in line.strip("|").split(" | "))
            assert wrong not in rows, f"{wrong} stands twice in {page.name}"
            rows[wrong] = _code(message), advice
    return rows


def troubles() -> dict[str, tuple[str, str]]:
    """All rows of docs/troubleshooting.md."""
    return {name: row for first in FIRST for name, row in promised(FAULTS, first).items()}


def _code(cell: str) -> str:
    """What a code span holds; one that holds backticks itself is set in two, and spaces."""
    for mark in ("`` ", "`"):
        if cell.startswith(mark):
            return cell.removeprefix(mark).removesuffix(mark[::-1])
    return cell


def matches(pattern: str, said: str) -> re.Match[str] | None:
    """Whether a text is a pattern's, in which an ellipsis stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), said, re.DOTALL)


class Told:
    """told(fault, output): the line of an output that is the page's, which it must have."""

    def __init__(self) -> None:
        self.faults: set[str] = set()

    def __call__(self, fault: str, output: str) -> str:
        message, advice = troubles()[fault]
        assert advice, f"{fault}: the page does not say what to do"
        lines = [line for line in output.splitlines() if matches(message, line)]
        assert lines, f"docs: {message}\nsaid: {output}"
        self.faults.add(fault)
        return lines[0]


#: Rows of docs/troubleshooting.md that some test produces.
TESTED: set[str] = set()


def faults(*names: str) -> Callable:
    """Mark a test that produces these rows of docs/troubleshooting.md, and has to.

    It is given `told`. Of several, a parametrised test produces the one its argument `fault` names.
    """
    TESTED.update(names)

    def mark(test: Callable) -> Callable:
        @functools.wraps(test)
        def checked(**arguments: Any) -> None:
            told = Told()
            test(told=told, **arguments)
            asked = {arguments["fault"]} if "fault" in arguments else set(names)
            assert told.faults == asked

        asks = inspect.signature(test)
        fixtures = [argument for name, argument in asks.parameters.items() if name != "told"]
        checked.__signature__ = asks.replace(parameters=fixtures)
        return checked

    return mark
