"""What stands beside the protocol: halves, trivial answers, signs of failure, examples."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from infoseg.data.batches import DeviceData
from infoseg.data.store import IGNORE, halves
from infoseg.evaluation import (
    USED,
    confusions,
    match_clusters,
    matched_pixels,
    measure,
    pixel_accuracy,
)
from infoseg.files import DataError, write_whole
from infoseg.machine import autocast
from infoseg.methods.base import Method
from infoseg.views import Views

#: Of what `Project.evaluate` writes; the tables refuse another.
FORMAT = 7
#: Pictures that every method is shown by, and that an evaluation names from best to worst.
COUNT = 8
#: A picture shows a class that has this share of its pixels.
SEEN = 0.05
#: Groups that pictures are resampled by, at most; odd, since the halves divide hashes by parity.
BUCKETS = 199
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
    """`figures` of all images, of either half, and images to show; counts (N, K, C) per image.

    halves: `figures` of the images that settings are chosen on and of those they are reported on,
    each half matched by itself. quantiles: images of the latter from the best to the worst.
    """
    chosen = halves(ids, groups)
    names = np.array([g or i for i, g in zip(ids, groups or [""] * len(ids), strict=True)])
    shown = np.flatnonzero(~chosen) if not chosen.all() else np.arange(len(ids))
    ranks = by_quantile(counts[shown], match_clusters(counts.sum(0)), COUNT)
    items = [(int(shown[place]), pa) for place, pa in ranks]
    parts = {"chosen": chosen, "reported": ~chosen}
    return figures(counts, names, classes) | {
        "quantiles": [{"item": item, "id": str(ids[item]), "pa": pa} for item, pa in items],
        "halves": {name: figures(counts[p], names[p], classes) for name, p in parts.items()},
    }


def reported_part(last: dict[str, Any], reported: str) -> dict[str, Any]:
    """What is reported of an evaluation: `all` pictures, or the `half` for reporting."""
    return last if reported == "all" else last["halves"]["reported"]


def figures(counts: np.ndarray, names: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """`measure`, and what its numbers have to be read with; names (N,) of the images' groups.

    constant_pa: of one class everywhere.
    """
    total = counts.sum(0)
    return measure(counts, classes) | {
        "within_image_chance": within_image_chance(counts),
        "many_to_one_pa": many_to_one_accuracy(total),
        "constant_pa": float(100 * total.sum(0).max() / max(1, total.sum())),
        "groups": by_group(counts, names, match_clusters(total)),
    }


def by_group(counts: np.ndarray, names: Sequence[str], match: np.ndarray) -> list[list[int]]:
    """Right and annotated pixels of each group, in the order of their hashes.

    names: a group for every image; where there are more groups than `BUCKETS`, several make one.
    For resampling: pictures of one group are alike, so that groups are drawn, and not pictures.
    """
    right = matched_pixels(counts, match).diagonal(axis1=1, axis2=2).sum(1)
    hashes = [zlib.crc32(str(name).encode()) for name in names]
    if len(set(hashes)) > BUCKETS:
        hashes = [value % BUCKETS for value in hashes]
    _, group = np.unique(np.array(hashes, dtype=np.int64), return_inverse=True)
    pixels = np.stack([right, counts.sum((1, 2))], 1)
    table = np.zeros((int(group.max(initial=-1)) + 1, 2), np.int64)
    np.add.at(table, group, pixels)
    return table.tolist()


def by_quantile(counts: np.ndarray, match: np.ndarray, pictures: int) -> list[tuple[int, float]]:
    """Images from the best to the worst of a data set, evenly spaced in rank by their own PA.

    counts (N, K, C) per image; match: of the data set. Returns (position, PA in percent) of up to
    `pictures` images, best first, the worst last. Only images at least half as annotated as the
    median one take part, so that nobody is shown for a handful of pixels, and of those the ones
    that show two classes, if any do; ties keep their order.
    """
    annotated = counts.sum((1, 2))
    right = matched_pixels(counts, match).diagonal(axis1=1, axis2=2).sum(1)
    enough = annotated >= max(1, np.median(annotated) / 2)
    shares = counts.sum(1) / np.maximum(1, annotated)[:, None]
    several = enough & ((shares >= SEEN).sum(1) >= 2)
    part = np.flatnonzero(several if several.any() else enough)
    accuracy = 100 * right[part] / annotated[part]
    ranked = np.argsort(-accuracy, kind="stable")
    places = np.linspace(0, len(ranked) - 1, min(pictures, len(ranked))).round().astype(int)
    return [(int(part[i]), float(accuracy[i])) for i in ranked[places]]


# ---- trivial answers -----------------------------------------------------------------------------


class Stripes(Method):
    """Equal horizontal stripes, drawn without a look at the picture; one is one class everywhere.

    A data set on which they win says nothing about a method.
    """

    def __init__(self, clusters: int):
        torch.nn.Module.__init__(self)
        self.clusters = clusters

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, None]:
        batch, _, height, width = views.images.shape
        stripe = torch.arange(height, device=views.images.device) * self.clusters // height
        return stripe[:, None].expand(batch, height, width), None


# ---- content or place ----------------------------------------------------------------------------


def _two_thirds(rows: Tensor, place: int) -> Tensor:
    """A square of two thirds of the crops' side from their top (0), middle (1) or bottom (2)."""
    side = rows.shape[1]
    part = 2 * side // 3
    top, left = place * (side - part) // 2, (side - part) // 2
    return rows[:, top : top + part, left : left + part]


#: Other looks at the same pictures, as changes of the crops' rows.
LOOKS: dict[str, Callable[[Tensor], Tensor]] = {
    "as_it_is": lambda rows: rows,
    "upside_down": lambda rows: rows.flip(1),
    "middle": lambda rows: _two_thirds(rows, 1),
    "top": lambda rows: _two_thirds(rows, 0),
    "bottom": lambda rows: _two_thirds(rows, 2),
}


def content_or_place(
    method: Method, data: DeviceData, batch: int, precision: torch.dtype | None = None
) -> dict[str, float]:
    """PA in percent under each of the `LOOKS`, all with the match of the first.

    Of the half for reporting. What goes by content keeps its PA when pictures stand on their head
    or show another third; what goes by the place in the picture, as stripes do, does not.
    """
    index = data.prepared.index
    names = [index[column][index["labelled"]].tolist() for column in ("id", "group")]
    part = ~halves(*names)
    counts = {
        name: confusions(method, data, batch, precision, change)[0][part].sum(0)
        for name, change in LOOKS.items()
    }
    match = match_clusters(counts["as_it_is"])
    return {name: pixel_accuracy(count, match) for name, count in counts.items()}


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


def signs(
    part: dict[str, Any], clusters_wanted: int | None = None, stripes_pa: float = 0
) -> list[str]:
    """The failure signs of one evaluation, gravest first; an empty list where there is none.

    part: `start`, `last` or `best` of an evaluation, as `evaluate` makes it (percent, and the
    entropy of V in units of log K under `assignment_entropy`, None or absent where a method has no
    probabilities). clusters_wanted: how many clusters should be in use; as many as the method has,
    unless given. Classes that hold next to no pixel cost no cluster. stripes_pa: PA of `Stripes`.
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
    if constant < pa <= stripes_pa:
        found.append(f"no better than horizontal stripes (PA {pa:.1f}, stripes {stripes_pa:.1f})")
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
    clusters without a class, 255 where nobody annotated; classes: their names."""

    FIELDS = ("images", "predictions", "annotations", "classes")

    def __init__(self, **arrays: np.ndarray):
        self.images, self.predictions, self.annotations, self.classes = (
            arrays[name] for name in self.FIELDS
        )


def choose_items(data: DeviceData, count: int = COUNT) -> Tensor:
    """Images worth showing, (count,) indices: drawn with a fixed seed, blind to any result.

    Preferred are images at least half annotated that show two classes; one flat label shows
    nothing.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.evaluated), generator=generator)[:400]
    items = data.evaluated[order.to(data.device)]
    annotation = data.annotation(data.centre(items)).flatten(1).long()
    shares = torch.zeros(len(items), 256, device=data.device)
    ones = torch.ones_like(annotation, dtype=torch.float32)
    shares.scatter_add_(1, annotation, ones / annotation.shape[1])
    good = (shares[:, IGNORE] <= 0.5) & ((shares[:, :IGNORE] >= SEEN).sum(1) >= 2)
    # A stable sort keeps the random order among the good ones and among the others.
    return items[(~good).int().argsort(stable=True)][:count]


@torch.no_grad()
def make_examples(
    method: Method,
    data: DeviceData,
    match: Sequence[str | None] | None,
    classes: Sequence[str],
    items: Tensor | None = None,
    precision: torch.dtype | None = None,
) -> Examples:
    """Segment the images `items`, by default those of `choose_items`.

    match: class name of each cluster, None where it has none; without a match predictions are
    cluster numbers. precision: that of the evaluation, so that labels are those it measured.
    """
    items = choose_items(data) if items is None else items
    rows = data.centre(items)
    views = data.views(rows, items, mask=False)
    ids = list(range(method.clusters)) if match is None else class_ids(match, classes)
    with autocast(data.device, precision):
        clusters = method.segment(views).cpu()
    labels = torch.tensor(ids, dtype=torch.uint8)[clusters]
    images = (views.images.permute(0, 2, 3, 1) * 255).round().byte()
    return Examples(
        images=images.cpu().numpy(),
        predictions=labels.numpy(),
        annotations=data.annotation(rows).cpu().numpy(),
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
