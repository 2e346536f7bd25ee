"""Random CNN, in the two readings the published number allows.

The paper's caption speaks of clustering features; the numbers it quotes resemble IIC's untrained
head before the first epoch. Both are here, on the trunk the compared methods share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from infoseg.methods.base import DataInfo, Method
from infoseg.methods.kmeans import (
    ClusterSettings,
    NearestCentroid,
    fit_centroids,
    sample_pixels,
)
from infoseg.params import MethodSettings, PositiveFloat
from infoseg.trunk import Head, Trunk
from infoseg.views import Views, append_sobel


class RandomCNNSettings(MethodSettings):
    """sobel: the input is the colours and two Sobel gradients (IIC's COCO input; not Potsdam's).
    width: factor on the trunk's channels, 1 as released."""

    kind: Literal["random_cnn"]
    sobel: bool
    width: PositiveFloat


class RandomCNN(Method):
    """Arg max of an untrained head: what a network says before it has seen anything."""

    Settings = RandomCNNSettings

    def __init__(self, settings: RandomCNNSettings, data: DataInfo):
        super().__init__(settings, data)
        self.sobel = settings.sobel
        self.trunk = Trunk(data.channels + (2 if settings.sobel else 0), settings.width)
        self.head = Head(self.trunk.features, data.clusters)

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(append_sobel(images) if self.sobel else images)

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, None]:
        features = self.features(views.images)
        return self.head(features, views.images.shape[-2:]).argmax(1), None


class RandomCNNKMeansSettings(ClusterSettings):
    """sobel, width: of the untrained trunk, as for `random_cnn`; the rest as for `kmeans`."""

    kind: Literal["random_cnn_kmeans"]
    sobel: bool
    width: PositiveFloat


class RandomCNNKMeans(Method):
    """K-Means on the features of the untrained trunk, nearest centroid at full resolution."""

    Settings = RandomCNNKMeansSettings
    uses_mask = True

    def __init__(self, settings: RandomCNNKMeansSettings, data: DataInfo):
        super().__init__(settings, data)
        self.settings = settings
        self.trunk = Trunk(data.channels + (2 if settings.sobel else 0), settings.width)
        self.nearest = NearestCentroid(data.clusters, self.trunk.features)

    def _features(self, images: Tensor) -> Tensor:
        features = self.trunk(append_sobel(images) if self.settings.sobel else images)
        return features.float()

    @torch.no_grad()
    def fit(self, batches: Iterator[Views], seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        rows = []
        for views in batches:
            features = self._features(views.images)
            # The mask at the features' resolution: features there belong to annotated pixels.
            mask = None
            if views.mask is not None:
                mask = F.interpolate(views.mask[:, None].float(), features.shape[-2:])[:, 0] > 0
            rows.append(sample_pixels(features, mask, self.settings.pixels_per_image, rng).cpu())
        centroids = fit_centroids(
            torch.cat(rows).numpy(), self.clusters, self.settings.passes, seed
        )
        self.nearest.centroids.copy_(torch.from_numpy(centroids))

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, None]:
        return self.nearest(self._features(views.images), views.images.shape[-2:]), None
