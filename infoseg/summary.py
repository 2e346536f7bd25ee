"""The report page of a profile, and the README's results: what was found."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from infoseg.data.folder import read_about
from infoseg.diagnostics import signs
from infoseg.errors import DataError
from infoseg.files import find_root, write_whole
from infoseg.illustrations import ILLUSTRATIONS
from infoseg.reporting.claims import claims
from infoseg.reporting.content import content_grid
from infoseg.reporting.markup import Grid
from infoseg.reporting.report import (
    ReportContent,
    ReportFigure,
    ReportTable,
    read_deviations,
    write_report,
)
from infoseg.reporting.table2 import table2_grid, table2b_grid
from infoseg.reporting.tables import table1_grid
from infoseg.results import (
    caption,
    content_frame,
    table1_frame,
    table2_frame,
    table2b_frame,
    trivial_frame,
)
from infoseg.settings import CocoScenesSource, LocalSource, PotsdamScenesSource, Run

if TYPE_CHECKING:
    from infoseg.runs import Project

#: Where the deviations stand, once, for readers of the repository and of the report.
DEVIATIONS = Path("docs/deviations.md")
RENDERED = (CocoScenesSource, PotsdamScenesSource)
HEADINGS = (
    "Table 1: all methods",
    "Table 2: measure and assignment",
    "Content or place",
    "Table 2b: open choices",
)
TEXTS = (
    "",
    "The paper's ablations (5.5). JSD with soft assignment is Table 1's InfoSeg. The numbers the "
    "paper prints are of the real COCO-Stuff-3.",
    "Whether a method goes by what a picture shows or by where in it something lies. Stripes go by "
    "place alone: what falls as they do when pictures stand on their head has learnt a layout.",
    "What the paper leaves open, one question at a time: the default, and what was tried in its "
    "place. With one seed a difference of a few points may be luck.",
)


def report(project: Project) -> Path:
    """Write results/<profile>/report.html from tables and figures that are there already.

    Raises DataError naming the stage for a figure that is missing.
    """
    profile, params = project.params.profile, project.params
    tables = table1_frame(project), table2_frame(project), table2b_frame(project)
    frames = *tables[:2], content_frame(project), tables[2]
    grids = _grids(project, frames)
    figures = []
    for name, heading, alt, text in ILLUSTRATIONS:
        suffix = ".png" if name in ("figure1", "figure2", "figure4") else ".svg"
        folder = project.root / "docs" if name == "figure3" else project.results / "figures"
        path = folder / f"{name}{suffix}"
        if not path.exists():
            raise DataError("not found", file=path, advice="Run stage figures first")
        if name == "figure4":
            text += credits(project)
        figures.append(ReportFigure(heading, path, alt, text))
    runs = [*params.runs(), *params.ablations()]
    return write_report(
        ReportContent(
            title="InfoSeg, reproduced",
            profile=profile.name,
            description=profile.description,
            data=_data(project),
            is_demo=any(isinstance(params.sources[s], RENDERED) for s in profile.sources),
            papers_data=params.papers_data,
            tables=[
                ReportTable(heading, grid, text)
                for heading, grid, text in zip(HEADINGS, grids, TEXTS, strict=True)
                if grid is not None
            ],
            figures=figures,
            claims=claims(*tables, shares=class_shares(project)),
            signs=run_signs(project, runs),
            deviations=read_deviations(project.root / DEVIATIONS),
        ),
        project.results / "report.html",
    )


def credits(project: Project) -> str:
    """Who the photographs are by, as their `dataset.json` says; "" where none says it."""
    lines = []
    for dataset in project.params.profile.figure4.panels:
        settings = project.params.datasets[dataset]
        if isinstance(project.params.sources[settings.source], LocalSource):
            about = read_about(project.raw(settings.source))
            if credit := about.get("attribution") or about.get("source"):
                licence = about.get("licence", "no licence stated")
                lines.append(
                    f"{settings.title}: {credit}" + f", {licence}" * (licence not in credit)
                )
    return f" Photographs: {'; '.join(lines)}." if lines else ""


def _grids(project: Project, frames) -> list[Grid | None]:
    first, second, content, third = frames
    return [
        table1_grid(
            first,
            caption(project, "table1"),
            project.params.papers_data,
            project.params.profile.notes,
        ),
        table2_grid(
            second,
            caption(project, "table2"),
            trivial_frame(project, [project.params.profile.ablations.dataset]),
        )
        if len(second)
        else None,
        content_grid(content, caption(project, "content")) if len(content) else None,
        table2b_grid(third, caption(project, "table2b")) if len(third) else None,
    ]


def class_shares(project: Project) -> dict[str, dict[str, float]]:
    """Shares of the annotated pixels in percent, by title of the data set and class."""
    shares = {}
    for dataset in project.params.profile.datasets:
        meta = project.load(dataset).meta
        total = max(1, sum(meta.class_pixels))
        pairs = zip(meta.classes, meta.class_pixels, strict=True)
        shares[project.params.datasets[dataset].title] = {n: 100 * p / total for n, p in pairs}
    return shares


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
    evaluations = [(run.key, project.evaluation(run)) for run in runs]
    stripes = {name: project.stripes_pa(name) for name in {run.dataset for run in runs}}
    return [
        (
            key,
            [e["diverged"]]
            if e["diverged"]
            else signs(e["last"], stripes_pa=stripes[e["dataset"]]),
        )
        for key, e in evaluations
    ]


# ---- README --------------------------------------------------------------------------------------


def readme(root: Path) -> str:
    """README.md with a profile's committed tables (1, 2, content or place) between
    `<!-- results:<profile> -->` and `<!-- /results -->`. Raises DataError without these marks."""
    path = root / "README.md"
    marks = re.compile(r"(<!-- results:(\S+) -->\n).*?(<!-- /results -->)", re.DOTALL)
    text = path.read_text(encoding="utf-8")
    if not (place := marks.search(text)):
        raise DataError("has no place for results", file=path)
    folder = root / "results" / place[2] / "tables"
    tables = [folder / "table1.md", folder / "table2.md", *folder.glob("content.md")]
    for table in tables:
        if not table.exists():
            raise DataError("not found", file=table, advice="Run `make repro` first")
    section = "\n".join(table.read_text(encoding="utf-8") for table in tables)
    return text[: place.end(1)] + f"\n{section}\n" + text[place.start(3) :]


def main(words: list[str]) -> str | None:
    """`python -m infoseg.summary`: renew README.md; `check`: say so where it would change."""
    root = find_root()
    try:
        renewed = readme(root)
    except DataError as error:
        return f"infoseg: {error}"
    if words != ["check"]:
        write_whole(root / "README.md", lambda file: file.write_text(renewed, encoding="utf-8"))
    elif renewed != (root / "README.md").read_text(encoding="utf-8"):
        return "README.md has other results than results/: run `python -m infoseg.summary`"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
