"""GPU-hours of the whole paper, from its runs, their steps and images per second.

Methods without training, drawing and the preparation of the data are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.workload import paper_params
from infoseg.settings import Params, Run

#: Dense bfloat16 arithmetic of an H200 per second, as measured in a large matrix product.
H200_FLOPS = 790e12
#: Pictures that evaluation looks at: the paper's count, IIC's id lists, Potsdam's labelled crops.
EVALUATED = {
    "coco_persons": 15_399,
    "coco_stuff": 51_804,
    "coco_stuff3": 36_660,
    "potsdam": 5_400,
    "potsdam3": 5_400,
}
#: Times that a run looks at all of them: untrained, four times while it trains, its last weights.
PASSES = 6
#: The share of it that a training step is taken to reach where none was measured.
ASSUMED_SHARE = 0.3


def hours(methods: list[Mapping[str, Any]], measured: bool) -> pd.DataFrame:
    """A row per method and data set of Table 1, and one for each table of ablations.

    methods: rows of `training.methods`. measured: whether their images per second are a GPU's;
    else the rate is ASSUMED_SHARE of an H200's arithmetic, an assumption and told as one.
    """
    params = paper_params()
    rates: dict[tuple[str, str], float] = {}
    for row in methods:
        rate = row["images_per_second"]
        if not measured:
            rate = ASSUMED_SHARE * H200_FLOPS / (row["gflop_per_image"] * 1e9)
        rates[row["method"], row["dataset"]] = rate
    rows = []
    for table, runs in (("Table 1", params.runs()), ("ablations", params.ablations())):
        for run in runs:
            settings = getattr(params.method(run.method, run.dataset), "optimiser", None)
            if settings is None:
                continue
            images = settings.steps * settings.batch
            name = run.method if table == "Table 1" else "all"
            # A forward pass is about a third of a step.
            looked = PASSES * EVALUATED[run.dataset] / 3
            spent = (images + looked) / _rate(rates, run, params) / 3600
            rows.append((table, name, run.dataset, settings.steps, images, spent))
    columns = ["table", "method", "dataset", "steps", "images", "hours"]
    frame = pd.DataFrame(rows, columns=columns)
    grouped = frame.groupby(["table", "method", "dataset"], sort=False)
    return grouped.agg(
        runs=("hours", "size"),
        steps=("steps", "max"),
        images=("images", "sum"),
        hours=("hours", "sum"),
    ).reset_index()


def _rate(rates: Mapping[tuple[str, str], float], run: Run, params: Params) -> float:
    """Images per second of a run; of an ablation, InfoSeg's.

    On a data set that is not among the rates, those on another one by the area of a crop, which
    arithmetic follows within 5 percent.
    """
    method = run.method if any(run.method == known for known, _ in rates) else "infoseg"
    if (method, run.dataset) in rates:
        return rates[method, run.dataset]
    other, rate = next((d, rate) for (known, d), rate in rates.items() if known == method)
    side = {name: params.datasets[name].crop for name in (other, run.dataset)}
    return rate * (side[other] / side[run.dataset]) ** 2
