"""(d) Evaluation of a whole data set: forward, upsampling, confusion matrix, match."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import student
from benchmarks.measure import Rates, flops_of, interleaved
from benchmarks.workload import make_data, make_method, paper_params
from infoseg.evaluation import evaluate
from infoseg.machine import choose_precision


def whole_data_set(device: torch.device, images: int, rates: Rates, repeats: int) -> dict[str, Any]:
    """Images per second of InfoSeg's evaluation, and of a loop over images in float32."""
    params = paper_params()
    data = make_data(params, "coco_stuff3", images, device)
    method = make_method(params, "infoseg", "coco_stuff3", device)
    looped = make_method(params, "infoseg", "coco_stuff3", device)
    method.to(memory_format=torch.channels_last)
    precision = choose_precision(params.training.precision, device)
    classes = [f"class {i}" for i in range(data.classes)]
    batch = min(params.training.evaluation_batch, images)

    def ours() -> dict[str, Any]:
        return evaluate(method, data, batch, classes, precision)

    variants = {"infoseg": ours, "image by image": lambda: student.evaluate(looped, data)}
    flops = flops_of(ours)
    seconds = interleaved(variants, device, repeats, warm_up=1)
    found = {name: images / value for name, value in seconds.items()}
    return {
        "images": images,
        "images_per_second": found,
        "times_faster": found["infoseg"] / found["image by image"],
        "floor_share": rates.floor(flops, 0) / seconds["infoseg"],
        # The same pictures, so the same answer but for the precision.
        "pa": {"infoseg": ours()["pa"], "image by image": student.evaluate(looped, data)},
    }
