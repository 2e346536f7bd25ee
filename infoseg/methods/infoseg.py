"""InfoSeg itself: the network of Figure 3 trained by Eq. 8, segmenting by Eqs 3 and 4."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from infoseg.jitter import JitterSettings, colour_jitter
from infoseg.losses import (
    Marginal,
    ObjectiveSettings,
    class_probabilities,
    class_scores,
    infoseg_loss,
)
from infoseg.methods.base import DataInfo, Method
from infoseg.model import Network, NetworkSettings
from infoseg.params import MethodSettings, OptimiserSettings, Positive, Strict
from infoseg.views import Sees, Views


class WarmUpSettings(Strict):
    """marginal: what S(x') of Eq. 8 is made of in the first `steps` updates."""

    steps: Positive
    marginal: Marginal


class InfoSegSettings(MethodSettings):
    """scale: of the dot products <L, H>: `fixed` multiplies by objective.score_factor alone,
    `learned` by a trained factor besides that starts at 1, `unit` gives L and H unit length first,
    so that score_factor alone says how far scores can go. jitter: of the colours of training crops,
    or null. views: `one` takes L and H from the same crop; `two` jitters it twice and takes L from
    the one and H from the other, so that their colours tell nothing of each other. upsampling:
    `labels` repeats Eq. 4's low-resolution labels (nearest, the paper's words); `scores`
    interpolates the class scores bilinearly before the arg max. clusters_per_class: K as a multiple
    of the data set's; above 1, clusters left over by the one-to-one match have no class; at 0, K is
    1, and what is left is Local Deep InfoMax with one global feature. warm_up: another reading of
    Eq. 8 to begin with, or null; for asking whether a reading keeps what another one found. mask:
    whether only local features of annotated pixels count in the objective, as in IIC's loss; H sees
    the whole crop all the same."""

    kind: Literal["infoseg"]
    network: NetworkSettings
    objective: ObjectiveSettings
    optimiser: OptimiserSettings
    scale: Literal["fixed", "learned", "unit"]
    jitter: JitterSettings | None
    views: Literal["one", "two"]
    upsampling: Literal["labels", "scores"]
    clusters_per_class: Annotated[int, Field(ge=0)]
    warm_up: WarmUpSettings | None
    mask: bool

    @model_validator(mode="after")
    def _gradient_exists(self) -> InfoSegSettings:
        if self.objective.marginal == "log_sum_exp" and not self.objective.gradient_through_v:
            raise ValueError(
                "objective.gradient_through_v: log_sum_exp has no V in it to cut the gradient "
                "through; set it to true"
            )
        return self

    @model_validator(mode="after")
    def _two_views_differ(self) -> InfoSegSettings:
        if self.views == "two" and self.jitter is None:
            raise ValueError("views: without jitter two are the same crop twice; set jitter")
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> InfoSegSettings:
        if self.warm_up and self.warm_up.steps >= self.optimiser.steps:
            raise ValueError("warm_up.steps: must be fewer than optimiser.steps")
        return self


class InfoSeg(Method):
    Settings = InfoSegSettings

    def __init__(self, settings: InfoSegSettings, data: DataInfo):
        clusters = max(1, data.clusters * settings.clusters_per_class)
        data = dataclasses.replace(data, clusters=clusters)
        super().__init__(settings, data)
        self.objective = self.reading = settings.objective
        self.warm_up = settings.warm_up
        self.optimiser = settings.optimiser
        self.upsampling = settings.upsampling
        self.scale = settings.scale
        self.jitter = settings.jitter
        self.views = settings.views
        self.sees = Sees(mask=settings.mask)
        self.network = Network(data.channels, data.clusters, settings.network, data.mean, data.std)
        if self.scale == "learned":
            self.log_factor = nn.Parameter(torch.zeros(()))

    def begin_step(self, step: int) -> None:
        if self.warm_up:
            warm = step <= self.warm_up.steps
            other = {"marginal": self.warm_up.marginal} if warm else {}
            self.reading = self.objective.model_copy(update=other)

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        local, glob = self.features(*self.training_views(views.images, generator))
        weights = None
        if views.mask is not None:
            # The share of annotated pixels under each position of L.
            weights = F.avg_pool2d(views.mask[:, None].float(), self.network.stride)[:, 0]
        return infoseg_loss(local, glob, self.reading, generator, weights)

    def training_views(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The crops L and H are taken from: one for both, or one each."""
        count = 1 if self.views == "one" else 2
        if self.jitter is None:
            return (images,)
        return tuple(colour_jitter(images, self.jitter, generator) for _ in range(count))

    def features(self, images: Tensor, other: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Local features of `images` and global ones of `other` (by default the same), scaled.

        (B, C, M, N) → (B, P, U, V), (B, K, P).
        """
        local, glob = self.network(images, other)
        if self.scale == "unit":
            local, glob = F.normalize(local.float(), dim=1), F.normalize(glob.float(), dim=2)
        elif self.scale == "learned":
            glob = glob * self.log_factor.exp()
        return local, glob

    def scores(self, images: Tensor) -> Tensor:
        """Class scores <L_ij, H_k> of 4.2: (B, C, M, N) → (B, K, U, V), float32."""
        local, glob = self.features(images)
        scores = class_scores(local.flatten(2), glob, self.objective.score_factor)
        return scores.unflatten(-1, local.shape[-2:])

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        scores = self.scores(views.images)
        probabilities = class_probabilities(scores.flatten(2), self.objective.tau)
        entropy = torch.special.entr(probabilities).sum(1).mean(-1)
        entropy = entropy / math.log(max(2, self.network.classes))
        size = views.images.shape[-2:]
        if self.upsampling == "scores":
            scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
            return scores.argmax(1), entropy
        labels = scores.argmax(1, keepdim=True).float()
        return F.interpolate(labels, size, mode="nearest")[:, 0].long(), entropy
