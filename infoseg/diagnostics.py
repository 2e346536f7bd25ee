"""What stands beside the protocol: halves, trivial answers, signs of failure, examples."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from infoseg.data.batches import DeviceData
from infoseg.data.store import IGNORE, Prepared, halves
from infoseg.evaluation import (
    USED,
    confusions,
    match_clusters,
    measure,
    pixel_accuracy,
    right_pixels,
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
#: A PA above the constant answer's by less than this share of the room left above it is hardly
#: above it: a point or so, less than most methods spread over seeds.
WORTH = 0.02
#: The share of the room above chance that one match per image has to reach before labels can be
#: said to permute. A match per image always gains something: label maps of 22 runs, each laid on
#: other images' annotations, reached 0.06 to 0.43, and one class everywhere 0.13 to 0.45.
WITHIN = 0.5
#: Labels permute when one match for the data set keeps at most this share of the skill that one
#: match per image has.
LOST = 0.5
#: Entropy of V, in units of log K, from which on it is called uniform. At 0.98 the likeliest of
#: three classes has a probability of about 0.43, with the others at 0.29.
UNIFORM = 0.98


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


def labelled_names(prepared: Prepared) -> tuple[list[str], list[str]]:
    """Ids and groups of the labelled images, whose `confusions` are counted."""
    labelled = prepared.index[prepared.index["labelled"]]
    return labelled["id"].tolist(), labelled["group"].tolist()


def reported_part(last: dict[str, Any], reported: str) -> dict[str, Any]:
    """What is reported of an evaluation: `all` pictures, or the `half` for reporting."""
    return last if reported == "all" else last["halves"]["reported"]


def figures(counts: np.ndarray, names: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """`measure`, and what its numbers have to be read with; names (N,) of the images' groups.

    many_to_one_pa: where every cluster counts as the class most of its pixels have. Never below the
    one-to-one match; it rises with K. constant_pa: of one class everywhere. In percent.
    """
    total = counts.sum(0)
    pixels = max(1, total.sum())
    return measure(counts, classes) | {
        "within_image_chance": chance_accuracy(counts),
        "many_to_one_pa": float(100 * total.max(1).sum() / pixels),
        "constant_pa": float(100 * total.sum(0).max() / pixels),
        "groups": by_group(counts, names, match_clusters(total)),
    }


def by_group(counts: np.ndarray, names: Sequence[str], match: np.ndarray) -> list[list[int]]:
    """Right and annotated pixels of each group, in the order of their hashes.

    names: a group for every image; where there are more groups than `BUCKETS`, several make one.
    For resampling: pictures of one group are alike, so that groups are drawn, and not pictures.
    """
    hashes = np.array([zlib.crc32(str(name).encode()) for name in names], dtype=np.int64)
    if len(np.unique(hashes)) > BUCKETS:
        hashes %= BUCKETS
    groups, places = np.unique(hashes, return_inverse=True)
    pixels = np.zeros((len(groups), 2), np.int64)
    np.add.at(pixels, places, np.stack([right_pixels(counts, match), counts.sum((1, 2))], 1))
    return pixels.tolist()


def by_quantile(counts: np.ndarray, match: np.ndarray, pictures: int) -> list[tuple[int, float]]:
    """Images from the best to the worst of a data set, evenly spaced in rank by their own PA.

    counts (N, K, C) per image; match: of the data set. Returns (position, PA in percent) of up to
    `pictures` images, best first, the worst last. Only images at least half as annotated as the
    median one take part, so that nobody is shown for a handful of pixels, and of those the ones
    that show two classes, if any do; ties keep their order.
    """
    annotated = counts.sum((1, 2))
    enough = annotated >= max(1, np.median(annotated) / 2)
    shares = counts.sum(1) / np.maximum(1, annotated)[:, None]
    several = enough & ((shares >= SEEN).sum(1) >= 2)
    part = np.flatnonzero(several if several.any() else enough)
    accuracy = 100 * right_pixels(counts[part], match) / annotated[part]
    ranked = np.argsort(-accuracy, kind="stable")
    places = np.linspace(0, len(ranked) - 1, min(pictures, len(ranked))).round().astype(int)
    return [(int(part[i]), float(accuracy[i])) for i in ranked[places]]


def chance_accuracy(counts: np.ndarray) -> float:
    """What `per_image_accuracy` is by chance: (N, K, C) → percent.

    Were cluster and class independent inside every image, its confusion would be the product of
    its cluster usage and its class shares, whose best match pairs the two by rank.
    """
    usage, shares = (np.sort(counts.sum(axis))[:, ::-1] for axis in (2, 1))
    common = min(usage.shape[1], shares.shape[1])
    pixels = np.maximum(1, counts.sum((1, 2)))
    right = (usage[:, :common].astype(float) * shares[:, :common]).sum(1) / pixels
    return float(100 * right.sum() / max(1, counts.sum()))


# ---- trivial answers; content or place -----------------------------------------------------------


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
    part = ~halves(*labelled_names(data.prepared))
    counts = {
        name: confusions(method, data, batch, precision, change)[0][part].sum(0)
        for name, change in LOOKS.items()
    }
    match = match_clusters(counts["as_it_is"])
    return {name: pixel_accuracy(count, match) for name, count in counts.items()}


# ---- signs of failure ----------------------------------------------------------------------------


def signs(part: dict[str, Any], stripes_pa: float = 0) -> list[str]:
    """The failure signs of one evaluation, gravest first; an empty list where there is none.

    part: `last` of an evaluation or a half of it (percent, and the entropy of V in units of log K
    under `assignment_entropy`, None or absent where a method has no probabilities). Classes that
    hold next to no pixel cost no cluster. stripes_pa: PA of `Stripes`.
    """
    if not part["pixels"]:
        return ["no pixel is annotated, so nothing was measured"]
    pa, constant, used = part["pa"], part["constant_pa"], part["clusters_used"]
    clusters, classes = len(part["cluster_usage"]), np.sum(part["confusion"], axis=0)
    rare = (classes <= USED * classes.sum()).sum()
    entropy = part.get("assignment_entropy") or 0.0
    # With a single class annotated everywhere, the constant answer is right.
    useless = pa <= constant < 100
    hardly = not useless and pa - constant < WORTH * (100 - constant)
    # A single cluster has no labels to permute; its match per image follows the commonest class.
    permute = used > 1 and labels_permute(part)
    within = f"within-image PA {pa + part['permutation_gap']:.0f}, data-set PA {pa:.0f}"
    answer = f"PA {pa:.1f}, constant answer {constant:.1f}"
    stripes = f"PA {pa:.1f}, stripes {stripes_pa:.1f}"
    checks = [
        (used < clusters - rare, f"uses {used} of {clusters} clusters"),
        (permute, f"labels permute between images ({within})"),
        (useless, f"no better than one class everywhere ({answer})"),
        (hardly, f"hardly better than one class everywhere ({answer})"),
        (constant < pa <= stripes_pa, f"no better than horizontal stripes ({stripes})"),
        (entropy >= UNIFORM, f"V is still uniform (entropy {entropy:.2f} of log K)"),
    ]
    return [sentence for holds, sentence in checks if holds]


def labels_permute(part: dict[str, Any]) -> bool:
    """Whether segments are good inside images while their labels change from image to image.

    Skill is the share of the room above chance that is reached. One match per image must have a
    skill of at least `WITHIN`, above what it would gain in images of unrelated labels, and one for
    the data set at most `LOST` of it.
    """

    def skill(accuracy: float, chance: float) -> float:
        return (accuracy - chance) / (100 - chance) if chance < 100 else 0.0

    within = skill(part["pa"] + part["permutation_gap"], part["within_image_chance"])
    chance = chance_accuracy(np.array([part["confusion"]]))
    return within >= WITHIN and skill(part["pa"], chance) <= LOST * within


# ---- examples ------------------------------------------------------------------------------------


class Examples(NamedTuple):
    """Pictures beside their segmentations.

    images (N, S, S, C) uint8; predictions and annotations (N, S, S) uint8 class ids, 254 for
    clusters without a class, 255 where nobody annotated; classes: their names.
    """

    images: np.ndarray
    predictions: np.ndarray
    annotations: np.ndarray
    classes: np.ndarray


def class_ids(match: Sequence[str | None], classes: Sequence[str]) -> list[int]:
    """Class id of each cluster from the name it was matched to, 254 where it has none."""
    return [UNMATCHED if name is None else list(classes).index(name) for name in match]


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
    images = (views.images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy()
    labels = torch.tensor(ids, dtype=torch.uint8)[clusters].numpy()
    return Examples(images, labels, data.annotation(rows).cpu().numpy(), np.array(list(classes)))


def write_examples(path: Path, examples: Examples) -> None:
    """Write an .npz file that `read_examples` reads."""
    with io.BytesIO() as content:  # given a name, NumPy would append .npz to it
        np.savez(content, **examples._asdict())
        write_whole(path, lambda file: file.write_bytes(content.getbuffer()))


def read_examples(path: Path, stage: str) -> Examples:
    """Raises DataError naming the stage that makes them when they are not there or not whole."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Examples(**{name: arrays[name] for name in Examples._fields})
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        advice = f"Run stage {stage}"
        raise DataError(f"cannot be read ({error})", file=path, advice=advice) from None
