"""How fast, in ratios measured side by side: `make bench`, or `make bench BASE=<commit>`.

Writes results/bench/<device>.md: a step of every method with its floor, IIC's loss beside its
published form, evaluation beside a loop over pictures, start-up. With BASE, that commit takes turns
with the working tree, case by case. Ratios are medians of the repeats, with the range in brackets.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from benchmarks import worker
from infoseg.machine import facts, git_commit
from infoseg.settings import TrainingParams

ROOT = Path(__file__).parent.parent
#: Python until the first step could be taken, in processor seconds.
COMMANDS = {
    "import of what a training cell needs": ["-c", "import infoseg.runs, infoseg.methods.registry"],
    "infoseg --help": ["-m", "infoseg", "--help"],
    "infoseg params": ["-m", "infoseg", "params"],
}
#: What does not depend on the tree.
ONCE = ("convolutions", "published", "product")


class Worker:
    """A process that times cases on a tree of the repository."""

    def __init__(self, tree: Path, device: str):
        self.tree = tree
        words = [sys.executable, str(ROOT / "benchmarks/worker.py"), str(tree), device]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(tree)
        )

    def seconds(self, case: str, calls: int) -> float:
        print(json.dumps({"case": case, "calls": calls}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def environment(tree: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}


def command_seconds(tree: Path, words: Sequence[str]) -> float:
    """Processor seconds of a command of Python's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *words], cwd=tree, env=environment(tree), check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def step_flops(name: str) -> int:
    """Floating-point operations of a step's matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    call = worker.step(name)
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def ratio(above: Sequence[float], below: Sequence[float]) -> str:
    """Median and range of the ratios of two series that took turns."""
    ratios = sorted(a / b for a, b in zip(above, below, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def measure(base: Path | None, device: str, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by case and tree ("now", "before"), whose repeats took turns."""
    cases = {f"{kind}: {name}": 5 for name in worker.STEPS for kind in ("step", "convolutions")}
    for shape in worker.JOINTS:
        text = " ".join(map(str, shape))
        cases |= {f"joint: {text}": 2, f"published joint: {text}": 1}
    # The second product is that of the largest convolution of InfoSeg's step.
    cases |= {"evaluation: 32": 1, "evaluation: 1": 1, "product: 2048 2048 128": 5}
    trees = {"now": ROOT} | ({"before": base} if base else {})
    seconds: dict[str, dict[str, list[float]]] = {}
    workers = {name: Worker(tree, device) for name, tree in trees.items()}
    for case, calls in tqdm(cases.items(), desc="benchmarks", unit="case"):
        # What both trees compute alike is timed once.
        names = ["now"] if case.startswith(ONCE) else list(trees)
        seconds[case] = {name: [] for name in names}
        for _ in range(repeats):
            for name in names:
                seconds[case][name].append(workers[name].seconds(case, calls))
    for one in workers.values():
        one.close()
    for title, words in COMMANDS.items():
        seconds[title] = {name: [] for name in trees}
        for _ in range(repeats):
            for name, tree in trees.items():
                seconds[title][name].append(command_seconds(tree, words))
    return seconds


def tables(seconds: dict[str, dict[str, list[float]]]) -> str:
    """The page's tables, in Markdown."""
    rate = 2 * 2048 * 2048 * 128 / min(seconds["product: 2048 2048 128"]["now"])
    rows = []
    for name in worker.STEPS:
        times = seconds[f"step: {name}"]
        now, batch = statistics.median(times["now"]), worker.STEPS[name][1]["optimiser"]["batch"]
        floor = step_flops(name) / rate
        row = {"step of": name, "batch": batch, "ms": round(1000 * now, 1)}
        row |= {"images/s": round(batch / now), "floor, ms": round(1000 * floor, 1)}
        alone = statistics.median(seconds[f"convolutions: {name}"]["now"])
        row["convolutions alone, ms"] = round(1000 * alone, 1)
        rows.append(row | _before(times))
    steps = pd.DataFrame(rows).to_markdown(index=False)
    rows = []
    for case, times in seconds.items():
        if case.startswith(("step", *ONCE)):
            continue
        kind, _, what = case.partition(": ")
        row = {"case": case, "s": round(statistics.median(times["now"]), 4)} | _before(times)
        against = {"joint": f"published {case}", "evaluation": "evaluation: 1"}.get(kind, case)
        if against != case:
            row["times as fast as published, as a loop"] = ratio(
                seconds[against]["now"], times["now"]
            )
        rows.append(row)
    rest = pd.DataFrame(rows).fillna("").to_markdown(index=False)
    return (
        f"The floor is a step's matrix products and convolutions at {rate / 1e9:.0f} GFLOP/s, the "
        "rate of a product of the size of InfoSeg's largest. Its convolutions alone were timed one "
        "by one, forward and backward, with their arguments at hand.\n\n"
        f"{steps}\n\n`joint: B K side T` is IIC's loss, forward and backward; `evaluation: batch` "
        f"is of {worker.PICTURES} pictures.\n\n{rest}\n"
    )


def _before(times: dict[str, list[float]]) -> dict[str, str]:
    return {"times as fast": ratio(times["before"], times["now"])} if "before" in times else {}


def extract(commit: str, folder: Path) -> Path:
    """A commit's files in a folder."""
    archive = subprocess.run(
        ["git", "archive", commit, "infoseg", "params.yaml", "pyproject.toml"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="", help="a commit to take turns with")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "results/bench")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        base = extract(options.base, Path(scratch)) if options.base else None
        seconds = measure(base, options.device, options.repeats)
    machine = facts(TrainingParams(), torch.device(options.device))
    name = re.sub(r"[^a-z0-9]+", "-", machine["device"].lower()).strip("-")
    page = options.out / f"{name}{'-compared' if options.base else ''}.md"
    compared = f", beside commit {options.base}" if options.base else ""
    page.write_text(
        f"# How fast: {machine['device']}\n\nWritten by `make bench`; do not edit. Commit "
        f"{git_commit(ROOT)}{compared}, torch {machine['versions']['torch']}, one thread, medians "
        f"of {options.repeats} repeats that took turns.\n\n{tables(seconds)}"
    )
    page.with_suffix(".json").write_text(json.dumps(seconds, indent=1) + "\n")
    print(page.read_text())


if __name__ == "__main__":
    main()
