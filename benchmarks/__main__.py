"""How fast, in ratios of things that take turns in one process: `make bench`.

Writes results/bench/<device>.md: a table of what is faster than what, and one of how a step's time
grows with batch, size and P.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks import cases
from infoseg.machine import facts, git_commit, keep_freed_memory
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
    for kind in cases.SETTINGS:
        how = {"kind": kind, "batch": (batch := 32 if kind == "infoseg" else 16)}
        against = ("", None)
        if kind in ("infoseg", "iic"):
            against = ("a careful student's", ("student_step", how))
        yield f"step of {kind}, {batch} crops of 64 px", ("step", how), *against
    for batch, k, side, t in ((16, 15, 64, 5), (1, 45, 128, 10)):
        how = {"batch": batch, "k": k, "side": side, "displacement": t}
        both = [("joint", how | {"published": published}) for published in (False, True)]
        title = f"IIC's loss, {batch} x {k} x {side} x {side} at T = {t}"
        yield title, both[0], "as published, a convolution", both[1]
    title = f"evaluation of {cases.PICTURES} pictures"
    yield title, ("evaluation", {"batch": 32}), "one by one", ("evaluation", {"batch": 1})


def timer(device: torch.device) -> Callable[[Case], float]:
    """A function from a case to the seconds of a call; the last two cases are kept in memory."""
    calls: dict[str, cases.Call] = {}

    def seconds(case: Case) -> float:
        key = json.dumps(case)
        if key not in calls:
            if len(calls) == 2:
                calls.clear()
            calls[key] = getattr(cases, case[0])(**case[1], device=device)
            calls[key]()
        return cases.seconds_of(calls[key], device)

    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> str:
    """Median and range of the ratios of two series that took turns."""
    ratios = sorted(a / b for a, b in zip(above, below, strict=True))
    return f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log seconds over log sizes: 1 is proportional, 0 free."""
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 2)


def step_flops(how: dict[str, Any]) -> int:
    """Floating-point operations of a step's matrix products and convolutions."""
    call = cases.step(**how)
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def compare(seconds: Callable[[Case], float], turns: int) -> pd.DataFrame:
    """A row for every case, with the ratio to what stands beside it."""
    rate, table = 2 * np.prod(list(PRODUCT.values())) / seconds(("product", PRODUCT)), []
    for title, case, against, beside in tqdm(list(rows()), desc="benchmarks", unit="row"):
        sides = [case, beside] if beside else [case]
        series = list(zip(*([seconds(side) for side in sides] for _ in range(turns)), strict=True))
        row = {"what": title, "ms": round(1000 * median(series[0]), 1), "floor, ms": ""}
        if case[0] == "step":
            row["floor, ms"] = round(1000 * step_flops(case[1]) / rate, 1)
        faster = ratio(series[1], series[0]) if beside else ""
        table.append(row | {"beside": against, "times as fast": faster})
    return pd.DataFrame(table)


def growth(seconds: Callable[[Case], float], turns: int) -> pd.DataFrame:
    """Exponents of a step's time in batch, pixels and P, for InfoSeg and IIC."""
    table = []
    for kind, names in {"infoseg": GROWTH, "iic": ("batch", "pixels")}.items():
        for name in names:
            points = GROWTH[name]
            each = [("step", {"kind": kind} | how) for how in points]
            times = [min(seconds(case) for _ in range(turns)) for case in each]
            sizes = [how.get("features", how.get("crop", 0) ** 2 or how["batch"]) for how in points]
            row = {"step of": kind, "with": name, "at": ", ".join(map(str, sizes))}
            row["ms"] = ", ".join(f"{1000 * x:.0f}" for x in times)
            table.append(row | {"exponent": exponent(sizes, times)})
    return pd.DataFrame(table)


def write(folder: Path, machine: dict[str, Any], text: str, record: Any, ending: str = "") -> None:
    """A page and the record that it was made from, under the machine's name."""
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine['device']}{ending}".lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text + "\n")
    (folder / f"{name}.json").write_text(json.dumps({"machine": machine} | record, indent=1) + "\n")
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "results/bench")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    if device.type == "cpu":
        keep_freed_memory()  # as runs do
    compared, grown = compare(timer(device), options.turns), growth(timer(device), options.turns)
    machine = facts(TrainingParams(), device)
    text = (
        f"# How fast: {machine['device']}\n\nWritten by `make bench`. Commit {git_commit(ROOT)}, "
        f"torch {machine['versions']['torch']}, one thread, {machine['precision']}; median and "
        f"range of {options.turns} turns. The floor is a step's matrix products and convolutions "
        "at the rate of one product of the size of InfoSeg's largest.\n\n"
        f"{compared.to_markdown(index=False)}\n\nA step's time grows with a size to the power of "
        f"the exponent.\n\n{grown.to_markdown(index=False)}"
    )
    record = {"compared": compared.to_dict("records"), "growth": grown.to_dict("records")}
    write(options.out, machine, text, record)


if __name__ == "__main__":
    main()
