"""IIC-MI, the ablation of Table 2 (5.5): InfoSeg's segmentation step under IIC's objective.

"We omit our Mutual Information Maximization step and solely perform our Segmentation Step": V of
Eq. 3 is taken for two views of every crop, made as IIC makes them, and Eq. 1 is maximised over the
pairs of pixels of a window (`infoseg.clustering_losses.iic_loss`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from infoseg.clustering_losses import iic_loss
from infoseg.jitter import JitterSettings, jittered_view
from infoseg.losses import class_probabilities
from infoseg.methods.base import DataInfo
from infoseg.methods.infoseg import InfoSeg, InfoSegSettings
from infoseg.params import PositiveFloat
from infoseg.views import Views


class IICMISettings(InfoSegSettings):
    """As InfoSeg's, and: displacement, weight: T in pixels and lambda of IIC's loss. jitter, flip:
    of the second view, flip being a probability. Of `objective`, tau and score_factor alone count.

    Assumptions, for the paper names none of them: V is interpolated to the input's size, as IIC's
    predictions are; lambda is 1; there is no over-clustering head, since there is one V; and no
    mask, since InfoSeg sees none.
    """

    kind: Literal["iic_mi"]  # type: ignore[assignment]
    displacement: Annotated[int, Field(ge=0)]
    weight: PositiveFloat
    jitter: JitterSettings
    flip: Annotated[float, Field(ge=0, le=1)]


class IICMI(InfoSeg):
    Settings = IICMISettings

    def __init__(self, settings: IICMISettings, data: DataInfo):
        super().__init__(settings, data)
        self.settings = settings

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        settings = self.settings
        other, mirrored = jittered_view(views.images, settings.jitter, settings.flip, generator)
        first, second = self.probabilities(views.images), self.probabilities(other)
        second = torch.where(mirrored, second.flip(-1), second)
        return iic_loss(first, second, settings.displacement, settings.weight)

    def probabilities(self, images: Tensor) -> Tensor:
        """V of Eq. 3 at the input's size, (B, C, M, N) → (B, K, M, N) float32."""
        scores = self.scores(images)
        v = class_probabilities(scores.flatten(2), self.objective.tau).unflatten(
            -1, scores.shape[-2:]
        )
        return F.interpolate(v, images.shape[-2:], mode="bilinear", align_corners=False)
