"""Try settings of a method on the half of the labels that settings are chosen on.

    python -m benchmarks.tries benchmarks/tries.yaml results/demo/tries.csv [JOBS]

The plan names a profile, a data set of it, seeds, the seconds of a try, and for each method the
settings to try. Every try gets the same seconds: its steps follow from the time of its own first
steps. A row per evaluation; what is in the CSV already is not run again. One process per core.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from infoseg.runs import Project
from infoseg.settings import load_params
from infoseg.training import train

ROOT = Path(__file__).parents[1]
FIELDS = ["method", "settings", "seed", "step", "seconds", "pa", "miou"]


def attempt(plan: dict[str, Any], method: str, settings: str, seed: int) -> pd.DataFrame:
    """Train once; rows of `FIELDS`, seconds of CPU, PA and mIoU of the choosing half in percent."""
    texts = settings.split()
    own = [s if s.startswith("datasets.") else f"methods.{method}.{s}" for s in texts]
    rows: list[dict[str, Any]] = []

    def run(steps: int, evaluations: int = 0) -> None:
        overrides = [f"methods.{method}.optimiser.steps={steps}", *own]
        overrides += [f"training.evaluations={evaluations}"]
        params = load_params(ROOT, plan["profile"], overrides)
        project = Project(ROOT / "build" / "tries", params, ROOT, True, overrides)
        cell = project.cell(plan["dataset"], method)
        model, began = cell.build(seed), time.process_time()

        def look() -> dict[str, Any]:
            seconds = time.process_time() - began
            measured = project.measured(model, cell.data)
            half = measured["halves"]["chosen"]
            rows.append({"seconds": seconds, "pa": half["pa"], "miou": half["miou"]})
            return measured

        trained = train(model, cell.data, cell.training, seed, look)
        for row, step in zip(rows, [r["step"] for r in trained.history if "pa" in r], strict=True):
            row["step"] = step

    run(plan["warm_up"])
    began = time.process_time()
    run(5 * plan["warm_up"])
    step = (time.process_time() - began) / (5 * plan["warm_up"])
    run(round(plan["seconds"] / step), plan["evaluations"])
    facts = {"method": method, "settings": settings, "seed": seed}
    return pd.DataFrame([facts | row for row in rows])[FIELDS].round(2)


def main(plan_file: str, table_file: str, jobs: str = "") -> None:
    plan, table = yaml.safe_load(Path(plan_file).read_text()), Path(table_file)
    if not table.exists():
        table.write_text(",".join(FIELDS) + "\n")
    done = pd.read_csv(table, keep_default_na=False)
    there = set(zip(done["method"], done["settings"], done["seed"], strict=True))
    each = [(m, s, n) for m, every in plan["methods"].items() for s in every for n in plan["seeds"]]
    with ProcessPoolExecutor(int(jobs or os.cpu_count() or 1)) as pool:
        tries = [pool.submit(attempt, plan, *one) for one in each if one not in there]
        for future in as_completed(tries):
            rows = future.result()
            rows.to_csv(table, mode="a", header=False, index=False)
            print(*rows.iloc[-1], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
