"""Check a GPU in at most ten minutes: `make gpu-check`. On a CPU a short form runs, two minutes.

Writes results/gpu/<device>.md and .json: whether every method's losses are those of the CPU, its
images a second at the paper's settings, InfoSeg's and IIC's beside a careful student's loop,
GPU-hours of the paper, and PA on outdoor.
"""

from __future__ import annotations

import math
import time
from typing import Any

import pandas as pd
import torch
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from benchmarks import student
from benchmarks.__main__ import ROOT, write
from benchmarks.cases import CPU, build, noise, seconds_of, synchronise
from infoseg.machine import choose_device, facts, git_commit
from infoseg.runs import Project
from infoseg.settings import TrainingParams, load_params, merge
from infoseg.training import Optimisation, train

DEVICE = choose_device("auto")
SHORT = DEVICE.type == "cpu"
PAPER, TINY = load_params(ROOT, "paper"), load_params(ROOT, "tiny")
METHODS = ("infoseg", "iic_mi", "iic", "ac", "inmars", "doersch", "isola")
#: The data set on which steps are timed.
DATASET = "coco_stuff3"
#: How far the loss of step n may move, divided by n, relative and absolute, as in tests/golden.py.
TOLERANCE = 2e-3


class SameDraws(TorchFunctionMode):
    """Random numbers of a CPU's generator on every device, so that devices can be compared."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in (torch.rand, torch.randn, torch.randint, torch.randperm):
            return func(*args, **kwargs or {})
        drawn = func(*args, **kwargs | {"generator": self.generator, "device": CPU})
        return drawn.to(kwargs["device"])


def losses(kind: str, device: torch.device, steps: int = 20) -> torch.Tensor:
    """Of the first steps of the tiny profile's training, in float32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    method = build(TINY.method(kind, DATASET), device)
    training = TrainingParams(precision="float32", log_every=1, device=device.type)
    with SameDraws():
        data = noise(device, 64, method.sees)
        optimisation = Optimisation(method, data, training, 0, kind)
        return torch.tensor([optimisation.advance() for _ in range(steps)])


def moved(losses: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference of two trainings' losses: relative and absolute, by step."""
    steps = torch.arange(1, len(losses) + 1)
    return float(((losses - expected).abs() / (1 + expected.abs()) / steps).max())


def rate(kind: str, loop: str = "") -> dict[str, float]:
    """Images a second at the paper's settings; loop: "compiled", "student", or ours as it is.

    idle: share of ten steps' time in which no kernel ran.
    """
    of, crop = PAPER.method(kind, DATASET), PAPER.datasets[DATASET].crop
    if SHORT:
        crop, small = 64, {"optimiser": {"batch": 2}}
        of = type(of).model_validate(merge(of.model_dump(), small))
    method, batch = build(of, DEVICE), of.optimiser.batch
    data = noise(DEVICE, crop, method.sees, crop + 32, 2 * batch)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = loop == "student"
    if loop == "student":
        step = student.training_step(method, data, batch, workers=0 if SHORT else 8)
    else:
        training = TrainingParams(compile=loop == "compiled", recompute=True)
        step = Optimisation(method, data, training, 0, kind).advance
    for _ in range(1 if SHORT else 5):
        step()
    row = {"images/s": batch / seconds_of(step, DEVICE, 0.1 if SHORT else 4)}
    if not SHORT:
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            began = time.perf_counter()
            for _ in range(10):
                step()
            synchronise(DEVICE)
            seconds = time.perf_counter() - began
        kernels = sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6
        row["idle"] = 1 - kernels / seconds
        row["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
    return row


def hours(kind: str, images_per_second: float) -> float:
    """Of all the paper profile's trainings by a method; a step's time goes with its pixels."""
    pixels = 0
    for run in [*PAPER.runs(), *PAPER.ablations()]:
        settings = PAPER.method(run.method, run.dataset)
        if settings.kind == kind:
            images = settings.optimiser.steps * settings.optimiser.batch
            pixels += images * PAPER.datasets[run.dataset].crop ** 2
    return pixels / PAPER.datasets[DATASET].crop ** 2 / images_per_second / 3600


def outdoor(steps: int) -> dict[str, float]:
    """PA of the demo's InfoSeg, trained on whole pictures: 96 px, larger ones are not embedded."""
    changes = [f"methods.infoseg.optimiser.{x}" for x in (f"steps={steps}", "crop=null")]
    changes.append("training.evaluations=1")
    params = load_params(ROOT, "demo", changes)
    project = Project(ROOT / "build/gpu", params, ROOT, True, changes)
    cell = project.cell("outdoor", "infoseg")
    model = cell.build(0)
    trained = train(model, cell.data, cell.training, 0, lambda: project.measured(model, cell.data))
    return {"steps": steps, "PA": trained.history[-1]["pa"], "seconds": trained.seconds}


def main() -> None:
    rows = []
    for kind in METHODS:
        row: dict[str, Any] = {"method": kind}
        row["loss moved"] = moved(losses(kind, DEVICE), losses(kind, CPU))
        for loop in ("", "compiled", "student") if kind in ("infoseg", "iic") else ("",):
            try:
                measured = rate(kind, loop)
            except torch.OutOfMemoryError:
                measured = {"images/s": math.nan}
            row |= {f"{loop}, images/s": measured["images/s"]} if loop else measured
        rows.append(row | {"hours": hours(kind, row["images/s"])})
        print(row, flush=True)
    table, pictures = pd.DataFrame(rows).astype(object), outdoor(40 if SHORT else 2000)
    table = table.where(table.notna(), None)  # not measured, or out of memory
    machine = facts(TrainingParams(), DEVICE)
    if SHORT:
        table = table.drop(columns="hours")
    good = (table["loss moved"] <= TOLERANCE).all()
    title = "A CPU in the short form: it shows that the script runs, nothing of a GPU"
    text = (
        f"# {title if SHORT else 'GPU check'}: {machine['device']}\n\nWritten by `make gpu-check`, "
        f"commit {git_commit(ROOT)}, torch {machine['versions']['torch']}. Losses of 20 steps in "
        f"float32 are {'' if good else 'NOT '}those of the CPU, to {TOLERANCE} a step.\n\n"
        f"{table.to_markdown(index=False, floatfmt='.3g')}\n\n"
        f"Outdoor at 96 px after {pictures['steps']} steps: PA {pictures['PA']:.1f}, "
        f"{pictures['seconds']:.0f} s."
    )
    record = {"short": SHORT, "rows": table.to_dict("records"), "outdoor": pictures}
    write(ROOT / "results/gpu", machine, text, record, "-short-form" if SHORT else "")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
