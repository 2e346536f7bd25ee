"""GPU memory of a training step of every method at the paper's batch, measured or estimated.

    python benchmarks/memory.py [--methods A B] [--datasets C D] [--limit GB]

With CUDA: the peak of one step at the paper's batch, measured. Without: one step each at two small
batches, in a process of its own, at full width and in bfloat16; the growth of its peak resident
memory per image, times the paper's batch, and 16 bytes per weight (weight, gradient and Adam's two
moments in float32). Convolutions on a CPU keep more beside the activations than on a GPU, so that
this errs upwards. Ends with status 1 when something is above the limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from infoseg.machine import peak_memory
from infoseg.methods.base import DataInfo
from infoseg.methods.registry import METHODS
from infoseg.settings import Params, load_params
from infoseg.trunk import Trunk
from infoseg.views import Views

ROOT = Path(__file__).parent.parent
GB = 1e9


def step(params: Params, name: str, dataset: str, batch: int) -> tuple[int, int]:
    """One optimisation step on noise: (peak bytes, number of weights)."""
    settings, data = params.method(name, dataset), params.datasets[dataset]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    channels = 4 if data.kind == "potsdam" else 3
    torch.manual_seed(0)
    info = DataInfo(data.clusters, channels, (0.5,) * channels, (0.25,) * channels)
    method = METHODS[settings.kind](settings, info).to(device, memory_format=torch.channels_last)
    for module in method.modules():
        if isinstance(module, Trunk):
            module.recompute = params.training.recompute
    images = torch.rand(batch, channels, data.crop, data.crop, device=device)
    side = torch.arange(data.crop, device=device) // 10
    regions = side[:, None] * (int(side[-1]) + 1) + side
    views = Views(
        images.contiguous(memory_format=torch.channels_last),
        torch.ones_like(images[:, 0], dtype=torch.bool) if method.sees.mask else None,
        regions.expand(batch, -1, -1) if method.sees.regions else None,
        int(regions.max()) + 1,
    )
    method.train().begin_step(1)
    with torch.autocast(device.type, torch.bfloat16):
        loss = method.loss(views, torch.Generator(device).manual_seed(0))
    loss.backward()
    return peak_memory(device), sum(p.numel() for p in method.parameters())


def measure(name: str, dataset: str, batch: int) -> tuple[int, int]:
    """`step` in a process of its own, whose peak is that of nothing else."""
    words = ["--one", name, dataset, str(batch)]
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    peak, weights = json.loads(done.stdout)
    return peak, weights


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--datasets", nargs="+")
    parser.add_argument("--limit", type=float, default=16.0, help="GB")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    params = load_params(ROOT, "paper")
    if options.one:
        name, dataset, batch = options.one
        print(json.dumps(step(params, name, dataset, int(batch))))
        return 0
    cuda, worst = torch.cuda.is_available(), 0.0
    print(f"{'Measured' if cuda else 'Estimated'} at the paper's batch, bfloat16, limit ", end="")
    print(f"{options.limit:g} GB; trunk recomputed: {params.training.recompute}\n")
    print("| data set | method | batch | GB |\n|:---|:---|---:|---:|")
    for dataset in options.datasets or params.profile.datasets:
        for name in options.methods or params.profile.methods:
            optimiser = getattr(params.method(name, dataset), "optimiser", None)
            if optimiser is None:
                continue
            if cuda:
                peak, weights = measure(name, dataset, optimiser.batch)
                peak += 8 * weights  # Adam's moments
            else:
                (low, weights), (high, _) = (measure(name, dataset, b) for b in (2, 6))
                peak = optimiser.batch * (high - low) / 4 + 16 * weights
            worst = max(worst, peak / GB)
            print(f"| {dataset} | {name} | {optimiser.batch} | {peak / GB:.1f} |", flush=True)
    return int(worst > options.limit)


if __name__ == "__main__":
    sys.exit(main())
