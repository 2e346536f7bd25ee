"""IIC, Invariant Information Clustering for segmentation (Ji et al., ICCV 2019).

As its authors ran it: two views of every crop, of which the second has its colours jittered and is
mirrored half of the time; the mirroring is undone on the predictions; the loss is the mutual
information between the two predictions at all displacements of a window (Eqs 1 and 2 of the
InfoSeg paper; `infoseg.clustering_losses`). An over-clustering head A and the head B that counts
are trained in turn on one trunk.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from infoseg.clustering_losses import iic_loss
from infoseg.jitter import JitterSettings, jittered_view
from infoseg.methods.base import DataInfo, Method, relative_entropy
from infoseg.params import MethodSettings, OptimiserSettings, Positive, PositiveFloat
from infoseg.trunk import Head, Trunk
from infoseg.views import Sees, Views


class IICSettings(MethodSettings):
    """clusters_a: outputs of the over-clustering head. weight_a, weight_b: lambda of either head's
    loss; above 1 it favours clusters of equal size. displacement: T, in pixels of the input; the
    window has (2T + 1)^2 displacements. turn: consecutive steps of one head before the other's
    (the authors alternate epoch by epoch; assumption: shorter turns do the same). jitter, flip: of
    the second view, flip being a probability. mask: whether the loss leaves out pixels that are not
    annotated, as the authors' code does. sobel, width: of the trunk."""

    kind: Literal["iic"]
    sobel: bool
    width: PositiveFloat
    clusters_a: Annotated[int, Field(ge=2)]
    weight_a: PositiveFloat
    weight_b: PositiveFloat
    displacement: Annotated[int, Field(ge=0)]
    turn: Positive
    jitter: JitterSettings
    flip: Annotated[float, Field(ge=0, le=1)]
    mask: bool
    optimiser: OptimiserSettings

    @model_validator(mode="after")
    def _both_heads_get_a_turn(self) -> IICSettings:
        if self.optimiser.steps < 2 * self.turn:
            raise ValueError(
                f"turn is {self.turn}, but in {self.optimiser.steps} steps both heads need a turn"
            )
        return self


class IIC(Method):
    Settings = IICSettings

    def __init__(self, settings: IICSettings, data: DataInfo):
        super().__init__(settings, data)
        self.settings = settings
        self.optimiser = settings.optimiser
        self.sees = Sees(mask=settings.mask)
        self.trunk = Trunk(data.channels, settings.width, settings.sobel)
        self.head_a = Head(self.trunk.features, settings.clusters_a)
        self.head_b = Head(self.trunk.features, data.clusters)
        self.turn_of_b = False

    def begin_step(self, step: int) -> None:
        self.turn_of_b = bool((step - 1) // self.settings.turn % 2)

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        settings = self.settings
        other, mirrored = jittered_view(views.images, settings.jitter, settings.flip, generator)
        head = self.head_b if self.turn_of_b else self.head_a
        first = self.probabilities(views.images, head)
        second = self.probabilities(other, head)
        second = torch.where(mirrored, second.flip(-1), second)
        weight = settings.weight_b if self.turn_of_b else settings.weight_a
        return iic_loss(first, second, settings.displacement, weight, views.mask)

    def probabilities(self, images: Tensor, head: Head) -> Tensor:
        """Class probabilities at the input's size, (B, C, H, W) → (B, K, H, W)."""
        return head(self.trunk(images), images.shape[-2:])

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor]:
        probabilities = self.probabilities(views.images, self.head_b)
        return probabilities.argmax(1), relative_entropy(probabilities)
