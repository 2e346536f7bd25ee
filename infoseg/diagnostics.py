"""What stands beside the protocol: halves, trivial answers, signs of failure, examples."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from infoseg.data.batches import DeviceData
from infoseg.data.store import IGNORE
from infoseg.errors import DataError
from infoseg.evaluation import (
    USED,
    confusions,
    intersection_over_union,
    match_clusters,
    matched_pixels,
    mean_iou,
    measure,
    pixel_accuracy,
)
from infoseg.files import write_whole
from infoseg.methods.base import Method
from infoseg.views import Views

#: Of what `Project.evaluate` writes; the tables refuse another.
FORMAT = 6
#: Images that an evaluation names from best to worst, for Figure 4.
PICTURES = 8
COUNT = 8
#: Class id of pixels whose cluster has no class (when there are more clusters than classes).
UNMATCHED = 254

WORTH = 0.02
"""A PA above the constant answer's by less than this share of the room that is left above it is
hardly above it: a point or so, which is less than most methods spread over seeds."""

WITHIN = 0.5
"""The share of the room above chance that one match per image has to reach before labels can be
said to permute. A match per image always gains something: on the rendered data the label maps of
22 runs, each laid on other images' annotations, reached 0.06 to 0.43 of the room above the chance
of the whole data set, and one class everywhere 0.13 to 0.45 (images differ in their commonest
class). Below a half, the gain says nothing about the segments."""

LOST = 0.5
"""Labels permute when one match for the data set keeps at most this share of the skill that one
match per image has: the segments are there, and at least half of their worth is not."""

UNIFORM = 0.98
"""Entropy of V, in units of log K, from which on it is called uniform. At 0.98 the likeliest of
three classes has a probability of about 0.43, with the others at 0.29."""


def summarise(
    counts: np.ndarray,
    ids: Sequence[str],
    classes: Sequence[str],
    groups: Sequence[str] | None = None,
) -> dict[str, Any]:
    """`measure`, and what its numbers have to be read with; counts (N, K, C) per image.

    constant_pa, random_pa: of the trivial answers. halves: PA and mIoU of the images that settings
    are chosen on and of those they are reported on, each half matched by itself. quantiles: images
    from the best segmented to the worst.
    """
    total = counts.sum(0)
    first = halves(ids, groups)
    parts = {}
    for name, part in (("chosen", counts[first]), ("reported", counts[~first])):
        half = part.sum(0)
        match = match_clusters(half)
        parts[name] = {
            "images": len(part),
            "pa": pixel_accuracy(half, match),
            "miou": mean_iou(intersection_over_union(half, match)),
        }
    ranks = by_quantile(counts, match_clusters(total), PICTURES)
    return measure(counts, classes) | {
        "within_image_chance": within_image_chance(counts),
        "many_to_one_pa": many_to_one_accuracy(total),
        "constant_pa": float(100 * total.sum(0).max() / max(1, total.sum())),
        "random_pa": random_accuracy(total),
        "halves": parts,
        "quantiles": [{"item": i, "id": str(ids[i]), "pa": accuracy} for i, accuracy in ranks],
    }


def halves(ids: Sequence[str], groups: Sequence[str] | None = None) -> np.ndarray:
    """Split images in two by a hash of their group or, where it is "", of their id.

    Images of one group (frames of a sequence, tiles of a photograph) are alike, so that they stay
    together. Returns (N,) bool, true for the half that settings are chosen on. Fixed for ever: it
    depends on these names alone, not on order, seed or count.
    """
    names = ids if groups is None else [g or i for i, g in zip(ids, groups, strict=True)]
    return np.array([zlib.crc32(str(name).encode()) % 2 == 0 for name in names], dtype=bool)


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


# ---- trivial answers -----------------------------------------------------------------------------


class Stripes(Method):
    """K equal horizontal stripes, drawn without a look at the picture."""

    def __init__(self, clusters: int):
        torch.nn.Module.__init__(self)
        self.clusters = clusters

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, None]:
        batch, _, height, width = views.images.shape
        stripe = torch.arange(height, device=views.images.device) * self.clusters // height
        return stripe[:, None].expand(batch, height, width), None


def stripes(data: DeviceData, batch: int) -> dict[str, float | None]:
    """PA and mIoU in percent of as many stripes as there are classes, by the protocol itself.

    A data set on which they win says nothing about a method.
    """
    counts, _ = confusions(Stripes(data.classes), data, batch)
    total = counts.sum(0)
    match = match_clusters(total)
    miou = mean_iou(intersection_over_union(total, match))
    return {"stripes_pa": pixel_accuracy(total, match), "stripes_miou": miou}


def random_accuracy(confusion: np.ndarray) -> float:
    """PA of labels drawn evenly at random: (K, C) → percent.

    Every cluster holds 1/K of every class, and the match takes the largest classes there are
    clusters for; with as many clusters as classes that is 100 / K whatever the classes' shares.
    """
    clusters, classes = confusion.shape
    largest = np.sort(confusion.sum(0))[::-1][: min(clusters, classes)]
    return float(100 * largest.sum() / (clusters * max(1, confusion.sum())))


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


def many_to_one_accuracy(confusion: np.ndarray) -> float:
    """PA when every cluster counts as the class most of its pixels have, several clusters for one
    class included: (K, C) → percent. Never below the one-to-one match; it rises with K."""
    return float(100 * confusion.max(1).sum() / max(1, confusion.sum()))


# ---- signs of failure ----------------------------------------------------------------------------


def signs(part: dict[str, Any], clusters_wanted: int | None = None) -> list[str]:
    """The failure signs of one evaluation, gravest first; an empty list where there is none.

    part: `start`, `last` or `best` of an evaluation, as `evaluate` makes it (percent, and the
    entropy of V in units of log K under `assignment_entropy`, None or absent where a method has no
    probabilities). clusters_wanted: how many clusters should be in use; as many as the method has,
    unless given. Classes that hold next to no pixel cost no cluster.
    """
    if not part["pixels"]:
        return ["no pixel is annotated, so nothing was measured"]
    found = []
    used = part["clusters_used"]
    wanted = clusters_wanted or len(part["cluster_usage"])
    classes = np.sum(part["confusion"], axis=0)
    rare = int((classes <= USED * classes.sum()).sum())
    if used < wanted - rare:
        found.append(f"uses {used} of {wanted} clusters")
    # A single cluster has no labels to permute; its match per image follows the commonest class.
    if used > 1 and labels_permute(part):
        within = part["pa"] + part["permutation_gap"]
        found.append(
            "labels permute between images "
            f"(within-image PA {within:.0f}, data-set PA {part['pa']:.0f})"
        )
    pa, constant = part["pa"], part["constant_pa"]
    # With a single class annotated everywhere, the constant answer is right.
    if pa <= constant < 100:
        found.append(
            f"no better than one class everywhere (PA {pa:.0f}, constant answer {constant:.0f})"
        )
    elif pa - constant < WORTH * (100 - constant):
        found.append(
            f"hardly better than one class everywhere (PA {pa:.1f}, constant answer {constant:.1f})"
        )
    if pa > constant and pa <= part.get("stripes_pa", 0):
        found.append(
            f"no better than horizontal stripes (PA {pa:.1f}, stripes {part['stripes_pa']:.1f})"
        )
    entropy = part.get("assignment_entropy")
    if entropy is not None and entropy >= UNIFORM:
        found.append(f"V is still uniform (entropy {entropy:.2f} of log K)")
    return found


def chance_accuracy(part: dict[str, Any]) -> float:
    """PA in percent of labels as frequent as these that know nothing of the class.

    The best one-to-one match of clusters to classes when the two are independent: the confusion
    is then the product of cluster usage and class shares. Balanced clusters get 100 / K, one
    cluster the constant answer's PA.
    """
    confusion = np.asarray(part["confusion"], dtype=float)
    confusion /= confusion.sum()
    independent = np.outer(confusion.sum(1), confusion.sum(0))
    match = match_clusters(independent)
    matched = match >= 0
    return float(100 * independent[matched, match[matched]].sum())


def labels_permute(part: dict[str, Any]) -> bool:
    """Whether segments are good inside images while their labels change from image to image.

    Skill is the share of the room above chance that is reached. One match per image must have a
    skill of at least `WITHIN`, above what it would gain in images of unrelated labels, and one for
    the data set at most `LOST` of it.
    """
    within = _skill(part["pa"] + part["permutation_gap"], part["within_image_chance"])
    return within >= WITHIN and _skill(part["pa"], chance_accuracy(part)) <= LOST * within


def _skill(accuracy: float, chance: float) -> float:
    return (accuracy - chance) / (100 - chance) if chance < 100 else 0.0


# ---- examples ------------------------------------------------------------------------------------


def class_ids(match: Sequence[str | None], classes: Sequence[str]) -> list[int]:
    """Class id of each cluster from the name it was matched to, 254 where it has none."""
    return [UNMATCHED if name is None else list(classes).index(name) for name in match]


class Examples:
    """images (N, S, S, C) uint8; predictions and annotations (N, S, S) uint8 class ids, 254 for
    clusters without a class, 255 where nobody annotated; accuracies (N,) the PA of each picture in
    percent for those chosen by rank, best first, NaN for those chosen blind; classes: their names.
    """

    FIELDS = ("images", "predictions", "annotations", "accuracies", "classes")

    def __init__(self, **arrays: np.ndarray):
        self.images, self.predictions, self.annotations, self.accuracies, self.classes = (
            arrays[name] for name in self.FIELDS
        )

    def chosen(self, by_rank: bool) -> Examples:
        """Those chosen by rank, or those chosen blind."""
        part = np.isnan(self.accuracies) != by_rank
        arrays = {name: getattr(self, name)[part] for name in self.FIELDS[:-1]}
        return Examples(**arrays, classes=self.classes)


def choose_items(data: DeviceData, count: int = COUNT) -> Tensor:
    """Images worth showing, (count,) indices: drawn with a fixed seed, blind to any result.

    Preferred are images at least half annotated with two classes of 5 % or more in the centre
    crop; an image of one flat label shows nothing.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.evaluated), generator=generator)[:400]
    items = data.evaluated[order.to(data.device)]
    annotation = data.annotation(data.centre(items)).flatten(1).long()
    shares = torch.zeros(len(items), 256, device=data.device)
    ones = torch.ones_like(annotation, dtype=torch.float32)
    shares.scatter_add_(1, annotation, ones / annotation.shape[1])
    good = (shares[:, IGNORE] <= 0.5) & ((shares[:, :IGNORE] >= 0.05).sum(1) >= 2)
    # A stable sort keeps the random order among the good ones and among the others.
    return items[(~good).int().argsort(stable=True)][:count]


@torch.no_grad()
def make_examples(
    method: Method,
    data: DeviceData,
    match: Sequence[str | None] | None,
    classes: Sequence[str],
    quantiles: Sequence[Mapping[str, Any]] = (),
) -> Examples:
    """Segment the chosen images.

    match: class name of each cluster, None where it has none; without a match predictions are
    cluster numbers. quantiles: of the evaluation, the pictures by rank.
    """
    items = choose_items(data)
    accuracies = np.full(len(items) + len(quantiles), np.nan)
    accuracies[len(items) :] = [picture["pa"] for picture in quantiles]
    ranked = torch.tensor([picture["item"] for picture in quantiles], dtype=torch.int64)
    items = torch.cat([items, data.evaluated[ranked.to(data.device)]])
    rows = data.centre(items)
    views = data.views(rows, items, mask=False)
    ids = list(range(method.clusters)) if match is None else class_ids(match, classes)
    labels = torch.tensor(ids, dtype=torch.uint8)[method.segment(views).cpu()]
    images = (views.images.permute(0, 2, 3, 1) * 255).round().byte()
    return Examples(
        images=images.cpu().numpy(),
        predictions=labels.numpy(),
        annotations=data.annotation(rows).cpu().numpy(),
        accuracies=accuracies,
        classes=np.array(list(classes)),
    )


def write_examples(path: Path, examples: Examples) -> None:
    arrays = {name: getattr(examples, name) for name in Examples.FIELDS}

    def write(file: Path) -> None:
        with file.open("wb") as stream:  # given a name, NumPy would append .npz to it
            np.savez(stream, **arrays)

    write_whole(path, write)


def read_examples(path: Path, stage: str) -> Examples:
    """Raises DataError naming the stage that makes them when they are not there or not whole."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Examples(**{name: arrays[name] for name in Examples.FIELDS})
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(
            f"cannot be read ({error})", file=path, advice=f"Run stage {stage}"
        ) from None
