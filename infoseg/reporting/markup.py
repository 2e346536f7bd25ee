"""A small grid of numbers as a Markdown or a LaTeX table, in the same shape in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

DAGGER = "†"
DASH = "–"

# What titles and captions may contain besides ASCII; pdflatex stops at most of it.
_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: "\\" + char for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "†": r"\textsuperscript{\dag}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "τ": r"$\tau$",
    "λ": r"$\lambda$",
    "–": "--",
    "—": "---",
    "′": "$'$",
}


@dataclass(frozen=True)
class Cell:
    """A number: its mean, and its spread over seeds where there is one; both as printed."""

    mean: str
    spread: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Block:
    """Rows under one heading. Each row is its title and one cell per column.

    italic: set the titles apart, as for reference values that are no method.
    """

    rows: Sequence[tuple[str, Sequence[Cell]]]
    heading: str = ""
    italic: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: column titles (the first is the title column's), blocks, a caption, notes below."""

    columns: Sequence[str]
    blocks: Sequence[Block]
    caption: str
    notes: Sequence[str] = field(default_factory=tuple)


def number(value: float, digits: int = 1) -> str:
    """A number as tables print it; a dash for NaN."""
    return DASH if math.isnan(value) else f"{value:.{digits}f}"


def cell(mean: float, std: float = math.nan, bold: bool = False) -> Cell:
    """A cell of one decimal; std NaN (one seed) prints no spread."""
    return Cell(number(mean), "" if math.isnan(std) else number(std), bold)


def escape_latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)


def escape_markdown(text: str) -> str:
    return "".join("\\" + char if char in r"\|*_`<>[]" else char for char in text)


def markdown(grid: Grid) -> str:
    """GitHub-flavoured Markdown. Every block is a table of its own, because a heading cannot span
    columns; all have the same columns."""
    e = escape_markdown
    lines = [f"**{e(grid.caption)}**"]
    head = "| " + " | ".join(map(e, grid.columns)) + " |"
    rule = "|:---|" + "---:|" * (len(grid.columns) - 1)
    started = False
    for block in grid.blocks:
        if block.heading or not started:
            lines += [""] + ([f"*{e(block.heading)}*", ""] if block.heading else []) + [head, rule]
            started = True
        for title, cells in block.rows:
            shown = f"*{e(title)}*" if block.italic else e(title)
            texts = (_cell(c, lambda text: f"**{text}**", " ± ", e) for c in cells)
            lines.append(f"| {shown} | " + " | ".join(texts) + " |")
    for note in grid.notes:
        lines += ["", e(note)]
    return "\n".join(lines) + "\n"


def latex(grid: Grid, label: str) -> str:
    """A floating table in the style of booktabs; `label` as in \\ref."""
    e = escape_latex
    width = len(grid.columns)
    lines = [
        r"% Needs \usepackage{booktabs} and, before 2018, \usepackage[utf8]{inputenc}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{e(grid.caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (width - 1)}@{{}}}}",
        r"\toprule",
        " & ".join(map(e, grid.columns)) + r" \\",
    ]
    for block in grid.blocks:
        lines.append(r"\midrule")
        if block.heading:
            text = rf"\emph{{{e(block.heading)}}}"
            lines.append(rf"\multicolumn{{{width}}}{{@{{}}l@{{}}}}{{{text}}} \\")
        for title, cells in block.rows:
            shown = rf"\emph{{{e(title)}}}" if block.italic else e(title)
            texts = (_cell(c, lambda text: rf"\textbf{{{text}}}", r" $\pm$ ", e) for c in cells)
            lines.append(f"{shown} & " + " & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if grid.notes:
        # \par: a note is a paragraph below the table, as wide as the text.
        lines += [r"\par\smallskip\footnotesize"] + [e(note) + r"\par" for note in grid.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _cell(
    content: Cell, strong: Callable[[str], str], plus_minus: str, escape: Callable[[str], str]
) -> str:
    mean = strong(escape(content.mean)) if content.bold else escape(content.mean)
    return mean + (plus_minus + escape(content.spread) if content.spread else "")
