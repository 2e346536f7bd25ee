"""From evaluations to the tables: one row per run in, Markdown, LaTeX and CSV out.

What lies between, the mean over seeds and the pivot, is in notebooks/04_tables.ipynb. PA and mIoU
are of the last weights, in percent, on `profile.reported`: all labelled pictures, or the half that
no setting was chosen by. `pa_best` alone is chosen with labels, as the numbers IIC published are,
and stands in the CSV only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from infoseg.diagnostics import FORMAT, reported_part
from infoseg.files import DataError, read_json, write_whole
from infoseg.settings import TABLE2

if TYPE_CHECKING:
    from infoseg.runs import Project

#: Rows that are no method: answers without a look at the picture. With a space, as no method's key.
TRIVIAL = {"one class": "One class everywhere", "equal stripes": "Equal horizontal stripes"}
#: Marks a method that sees which pixels are annotated, and a cell with seeds that diverged.
MASKED, DIVERGED = "†", "‡"
DIVERGED_NOTE = f"{DIVERGED} Seeds whose loss stopped being finite are not in the mean."
#: Measures of a run that the tables hold the mean of, over seeds.
MEASURES = (
    "pa miou permutation_gap constant_pa clusters_used pa_all pa_chosen pa_reported pa_best "
    "pa_start within_image_pa within_image_chance many_to_one assignment_entropy"
).split()
_NAMES = "dataset method seed dataset_title method_title paper_row measure assignment notes".split()
_SHARED = "pa_mean pa_std miou_mean miou_std n_seeds iou"
#: Columns of the CSV files.
COLUMNS = {
    "table1": f"dataset method {_SHARED} paper_pa seeds permutation_gap_mean constant_pa "
    "clusters_used_mean uses_mask pa_all_mean pa_chosen_mean pa_reported_mean pa_best_mean "
    "pa_start_mean difference within_image_pa_mean within_image_chance_mean many_to_one_mean "
    "diverged dataset_title method_title paper_row notes",
    "table2": f"measure assignment {_SHARED} paper_pa pa_best_mean pa_all_mean pa_reported_mean "
    "permutation_gap_mean within_image_pa_mean within_image_chance_mean clusters_used_mean "
    "difference diverged",
    "table2b": f"question choice variant is_default {_SHARED} pa_best_mean pa_all_mean "
    "pa_reported_mean many_to_one_mean permutation_gap_mean within_image_pa_mean "
    "within_image_chance_mean assignment_entropy_mean clusters_used_mean diverged",
}
#: What pdflatex does not set, or sets only with further packages.
_LATEX = str.maketrans(
    {"±": r"$\pm$", MASKED: r"\dag{}", DIVERGED: r"\ddag{}", "–": "--", "′": "$'$", "τ": r"$\tau$"}
)


def published(table: int) -> pd.Series:
    """PA in percent that the paper prints in Table 1 or 2, by its titles of row and column."""
    rows = pd.read_csv(Path(__file__).with_name("published.csv"))
    rows = rows[rows["table"] == table]
    return rows.set_index(["row", "column"])["pa"].rename("paper_pa")


# ---- evaluations in ------------------------------------------------------------------------------


def read_runs(project: Project) -> pd.DataFrame:
    """One row per run of the profile, then its ablations, then the trivial answers.

    Of a run that diverged all measures are NaN. iou: by class; groups: right and annotated pixels
    by group of pictures, (G, 2). Raises DataError naming the stage of a run that is missing.
    """
    params, profile = project.params, project.params.profile
    runs = [*params.runs(), *params.ablations()]
    if profile.ablations.variants:  # what they are compared with
        runs += params.seeds(profile.ablations.dataset, "infoseg")
    runs = list({run.key: run for run in runs}.values())
    rows = [_row(project.evaluation(run), profile.reported) for run in runs]
    for name in profile.datasets:
        path = project.made_beside(name, "trivial.json")
        common = {"format": FORMAT, "dataset": name, "seed": 0, "paper_row": None, "notes": []}
        common |= {"dataset_title": params.datasets[name].title, "diverged": "", "start": None}
        for method, last in read_json(path, f"evaluate@{name}").items():
            answer = {"method": method, "method_title": TRIVIAL[method], "last": last, "best": last}
            rows.append(_row(common | answer, profile.reported))
    columns = [*_NAMES, "diverged", "uses_mask", *MEASURES, "iou", "groups"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(MEASURES, float))


def _row(evaluation: Mapping[str, Any], reported: str) -> dict[str, Any]:
    """A run's row. Raises DataError for an evaluation of another version, or for a `paper_row` that
    the paper does not have."""
    dataset, method, seed = (evaluation[name] for name in ("dataset", "method", "seed"))
    if (version := evaluation.get("format")) != FORMAT:
        problem = f"the evaluation of {dataset}-{method}-{seed} has format {version}, not {FORMAT}"
        raise DataError(problem, advice=f"Run `dvc repro evaluate@{dataset}`")
    rows = published(1).index.unique("row")
    if (paper_row := evaluation["paper_row"]) not in (None, *rows):
        problem = f"the paper's Table 1 has no row '{paper_row}'"
        raise DataError(problem, advice=f"Set paper_row to null or one of: {', '.join(rows)}")
    row = {name: evaluation.get(name) for name in _NAMES} | {
        "paper_row": paper_row or "",
        "notes": " | ".join(evaluation["notes"]),
        "diverged": bool(evaluation["diverged"]),
        "uses_mask": evaluation.get("uses_mask", False),
    }
    settings = evaluation.get("made_with", {}).get("settings", {})
    if settings.get("kind") == "iic_mi":
        row |= {"measure": "IIC-MI", "assignment": "-"}
    elif objective := settings.get("objective"):
        row["measure"] = objective["measure"].upper()
        row["assignment"] = f"{objective['assignment'].capitalize()} Assignment"
    if row["diverged"]:
        return row
    last, halves = evaluation["last"], evaluation["last"]["halves"]
    part = reported_part(last, reported)
    return row | {name: part.get(name) for name in [*MEASURES, "iou", "groups"]} | {
        "many_to_one": part["many_to_one_pa"],
        # Its difference to chance, not itself, says how well single images are segmented.
        "within_image_pa": part["pa"] + part["permutation_gap"],
        "assignment_entropy": last.get("assignment_entropy"),
        "pa_all": last["pa"],
        "pa_chosen": halves["chosen"]["pa"],
        "pa_reported": halves["reported"]["pa"],
        "pa_best": evaluation["best"]["pa"],
        "pa_start": (evaluation["start"] or {}).get("pa"),
    }  # fmt: skip


def mean_iou(parts: pd.Series) -> str:
    """IoU of each class in percent, the mean over seeds: `sky 40.1; road 55.2`."""
    means = pd.DataFrame(parts.dropna().tolist(), dtype=float).mean()
    return "; ".join(f"{name} {number(value)}" for name, value in means.items())


def mean_groups(parts: pd.Series) -> np.ndarray | None:
    """Right and annotated pixels by group, (G, 2), in the mean over seeds; None without any."""
    parts = parts.dropna()
    return np.mean(parts.tolist(), axis=0) if len(parts) else None


# ---- open choices --------------------------------------------------------------------------------


def open_choices(project: Project) -> pd.DataFrame:
    """Table 2b's questions: of each InfoSeg's default, then what was tried in its place.

    `choice` names the settings that differ from the default, by their own names.
    """
    params, ablations = project.params, project.params.profile.ablations
    others = {*TABLE2, *ablations.content.values()}
    questions = {m: q for m, q in ablations.table1_rows.items() if m in params.profile.methods}
    questions |= {v: params.variants[v].question for v in ablations.variants if v not in others}
    rows, default = [], params.method("infoseg", ablations.dataset).numbers()
    for question in dict.fromkeys(questions.values()):
        tried = {
            name: differences(params.method(name, ablations.dataset).numbers(), default)
            for name, text in questions.items()
            if text == question
        }
        now = {path: pair[0] for pairs in tried.values() for path, pair in pairs.items()}
        rows.append((question, _choice(now), "infoseg", True))
        for name, pairs in tried.items():
            new = {path: pair[1] for path, pair in pairs.items()}
            rows.append((question, _choice(new), name, False))
    return pd.DataFrame(rows, columns=["question", "choice", "variant", "is_default"])


def differences(settings: Any, default: Any, path: tuple[str, ...] = ()) -> dict[str, tuple]:
    """Leaves of a settings tree that differ from another's, by dotted path: (default, settings)."""
    if not (isinstance(settings, Mapping) and isinstance(default, Mapping)):
        return {} if settings == default else {".".join(path): (default, settings)}
    keys = [key for key in settings if key not in ("title", "paper_row")]
    parts = [differences(settings[key], default.get(key), (*path, key)) for key in keys]
    return {leaf: pair for part in parts for leaf, pair in part.items()}


def _choice(settings: Mapping[str, Any]) -> str:
    """`marginal = paired, gradient through v = off`."""
    words = {"True": "on", "False": "off"}
    return ", ".join(
        f"{path.rpartition('.')[2].replace('_', ' ')} = {words.get(str(value), value)}"
        for path, value in sorted(settings.items(), key=lambda item: item[0])
    )


# ---- cells ---------------------------------------------------------------------------------------


def number(value: float) -> str:
    """A number as tables print it; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.1f}"


def mean_std(mean: float, std: float, bold: bool = False, diverged: int = 0) -> str:
    """`65.9 ± 4.2`; without a spread for a single seed. diverged: how many seeds did."""
    text = (f"**{number(mean)}**" if bold else number(mean)) + DIVERGED * bool(diverged)
    return text + ("" if math.isnan(std) else f" ± {number(std)}")


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """Columns PA and mIoU as printed, for a table with rows of trivial answers.

    Bold is the best method of a data set, ties after rounding included, where it is above every
    trivial answer by more than its spread over seeds. A number of seeds is given where it is not
    the usual one. A cell with seeds that diverged is marked.
    """
    trivial, dataset = table["method"].isin(TRIVIAL), table["dataset"]
    several = (table["n_seeds"] != usual_seeds(table)) & ~trivial
    counts = " (n = " + table["n_seeds"].astype(str) + ")"
    for name, column in (("PA", "pa"), ("mIoU", "miou")):
        mean, std = table[f"{column}_mean"], table[f"{column}_std"]
        floor = mean.where(trivial).groupby(dataset).transform("max").fillna(-math.inf)
        best = mean.mask(trivial).groupby(dataset).transform("max")
        bold = ~trivial & (mean.round(1) == best.round(1)) & (mean - std > floor)
        shown = [mean_std(*row) for row in zip(mean, std, bold, table["diverged"], strict=True)]
        table = table.assign(**{name: shown})
    return table.assign(PA=table["PA"].where(~several, table["PA"] + counts))


def usual_seeds(table: pd.DataFrame) -> int:
    """The number of seeds that most rows of methods have."""
    return int(table.loc[~table["method"].isin(TRIVIAL), "n_seeds"].mode().max())


def notes(table: pd.DataFrame) -> list[str]:
    """What has to be said below `cells`."""
    sentences = [
        "PA and mIoU in percent, mean ± sample standard deviation over "
        f"n = {usual_seeds(table)} seeds where no other n is given. Bold: the best method, where "
        "it is above both trivial answers by more than its spread."
    ]
    if table["uses_mask"].any():
        masked = f"{MASKED} sees which pixels are annotated (not how), as its authors' code."
        sentences.append(masked)
    if table["diverged"].any():
        sentences.append(DIVERGED_NOTE)
    return sentences


# ---- files out -----------------------------------------------------------------------------------


def write(
    folder: Path, name: str, frame: pd.DataFrame, shown: pd.DataFrame, caption: str,
    notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """Write <name>.csv from the frame, <name>.md and <name>.tex from what is shown.

    The same bytes for the same numbers. caption: says what data the numbers come from. Returns the
    Markdown.
    """
    rows = (frame[COLUMNS[name].split()] if name in COLUMNS else frame).round(4)
    csv = rows.to_csv(index=False, lineterminator="\n")
    titles = [re.sub(r"([\\|*_`<>\[\]])", r"\\\1", str(title)) for title in shown.index]
    italic = [f"*{title}*" if title in TRIVIAL.values() else title for title in titles]
    body = shown.set_axis(pd.Index(italic, name=shown.index.name)).to_markdown(
        colalign=["left", *["right"] * shown.shape[1]], disable_numparse=True
    )
    markdown = "\n\n".join([f"**{caption}**", body, *notes]) + "\n"
    layout = {"label": f"tab:{name}", "column_format": "l" + "r" * shown.shape[1]}
    latex = shown.reset_index().to_latex(index=False, escape=True, caption=caption, **layout)
    latex = re.sub(r"\*\*(.*?)\*\*", r"\\textbf{\1}", latex).translate(_LATEX)
    for suffix, text in (("csv", csv), ("md", markdown), ("tex", latex)):
        path = folder / f"{name}.{suffix}"
        write_whole(path, lambda file, text=text: file.write_text(text, "utf-8", newline="\n"))
    return markdown
