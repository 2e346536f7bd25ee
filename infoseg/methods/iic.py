"""IIC, Invariant Information Clustering for segmentation (Ji et al., ICCV 2019).

As its authors ran it: two views of every crop, of which the second has its colours jittered and is
mirrored half of the time; the mirroring is undone on the predictions; the loss is the mutual
information between the two predictions at all displacements of a window (Eqs 1 and 2 of the
InfoSeg paper; `infoseg.methods.information`). An over-clustering head A and the head B that counts
are trained in turn on one trunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infoseg.methods.base import DataInfo, Method, relative_entropy
from infoseg.methods.information import iic_loss
from infoseg.methods.trunk import Head, Trunk
from infoseg.settings import IICSettings
from infoseg.views import Sees, Views, jittered_view


class IIC(Method):
    r"""Maximise the information between the classes of two views, pixels up to T apart.

    $$\max_\psi \; \frac{1}{(2T + 1)^2} \sum_{\lvert t \rvert \le T} \sum_{kl} P^t_{kl}
    \big(\log P^t_{kl} - \lambda \log P^t_k P^t_l\big) \tag{1}$$

    $P^t_{kl}$ is the probability of $y_u = k$ and $y'_{u + t} = l$. At $\lambda = 1$ the sum over
    k and l is $I(y_u; y'_{u + t})$. Two heads of different K take turns.
    """

    Settings = IICSettings

    def __init__(self, settings: IICSettings, data: DataInfo):
        super().__init__(settings, data)
        self.sees = Sees(mask=settings.mask)
        self.trunk = Trunk(data.channels, settings.width, settings.sobel)
        self.head_a = Head(self.trunk.features, settings.clusters_a)
        self.head_b = Head(self.trunk.features, data.clusters)
        self.turn_of_b = False

    def begin_step(self, step: int) -> None:
        self.turn_of_b = bool((step - 1) // self.settings.turn % 2)

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        settings = self.settings
        jittered, mirrored = jittered_view(views.images, settings.jitter, settings.flip, generator)
        head = self.head_b if self.turn_of_b else self.head_a
        first = self.probabilities(views.images, head)
        second = self.probabilities(jittered, head)
        second = torch.where(mirrored, second.flip(-1), second)
        weight = settings.weight_b if self.turn_of_b else settings.weight_a
        return iic_loss(first, second, settings.displacement, weight, views.mask)

    def probabilities(self, images: Tensor, head: Head) -> Tensor:
        """Class probabilities at the input's size, (B, C, H, W) → (B, K, H, W)."""
        return head(self.trunk(images), images.shape[-2:])

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        probabilities = self.probabilities(views.images, self.head_b)
        return probabilities.argmax(1), relative_entropy(probabilities)
