"""Training steps: of every method, of InfoSeg beside the student's, and of each speed choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks import student
from benchmarks.measure import Rates, flops_of, interleaved
from benchmarks.undone import channels_first, unfused
from benchmarks.workload import make_data, make_method, optimisation, paper_params
from infoseg.correlation import leave_uncompiled
from infoseg.training import Optimisation

#: Bytes moved at least for every weight and step by Adam in float32: weight, gradient and two
#: moments are read, all but the gradient written.
ADAM_BYTES = 4 * 7


def methods(
    device: torch.device, batch: int | None, datasets: list[str], rates: Rates, repeats: int
) -> list[dict[str, Any]]:
    """(a) A training step of every method at the paper's setting.

    batch: of all, or None for the paper's. The floor is arithmetic and Adam's traffic alone: what
    activations move depends on how far operations are fused.
    """
    params, rows = paper_params(), []
    for dataset in datasets:
        for name in params.profile.methods:
            settings = getattr(params.method(name, dataset), "optimiser", None)
            if settings is None:
                continue
            count = batch or settings.batch
            made = optimisation(params, name, dataset, device, count)
            flops = step_flops(made)
            weights = sum(p.numel() for p in made.method.parameters())
            floor = rates.floor(flops, ADAM_BYTES * weights)
            seconds = interleaved({name: made.advance}, device, repeats, calls=_calls(device))[name]
            rows.append(
                {
                    "dataset": dataset,
                    "method": name,
                    "batch": count,
                    "crop": params.datasets[dataset].crop,
                    "gflop_per_image": flops / count / 1e9,
                    "images_per_second": count / seconds,
                    "floor_share": floor / seconds,
                }
            )
            del made
    return rows


def step_flops(made: Optimisation) -> int:
    """Of a whole step, forward and backward, without what is recomputed to save memory."""
    recomputing = [m for m in made.method.modules() if getattr(m, "recompute", False)]
    for module in recomputing:
        module.recompute = False
    flops = flops_of(made.advance)
    for module in recomputing:
        module.recompute = True
    return flops


def _calls(device: torch.device) -> int:
    return 10 if device.type == "cuda" else 1


def against_student(device: torch.device, batch: int | None, repeats: int) -> dict[str, Any]:
    """(b) InfoSeg as trained, and as a careful student would write it; images per second."""
    params = paper_params()
    count = batch or params.method("infoseg", "coco_stuff3").optimiser.batch
    made = optimisation(params, "infoseg", "coco_stuff3", device, count)
    data = make_data(params, "coco_stuff3", 4 * count, device)
    workers = 8 if device.type == "cuda" else 0
    variants: dict[str, Callable[[], object]] = {"infoseg": made.advance}

    def careful(tf32: bool) -> Callable[[], object]:
        method = make_method(params, "infoseg", "coco_stuff3", device)
        step = student.training_step(method, data, count, workers)

        def call() -> object:
            # PyTorch's default is TF32 in convolutions alone.
            before = torch.backends.cudnn.allow_tf32
            torch.backends.cudnn.allow_tf32 = tf32
            try:
                return step()
            finally:
                torch.backends.cudnn.allow_tf32 = before

        return call

    variants["student"] = careful(True)
    if device.type == "cuda":
        variants["student without TF32"] = careful(False)
    if params.training.compile is False and device.type == "cuda":
        compiled = optimisation(params, "infoseg", "coco_stuff3", device, count, compile=True)
        variants["infoseg compiled"] = compiled.advance
    seconds = interleaved(variants, device, repeats, warm_up=3, calls=_calls(device))
    rates = {name: count / value for name, value in seconds.items()}
    return {
        "batch": count,
        "images_per_second": rates,
        "times_faster": {n: rates["infoseg"] / r for n, r in rates.items() if "student" in n},
    }


def choices(device: torch.device, batch: int, repeats: int, compiled: bool) -> dict[str, float]:
    """What each speed choice of InfoSeg's step is worth: seconds of a step without it.

    compiled: also with torch.compile, which takes a minute to compile on a CPU.
    """
    params = paper_params()

    def variant(name: str = "infoseg", **training: Any) -> Optimisation:
        return optimisation(params, name, "coco_stuff3", device, batch, **training)

    first = variant()
    variants: dict[str, Callable[[], object]] = {"as trained": first.advance}
    variants["float32"] = variant(precision="float32").advance
    variants["channels first"] = channels_first(variant()).advance
    variants["Adam not fused"] = unfused(variant()).advance
    variants["loss read at every step"] = variant(log_every=1).advance
    for name in ("infoseg_eq8", "log_sum_exp"):
        marginal = params.method(name, "coco_stuff3").objective.marginal
        variants[f"objective.marginal: {marginal}"] = variant(name).advance
    if compiled:
        leave_uncompiled()
        variants["compiled"] = variant(compile=True).advance
    return interleaved(variants, device, repeats, warm_up=3, calls=_calls(device))
