"""One loop for every method: optimise, fit, evaluate now and then, go on after a kill."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from infoseg.data.batches import DeviceData, TrainingBatches, evaluated_crops
from infoseg.files import write_whole
from infoseg.machine import autocast, choose_precision, reproducible
from infoseg.methods.base import Method
from infoseg.methods.trunk import Trunk
from infoseg.settings import TrainingParams

#: What is kept of each evaluation in history.csv.
HISTORY_FIGURES = ("pa", "miou", "assignment_entropy", "permutation_gap", "clusters_used")

#: Factor on the learning rate after so many of all steps.
SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda step, steps: 1.0,
    "cosine": lambda step, steps: (1 + math.cos(math.pi * step / steps)) / 2,
}

State = dict[str, Any]
Row = dict[str, Any]


@dataclass
class Trained:
    """What a training leaves beside the method's weights.

    history: rows for history.csv (step, loss, figures of an evaluation), without timings, so that
    the same seed gives the same bytes. diverged: when and how the loss stopped being finite, "" if
    it never did; the weights are worth nothing then. resumed_at: steps at which the training went
    on from a checkpoint. seconds: all that was spent on it. cpu_seconds: of the processor, for the
    steps and the fit after them alone.
    """

    steps: int
    history: list[Row] = field(default_factory=list)
    diverged: str = ""
    images_per_second: float = 0.0
    resumed_at: list[int] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def train(
    method: Method,
    data: DeviceData,
    params: TrainingParams,
    seed: int,
    evaluate: Callable[[], dict[str, Any]],
    title: str = "",
    checkpoint: Checkpoint | None = None,
    report: Callable[[list[Row]], None] = lambda history: None,
) -> Trained:
    """Train (and fit) a method in place on random crops of all images, labelled or not.

    evaluate: called before the first step and at `params.evaluations` evenly spaced ones. It is the
    only place where labels come in, and nothing flows back into training.
    checkpoint: where a training that was killed goes on from; the bytes are those of one that never
    was. report: is given the history whenever it has grown.
    """
    fitted = type(method).fit is not Method.fit
    trained = Trained(method.optimiser.steps if method.optimiser else 0)

    def fit() -> None:
        if fitted:
            method.eval()
            method.fit(evaluated_crops(data, params.evaluation_batch), seed)

    def record(step: int, loss: float | None = None, measured: bool = False) -> None:
        row: Row = {"step": step, "loss": loss}
        if measured:
            evaluation = evaluate()
            row |= {name: evaluation[name] for name in HISTORY_FIGURES}
        trained.history.append(row)
        report(trained.history)

    with reproducible(params):
        if method.optimiser:
            optimisation = Optimisation(method, data, params, seed, title)
            if not (checkpoint and _resume(optimisation, trained, checkpoint)):
                if params.evaluations:
                    fit()
                    record(0, measured=True)
                    method.train()
            evaluations = 0 if fitted else params.evaluations
            _take_steps(optimisation, trained, evaluations, record, checkpoint)
            trained.images_per_second = optimisation.images_per_second
            trained.cpu_seconds = optimisation.cpu_seconds
        if not trained.diverged and (fitted or not method.optimiser):
            busy = time.process_time()
            fit()
            trained.cpu_seconds += time.process_time() - busy
            record(trained.steps, measured=params.evaluations > 0)
    trained.seconds = time.perf_counter() - trained.began
    return trained


def _resume(optimisation: Optimisation, trained: Trained, checkpoint: Checkpoint) -> bool:
    if not (state := checkpoint.read()):
        return False
    optimisation.restore(state["optimisation"])
    trained.history += state["history"]
    trained.resumed_at += [*state["resumed_at"], optimisation.step]
    trained.began -= state["seconds"]
    where = f"step {optimisation.step} of {optimisation.steps}"
    tqdm.write(f"{optimisation.title}: goes on from {where}", file=sys.stderr)
    return True


def _take_steps(
    optimisation: Optimisation,
    trained: Trained,
    evaluations: int,
    record: Callable[[int, float | None, bool], None],
    checkpoint: Checkpoint | None,
) -> None:
    """Take all steps, with evaluations and checkpoints between them, or as many as it can."""
    steps, title = optimisation.steps, optimisation.title
    # A bar with time left: lively in a terminal, a line now and then in logs and notebooks.
    pause = 0.5 if sys.stderr.isatty() else 20.0
    done = optimisation.step
    bar = tqdm(total=steps, initial=done, desc=title, unit="step", mininterval=pause)
    with bar:
        while optimisation.step < steps:
            try:
                loss = optimisation.advance()
            except FloatingPointError as error:
                trained.diverged = str(error)
                record(optimisation.step, None, False)
                return
            bar.update()
            step = optimisation.step
            measured = step * evaluations // steps > (step - 1) * evaluations // steps
            if measured or loss is not None:
                with optimisation.averaged() if measured else contextlib.nullcontext():
                    record(step, loss, measured)
            if loss is not None:
                rate = optimisation.images_per_second
                bar.set_postfix_str(f"loss {loss:.4f}, {rate:.0f} images/s", refresh=False)
            if checkpoint and checkpoint.due():
                state = {"optimisation": optimisation.state(), "history": trained.history}
                spent = time.perf_counter() - trained.began
                checkpoint.write(state | {"resumed_at": trained.resumed_at, "seconds": spent})
    if optimisation.average:
        optimisation.average.keep()


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
        self.device, self.steps = data.device, settings.steps
        self.generator = torch.Generator(data.device).manual_seed(seed)
        if self.device.type == "cuda":
            # On a CPU the layout of the input is enough, and Adam copies such gradients.
            method.to(memory_format=torch.channels_last)
        for module in method.modules():
            if isinstance(module, Trunk):
                module.recompute = params.recompute
        method.train()
        self.average = Average(method, settings.average) if settings.average else None
        self.adam = Adam(method.parameters())
        self.schedule = SCHEDULES[settings.schedule]
        self.precision = choose_precision(params.precision, data.device)
        self.loss_of = torch.compile(method.loss) if params.compile else method.loss
        self.batches = TrainingBatches(
            data, settings.batch, settings.flip, self.generator, settings.crop
        )
        self.step = 0
        self.recent = torch.zeros(params.log_every, device=data.device)
        self.last_finite, self.busy, self.cpu_seconds = math.nan, 0.0, 0.0

    def advance(self) -> float | None:
        """Take a step. Returns the mean loss since the last log where one is due, else None.

        Raises FloatingPointError, in words for a reader, when one of these losses is not finite.
        """
        began, cpu = time.perf_counter(), time.process_time()
        views = next(self.batches)
        rate = self.settings.learning_rate * self.schedule(self.step, self.steps)
        self.step += 1
        self.method.begin_step(self.step)
        with autocast(self.device, self.precision):
            loss = self.loss_of(views, self.generator)
        self.method.zero_grad()
        loss.backward()
        self.adam.step(rate)
        if self.average:
            self.average.update(self.step)
        place = (self.step - 1) % self.params.log_every
        self.recent[place] = loss.detach()
        due = place == self.params.log_every - 1 or self.step == self.steps
        logged = self._read_losses(place + 1) if due else None
        self.busy += time.perf_counter() - began
        self.cpu_seconds += time.process_time() - cpu
        return logged

    def _read_losses(self, count: int) -> float:
        values = self.recent[:count].tolist()
        for step, value in enumerate(values, self.step - count + 1):
            if not math.isfinite(value):
                never = math.isnan(self.last_finite)
                before = (
                    "it never was finite" if never else f"last finite loss {self.last_finite:.6g}"
                )
                advice = "a smaller optimiser.learning_rate or objective.score_factor"
                if self.device.type == "cuda":
                    advice += ", or training.precision: float32"
                raise FloatingPointError(
                    f"{self.title}: the loss became {value} at step {step} ({before}). Try {advice}"
                )
            self.last_finite = value
        return sum(values) / len(values)

    @property
    def images_per_second(self) -> float:
        return self.step * self.settings.batch / self.busy if self.busy else 0.0

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """The method has the averaged weights within this context, where there are any."""
        return self.average.applied() if self.average else contextlib.nullcontext()

    def _tensors(self) -> list[torch.Tensor]:
        return [self.recent, *self.adam.tensors, *(self.average.mean if self.average else ())]

    def state(self) -> State:
        """All that `restore` needs to take the next step as it would have been taken."""
        cuda = [self.device] if self.device.type == "cuda" else []
        return {
            "step": self.step,
            "method": self.method.state_dict(),
            "tensors": self._tensors(),
            "generator": self.generator.get_state(),
            "global": [torch.get_rng_state(), *map(torch.cuda.get_rng_state, cuda)],
            "batches": self.batches.state(),
            "scalars": (self.last_finite, self.busy, self.cpu_seconds),
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` returned."""
        self.step = state["step"]
        self.method.load_state_dict(state["method"])
        torch._foreach_copy_(self._tensors(), state["tensors"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["global"][0])
        for cuda in state["global"][1:]:
            torch.cuda.set_rng_state(cuda, self.device)
        self.batches.restore(state["batches"])
        self.last_finite, self.busy, self.cpu_seconds = state["scalars"]


# ---- Adam and averaged weights -------------------------------------------------------------------


class Adam:
    """Adam (Kingma & Ba, 2015) by torch's fused kernel, byte for byte `torch.optim.Adam`'s.

    Without that class, which loads torch's compiler: a second of every start. Parameters that have
    no gradient stay as they are, since IIC trains its heads in turn.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self.parameters = list(parameters)
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]
        self.tensors = [*self.means, *self.squares, *self.steps]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take a step of this learning rate along the parameters' gradients."""
        rows = zip(self.parameters, self.means, self.squares, self.steps, strict=True)
        rows = [(p, p.grad, *state) for p, *state in rows if p.grad is not None]
        parameters, gradients, means, squares, steps = map(list, zip(*rows, strict=True))
        torch._foreach_add_(steps, 1)
        how = {"weight_decay": 0.0, "amsgrad": False, "maximize": False}
        how |= {"lr": rate, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
        torch._fused_adam_(parameters, gradients, means, squares, [], steps, **how)


class Average:
    """An exponential moving average (EMA) of a module's parameters and running statistics.

    decay: of the average by step; in the first steps less, min(decay, (1 + n) / (10 + n)), so that
    it does not rest on the initial weights for long.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        every = [*module.parameters(), *module.buffers()]
        self.values = [value.detach() for value in every if value.is_floating_point()]
        self.mean = [value.clone() for value in self.values]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after a step, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.mean, self.values, 1 - decay)

    def keep(self) -> None:
        """Give the module the averaged weights for good."""
        torch._foreach_copy_(self.values, self.mean)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights within the block, and its own again after it."""
        own = [value.clone() for value in self.values]
        self.keep()
        try:
            yield
        finally:
            torch._foreach_copy_(self.values, own)


# ---- checkpoints ---------------------------------------------------------------------------------


class Checkpoint:
    """The one checkpoint of a training, replaced as a whole every so often.

    path: named after all that decides the training's bytes, so that a checkpoint of other code,
    settings or data is never picked up. seconds: between two of them, or None for none.
    """

    def __init__(self, path: Path, seconds: float | None):
        self.path, self.seconds = path, seconds
        self._last = time.monotonic()

    def read(self) -> State | None:
        """The state, on the CPU; None where there is none. One that is damaged is named."""
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with it: the training can begin anew
            print(f"checkpoint {self.path} is not used: {error}", file=sys.stderr)
            return None

    def due(self) -> bool:
        return self.seconds is not None and time.monotonic() - self._last >= self.seconds

    def write(self, state: State) -> None:
        """Replace it. A full disk costs the checkpoint and not the training."""
        try:
            write_whole(self.path, lambda file: torch.save(state, file))
        except (OSError, RuntimeError) as error:
            print(f"no checkpoint, training goes on: {error}", file=sys.stderr)
        self._last = time.monotonic()

    def clear(self) -> None:
        """Remove it, and what killed processes left of it: the training's results are written."""
        for path in self.path.parent.glob(f"*{self.path.name}*"):
            path.unlink(missing_ok=True)
