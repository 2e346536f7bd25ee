"""Content or place: whether a method goes by what pictures show or by where it lies in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from infoseg.reporting.markup import Block, Grid, cell
from infoseg.reporting.tables import mean_std, write_table

#: Columns of the table, by what `infoseg.diagnostics.content_or_place` measures.
LOOKS = {
    "as_it_is": "As it is",
    "upside_down": "Upside down",
    "middle": "Middle part",
    "top": "Top part",
    "bottom": "Bottom part",
    "left_out": "Left out of training",
}


def content_table(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> pd.DataFrame:
    """One row per method: mean and sample standard deviation over seeds of PA under each look.

    rows: of content.json, one per method and seed. titles: of the methods.
    """
    methods = dict.fromkeys(row["method"] for row in rows)
    table = []
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        line: dict[str, Any] = {"method": method, "title": titles[method], "n_seeds": len(own)}
        for look in LOOKS:
            line |= mean_std(look, [row.get(look) for row in own])
        table.append(line)
    return pd.DataFrame(table)


def content_grid(frame: pd.DataFrame, caption: str) -> Grid:
    """A column for each look, all with the match of the first."""
    rows = [
        (
            row["title"],
            [cell(row[f"{look}_mean"], row[f"{look}_std"]) for look in LOOKS],
        )
        for _, row in frame.iterrows()
    ]
    notes = [
        "PA in percent on the half for reporting, mean ± sample standard deviation over seeds; the "
        "match of clusters to classes is that of the pictures as they are. Parts: squares of two "
        "thirds of the side. Left out: trained on the other half alone, whose groups are others."
    ]
    return Grid(["Method", *LOOKS.values()], [Block(rows)], caption, notes)


def write_content(frame: pd.DataFrame, folder: Path, caption: str) -> list[Path]:
    """Write content.csv, content.md and content.tex into `folder`; returns their paths."""
    return write_table(frame, content_grid(frame, caption), folder, "content")
