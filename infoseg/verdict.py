"""Is a segmentation of unlabelled pictures worth using? Signals without labels, and the verdict.

Two answers need no training: K-Means on colour, and equal horizontal stripes. A segmentation that
repeats one of them, that puts nearly everything into one cluster, or that changes with the colours
is not worth more than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoseg.diagnostics import Stripes
from infoseg.methods.base import DataInfo
from infoseg.methods.kmeans import KMeans
from infoseg.selection import agreement
from infoseg.settings import JitterSettings, KMeansSettings
from infoseg.tiling import segment_tiled
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

Segment = Callable[[np.ndarray], np.ndarray]
"""(H, W, C) uint8 → clusters (H, W) uint8."""


@dataclass(frozen=True)
class Signals:
    """What can be measured without labels. Agreements are Cohen's kappa: 0 chance, 1 equal.

    largest: share of the pixels in the largest cluster. used: clusters with over 1 % of them.
    flip: agreement with the labels of mirrored pictures. jitter: after changes of colour. colour:
    with K-Means on colour, clusters matched. place: with K equal horizontal stripes, clusters
    matched. colour_place: of K-Means with the stripes. starts: of the chosen start with the others,
    clusters matched; None for one start.
    """

    clusters: int
    largest: float
    used: int
    flip: float
    jitter: float
    colour: float
    place: float
    colour_place: float
    starts: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Look:
    """Signals of a segmentation, the labels of all pixels that they are of, and K-Means of the same
    pictures, numbered as the segmentation's clusters that it shares most pixels with."""

    signals: Signals
    labels: np.ndarray
    colours: KMeans


def colour_clusters(pictures: Sequence[np.ndarray], clusters: int) -> KMeans:
    """K-Means on colour, fitted on 1,000 pixels of each picture (H, W, C) uint8."""
    channels = pictures[0].shape[-1]
    info = DataInfo(clusters, channels, (0.0,) * channels, (1.0,) * channels)
    colours = KMeans(KMeansSettings(), info)
    colours.fit((Views(_tensor(picture)[None].float() / 255) for picture in pictures), 0)
    return colours


def _tensor(picture: np.ndarray) -> Tensor:
    """(H, W, C) uint8 → the same as (C, H, W), copied, since it may be read-only."""
    return torch.from_numpy(picture.copy()).movedim(-1, 0)


def look(
    segment: Segment,
    pictures: Sequence[np.ndarray],
    clusters: int,
    starts: float | None = None,
) -> Look:
    """Measure a segmentation of pictures (H, W, C) uint8 at the size they are segmented at.

    starts: see `Signals`.
    """
    from scipy.optimize import linear_sum_assignment  # deferred: 0.35 s

    generator = torch.Generator().manual_seed(0)
    colours, layers = colour_clusters(pictures, clusters), Stripes(clusters)
    views = []
    for picture in pictures:
        pixels = _tensor(picture)
        image = pixels[None].float() / 255
        jittered = colour_jitter(image, JITTER, generator)[0].movedim(0, -1)
        looks = (
            segment(picture),
            segment(np.ascontiguousarray(picture[:, ::-1]))[:, ::-1],
            segment(jittered.mul(255).round().byte().contiguous().numpy()),
            segment_tiled(colours, pixels),
            layers.segment(Views(image))[0].numpy(),
        )
        views.append([labels.ravel() for labels in looks])
    plain, flip, jitter, colour, place = map(np.concatenate, zip(*views, strict=True))
    pairs = np.bincount(colour.astype(np.int64) * clusters + plain, minlength=clusters**2)
    rows, columns = linear_sum_assignment(pairs.reshape(clusters, clusters), maximize=True)
    colours.nearest.centroids.copy_(colours.nearest.centroids[rows[np.argsort(columns)]])
    shares = np.bincount(plain, minlength=clusters) / plain.size
    signals = Signals(
        clusters=clusters,
        largest=float(shares.max()),
        used=int((shares > 0.01).sum()),
        flip=agreement(plain, flip, clusters),
        jitter=agreement(plain, jitter, clusters),
        colour=agreement(plain, colour, clusters, match=True),
        place=agreement(plain, place, clusters, match=True),
        colour_place=agreement(colour, place, clusters, match=True),
        starts=starts,
    )
    return Look(signals, plain, colours)


def spread(count: int, most: int) -> set[int]:
    """Up to `most` of `count` places, evenly spread."""
    return set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist())


@dataclass(frozen=True)
class Verdict:
    """word: useful, doubtful or not useful. reasons: sentences, and what to try."""

    word: str
    reasons: list[str]

    def sentences(self) -> list[str]:
        return [f"{self.word.capitalize()}: {self.reasons[0]}", *self.reasons[1:]]


def verdict(signals: Signals) -> Verdict:
    """Judge a segmentation by its signals.

    useful: meant for an mIoU at least 5 above those of one class, of stripes and of K-Means on
    colour. Thresholds were set on some folders and tried on others: results/own says how often it
    errs.
    """
    reasons = []
    if signals.largest > LARGEST:
        reasons.append(f"one cluster holds {100 * signals.largest:.0f} % of the pixels")
    if signals.used < signals.clusters:
        reasons.append(f"only {signals.used} of {signals.clusters} clusters are used")
    if signals.jitter < CHANGED:
        reasons.append(f"labels change with the colours (agreement {signals.jitter:.2f})")
    if not UNRELATED <= signals.colour <= REPEATED:
        what = "repeats" if signals.colour > REPEATED else "has nothing in common with"
        reasons.append(f"it {what} K-Means on colour (agreement {signals.colour:.2f})")
    if reasons:
        word = "not useful"
        advice = "Try more minutes, another number of classes, more pictures, or K-Means itself."
    else:
        if signals.colour_place >= LAYERED:
            reasons.append(
                "the pictures are layered so much that equal stripes may be as good (K-Means on "
                f"colour agrees with them by {signals.colour_place:.2f})"
            )
        if signals.colour < RELATED:
            reasons.append(f"it has little in common with K-Means on colour ({signals.colour:.2f})")
        if signals.jitter < STABLE:
            reasons.append(f"some labels change with the colours ({signals.jitter:.2f})")
        word = "doubtful" if reasons else "useful"
        advice = "Compare with K-Means on colour: on new pictures this verdict was often wrong."
    if word == "useful":
        reasons.append(
            f"it keeps its labels when colours change (agreement {signals.jitter:.2f}), and parts "
            f"of it are those of K-Means on colour ({signals.colour:.2f})"
        )
    if signals.starts is not None:
        reasons.append(f"other starts agree by {signals.starts:.2f} (0 is chance, 1 equal)")
    return Verdict(word, [f"{'; '.join(reasons)}.", advice])
