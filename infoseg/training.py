"""One loop for every method: optimise, fit, evaluate now and then, keep last and best weights."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from infoseg.averaging import Average
from infoseg.checkpoints import Checkpoints, random_states, restore_random_states
from infoseg.correlation import leave_uncompiled
from infoseg.devices import autocast, choose_precision
from infoseg.errors import TrainingError
from infoseg.interruption import Signals
from infoseg.methods.base import Method
from infoseg.params import TrainingParams
from infoseg.trunk import Trunk
from infoseg.views import DeviceData, TrainingBatches, evaluated_crops

#: What is kept of each evaluation in history.csv.
HISTORY_FIGURES = ("pa", "miou", "assignment_entropy", "permutation_gap", "clusters_used")

#: Factor on the learning rate after so many of all steps.
SCHEDULES: dict[str, Callable[[int], Callable[[int], float]]] = {
    "constant": lambda steps: lambda step: 1.0,
    "cosine": lambda steps: lambda step: (1 + math.cos(math.pi * step / steps)) / 2,
}

State = dict[str, Tensor]


@dataclass
class Trained:
    """What a training leaves: weights of the last and of the best evaluation, and its history.

    history: rows for history.csv, without timings, so that the same seed gives the same bytes.
    resumed_at: steps at which the training went on from a checkpoint; spent_before: seconds that
    had been spent on it then.
    """

    last: State
    best: State
    last_step: int
    best_step: int
    history: list[dict[str, Any]] = field(default_factory=list)
    images_per_second: float = 0.0
    resumed_at: list[int] = field(default_factory=list)
    spent_before: float = 0.0


def train(
    method: Method,
    data: DeviceData,
    params: TrainingParams,
    seed: int,
    evaluate: Callable[[], dict[str, Any]],
    title: str = "",
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train (and fit) a method on random crops of all images, labelled or not.

    evaluate: called at `params.evaluations` evenly spaced steps; its `pa` chooses the best weights,
    which are the last ones where it is never called. It is the only place where labels come in, and
    nothing flows back into training.
    checkpoints: where a training that was stopped goes on from; the bytes are those of one that
    never was. On SIGTERM and SIGINT a last one is kept before the process ends.
    Raises TrainingError when the loss stops being finite.
    """
    record = _Record(_state(method))
    steps = method.optimiser.steps if method.optimiser else 0
    rate = 0.0
    if method.optimiser:
        optimisation = Optimisation(method, data, params, seed, title)
        _optimise(optimisation, record, evaluate, checkpoints)
        optimisation.keep_average()
        rate = optimisation.images_per_second
    if has_fit(method):
        fit(method, data, params.evaluation_batch, seed)
    if not method.optimiser or has_fit(method):
        seen = record.take(method, steps, evaluate()) if params.evaluations else {}
        record.history.append({"step": steps, "loss": None} | seen)
    last = _state(method)
    if not params.evaluations:
        record.best, record.best_step = last, steps
    return Trained(
        last=last,
        best=record.best,
        last_step=steps,
        best_step=record.best_step,
        history=record.history,
        images_per_second=rate,
        resumed_at=record.resumed_at,
        spent_before=record.spent,
    )


def has_fit(method: Method) -> bool:
    """Whether something comes after optimisation."""
    return type(method).fit is not Method.fit


def fit(method: Method, data: DeviceData, batch: int, seed: int) -> None:
    """What comes after optimisation, if anything, on the crops evaluation looks at."""
    method.eval()
    method.fit(evaluated_crops(data, batch), seed)


def _state(method: Method) -> State:
    return {name: value.detach().clone() for name, value in method.state_dict().items()}


@dataclass
class _Record:
    """What has been seen of a training so far."""

    best: State
    best_pa: float = -math.inf
    best_step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)
    spent: float = 0.0

    def take(self, method: Method, step: int, found: dict[str, Any]) -> dict[str, Any]:
        """Take in an evaluation; returns what the history keeps of it."""
        if found["pa"] > self.best_pa:
            self.best, self.best_pa, self.best_step = _state(method), found["pa"], step
        return {name: found[name] for name in HISTORY_FIGURES}


def _optimise(
    optimisation: Optimisation,
    record: _Record,
    evaluate: Callable[[], dict[str, Any]],
    checkpoints: Checkpoints | None,
) -> None:
    """All steps, with evaluations and checkpoints between them."""
    method, title, steps = optimisation.method, optimisation.title, optimisation.steps
    evaluations = 0 if has_fit(method) else optimisation.params.evaluations
    began = time.perf_counter()
    if checkpoints and (found := checkpoints.latest()):
        optimisation.restore(found["optimisation"])
        vars(record).update(found["record"])
        record.resumed_at.append(optimisation.step)
        tqdm.write(f"{title}: goes on from step {optimisation.step} of {steps}", file=sys.stderr)
    with Signals() as signals, _progress(steps, title, optimisation.step) as bar:
        while optimisation.step < steps:
            logged = optimisation.advance()
            step = optimisation.step
            bar.update()
            row: dict[str, Any] = {"step": step, "loss": logged}
            if step * evaluations // steps > (step - 1) * evaluations // steps:
                with optimisation.averaged():
                    row |= record.take(method, step, evaluate())
            if logged is not None or "pa" in row:
                record.history.append(row)
            if logged is not None:
                told = f"loss {logged:.4f}, {optimisation.images_per_second:.0f} images/s"
                bar.set_postfix_str(told, refresh=False)
            kept = False
            if checkpoints and (signals.asked or checkpoints.due()):
                seen = vars(record) | {"spent": record.spent + time.perf_counter() - began}
                state = {"optimisation": optimisation.state(), "record": seen}
                kept = checkpoints.save(step, state)
            if signals.asked:
                bar.close()
                goes_on = "run it again to go on from there" if kept else "no checkpoint of it"
                signals.obey(f"{title}: stopped at step {step} of {steps}; {goes_on}")


class Optimisation:
    """Adam on a method's loss (5.1), step by step, and all that a step changes.

    Losses stay on the device and are read every `params.log_every` steps, so that the host never
    waits for a step.
    """

    def __init__(
        self, method: Method, data: DeviceData, params: TrainingParams, seed: int, title: str
    ):
        settings = method.optimiser
        assert settings is not None
        self.method, self.params, self.settings, self.title = method, params, settings, title
        self.device = data.device
        self.steps = settings.steps
        self.generator = torch.Generator(data.device).manual_seed(seed)
        method.to(memory_format=torch.channels_last)
        for module in method.modules():
            if isinstance(module, Trunk):
                module.recompute = params.recompute
        method.train()
        self.average = Average(method, settings.average) if settings.average else None
        self.adam = torch.optim.Adam(method.parameters(), lr=settings.learning_rate, fused=True)
        self.schedule = LambdaLR(self.adam, SCHEDULES[settings.schedule](settings.steps))
        self.precision = choose_precision(params.precision, data.device)
        self.loss_of = method.loss
        if params.compile:
            leave_uncompiled()
            self.loss_of = torch.compile(method.loss)
        self.batches = TrainingBatches(
            data, settings.batch, settings.flip, self.generator, params.images, settings.crop
        )
        self.step = 0
        self.recent = torch.zeros(params.log_every, device=data.device)
        self.last_finite, self.busy = math.nan, 0.0

    def advance(self) -> float | None:
        """Take a step. Returns the mean loss since the last log where one is due, else None.

        Raises TrainingError when one of these losses is not finite.
        """
        began = time.perf_counter()
        views = next(self.batches)
        self.step += 1
        self.method.begin_step(self.step)
        with autocast(self.device, self.precision):
            loss = self.loss_of(views, self.generator)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        self.schedule.step()
        if self.average:
            self.average.update()
        place = (self.step - 1) % self.params.log_every
        self.recent[place] = loss.detach()
        logged = None
        if place == self.params.log_every - 1 or self.step == self.steps:
            logged = self._read_losses(place + 1)
        self.busy += time.perf_counter() - began
        return logged

    def _read_losses(self, count: int) -> float:
        values = self.recent[:count].tolist()
        for i, value in enumerate(values):
            if not math.isfinite(value):
                step, cuda = self.step - count + 1 + i, self.device.type == "cuda"
                raise _diverged(self.title, step, value, self.last_finite, cuda)
            self.last_finite = value
        return sum(values) / len(values)

    @property
    def images_per_second(self) -> float:
        return self.step * self.settings.batch / self.busy if self.busy else 0.0

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The method has the averaged weights within this context, where there are any."""
        return self.average.applied() if self.average else contextlib.nullcontext()

    def keep_average(self) -> None:
        if self.average:
            self.average.keep()

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to take the next step as it would have been taken."""
        return {
            "step": self.step,
            "method": self.method.state_dict(),
            "adam": self.adam.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state() if self.average else None,
            "generator": self.generator.get_state(),
            "random": random_states(self.device),
            "batches": self.batches.state(),
            "recent": self.recent,
            "last_finite": self.last_finite,
            "busy": self.busy,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.method.load_state_dict(state["method"])
        self.adam.load_state_dict(state["adam"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average:
            self.average.restore(state["average"])
        self.generator.set_state(state["generator"])
        restore_random_states(state["random"], self.device)
        self.batches.restore(state["batches"])
        self.recent.copy_(state["recent"])
        self.last_finite, self.busy = state["last_finite"], state["busy"]


def _diverged(title: str, step: int, value: float, last_finite: float, cuda: bool) -> TrainingError:
    never = math.isnan(last_finite)
    before = "it never was finite" if never else f"last finite loss {last_finite:.6g}"
    advice = "a smaller optimiser.learning_rate or objective.score_factor"
    if cuda:
        advice += ", or training.precision: float32"
    return TrainingError(
        f"{title}: the loss became {value} at step {step} ({before}). "
        f"Try {advice}; nothing was written."
    )


def _progress(total: int, title: str, done: int) -> tqdm:
    """A bar with time left: lively in a terminal, a line now and then in logs and notebooks."""
    pause = 0.5 if sys.stderr.isatty() else 20.0
    return tqdm(total=total, initial=done, desc=title, unit="step", mininterval=pause)
