"""The protocol: confusion matrix, one Hungarian match per data set, PA, mIoU (5.2).

Everything follows from one confusion matrix per image, (N, K, C) counts of pixels by cluster and
annotated class, accumulated on the device without waiting for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from infoseg.devices import autocast
from infoseg.methods.base import Method
from infoseg.views import IGNORE, DeviceData

#: Of what `Project.evaluate` writes; the tables refuse another.
FORMAT = 5
#: Images that an evaluation names from best to worst, for Figure 4.
PICTURES = 8
USED = 0.01
"""A cluster counts as used when it holds more than this share of the annotated pixels."""


def match_clusters(confusion: np.ndarray) -> np.ndarray:
    """One-to-one map of clusters to classes that gets the most pixels right (Hungarian method).

    confusion (K, C) counts → (K,) class of each cluster, -1 for clusters left over when K > C.
    """
    match = np.full(len(confusion), -1)
    clusters, classes = linear_sum_assignment(confusion, maximize=True)
    match[clusters] = classes
    return match


def matched_pixels(confusion: np.ndarray, match: np.ndarray) -> np.ndarray:
    """Confusion of classes with classes, (..., C, C): clusters added up by the class they map to.

    Pixels of unmatched clusters are right nowhere and are left out of the rows (they still count
    as missed pixels of their class, which the column sums of `confusion` know).
    """
    classes = confusion.shape[-1]
    one_hot = (match[:, None] == np.arange(classes)).astype(confusion.dtype)
    return np.einsum("...kc,kd->...dc", confusion, one_hot)


def pixel_accuracy(confusion: np.ndarray, match: np.ndarray) -> float:
    """Percentage of annotated pixels whose cluster maps to their class (PA, 5.2)."""
    right = matched_pixels(confusion, match).diagonal().sum()
    return float(100 * right / max(1, confusion.sum()))


def intersection_over_union(confusion: np.ndarray, match: np.ndarray) -> np.ndarray:
    """IoU of each class in percent, (C,); NaN for a class neither annotated nor predicted."""
    joint = matched_pixels(confusion, match)
    right = joint.diagonal()
    union = joint.sum(1) + confusion.sum(0) - right
    return 100 * np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


def mean_iou(iou: np.ndarray) -> float | None:
    """mIoU over the classes that occur; None where none does, since JSON has no NaN."""
    known = iou[~np.isnan(iou)]
    return float(known.mean()) if len(known) else None


def many_to_one_accuracy(confusion: np.ndarray) -> float:
    """PA when every cluster counts as the class most of its pixels have, several clusters for one
    class included: (K, C) → percent. Never below the one-to-one match; it rises with K."""
    return float(100 * confusion.max(1).sum() / max(1, confusion.sum()))


def by_quantile(counts: np.ndarray, match: np.ndarray, pictures: int) -> list[tuple[int, float]]:
    """Images from the best to the worst of a data set, evenly spaced in rank by their own PA.

    counts (N, K, C) per image; match: of the data set. Returns (position, PA in percent) of up to
    `pictures` images, best first, the worst last. Only images at least half as annotated as the
    median one take part, so that nobody is shown for a handful of pixels; ties keep their order.
    """
    annotated = counts.sum((1, 2))
    right = matched_pixels(counts, match).diagonal(axis1=1, axis2=2).sum(1)
    part = np.flatnonzero(annotated >= max(1, np.median(annotated) / 2))
    accuracy = 100 * right[part] / annotated[part]
    ranked = np.argsort(-accuracy, kind="stable")
    places = np.linspace(0, len(ranked) - 1, min(pictures, len(ranked))).round().astype(int)
    return [(int(part[i]), float(accuracy[i])) for i in ranked[places]]


def per_image_accuracy(confusions: np.ndarray) -> float:
    """PA when every image may have a match of its own: (N, K, C) → percent.

    What a method that segments each image well but labels its segments inconsistently would get.
    """
    # A loop over images, on the host and once per evaluation: 10 microseconds each.
    right = sum(
        confusion[linear_sum_assignment(confusion, maximize=True)].sum() for confusion in confusions
    )
    return float(100 * right / max(1, confusions.sum()))


def within_image_chance(counts: np.ndarray) -> float:
    """What `per_image_accuracy` is by chance: (N, K, C) → percent.

    Were cluster and class independent inside every image, its confusion would be the product of
    its cluster usage and its class shares, whose best match pairs the two by rank.
    """
    usage, shares = (np.sort(counts.sum(axis))[:, ::-1] for axis in (2, 1))
    common = min(usage.shape[1], shares.shape[1])
    pixels = np.maximum(1, counts.sum((1, 2)))
    right = (usage[:, :common].astype(float) * shares[:, :common]).sum(1) / pixels
    return float(100 * right.sum() / max(1, counts.sum()))


def random_accuracy(confusion: np.ndarray) -> float:
    """PA of labels drawn evenly at random: (K, C) → percent.

    Every cluster holds 1/K of every class, and the match takes the largest classes there are
    clusters for; with as many clusters as classes that is 100 / K whatever the classes' shares.
    """
    clusters, classes = confusion.shape
    largest = np.sort(confusion.sum(0))[::-1][: min(clusters, classes)]
    return float(100 * largest.sum() / (clusters * max(1, confusion.sum())))


def halves(ids: Sequence[str]) -> np.ndarray:
    """Split images in two by a hash of their id: (N,) bool, true for the half settings are chosen
    on. Fixed for ever: it depends on the name alone, not on order, seed or count."""
    return np.array([zlib.crc32(str(name).encode()) % 2 == 0 for name in ids], dtype=bool)


@torch.no_grad()
def confusions(
    method: Method,
    data: DeviceData,
    batch: int,
    precision: torch.dtype | None = None,
    look: Callable[[Tensor], None] | None = None,
) -> tuple[np.ndarray, float | None]:
    """Segment the centre crop of every labelled image.

    look: called with the labels (B, H, W) of every batch, on the device.

    Returns the confusion per image (N, K, C) int64 and the mean entropy of the class probabilities
    in units of log K (None for a method without probabilities).
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
        rows = data.centre(items)
        with autocast(data.device, precision):
            labels, entropy = method.segment_with_entropy(data.views(rows, items, mask=False))
        if look:
            look(labels)
        annotation = data.annotation(rows).long()
        slot = (place[:, None, None] * clusters + labels) * classes + annotation
        slot = torch.where(annotation == IGNORE, table.numel() - 1, slot).flatten()
        table.scatter_add_(0, slot, torch.ones_like(slot))
        if entropy is not None:
            entropies.append(entropy.float())
    method.train(was_training)
    counts = table[:-1].view(count, clusters, classes).cpu().numpy()
    return counts, float(torch.cat(entropies).mean()) if entropies else None


def summarise(counts: np.ndarray, ids: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """All figures of one evaluation from its confusion per image (N, K, C), ready for JSON.

    `all` is the protocol's number. `chosen` and `reported` are the two halves of the images, each
    matched by itself: settings are chosen on the one and reported on the other.
    """
    total = counts.sum(0)
    match = match_clusters(total)
    iou = intersection_over_union(total, match)
    pa = pixel_accuracy(total, match)
    first = halves(ids)
    parts = {}
    for name, part in (("chosen", counts[first]), ("reported", counts[~first])):
        half = part.sum(0)
        half_match = match_clusters(half)
        parts[name] = {
            "images": len(part),
            "pa": pixel_accuracy(half, half_match),
            "miou": mean_iou(intersection_over_union(half, half_match)),
        }
    usage = total.sum(1) / max(1, total.sum())
    return {
        "images": len(counts),
        "pixels": int(total.sum()),
        "pa": pa,
        "miou": mean_iou(iou),
        "iou": {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(classes, iou, strict=True)
        },
        "match": {str(k): classes[c] if c >= 0 else None for k, c in enumerate(match)},
        "confusion": total.tolist(),
        "cluster_usage": usage.tolist(),
        "clusters_used": int((usage > USED).sum()),
        "permutation_gap": per_image_accuracy(counts) - pa,
        "within_image_chance": within_image_chance(counts),
        "many_to_one_pa": many_to_one_accuracy(total),
        "constant_pa": float(100 * total.sum(0).max() / max(1, total.sum())),
        "random_pa": random_accuracy(total),
        "halves": parts,
        "quantiles": [
            {"item": item, "id": str(ids[item]), "pa": accuracy}
            for item, accuracy in by_quantile(counts, match, PICTURES)
        ],
    }


def evaluate(
    method: Method,
    data: DeviceData,
    batch: int,
    ids: Sequence[str],
    classes: Sequence[str],
    precision: torch.dtype | None = None,
    look: Callable[[Tensor], None] | None = None,
) -> dict[str, Any]:
    """Segment and summarise: `confusions`, then `summarise`, with the entropy of V beside it."""
    counts, entropy = confusions(method, data, batch, precision, look)
    return summarise(counts, ids, classes) | {"assignment_entropy": entropy}
