"""The protocol: confusion matrix, one Hungarian match per data set, PA, mIoU (5.2).

Everything follows from one confusion matrix per image, (N, K, C) counts of pixels by cluster and
annotated class, accumulated on the device without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoseg.data.batches import DeviceData
from infoseg.data.store import IGNORE
from infoseg.machine import autocast
from infoseg.methods.base import Method

#: A cluster counts as used when it holds more than this share of the annotated pixels.
USED = 0.01


def match_clusters(confusion: np.ndarray) -> np.ndarray:
    """One-to-one map of clusters to classes that gets the most pixels right (Hungarian method).

    confusion (K, C) counts → (K,) class of each cluster, -1 for clusters left over when K > C.
    """
    from scipy.optimize import linear_sum_assignment  # deferred: 0.4 s that no step needs

    match = np.full(len(confusion), -1)
    clusters, classes = linear_sum_assignment(confusion, maximize=True)
    match[clusters] = classes
    return match


def right_pixels(confusion: np.ndarray, match: np.ndarray) -> np.ndarray:
    """Number of pixels whose cluster maps to their class: (..., K, C) → (...)."""
    known = match >= 0
    return confusion[..., known, match[known]].sum(-1)


def pixel_accuracy(confusion: np.ndarray, match: np.ndarray) -> float:
    """Percentage of annotated pixels whose cluster maps to their class (PA, 5.2)."""
    return float(100 * right_pixels(confusion, match) / max(1, confusion.sum()))


def intersection_over_union(confusion: np.ndarray, match: np.ndarray) -> np.ndarray:
    """IoU of each class in percent, (C,); NaN for a class neither annotated nor predicted."""
    mapped = match[:, None] == np.arange(confusion.shape[1])
    right = (confusion * mapped).sum(0)
    # Pixels of clusters without a class are right nowhere, but missed pixels of their class.
    union = confusion.sum(1) @ mapped + confusion.sum(0) - right
    return 100 * np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


def per_image_accuracy(confusions: np.ndarray) -> float:
    """PA when every image may have a match of its own: (N, K, C) → percent.

    What a method that segments each image well but labels its segments inconsistently would get.
    """
    # A loop over images, on the host and once per evaluation: 10 microseconds each.
    right = sum(int(right_pixels(confusion, match_clusters(confusion))) for confusion in confusions)
    return float(100 * right / max(1, confusions.sum()))


@torch.no_grad()
def confusions(
    method: Method,
    data: DeviceData,
    batch: int,
    precision: torch.dtype | None = None,
    change: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> tuple[np.ndarray, float | None]:
    """Segment the centre crop of every labelled image.

    change: of the crops before they are read, as rows of the data's pixels (B, S, S): another
    place, another way up. Returns the confusion per image (N, K, C) int64 and the mean entropy of
    the class probabilities in units of log K (None for a method without probabilities).
    """
    was_training = method.training
    method.eval()
    clusters, classes, count = method.clusters, data.classes, len(data.evaluated)
    # One slot more than needed, for pixels that are not annotated: no boolean indexing, which
    # would make the host wait for the device.
    table = torch.zeros(count * clusters * classes + 1, dtype=torch.int64, device=data.device)
    entropies: list[Tensor] = []
    positions = torch.arange(count, device=data.device)
    for place, items in zip(positions.split(batch), data.evaluated.split(batch), strict=True):
        rows = change(data.centre(items))
        with autocast(data.device, precision):
            labels, entropy = method.segment_with_entropy(data.views(rows, items, mask=False))
        annotation = data.annotation(rows).long()
        slot = (place[:, None, None] * clusters + labels) * classes + annotation
        slot = torch.where(annotation == IGNORE, table.numel() - 1, slot).flatten()
        table.scatter_add_(0, slot, torch.ones_like(slot))
        if entropy is not None:
            entropies.append(entropy.float())
    method.train(was_training)
    counts = table[:-1].view(count, clusters, classes).cpu().numpy()
    return counts, float(torch.cat(entropies).mean()) if entropies else None


def measure(counts: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The protocol's figures from confusions of every image, (N, K, C); percent but for counts.

    miou: over the classes that occur. match: the class of each cluster, or None. permutation_gap:
    what a match of its own for every image adds to PA.
    """
    total = counts.sum(0)
    match = match_clusters(total)
    iou = intersection_over_union(total, match)
    pa = pixel_accuracy(total, match)
    usage = total.sum(1) / max(1, total.sum())
    known = iou[~np.isnan(iou)]
    iou_of = [None if np.isnan(value) else float(value) for value in iou]  # JSON has no NaN
    return {
        "images": len(counts),
        "pixels": int(total.sum()),
        "pa": pa,
        "miou": float(known.mean()) if len(known) else None,
        "iou": dict(zip(classes, iou_of, strict=True)),
        "match": {str(k): classes[c] if c >= 0 else None for k, c in enumerate(match)},
        "confusion": total.tolist(),
        "cluster_usage": usage.tolist(),
        "clusters_used": int((usage > USED).sum()),
        "permutation_gap": per_image_accuracy(counts) - pa,
    }


def evaluate(
    method: Method,
    data: DeviceData,
    batch: int,
    classes: Sequence[str],
    precision: torch.dtype | None = None,
) -> dict[str, Any]:
    """Segment and measure: `confusions`, then `measure`, with the entropy of V beside it."""
    counts, entropy = confusions(method, data, batch, precision)
    return measure(counts, classes) | {"assignment_entropy": entropy}
