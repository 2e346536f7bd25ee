"""Several trainings of one setting, and the choice of one of them without labels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from infoseg.errors import ParamsError
from infoseg.files import write_json, write_whole
from infoseg.params import Run
from infoseg.project import Project
from infoseg.selection import FEWEST, choose_seed, seed_agreements


def train_restarts(
    project: Project, dataset: str, method: str, seeds: Sequence[int]
) -> tuple[Path, list[float]]:
    """Train a run for every seed and keep the one that agrees best with the others.

    Writes runs/<profile>/<data set>-<method>-selected/: weights.safetensors, a copy of the chosen
    run's, and selection.json, what it was chosen by. Returns the folder and the agreement of every
    seed. Raises ParamsError, before anything is trained, for fewer than three seeds.
    """
    if len(seeds) < FEWEST:
        raise ParamsError(f"restarts: {len(seeds)} are too few to choose among, {FEWEST} or more")
    runs = [Run(dataset=dataset, method=method, seed=seed) for seed in seeds]
    for run in runs:
        project.train(dataset, method, run.seed)
        project.maps_path(run).unlink(missing_ok=True)  # of older weights
    maps = [project.maps(run) for run in runs]
    chosen, agreements = runs[choose_seed(maps)], seed_agreements(maps)
    folder = project.runs / f"{dataset}-{method}-selected"
    source = project.runs / chosen.key / "weights.safetensors"
    write_whole(folder / source.name, lambda file: shutil.copyfile(source, file))
    told = {"by": "seed_agreement", "seed": chosen.seed}
    told["agreements"] = {str(seed): value for seed, value in zip(seeds, agreements, strict=True)}
    write_json(folder / "selection.json", told)
    return folder, agreements
