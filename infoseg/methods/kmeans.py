"""K-Means on pixel colours.

IIC's released code runs scikit-learn's MiniBatchKMeans on the raw values of the annotated pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infoseg.methods.base import DataInfo
from infoseg.methods.clusters import FeatureClusters
from infoseg.settings import KMeansSettings


class KMeans(FeatureClusters):
    r"""Cluster the colours $x_u$ of annotated pixels.

    $$\min_\mu \; \sum_u \min_k \lVert x_u - \mu_k \rVert^2$$
    """

    Settings = KMeansSettings

    def __init__(self, settings: KMeansSettings, data: DataInfo):
        super().__init__(settings, data, data.channels)
        scale = data.std if settings.standardise else [1.0] * data.channels
        self.register_buffer("scale", torch.tensor(scale))

    def features(self, images: Tensor) -> Tensor:
        return images / self.scale.view(1, -1, 1, 1)
