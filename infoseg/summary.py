"""The report page of a profile, and the README's results section: what was found, from the runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from infoseg.errors import DataError
from infoseg.files import write_whole
from infoseg.illustrations import ILLUSTRATIONS
from infoseg.params import LocalSource, Run
from infoseg.reporting.claims import claims
from infoseg.reporting.markup import Grid, markdown
from infoseg.reporting.report import (
    ReportContent,
    ReportFigure,
    ReportTable,
    read_deviations,
    write_report,
)
from infoseg.reporting.signs import signs
from infoseg.reporting.table2 import table2_grid, table2b_grid
from infoseg.reporting.tables import table1_grid
from infoseg.results import (
    caption,
    table1_frame,
    table2_frame,
    table2b_frame,
)

if TYPE_CHECKING:
    from infoseg.project import Project

#: Where the deviations stand, once, for readers of the repository and of the report.
DEVIATIONS = Path("docs/deviations.md")
HEADINGS = (
    "Table 1: all methods",
    "Table 2: measure and assignment",
    "Table 2b: open choices",
)
TEXTS = (
    "",
    "The paper's ablations (5.5). JSD with soft assignment is Table 1's InfoSeg. The numbers the "
    "paper prints are of the real COCO-Stuff-3.",
    "What the paper leaves open, one question at a time: the default, and what was tried in its "
    "place. With one seed a difference of a few points may be luck.",
)


def report(project: Project) -> Path:
    """Write results/<profile>/report.html from tables and figures that are there already.

    Raises DataError naming the stage for a figure that is missing.
    """
    profile, params = project.params.profile, project.params
    frames = table1_frame(project), table2_frame(project), table2b_frame(project)
    grids = _grids(project, frames)
    figures = []
    for name, heading, alt, text in ILLUSTRATIONS:
        suffix = ".png" if name in ("figure1", "figure2", "figure4") else ".svg"
        path = project.results / f"{name}{suffix}"
        if not path.exists():
            raise DataError("not found", file=path, advice="Run stages figures and figure4 first")
        figures.append(ReportFigure(heading, path, alt, text))
    runs = [*params.runs(), *params.ablations()]
    return write_report(
        ReportContent(
            title="InfoSeg, reproduced",
            profile=profile.name,
            description=profile.description,
            data=_data(project),
            is_demo=not all(isinstance(params.sources[s], LocalSource) for s in profile.sources),
            papers_data=params.papers_data,
            tables=[
                ReportTable(heading, grid, text)
                for heading, grid, text, frame in zip(HEADINGS, grids, TEXTS, frames, strict=True)
                if len(frame)
            ],
            figures=figures,
            claims=claims(*frames),
            signs=run_signs(project, runs),
            deviations=read_deviations(project.root / DEVIATIONS),
            notebooks=_notebooks(project, runs),
        ),
        project.results / "report.html",
    )


def _grids(project: Project, frames) -> list[Grid]:
    first, second, third = frames
    return [
        table1_grid(first, caption(project, "table1"), project.params.papers_data),
        table2_grid(second, caption(project, "table2")),
        table2b_grid(third, caption(project, "table2b")),
    ]


def _data(project: Project) -> str:
    """What the pictures are, in a sentence."""
    sizes = []
    for dataset in project.params.profile.datasets:
        prepared = project.load(dataset)
        sizes.append(f"{project.params.datasets[dataset].title} ({len(prepared)} pictures)")
    description = project.params.profile.description
    return f"{description[:1].upper()}{description[1:]}: {', '.join(sizes)}."


def run_signs(project: Project, runs: list[Run]) -> list[tuple[str, list[str]]]:
    """Early failure signs of every run, in plain sentences."""
    return [(run.key, signs(project.evaluation(run)["last"])) for run in runs]


def _notebooks(project: Project, runs: list[Run]) -> list[tuple[str, str]]:
    """Executed notebooks of the pipeline, relative to the page."""
    paths = [(f"{run.key}: training", project.runs / run.key / "train.ipynb") for run in runs]
    paths += [(f"{run.key}: evaluation", project.runs / run.key / "evaluate.ipynb") for run in runs]
    return [(name, Path(os.path.relpath(path, project.results)).as_posix()) for name, path in paths]


# ---- README --------------------------------------------------------------------------------------


def readme_section(project: Project) -> str:
    """What stands between the README's markers: the tables and what became of the claims."""
    frames = table1_frame(project), table2_frame(project), table2b_frame(project)
    found = [f"- **{c.verdict}** ({c.source}): {c.text} {c.finding}" for c in claims(*frames)]
    grids = _grids(project, frames)
    return "\n".join([*(markdown(grid) for grid in grids[:2]), *found, ""])


def write_readme(project: Project) -> bool:
    """Renew the results section of README.md; whether it has one for this profile.

    It stands between `<!-- results:<profile> -->` and `<!-- /results -->`, and is written by the
    pipeline alone.
    """
    path = project.root / "README.md"
    opening, closing = f"<!-- results:{project.params.profile.name} -->\n", "<!-- /results -->"
    text = path.read_text(encoding="utf-8")
    before, mark, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not mark or not end:
        return False
    renewed = f"{before}{mark}\n{readme_section(project)}\n{end}{after}"
    if renewed != text:
        write_whole(path, lambda file: file.write_text(renewed, encoding="utf-8"))
    return True
