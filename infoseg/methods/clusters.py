"""K-means on per-pixel features, and segmentation by the nearest centroid.

K-Means, the clustered Random CNN, Doersch and Isola differ in the features alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infoseg.methods.base import DataInfo, Method
from infoseg.settings import ClusterSettings
from infoseg.views import Sees, Views


class FeatureClusters(Method, ABC):
    """A method whose segments are k-means clusters of its `features`.

    width: number of features, F. As in IIC's released code, k-means sees annotated pixels only.
    """

    sees = Sees(mask=True)

    def __init__(self, settings: ClusterSettings, data: DataInfo, width: int):
        super().__init__(settings, data)
        self.nearest = NearestCentroid(data.clusters, width)

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images → (B, F, h, w) features."""

    @torch.no_grad()
    def fit(self, batches: Iterator[Views], seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        rows = []
        for views in batches:
            features, mask = self.features(views.images).float(), views.mask
            if mask is not None:
                # At the features' resolution: features there belong to annotated pixels.
                mask = F.interpolate(mask[:, None].float(), features.shape[-2:])[:, 0] > 0
            rows.append(sample_pixels(features, mask, self.settings.pixels_per_image, rng).cpu())
        pixels = torch.cat(rows).numpy()
        centroids = fit_centroids(pixels, self.clusters, self.settings.passes, seed)
        self.nearest.centroids.copy_(torch.from_numpy(centroids))

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, None]:
        return self.nearest(self.features(views.images), views.images.shape[-2:]), None


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


def sample_pixels(
    features: Tensor, mask: Tensor | None, count: int, rng: torch.Generator
) -> Tensor:
    """`count` random rows of (B, F, H, W) from each image, inside the mask (B, H, W): (n, F)."""
    keys = torch.rand(features.shape[0], features[0, 0].numel(), generator=rng).to(features.device)
    if mask is not None:
        keys = keys.masked_fill(~mask.flatten(1), -1.0)
    keys, order = keys.topk(min(count, keys.shape[1]), dim=1)
    rows = features.flatten(2).transpose(1, 2).take_along_dim(order[..., None], dim=1)
    return rows[keys >= 0]


def fit_centroids(rows: np.ndarray, clusters: int, passes: int, seed: int) -> np.ndarray:
    """MiniBatchKMeans with scikit-learn's k-means++ start, best of three. (n, F) → (K, F).

    Raises ValueError when there are fewer rows than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans  # deferred: a second of import time

    if len(rows) < clusters:
        raise ValueError(f"k-means has {len(rows)} pixels for {clusters} clusters: too few images")
    kmeans = MiniBatchKMeans(
        clusters, max_iter=passes, batch_size=4096, n_init=3, random_state=seed
    )
    return kmeans.fit(rows).cluster_centers_
