"""The open choices of InfoSeg, settled by successive halving over one parameter file.

`conf/study.yaml` lists questions in the order of their expected effect. Each has candidates, which
are changes to `base` and to the profile's settings of InfoSeg, and rounds: every candidate of a
round is trained for as many steps on all data sets and seeds, judged on the half of the images that
settings are chosen on, and the best `keep` go on to the next. The other half's accuracy is neither
shown nor written, but for questions that are marked `report`, which conclude.

The compared methods have questions of their own there, `tries_…`, as many candidates each.

What a question concludes is put into `base`, and in the end into `conf/`, by hand, where everybody
can see it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from infoseg.data.store_meta import sha256_of
from infoseg.devices import reproducible
from infoseg.errors import DataError, ParamsError
from infoseg.files import write_json
from infoseg.methods.infoseg import InfoSegSettings
from infoseg.parallel import side_by_side
from infoseg.params import Run
from infoseg.project import Project
from infoseg.reporting.tables import write_frame
from infoseg.restarts import agreements
from infoseg.signals import label_free, mechanism
from infoseg.study_questions import Round, Study, load_study, with_candidate

#: What each row of a question's table says, after the columns that name the run.
SIGNALS = (
    "flip_agreement",
    "jitter_agreement",
    "usage_entropy",
    "decidedness",
    "bound",
    "cosine",
    "constant_share",
    "local_pa",
)
#: And what takes several seeds to say.
RANKED = (*SIGNALS, "seed_agreement")


def run_question(project: Project, path: Path, name: str, jobs: int) -> pd.DataFrame:
    """Answer one question; writes results/<profile>/<question>.csv, a row for each run.

    Runs that are there with today's settings and code are not made again. taken: whether the
    candidate went on after its round.
    """
    study = load_study(path)
    if name not in study.questions:
        raise ParamsError(f"{path}: questions: '{name}' is not among {sorted(study.questions)}")
    question = study.questions[name]
    asked = {d for round_ in question.rounds for d in round_.datasets or question.datasets}
    for dataset in sorted(asked):
        project.load(dataset)  # once, before several processes want it
    candidates, frames = list(question.candidates), []
    for number, round_ in enumerate(question.rounds, 1):
        rows = _play(project, study, name, candidates, round_, jobs)
        frame = pd.DataFrame(rows)
        frame.insert(1, "round", number)
        means = frame.groupby("candidate", sort=False)["pa_chosen"].mean()
        candidates = list(means.sort_values(ascending=False, kind="stable").index[: round_.keep])
        frame["taken"] = frame["candidate"].isin(candidates)
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    if not question.report:
        frame = frame.drop(columns="pa_reported")
    write_frame(frame, project.results / f"{name}.csv")
    return frame


def _play(
    project: Project, study: Study, name: str, candidates: list[str], round_: Round, jobs: int
) -> list[dict[str, Any]]:
    """One round: a row for each candidate, data set and seed."""
    question, work, rows = study.questions[name], [], []
    for candidate in candidates:
        params, method = with_candidate(project.params, study, name, candidate, round_.steps)
        its = Project(project.folder, params, project.root, project.make_missing)
        for dataset in round_.datasets or question.datasets:
            for seed in round_.seeds:
                run = Run(dataset=dataset, method=method, seed=seed)
                work.append((its, run))
                rows.append(
                    {
                        "question": name,
                        "dataset": dataset,
                        "candidate": candidate,
                        "changed": json.dumps(question.candidates[candidate]),
                        "steps": round_.steps,
                        "seed": seed,
                    }
                )
    title = f"{name}, {round_.steps} steps" if round_.steps else name
    found = side_by_side(judge, work, jobs, title)
    agreed = agreements(project, [run for _, run in work])
    return [a | b | {"seed_agreement": c} for a, b, c in zip(rows, found, agreed, strict=True)]


def answer(root: Path, name: str) -> pd.DataFrame:
    """A question's table as the repository holds it. Raises DataError when it was never asked."""
    found = sorted(root.glob(f"results/study*/{name}.csv"))
    if not found:
        advice = f"Run infoseg study {name} --profile study"
        raise DataError("not found", file=root / "results/study" / f"{name}.csv", advice=advice)
    return pd.read_csv(found[0])


def all_answers(root: Path) -> pd.DataFrame:
    """The tables of all questions the repository holds answers to, one below the other.

    Raises DataError when there are none.
    """
    tables = [pd.read_csv(path) for path in sorted(root.glob("results/study*/*.csv"))]
    if not tables:
        advice = "Run infoseg study --profile study"
        raise DataError("holds no answers", file=root / "results/study", advice=advice)
    return pd.concat(tables, ignore_index=True)


def rank_correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """Whether a signal ranks runs as PA does: Spearman's correlation of each signal with PA.

    frame: rows of one or several questions. Only runs on the same data set, trained for as many
    steps, are ranked against each other; a row for each such group of at least five runs. A run
    that belongs to two questions counts once.
    """
    frame = frame.drop_duplicates(["dataset", "steps", "pa_chosen", *SIGNALS])
    rows = [
        {"dataset": dataset, "steps": steps, "runs": len(runs)} | _correlations(runs)
        for (dataset, steps), runs in frame.groupby(["dataset", "steps"])
        if len(runs) >= 5
    ]
    return pd.DataFrame(rows)


def seed_correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """The same among seeds of one setting, which is what choosing among restarts needs.

    Of each number its mean over the setting's seeds is taken away, and what is left is ranked over
    all settings with at least three seeds; a row for each data set.
    """
    frame = frame.drop_duplicates(["dataset", "steps", "pa_chosen", *SIGNALS])
    setting = ["dataset", "question", "candidate", "steps"]
    seeds = frame.groupby(setting)
    frame = frame[seeds["seed"].transform("size") >= 3]
    numbers = ["pa_chosen", *RANKED]
    left = frame[numbers] - frame.groupby(setting)[numbers].transform("mean")
    rows = [
        {"dataset": dataset, "runs": len(runs)} | _correlations(runs)
        for dataset, runs in left.groupby(frame["dataset"])
    ]
    return pd.DataFrame(rows)


def _correlations(runs: pd.DataFrame) -> dict[str, float | None]:
    """None for a signal that some runs have not, or that is the same for all and ranks nothing."""
    return {
        name: spearmanr(runs[name], runs["pa_chosen"]).statistic
        if runs[name].notna().all() and runs[name].nunique() > 1
        else None
        for name in RANKED
    }


def profile_signals(project: Project, jobs: int) -> pd.DataFrame:
    """Signals without labels of all runs of InfoSeg in a profile's Table 1, beside their PA.

    Writes results/<profile>/signals.csv, a row for each run; runs that are missing are made.
    """
    runs = [
        run
        for run in project.params.runs()
        if isinstance(project.params.method(run.method, run.dataset), InfoSegSettings)
    ]
    for dataset in sorted({run.dataset for run in runs}):
        project.load(dataset)
    work = [(project, run) for run in runs]
    found = side_by_side(judge, work, jobs, "signals")
    frame = pd.DataFrame([run.model_dump() | row for run, row in zip(runs, found, strict=True)])
    frame["steps"] = [project.evaluation(run)["last"]["step"] for run in runs]
    frame["seed_agreement"] = agreements(project, runs)
    write_frame(frame, project.results / "signals.csv")
    return frame


def judge(project: Project, run: Run) -> dict[str, Any]:
    """Train one run, take its signals and evaluate it, as far as that is not done; its figures."""
    current = project.is_current(run)
    if not current:
        project.train(run.dataset, run.method, run.seed)
    _take_signals(project, run)
    if not current:
        # Last, because its presence says that the run is whole.
        project.evaluate(run.dataset, run.method, run.seed)
    return _figures(project, run)


def _figures(project: Project, run: Run) -> dict[str, Any]:
    folder = project.runs / run.key
    found = project.evaluation(run)
    last = found["last"]
    halves = last["halves"]
    return {
        "pa_chosen": halves["chosen"]["pa"],
        "pa_reported": halves["reported"]["pa"],
        # What labels would have chosen among the evaluations during training.
        "pa_chosen_best": max(halves["chosen"]["pa"], found["best"]["halves"]["chosen"]["pa"]),
        "within_image_pa": last["pa"] + last["permutation_gap"],
        "within_image_chance": last["within_image_chance"],
        "clusters_used": last["clusters_used"],
        "constant_pa": last["constant_pa"],
        **json.loads((folder / "signals.json").read_text())["signals"],
        "seconds": json.loads((folder / "timing.json").read_text())["seconds"],
        "git_commit": found["trained"]["git"]["commit"],
    }


def _take_signals(project: Project, run: Run) -> None:
    """signals.json beside the weights of a run, unless it is of those very weights already."""
    folder = project.runs / run.key
    file, weights = folder / "signals.json", sha256_of(folder / "weights.safetensors")
    if file.exists() and json.loads(file.read_text())["weights"] == weights:
        return
    found: dict[str, float] = {}
    if isinstance(project.params.method(run.method, run.dataset), InfoSegSettings):
        model = project.model(run)
        data, training = project.crops(run.dataset, model), project.params.training
        with reproducible(training, run.seed):
            found = label_free(model, data, training, run.seed)
            found |= mechanism(model, data, training, run.seed)
    signals = {name: found.get(name) for name in SIGNALS}
    write_json(file, {"weights": weights, "signals": signals})
