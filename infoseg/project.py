"""The steps of the replication, in order, and where their files lie.

    raw/<profile>/<source>  →  prepared/<profile>/<data set>  →  runs/<profile>/<run>
                            →  runs/<profile>/evaluations/<run>.json  →  results/<profile>

Notebooks and the command line call these methods and nothing below them; DVC calls the notebooks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from infoseg.checkpoints import FORMAT as CHECKPOINT_FORMAT
from infoseg.checkpoints import Checkpoints, scratch
from infoseg.data.store import Prepared
from infoseg.data.store_meta import Meta, sha256_of
from infoseg.devices import choose_device, choose_precision, peak_memory, reproducible
from infoseg.errors import DataError
from infoseg.evaluation import FORMAT, evaluate
from infoseg.examples import Examples, make_examples, read_examples, write_examples
from infoseg.files import clear_leftovers, find_root, read_json, write_csv, write_json
from infoseg.methods import METHODS, DataInfo, Method
from infoseg.params import Run, load_params
from infoseg.project_data import ProjectData
from infoseg.provenance import code_hash, hash_of, provenance
from infoseg.runs import WEIGHTS_FORMAT, Card, load_weights, save_weights
from infoseg.selection import LabelMaps, label_maps, read_maps, write_maps
from infoseg.training import fit, train
from infoseg.views import DeviceData


class Project(ProjectData):
    """One profile's data, runs and results under one folder.

    make_missing: produce whatever an asked-for step needs and does not find (notebooks opened by
    hand, the command line); otherwise a missing input is an error naming the stage that makes it.
    """

    @classmethod
    def open(cls, profile: str = "", overrides: Sequence[str] = ()) -> Project:
        """The project a notebook works on.

        profile: `""` is params.yaml as it stands, and its files in the repository: what DVC runs.
        Any other is composed from conf/, lives under build/ (out of the pipeline's way) and makes
        what it misses; `tiny` renders a few pictures and takes seconds.
        """
        root = find_root()
        if not profile:
            return cls(root, load_params(root, overrides=overrides), root, overrides=overrides)
        params = load_params(root, profile, overrides)
        return cls(root / "build" / "notebooks", params, root, True, overrides)

    # ---- where things lie ------------------------------------------------------------------------

    @property
    def runs(self) -> Path:
        return self.folder / "runs" / self.name

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.name

    def evaluation_path(self, run: Run) -> Path:
        return self.runs / "evaluations" / f"{run.key}.json"

    def example_path(self, run: Run) -> Path:
        return self.runs / "examples" / f"{run.key}.npz"

    def maps_path(self, run: Run) -> Path:
        return self.runs / "maps" / f"{run.key}.npz"

    # ---- runs ------------------------------------------------------------------------------------

    def _info(self, dataset: str, prepared: Prepared) -> DataInfo:
        meta, clusters = prepared.meta, self._dataset(dataset).clusters
        return DataInfo(clusters, meta.channels, tuple(meta.mean), tuple(meta.std))

    def _untrained(self, run: Run, info: DataInfo, device: torch.device) -> Method:
        """The method as its run begins: the same seed gives the same weights."""
        settings = self.params.method(run.method, run.dataset)
        torch.manual_seed(run.seed)
        return METHODS[settings.kind](settings, info).to(device)

    def _on_device(self, dataset: str, prepared: Prepared, method: Method) -> DeviceData:
        device = choose_device(self.params.training.device)
        return DeviceData(prepared, self._dataset(dataset).crop, device, method.sees)

    def train(self, dataset: str, method: str, seed: int) -> Path:
        """Train one method on one data set; returns the folder with weights and history."""
        with ExitStack() as held:
            return self._train(Run(dataset=dataset, method=method, seed=seed), held)

    def _train(self, run: Run, held: ExitStack) -> Path:
        """held: has the run's checkpoints until everything is written, or cannot be."""
        dataset, seed = run.dataset, run.seed
        training = self.params.training
        folder = self.runs / run.key
        began = time.perf_counter()
        with reproducible(training, seed) as device:
            prepared = self.load(dataset)
            meta, info = prepared.meta, self._info(dataset, prepared)
            # Before the training: what is edited meanwhile did not make it.
            made = self._provenance(run, meta, device)
            model = self._untrained(run, info, device)
            data = self._on_device(dataset, prepared, model)

            def evaluate_now() -> dict[str, Any]:
                return self._evaluate(model, prepared, data)

            checkpoints = held.enter_context(closing(self._checkpoints(run, made)))
            trained = train(model, data, training, seed, evaluate_now, run.key, checkpoints)
        card = Card(
            format=WEIGHTS_FORMAT,
            step=trained.last_step,
            clusters=info.clusters,
            channels=info.channels,
            mean=list(info.mean),
            std=list(info.std),
            crop=data.size,
            classes=list(meta.classes),
            superpixels=self._dataset(dataset).superpixels if model.sees.regions else None,
            **self._decides(run),
            data=_hashes(meta),
        )
        clear_leftovers(folder, "weights", "best", "history", "timing", "provenance")
        save_weights(folder / "weights.safetensors", trained.last, card)
        best = card.model_copy(update={"step": trained.best_step})
        save_weights(folder / "best.safetensors", trained.best, best)
        write_csv(folder / "history.csv", trained.history)
        write_json(
            folder / "timing.json",
            {
                "seconds": round(trained.spent_before + time.perf_counter() - began, 2),
                "images_per_second": round(trained.images_per_second, 1),
                "peak_memory_bytes": peak_memory(device),
                "resumed_at": trained.resumed_at,
            },
        )
        write_json(folder / "provenance.json", made)
        checkpoints.clear()
        return folder

    def _provenance(self, run: Run, meta: Meta, device: torch.device) -> dict[str, Any]:
        settings = self.params.method(run.method, run.dataset).model_dump()
        described = self._dataset(run.dataset).model_dump()
        made = provenance(self.root, self.params.training, device, settings, described, run.seed)
        return made | {"data": _hashes(meta)}

    def _decides(self, run: Run) -> dict[str, Any]:
        """What a run's numbers follow from beside code and data, as its files state it."""
        return {
            **run.model_dump(),
            "settings": self.params.method(run.method, run.dataset).model_dump(),
            "training": self.params.training.model_dump(),
            "prepared": self._dataset(run.dataset).model_dump(),
        }

    def _trained(self, run: Run, device: torch.device) -> tuple[Method, Card]:
        """A run's last weights. Raises DataError where they are another run's, or were made with
        other settings or data than those of today."""
        path = self.runs / run.key / "weights.safetensors"
        model, card = load_weights(path, device)
        data = {"data": _hashes(self.load(run.dataset).meta)}
        _refuse(path, card.model_dump(), self._decides(run) | data)
        return model, card

    def _checkpoints(self, run: Run, made: dict[str, Any]) -> Checkpoints:
        """Those of a training with this provenance, whatever commit its code is of."""
        decides = {name: value for name, value in made.items() if name != "git"}
        # What comes before and after the loop, which `code_sha256` leaves out.
        decides |= {"project": sha256_of(Path(__file__)), "format": CHECKPOINT_FORMAT}
        name = f"{run.key}-{hash_of(decides)[:16]}"
        seconds = self.params.execution.checkpoint_seconds
        checkpoints = Checkpoints(scratch(self.folder) / name, seconds)
        if seconds is not None:
            checkpoints.open()
        return checkpoints

    def _evaluate(
        self,
        model: Method,
        prepared: Prepared,
        data: DeviceData,
        look: Callable[[Tensor], None] | None = None,
    ) -> dict[str, Any]:
        training = self.params.training
        ids = prepared.index["id"][prepared.index["labelled"]].tolist()
        precision = choose_precision(training.precision, data.device)
        return evaluate(
            model, data, training.evaluation_batch, ids, prepared.meta.classes, precision, look
        )

    def evaluate(self, dataset: str, method: str, seed: int) -> dict[str, Any]:
        """Evaluate a run's weights, untrained, last and best; what the tables are made of."""
        run = Run(dataset=dataset, method=method, seed=seed)
        folder = self.runs / run.key
        if self.make_missing and not (folder / "weights.safetensors").exists():
            self.train(dataset, method, seed)
        settings = self.params.method(method, dataset)
        result: dict[str, Any] = {
            "format": FORMAT,
            **run.model_dump(),
            "dataset_title": self._dataset(dataset).title,
            "method_title": settings.title,
            "paper_row": settings.paper_row,
            "made_with": {"code_sha256": code_hash()} | self._decides(run),
        }
        with reproducible(self.params.training, seed) as device:
            prepared = self.load(dataset)
            if not prepared.index["labelled"].any():
                raise DataError(
                    "has no labels to evaluate with",
                    file=prepared.path,
                    advice="Use `infoseg segment` to look at what was learnt",
                )
            result["notes"] = list(prepared.meta.notes)
            model, card = self._trained(run, device)
            weights = sha256_of(folder / "weights.safetensors")
            result["made_with"] |= {"data": card.data, "weights": weights}
            data = self._on_device(dataset, prepared, model)
            result["uses_mask"] = model.sees.mask
            result["start"] = None
            if model.optimiser and self.params.training.evaluations:
                start = self._untrained(run, self._info(dataset, prepared), device)
                fit(start, data, self.params.training.evaluation_batch, seed)
                result["start"] = {"step": 0} | self._evaluate(start, prepared, data)
            maps = LabelMaps()
            result["last"] = {"step": card.step} | self._evaluate(model, prepared, data, maps.add)
            match = list(result["last"]["match"].values())
            ranks = result["last"]["quantiles"]
            examples = make_examples(model, data, match, prepared.meta.classes, ranks)
            model, card = load_weights(folder / "best.safetensors", device)
            if card.step == result["last"]["step"]:  # the same weights: no need to look twice
                result["best"] = result["last"]
            else:
                result["best"] = {"step": card.step} | self._evaluate(model, prepared, data)
        write_examples(self.example_path(run), examples)
        write_maps(self.maps_path(run), maps.array(), weights)
        part = result["last"]
        write_json(
            self.runs / "metrics" / f"{run.key}.json",
            {name: part[name] for name in ("pa", "miou", "permutation_gap")}
            | {"pa_best": result["best"]["pa"], "pa_constant": part["constant_pa"]},
        )
        # Last, because its presence says that the evaluation is whole.
        write_json(self.evaluation_path(run), result)
        return result

    def _stated_now(self, run: Run) -> dict[str, Any]:
        """What the run's evaluation has to state, as far as its data and weights are here."""
        now = self._decides(run)
        if (self.prepared(run.dataset) / "meta.json").exists():
            now["data"] = _hashes(self.load(run.dataset).meta)
        weights = self.runs / run.key / "weights.safetensors"
        return now | ({"weights": sha256_of(weights)} if weights.exists() else {})

    def is_current(self, run: Run) -> bool:
        """Whether the run's evaluation is there, made with the settings, code and data of today."""
        try:
            made_with = json.loads(self.evaluation_path(run).read_text())["made_with"]
        except (OSError, ValueError, LookupError):
            return False
        now = {"code_sha256": code_hash()} | self._stated_now(run)
        return all(made_with.get(key) == value for key, value in now.items())

    def evaluation(self, run: Run) -> dict[str, Any]:
        """A run's evaluation as written.

        Raises DataError naming the stages that make it where it is missing, and what differs where
        it was made with other settings, data or weights than those that are here.
        """
        if self.make_missing and not self.is_current(run):
            self.train(run.dataset, run.method, run.seed)
            return self.evaluate(run.dataset, run.method, run.seed)
        path = self.evaluation_path(run)
        evaluation = read_json(path, f"train@{run.key}, evaluate@{run.key}")
        _refuse(path, evaluation.get("made_with", {}), self._stated_now(run))
        return evaluation

    def history(self, run: Run) -> pd.DataFrame:
        """history.csv of a run: step, loss and, where it was evaluated, PA and the rest."""
        path = self.runs / run.key / "history.csv"
        if not path.exists() and self.make_missing:
            self.train(run.dataset, run.method, run.seed)
        return pd.read_csv(path)

    def examples(self, run: Run) -> Examples:
        """The pictures evaluation keeps of a run, chosen blind and by rank."""
        path = self.example_path(run)
        if not path.exists() and self.make_missing:
            self.evaluate(run.dataset, run.method, run.seed)
        return read_examples(path, f"evaluate@{run.key}")

    def maps(self, run: Run) -> np.ndarray:
        """Thinned-out clusters of a run's last weights, which tell how far seeds agree."""
        path, stage, training = self.maps_path(run), f"evaluate@{run.key}", self.params.training
        if self.make_missing:
            weights = sha256_of(self.runs / run.key / "weights.safetensors")
            if not path.exists() or read_maps(path, stage)[1] != weights:
                # Not by `evaluate`, since pictures without labels have maps, too.
                model = self.model(run)
                data = self.crops(run.dataset, model)
                precision = choose_precision(training.precision, data.device)
                with reproducible(training, run.seed):
                    maps = label_maps(model, data, training.evaluation_batch, precision)
                write_maps(path, maps, weights)
        return read_maps(path, stage)[0]

    def model(self, run: Run) -> Method:
        """A run's last weights in evaluation mode."""
        with reproducible(self.params.training, run.seed) as device:
            return self._trained(run, device)[0]

    def crops(self, dataset: str, model: Method) -> DeviceData:
        """A data set beside a method, on its device, for evaluating or showing it."""
        return self._on_device(dataset, self.load(dataset), model)

    def clusters(self, run: Run) -> Examples:
        """The same pictures straight after training: predictions are clusters without a class."""
        model = self.model(run)
        data = self.crops(run.dataset, model)
        with reproducible(self.params.training, run.seed):
            return make_examples(model, data, None, self.load(run.dataset).meta.classes)


def _hashes(meta: Meta) -> dict[str, str]:
    return {name: facts.sha256 for name, facts in meta.files.items()}


def _refuse(path: Path, stated: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise DataError naming the first thing in which a file states another than holds now."""
    for key, value in now.items():
        if difference := _difference(key, stated.get(key), value):
            raise DataError(
                f"was made with other settings or data: {difference}",
                file=path,
                advice="Train and evaluate it again, or name the profile and the -S settings it "
                "was made with",
            )


def _difference(key: str, stated: Any, now: Any) -> str:
    """The first key at or below `key` with another value now, and both values; "" without any."""
    if isinstance(stated, dict) and isinstance(now, dict):
        names = dict.fromkeys([*now, *stated])
        parts = (_difference(f"{key}.{n}", stated.get(n), now.get(n)) for n in names)
        return next(filter(None, parts), "")
    return "" if stated == now else f"{key} is {stated} there and {now} now"
