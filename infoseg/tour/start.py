"""Where the tour starts: a small data set, one picture of it, and a network nobody has trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infoseg.data.batches import DeviceData
from infoseg.diagnostics import choose_items
from infoseg.inspection import Inside, look_inside
from infoseg.machine import reproducible
from infoseg.methods.base import DataInfo
from infoseg.methods.infoseg import InfoSeg
from infoseg.methods.registry import METHODS
from infoseg.runs import Project
from infoseg.settings import TrainingParams


@dataclass(frozen=True)
class Tour:
    """A data set, a network and the picture that everything is shown on.

    method: InfoSeg, at first untrained; `watch` trains it in place, and every figure drawn after
    that is one of the trained network. data: the crops it sees. classes: their names. items (B,):
    the pictures looked at, the first of which is the one, the second its partner x' in Eq. 8;
    chosen blind to any result. training: precision, threads and the like. seed: of weights and
    crops.
    """

    method: InfoSeg
    data: DeviceData
    classes: Sequence[str]
    items: Tensor
    training: TrainingParams
    seed: int

    @classmethod
    def open(cls, profile: str, dataset: str = "coco_stuff3", seed: int = 0) -> Tour:
        """The tour of a profile's data set with the profile's InfoSeg; `tiny` renders the pictures.

        Raises ValueError for a data set of fewer than two pictures to look at.
        """
        project = Project.open(profile)
        settings = project.params.method("infoseg", dataset)
        meta, clusters = project.load(dataset).meta, project.params.datasets[dataset].clusters
        info = DataInfo(clusters, meta.channels, tuple(meta.mean), tuple(meta.std))
        with reproducible(project.params.training, seed) as device:
            method = METHODS[settings.kind](settings, info).to(device)
        data = project.crops(dataset, method)
        items = choose_items(data)
        if len(items) < 2:
            raise ValueError(f"{dataset}: Eq. 8 pairs two pictures, there are {len(items)}")
        return cls(method, data, meta.classes, items, project.params.training, seed)

    @property
    def inside(self) -> Inside:
        """L, H, V, S and the labels of the picture, as the network makes them now."""
        with reproducible(self.training, self.seed):
            return look_inside(self.method, self.data.views(*self._centre(), mask=False))

    @property
    def annotation(self) -> np.ndarray:
        """Class of every pixel of the picture, 255 where nobody annotated: (M, N) uint8."""
        return self.data.annotation(self._centre()[0])[0].cpu().numpy()

    @torch.no_grad()
    def features(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of all pictures looked at: images (B, C, M, N), L (B, P, U, V), H (B, K, P)."""
        was_training = self.method.training
        self.method.eval()
        with reproducible(self.training, self.seed):
            images = self.data.views(*self._centre(None), mask=False).images
            local, glob = self.method.network(images)
        self.method.train(was_training)
        return images.cpu(), local.float().cpu(), glob.float().cpu()

    def _centre(self, count: int | None = 1) -> tuple[Tensor, Tensor]:
        items = self.items[:count]
        return self.data.centre(items), items
