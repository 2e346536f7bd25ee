"""Table 1: evaluations of runs in; a frame, CSV, Markdown and LaTeX out.

Every number comes from the last step. `pa_best_mean` alone is chosen with labels, as the numbers
IIC published are, and stands in the CSV only. So does `pa_start_mean`, the PA of the same method
before its training (empty where nothing is trained). Both are of all pictures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infoseg.diagnostics import FORMAT, reported_part
from infoseg.errors import DataError
from infoseg.files import write_whole
from infoseg.reporting.markup import (
    DAGGER,
    DIVERGED_NOTE,
    Block,
    Cell,
    Grid,
    cell,
    latex,
    markdown,
    number,
)
from infoseg.reporting.published import published
from infoseg.settings import Run

NOTE_BREAK = " | "
"""Between the notes of a cell in the CSV."""
COLUMNS = (
    "dataset method pa_mean pa_std miou_mean miou_std n_seeds iou paper_pa seeds "
    "permutation_gap_mean constant_pa clusters_used_mean uses_mask pa_all_mean pa_chosen_mean "
    "pa_reported_mean pa_best_mean pa_start_mean difference within_image_pa_mean "
    "within_image_chance_mean many_to_one_mean diverged dataset_title method_title paper_row notes "
    "groups"
).split()
#: Rows that are no method: answers without a look at the picture. With a space, as no method's key.
TRIVIAL = {"one class": "One class everywhere", "equal stripes": "Equal horizontal stripes"}
PUBLISHED_HEADING = "Printed by Harb & Knöbelreiter (2021), Table 1, for the real data sets"


def table1(
    evaluations: Sequence[dict[str, Any]],
    datasets: Sequence[str],
    methods: Sequence[str],
    runs: Sequence[Run] | None = None,
    trivial: Mapping[str, Mapping[str, Any]] | None = None,
    reported: str = "all",
) -> pd.DataFrame:
    """One row per data set and method, in the given order; percent, except counts and names.

    evaluations: what `evaluate` writes, one per run, in any order. datasets, methods: keys. runs:
    the runs the table consists of (`Params.runs()`); others, left over from earlier settings, are
    not counted. Without it every evaluation counts, and each row needs at least one. trivial: by
    data set what `Project.trivial` measured, rows of their own. reported: `all` pictures, or the
    `half` for reporting, which PA, mIoU, IoU and groups are of then. `*_std` is the sample standard
    deviation over seeds, NaN for a single seed. diverged: how many seeds did; they are in no other
    number. groups: right and annotated pixels by group, (G, 2), in the mean over seeds; not in the
    CSV.
    Raises DataError for a missing run (naming its stages), a repeated one, or another format.
    """
    by_run: dict[tuple[str, str, int], dict[str, Any]] = {}
    for evaluation in evaluations:
        key = (evaluation["dataset"], evaluation["method"], evaluation["seed"])
        name = "-".join(map(str, key))
        if evaluation.get("format") != FORMAT:
            raise DataError(
                f"the evaluation of {name} has format {evaluation.get('format')}, this version "
                f"reads {FORMAT}",
                advice=f"Run `dvc repro evaluate@{key[0]}`",
            )
        if key in by_run:
            raise DataError(f"there are two evaluations of {name}")
        by_run[key] = evaluation
    wanted = list(by_run) if runs is None else [(r.dataset, r.method, r.seed) for r in runs]
    rows = []
    missing: list[str] = []
    for dataset in datasets:
        for method in methods:
            keys = sorted(k for k in wanted if k[:2] == (dataset, method))
            absent = [k for k in keys if k not in by_run] or (
                [] if keys else [(dataset, method, 0)]
            )
            missing += ["-".join(map(str, k)) for k in absent]
            if not absent:
                rows.append(_row([by_run[k] for k in keys], reported))
        if not missing and trivial:
            title = rows[-1]["dataset_title"]
            rows += trivial_rows(dataset, title, trivial[dataset], reported)
    if missing:
        stages = " ".join(dict.fromkeys(f"evaluate@{name.split('-')[0]}" for name in missing))
        others = f" and {len(missing) - 3} others" if len(missing) > 3 else ""
        raise DataError(
            f"no evaluation of {', '.join(missing[:3])}{others}",
            advice=f"Run `dvc repro {stages}`",
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def trivial_rows(
    dataset: str, title: str, trivial: Mapping[str, Mapping[str, Any]], reported: str
) -> list[dict[str, Any]]:
    """Rows of the trivial answers on one data set; trivial: what `Project.trivial` measured."""
    facts = {"seed": 0, "diverged": "", "uses_mask": False, "notes": [], "paper_row": None}
    facts |= {"start": None, "dataset": dataset, "dataset_title": title}
    own = [
        {"method": name, "method_title": TRIVIAL[name], "last": last, "best": last}
        for name, last in trivial.items()
    ]
    return [_row([facts | answer], reported) for answer in own]


def over_seeds(everything: Sequence[dict[str, Any]], reported: str) -> dict[str, Any]:
    """What every table says of one row, from the evaluations of all its seeds."""
    evaluations = [e for e in everything if not e["diverged"]]
    last = [e["last"] for e in evaluations]
    parts = [reported_part(part, reported) for part in last]
    return {
        **mean_std("pa", [part["pa"] for part in parts]),
        **mean_std("miou", [part["miou"] for part in parts]),
        "iou": iou_by_class(parts),
        "groups": mean_groups(parts),
        "n_seeds": len(evaluations),
        "diverged": len(everything) - len(evaluations),
        "pa_all_mean": _mean([part["pa"] for part in last]),
        "pa_reported_mean": _mean([part["halves"]["reported"]["pa"] for part in last]),
        "pa_best_mean": _mean([e["best"]["pa"] for e in evaluations]),
        "many_to_one_mean": _mean([part["many_to_one_pa"] for part in parts]),
        "permutation_gap_mean": _mean([part["permutation_gap"] for part in parts]),
        **within_images(parts),
        "clusters_used_mean": _mean([part["clusters_used"] for part in parts]),
    }


def _row(everything: list[dict[str, Any]], reported: str) -> dict[str, Any]:
    """One row of the table from the evaluations of all its seeds."""
    first = everything[0]
    evaluations = [e for e in everything if not e["diverged"]]
    last = [e["last"] for e in evaluations]
    paper_row = first["paper_row"]
    paper_pa = published(paper_row, first["dataset_title"]) if paper_row else None
    paper_pa = math.nan if paper_pa is None else paper_pa
    row = over_seeds(everything, reported)
    constant = [reported_part(part, reported)["constant_pa"] for part in last]
    return row | {
        "dataset": first["dataset"],
        "method": first["method"],
        "paper_pa": paper_pa,
        "difference": row["pa_mean"] - paper_pa,
        "seeds": " ".join(str(e["seed"]) for e in evaluations),
        "constant_pa": _mean(constant),
        "uses_mask": any(e["uses_mask"] for e in evaluations),
        "pa_chosen_mean": _mean([part["halves"]["chosen"]["pa"] for part in last]),
        "pa_start_mean": _mean([(e["start"] or {}).get("pa") for e in evaluations]),
        "dataset_title": first["dataset_title"],
        "method_title": first["method_title"],
        "paper_row": paper_row or "",
        "notes": NOTE_BREAK.join(dict.fromkeys(note for e in everything for note in e["notes"])),
    }


def iou_by_class(parts: Sequence[dict[str, Any]]) -> str:
    """IoU of each class in percent, the mean over seeds, as text: `sky 40.1; road 55.2`."""
    names = parts[0]["iou"] if parts else []
    means = {name: _mean([part["iou"][name] for part in parts]) for name in names}
    return "; ".join(f"{name} {number(value)}" for name, value in means.items())


def mean_groups(parts: Sequence[dict[str, Any]]) -> np.ndarray | None:
    """Right and annotated pixels by group, (G, 2), in the mean over seeds; None without any."""
    return np.mean([part["groups"] for part in parts], axis=0) if parts else None


def within_images(parts: Sequence[dict[str, Any]]) -> dict[str, float]:
    """PA with a match of its own for every image, and what chance gets under such a match.

    Their difference, and not the first alone, says how well single images are segmented.
    """
    return {
        "within_image_pa_mean": _mean([part["pa"] + part["permutation_gap"] for part in parts]),
        "within_image_chance_mean": _mean([part["within_image_chance"] for part in parts]),
    }


def _mean(values: Sequence[float | None]) -> float:
    numbers = [math.nan if value is None else float(value) for value in values]
    return float(np.mean(numbers)) if numbers else math.nan


def mean_std(name: str, values: Sequence[float | None]) -> dict[str, float]:
    numbers = [math.nan if value is None else float(value) for value in values]
    std = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else math.nan
    return {f"{name}_mean": _mean(numbers), f"{name}_std": std}


def table1_grid(
    frame: pd.DataFrame, caption: str, papers_data: bool = False, notes: Sequence[str] = ()
) -> Grid:
    """The paper's shape: rows are methods, columns data sets; our numbers, then the paper's.

    Bold is the best method of a column, ties after rounding included, where it is above every
    trivial answer by more than its spread over seeds. The paper's numbers stand in a block of their
    own, so that no number here can be taken for one of the paper's; the difference stands below
    them with `papers_data` alone, since on other data it means nothing. notes: the profile's own.
    Raises ValueError without a caption, which has to say what data the numbers come from.
    """
    if not caption.strip():
        raise ValueError("Table 1 needs a caption that says what data its numbers come from")
    answers = frame[frame["method"].isin(TRIVIAL)].set_index(["dataset", "method"])
    frame = frame[~frame["method"].isin(TRIVIAL)]
    datasets = list(dict.fromkeys(frame["dataset"]))
    methods = list(dict.fromkeys(frame["method"]))
    at = frame.set_index(["dataset", "method"])
    floor = answers.groupby("dataset")[["pa_mean", "miou_mean"]].max()
    best = frame.groupby("dataset")[["pa_mean", "miou_mean"]].max().round(1)

    def measured(dataset: str, method: str, name: str) -> Cell:
        row = at.loc[(dataset, method)]
        mean, std = row[f"{name}_mean"], row[f"{name}_std"]
        trivial = floor[f"{name}_mean"].get(dataset, -math.inf)
        bold = round(mean, 1) == best.loc[dataset, f"{name}_mean"] and mean - std > trivial
        return cell(mean, std, bool(bold), int(row["diverged"]))

    def both(cells: Callable[[str, str], Cell]) -> list[Cell]:
        return [cells(dataset, name) for dataset in datasets for name in ("pa", "miou")]

    masked = set(frame.loc[frame["uses_mask"], "method"])
    titles = frame.drop_duplicates("method").set_index("method")["method_title"]
    blocks = [
        Block(
            [
                (
                    titles[m] + (DAGGER if m in masked else ""),
                    both(lambda d, name, m=m: measured(d, m, name)),
                )
                for m in methods
            ]
        ),
        Block(
            [
                (title, both(lambda d, name, m=m: cell(answers.loc[(d, m), f"{name}_mean"])))
                for m, title in TRIVIAL.items()
                if m in answers.index.get_level_values("method")
            ],
            italic=True,
        ),
    ]
    blocks = [block for block in blocks if block.rows]
    printed = _published_rows(frame, datasets)
    if printed:
        blocks.append(Block(printed, heading=PUBLISHED_HEADING))
    if printed and papers_data:
        rows = [
            (
                titles[m],
                [c for d in datasets for c in (cell(at.loc[(d, m), "difference"]), cell(math.nan))],
            )
            for m in methods
            if at.loc[(datasets[0], m), "paper_row"]
        ]
        blocks.append(Block(rows, heading="Ours less the paper's"))
    heads = frame.drop_duplicates("dataset")["dataset_title"]
    lines = [
        f"PA and mIoU in percent. {_seeds_note(frame)} Bold: the best method, where it is above "
        "both trivial answers by more than its spread."
    ]
    if masked:
        lines.append(f"{DAGGER} sees which pixels are annotated (not how), as its authors' code.")
    if frame["diverged"].any():
        lines.append(DIVERGED_NOTE)
    lines += [*notes, *_data_notes(frame)]
    columns = [f"{head}, {name}" for head in heads for name in ("PA", "mIoU")]
    return Grid(["Method", *columns], blocks, caption.strip(), lines)


def _published_rows(
    frame: pd.DataFrame, datasets: Sequence[str]
) -> list[tuple[str, Sequence[Cell]]]:
    """The paper's rows that any method here is laid beside, once each; none without a number."""
    known = frame[frame["paper_pa"].notna()]
    values = known.drop_duplicates(["paper_row", "dataset"]).set_index(["paper_row", "dataset"])
    printed = values["paper_pa"].to_dict()
    return [
        (
            row,
            [c for d in datasets for c in (cell(printed.get((row, d), math.nan)), cell(math.nan))],
        )
        for row in dict.fromkeys(frame["paper_row"])
        if row in set(known["paper_row"])
    ]


def _seeds_note(frame: pd.DataFrame) -> str:
    """How many seeds stand behind the cells: one sentence, exceptions by method."""
    counts = Counter(frame["n_seeds"])
    (usual, _), *others = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    text = f"n = {usual} seed{'s' * (usual > 1)} per cell"
    for n, _ in others:
        rows = frame[frame["n_seeds"] == n]
        named = []
        for title, where in rows.groupby("method_title", sort=False)["dataset_title"]:
            everywhere = len(where) == frame["dataset"].nunique()
            named.append(title if everywhere else f"{title} on {', '.join(where)}")
        text += f"; n = {n} for {'; '.join(named)}"
    spread = "; mean ± sample standard deviation over seeds" if max(counts) > 1 else ""
    return f"{text}{spread}."


def _data_notes(frame: pd.DataFrame) -> list[str]:
    """Each note of the evaluations once, under the data sets or the method it belongs to."""
    noted: dict[str, pd.DataFrame] = {}
    for text in dict.fromkeys(note for notes in frame["notes"] for note in notes.split(NOTE_BREAK)):
        if text:
            noted[text] = frame[[text in notes.split(NOTE_BREAK) for notes in frame["notes"]]]
    methods = frame["method"].nunique()
    lines = []
    for text, rows in noted.items():
        # A note on every method of its data sets is about the data, any other about methods.
        about_data = len(rows) == methods * rows["dataset"].nunique()
        who = ", ".join(dict.fromkeys(rows["dataset_title" if about_data else "method_title"]))
        lines.append(f"{who}: {text}" + ("" if text.endswith(".") else "."))
    return lines


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """CSV with numbers rounded to four decimals, lines ending in \\n, empty where unknown."""
    rounded = frame.drop(columns="groups", errors="ignore").round(4)
    write_whole(path, lambda file: rounded.to_csv(file, index=False, lineterminator="\n"))


def write_table1(
    frame: pd.DataFrame,
    folder: Path,
    caption: str,
    papers_data: bool = False,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write table1.csv, table1.md and table1.tex into `folder`; returns their paths."""
    return write_table(frame, table1_grid(frame, caption, papers_data, notes), folder, "table1")


def write_table(frame: pd.DataFrame, grid: Grid, folder: Path, name: str) -> list[Path]:
    """Write a table as <name>.csv, <name>.md and <name>.tex into `folder`; returns their paths."""
    paths = [folder / f"{name}.{suffix}" for suffix in ("csv", "md", "tex")]
    texts = markdown(grid), latex(grid, f"tab:{name}")
    write_frame(frame, paths[0])
    for text, path in zip(texts, paths[1:], strict=True):
        write_whole(path, lambda file, text=text: file.write_text(text, "utf-8", newline="\n"))
    return paths
