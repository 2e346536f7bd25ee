"""Random CNN, in the two readings the published number allows.

The paper's caption speaks of clustering features; the numbers it quotes resemble IIC's untrained
head before the first epoch. Both are here, on the trunk the compared methods share.
"""

from __future__ import annotations

from torch import Tensor

from infoseg.methods.base import DataInfo, Method, relative_entropy
from infoseg.methods.clusters import FeatureClusters
from infoseg.methods.trunk import Head, Trunk
from infoseg.settings import RandomCNNKMeansSettings, RandomCNNSettings
from infoseg.views import Views


class RandomCNN(Method):
    r"""Segment by an untrained network: nothing is optimised.

    $$k_u = \operatorname*{arg\,max}_k \; \Phi_{\psi_0}(x)_{uk}, \qquad \psi_0 \text{ random}$$
    """

    Settings = RandomCNNSettings

    def __init__(self, settings: RandomCNNSettings, data: DataInfo):
        super().__init__(settings, data)
        self.trunk = Trunk(data.channels, settings.width, settings.sobel)
        self.head = Head(self.trunk.features, data.clusters)

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        probabilities = self.head(self.trunk(views.images), views.images.shape[-2:])
        return probabilities.argmax(1), relative_entropy(probabilities)


class RandomCNNKMeans(FeatureClusters):
    r"""Cluster the features $\phi_u$ of an untrained trunk; nearest centroid at full resolution.

    $$\min_\mu \; \sum_u \min_k \lVert \phi_u - \mu_k \rVert^2$$
    """

    Settings = RandomCNNKMeansSettings

    def __init__(self, settings: RandomCNNKMeansSettings, data: DataInfo):
        trunk = Trunk(data.channels, settings.width, settings.sobel)
        super().__init__(settings, data, trunk.features)
        self.trunk = trunk

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(images)
