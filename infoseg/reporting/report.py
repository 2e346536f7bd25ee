"""The report: everything a profile found, as one page that stands by itself.

Who has only this page can tell what was reproduced, on what data, how sure it is, what differs from
the paper and why. Times are not in it, so that it has the same bytes when it is made again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from infoseg.files import write_whole
from infoseg.reporting.claims import FAILS, HOLDS, NOT_RUN, OPEN, Claim
from infoseg.reporting.deviations import Deviation, read_deviations
from infoseg.reporting.embed import embed
from infoseg.reporting.markup import Grid, html
from infoseg.reporting.page import CSS, TEMPLATE

__all__ = [
    "Deviation",
    "ReportContent",
    "ReportFigure",
    "ReportTable",
    "read_deviations",
    "render_report",
    "write_report",
]

DEMO = (
    "Demo numbers.",
    "They come from rendered scenes and short trainings. They say that the code works; they are "
    "not the paper's numbers and cannot be compared with them.",
)
OTHER_DATA = (
    "Not the paper's data.",
    "The numbers measured here and the numbers the paper prints are of different pictures and "
    "cannot be compared.",
)
HEADINGS = {
    "claims": "The paper's claims, and what was found",
    "figures": "Figures",
    "signs": "Failure signs",
    "deviations": "What differs from the paper, and why",
}
"""Sections after the tables, by the field of the content that fills them."""
_MARKS = {HOLDS: "holds", FAILS: "fails", OPEN: "open", NOT_RUN: "unrun"}


class ReportTable(NamedTuple):
    """A table under a heading of its own; text: what to read off it, may be empty."""

    heading: str
    grid: Grid
    text: str = ""


class ReportFigure(NamedTuple):
    """An SVG or PNG file; alt: what it shows, for who cannot see it; caption may be empty."""

    heading: str
    path: Path
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class ReportContent:
    """What the page says. Empty sequences leave their section out.

    profile, description: the profile's name and what it says of itself. data: what the pictures are
    and where they come from, in a sentence. is_demo: the data are rendered. papers_data: the data
    are those of the paper; unless they are, the page says so first. signs: run keys with the
    sentences of `signs`, runs without one included. timing: file beside the page.
    """

    title: str
    profile: str
    description: str
    data: str
    is_demo: bool
    papers_data: bool = False
    tables: Sequence[ReportTable] = ()
    figures: Sequence[ReportFigure] = ()
    claims: Sequence[Claim] = ()
    signs: Sequence[tuple[str, Sequence[str]]] = ()
    deviations: Sequence[Deviation] = ()
    timing: str = "timing.csv"

    def __post_init__(self) -> None:
        if self.is_demo and self.papers_data:
            raise ValueError("demo data cannot be the paper's data")
        parts = urlsplit(self.timing)
        if parts.scheme or parts.netloc or self.timing.startswith(("/", "\\")):
            raise ValueError(f"{self.timing}: the page links only to files relative to itself")
        for heading, _, alt, *_ in self.figures:
            if not alt.strip():
                raise ValueError(f"figure '{heading}' needs an alternative text")


def render_report(content: ReportContent) -> str:
    """The page as HTML, the same text for the same content.

    Raises DataError for a figure that cannot be read.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["code"] = _code
    flagged = [(run, sentences) for run, sentences in content.signs if sentences]
    titles, rows = _deviation_rows(content.deviations)
    warning = DEMO if content.is_demo else None if content.papers_data else OTHER_DATA
    return environment.from_string(TEMPLATE).render(
        c=content,
        title=content.title,
        css=Markup(CSS),  # ours, and quotes in it must stay
        warning=warning,
        summary=_summary(content),
        sections=_sections(content),
        headings=HEADINGS,
        tables=[(heading, Markup(html(grid)), text) for heading, grid, text in content.tables],
        figures=[(heading, embed(path), alt, text) for heading, path, alt, text in content.figures],
        marks=_MARKS,
        verdicts_about=(
            "the paper's data" if content.papers_data else "the data of this page, not the paper's"
        ),
        signs=flagged,
        quiet=_quiet(len(content.signs), len(flagged)),
        deviation_titles=titles,
        deviations=rows,
    )


def write_report(content: ReportContent, path: Path) -> Path:
    """Render and write the page, whole or not at all; returns `path`."""
    text = render_report(content)
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8", newline="\n"))
    return path


def _summary(content: ReportContent) -> list[str]:
    """Three sentences: what was reproduced, on what data, how sure it is."""
    runs = len(content.signs)
    made = f" from {runs} run{'s' * (runs > 1)}" if runs else ""
    what = (
        "This is an independent reproduction of InfoSeg (Harb & Knöbelreiter, GCPR 2021), which "
        "learns to segment images without labels: the paper's tables, figures and claims, made "
        f"again{made} by one pipeline."
    )
    counts = Counter(claim.verdict for claim in content.claims)
    said = {
        HOLDS: "held",
        FAILS: "did not hold",
        OPEN: "could not be decided (one seed, or a difference within its spread)",
        NOT_RUN: "were not run",
    }
    found = [f"{counts[verdict]} {words}" for verdict, words in said.items() if counts[verdict]]
    sure = "How sure: tables give the mean and the spread over seeds, and how many seeds there are"
    if found:
        sure += f"; of the paper's {len(content.claims)} claims below, {_listed(found)}"
    return [what, f"The data: {content.data.strip().rstrip('.')}.", f"{sure}."]


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _sections(content: ReportContent) -> list[tuple[str, str]]:
    """Ids and headings of the sections there are, in order."""
    tables = [(f"table-{i}", table[0]) for i, table in enumerate(content.tables, start=1)]
    return tables + [(key, text) for key, text in HEADINGS.items() if getattr(content, key)]


def _quiet(runs: int, flagged: int) -> str:
    """How many runs show no sign, and what that is worth."""
    if flagged == runs:
        return "Every run shows one."
    which = "No run shows one" if not flagged else f"{runs - flagged} of {runs} runs show none"
    return f"{which}, which does not make them good."


def _deviation_rows(
    deviations: Sequence[Deviation],
) -> tuple[list[str], list[tuple[str, list[tuple[str, str]]]]]:
    """Titles of the columns in which anything is said, and the rows of those columns."""
    titles = ["In the paper", "Here", "Why"]
    used = [i for i in range(3) if any(row[1 + i] for row in deviations)]
    rows = [(row[0], [(titles[i], row[1 + i]) for i in used]) for row in deviations]
    return ["What", *(titles[i] for i in used)], rows


def _code(text: str) -> Markup:
    """Escape a text and set what stands in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
