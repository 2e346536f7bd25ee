"""Choosing among seeds without labels: the one whose segmentation the other seeds share most.

Training is a matter of luck: seeds of one setting can end in partitions that fit the classes very
differently well. Partitions that are found often agree with each other whatever their clusters are
called, and what no other seed found agrees with none. Which signals were compared, and how well
this one ranks seeds, stands in results/study.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch

from infoseg.data.batches import DeviceData, centre_crops, evaluated_items
from infoseg.files import ParamsError
from infoseg.machine import autocast
from infoseg.methods.base import Method

#: Fewer seeds than this are not chosen among.
FEWEST = 3
#: Images that label maps are kept of, to compare seeds, and their side in pixels.
KEPT, SIDE = 200, 32


def agreement(first: np.ndarray, second: np.ndarray, clusters: int, match: bool = False) -> float:
    """Share of equal labels beyond chance (Cohen's kappa): 1 is equal, 0 is chance.

    first, second: labels in 0..clusters-1, of the same shape. match: clusters of the second may be
    renamed one to one. Where all is one cluster in both, nothing is beyond chance: 0.
    """
    pairs = first.ravel().astype(np.int64) * clusters + second.ravel()
    joint = np.bincount(pairs, minlength=clusters**2).reshape(clusters, clusters)
    if match:
        from scipy.optimize import linear_sum_assignment  # deferred: 0.35 s

        joint = joint[:, linear_sum_assignment(joint, maximize=True)[1]]
    total = joint.sum()
    equal = joint.trace() / total
    chance = (joint.sum(0) / total) @ (joint.sum(1) / total)
    return float((equal - chance) / (1 - chance)) if chance < 1 else 0.0


@torch.no_grad()
def label_maps(
    method: Method, data: DeviceData, batch: int, precision: torch.dtype | None = None
) -> np.ndarray:
    """Clusters of the first images that evaluation looks at, thinned out: (n, S, S) uint8.

    n is at most 200 and S at most 32, enough to compare seeds by.
    """
    method.eval()
    parts = []
    for views in centre_crops(data, evaluated_items(data)[:KEPT], batch, mask=False):
        with autocast(data.device, precision):
            labels = method.segment(views)
        step = max(1, labels.shape[-1] // SIDE)
        parts.append(labels[:, step // 2 :: step, step // 2 :: step][:, :SIDE, :SIDE].byte())
    return torch.cat(parts).cpu().numpy()


def seed_agreements(maps: Sequence[np.ndarray]) -> list[float]:
    """How far each seed's labels agree with those of the others, in the mean; NaN for one alone.

    maps: `label_maps` of runs that differ in their seed alone. Clusters are matched to clusters, so
    no label is needed.
    """
    if len(maps) < 2:
        return [math.nan] * len(maps)
    clusters = 1 + max(int(labels.max()) for labels in maps)
    table = np.zeros((len(maps), len(maps)))
    for i, j in combinations(range(len(maps)), 2):
        table[i, j] = table[j, i] = agreement(maps[i], maps[j], clusters, match=True)
    return (table.sum(1) / (len(maps) - 1)).tolist()


def choose_seed(agreements: Sequence[float]) -> int:
    """Position of the seed that agrees best with the others.

    Raises ParamsError for fewer than three seeds: of two each agrees with the other alike.
    """
    if len(agreements) < FEWEST:
        raise ParamsError(f"{len(agreements)} seeds are too few to choose among: {FEWEST} or more")
    return int(np.argmax(agreements))
