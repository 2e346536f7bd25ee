"""Which rule selected COCO-Persons? A scan of rules by the number of images they keep.

The paper states that number, 15,399, and that every image shows a person; neither the ids nor the
rule were published. The rules tried here combine a minimum share of person pixels, a minimum side,
how crowds are handled, and the splits. A share can be tuned until nearly any number is met, so
*many* rules come within a few images of 15,399, and the number alone identifies none of them. What
is chosen here is one plain rule of the right size: the data set stays a reconstruction.

All functions take the table of ``scan_coco_persons``: one row per image that shows a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from infoseg.data.coco_layout import SPLITS
from infoseg.files import write_csv, write_whole

PAPER_IMAGES = 15_399
"""Images of COCO-Persons (paper, 5.1)."""

Crowd = Literal["ignore", "person", "exclude"]
CROWDS: tuple[Crowd, ...] = ("ignore", "person", "exclude")
SIDES = (0, 200, 320, 360, 400, 427, 480)
"""Pixels; 427 and 480 are the usual shorter sides of COCO's pictures, 360 is IIC's minimum."""
SPLIT_SETS = (SPLITS, *((split,) for split in SPLITS))
DECIMALS = 4
"""Of a share threshold: one step, 0.0001, is about ten of the paper's images."""


@dataclass(frozen=True)
class Rule:
    """Images that show a person, on at least ``min_person_share`` of their pixels, and whose
    shorter side has ``min_side`` pixels. images: how many there are."""

    splits: tuple[str, ...]
    crowd: Crowd
    min_side: int
    min_person_share: float
    images: int

    def select(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of the images the rule keeps, in the order of the table."""
        share, kept = _kept(table, self.min_side, self.crowd, self.splits)
        return table[kept & (share >= self.min_person_share)]


def _kept(
    table: pd.DataFrame, min_side: int, crowd: Crowd, splits: Sequence[str]
) -> tuple[pd.Series, pd.Series]:
    """Return every image's share, and whether all of a rule but its share threshold keeps it."""
    share = table["either_share" if crowd == "person" else "person_share"]
    kept = (share > 0) & table["split"].isin(splits)
    kept &= np.minimum(table["height"], table["width"]) >= min_side
    if crowd == "exclude":
        kept &= table["crowd_share"] == 0
    return share, kept


def shares_kept(
    table: pd.DataFrame,
    *,
    min_side: int = 0,
    crowd: Crowd = "ignore",
    splits: Sequence[str] = SPLITS,
    max_person_share: float = 1.0,
) -> np.ndarray:
    """Return the shares, ascending, of the images that a rule keeps if its threshold is 0."""
    share, kept = _kept(table, min_side, crowd, splits)
    return np.sort(share[kept & (share <= max_person_share)].to_numpy())


def images_kept(shares: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    """Return how many of the ascending ``shares`` reach each threshold."""
    return len(shares) - np.searchsorted(shares, thresholds, side="left")


def nearest_share(
    shares: np.ndarray, target: int, *, at_least: float = 0.0, decimals: int = DECIMALS
) -> tuple[float, int]:
    """Return the threshold that keeps the number of images nearest to ``target``, and that number.

    shares: of ``shares_kept``. Thresholds are ``at_least`` and the larger multiples of
    10 ** -decimals. Of several as near, the one with the fewest decimals, then the smallest.
    """
    steps = np.arange(10**decimals + 1)
    thresholds = steps / 10**decimals  # each the double nearest to its decimal fraction
    places = sum((steps % 10**k > 0).astype(int) for k in range(1, decimals + 1))
    larger = thresholds > at_least
    # As round as can be: it is what was asked for.
    thresholds = np.concatenate([[at_least], thresholds[larger]])
    places = np.concatenate([[0], places[larger]])
    images = images_kept(shares, thresholds)
    best = np.lexsort((thresholds, places, np.abs(images - target)))[0]
    return float(thresholds[best]), int(images[best])


def scan_rules(
    table: pd.DataFrame,
    target: int = PAPER_IMAGES,
    *,
    sides: Iterable[int] = SIDES,
    crowds: Iterable[Crowd] = CROWDS,
    split_sets: Iterable[Sequence[str]] = SPLIT_SETS,
    decimals: int = DECIMALS,
) -> pd.DataFrame:
    """Find the share threshold nearest to ``target`` images for every other part of a rule.

    Returns one row per (splits, crowd, min_side), nearest first, with

    - min_person_share: the threshold, of ``decimals`` decimals; images: how many it keeps;
      distance: by how many that misses ``target``;
    - images_below, images_above: how many the thresholds one step lower and higher keep;
    - change: images lost per 0.01 of share around the threshold, on average over +-0.005;
    - near: thresholds, of all on the grid, that come within 1 % of ``target``.

    The last three say how little the count determines: where ``change`` is small or ``near`` large,
    other thresholds do as well.
    """
    grid = np.arange(10**decimals + 1) / 10**decimals
    rows = []
    for splits, crowd, side in product(split_sets, crowds, sides):
        shares = shares_kept(table, min_side=side, crowd=crowd, splits=splits)
        threshold, images = nearest_share(shares, target, decimals=decimals)
        counts = images_kept(shares, grid)
        step = round(threshold * 10**decimals)
        around = np.round([max(threshold - 0.005, 0.0), threshold + 0.005], decimals + 3)
        lost = -np.diff(images_kept(shares, around))[0]
        rows.append(
            {
                "splits": "+".join(splits),
                "crowd": crowd,
                "min_side": side,
                "min_person_share": threshold,
                "images": images,
                "distance": abs(images - target),
                "images_below": int(counts[max(step - 1, 0)]),
                "images_above": int(counts[min(step + 1, len(counts) - 1)]),
                "change": round(float(lost / np.diff(around)[0] * 0.01), 1),
                "near": int((np.abs(counts - target) <= 0.01 * target).sum()),
            }
        )
    rules = pd.DataFrame(rows)
    return rules.iloc[np.lexsort(_by_nearness(rules))].reset_index(drop=True)


def _by_nearness(rules: pd.DataFrame) -> list[np.ndarray]:
    """Return sort keys, the last being the first to go by: distance, then simplicity."""
    written = rules["min_person_share"].map(lambda share: len(f"{share:g}"))
    return [
        rules["min_side"].to_numpy(),
        rules["crowd"].map(CROWDS.index).to_numpy(),
        written.to_numpy(),
        -rules["splits"].str.count(r"\+").to_numpy(),
        rules["distance"].to_numpy(),
    ]


def nearest_rule(rules: pd.DataFrame) -> Rule:
    """Return the rule of ``scan_rules`` whose number of images is nearest to the target.

    Of several as near, the simplest: the one that takes more splits, whose threshold has the fewest
    digits, that handles crowds in the way that stands first in ``CROWDS``, then the one with the
    smallest minimum side (0 asks for none).
    """
    row = rules.iloc[np.lexsort(_by_nearness(rules))[0]]
    return Rule(
        splits=tuple(row["splits"].split("+")),
        crowd=row["crowd"],
        min_side=int(row["min_side"]),
        min_person_share=float(row["min_person_share"]),
        images=int(row["images"]),
    )


def write_rules(folder: Path, table: pd.DataFrame, rules: pd.DataFrame) -> tuple[Path, Path]:
    """Write what ``nearest_rule`` keeps, and how near other rules come; returns the two files.

    ``coco_persons_ids.txt`` has a line ``split/id`` for every image, the id with 12 digits as in
    COCO's file names; ``coco_persons_rules.csv`` is the table of ``scan_rules``.
    """
    ids, listed = folder / "coco_persons_ids.txt", folder / "coco_persons_rules.csv"
    chosen = nearest_rule(rules).select(table)
    lines = [f"{s}/{i:012d}\n" for s, i in zip(chosen["split"], chosen["id"], strict=True)]
    write_whole(ids, lambda file: file.write_text("".join(lines)))
    write_csv(listed, rules.to_dict("records"))
    return ids, listed
