"""Several trainings of one setting, and the choice of one of them without labels."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from infoseg.errors import ParamsError
from infoseg.files import write_json, write_whole
from infoseg.params import Run
from infoseg.project import Project
from infoseg.selection import FEWEST, choose_seed, seed_agreements


def _settings(runs: Sequence[Run]) -> dict[tuple[str, str], list[int]]:
    """Positions of the runs that differ in their seed alone, by data set and method."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault((run.dataset, run.method), []).append(place)
    return found


def agreements(project: Project, runs: Sequence[Run]) -> list[float]:
    """How far each run's labels agree with those of its setting's other seeds; NaN without any."""
    found = [math.nan] * len(runs)
    for places in _settings(runs).values():
        if len(places) > 1:
            maps = [project.maps(runs[place]) for place in places]
            for place, value in zip(places, seed_agreements(maps), strict=True):
                found[place] = value
    return found


def selected_seeds(project: Project, runs: Sequence[Run]) -> dict[tuple[str, str], int]:
    """The seed that agrees best with the others, for data sets and methods with three or more."""
    several = {key: places for key, places in _settings(runs).items() if len(places) >= FEWEST}
    found = {}
    for key, places in several.items():
        seeds = [runs[place] for place in places]
        found[key] = seeds[choose_seed(agreements(project, seeds))].seed
    return found


def train_restarts(
    project: Project, dataset: str, method: str, seeds: Sequence[int]
) -> tuple[Path, list[float]]:
    """Train a run for every seed and keep the one that agrees best with the others.

    Writes runs/<profile>/<data set>-<method>-selected/: weights.safetensors, a copy of the chosen
    run's, and selection.json, what it was chosen by. Returns the folder and every
    seed's agreement. Raises ParamsError, before anything is trained, for fewer than three seeds.
    """
    if len(seeds) < FEWEST:
        raise ParamsError(f"restarts: {len(seeds)} are too few to choose among, {FEWEST} or more")
    runs = [Run(dataset=dataset, method=method, seed=seed) for seed in seeds]
    for run in runs:
        project.train(dataset, method, run.seed)
    values = agreements(project, runs)
    chosen = runs[choose_seed(values)]
    folder = project.runs / f"{dataset}-{method}-selected"
    source = project.runs / chosen.key / "weights.safetensors"
    write_whole(folder / source.name, lambda file: shutil.copyfile(source, file))
    by_seed = {str(seed): value for seed, value in zip(seeds, values, strict=True)}
    told = {"by": "seed_agreement", "seed": chosen.seed, "agreements": by_seed}
    write_json(folder / "selection.json", told)
    return folder, values
