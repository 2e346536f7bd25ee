"""InfoSeg itself: the network of Figure 3 trained by Eq. 8, segmenting by Eqs 3 and 4."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from infoseg.losses import class_probabilities, class_scores, infoseg_loss
from infoseg.methods.base import DataInfo, Method, relative_entropy
from infoseg.model import Network
from infoseg.settings import InfoSegSettings
from infoseg.views import Views, colour_jitter


class InfoSeg(Method):
    r"""Maximise the information between local features and the class features assigned to them.

    $$\max_\theta \; \mathbb{E}_x[-\mathrm{sp}(-\langle L(x), S(x) \rangle)]
    - \mathbb{E}_{x, x'}[\mathrm{sp}(\langle L(x), S(x') \rangle)] \tag{8}$$

    $$S_{ij} = \sum_k V_{ijk} H_k, \qquad
    V_{ij} = \mathrm{softmax}_k(\tau \langle L_{ij}, H_k \rangle) \tag{3, 5}$$
    """

    Settings = InfoSegSettings

    def __init__(self, settings: InfoSegSettings, data: DataInfo):
        clusters = max(1, data.clusters * settings.clusters_per_class)
        data = dataclasses.replace(data, clusters=clusters)
        super().__init__(settings, data)
        self.objective, self.upsampling = settings.objective, settings.upsampling
        self.network = Network(data.channels, data.clusters, settings.network, data.mean, data.std)

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        images = views.images
        if self.settings.jitter is not None:
            images = colour_jitter(images, self.settings.jitter, generator)
        return infoseg_loss(*self.network(images), self.objective, generator)

    def scores(self, images: Tensor) -> Tensor:
        """Class scores <L_ij, H_k> of 4.2: (B, C, M, N) → (B, K, U, V), float32."""
        local, glob = self.network(images)
        scores = class_scores(local.flatten(2), glob, self.objective.score_factor)
        return scores.unflatten(-1, local.shape[-2:])

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        scores, size = self.scores(views.images), views.images.shape[-2:]
        entropy = relative_entropy(class_probabilities(scores.flatten(2), self.objective.tau))
        if self.upsampling == "scores":
            scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
            return scores.argmax(1), entropy
        labels = scores.argmax(1, keepdim=True).float()
        return F.interpolate(labels, size, mode="nearest")[:, 0].long(), entropy
