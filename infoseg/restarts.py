"""Several trainings of one setting, and the choice of one of them without labels."""

from __future__ import annotations

from collections.abc import Sequence

from infoseg.files import ParamsError
from infoseg.machine import choose_precision, reproducible
from infoseg.runs import Project
from infoseg.selection import FEWEST, choose_seed, label_maps, seed_agreements
from infoseg.settings import Run


def train_restarts(
    project: Project, dataset: str, method: str, seeds: Sequence[int]
) -> tuple[Run, list[float]]:
    """Train a run for every seed; returns the one that agrees best with the others, and how far
    each does. Raises ParamsError, before anything is trained, for fewer than three seeds."""
    if len(seeds) < FEWEST:
        raise ParamsError(f"restarts: {len(seeds)} are too few to choose among, {FEWEST} or more")
    project.train(dataset, method, seeds)
    runs = [Run(dataset=dataset, method=method, seed=seed) for seed in seeds]
    training, maps = project.params.training, []
    for run in runs:
        model = project.model(run)
        data = project.crops(dataset, model)
        with reproducible(training, run.seed):
            precision = choose_precision(training.precision, data.device)
            maps.append(label_maps(model, data, training.evaluation_batch, precision))
    values = seed_agreements(maps)
    return runs[choose_seed(values)], values
