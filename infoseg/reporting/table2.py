"""Table 2, the paper's ablations of the measure and the assignment (5.5), and Table 2b, ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from infoseg.reporting.markup import DIVERGED_NOTE, Block, Cell, Grid, cell
from infoseg.reporting.published import published_table2
from infoseg.reporting.tables import mean_std, over_seeds, write_table

Evaluation = dict[str, Any]

COLUMNS = (
    "measure assignment pa_mean pa_std miou_mean miou_std n_seeds iou paper_pa pa_best_mean "
    "pa_all_mean pa_reported_mean "
    "permutation_gap_mean within_image_pa_mean within_image_chance_mean clusters_used_mean "
    "difference diverged groups"
).split()
COLUMNS_2B = (
    "question choice variant is_default pa_mean pa_std miou_mean miou_std n_seeds iou "
    "pa_best_mean pa_all_mean pa_reported_mean "
    "many_to_one_mean permutation_gap_mean within_image_pa_mean within_image_chance_mean "
    "assignment_entropy_mean clusters_used_mean diverged groups"
).split()


# ---- Table 2 -------------------------------------------------------------------------------------


def table2(evaluations: Sequence[Evaluation], reported: str = "all") -> pd.DataFrame:
    """One row per measure and assignment, in the order they first occur; PA in percent.

    evaluations: of InfoSeg and IIC-MI runs on one data set; measure and assignment are read from
    the settings each was made with. reported: see `infoseg.reporting.tables.table1`. `pa_std` is
    the sample standard deviation, NaN for one seed.
    """
    groups: dict[tuple[str, str], list[Evaluation]] = {}
    for evaluation in evaluations:
        settings = evaluation["made_with"]["settings"]
        objective = settings["objective"]
        row = ("IIC-MI", "-")
        if settings["kind"] != "iic_mi":
            assignment = f"{objective['assignment'].capitalize()} Assignment"
            row = (objective["measure"].upper(), assignment)
        groups.setdefault(row, []).append(evaluation)
    rows = []
    for (measure, assignment), found in groups.items():
        printed = published_table2(measure, assignment)
        figures = over_seeds(found, reported)
        difference = math.nan if printed is None else figures["pa_mean"] - printed
        rows.append(
            {"measure": measure, "assignment": assignment, "paper_pa": printed}
            | figures
            | {"difference": difference}
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def table2_grid(frame: pd.DataFrame, caption: str, trivial: pd.DataFrame | None = None) -> Grid:
    """The paper's rows, its numbers beside ours. trivial: those rows of Table 1, or none."""
    rows = [
        (
            row.measure if row.assignment == "-" else f"{row.measure}, {row.assignment}",
            [
                cell(row.pa_mean, row.pa_std, diverged=row.diverged),
                cell(row.miou_mean, row.miou_std),
                cell(math.nan if row.paper_pa is None else row.paper_pa),
            ],
        )
        for row in frame.itertuples()
    ]
    answers: list[tuple[str, Sequence[Cell]]] = [
        (row.method_title, [cell(row.pa_mean), cell(row.miou_mean), cell(math.nan)])
        for row in ([] if trivial is None else trivial.itertuples())
    ]
    seeds = ", ".join(str(n) for n in sorted(set(frame["n_seeds"]))) or "no"
    notes = [
        f"PA and mIoU in percent; n = {seeds} seeds per row, mean ± sample standard deviation.",
        "The paper's numbers are for COCO-Stuff-3 at its own settings.",
        *([DIVERGED_NOTE] if frame["diverged"].any() else []),
    ]
    columns = ["Measure and assignment", "PA", "mIoU", "PA in the paper"]
    blocks = [Block(rows), *([Block(answers, italic=True)] if answers else [])]
    return Grid(columns, blocks, caption, notes)


def write_table2(
    frame: pd.DataFrame, folder: Path, caption: str, trivial: pd.DataFrame | None = None
) -> list[Path]:
    """Write table2.csv, table2.md and table2.tex into `folder`; returns their paths."""
    return write_table(frame, table2_grid(frame, caption, trivial), folder, "table2")


# ---- Table 2b ------------------------------------------------------------------------------------


def differences(settings: Any, default: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Leaves of a settings tree that differ from those of another, by dotted path."""
    if not (isinstance(settings, Mapping) and isinstance(default, Mapping)):
        return {} if settings == default else {".".join(path): settings}
    found: dict[str, Any] = {}
    for key in settings:
        if key not in ("title", "paper_row"):
            found |= differences(settings[key], default.get(key), (*path, key))
    return found


def table2b(
    default: Sequence[Evaluation],
    variants: Mapping[str, tuple[str, Sequence[Evaluation]]],
    reported: str = "all",
) -> pd.DataFrame:
    """The open choices: under each question the default, then what was tried instead.

    default: InfoSeg's runs, one per seed. variants: name → (question, runs). `choice` names the
    settings that differ, read from what the runs were made with; `many_to_one_mean` is PA when
    several clusters may count as one class. Percent; entropy in units of log K.
    """
    settings = default[0]["made_with"]["settings"] if default else {}
    questions: dict[str, list[str]] = {}
    for name, (question, _) in variants.items():
        questions.setdefault(question, []).append(name)
    rows = []
    for question, names in questions.items():
        changed: dict[str, Any] = {}
        tried = []
        for name in names:
            runs = variants[name][1]
            new = differences(runs[0]["made_with"]["settings"], settings)
            changed |= new
            tried.append(
                {"question": question, "choice": _choice(new), "variant": name, "is_default": False}
                | _with_entropy(runs, reported)
            )
        now = {path: _at(settings, path) for path in changed}
        rows.append(
            {"question": question, "choice": _choice(now), "variant": "infoseg", "is_default": True}
            | _with_entropy(default, reported)
        )
        rows += tried
    return pd.DataFrame(rows, columns=COLUMNS_2B)


def _with_entropy(evaluations: Sequence[Evaluation], reported: str) -> dict[str, Any]:
    entropies = [e["last"]["assignment_entropy"] for e in evaluations if not e["diverged"]]
    entropy = mean_std("assignment_entropy", entropies)["assignment_entropy_mean"]
    return over_seeds(evaluations, reported) | {"assignment_entropy_mean": entropy}


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _choice(settings: Mapping[str, Any]) -> str:
    """`marginal = paired, gradient through v = off`: settings by their own names."""
    return ", ".join(
        f"{path.rpartition('.')[2].replace('_', ' ')} = {_word(value)}"
        for path, value in sorted(settings.items())
    )


def _word(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def table2b_grid(frame: pd.DataFrame, caption: str) -> Grid:
    """One block per question, its default first and set apart by bold."""
    blocks = []
    for question, rows in frame.groupby("question", sort=False):
        lines: list[tuple[str, Sequence[Cell]]] = [
            (
                row.choice + (" (default)" if row.is_default else ""),
                [
                    cell(row.pa_mean, row.pa_std, bool(row.is_default), row.diverged),
                    cell(row.many_to_one_mean),
                    cell(row.within_image_pa_mean),
                    cell(row.within_image_chance_mean),
                    cell(row.permutation_gap_mean),
                    cell(100 * row.assignment_entropy_mean),
                    Cell(f"{row.n_seeds}"),
                ],
            )
            for row in rows.itertuples()
        ]
        blocks.append(Block(lines, heading=str(question)))
    notes = [
        "Pixel accuracy in percent, mean ± sample standard deviation over the seeds. Many-to-one: "
        "each cluster counts as the class most of its pixels have. Within image: PA with a match "
        "of its own for every image, and what that gives by chance; gap: what it adds. Entropy: "
        "of V, in percent of log K.",
        *([DIVERGED_NOTE] if frame["diverged"].any() else []),
    ]
    measures = ["Many-to-one", "Within image", "By chance", "Gap", "Entropy", "Seeds"]
    columns = ["Choice", "PA", *measures]
    return Grid(columns, blocks, caption, notes)


def write_table2b(frame: pd.DataFrame, folder: Path, caption: str) -> list[Path]:
    """Write table2b.csv, table2b.md and table2b.tex into `folder`; returns their paths."""
    return write_table(frame, table2b_grid(frame, caption), folder, "table2b")
