"""One cell of Table 1: train and evaluate every seed; where its files lie.

    raw/<profile>/<source>  →  prepared/<profile>/<data set>
        →  runs/<profile>/<data set>/<method>/{0,1,2}.safetensors, history.csv, run.json
        →  runs/<profile>/evaluations/<data set>/<method>-<seed>.{json,npz}  →  results/<profile>

Notebooks and the command line call these methods and nothing below them; DVC calls the notebooks.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from infoseg import diagnostics, machine
from infoseg.data.archives import naming
from infoseg.data.batches import DeviceData
from infoseg.data.prepare import ProjectData
from infoseg.data.store import Meta, sha256_of
from infoseg.diagnostics import Examples, Stripes
from infoseg.evaluation import confusions, evaluate
from infoseg.files import (
    DataError,
    TrainingError,
    make_folder,
    read_json,
    write_csv,
    write_json,
    write_whole,
)
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.registry import METHODS
from infoseg.settings import Run
from infoseg.training import Checkpoint, Row, Trained, train
from infoseg.weights import WEIGHTS_FORMAT, Card, load_weights, read_card, save_weights, start_from

if TYPE_CHECKING:
    import pandas as pd

#: Where checkpoints and finished seeds go, in place of build/scratch; absolute, for runs in
#: temporary copies.
SCRATCH = "INFOSEG_SCRATCH"


class Project(ProjectData):
    """One profile's data, runs and results under one folder.

    make_missing: produce whatever a step needs and does not find (notebooks opened by hand, the
    command line); otherwise a missing input is an error naming the stage that makes it.
    """

    #: The data set that is on the device now, and what it is of.
    _on_device: tuple[Any, DeviceData] | None = None

    # ---- where things lie ------------------------------------------------------------------------

    @property
    def runs(self) -> Path:
        return self.folder / "runs" / self.name

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.name

    def cell_folder(self, dataset: str, method: str) -> Path:
        return self.runs / dataset / method

    def weights_path(self, run: Run) -> Path:
        return self.cell_folder(run.dataset, run.method) / f"{run.seed}.safetensors"

    def evaluation_path(self, run: Run) -> Path:
        return self.beside(run.dataset, f"{run.method}-{run.seed}.json")

    def beside(self, dataset: str, file: str = "") -> Path:
        """Where evaluations of a data set lie, and what stands beside them."""
        return self.runs / "evaluations" / dataset / file

    def timing_path(self, run: Run) -> Path:
        """What differs from run to run; DVC knows nothing of it."""
        return self.folder / "build" / "timing" / self.name / f"{run.key}.json"

    # ---- training --------------------------------------------------------------------------------

    def cell(self, dataset: str, method: str, seeds: Sequence[int] | None = None) -> Cell:
        """Open a cell. seeds: by default the settings' own."""
        return Cell(self, dataset, method, seeds)

    def train(self, dataset: str, method: str, seeds: Sequence[int] | None = None) -> Path:
        """Train a method on a data set; returns the cell's folder. What notebook 2 does."""
        cell = self.cell(dataset, method, seeds)
        for seed in cell.unfinished():
            model = cell.build(seed)
            trained = cell.train(model, seed)
            cell.keep(seed, model, trained)
        return cell.write()

    def decides(self, run: Run) -> dict[str, Any]:
        """What a run's numbers follow from beside code and data, as its files state it."""
        return {
            **run.model_dump(),
            "settings": self.params.method(run.method, run.dataset).numbers(),
            "training": self.params.training.model_dump(),
            "prepared": self._dataset(run.dataset).model_dump(),
        }

    def trained(self, run: Run, device: torch.device) -> tuple[Method, Card]:
        """A run's weights. Raises DataError where they are another run's, or were made with other
        settings or data than those of today; TrainingError where the training diverged."""
        path = self.weights_path(run)
        card = read_card(path)
        data = data_hashes(self.load(run.dataset).meta)
        _refuse(path, card.model_dump(), self.decides(run) | {"data": data})
        if card.diverged:
            raise TrainingError(card.diverged)
        return load_weights(path, device)

    def model(self, run: Run) -> Method:
        """A run's weights in evaluation mode."""
        with machine.reproducible(self.params.training, run.seed) as device:
            return self.trained(run, device)[0]

    @property
    def device(self) -> torch.device:
        return machine.choose_device(self.params.training.device)

    @property
    def precision(self) -> torch.dtype | None:
        return machine.choose_precision(self.params.training.precision, self.device)

    def crops(self, dataset: str, model: Method) -> DeviceData:
        """A data set beside a method, on its device.

        The arrays, which may be gigabytes, are copied there once for all methods and seeds.
        """
        prepared, crop, sees = self.load(dataset), self._dataset(dataset).crop, model.sees
        key = self.device, dataset, crop, data_hashes(prepared.meta)
        held = self._on_device
        if held is None or held[0] != key or (sees.regions and not held[1].sees.regions):
            self._on_device = None  # free it first
            self._on_device = held = key, DeviceData(prepared, crop, self.device, sees)
        data = copy.copy(held[1])
        data.sees, data.region_count = sees, prepared.meta.regions if sees.regions else 0
        return data

    def history(self, run: Run) -> pd.DataFrame:
        """A run's rows of history.csv: step, loss and, where it was evaluated, PA and the rest."""
        path = self.cell_folder(run.dataset, run.method) / "history.csv"
        if not path.exists() and self.make_missing:
            self.train(run.dataset, run.method)
        if not path.exists():
            advice = f"Run train@{run.dataset}-{run.method}"
            raise DataError("not found", file=path, advice=advice)
        import pandas as pd  # deferred: `infoseg segment` does not need it

        with naming(path, "is no history of a training", "Remove it, and train again"):
            rows = pd.read_csv(path)
            return rows[rows["seed"] == run.seed].drop(columns="seed").reset_index(drop=True)

    # ---- evaluation ------------------------------------------------------------------------------

    def measured(self, model: Method, data: DeviceData) -> dict[str, Any]:
        """The protocol's figures and their diagnostics on the labelled images."""
        training, meta = self.params.training, data.prepared.meta
        precision = machine.choose_precision(training.precision, data.device)
        counts, entropy = confusions(model, data, training.evaluation_batch, precision)
        ids, groups = diagnostics.labelled_names(data.prepared)
        summary = diagnostics.summarise(counts, ids, meta.classes, groups)
        return summary | {"assignment_entropy": entropy}

    def trivial(self, dataset: str) -> dict[str, dict[str, Any]]:
        """`measured` of one class everywhere and of as many equal stripes as there are classes,
        which is written beside the data set's evaluations."""
        with machine.reproducible(self.params.training):
            data = self.crops(dataset, Stripes(1))
            answers = {"one class": Stripes(1), "equal stripes": Stripes(data.classes)}
            trivial = {name: self.measured(answer, data) for name, answer in answers.items()}
        write_json(self.beside(dataset, "trivial.json"), trivial)
        return trivial

    def evaluate(self, dataset: str, method: str, seed: int) -> dict[str, Any]:
        """Evaluate a run's weights; what the tables are made of.

        start, best: PA before training and at the best of the evaluations during it, from the
        history; None where there is none. A training that diverged has `diverged` in their place.
        """
        run, prepared = Run(dataset=dataset, method=method, seed=seed), self.load(dataset)
        if self.make_missing and not self.weights_path(run).exists():
            self.train(dataset, method, [seed])
        if not prepared.index["labelled"].any():
            advice = (
                "`infoseg report` makes pages without PA, `infoseg train --images` does without"
            )
            raise DataError("has no labels to evaluate with", file=prepared.path, advice=advice)
        settings = self.params.method(method, dataset)
        result: dict[str, Any] = {
            "format": diagnostics.FORMAT,
            **run.model_dump(),
            "dataset_title": self._dataset(dataset).title,
            "method_title": settings.title,
            "paper_row": settings.paper_row,
            "made_with": self._made_with(run),
            "diverged": "",
            "notes": list(prepared.meta.notes),
        }
        with machine.reproducible(self.params.training, seed) as device:
            try:
                model, card = self.trained(run, device)
            except TrainingError as error:
                result["diverged"] = str(error)
            else:
                crops = self.crops(dataset, model)
                result["uses_mask"] = model.sees.mask
                result["last"] = last = {"step": card.step} | self.measured(model, crops)
                result |= _course(self.history(run), last)
                self._draw(self.evaluation_path(run).with_suffix(".npz"), model, crops, last)
        # After the pictures, because its presence says that the evaluation is whole.
        write_json(self.evaluation_path(run), result)
        # They are of the former evaluation.
        for path in [self.beside(dataset, "content.json"), *self.beside(dataset).glob("figure4-*")]:
            path.unlink(missing_ok=True)
        return result

    def _draw(
        self, path: Path, model: Method, data: DeviceData, last: dict, items: Tensor | None = None
    ) -> None:
        """Write pictures with their predictions; items: which, by default chosen blind."""
        classes, match = data.prepared.meta.classes, list(last["match"].values())
        examples = diagnostics.make_examples(model, data, match, classes, items, self.precision)
        diagnostics.write_examples(path, examples)

    def evaluate_all(self, dataset: str) -> list[dict[str, Any]]:
        """Evaluate every run of a data set, ablations included, and what stands beside them; and
        write the metrics DVC shows: results/<profile>/metrics/<data set>.json, PA of each method in
        the mean over its seeds."""
        ablations = self.params.profile.ablations.variants
        every = [*self.params.runs(), *self.params.ablations()]
        evaluations = [self.evaluate(**run.model_dump()) for run in every if run.dataset == dataset]
        pa: dict[str, list[float]] = {}
        for evaluation in evaluations:
            if not evaluation["diverged"] and evaluation["method"] not in ablations:
                part = diagnostics.reported_part(evaluation["last"], self.params.profile.reported)
                pa.setdefault(evaluation["method"], []).append(part["pa"])
        means = {method: round(sum(values) / len(values), 2) for method, values in pa.items()}
        # Below a key of their own: a metric `infoseg` would share a column with DVC's dependency
        # on the folder of that name.
        write_json(self.results / "metrics" / f"{dataset}.json", {"pa": means})
        self.write_beside(dataset)
        return evaluations

    def write_beside(self, dataset: str) -> None:
        """Write what stands beside the runs of a data set that were evaluated: trivial.json,
        content.json and, for Figure 4, the same pictures by each of its methods."""
        profile = self.params.profile
        self.trivial(dataset)
        if dataset == profile.ablations.dataset and profile.ablations.content:
            write_json(self.beside(dataset, "content.json"), self._content_or_place(dataset))
        shown = [method for method in profile.figure4.methods if method in profile.methods]
        if dataset not in profile.figure4.panels or not shown:
            return
        try:
            runs = {method: self.first_run(dataset, method) for method in shown}
        except TrainingError:
            return  # which Figure 4 says
        evaluations = {method: self.evaluation(run)["last"] for method, run in runs.items()}
        ranks = [rank["item"] for rank in evaluations[shown[-1]]["quantiles"]]
        for method, run in runs.items():
            model = self.model(run)
            data = self.crops(dataset, model)
            items = data.evaluated[torch.tensor(ranks, dtype=torch.int64, device=data.device)]
            with machine.reproducible(self.params.training, run.seed):
                path = self.beside(dataset, f"figure4-{method}.npz")
                self._draw(path, model, data, evaluations[method], items)

    def made_beside(self, dataset: str, file: str) -> Path:
        """A file of `write_beside`; made where that is allowed and it is missing, or older than the
        data."""
        path, data = self.beside(dataset, file), self.prepared(dataset) / "meta.json"
        there = path.exists() and data.exists()
        if self.make_missing and not (there and path.stat().st_mtime >= data.stat().st_mtime):
            self.write_beside(dataset)
        return path

    def stripes_pa(self, dataset: str) -> float:
        """PA in percent of equal stripes on all labelled pictures."""
        answers = read_json(self.made_beside(dataset, "trivial.json"), f"evaluate@{dataset}")
        return answers["equal stripes"]["pa"]

    def first_run(self, dataset: str, method: str) -> Run:
        """The first seed of a method that did not diverge. Raises TrainingError if all did."""
        for run in self.params.seeds(dataset, method):
            if not self.evaluation(run)["diverged"]:
                return run
        raise TrainingError(f"every seed of {method} diverged on {dataset}")

    def _content_or_place(self, dataset: str) -> list[dict[str, Any]]:
        """`content_or_place` of every seed of the profile's methods, and of stripes.

        left_out: PA on the half for reporting of the variant that was trained on the other half.
        """
        profile, batch, rows = self.params.profile, self.params.training.evaluation_batch, []

        def look(method: str, model: Method, **left_out: Any) -> None:
            data = self.crops(dataset, model)
            looks = diagnostics.content_or_place(model, data, batch, self.precision)
            rows.append({"method": method} | looks | left_out)

        with machine.reproducible(self.params.training) as device:
            for method, half in profile.ablations.content.items():
                known = method in profile.methods and half in profile.ablations.variants
                for run in self.params.seeds(dataset, method) if known else ():
                    whole = self.evaluation(run)
                    part = self.evaluation(run.model_copy(update={"method": half}))
                    if not whole["diverged"] and not part["diverged"]:
                        left_out = part["last"]["halves"]["reported"]["pa"]
                        look(method, self.trained(run, device)[0], seed=run.seed, left_out=left_out)
            look("equal stripes", Stripes(len(self.load(dataset).meta.classes)))
        return rows

    def _made_with(self, run: Run) -> dict[str, Any]:
        """What the run's evaluation has to state, as far as its data and weights are here."""
        now, weights = self.decides(run), self.weights_path(run)
        if (self.prepared(run.dataset) / "meta.json").exists():
            now["data"] = data_hashes(self.load(run.dataset).meta)
        return now | ({"weights": sha256_of(weights)} if weights.exists() else {})

    def is_current(self, run: Run) -> bool:
        """Whether the run's evaluation is there, made with the settings and data of today, and
        weights of today's code."""
        try:
            self._read_evaluation(run)
        except DataError:
            return False
        return not self.cell(run.dataset, run.method, [run.seed]).unfinished()

    def evaluation(self, run: Run) -> dict[str, Any]:
        """A run's evaluation as written.

        Raises DataError naming the stages that make it where it is missing, and what differs where
        it was made with other settings, data or weights than those that are here.
        """
        if self.make_missing and not self.is_current(run):
            self.train(run.dataset, run.method, [run.seed])
            return self.evaluate(**run.model_dump())
        return self._read_evaluation(run)

    def _read_evaluation(self, run: Run) -> dict[str, Any]:
        path = self.evaluation_path(run)
        evaluation = read_json(path, f"train@{run.dataset}-{run.method}, evaluate@{run.dataset}")
        _refuse(path, evaluation.get("made_with", {}), self._made_with(run))
        return evaluation

    def examples(self, run: Run) -> Examples:
        """The pictures evaluation keeps of a run, chosen blind to any result."""
        path = self.evaluation_path(run).with_suffix(".npz")
        if not path.exists() and self.make_missing:
            self.evaluate(**run.model_dump())
        return diagnostics.read_examples(path, f"evaluate@{run.dataset}")

    def clusters(self, run: Run) -> Examples:
        """The same pictures straight after training: predictions are clusters without a class."""
        model = self.model(run)
        data = self.crops(run.dataset, model)
        with machine.reproducible(self.params.training, run.seed):
            return diagnostics.make_examples(model, data, None, data.prepared.meta.classes)


class Cell:
    """A method on a data set, all its seeds. device, data: where training runs, the data there."""

    def __init__(self, project: Project, dataset: str, method: str, seeds: Sequence[int] | None):
        self.project, self.dataset, self.method = project, dataset, method
        self.settings = project.params.method(method, dataset)
        self.training = project.params.training
        self.seeds = list(seeds if seeds is not None else self.settings.seeds)
        self.folder, self.device = project.cell_folder(dataset, method), project.device
        self.prepared = project.load(dataset)
        if not self.prepared.index["labelled"].any():  # there is nothing to measure on the way
            self.training = self.training.model_copy(update={"evaluations": 0})
        meta, clusters = self.prepared.meta, project.params.datasets[dataset].clusters
        std = tuple(deviation or 1.0 for deviation in meta.std)  # 0: a channel that is constant
        self.info = DataInfo(clusters, meta.channels, tuple(meta.mean), std)
        self._data: DeviceData | None = None
        modules = [METHODS[self.settings.kind].__module__, *machine.TRAINING_CODE]
        self._decides = {
            "code": machine.code_hashes(modules),
            "machine": machine.facts(self.training, self.device),
            "data": data_hashes(meta),
        }
        self.start = getattr(self.settings, "start", None)
        if self.start:
            self._decides["start"] = sha256_of(Path(self.start))

    @property
    def data(self) -> DeviceData:
        """The data set on the device, once."""
        if self._data is None:
            with torch.device("meta"):
                method = METHODS[self.settings.kind](self.settings, self.info)
            data = self.project.crops(self.dataset, method)
            half = self.settings.train_on == "chosen"
            self._data = data.choosing_half() if half else data
        return self._data

    def run(self, seed: int) -> Run:
        return Run(dataset=self.dataset, method=self.method, seed=seed)

    def fingerprint(self, seed: int) -> str:
        """A hash of all that decides a run's bytes: code, settings, data, seed, machine."""
        return machine.hash_of(self._decides | self.project.decides(self.run(seed)))[:20]

    def _scratch(self, seed: int, suffix: str) -> Path:
        folder = os.environ.get(SCRATCH) or self.project.folder / "build" / "scratch"
        return Path(folder) / f"{self.run(seed).key}-{self.fingerprint(seed)}{suffix}"

    def finished(self, seed: int) -> Path | None:
        """The file of a seed that is trained already, in the cell's folder or kept in scratch."""
        for path in (self.folder / f"{seed}.safetensors", self._scratch(seed, ".safetensors")):
            try:
                if read_card(path).fingerprint == self.fingerprint(seed):
                    return path
            except DataError:  # missing, damaged or of another version
                continue
        return None

    def unfinished(self) -> list[int]:
        """Those of the seeds that are not trained yet."""
        return [seed for seed in self.seeds if self.finished(seed) is None]

    def build(self, seed: int) -> Method:
        """The method as its run begins: the same seed gives the same weights."""
        machine.seed_everything(seed)
        model = METHODS[self.settings.kind](self.settings, self.info)
        if self.start:
            start_from(model, Path(self.start))
        return model.to(self.device)

    def checkpoint(self, seed: int) -> Checkpoint:
        seconds = self.project.params.execution.checkpoint_seconds
        return Checkpoint(self._scratch(seed, ".ckpt"), seconds)

    def train(self, model: Method, seed: int) -> Trained:
        """`infoseg.training.train` with this cell's data, evaluation, history and checkpoint."""
        make_folder(self._scratch(seed, "").parent)  # raises where nothing can be kept
        histories = {s: read_card(path).history for s, path in self._finished_files().items()}
        classes, batch = self.prepared.meta.classes, self.training.evaluation_batch
        return train(
            model, self.data, self.training, seed,
            lambda: evaluate(model, self.data, batch, classes, self.project.precision),
            self.run(seed).key, self.checkpoint(seed),
            lambda history: self._write_history(histories | {seed: history}),
        )  # fmt: skip

    def keep(self, seed: int, model: Method, trained: Trained) -> None:
        """Keep a finished seed in scratch, with its history, and note how long it took."""
        superpixels = self.project.params.datasets[self.dataset].superpixels
        card = Card(
            format=WEIGHTS_FORMAT,
            step=trained.steps,
            **dataclasses.asdict(self.info),
            crop=self.data.size,
            classes=list(self.prepared.meta.classes),
            superpixels=superpixels if self.data.sees.regions else None,
            fingerprint=self.fingerprint(seed),
            history=trained.history,
            diverged=trained.diverged,
            **self.project.decides(self.run(seed)),
            data=self._decides["data"],
        )
        state = {} if trained.diverged else model.state_dict()
        save_weights(self._scratch(seed, ".safetensors"), state, card)
        timing = {
            "seconds": round(trained.seconds, 2),
            "cpu_seconds": round(trained.cpu_seconds, 2),
            "images_per_second": round(trained.images_per_second, 1),
            "peak_memory_bytes": machine.peak_memory(self.device),
            "resumed_at": trained.resumed_at,
        }
        write_json(self.project.timing_path(self.run(seed)), timing)
        self.checkpoint(seed).clear()

    def write(self) -> Path:
        """Write the cell's folder from its finished seeds: weights, history.csv and run.json."""
        files = self._finished_files()
        cards = {seed: read_card(path) for seed, path in files.items()}
        for seed, path in files.items():
            target = self.folder / f"{seed}.safetensors"
            if path != target:
                write_whole(target, lambda file, path=path: shutil.copyfile(path, file))
        for path in self.folder.glob("*.safetensors"):
            if path.stem.isdecimal() and int(path.stem) not in files:
                path.unlink()  # of other settings, code or data
        self._write_history({seed: card.history for seed, card in cards.items()})
        diverged = {seed: card.diverged for seed, card in cards.items() if card.diverged}
        state = {"seeds": list(files), "diverged": diverged}
        write_json(self.folder / "run.json", self._decides | state)
        return self.folder

    def _finished_files(self) -> dict[int, Path]:
        """Files of finished seeds: of the settings, of those to train, of those in the folder."""
        present = sorted(int(p.stem) for p in self.folder.glob("*.safetensors") if p.stem.isdigit())
        known = dict.fromkeys([*self.settings.seeds, *self.seeds, *present])
        return {seed: path for seed in known if (path := self.finished(seed))}

    def _write_history(self, histories: dict[int, list[Row]]) -> None:
        rows = [{"seed": seed} | row for seed, part in histories.items() for row in part]
        write_csv(self.folder / "history.csv", rows)


def data_hashes(meta: Meta) -> dict[str, str]:
    """SHA-256 of each array of a prepared data set."""
    return {name: facts.sha256 for name, facts in meta.files.items()}


def _course(history: pd.DataFrame, last: dict[str, Any]) -> dict[str, Any]:
    """PA before training, and at the best of the evaluations during it."""
    evaluated = history[history["pa"].notna()] if "pa" in history else history.iloc[:0]
    start = evaluated[(evaluated["step"] == 0) & (last["step"] > 0)]
    best = evaluated.loc[evaluated["pa"].idxmax()] if len(evaluated) else last
    return {
        "start": {"step": 0, "pa": float(start["pa"].iloc[0])} if len(start) else None,
        "best": {"step": int(best["step"]), "pa": float(best["pa"])},
    }


def _refuse(path: Path, stated: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise DataError naming the first thing in which a file states another than holds now."""
    for key, value in now.items():
        if difference := _difference(key, stated.get(key), value):
            problem = f"was made with other settings or data: {difference}"
            again = (
                "Train and evaluate it again, or name the profile and -S settings it was made with"
            )
            raise DataError(problem, file=path, advice=again)


def _difference(key: str, stated: Any, now: Any) -> str:
    """The first key at or below `key` with another value now, and both values; "" without any."""
    if isinstance(stated, dict) and isinstance(now, dict):
        names = dict.fromkeys([*now, *stated])
        parts = (_difference(f"{key}.{n}", stated.get(n), now.get(n)) for n in names)
        return next(filter(None, parts), "")
    return "" if stated == now else f"{key} is {stated} there and {now} now"
