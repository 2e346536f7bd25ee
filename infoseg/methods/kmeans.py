"""K-Means on pixel colours, and the nearest-centroid segmentation other methods share.

IIC's released code runs scikit-learn's MiniBatchKMeans on the raw values of the annotated pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infoseg.methods.base import DataInfo, Method
from infoseg.params import MethodSettings, Positive
from infoseg.views import Views


class ClusterSettings(MethodSettings):
    """pixels_per_image: how many pixels, drawn at random, each image gives to k-means.
    passes: how often scikit-learn goes over them at most."""

    pixels_per_image: Positive
    passes: Positive


class KMeansSettings(ClusterSettings):
    """standardise: divide each channel by its standard deviation first (0 in the authors' code)."""

    kind: Literal["kmeans"]
    standardise: bool


def sample_pixels(
    features: Tensor, mask: Tensor | None, count: int, rng: torch.Generator
) -> Tensor:
    """`count` random rows of (B, F, H, W) from each image, inside the mask (B, H, W): (n, F)."""
    keys = torch.rand(features.shape[0], features[0, 0].numel(), generator=rng).to(features.device)
    if mask is not None:
        keys = keys.masked_fill(~mask.flatten(1), -1.0)
    keys, order = keys.topk(min(count, keys.shape[1]), dim=1)
    rows = (
        features.flatten(2)
        .transpose(1, 2)
        .gather(1, order[..., None].expand(-1, -1, features.shape[1]))
    )
    return rows[keys >= 0]


def fit_centroids(rows: np.ndarray, clusters: int, passes: int, seed: int) -> np.ndarray:
    """MiniBatchKMeans with scikit-learn's k-means++ start, best of three. (n, F) → (K, F)."""
    from sklearn.cluster import MiniBatchKMeans  # deferred: a second of import time

    if len(rows) < clusters:
        raise ValueError(f"k-means has {len(rows)} pixels for {clusters} clusters: too few images")
    kmeans = MiniBatchKMeans(
        clusters, max_iter=passes, batch_size=4096, n_init=3, random_state=seed
    )
    return kmeans.fit(rows).cluster_centers_


class NearestCentroid(nn.Module):
    """Index of the nearest of K centroids for every pixel: (B, F, h, w) → (B, H, W) at `size`.

    Interpolates the K distances, not the F features. Without |x|^2, which is the same for all
    centroids, a distance is linear in x, so the arg min is that of the interpolated features.
    """

    def __init__(self, clusters: int, features: int):
        super().__init__()
        self.register_buffer("centroids", torch.zeros(clusters, features))

    def forward(self, features: Tensor, size: torch.Size) -> Tensor:
        weight = (-2 * self.centroids)[:, :, None, None]
        # Not in bfloat16: the distances of near centroids differ by less than its precision.
        with torch.autocast(features.device.type, enabled=False):
            distances = F.conv2d(features.float(), weight, self.centroids.square().sum(1))
        if distances.shape[-2:] != size:
            distances = F.interpolate(distances, size, mode="bilinear", align_corners=False)
        return distances.argmin(1)


class KMeans(Method):
    """K-Means on the colours of annotated pixels."""

    Settings = KMeansSettings
    uses_mask = True

    def __init__(self, settings: KMeansSettings, data: DataInfo):
        super().__init__(settings, data)
        self.settings = settings
        scale = data.std if settings.standardise else [1.0] * data.channels
        self.register_buffer("scale", torch.tensor(scale))
        self.nearest = NearestCentroid(data.clusters, data.channels)

    def _features(self, images: Tensor) -> Tensor:
        return images / self.scale.view(1, -1, 1, 1)

    def fit(self, batches: Iterator[Views], seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        count = self.settings.pixels_per_image
        rows = [
            sample_pixels(self._features(views.images), views.mask, count, rng).cpu()
            for views in batches
        ]
        centroids = fit_centroids(
            torch.cat(rows).numpy(), self.clusters, self.settings.passes, seed
        )
        self.nearest.centroids.copy_(torch.from_numpy(centroids))

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, None]:
        features = self._features(views.images)
        return self.nearest(features, features.shape[-2:]), None
