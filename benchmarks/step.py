"""Ratios measured side by side in one run: what each speed choice of a training step is worth.

    python benchmarks/step.py [--threads N] [--repeats N]

Times alternate between the variants, so that a busy machine slows all of them alike; the median of
each is compared with the first. Prints a Markdown table with the machine it was measured on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from infoseg.devices import choose_precision
from infoseg.methods import METHODS, DataInfo
from infoseg.params import load_params
from infoseg.provenance import provenance
from infoseg.views import Views

ROOT = Path(__file__).parent.parent


def training_step(
    profile: str, size: int, batch: int, channels_last: bool, precision: str, marginal: str
) -> Callable[[], None]:
    """One optimisation step of InfoSeg at a profile's settings on random pictures."""
    params = load_params(ROOT, profile, [f"methods.infoseg.objective.marginal={marginal}"])
    settings = params.method("infoseg", "coco_stuff3")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    info = DataInfo(3, 3, (0.5,) * 3, (0.25,) * 3)
    method = METHODS["infoseg"](settings, info).to(device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    method.to(memory_format=layout)
    images = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=layout)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator(device).manual_seed(0)
    autocast = choose_precision(precision, device)

    def step() -> None:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            loss = method.loss(Views(images), generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def measure(variants: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each variant, their repetitions interleaved, two warm-ups each."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(-2, repeats):
        for name, step in variants.items():
            began = time.perf_counter()
            step()
            if repeat >= 0:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    params = load_params(ROOT, "demo")
    batch = params.method("infoseg", "coco_stuff3").optimiser.batch
    size = params.datasets["coco_stuff3"].crop
    common = {"profile": "demo", "size": size, "batch": batch}
    variants = {
        "as trained": training_step(
            **common, channels_last=True, precision="auto", marginal="rematched"
        ),
        "float32": training_step(
            **common, channels_last=True, precision="float32", marginal="rematched"
        ),
        "channels first": training_step(
            **common, channels_last=False, precision="auto", marginal="rematched"
        ),
        "log_sum_exp": training_step(
            **common, channels_last=True, precision="auto", marginal="log_sum_exp"
        ),
        "paired": training_step(**common, channels_last=True, precision="auto", marginal="paired"),
    }
    found = measure(variants, options.repeats)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = provenance(ROOT, params.training, device, {})
    print(f"Training step, {size} px, batch {batch}, {made['device']}, {options.threads} threads")
    print(f"torch {made['versions']['torch']}, commit {made['git']['commit']}\n")
    print("| variant | ms | against the first |\n|:---|---:|---:|")
    first = next(iter(found.values()))
    for name, seconds in found.items():
        print(f"| {name} | {1000 * seconds:.1f} | {seconds / first:.2f} |")


if __name__ == "__main__":
    main()
