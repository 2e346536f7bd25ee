"""IIC-MI, the ablation of Table 2 (5.5): InfoSeg's segmentation step under IIC's objective.

"We omit our Mutual Information Maximization step and solely perform our Segmentation Step": V of
Eq. 3 is taken for two views of every crop, made as IIC makes them, and Eq. 1 is maximised over the
pairs of pixels of a window (`infoseg.methods.information.iic_loss`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from infoseg.losses import class_probabilities
from infoseg.methods.information import iic_loss
from infoseg.methods.infoseg import InfoSeg
from infoseg.settings import IICMISettings
from infoseg.views import Views, jittered_view


class IICMI(InfoSeg):
    r"""Maximise the information between V of Eq. 3 in two views, pixels up to T apart.

    $$\max_\theta \; \frac{1}{(2T + 1)^2} \sum_{\lvert t \rvert \le T} I(V_u(x); V_{u + t}(x'))
    \tag{1}$$
    """

    Settings = IICMISettings

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        settings = self.settings
        jittered, mirrored = jittered_view(views.images, settings.jitter, settings.flip, generator)
        first, second = self.probabilities(views.images), self.probabilities(jittered)
        second = torch.where(mirrored, second.flip(-1), second)
        return iic_loss(first, second, settings.displacement, settings.weight)

    def probabilities(self, images: Tensor) -> Tensor:
        """V of Eq. 3 at the input's size, (B, C, M, N) → (B, K, M, N) float32."""
        scores = self.scores(images)
        v = class_probabilities(scores.flatten(2), self.objective.tau).view_as(scores)
        return F.interpolate(v, images.shape[-2:], mode="bilinear", align_corners=False)
