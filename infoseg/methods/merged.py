"""InfoSeg with more clusters than classes, merged after training by what views agree on.

Not in the paper: one of the things tried where two or three clusters do not find the classes.
Clusters that swap pixels when a picture is mirrored or its colours are jittered are near each
other; no label says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from infoseg.jitter import JitterSettings, colour_jitter
from infoseg.methods.base import DataInfo
from infoseg.methods.infoseg import InfoSeg, InfoSegSettings
from infoseg.views import Views


class MergedInfoSegSettings(InfoSegSettings):
    """clusters_per_class: clusters trained for each one left in the end. agreement: strengths of
    the jitter of the second view that clusters are compared in."""

    kind: Literal["infoseg_merged"]  # type: ignore[assignment]
    clusters_per_class: Annotated[int, Field(ge=2)]
    agreement: JitterSettings


class MergedInfoSeg(InfoSeg):
    Settings = MergedInfoSegSettings

    def __init__(self, settings: MergedInfoSegSettings, data: DataInfo):
        super().__init__(settings, data)
        self.agreement = settings.agreement
        self.clusters = data.clusters
        #: The cluster that each of the trained ones became a part of.
        self.register_buffer("parts", torch.arange(self.network.classes) % data.clusters)

    @torch.no_grad()
    def fit(self, batches: Iterator[Views], seed: int) -> None:
        trained, device = self.network.classes, self.parts.device
        generator = torch.Generator(device).manual_seed(seed)
        joint = torch.zeros(trained**2, dtype=torch.int64, device=device)
        for views in batches:
            images = views.images
            other = colour_jitter(images.flip(-1), self.agreement, generator)
            here = super().segment_with_entropy(Views(images))[0]
            there = super().segment_with_entropy(Views(other))[0].flip(-1)
            pairs = (here * trained + there).flatten()
            joint += torch.bincount(pairs, minlength=trained**2)
        if not joint.any():
            raise ValueError("no picture to compare clusters in")
        parts = merge_clusters(joint.view(trained, -1).cpu().numpy(), self.clusters, seed)
        self.parts.copy_(torch.from_numpy(parts))

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        labels, entropy = super().segment_with_entropy(views)
        return self.parts[labels], entropy


def merge_clusters(joint: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Normalised cut (Shi & Malik 2000) of the graph of clusters, edges weighted by swapped pixels.

    joint: (K', K') pixels that are in one cluster in one view and in another in the other view.
    Returns `count` or fewer groups, (K',) int64 in 0..count-1; clusters without pixels are in 0.
    """
    from sklearn.cluster import SpectralClustering  # deferred: a second of import time

    used = np.flatnonzero(joint.sum(0) + joint.sum(1))
    parts = np.zeros(len(joint), np.int64)
    if len(used) <= count:
        parts[used] = np.arange(len(used))
        return parts
    weights = (joint + joint.T)[np.ix_(used, used)].astype(float)
    # A pixel more everywhere keeps the graph connected, as the cut demands.
    cut = SpectralClustering(
        count, affinity="precomputed", assign_labels="cluster_qr", random_state=seed
    )
    parts[used] = cut.fit_predict(weights + 1)
    return parts
