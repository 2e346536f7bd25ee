"""The interface behind which every row of Table 1 stands.

Training, evaluation, tables and figures know nothing of a method but this. To add one: a file here
with a `Settings` and a `Method`, and its name and settings in a profile (docs/extending.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from infoseg.settings import MethodSettings, OptimiserSettings
from infoseg.views import Sees, Views


@dataclass(frozen=True)
class DataInfo:
    """What a method may know of the data before it sees any: shapes and colour statistics.

    clusters: K. channels: 3 (RGB) or 4 (with infrared). mean, std: per channel, 0..1.
    """

    clusters: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Method(nn.Module):
    """One way to segment images without labels.

    A method whose settings have an `optimiser` is trained and defines `loss`; one that is fitted
    defines `fit`; all define `segment_with_entropy`. `sees` says what it gets beside the images:
    which pixels are annotated (not how), as the code of some authors does, which the tables mark;
    superpixels.
    """

    Settings: ClassVar[type[MethodSettings]]
    #: For all settings of the method, unless an instance sets its own.
    sees: Sees = Sees()
    #: Adam's settings, or None when there is nothing to optimise.
    optimiser: OptimiserSettings | None = None

    def __init__(self, settings: MethodSettings, data: DataInfo):
        super().__init__()
        self.settings = settings
        self.optimiser = getattr(settings, "optimiser", None)
        self.clusters = data.clusters

    def begin_step(self, step: int) -> None:
        """Called before every optimisation step, which are counted from 1.

        For what the host decides and no gradient flows through, so that `loss` can be compiled.
        """

    def loss(self, views: Views, generator: torch.Generator) -> Tensor:
        """The objective of one optimisation step, a scalar to minimise."""
        raise TypeError(f"{type(self).__name__} is not optimised")

    def fit(self, batches: Iterator[Views], seed: int) -> None:
        """Whatever comes after optimisation, for instance k-means on features.

        batches: the crop of every evaluated image (of every image where there are no labels).
        """

    def segment(self, views: Views) -> Tensor:
        """Cluster of every pixel: (B, H, W) int64 in 0..K-1 at the resolution of the input."""
        return self.segment_with_entropy(views)[0]

    def segment_with_entropy(self, views: Views) -> tuple[Tensor, Tensor | None]:
        """As `segment`, and the mean entropy of the class probabilities in units of log K.

        (B,) float in 0..1 (1 is undecided), or None for a method without probabilities.
        """
        raise TypeError(f"{type(self).__name__} does not segment")


def relative_entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy of class distributions in units of log K: (B, K, ...) → (B,) in 0..1."""
    entropy = torch.special.entr(probabilities).sum(1).flatten(1).mean(1)
    return entropy / math.log(max(2, probabilities.shape[1]))
