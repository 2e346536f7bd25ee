"""Whether the speed choices cost accuracy: InfoSeg's PA on the demo with them and without.

    python -m benchmarks.quality [--seeds 0 1 2] [--compile]

Every seed is trained as the pipeline does (bfloat16 where the CPU has it, channels last, fused
Adam) and as PyTorch does by default (float32, channels first, one operation of Adam after the
other), and, if asked, as the pipeline does under torch.compile. PA is that of COCO-Stuff-3 of the
demo, which is prepared first where it is missing. What was found stands in quality.md.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from tqdm import trange

from benchmarks.undone import channels_first, unfused
from infoseg.evaluation import evaluate
from infoseg.machine import choose_precision, reproducible
from infoseg.methods.base import DataInfo
from infoseg.methods.registry import METHODS
from infoseg.runs import Project
from infoseg.settings import TrainingParams
from infoseg.training import Optimisation

METHOD, DATASET = "infoseg", "coco_stuff3"


def plain(made: Optimisation) -> Optimisation:
    return unfused(channels_first(made))


def accuracy(
    project: Project,
    seed: int,
    change: Callable[[Optimisation], Optimisation] | None = None,
    **training: Any,
) -> float:
    """PA in percent after a training whose settings are the project's but for these."""
    params = project.params
    settings: TrainingParams = params.training.model_copy(update=training)
    prepared, method_settings = project.load(DATASET), params.method(METHOD, DATASET)
    meta, dataset = prepared.meta, params.datasets[DATASET]
    with reproducible(settings, seed) as device:
        info = DataInfo(dataset.clusters, meta.channels, tuple(meta.mean), tuple(meta.std))
        method = METHODS[method_settings.kind](method_settings, info).to(device)
        data = project.crops(DATASET, method)
        made = Optimisation(method, data, settings, seed, f"seed {seed}")
        made = change(made) if change else made
        for _ in trange(made.steps, desc=f"seed {seed}", leave=False):
            made.advance()
        made.keep_average()
        precision = choose_precision(settings.precision, device)
        found = evaluate(method, data, settings.evaluation_batch, meta.classes, precision)
    return found["pa"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--compile", action="store_true", help="a minute of compiling per seed")
    options = parser.parse_args(arguments)
    project = Project.open(options.profile)
    variants: dict[str, dict[str, Any]] = {
        "as the pipeline trains": {},
        "without any": {"change": plain, "precision": "float32"},
    }
    if options.compile:
        variants["with torch.compile"] = {"compile": True}
    seeds = " | ".join(f"seed {seed}" for seed in options.seeds)
    precision = choose_precision("auto", torch.device("cpu"))
    print(f"torch {torch.__version__}, {precision or 'float32'} as the pipeline trains\n")
    print(f"| speed choices | {seeds} | mean | sd |\n|:---|{'---:|' * (len(options.seeds) + 2)}")
    for name, how in variants.items():
        found = [accuracy(project, seed, **how) for seed in options.seeds]
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        cells = " | ".join(f"{pa:.1f}" for pa in found)
        print(f"| {name} | {cells} | {statistics.mean(found):.1f} | {spread:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
