"""Time cases on one tree of the repository, told by another process: `worker.py TREE DEVICE`.

Reads a line of JSON, {"case": name, "calls": n}, and answers with seconds of a call (processor time
on a CPU, which other programs hardly change). So that two commits can take turns.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, sys.argv[1] if __name__ == "__main__" else str(Path(__file__).parent.parent))

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infoseg.clustering_losses import iic_loss, information_loss
from infoseg.data.batches import DeviceData
from infoseg.data.store import PreparedWriter, load_prepared
from infoseg.evaluation import evaluate
from infoseg.machine import autocast, choose_precision, keep_freed_memory
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.registry import METHODS
from infoseg.settings import METHOD_SETTINGS, SuperpixelSettings, TrainingParams
from infoseg.training import Optimisation
from infoseg.views import NOTHING, Sees

Call = Callable[[], object]
#: Side of pictures and crops, and number of pictures and classes, as in the demo.
PICTURE, CROP, PICTURES, CLASSES = 96, 64, 64, 3

NETWORK = {"block_a": "cheap", "width": 0.25, "features": 64}
OPTIMISER = {"batch": 32, "steps": 10**9, "average": 0.99}
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.125}
INFOSEG = {"network": NETWORK, "objective": {"score_factor": 0.56}, "optimiser": OPTIMISER}
TRUNK = {"width": 0.125, "optimiser": {"batch": 16, "steps": 10**9}}
STEPS = {
    "InfoSeg": ("infoseg", INFOSEG),
    "InfoSeg with colour jitter": ("infoseg", INFOSEG | {"jitter": JITTER}),
    "IIC": ("iic", TRUNK | {"displacement": 7}),
    "AC": ("ac", TRUNK | {"displacement": 7}),
    "InMARS": ("inmars", TRUNK),
    "Doersch": ("doersch", TRUNK | {"head_width": 32}),
}
#: IIC's loss: batch, K, side in pixels, T.
JOINTS = ((16, 15, 64, 5), (4, 45, 128, 10), (8, 3, 64, 5))


def method(kind: str, changes: dict) -> Method:
    torch.manual_seed(0)
    info = DataInfo(CLASSES, 3, (0.5,) * 3, (0.25,) * 3)
    return METHODS[kind](METHOD_SETTINGS[kind](**changes), info)


def noise(sees: Sees = NOTHING, crop: int = CROP) -> DeviceData:
    """Pictures of noise on the device, labelled with stripes; superpixels are squares of 10 px."""
    draw, places = np.random.default_rng(0), np.arange(PICTURE) // 10
    grid = (places[:, None] * (places[-1] + 1) + places).astype(np.uint16)
    labels = np.tile((np.arange(PICTURE) % CLASSES).astype(np.uint8), (PICTURE, 1))
    with tempfile.TemporaryDirectory() as folder:
        writer = PreparedWriter(
            Path(folder, "noise"),
            name="noise",
            channels=3,
            classes=[f"class {i}" for i in range(CLASSES)],
            parameters={},
            superpixels=SuperpixelSettings() if sees.regions else None,
        )
        with writer:
            for i in range(PICTURES):
                picture = draw.integers(0, 256, (PICTURE, PICTURE, 3), dtype=np.uint8)
                writer.add(f"{i}", picture, labels, "train", grid if sees.regions else None)
        return DeviceData(load_prepared(writer.path), crop, DEVICE, sees)


def step(name: str) -> Call:
    kind, changes = STEPS[name]
    trained = method(kind, changes).to(DEVICE)
    training = TrainingParams(log_every=20, device=DEVICE.type)
    return Optimisation(trained, noise(trained.sees), training, 0, name).advance


def convolutions(name: str) -> Call:
    """A step's convolutions alone, forward and backward: what no other code of a step can save."""
    kind, changes = STEPS[name]
    trained, seen = method(kind, changes).to(DEVICE).train(), []

    def keep(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        image = inputs[0].detach().to(output.dtype).requires_grad_(inputs[0].requires_grad)
        weight = module.weight.detach().to(output.dtype).requires_grad_()
        how = {"stride": module.stride, "padding": module.padding, "dilation": module.dilation}
        seen.append((image, weight, how, torch.ones_like(output)))

    for module in trained.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(keep)
    data = noise(trained.sees)
    items = data.evaluated[: changes["optimiser"]["batch"]]
    views = data.views(data.centre(items), items)
    with autocast(DEVICE, choose_precision("auto", DEVICE)):
        trained.loss(views, torch.Generator(DEVICE).manual_seed(0))

    def call() -> None:
        for image, weight, how, gradient in seen:
            needed = [x for x in (image, weight) if x.requires_grad]
            torch.autograd.grad(F.conv2d(image, weight, **how), needed, gradient)

    return call


def joint(shape: str, published: bool) -> Call:
    """IIC's loss, forward and backward; `published` convolves one view with the other."""
    batch, classes, side, displacement = map(int, shape.split())
    torch.manual_seed(0)
    views = [torch.rand(batch, classes, side, side, device=DEVICE).softmax(1) for _ in range(2)]
    views = [view.requires_grad_() for view in views]

    def convolved(first: Tensor, second: Tensor) -> Tensor:
        sums = F.conv2d(first.transpose(0, 1), second.transpose(0, 1), padding=displacement)
        return information_loss(sums.permute(2, 3, 0, 1), 1.0)

    def call() -> None:
        loss = convolved(*views) if published else iic_loss(*views, displacement, 1.0)
        torch.autograd.grad(loss, views)

    return call


def evaluation(batch: int) -> Call:
    """Segment and measure all pictures; a batch of 1 is a loop over them."""
    data, segmenter = noise(crop=PICTURE), method("infoseg", INFOSEG).to(DEVICE)
    precision, names = choose_precision("auto", DEVICE), [f"class {i}" for i in range(CLASSES)]
    return lambda: evaluate(segmenter, data, batch, names, precision)


def product(shape: str) -> Call:
    """A matrix product in the precision of a training: the floor's rate."""
    m, k, n = map(int, shape.split())
    dtype = choose_precision("auto", DEVICE) or torch.float32
    a, b = (torch.rand(size, device=DEVICE).to(dtype) for size in ((m, k), (k, n)))
    return lambda: a @ b


def make(case: str) -> Call:
    kind, _, what = case.partition(": ")
    return {
        "step": step,
        "convolutions": convolutions,
        "joint": lambda shape: joint(shape, published=False),
        "published joint": lambda shape: joint(shape, published=True),
        "evaluation": lambda batch: evaluation(int(batch)),
        "product": product,
    }[kind](what)


def serve() -> None:
    torch.set_num_threads(1)
    if DEVICE.type == "cpu":
        keep_freed_memory()  # as runs do
    clock = time.process_time if DEVICE.type == "cpu" else time.perf_counter
    calls: dict[str, Call] = {}
    for line in sys.stdin:
        case, count = (request := json.loads(line))["case"], request["calls"]
        if case not in calls:
            calls.clear()  # one at a time in memory
            calls[case] = make(case)
            for _ in range(3):
                calls[case]()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        began = clock()
        for _ in range(count):
            calls[case]()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        print(json.dumps((clock() - began) / count), flush=True)


DEVICE = torch.device(sys.argv[2] if __name__ == "__main__" else "cpu")

if __name__ == "__main__":
    serve()
