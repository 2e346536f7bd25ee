"""Is a segmentation of unlabelled pictures worth using? Signals without labels, and the verdict.

Two answers need no training: K-Means on colour, and equal horizontal stripes. A segmentation that
repeats one of them, that puts nearly everything into one cluster, or that changes with the colours
is not worth more than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from infoseg.diagnostics import Stripes
from infoseg.evaluation import match_clusters
from infoseg.methods.base import DataInfo
from infoseg.methods.kmeans import KMeans
from infoseg.methods.tiling import as_tensor, segment_tiled
from infoseg.settings import JitterSettings, KMeansSettings
from infoseg.views import Views, colour_jitter

#: Pictures looked at, at most; fewer than two say nothing.
LOOKED_AT = 24
#: IIC's strengths, for the agreement between a picture and its jittered view.
JITTER = JitterSettings(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.125)
#: Beyond these a segmentation is not useful: share of the largest cluster, agreement after changes
#: of colour, agreement with K-Means.
LARGEST, CHANGED, UNRELATED, REPEATED = 0.7, 0.6, 0.15, 0.8
#: Beyond these it is doubtful: agreement of K-Means with stripes, of the segmentation with K-Means,
#: and after changes of colour.
LAYERED, RELATED, STABLE = 0.1, 0.3, 0.75


class Signals(NamedTuple):
    """What can be measured without labels. Agreements are Cohen's kappa: 0 chance, 1 equal.

    largest: share of the pixels in the largest cluster. used: clusters with over 1 % of them.
    jitter: agreement with the labels after changes of colour. colour: with K-Means on colour.
    colour_place: of K-Means with K equal horizontal stripes. starts: of the chosen start with the
    others; None for one start. Clusters of different segmentations are matched.
    """

    clusters: int
    largest: float
    used: int
    jitter: float
    colour: float
    colour_place: float
    starts: float | None = None

    def as_dict(self) -> dict[str, int | float | None]:
        """Return what signals.json holds."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in self._asdict().items()}


def look(
    segment: Callable[[np.ndarray], np.ndarray],
    pictures: Sequence[np.ndarray],
    clusters: int,
) -> tuple[Signals, np.ndarray, KMeans]:
    """Measure a segmentation of pictures (H, W, C) uint8 at the size they are segmented at.

    segment: (H, W, C) uint8 → clusters (H, W) uint8. Returns the signals, the labels of all pixels,
    and K-Means of the same pictures, numbered as the clusters that it shares most pixels with.
    """
    generator = torch.Generator().manual_seed(0)
    colours, layers = colour_clusters(pictures, clusters), Stripes(clusters)
    views = []
    for picture in pictures:
        pixels = as_tensor(picture)
        image = pixels[None].float() / 255
        jittered = colour_jitter(image, JITTER, generator)[0].movedim(0, -1)
        answers = (
            segment(picture),
            segment(jittered.mul(255).round().byte().contiguous().numpy()),
            segment_tiled(colours, pixels),
            layers.segment(Views(image))[0].numpy(),
        )
        views.append([labels.ravel() for labels in answers])
    plain, jitter, colour, place = map(np.concatenate, zip(*views, strict=True))
    order = match_clusters(_joint(plain, colour, clusters))
    colours.nearest.centroids.copy_(colours.nearest.centroids[order])
    shares = np.bincount(plain, minlength=clusters) / plain.size
    signals = Signals(
        clusters=clusters,
        largest=float(shares.max()),
        used=int((shares > 0.01).sum()),
        jitter=agreement(plain, jitter, clusters),
        colour=agreement(plain, colour, clusters, match=True),
        colour_place=agreement(colour, place, clusters, match=True),
    )
    return signals, plain, colours


def colour_clusters(pictures: Sequence[np.ndarray], clusters: int) -> KMeans:
    """Fit K-Means on colour, on 1,000 pixels of each picture (H, W, C) uint8."""
    channels = pictures[0].shape[-1]
    info = DataInfo(clusters, channels, (0.0,) * channels, (1.0,) * channels)
    colours = KMeans(KMeansSettings(), info)
    colours.fit((Views(as_tensor(picture)[None].float() / 255) for picture in pictures), 0)
    return colours


def agreement(first: np.ndarray, second: np.ndarray, clusters: int, match: bool = False) -> float:
    """Share of equal labels beyond chance (Cohen's kappa): 1 is equal, 0 is chance.

    first, second: labels in 0..clusters-1, of the same shape. match: clusters of the second may be
    renamed one to one. Where all is one cluster in both, nothing is beyond chance: 0.
    """
    joint = _joint(first, second, clusters)
    if match:
        joint = joint[:, match_clusters(joint)]
    total = joint.sum()
    equal = joint.trace() / total
    chance = (joint.sum(0) / total) @ (joint.sum(1) / total)
    return float((equal - chance) / (1 - chance)) if chance < 1 else 0.0


def _joint(first: np.ndarray, second: np.ndarray, clusters: int) -> np.ndarray:
    """Pixels of every pair of labels, (K, K)."""
    pairs = first.ravel().astype(np.int64) * clusters + second.ravel()
    return np.bincount(pairs, minlength=clusters**2).reshape(clusters, clusters)


def spread(count: int, most: int) -> list[int]:
    """Up to `most` of `count` places, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


class Verdict(NamedTuple):
    """word: useful, doubtful or not useful. sentences: word and reasons, then what to try."""

    word: str
    sentences: list[str]


def verdict(signals: Signals) -> Verdict:
    """Judge a segmentation by its signals.

    useful: meant for an mIoU at least 5 above those of one class, of stripes and of K-Means on
    colour. Thresholds were set on some folders and tried on others: results/own says how often it
    errs.
    """
    s = signals
    refusals = {
        f"one cluster holds {100 * s.largest:.0f} % of the pixels": s.largest > LARGEST,
        f"only {s.used} of {s.clusters} clusters are used": s.used < s.clusters,
        f"labels change with the colours (agreement {s.jitter:.2f})": s.jitter < CHANGED,
        f"it repeats K-Means on colour (agreement {s.colour:.2f})": s.colour > REPEATED,
        f"it has nothing in common with K-Means on colour (agreement {s.colour:.2f})": (
            s.colour < UNRELATED
        ),
    }
    doubts = {
        "the pictures are layered so much that equal stripes may be as good (K-Means on colour "
        f"agrees with them by {s.colour_place:.2f})": s.colour_place >= LAYERED,
        f"it has little in common with K-Means on colour ({s.colour:.2f})": s.colour < RELATED,
        f"some labels change with the colours ({s.jitter:.2f})": s.jitter < STABLE,
    }
    advice = "Compare with K-Means on colour: on new pictures this verdict was often wrong."
    if reasons := [text for text, holds in refusals.items() if holds]:
        word = "not useful"
        advice = "Try more minutes, another number of classes, more pictures, or K-Means itself."
    elif reasons := [text for text, holds in doubts.items() if holds]:
        word = "doubtful"
    else:
        word = "useful"
        reasons = [
            f"it keeps its labels when colours change (agreement {s.jitter:.2f}), and parts of it "
            f"are those of K-Means on colour ({s.colour:.2f})"
        ]
    if s.starts is not None:
        reasons.append(f"other starts agree by {s.starts:.2f} (0 is chance, 1 equal)")
    return Verdict(word, [f"{word.capitalize()}: {'; '.join(reasons)}.", advice])
