"""What is there of every data set of a profile, and whether it is whole."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tqdm import tqdm

from infoseg.data.prepare import changed_since_prepared, check_against_data
from infoseg.data.store import Prepared, load_prepared
from infoseg.errors import DataError, ParamsError

if TYPE_CHECKING:
    from infoseg.runs import Project

State = Literal["missing", "present", "corrupt", "outdated", "prepared"]
"""missing: raw files are not there. present: they are, not yet prepared. corrupt: prepared arrays
that are not as they were written. outdated: whole, but made for other settings. prepared: ready."""

SHOWN_SKIPPED = 3
"""Inputs left out that the terminal names; ``meta.json`` has them all."""


@dataclass(frozen=True)
class Contents:
    """What a prepared data set holds.

    splits: (images, labelled ones) of each. shares: of every class, in order, percent of the
    annotated pixels. ignored: percent of the labelled images' pixels.
    bytes: of all its files. skipped: inputs that were left out, with the reason.
    """

    images: int
    labelled: int
    splits: dict[str, tuple[int, int]]
    shares: tuple[tuple[str, float], ...]
    ignored: float
    bytes: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """How one data set stands.

    folder: where its prepared arrays belong. problem: what is wrong, with the file at fault, and
    ``file`` that file alone, if it is one. advice: what to do. contents: of whole arrays.
    """

    dataset: str
    title: str
    folder: Path
    state: State
    problem: str = ""
    file: Path | None = None
    advice: str = ""
    contents: Contents | None = None


# ---- the state of the data sets ------------------------------------------------------------------


def check_data(
    project: Project,
    *,
    raw_problem: Callable[[str], str] | None = None,
    progress: bool = False,
) -> list[Status]:
    """Look at every data set of the profile; prepares, renders and changes nothing.

    raw_problem: says what is wrong with the raw files of a source, "" if nothing is; by default
    that they are not there. Asked only for data sets that are not prepared, once per source.
    Reads every prepared byte to compare the hashes: seconds per gigabyte.
    """
    if raw_problem is None:

        def raw_problem(source: str) -> str:
            path = project.raw(source)
            return "" if path.exists() else f"{path}: not found"

    asked: dict[str, str] = {}
    found = []
    names = project.params.profile.datasets
    for name in tqdm(names, "checking", unit="data set", mininterval=1.0, disable=not progress):
        if not project.prepared(name).exists():
            source = project.params.datasets[name].source
            if source not in asked:
                asked[source] = raw_problem(source)
            found.append(_not_prepared(project, name, asked[source]))
        else:
            found.append(_prepared(project, name))
    return found


def _not_prepared(project: Project, name: str, problem: str) -> Status:
    settings = project.params.datasets[name]
    command = _command(project, name)
    advice = f"Run `{command}`"
    if problem:
        kind = project.params.sources[settings.source].kind
        if kind == "local":
            advice = f"Put the files there, or correct sources.{settings.source}.path"
        elif kind == "official":
            profile = project.params.profile.name
            advice = f"Run `infoseg data fetch {settings.source} --profile {profile}`"
            advice += ", which downloads what can be had without asking"
        else:
            advice += ", which renders them first"
    return Status(
        name,
        settings.title,
        project.prepared(name),
        "missing" if problem else "present",
        problem=problem,
        advice=advice,
    )


def _prepared(project: Project, name: str) -> Status:
    settings, folder = project.params.datasets[name], project.prepared(name)

    def status(state: State, problem: str = "", file: Path | None = None, **more) -> Status:
        advice = f"Run `{_command(project, name)}`" if problem else ""
        return Status(
            name, settings.title, folder, state,
            problem=problem, file=file, advice=advice, **more,
        )  # fmt: skip

    try:
        prepared = load_prepared(folder, verify=True)
    except DataError as error:
        return status("corrupt", f"{error.file}: {error.problem}", error.file)
    except OSError as error:
        file = Path(error.filename) if error.filename else folder
        return status("corrupt", f"{file}: cannot be read ({error.strerror})", file)
    contents, problem = _contents(prepared), ""
    if changed := changed_since_prepared(settings, prepared):
        problem = f"{folder}: was prepared with another {changed}"
    else:
        try:
            check_against_data(settings, prepared, name)
        except ParamsError as error:
            return Status(
                name, settings.title, folder, "outdated",
                problem=str(error), advice="Correct it, or prepare again", contents=contents,
            )  # fmt: skip
    return status("outdated" if problem else "prepared", problem, contents=contents)


def _command(project: Project, name: str) -> str:
    return f"infoseg prepare {name} --profile {project.params.profile.name}"


def _contents(prepared: Prepared) -> Contents:
    meta = prepared.meta
    return Contents(
        images=meta.n_images,
        labelled=int(prepared.index["labelled"].sum()),
        splits={name: (split.images, split.labelled) for name, split in meta.splits.items()},
        shares=shares(prepared),
        ignored=100 * meta.ignored_share,
        bytes=sum(file.stat().st_size for file in prepared.path.iterdir()),
        skipped=tuple(f"{skipped.file}: {skipped.reason}" for skipped in meta.skipped),
        notes=tuple(meta.notes),
    )


def shares(prepared: Prepared) -> tuple[tuple[str, float], ...]:
    """Return every class and its percent of the annotated pixels; 0 if nothing is annotated."""
    meta = prepared.meta
    total = sum(meta.class_pixels) or 1
    percent = [100 * pixels / total for pixels in meta.class_pixels]
    return tuple(zip(meta.classes, percent, strict=True))


# ---- for the terminal ----------------------------------------------------------------------------


def format_status(statuses: list[Status], width: int = 100) -> str:
    """Return the states as text, a paragraph for every data set, lines of ``width`` at most."""
    paragraphs = []
    for status in statuses:
        lines = [f"{status.dataset} ({status.title}): {status.state}"]
        for line in _details(status):
            lines += textwrap.wrap(
                line, width, initial_indent="  ", subsequent_indent="    ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        paragraphs.append("\n".join(lines))
    return "\n".join(paragraphs)


def _details(status: Status) -> Iterator[str]:
    if status.problem:
        yield status.problem
    if status.advice:
        yield f"{status.advice}."
    if (contents := status.contents) is None:
        return
    splits = ", ".join(f"{name} {images:,}" for name, (images, _) in contents.splits.items())
    labelled = {0: "none", contents.images: "all"}.get(contents.labelled, f"{contents.labelled:,}")
    yield f"{_count(contents.images, 'image')} ({splits}), {labelled} labelled"
    yield f"{_size(contents.bytes)} in {status.folder}"
    if contents.labelled:
        shares = ", ".join(f"{name} {share:.1f}" for name, share in contents.shares)
        yield f"percent of the annotated pixels: {shares}"
        yield f"{contents.ignored:.1f} % of the labelled images' pixels are ignored"
    if contents.skipped:
        shown = "; ".join(contents.skipped[:SHOWN_SKIPPED])
        more = len(contents.skipped) - SHOWN_SKIPPED
        rest = f"; {more:,} more in meta.json" if more > 0 else ""
        yield f"{_count(len(contents.skipped), 'input')} left out: {shown}{rest}"
    for note in contents.notes:
        yield f"note: {note}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _size(count: int) -> str:
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 1)):
        if count < 1000:
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
