"""The tracked outputs: tables and figures of a profile, from the evaluations of its runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from infoseg.files import write_csv
from infoseg.params import Run
from infoseg.provenance import flat_provenance
from infoseg.reporting.figures import Panel, table1_bars
from infoseg.reporting.figures import figure4 as draw_figure4
from infoseg.reporting.style import save_figure
from infoseg.reporting.table2 import table2 as frame_table2
from infoseg.reporting.table2 import write_table2
from infoseg.reporting.tables import table1 as frame_table1
from infoseg.reporting.tables import write_table1

if TYPE_CHECKING:
    from infoseg.project import Project


def table1(project: Project) -> pd.DataFrame:
    """Write results/<profile>/table1.{csv,md,tex,png} and provenance.csv from all runs.

    Returns the long form of the table.
    """
    profile, runs = project.params.profile, project.params.runs()
    evaluations = [project.evaluation(run) for run in runs]
    frame = frame_table1(evaluations, profile.datasets, profile.methods, runs)
    write_table1(frame, project.results, f"Pixel accuracy on {profile.description}.")
    made = [
        {"run": run.key, **flat_provenance(evaluation["trained"])}
        for run, evaluation in zip(runs, evaluations, strict=True)
    ]
    write_csv(project.results / "provenance.csv", made)
    save_figure(table1_bars(frame), project.results / "table1.png", "Table 1 as bars")
    return frame


def timings(project: Project) -> Path:
    """Write results/<profile>/timing.csv: seconds, images/s and memory of each run made here.

    A file of its own, because it alone differs when the same thing is made again.
    """
    rows = []
    for run in project.params.runs():
        path = project.runs / run.key / "timing.json"
        if path.exists():
            rows.append({"run": run.key, **json.loads(path.read_text())})
    write_csv(project.results / "timing.csv", rows)
    return project.results / "timing.csv"


def table2(project: Project, seeds: Sequence[int]) -> pd.DataFrame:
    """Write results/<profile>/table2.{csv,md} over some seeds; returns the long form."""
    rows = project.params.profile.table2
    evaluations = [
        project.evaluation(Run(dataset=rows.dataset, method=method, seed=seed))
        for method in rows.methods
        for seed in seeds
    ]
    frame = frame_table2(evaluations)
    write_table2(frame, project.results, f"Ablations on {project.params.profile.description}.")
    return frame


def figure4(project: Project) -> list[Path]:
    """Draw results/<profile>/figure4.{png,svg} from the runs' examples, first seed."""
    profile = project.params.profile
    panels = []
    for dataset, count in profile.figure4.panels.items():
        shown = {}
        for method in profile.figure4.methods:
            run = Run(dataset=dataset, method=method, seed=profile.seeds[0])
            shown[project.params.method(method, dataset).title] = project.examples(run)
        first = next(iter(shown.values()))
        for i in range(min(count, len(first.images))):
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
    return draw_figure4(panels, project.results / "figure4")
