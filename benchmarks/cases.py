"""What is timed: each function builds one case and returns the call that does it once."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import student
from infoseg.data.batches import DeviceData
from infoseg.data.store import PreparedWriter, load_prepared
from infoseg.evaluation import evaluate
from infoseg.machine import choose_precision
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.information import iic_loss
from infoseg.methods.registry import METHODS
from infoseg.settings import METHOD_SETTINGS, MethodSettings, SuperpixelSettings, TrainingParams
from infoseg.training import Optimisation
from infoseg.views import NOTHING, Sees

Call = Callable[[], object]
CPU = torch.device("cpu")
#: Side of pictures, their number, classes, and settings of the methods: about as in the demo.
SIDE, PICTURES, CLASSES = 96, 64, 3
PATCHES = {"width": 0.125, "head_width": 32}
SETTINGS = {
    "infoseg": {"objective": {"score_factor": 0.56}},
    "iic": {"width": 0.125, "displacement": 7},
    "ac": {"width": 0.125, "displacement": 7},
    "inmars": {"width": 0.125},
    "doersch": PATCHES,
    "isola": PATCHES,
}


def settings(kind: str, batch: int, features: int = 64) -> MethodSettings:
    """Of a training without an end. features: InfoSeg's P."""
    how = SETTINGS[kind] | {"optimiser": {"batch": batch, "steps": 10**9}}
    if kind == "infoseg":
        how["network"] = {"block_a": "cheap", "width": 0.25, "features": features}
    return METHOD_SETTINGS[kind](**how)


def build(of: MethodSettings, device: torch.device, channels: int = 3) -> Method:
    torch.manual_seed(0)
    info = DataInfo(CLASSES, channels, (0.5,) * channels, (0.25,) * channels)
    return METHODS[of.kind](of, info).to(device)


def noise(
    device: torch.device, crop: int, sees: Sees = NOTHING, side: int = SIDE, count: int = PICTURES
) -> DeviceData:
    """Pictures of noise on the device, labelled with stripes; superpixels are squares of 10 px."""
    draw, places = np.random.default_rng(0), np.arange(side) // 10
    grid = (places[:, None] * (places[-1] + 1) + places).astype(np.uint16)
    labels = np.tile((np.arange(side) % CLASSES).astype(np.uint8), (side, 1))
    about = {"name": "noise", "channels": 3, "classes": list("abc"), "parameters": {}}
    about["superpixels"] = SuperpixelSettings() if sees.regions else None
    with tempfile.TemporaryDirectory() as folder:
        with PreparedWriter(Path(folder, "noise"), **about) as writer:
            for i in range(count):
                picture = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
                writer.add(f"{i}", picture, labels, "train", grid if sees.regions else None)
        return DeviceData(load_prepared(writer.path), crop, device, sees)


def step(kind: str, batch: int, crop: int = 64, features: int = 64, device=CPU) -> Call:
    """An optimisation step of a method."""
    method = build(settings(kind, batch, features), device)
    training = TrainingParams(log_every=20, device=device.type)
    return Optimisation(method, noise(device, crop, method.sees), training, 0, kind).advance


def student_step(kind: str, batch: int, crop: int = 64, device=CPU) -> Call:
    """The same by a careful student's loop."""
    method = build(settings(kind, batch), device)
    return student.training_step(method, noise(device, crop), batch, workers=0)


def joint(batch: int, k: int, side: int, displacement: int, published: bool, device=CPU) -> Call:
    """IIC's loss, forward and backward."""
    torch.manual_seed(0)
    views = [torch.rand(batch, k, side, side, device=device).softmax(1) for _ in range(2)]
    views = [view.requires_grad_() for view in views]
    loss = student.iic_loss if published else iic_loss
    return lambda: torch.autograd.grad(loss(*views, displacement, 1.0), views)


def evaluation(batch: int, device=CPU) -> Call:
    """Segment and measure all pictures; a batch of 1 is the usual loop over them."""
    data, method = noise(device, SIDE), build(settings("infoseg", 32), device)
    return lambda: evaluate(method, data, batch, list("abc"), choose_precision("auto", device))


def product(m: int, k: int, n: int, device=CPU) -> Call:
    """A matrix product in the precision of a training: the floor's rate."""
    dtype = choose_precision("auto", device) or torch.float32
    a, b = (torch.rand(size, device=device).to(dtype) for size in ((m, k), (k, n)))
    return lambda: a @ b


def seconds_of(call: Call, device: torch.device, at_least: float = 0.3) -> float:
    """Mean seconds of a call over as many as take `at_least`; processor time on a CPU."""

    def now() -> float:
        return sum(os.times()[:2]) if device.type == "cpu" else time.perf_counter()

    synchronise(device)
    began, calls = now(), 0
    while not calls or now() - began < at_least:
        call()
        calls += 1
    synchronise(device)
    return (now() - began) / calls


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
