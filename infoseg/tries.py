"""Choosing settings: every method gets the same number of tries, judged on one half of the images.

A file of tries names, for each data set and method, what is changed of the method's settings:

    street:
      kmeans: [{}, {standardise: true}]
      iic: [{}, {optimiser: {learning_rate: 1.0e-3}}]

The other half's accuracy is neither shown nor written here. What is chosen is put into `conf/` by
hand, where everybody can see it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from infoseg.errors import ParamsError
from infoseg.parallel import side_by_side
from infoseg.params import Params, Run, merge, parse_params
from infoseg.project import Project
from infoseg.reporting.tables import write_frame

Tries = dict[str, dict[str, list[dict[str, Any]]]]


def load_tries(path: Path, params: Params) -> Tries:
    """Read a file of tries.

    Raises ParamsError for a missing or unreadable file, an unknown data set or method, and when the
    methods of a data set do not all have the same number of tries.
    """
    try:
        tries = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ParamsError(f"{path} cannot be read as tries: {error}") from None
    shape = f"{path}: expected data set → method → list of changed settings"
    if not isinstance(tries, dict):
        raise ParamsError(shape)
    for dataset, methods in tries.items():
        if dataset not in params.datasets:
            raise ParamsError(f"{path}: '{dataset}' is not among {sorted(params.datasets)}")
        if not isinstance(methods, dict):
            raise ParamsError(shape)
        for method, changes in methods.items():
            if method not in params.methods:
                raise ParamsError(f"{path}: '{method}' is not among {sorted(params.methods)}")
            if not (isinstance(changes, list) and all(isinstance(c, dict) for c in changes)):
                raise ParamsError(shape)
        counts = {method: len(changes) for method, changes in methods.items()}
        if len(set(counts.values())) > 1:
            raise ParamsError(f"{path}: {dataset}: not the same number of tries for all: {counts}")
    return tries


def with_tries(params: Params, tries: Tries) -> tuple[Params, list[Run]]:
    """The settings with every try as a method `NAME-try1`, and a run of seed 0 for each."""
    raw = params.model_dump()
    runs = []
    for dataset, methods in tries.items():
        for method, changes in methods.items():
            for number, change in enumerate(changes, 1):
                name = f"{method}-try{number}"
                settings = raw["methods"].setdefault(name, raw["methods"][method])
                # What is tried comes after the settings the data set has already.
                here = {"per_dataset": {dataset: change}}
                raw["methods"][name] = merge(settings, here)
                runs.append(Run(dataset=dataset, method=name, seed=0))
    return parse_params(raw, "tries"), runs


def run_tries(project: Project, path: Path, jobs: int) -> pd.DataFrame:
    """Train and judge every try; writes results/<profile>/tries.csv and returns its rows.

    pa_chosen: PA on the half of the images settings are chosen on; taken: the best of a method.
    """
    tries = load_tries(path, project.params)
    params, runs = with_tries(project.params, tries)
    project = Project(project.folder, params, project.root, project.make_missing)
    for dataset in tries:
        project.load(dataset)  # once, before several processes want it
    found = side_by_side(_judge, [(project, run) for run in runs], jobs, "tries")
    rows = []
    for run, pa in zip(runs, found, strict=True):
        method, _, number = run.method.rpartition("-try")
        change = tries[run.dataset][method][int(number) - 1]
        rows.append(
            {
                "dataset": run.dataset,
                "method": method,
                "try": int(number),
                "changed": json.dumps(change),
                "pa_chosen": pa,
            }
        )
    frame = pd.DataFrame(rows)
    best = frame.groupby(["dataset", "method"])["pa_chosen"].idxmax()
    frame["taken"] = frame.index.isin(best)
    write_frame(frame, project.results / "tries.csv")
    return frame


def _judge(project: Project, run: Run) -> float:
    if not project.is_current(run):
        project.train(run.dataset, run.method, run.seed)
        project.evaluate(run.dataset, run.method, run.seed)
    return project.evaluation(run)["last"]["halves"]["chosen"]["pa"]
