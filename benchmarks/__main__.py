"""How fast, in ratios of things that take turns: `make bench`, or `make bench BASE=<commit>`.

Writes results/bench/<device>.md: a table of what is faster than what, and one of how a step's time
grows. With BASE, that commit's package takes turns with the working tree, case by case.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks import worker
from infoseg.machine import facts, git_commit
from infoseg.settings import TrainingParams

ROOT = Path(__file__).parent.parent
Case = tuple[str, dict[str, Any]]
#: The product that is InfoSeg's largest convolution; its rate makes floating-point operations time.
PRODUCT = {"m": 2048, "k": 2048, "n": 128}
#: What grows, and a step's arguments at which it is timed.
GROWTH = {
    "batch": [{"batch": batch} for batch in (8, 16, 32)],
    "pixels": [{"batch": 16, "crop": crop} for crop in (48, 64, 96)],
    "P": [{"batch": 16, "features": features} for features in (64, 256, 1024)],
}


def rows() -> Iterator[tuple[str, Case, str, Case | None]]:
    """What is timed and what beside it: a title and a case of each; "" and None for nothing."""
    for kind in worker.SETTINGS:
        how = {"kind": kind, "batch": (batch := 32 if kind == "infoseg" else 16)}
        against = ("", None)
        if kind in ("infoseg", "iic"):
            against = ("a careful student's", ("student_step", how))
        yield f"step of {kind}, {batch} crops of 64 px", ("step", how), *against
    for batch, k, side, t in ((16, 15, 64, 5), (1, 45, 128, 10)):
        how = {"batch": batch, "k": k, "side": side, "displacement": t}
        cases = [("joint", how | {"published": published}) for published in (False, True)]
        title = f"IIC's loss, {batch} x {k} x {side} x {side} at T = {t}"
        yield title, cases[0], "as published, a convolution", cases[1]
    title = f"evaluation of {worker.PICTURES} pictures"
    yield title, ("evaluation", {"batch": 32}), "one by one", ("evaluation", {"batch": 1})
    cases = [("preparation", {"bare": bare}) for bare in (False, True)]
    yield "preparation of 40 pictures of COCO", cases[0], "decoding and rescaling", cases[1]
    for title, words, against, others in (
        ("start of a training", "-c|import infoseg.runs, infoseg.methods.registry",
         "import torch", "-c|import torch"),
        ("infoseg params", "-m|infoseg|params", "an empty script", "-c|"),
    ):  # fmt: skip
        cases = [("command", {"words": text.split("|")}) for text in (words, others)]
        yield title, cases[0], against, cases[1]


class Worker:
    """A process that times cases of a tree's package with these benchmarks, on one thread."""

    def __init__(self, tree: Path, device: str):
        paths = {"PYTHONPATH": f"{tree}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.worker", device],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | paths,
            cwd=tree,
        )  # fmt: skip

    def seconds(self, case: Case) -> float:
        print(json.dumps(case), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def ratio(above: Sequence[float], below: Sequence[float]) -> str:
    """Median and range of the ratios of two series that took turns."""
    ratios = sorted(a / b for a, b in zip(above, below, strict=True))
    return f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log seconds over log sizes: 1 is proportional, 0 free."""
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 2)


def step_flops(how: dict[str, Any]) -> int:
    """Floating-point operations of a step's matrix products and convolutions."""
    call = worker.step(**how)
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def compare(now: Worker, base: Worker | None, turns: int) -> pd.DataFrame:
    """A row for every comparison; base: of the other commit."""
    rate, table = 2 * np.prod(list(PRODUCT.values())) / now.seconds(("product", PRODUCT)), []
    for title, case, against, beside in tqdm(list(rows()), desc="benchmarks", unit="row"):
        sides = {"": (now, case)}
        sides |= {against: (now, beside)} if beside else {}
        sides |= {"the other commit": (base, case)} if base else {}
        taken = [
            {name: by.seconds(each) for name, (by, each) in sides.items()} for _ in range(turns)
        ]
        series = pd.DataFrame(taken)
        row = {"what": title, "ms": round(1000 * series[""].median(), 1), "floor, ms": ""}
        if case[0] == "step":
            row["floor, ms"] = round(1000 * step_flops(case[1]) / rate, 1)
        for name in list(sides)[1:] or [""]:
            faster = ratio(series[name], series[""]) if name else ""
            table.append(row | {"beside": name, "times as fast": faster})
    return pd.DataFrame(table)


def growth(now: Worker, turns: int) -> pd.DataFrame:
    """Exponents of a step's time in batch, pixels and P, for InfoSeg and IIC."""
    table = []
    for kind in ("infoseg", "iic"):
        for name, points in GROWTH.items():
            if (kind, name) == ("iic", "P"):
                continue
            cases = [("step", {"kind": kind} | how) for how in points]
            seconds = [min(now.seconds(case) for _ in range(turns)) for case in cases]
            sizes = [how.get("features", how.get("crop", 0) ** 2 or how["batch"]) for how in points]
            row = {"step of": kind, "with": name, "at": ", ".join(map(str, sizes))}
            row["ms"] = ", ".join(f"{1000 * x:.0f}" for x in seconds)
            table.append(row | {"exponent": exponent(sizes, seconds)})
    return pd.DataFrame(table)


def extract(commit: str, folder: Path) -> Path:
    """A commit's package in a folder."""
    words = ["git", "archive", "-o", str(folder / "commit.tar"), commit, "infoseg", "params.yaml"]
    subprocess.run([*words, "pyproject.toml"], cwd=ROOT, check=True)
    shutil.unpack_archive(folder / "commit.tar", folder, filter="data")
    return folder


def write(folder: Path, machine: dict[str, Any], text: str, record: Any, ending: str = "") -> None:
    """A page and the record that it was made from, under the machine's name."""
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine['device']}{ending}".lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text + "\n")
    (folder / f"{name}.json").write_text(json.dumps({"machine": machine} | record, indent=1) + "\n")
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="", help="a commit to take turns with")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "results/bench")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        now, base = Worker(ROOT, options.device), None
        if options.base:
            base = Worker(extract(options.base, Path(scratch)), options.device)
        compared, grown = compare(now, base, options.turns), growth(now, options.turns)
        for each in filter(None, (now, base)):
            each.close()
    machine = facts(TrainingParams(), torch.device(options.device))
    beside = f", beside commit {options.base}" if options.base else ""
    text = (
        f"# How fast: {machine['device']}\n\nWritten by `make bench`. Commit {git_commit(ROOT)}"
        f"{beside}, torch {machine['versions']['torch']}, one thread, {machine['precision']}; "
        f"median and range of {options.turns} turns. The floor is a step's matrix products and "
        "convolutions at the rate of one product of the size of InfoSeg's largest.\n\n"
        f"{compared.to_markdown(index=False)}\n\nA step's time grows with a size to the power of "
        f"the exponent.\n\n{grown.to_markdown(index=False)}"
    )
    record = {"compared": compared.to_dict("records"), "growth": grown.to_dict("records")}
    write(options.out, machine, text, record, "-compared" if options.base else "")


if __name__ == "__main__":
    main()
