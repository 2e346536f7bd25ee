"""One loop for every method: optimise, fit, evaluate now and then, keep last and best weights."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from infoseg.averaging import Average
from infoseg.correlation import leave_uncompiled
from infoseg.devices import autocast, choose_precision
from infoseg.errors import TrainingError
from infoseg.methods.base import Method
from infoseg.params import TrainingParams
from infoseg.trunk import Trunk
from infoseg.views import DeviceData, evaluated_crops, training_batches

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
    """

    last: State
    best: State
    last_step: int
    best_step: int
    history: list[dict[str, Any]] = field(default_factory=list)
    images_per_second: float = 0.0


def train(
    method: Method,
    data: DeviceData,
    params: TrainingParams,
    seed: int,
    evaluate: Callable[[], dict[str, Any]],
    title: str = "",
) -> Trained:
    """Train (and fit) a method on random crops of all images, labelled or not.

    evaluate: called at `params.evaluations` evenly spaced steps; its `pa` chooses the best weights,
    which are the last ones where it is never called. It is the only place where labels come in, and
    nothing flows back into training.
    Raises TrainingError when the loss stops being finite.
    """
    generator = torch.Generator(data.device).manual_seed(seed)
    history: list[dict[str, Any]] = []
    best, best_pa, best_step = _state(method), -math.inf, 0
    steps = method.optimiser.steps if method.optimiser else 0
    busy = 0.0
    if method.optimiser:
        method.to(memory_format=torch.channels_last)
    decay = method.optimiser.average if method.optimiser else 0
    average = Average(method, decay) if decay else None

    def evaluate_now(step: int) -> dict[str, Any]:
        nonlocal best, best_pa, best_step
        with average.applied() if average else nullcontext():
            found = evaluate()
            if found["pa"] > best_pa:
                best, best_pa, best_step = _state(method), found["pa"], step
        return {name: found[name] for name in HISTORY_FIGURES}

    if method.optimiser:
        optimised = _optimise(method, data, params, generator, title, average)
        for step, loss, busy in optimised:  # noqa: B007
            row: dict[str, Any] = {"step": step, "loss": loss}
            due = step * params.evaluations // steps > (step - 1) * params.evaluations // steps
            if due and not has_fit(method):
                row |= evaluate_now(step)
            if loss is not None or "pa" in row:
                history.append(row)
    if average:
        average.keep()
        average = None
    if has_fit(method):
        fit(method, data, params.evaluation_batch, seed)
    if not method.optimiser or has_fit(method):
        found = evaluate_now(steps) if params.evaluations else {}
        history.append({"step": steps, "loss": None} | found)
    last = _state(method)
    if not params.evaluations:
        best, best_step = last, steps
    images = steps * method.optimiser.batch if method.optimiser else 0
    return Trained(
        last=last,
        best=best,
        last_step=steps,
        best_step=best_step,
        history=history,
        images_per_second=images / busy if busy else 0.0,
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


def _optimise(
    method: Method,
    data: DeviceData,
    params: TrainingParams,
    generator: torch.Generator,
    title: str,
    average: Average | None,
):
    """Yield (step, mean loss since the last log or None, seconds spent so far) after each step.

    Losses stay on the device and are read every `params.log_every` steps, so that the host never
    waits for a step.
    """
    settings = method.optimiser
    assert settings is not None
    cuda = data.device.type == "cuda"
    for module in method.modules():
        if isinstance(module, Trunk):
            module.recompute = params.recompute
    method.train()
    optimiser = torch.optim.Adam(method.parameters(), lr=settings.learning_rate, fused=True)
    schedule = LambdaLR(optimiser, SCHEDULES[settings.schedule](settings.steps))
    precision = choose_precision(params.precision, data.device)
    loss_of = method.loss
    if params.compile:
        leave_uncompiled()
        loss_of = torch.compile(method.loss)
    batches = training_batches(
        data, settings.batch, settings.flip, generator, params.images, settings.crop
    )
    recent = torch.zeros(params.log_every, device=data.device)
    last_finite, busy = math.nan, 0.0
    with _progress(settings.steps, title) as bar:
        for step in range(1, settings.steps + 1):
            began = time.perf_counter()
            views = next(batches)
            method.begin_step(step)
            with autocast(data.device, precision):
                loss = loss_of(views, generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            if average:
                average.update()
            place = (step - 1) % params.log_every
            recent[place] = loss.detach()
            bar.update()
            logged = None
            if place == params.log_every - 1 or step == settings.steps:
                values = recent[: place + 1].tolist()
                for i, value in enumerate(values):
                    if not math.isfinite(value):
                        raise _diverged(title, step - place + i, value, last_finite, cuda)
                    last_finite = value
                logged = sum(values) / len(values)
            busy += time.perf_counter() - began
            if logged is not None:
                rate = step * settings.batch / busy
                bar.set_postfix_str(f"loss {logged:.4f}, {rate:.0f} images/s", refresh=False)
            yield step, logged, busy


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


def _progress(total: int, title: str) -> tqdm:
    """A bar with time left: lively in a terminal, a line now and then in logs and notebooks."""
    lively = sys.stderr.isatty()
    return tqdm(total=total, desc=title, unit="step", mininterval=0.5 if lively else 20.0)
