"""Table 2: the paper's ablations of the measure and the assignment (5.5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from infoseg.reporting.markup import Block, Grid, cell, latex, markdown
from infoseg.reporting.published import published_table2
from infoseg.reporting.tables import mean_std, write_frame, write_text

COLUMNS = ["measure", "assignment", "pa_mean", "pa_std", "n_seeds", "paper_pa"]


def table2(evaluations: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per measure and assignment, in the order they first occur; PA in percent.

    evaluations: of InfoSeg runs on one data set; measure and assignment are read from the settings
    each was made with. `pa_std` is the sample standard deviation, NaN for a single seed.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for evaluation in evaluations:
        objective = evaluation["made_with"]["settings"]["objective"]
        row = (objective["measure"].upper(), f"{objective['assignment'].capitalize()} Assignment")
        groups.setdefault(row, []).append(evaluation["last"]["pa"])
    rows = [
        {"measure": measure, "assignment": assignment, **mean_std("pa", values)}
        | {"n_seeds": len(values), "paper_pa": published_table2(measure, assignment)}
        for (measure, assignment), values in groups.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def write_table2(frame: pd.DataFrame, folder: Path, caption: str) -> list[Path]:
    """Write table2.csv, table2.md and table2.tex into `folder`; returns their paths."""
    rows = []
    for row in frame.itertuples():
        printed = math.nan if row.paper_pa is None else row.paper_pa
        rows.append(
            (f"{row.measure}, {row.assignment}", [cell(row.pa_mean, row.pa_std), cell(printed)])
        )
    note = "The paper's numbers are for COCO-Stuff-3 at its own settings."
    grid = Grid(["Measure", "PA", "PA in the paper"], [Block(rows)], caption, [note])
    paths = [folder / f"table2.{suffix}" for suffix in ("csv", "md", "tex")]
    write_frame(frame, paths[0])
    write_text(markdown(grid), paths[1])
    write_text(latex(grid, "tab:table2"), paths[2])
    return paths
