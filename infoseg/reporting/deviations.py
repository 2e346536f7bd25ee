"""What differs from the paper, read from docs/deviations.md, so that it is written in one place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from infoseg.errors import DataError

HEADING = "What the paper leaves open, and what was chosen"
COLUMNS = ["what", "paper", "here", "why"]


class Deviation(NamedTuple):
    """What is concerned, what the paper says, what is done here and why.

    Text may hold `code` in backticks, no other markup.
    """

    what: str
    paper: str
    here: str
    why: str


def read_deviations(page: Path) -> list[Deviation]:
    """Every row of the tables below the page's heading `HEADING`, in their order.

    Raises DataError when the file, the heading or a table below it cannot be found, or when a table
    has other columns than `COLUMNS`, because then a row would be left out silently.
    """
    advice = f"Keep tables of {' | '.join(COLUMNS)} below the heading '{HEADING}'"
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError("cannot be read", file=page, advice=advice) from error
    section = re.search(rf"^## {re.escape(HEADING)}\s*$(.*?)(?=^## |\Z)", text, re.M | re.S)
    if section is None:
        raise DataError(f"has no heading '{HEADING}'", file=page, advice=advice)
    # A table: a line of titles, a line of rules, lines of cells.
    tables = re.findall(r"^(\|.*\|)[ ]*\n\|[ :|-]+\|[ ]*\n((?:\|.*\n?)+)", section[1], re.M)
    found = []
    for head, body in tables:
        if _cells(head) != COLUMNS:
            raise DataError(f"has a table of {', '.join(_cells(head))}", file=page, advice=advice)
        for line in body.strip().splitlines():
            cells = _cells(line)
            if len(cells) != len(COLUMNS):
                raise DataError(f"has a row of {len(cells)} cells: {cells[0]}", file=page)
            cells[0] = cells[0][:1].upper() + cells[0][1:]
            found.append(Deviation(*cells))
    if not found:
        raise DataError(f"has no table below '{HEADING}'", file=page, advice=advice)
    return found


def _cells(line: str) -> list[str]:
    """The cells of a line of a table, without links' addresses and without bold."""
    parts = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", part) for part in parts)
    return [part.replace("\\|", "|").replace("**", "").strip() for part in plain]
