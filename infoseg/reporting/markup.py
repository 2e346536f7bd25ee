"""A small grid of numbers as a Markdown, a LaTeX or an HTML table, in the same shape in all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape as escape_html

DAGGER = "†"
DASH = "–"
#: Of a cell some of whose trainings diverged, and the note that says so.
DIVERGED = "‡"
DIVERGED_NOTE = (
    f"{DIVERGED} Some seeds diverged (their loss stopped being finite): not in the mean."
)

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
    "‡": r"\textsuperscript{\ddag}",
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


def cell(mean: float, std: float = math.nan, bold: bool = False, diverged: int = 0) -> Cell:
    """A cell of one decimal; std NaN (one seed) prints no spread. diverged: how many seeds did."""
    printed = number(mean) + DIVERGED * bool(diverged)
    return Cell(printed, "" if math.isnan(std) else number(std), bold)


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


def html(grid: Grid) -> str:
    """A table and its notes as a fragment for any page; looks are the page's, by class.

    Classes: `table`, `note`, `spread` (the ± part of a cell), `apart` (a block with a heading).
    Blocks are <tbody>s of one table, so that screen readers and copying see one table. A table
    wider than the screen scrolls in its own container, which the keyboard can reach.
    """
    e = escape_html
    width = len(grid.columns)
    # Where any cell of a column has a spread, all keep its room, so that the means stay in line.
    spread = [
        any(i < len(cells) and cells[i].spread for block in grid.blocks for _, cells in block.rows)
        for i in range(width - 1)
    ]
    label = e(grid.caption)
    lines = [
        f'<div class="table" role="region" aria-label="{label}" tabindex="0"'
        ' style="overflow-x: auto">',
        "<table>",
        f"<caption><span>{label}</span></caption>",
        "<thead>",
        "<tr>" + "".join(f'<th scope="col">{e(title)}</th>' for title in grid.columns) + "</tr>",
        "</thead>",
    ]
    for block in grid.blocks:
        lines.append('<tbody class="apart">' if block.heading else "<tbody>")
        if block.heading:
            heading = f"<span>{e(block.heading)}</span>"
            lines.append(f'<tr><th scope="rowgroup" colspan="{width}">{heading}</th></tr>')
        for title, cells in block.rows:
            shown = f"<em>{e(title)}</em>" if block.italic else e(title)
            texts = (_html_cell(c, room) for c, room in zip(cells, spread, strict=True))
            lines.append(f'<tr><th scope="row">{shown}</th>' + "".join(texts) + "</tr>")
        lines.append("</tbody>")
    lines += ["</table>", "</div>"]
    lines += [f'<p class="note">{e(note)}</p>' for note in grid.notes]
    return "\n".join(lines) + "\n"


def _html_cell(content: Cell, room: bool) -> str:
    mean = escape_html(content.mean)
    mean = f"<strong>{mean}</strong>" if content.bold else mean
    text = f" ± {escape_html(content.spread)}" if content.spread else ""
    return f"<td>{mean}" + (f'<span class="spread">{text}</span>' if room else "") + "</td>"


def _cell(
    content: Cell, strong: Callable[[str], str], plus_minus: str, escape: Callable[[str], str]
) -> str:
    mean = strong(escape(content.mean)) if content.bold else escape(content.mean)
    return mean + (plus_minus + escape(content.spread) if content.spread else "")
