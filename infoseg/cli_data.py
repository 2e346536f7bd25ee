"""`infoseg data`: what is there of the data sets, and their official files."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

import yaml

from infoseg.files import DataError, InfosegError, visible

if TYPE_CHECKING:
    from infoseg.data.store import Prepared
    from infoseg.runs import Project
    from infoseg.settings import Params


def add_command(commands, name: str, help: str, parents: list[argparse.ArgumentParser], text: str):
    """Add a command whose description is printed as it is written."""
    return commands.add_parser(
        name,
        help=help,
        description=text,
        parents=parents,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_commands(commands, common: argparse.ArgumentParser) -> None:
    """Add `data` to the command line's."""
    data = add_command(
        commands,
        "data",
        "say what is there of the data sets, and whether it is whole; fetch raw files",
        [common],
        "One line for every source and data set of the profile: there; missing, and what to do;\n"
        "damaged, and which file; prepared, with counts, class shares and size. Reads every\n"
        "prepared byte. The exit status is 0 if all data sets are prepared.\n\n"
        "With `fetch`, as the stages data@… do: find the raw files in the folder that INFOSEG_RAW\n"
        "names, download what is missing and may be downloaded (resumed after an interruption,\n"
        "verified), or render the demo's. The other sources go on when one fails.",
    )
    data.add_argument("verb", nargs="?", choices=["fetch"])
    data.add_argument("sources", nargs="*", help="keys under `sources`; default: the profile's")


def listed(params: Params) -> str:
    """Return tables of the data sets, the methods and the profiles, as text."""
    from infoseg.settings import CONF  # deferred, as all that costs time

    first = params.profile.datasets[0]
    datasets = [("data set", "title", "clusters", "crop in px")]
    datasets += [(key, d.title, d.clusters, d.crop) for key, d in params.datasets.items()]
    methods = [("method", "title", "seeds", "steps")]
    for key in params.method_names:
        settings = params.method(key, first)
        optimiser = getattr(settings, "optimiser", None)
        seeds = len(settings.seeds) if key in params.profile.methods else ""
        methods.append((key, settings.title, seeds, optimiser.steps if optimiser else ""))
    profiles = [("profile", "description")]
    for file in sorted((CONF / "profile").glob("*.yaml")):
        profiles.append((file.stem, yaml.safe_load(file.read_text())["profile"]["description"]))
    return "\n\n".join(map(_table, (datasets, methods, profiles)))


def _table(rows: list[tuple[Any, ...]]) -> str:
    """Rows as lines of aligned columns."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{cell!s:{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def run_with_project(options: argparse.Namespace, project: Project) -> int:
    """Run `data` or `data fetch`; returns the exit status."""
    if options.verb == "fetch":
        failed = 0
        for source in options.sources or project.params.profile.sources:
            try:
                print(f"{source}: {project.make_raw(source)}")
            except DataError as error:
                print(f"infoseg: {source}: {error}", file=sys.stderr)
                failed = 1
        return failed
    for source in project.params.profile.sources:
        print(visible(f"{source}: {source_status(project, source)}"))
    whole = True
    for name in project.params.profile.datasets:
        text, prepared = dataset_status(project, name)
        whole &= prepared
        print(visible(f"{name}: {text}"))
    return 0 if whole else 1


def source_status(project: Project, source: str) -> str:
    """Say in a line whether the raw files of a source are there; fetches and makes nothing."""
    problem = project.raw_problem(source)
    if not problem:
        return f"there, {project.raw(source)}"
    kind, profile = project.params.sources[source].kind, project.params.profile.name
    if kind == "local":
        advice = f"put the files there, or correct sources.{source}.path"
    elif kind == "official":
        advice = f"run `infoseg data fetch {source} --profile {profile}`"
    else:
        advice = "`infoseg prepare` renders them"
    return f"missing, {problem.rstrip('.')}; {advice}"


def dataset_status(project: Project, name: str) -> tuple[str, bool]:
    """Say in a line how a data set stands, and whether it is prepared and whole.

    Reads every prepared byte to compare the hashes: seconds per gigabyte.
    """
    from infoseg.data.prepare import changed_since_prepared, check_against_data
    from infoseg.data.store import load_prepared

    settings, folder = project.params.datasets[name], project.prepared(name)
    advice = f"run `infoseg prepare {name} --profile {project.params.profile.name}`"
    if not folder.exists():
        return f"not prepared; {advice}", False
    try:
        prepared = load_prepared(folder, verify=True)
    except DataError as error:
        return f"damaged, {error.file}: {error.problem}; {advice}", False
    except OSError as error:
        return f"damaged, {error.filename}: cannot be read ({error.strerror}); {advice}", False
    if changed := changed_since_prepared(settings, prepared):
        return f"outdated, prepared with another {changed}; {advice}", False
    try:
        check_against_data(settings, prepared, name)
    except InfosegError as error:
        return f"outdated, {error}; correct it, or {advice}", False
    return f"prepared, {_contents(prepared)}", True


def _contents(prepared: Prepared) -> str:
    """Return counts, size, class shares in percent of the annotated pixels, what was left out."""
    meta = prepared.meta
    labelled = sum(split.labelled for split in meta.splits.values())
    splits = ", ".join(f"{name} {split.images:,}" for name, split in meta.splits.items())
    size = sum(file.stat().st_size for file in prepared.path.iterdir()) / 1e6
    parts = [f"{meta.n_images:,} images ({splits}), {labelled:,} labelled, {size:,.1f} MB"]
    if labelled:
        pixels = list(zip(meta.classes, meta.class_pixels, strict=True))
        total = sum(meta.class_pixels) or 1
        shares = ", ".join(f"{name} {100 * count / total:.1f}" for name, count in pixels)
        parts += [f"% of pixels: {shares}, ignored {100 * meta.ignored_share:.1f}"]
    if meta.skipped:
        first = meta.skipped[0]
        parts.append(f"{meta.n_skipped:,} left out ({first.file}: {first.reason}, …)")
    return "; ".join([*parts, *meta.notes])
