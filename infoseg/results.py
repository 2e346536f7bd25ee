"""The tracked outputs: tables and Figure 4 of a profile, from the evaluations of its runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from infoseg.diagnostics import read_examples
from infoseg.files import read_json, write_csv
from infoseg.reporting.content import content_table, write_content
from infoseg.reporting.figures import Panel
from infoseg.reporting.figures import figure4 as draw_figure4
from infoseg.reporting.table2 import table2 as frame_table2
from infoseg.reporting.table2 import table2b as frame_table2b
from infoseg.reporting.table2 import write_table2, write_table2b
from infoseg.reporting.tables import TRIVIAL, trivial_rows, write_table1
from infoseg.reporting.tables import table1 as frame_table1
from infoseg.settings import TABLE2, Run

if TYPE_CHECKING:
    from infoseg.runs import Project

Evaluation = dict[str, Any]


def caption(project: Project, table: str) -> str:
    """What a table's numbers are of; every table needs one."""
    profile = project.params.profile
    half = ", the half of the labels that no setting was chosen by" * (profile.reported == "half")
    titles = {
        "table1": f"PA and mIoU on {profile.description}{half}.",
        "content": f"Content or place, on {_where(project)}.",
        "table2": f"Ablations of measure and assignment on {_where(project)}.",
        "table2b": f"What the paper leaves open, on {_where(project)}.",
    }
    return titles[table]


def _where(project: Project) -> str:
    profile = project.params.profile
    title = project.params.datasets[profile.ablations.dataset].title
    return f"{title}, {profile.description}"


def table1(project: Project) -> pd.DataFrame:
    """Write results/<profile>/tables/table1.{csv,md,tex} from all runs; returns the long form."""
    frame = table1_frame(project)
    about = caption(project, "table1"), project.params.papers_data, project.params.profile.notes
    write_table1(frame, project.results / "tables", *about)
    return frame


def table1_frame(project: Project) -> pd.DataFrame:
    """The long form of Table 1."""
    profile, runs = project.params.profile, project.params.runs()
    evaluations = [project.evaluation(run) for run in runs]
    trivial = {name: _beside(project, name, "trivial.json") for name in profile.datasets}
    return frame_table1(
        evaluations, profile.datasets, profile.methods, runs, trivial, profile.reported
    )


def _beside(project: Project, dataset: str, file: str) -> Any:
    return read_json(project.made_beside(dataset, file), f"evaluate@{dataset}")


def timings(project: Project) -> Path:
    """Write results/<profile>/timing.csv: seconds, images/s and memory of each run made here.

    No output of a stage, because it alone differs when the same thing is made again.
    """
    rows = []
    for run in [*project.params.runs(), *project.params.ablations()]:
        if (path := project.timing_path(run)).exists():
            rows.append({"run": run.key, **json.loads(path.read_text())})
    write_csv(project.results / "timing.csv", rows)
    return project.results / "timing.csv"


def _rows(project: Project, method: str) -> list[Evaluation]:
    """Evaluations of a method or variant on the data set of the ablations, all seeds."""
    dataset = project.params.profile.ablations.dataset
    seeds = project.params.method(method, dataset).seeds
    return [project.evaluation(Run(dataset=dataset, method=method, seed=seed)) for seed in seeds]


def table2(project: Project) -> pd.DataFrame:
    """Write results/<profile>/tables/table2.{csv,md,tex}, and its PA where DVC shows metrics;
    returns the long form."""
    frame = table2_frame(project)
    trivial = trivial_frame(project, [project.params.profile.ablations.dataset])
    write_table2(frame, project.results / "tables", caption(project, "table2"), trivial)
    return frame


def trivial_frame(project: Project, datasets: Sequence[str]) -> pd.DataFrame:
    """The trivial answers' rows of Table 1 on these data sets."""
    rows = []
    for dataset in datasets:
        title = project.params.datasets[dataset].title
        answers = _beside(project, dataset, "trivial.json")
        rows += trivial_rows(dataset, title, answers, project.params.profile.reported)
    return pd.DataFrame(rows)


def table2_frame(project: Project) -> pd.DataFrame:
    """The long form of Table 2. Its last row, JSD with soft assignment, is Table 1's InfoSeg, not
    another run of it."""
    variants = [name for name in TABLE2 if name in project.params.profile.ablations.variants]
    methods = [*variants, "infoseg"] if variants else []
    evaluations = [one for method in methods for one in _rows(project, method)]
    return frame_table2(evaluations, project.params.profile.reported)


def table2b(project: Project) -> pd.DataFrame:
    """Write results/<profile>/tables/table2b.{csv,md,tex}; returns the long form."""
    frame = table2b_frame(project)
    write_table2b(frame, project.results / "tables", caption(project, "table2b"))
    return frame


def table2b_frame(project: Project) -> pd.DataFrame:
    """The long form of Table 2b."""
    profile, ablations = project.params.profile, project.params.profile.ablations
    rows = {m: text for m, text in ablations.table1_rows.items() if m in profile.methods}
    questions = rows | {
        name: project.params.variants[name].question
        for name in ablations.variants
        if name not in TABLE2 and name not in ablations.content.values()
    }
    variants = {name: (question, _rows(project, name)) for name, question in questions.items()}
    default = _rows(project, "infoseg") if variants else []
    return frame_table2b(default, variants, profile.reported)


def content(project: Project) -> pd.DataFrame:
    """Write results/<profile>/tables/content.{csv,md,tex}; returns the frame, which is empty where
    the profile asks for none."""
    frame = content_frame(project)
    if len(frame):
        write_content(frame, project.results / "tables", caption(project, "content"))
    return frame


def content_frame(project: Project) -> pd.DataFrame:
    """The table of content or place."""
    ablations = project.params.profile.ablations
    if not ablations.content:
        return pd.DataFrame()
    titles = {m: project.params.method(m, ablations.dataset).title for m in ablations.content}
    rows = _beside(project, ablations.dataset, "content.json")
    return content_table(rows, titles | TRIVIAL)


def figure4(project: Project) -> list[Path]:
    """Draw results/<profile>/figures/figure4.{png,svg}: the same pictures by each of its methods.

    The pictures are evenly spaced in rank by their PA under the last of the methods, first seed,
    the best first, the worst last.
    """
    profile = project.params.profile
    panels = []
    for dataset, count in profile.figure4.panels.items():
        if dataset not in profile.datasets:
            continue
        stage = f"evaluate@{dataset}"
        methods = [method for method in profile.figure4.methods if method in profile.methods]
        for method in methods:
            project.first_run(dataset, method)  # says so where every seed diverged
        shown = {
            project.params.method(method, dataset).title: read_examples(
                project.made_beside(dataset, f"figure4-{method}.npz"), stage
            )
            for method in methods
        }
        first = next(iter(shown.values()))
        places = np.linspace(0, len(first.images) - 1, min(count, len(first.images)))
        for i in places.round().astype(int).tolist():
            panels.append(
                Panel(
                    dataset_title=project.params.datasets[dataset].title,
                    letter=chr(ord("a") + len(panels)),
                    image=first.images[i],
                    predictions={title: found.predictions[i] for title, found in shown.items()},
                    annotation=first.annotations[i],
                    classes=list(first.classes),
                )
            )
    return draw_figure4(panels, project.results / "figures" / "figure4")
