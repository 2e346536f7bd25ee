"""The paper's claims, each beside what was measured here.

A claim is judged on differences of mean PA, beside how far they move with the seeds and with the
pictures. One that the numbers cannot decide is open, which is not the same as refuted; the rule is
`Difference.verdict`. None of it is checked against the data: on another data set than the paper's,
a verdict is about that data set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from infoseg.results.tables import TRIVIAL, mean_std, number

#: The verdicts.
HOLDS, FAILS, OPEN, NOT_RUN = "holds here", "does not hold here", "not decided", "not run"

#: The column of Table 1 that the abstract's gain over AC is about, and that gain.
COLUMN, GAIN = "COCO-Stuff", 1.26
#: Draws of groups of pictures.
RESAMPLED = 2000
#: Below the 64 that the paper trains with.
SMALL_BATCHES = (8, 16, 32)
NOTHING = "No run here bears on it."


class Claim(NamedTuple):
    """A claim, where the paper makes it, what was measured here, the verdict."""

    text: str
    source: str
    finding: str
    verdict: str


class Measured(NamedTuple):
    """Mean PA in percent, its sample standard deviation (NaN for one seed), number of seeds.

    groups: (G, 2) right and annotated pixels by group of pictures, in the mean over seeds.
    """

    name: str
    mean: float
    std: float
    seeds: int
    groups: np.ndarray | None = None

    def __str__(self) -> str:
        return f"{self.name} {mean_std(self.mean, self.std)} (n = {self.seeds})"


class Difference(NamedTuple):
    """Two measurements of which the paper says that the first is the higher.

    factor: by which it is said to be higher; 1 where the paper gives none.
    """

    higher: Measured
    lower: Measured
    factor: float = 1.0

    @property
    def value(self) -> float:
        return self.higher.mean - self.factor * self.lower.mean

    @property
    def spreads(self) -> dict[str, float]:
        """Standard deviations of the difference.

        seeds: of two single runs; NaN where a side is one seed. pictures: when groups of pictures
        are drawn anew, with replacement; NaN where they are not known, or are one.
        """
        spreads = {"seeds": math.hypot(self.higher.std, self.factor * self.lower.std)}
        sides = [self.higher.groups, self.lower.groups]
        n, most = (f(0 if side is None else len(side) for side in sides) for f in (min, max))
        if n < max(2, most):
            return spreads | {"pictures": math.nan}
        draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLED)
        right, annotated = (draws @ np.stack(sides)).transpose(2, 0, 1)
        pa = 100 * right / np.maximum(annotated, 1)
        return spreads | {"pictures": float((pa[0] - self.factor * pa[1]).std(ddof=1))}

    @property
    def verdict(self) -> str:
        """Open when either side is one seed, and when the difference is within its spread over
        seeds or within twice that over groups of pictures.

        With three seeds each, a difference as large as its spread has t = 1.7 with four degrees of
        freedom: chance alone exceeds it, in the direction claimed, about one time in twelve.
        """
        seeds, pictures = self.spreads.values()
        spread = np.fmax(seeds, 2 * pictures)  # of one that is NaN, the other
        if math.isnan(seeds) or abs(self.value) <= spread:
            return OPEN
        return HOLDS if self.value > 0 else FAILS

    def __str__(self) -> str:
        known = {name: spread for name, spread in self.spreads.items() if not math.isnan(spread)}
        factor = "" if self.factor == 1 else f" times {self.factor:.2f}"
        text = f"{self.higher} against {self.lower}{factor}: {self.value:+.1f} "
        return (text + ", ".join(f"± {number(v)} over {name}" for name, v in known.items())).strip()


def claims(
    table1: pd.DataFrame,
    table2: pd.DataFrame,
    table2b: pd.DataFrame,
    shares: Mapping[str, Mapping[str, float]],
) -> list[Claim]:
    """Every claim of the paper that its tables or its text put a comparison behind.

    table1, table2, table2b: the tables' long forms (percent), which may lack rows or be empty: a
    claim without its rows is "not run". shares: of the annotated pixels in percent, by title of the
    data set and class.
    """
    leads = _leads(table1)
    best = " ".join(f"{title}: {difference}." for title, difference in leads.items())
    gain = [leads[COLUMN][:2]] if COLUMN in leads else []
    jsd_soft, jsd_hard, dv_soft, dv_hard = (
        _measured(table2, f"{m}, {kind.lower()}", measure=m, assignment=f"{kind} Assignment")
        for m in ("JSD", "DV")
        for kind in ("Soft", "Hard")
    )
    iic = _measured(table2, "IIC-MI", measure="IIC-MI")
    measures = ("jsd", "dv")
    batches = [
        [_measured(table2b, f"batch {n}, {m.upper()}", variant=f"batch_{n}_{m}") for m in measures]
        for n in SMALL_BATCHES
    ]
    with_c = _measured(table2b, "with block C", variant="infoseg")
    without_c = _measured(table2b, "without block C", variant="without_block_c")
    share = shares.get(COLUMN, {})
    both = share.get("water", math.nan) + share.get("plant", math.nan)
    return [
        _judged(
            "InfoSeg outperforms the state of the art by 26 percent (relative) on COCO-Stuff: 38.8 "
            "against AC's 30.8. Over the best compared row, InMARS's 31.0, it is 25.2 percent.",
            "Abstract",
            gain,
            GAIN,
        ),
        Claim(
            "InfoSeg is better than every compared method on all 5 data sets.",
            "Table 1, 5.4",
            best or NOTHING,
            _combined(leads.values()),
        ),
        _judged(
            "Soft assignments are better than hard ones, with JSD and with DV (73.8 against 67.3; "
            "55.1 against 53.9).",
            "Table 2, 5.5",
            [(jsd_soft, jsd_hard), (dv_soft, dv_hard)],
        ),
        _judged(
            "The JSD estimator is better than the DV one, with soft and with hard assignments "
            "(73.8 against 55.1; 67.3 against 53.9).",
            "Table 2, 5.5",
            [(jsd_soft, dv_soft), (jsd_hard, dv_hard)],
        ),
        _judged(
            "With smaller batches JSD performs better than DV (cited from Deep InfoMax, without "
            f"numbers). Judged at batches of {', '.join(map(str, SMALL_BATCHES))}.",
            "4.3",
            batches,
        ),
        _judged(
            "IIC's objective in place of the mutual-information step is worse (73.8 against 60.2).",
            "Table 2, 5.5",
            [(jsd_soft, iic)],
        ),
        _judged(
            "Block C makes the local features better than block A's output (without numbers).",
            "4.2",
            [(with_c, without_c)],
        ),
        Claim(
            "Water and plant make up more than half of COCO-Stuff's pixels.",
            "5.2",
            NOTHING if math.isnan(both) else f"{number(both)} percent.",
            NOT_RUN if math.isnan(both) else HOLDS if both > 50 else FAILS,
        ),
    ]


def _measured(table: pd.DataFrame, name: str, **values: str) -> Measured | None:
    """The first row of a table with these values; None without one, or if all its seeds diverged.

    name: what the finding calls it.
    """
    for column, value in values.items():
        table = table[table[column] == value] if len(table) else table
    if table.empty or math.isnan(table.iloc[0]["pa_mean"]):
        return None
    row = table.iloc[0]
    return Measured(name, row["pa_mean"], row["pa_std"], int(row["n_seeds"]), row.get("groups"))


def _combined(parts: Iterable[Difference]) -> str:
    """A claim about several comparisons holds when all do, and fails when any does."""
    verdicts = {part.verdict for part in parts}
    return next((v for v in (FAILS, OPEN, HOLDS) if v in verdicts), NOT_RUN)


def _judged(text: str, source: str, pairs: Sequence[Any], factor: float = 1.0) -> Claim:
    """A claim from pairs of measurements, the higher first; None in place of what was not run."""
    parts = [Difference(*pair, factor) for pair in pairs if all(pair)]
    finding = " ".join(f"{str(part)[:1].upper()}{str(part)[1:]}." for part in parts)
    if parts and len(parts) < len(pairs):
        finding += f" Not run: {len(pairs) - len(parts)} of {len(pairs)} comparisons."
    return Claim(text, source, finding or NOTHING, _combined(parts))


def _leads(table1: pd.DataFrame) -> dict[str, Difference]:
    """By title of the data set: InfoSeg against the best compared method.

    Data sets without either are left out. Other readings of InfoSeg (keys beginning with
    `infoseg_`) are neither: the default is what is claimed to be best.
    """
    leads = {}
    for title, rows in table1[table1["pa_mean"].notna()].groupby("dataset_title", sort=False):
        rivals = rows[~rows["method"].str.startswith("infoseg") & ~rows["method"].isin(TRIVIAL)]
        ours = _measured(rows, "InfoSeg", method="infoseg")
        if ours and len(rivals):
            rivals = rivals.sort_values("pa_mean", ascending=False)
            leads[str(title)] = Difference(ours, _measured(rivals, rivals.iloc[0]["method_title"]))
    return leads
