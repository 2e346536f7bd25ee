"""Cost as work grows: exponents of seconds over pictures, classes, features, crop and batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.measure import exponent, interleaved
from benchmarks.workload import make_data, make_method, optimisation, paper_params
from infoseg.clustering_losses import iic_loss
from infoseg.evaluation import confusions
from infoseg.losses import infoseg_loss


def exponents(device: torch.device, scale: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds at three or four sizes of each, and the exponent. scale: a small batch here."""
    params = paper_params()
    objective = params.method("infoseg", "coco_stuff3").objective

    def step(name: str, batch: int, crop: int | None = None) -> Callable[[], object]:
        return optimisation(params, name, "coco_stuff3", device, batch, crop).advance

    def infoseg_objective(classes: int, features: int) -> Callable[[], object]:
        local = torch.rand(scale, features, 32, 32, device=device, requires_grad=True)
        glob = torch.rand(scale, classes, features, device=device, requires_grad=True)
        return lambda: infoseg_loss(local, glob, objective).backward()

    def iic_objective(classes: int) -> Callable[[], object]:
        views = [torch.rand(scale, classes, 128, 128, device=device).softmax(1) for _ in range(2)]
        for view in views:
            view.requires_grad_()
        return lambda: iic_loss(*views, 10, 1.0).backward()

    def evaluation(images: int) -> Callable[[], object]:
        data = make_data(params, "coco_stuff3", images, device)
        method = make_method(params, "random_cnn", "coco_stuff3", device)
        return lambda: confusions(method, data, 8)

    least = max(2, scale // 2)  # Eq. 8 pairs pictures
    questions: dict[str, tuple[Sequence[int], Callable[[int], Callable[[], object]]]] = {
        "step of InfoSeg, batch": (
            [least, 2 * least, 4 * least],
            lambda n: step("infoseg", n),
        ),
        "step of InfoSeg, side of the crop": ([64, 96, 128], lambda n: step("infoseg", scale, n)),
        "step of IIC, side of the crop": ([64, 96, 128], lambda n: step("iic", scale, n)),
        "objective of InfoSeg, K": ([3, 15, 45], lambda n: infoseg_objective(n, 1024)),
        "objective of InfoSeg, P": ([256, 512, 1024], lambda n: infoseg_objective(3, n)),
        "objective of IIC, K": ([3, 15, 45], iic_objective),
        "evaluation, pictures": ([16, 32, 64], evaluation),
    }
    found = {}
    for name, (sizes, make) in questions.items():
        variants = {str(size): make(size) for size in sizes}
        seconds = interleaved(variants, device, repeats, calls=5 if device.type == "cuda" else 1)
        values = list(seconds.values())
        found[name] = {
            "sizes": list(sizes),
            "seconds": values,
            "exponent": exponent([float(size) for size in sizes], values),
        }
    return found
