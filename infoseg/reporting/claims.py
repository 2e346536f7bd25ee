"""The paper's claims, each beside what was found here.

A claim is judged on differences of mean PA, beside how far they move with the seeds and with the
pictures. One that the numbers cannot decide is said to be open, which is not the same as refuted;
see `Difference.verdict` for the rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from infoseg.reporting.markup import number
from infoseg.reporting.published import published, published_table2
from infoseg.reporting.tables import TRIVIAL

Verdict = Literal["holds here", "does not hold here", "not decided", "not run"]
HOLDS: Verdict = "holds here"
FAILS: Verdict = "does not hold here"
OPEN: Verdict = "not decided"
NOT_RUN: Verdict = "not run"

OURS = "InfoSeg"
COLUMN = "COCO-Stuff"
"""The column of Table 1 that the abstract's gain is about."""
ABSTRACT_OVER = "AC"
"""The row it was computed against: the relative gain over it is the 26 percent printed."""
COMPARED = ("Random CNN", "K-Means", "Doersch", "Isola", "IIC", "AC", "InMARS")
COLUMNS = ("COCO-Persons", "COCO-Stuff", "COCO-Stuff-3", "Potsdam", "Potsdam-3")
RESAMPLED = 2000
"""Draws of groups of pictures."""
SMALL_BATCHES = (8, 16, 32)
"""Below the 64 that the paper trains with."""


@dataclass(frozen=True)
class Claim:
    """A claim, where the paper makes it, what was found here (numbers included), the verdict."""

    text: str
    source: str
    finding: str
    verdict: Verdict


@dataclass(frozen=True)
class Measured:
    """Mean PA in percent, its sample standard deviation (NaN for one seed), number of seeds.

    groups: (G, 2) right and annotated pixels by group of pictures, in the mean over seeds.
    """

    name: str
    mean: float
    std: float
    seeds: int
    groups: np.ndarray | None = None

    def __str__(self) -> str:
        spread = "" if math.isnan(self.std) else f" ± {number(self.std)}"
        return f"{self.name} {number(self.mean)}{spread} (n = {self.seeds})"


@dataclass(frozen=True)
class Difference:
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
    def over_seeds(self) -> float:
        """Standard deviation of the difference of two single runs; NaN where a side is one seed."""
        return math.hypot(self.higher.std, self.factor * self.lower.std)

    @property
    def over_groups(self) -> float:
        """Standard deviation of the difference when groups of pictures are drawn anew, with
        replacement; NaN where they are not known, or are one."""
        one, other = self.higher.groups, self.lower.groups
        if one is None or other is None or len(one) != len(other) or len(one) < 2:
            return math.nan
        shares = np.full(len(one), 1 / len(one))
        draws = np.random.default_rng(0).multinomial(len(one), shares, RESAMPLED)
        right, annotated = (draws @ np.stack([one, other])).transpose(2, 0, 1)
        pa = 100 * right / np.maximum(annotated, 1)
        return float((pa[0] - self.factor * pa[1]).std(ddof=1))

    @property
    def verdict(self) -> Verdict:
        """Open when either side is one seed, and when the difference is within its spread over
        seeds or within twice that over groups of pictures.

        With three seeds each, a difference as large as its spread has t = 1.7 with four degrees of
        freedom: chance alone exceeds it, in the direction claimed, about one time in twelve.
        """
        if min(self.higher.seeds, self.lower.seeds) < 2 or math.isnan(self.over_seeds):
            return OPEN
        over_groups = 0 if math.isnan(self.over_groups) else self.over_groups
        if abs(self.value) <= max(self.over_seeds, 2 * over_groups):
            return OPEN
        return HOLDS if self.value > 0 else FAILS

    def __str__(self) -> str:
        spreads = [
            f"± {number(spread)} over {what}"
            for what, spread in (("seeds", self.over_seeds), ("pictures", self.over_groups))
            if not math.isnan(spread)
        ]
        factor = "" if self.factor == 1 else f" times {self.factor:.2f}"
        words = f"{self.higher} against {self.lower}{factor}: {self.value:+.1f}"
        return " ".join([words, ", ".join(spreads)]).strip()


def claims(
    table1: pd.DataFrame,
    table2: pd.DataFrame | None = None,
    table2b: pd.DataFrame | None = None,
    shares: Mapping[str, Mapping[str, float]] | None = None,
) -> list[Claim]:
    """Every claim of the paper that its tables or its text put a comparison behind.

    table1, table2, table2b: the long forms of the tables (percent); rows may be absent, and a claim
    whose rows are absent is "not run". shares: of the annotated pixels in percent, by title of the
    data set and class. None of it is checked against the data: on another data set
    than the paper's, a verdict is about that data set.
    """
    return [
        _relative_gain(table1),
        _best_everywhere(table1),
        _soft_over_hard(table2),
        _jsd_over_dv(table2),
        _small_batches(table2b),
        _iic_lower(table2),
        _block_c(table2b),
        _common_classes(shares or {}),
    ]


def relative_gain(over: str) -> float:
    """By how many percent Table 1's InfoSeg exceeds another row on COCO-Stuff, as printed.

    Raises ValueError for a row without a number there.
    """
    ours, theirs = published(OURS, COLUMN), published(over, COLUMN)
    if ours is None or theirs is None:
        raise ValueError(f"Table 1 prints no number for {over} on {COLUMN}")
    return 100 * (ours / theirs - 1)


def _measured(row: Any, name: str) -> Measured:
    groups = getattr(row, "groups", None)
    return Measured(name, float(row.pa_mean), float(row.pa_std), int(row.n_seeds), groups)


def _combined(parts: Sequence[Difference]) -> Verdict:
    """A claim about several comparisons holds when all do, and fails when any does."""
    verdicts = {part.verdict for part in parts}
    if not verdicts:
        return NOT_RUN
    return FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else HOLDS


def _judged(text: str, source: str, parts: Sequence[Difference], missing: Sequence[str]) -> Claim:
    """A claim from its comparisons; those that were not run are said to be so in the finding."""
    sentences = [f"{words[:1].upper()}{words[1:]}." for words in map(str, parts)]
    if missing and parts:
        sentences.append(f"Not run: {', '.join(missing)}.")
    finding = " ".join(sentences) or "No run here bears on it."
    return Claim(text, source, finding, _combined(parts))


# ---- Table 1 -------------------------------------------------------------------------------------


def _leads(table1: pd.DataFrame, factor: float = 1.0) -> dict[str, tuple[Difference, list[Any]]]:
    """By data set: InfoSeg against the best compared method, and the rows of all compared ones.

    Data sets without InfoSeg or without a compared method are left out. Other readings of InfoSeg
    (keys beginning with `infoseg_`) are neither: the default is what is claimed to be best.
    """
    found = {}
    for title, rows in table1[table1["pa_mean"].notna()].groupby("dataset_title", sort=False):
        ours = rows[rows["method"] == "infoseg"]
        others = rows[~rows["method"].str.startswith("infoseg") & ~rows["method"].isin(TRIVIAL)]
        if ours.empty or others.empty:
            continue
        best = others.loc[others["pa_mean"].idxmax()]
        mine = ours.iloc[0]
        difference = Difference(
            _measured(mine, OURS), _measured(best, str(best["method_title"])), factor
        )
        found[str(title)] = difference, list(others.itertuples())
    return found


def _relative_gain(table1: pd.DataFrame) -> Claim:
    gain = relative_gain(ABSTRACT_OVER)
    numbers = [(row, published(row, COLUMN)) for row in COMPARED]
    runner_up, value = max(((row, pa) for row, pa in numbers if pa is not None), key=lambda x: x[1])
    ours, over = published(OURS, COLUMN), published(ABSTRACT_OVER, COLUMN)
    text = (
        f"InfoSeg outperforms the state of the art by {gain:.0f} percent (relative) on {COLUMN}: "
        f"{ours} against {ABSTRACT_OVER}'s {over}. Against the best compared row of Table 1, "
        f"{runner_up}'s {value}, it is {relative_gain(runner_up):.1f} percent."
    )
    lead = _leads(table1, 1 + round(gain) / 100).get(COLUMN)
    if lead is None:
        return _judged(text, "Abstract", [], [])
    difference, others = lead
    mine, best = difference.higher, difference.lower

    def over_row(row: Measured) -> str:
        percent = 100 * (mine.mean / row.mean - 1)
        return f"{abs(percent):.1f} percent {'over' if percent >= 0 else 'below'} {row}"

    named = [
        over_row(_measured(row, row.method_title))
        for row in others
        if row.paper_row in (ABSTRACT_OVER, runner_up) and row.method_title != best.name
    ]
    finding = f"{mine}: {over_row(best)}, the best compared method here"
    finding += "".join(f"; {words}" for words in named) + "."
    return Claim(text, "Abstract", finding, difference.verdict)


def _best_everywhere(table1: pd.DataFrame) -> Claim:
    for column in COLUMNS:
        values = [published(row, column) for row in COMPARED]
        if (published(OURS, column) or 0) <= max(v for v in values if v is not None):
            raise ValueError(f"published.csv has InfoSeg behind on {column}: the claim has changed")
    text = f"InfoSeg is better than every compared method on all {len(COLUMNS)} data sets."
    parts = {title: lead for title, (lead, _) in _leads(table1).items()}
    ahead = sum(part.higher.mean > part.lower.mean for part in parts.values())
    lines = "; ".join(f"{title}: {part}" for title, part in parts.items())
    finding = f"Highest mean on {ahead} of {len(parts)} data sets. {lines}."
    if not parts:
        finding = "No run here bears on it."
    return Claim(text, "Table 1, 5.4", finding, _combined(list(parts.values())))


# ---- Table 2 -------------------------------------------------------------------------------------


def _table2_row(table2: pd.DataFrame | None, measure: str, assignment: str) -> Measured | None:
    """assignment: "hard", "soft" or "" (IIC-MI, which has none)."""
    if table2 is None or table2.empty:
        return None
    words = table2["assignment"].fillna("").str.lower().str.replace("-", "")
    # "Soft Assignment" as the paper's table says it, or plain "soft".
    chosen = words.str.startswith(assignment) if assignment else words == ""
    rows = table2[(table2["measure"] == measure) & chosen & table2["pa_mean"].notna()]
    name = f"{measure}, {assignment}" if assignment else measure
    return None if rows.empty else _measured(rows.iloc[0], name)


def _printed2(measure: str, assignment: str) -> str:
    words = f"{assignment.capitalize()} Assignment" if assignment else "-"
    return number(published_table2(measure, words) or math.nan)


def _table2_claim(
    table2: pd.DataFrame | None,
    text: str,
    source: str,
    pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]],
) -> Claim:
    """A claim on pairs of rows of Table 2, the higher first; the paper's numbers are appended."""
    parts, missing, printed = [], [], []
    for high, low in pairs:
        printed.append(f"{_printed2(*high)} against {_printed2(*low)}")
        first, second = _table2_row(table2, *high), _table2_row(table2, *low)
        if first and second:
            parts.append(Difference(first, second))
        else:
            missing.append(" against ".join(", ".join(filter(None, row)) for row in (high, low)))
    return _judged(f"{text} ({'; '.join(printed)}).", source, parts, missing)


def _soft_over_hard(table2: pd.DataFrame | None) -> Claim:
    text = "Soft assignments are better than hard ones, with JSD and with DV"
    pairs = [((m, "soft"), (m, "hard")) for m in ("JSD", "DV")]
    return _table2_claim(table2, text, "Table 2, 5.5", pairs)


def _jsd_over_dv(table2: pd.DataFrame | None) -> Claim:
    text = "The JSD estimator is better than the DV one, with soft and with hard assignments"
    pairs = [(("JSD", a), ("DV", a)) for a in ("soft", "hard")]
    return _table2_claim(table2, text, "Table 2, 5.5", pairs)


def _iic_lower(table2: pd.DataFrame | None) -> Claim:
    text = "IIC's objective in place of the mutual-information step is worse"
    return _table2_claim(table2, text, "Table 2, 5.5", [(("JSD", "soft"), ("IIC-MI", ""))])


# ---- Table 2b ------------------------------------------------------------------------------------


def _variant(table2b: pd.DataFrame | None, variant: str, name: str) -> Measured | None:
    if table2b is None or table2b.empty:
        return None
    rows = table2b[(table2b["variant"] == variant) & table2b["pa_mean"].notna()]
    return None if rows.empty else _measured(rows.iloc[0], name)


def _small_batches(table2b: pd.DataFrame | None) -> Claim:
    text = (
        "With smaller batches JSD performs better than DV (cited from Deep InfoMax; the paper has "
        f"no numbers of its own). Judged at batches of {', '.join(map(str, SMALL_BATCHES))}."
    )
    parts, missing = [], []
    for batch in SMALL_BATCHES:
        jsd = _variant(table2b, f"batch_{batch}_jsd", f"batch of {batch}, JSD")
        dv = _variant(table2b, f"batch_{batch}_dv", "DV")
        if jsd and dv:
            parts.append(Difference(jsd, dv))
        else:
            missing.append(f"batch of {batch}")
    return _judged(text, "4.3", parts, missing)


def _block_c(table2b: pd.DataFrame | None) -> Claim:
    text = "Block C makes the local features better than block A's output (no numbers are given)."
    without = _variant(table2b, "without_block_c", "without")
    parts = []
    if table2b is not None and without:
        question = table2b.loc[table2b["variant"] == "without_block_c", "question"].iloc[0]
        default = table2b["is_default"].astype(bool) & table2b["pa_mean"].notna()
        rows = table2b[default & (table2b["question"] == question)]
        if len(rows):
            parts.append(Difference(_measured(rows.iloc[0], "with block C"), without))
    return _judged(text, "4.2", parts, [])


# ---- data ----------------------------------------------------------------------------------------


def _common_classes(shares: Mapping[str, Mapping[str, float]]) -> Claim:
    text = "Water and plant make up more than half of COCO-Stuff's pixels."
    classes = shares.get(COLUMN, {})
    if not {"water", "plant"} <= classes.keys():
        return _judged(text, "5.2", [], [])
    both = classes["water"] + classes["plant"]
    finding = f"{number(both)} percent of the annotated pixels."
    return Claim(text, "5.2", finding, HOLDS if both > 50 else FAILS)
