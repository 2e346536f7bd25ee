"""`infoseg export RUN`: what a project knows of a run, put together for its model card."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from infoseg.data.folder import read_about
from infoseg.data.store import load_prepared, sha256_of
from infoseg.export import (
    EXPORT_FORMAT,
    LIMITS,
    Export,
    as_percent,
    export_weights,
)
from infoseg.files import DataError, in_clone
from infoseg.machine import git_commit
from infoseg.runs import Project
from infoseg.settings import (
    CocoPersonsParams,
    CocoScenesSource,
    Dataset,
    FolderParams,
    LocalSource,
    OfficialSource,
    PotsdamScenesSource,
    Run,
)
from infoseg.weights import Card, read_card

_RENDERED = CocoScenesSource | PotsdamScenesSource


def export_run(project: Project, name: str, to: Path | None = None) -> Path:
    """Write the last weights of a run of the project's profile, with their model card.

    name: <data set>-<method>-<seed>. to: default <name>.safetensors in the present folder. Raises
    DataError for a run that is not there, listing those that are.
    """
    there = {}
    for path in sorted(project.runs.glob("*/*/*.safetensors")):
        method, dataset = path.parent, path.parent.parent
        run = Run(dataset=dataset.name, method=method.name, seed=int(path.stem))
        there[run.key] = run
    if name not in there:
        listed = f"There are: {', '.join(there)}" if there else "There is no run here yet"
        raise DataError(
            "there is no such run", file=project.runs / name, advice=f"{listed}; train it first"
        )
    run, target = there[name], to or Path(f"{name}.safetensors")
    return export_weights(project.weights_path(run), target, describe_run(project, run))


def describe_run(project: Project, run: Run) -> Export:
    """The facts of a run: its data, licence, accuracy by seed, and what it is not good for."""
    weights = project.weights_path(run)
    card = read_card(weights)
    dataset = project.params.datasets.get(card.dataset)
    if dataset is None:
        raise DataError(
            f"is of data set '{card.dataset}', which this profile has not",
            file=weights,
            advice="Name the profile it was trained with (--profile)",
        )
    evaluations = {
        str(seed): found
        for seed in _seeds(project, run)
        if (found := _json(project.evaluation_path(run.model_copy(update={"seed": seed}))))
        and not found["diverged"]
        and _same_making(found["made_with"], card)
    }
    own = evaluations.get(str(card.seed))
    if own and own["made_with"].get("weights") != sha256_of(weights):
        own = None
    images = labelled = None
    if (project.prepared(card.dataset) / "meta.json").is_file():
        prepared = load_prepared(project.prepared(card.dataset))
        images, labelled = len(prepared), int(prepared.index["labelled"].sum())
    data, licence = _source(project, dataset)
    limits = list(LIMITS)
    if isinstance(project.params.sources[dataset.source], _RENDERED):
        limits.insert(
            0,
            "Trained on drawn scenes, to show that everything works: expect little on photographs.",
        )
    names = None
    if own:
        match = own["last"]["match"]
        names = [match[str(k)] for k in range(len(match))]
    return Export(
        format=EXPORT_FORMAT,
        title=f"{card.settings['title']} on {dataset.title}, seed {card.seed}",
        data=data,
        licence=licence,
        images=images,
        labelled=labelled,
        shorter_side=getattr(dataset, "shorter_side", None)
        if isinstance(dataset, FolderParams | CocoPersonsParams)
        else None,
        cluster_names=names,
        # Those of this run alone, where it was not evaluated itself, would be another's.
        pa={seed: as_percent(found) for seed, found in evaluations.items()} if own else {},
        miou=own["last"]["miou"] if own else None,
        constant_pa=own["last"]["constant_pa"] if own else None,
        # Outside a clone of this repository a commit would be another project's.
        commit=git_commit(project.root) if in_clone(project.root) else None,
        signals=[],
        limits=limits,
    )


def _same_making(made_with: dict[str, Any], card: Card) -> bool:
    """Whether an evaluation is of weights made like these, whatever their seed."""
    parts = ("settings", "training", "prepared", "data")
    return all(made_with.get(part) == getattr(card, part) for part in parts)


def _seeds(project: Project, run: Run) -> list[int]:
    """Seeds of a run's setting that are evaluated, in order."""
    stem = f"{run.method}-"
    files = project.evaluation_path(run).parent.glob(f"{stem}*.json")
    return sorted(int(s) for f in files if (s := f.stem.removeprefix(stem)).isdigit())


def _json(path: Path) -> dict[str, Any] | None:
    """A file of a run that may be missing; None also where it is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _source(project: Project, dataset: Dataset) -> tuple[str, str]:
    """What a data set is, in words, and its licence."""
    settings = project.params.sources[dataset.source]
    if isinstance(settings, _RENDERED):
        return (
            f"{dataset.title}: scenes drawn by `infoseg.data.scenes` of this repository, "
            f"seed {settings.seed}",
            "MIT, that of the repository, for scenes and weights alike",
        )
    if isinstance(settings, OfficialSource):
        return f"{dataset.title}, the published files", "; ".join(_licences(settings.group))
    assert isinstance(settings, LocalSource)
    about = read_about(project.raw(dataset.source))
    source, licence = about.get("source"), about.get("licence")
    if licence and (credit := about.get("attribution")):
        licence = f"{licence} ({credit})"
    return (
        f"{dataset.title}, a folder of pictures" + (f" ({source})" if source else ""),
        licence or "not stated; that of the pictures' owners holds for what is made of them",
    )


@cache
def _licences(group: str) -> list[str]:
    """Licences of a group of official files, each once."""
    file = resources.files("infoseg.data") / "official.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    found: dict[str, None] = {}

    def look(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("licence"), str):
                found.setdefault(node["licence"])
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(tree.get("groups", tree).get(group, tree))
    return list(found)
