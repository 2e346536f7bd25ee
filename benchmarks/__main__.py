"""Time everything side by side in one run, on this machine: `infoseg bench`, `make bench`.

Writes results/bench/<device>.json with what made it, and a table and a plot beside it. Parts that
are not asked for keep what an earlier run on the same device wrote of them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import evaluating, growth, hours, overhead, traces, training
from benchmarks.iic_loss import FORMS, both_ways, views
from benchmarks.measure import Rates, measure_rates
from benchmarks.report import plot, table
from benchmarks.workload import ROOT, paper_params
from infoseg.files import write_json
from infoseg.machine import choose_precision, facts, git_commit, keep_freed_memory

PARTS = ("methods", "student", "choices", "iic", "evaluation", "preparation", "overhead", "growth")


def iic(device: torch.device, repeats: int) -> dict[str, Any]:
    """(c) IIC's loss, forward and backward, against the published form: K = 45, 128 px, T = 10."""
    batch = 60 if device.type == "cuda" else 2
    inputs, times = views(batch, 45, 128), {}
    for name in FORMS:
        both_ways(name, inputs, 10)
        times[name] = min(both_ways(name, inputs, 10) for _ in range(min(2, repeats)))
    return {"batch": batch, "seconds": times}


def preparation() -> dict[str, Any]:
    """(e) The preparation of 100 drawn scenes of COCO's size, beside a bare decoder."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "out.json")
        words = ["--images", "100", "--tiles", "1", "--tile-size", "1500", "--repeats", "1"]
        script = [sys.executable, ROOT / "benchmarks/preparation.py", Path(scratch, "raw")]
        # Its status says whether it reached its own bar, which is for thousands of pictures.
        done = subprocess.run(
            [*script, *words, "--threads", "1", "--json", out], capture_output=True, text=True
        )
        if not out.exists():
            raise RuntimeError(done.stderr)
        return {"rows": json.loads(out.read_text())["rows"]}


def run(options: argparse.Namespace, device: torch.device, rates: Rates) -> dict[str, Any]:
    """What the parts that are asked for found, by part, and how long they took."""
    cuda = device.type == "cuda"
    # On a CPU the paper's batch takes minutes a step; what is compared has the same batch.
    batch = options.batch or (None if cuda else 4)
    small = batch or 64
    repeats = options.repeats
    calls = {
        "methods": lambda: {
            "rows": training.methods(device, batch, options.datasets, rates, repeats)
        },
        "student": lambda: training.against_student(device, batch, repeats),
        "choices": lambda: {
            "batch": small,
            "seconds": training.choices(device, small, repeats, cuda or options.compile),
        },
        "iic": lambda: iic(device, repeats),
        "evaluation": lambda: evaluating.whole_data_set(
            device, options.images or (2000 if cuda else 16), rates, min(repeats, 3)
        ),
        "preparation": preparation,
        "overhead": lambda: overhead.overhead(min(repeats, 3)),
        "growth": lambda: growth.exponents(device, small, min(repeats, 3)),
    }
    found: dict[str, Any] = {}
    for part in tqdm(options.parts, desc="benchmarks", unit="part"):
        began = time.perf_counter()
        found[part] = calls[part]() | {"took_seconds": round(time.perf_counter() - began, 1)}
        tqdm.write(json.dumps({part: found[part]}, indent=1), file=sys.stderr)
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="infoseg bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    made.add_argument("--device", default="auto", help="auto, cpu or cuda")
    made.add_argument("--threads", type=int, default=1, help="of the CPU, as a run has (1)")
    made.add_argument("--repeats", type=int, default=5, help="turns whose median counts (5)")
    made.add_argument("--batch", type=int, help="default: the paper's on CUDA, 4 on a CPU")
    made.add_argument("--images", type=int, help="that evaluation is timed with")
    made.add_argument(
        "--datasets",
        nargs="+",
        default=["coco_stuff3", "potsdam3"],
        choices=paper_params().profile.datasets,
        help="whose crops and classes methods are timed with",
    )
    made.add_argument("--compile", action="store_true", help="torch.compile on a CPU as well")
    made.add_argument(
        "--profile",
        action="store_true",
        help="instead, write a trace of InfoSeg's step and print its five largest costs",
    )
    made.add_argument("--out", type=Path, default=ROOT / "results/bench")
    return made


def main() -> int:
    made = parser()
    options = made.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        made.error(f"no such part: {', '.join(sorted(unknown))}")
    options.parts = options.parts or list(PARTS)
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu")
        if options.device == "auto"
        else options.device
    )
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = device.type == "cuda"
    if device.type == "cpu":
        keep_freed_memory()  # as runs do
    params = paper_params()
    if options.profile:
        print(traces.profile_step(device, options.batch or (64 if device.type == "cuda" else 4)))
        return 0
    rates = measure_rates(device, choose_precision(params.training.precision, device))
    made_by = facts(params.training, device) | {"git": git_commit(ROOT)}
    asked = {k: v for k, v in vars(options).items() if k in ("threads", "repeats", "batch")}
    found = run(options, device, rates)
    name = re.sub(r"[^a-z0-9]+", "-", made_by["device"].lower()).strip("-")
    path = options.out / f"{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    for part in found.values():
        part["made_by"] = {"commit": made_by["git"], "asked": asked, "rates": rates.record()}
    content = {"provenance": made_by, "parts": before["parts"] | found}
    write_json(path, content)
    measured = device.type == "cuda"
    rows = content["parts"].get("methods", {}).get("rows", [])
    frame = hours.hours(rows, measured) if rows else None
    path.with_suffix(".md").write_text(table(content, frame, measured), encoding="utf-8")
    plot(content, path.with_suffix(".png"))
    print(path.with_suffix(".md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
