"""Is a segmentation of unlabelled pictures worth using? Signals without labels, and the verdict.

Two answers need no training: K-Means on colour, and equal horizontal stripes. A segmentation that
repeats one of them, that puts nearly everything into one cluster, that changes with the colours, or
that another start does not find again, is not worth more than they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from infoseg.methods.feature_clusters import fit_centroids
from infoseg.selection import agreement
from infoseg.settings import JitterSettings
from infoseg.views import colour_jitter

#: Pictures looked at, at most; fewer than two say nothing.
LOOKED_AT = 24
#: IIC's strengths, for the agreement between a picture and its jittered view.
JITTER = JitterSettings(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.125)
#: Pixels that every picture gives to K-Means, as in Table 1.
PIXELS = 1000

Segment = Callable[[np.ndarray], np.ndarray]
"""(H, W, C) uint8 → clusters (H, W) uint8."""


@dataclass(frozen=True)
class Signals:
    """What can be measured without labels. Agreements are Cohen's kappa: 0 chance, 1 equal.

    largest: share of the pixels in the largest cluster. used: clusters with over 1 % of them.
    entropy: of the shares of the clusters, in units of log K. flip: agreement with the mirrored
    picture's labels. jitter: after changes of colour. colour: with K-Means on colour, clusters
    matched. place: with K equal horizontal stripes, clusters matched. starts: of the chosen start
    with the others, clusters matched; None for one start.
    """

    clusters: int
    largest: float
    used: int
    entropy: float
    flip: float
    jitter: float
    colour: float
    place: float
    starts: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value if value is None else round(value, 4)
                for name, value in asdict(self).items()}  # fmt: skip


class ColourClusters:
    """K-Means on colour, fitted on up to 1,000 pixels of each picture (H, W, C) uint8."""

    def __init__(self, pictures: Sequence[np.ndarray], clusters: int):
        rng = np.random.default_rng(0)
        rows = [picture.reshape(-1, picture.shape[-1]) for picture in pictures]
        rows = [part[rng.integers(len(part), size=PIXELS)] for part in rows]
        self.centroids = fit_centroids(np.concatenate(rows) / np.float32(255), clusters, 20, 0)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Index of the nearest centroid, (H, W, C) uint8 → (H, W) uint8."""
        # |x - c|^2 without |x|^2; row by row, because pictures may be large.
        weights = -2 / 255 * self.centroids.T
        labels = np.empty(picture.shape[:2], np.uint8)
        for row, out in zip(picture, labels, strict=True):
            out[:] = (row @ weights + (self.centroids**2).sum(1)).argmin(1)
        return labels


def stripes(height: int, width: int, clusters: int) -> np.ndarray:
    """K equal horizontal stripes, (H, W) uint8."""
    return np.repeat((np.arange(height) * clusters // height).astype(np.uint8), width).reshape(
        height, width
    )


def measure_signals(
    segment: Segment,
    pictures: Sequence[np.ndarray],
    clusters: int,
    colours: Segment,
    starts: float | None = None,
) -> Signals:
    """Measure a segmentation on pictures (H, W, C) uint8 at the size they are segmented at."""
    generator = torch.Generator().manual_seed(0)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in
                                          ("plain", "flip", "jitter", "colour", "place")}  # fmt: skip
    for picture in pictures:
        image = torch.from_numpy(picture).movedim(-1, 0)[None].float() / 255
        jittered = colour_jitter(image, JITTER, generator)[0].mul(255).round().byte()
        views = {
            "plain": segment(picture),
            "flip": segment(np.ascontiguousarray(picture[:, ::-1]))[:, ::-1],
            "jitter": segment(np.ascontiguousarray(jittered.movedim(0, -1).numpy())),
            "colour": colours(picture),
            "place": stripes(*picture.shape[:2], clusters),
        }
        for name, labels in views.items():
            parts[name].append(labels.ravel())
    plain, flip, jitter, colour, place = (np.concatenate(part) for part in parts.values())
    shares = np.bincount(plain, minlength=clusters) / plain.size
    entropy = -sum(share * math.log(share) for share in shares if share)
    return Signals(
        clusters=clusters,
        largest=float(shares.max()),
        used=int((shares > 0.01).sum()),
        entropy=entropy / math.log(max(2, clusters)),
        flip=agreement(plain, flip, clusters),
        jitter=agreement(plain, jitter, clusters),
        colour=agreement(plain, colour, clusters, match=True),
        place=agreement(plain, place, clusters, match=True),
        starts=starts,
    )
