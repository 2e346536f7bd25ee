"""What InfoSeg computes on the way from one image to its segmentation: L, H, V, S of section 4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infoseg.losses import class_probabilities, hard_assignment
from infoseg.methods.base import Method
from infoseg.methods.infoseg import InfoSeg
from infoseg.views import Views


@dataclass(frozen=True)
class Inside:
    """Everything between one image and its segmentation, on the CPU.

    image: (C, M, N) in 0..1. local: L, (P, U, V). glob: H, (K, P). scores: <L_ij, H_k> times
    `score_factor`, (K, U, V). probabilities: V of Eq. 3, (K, U, V). assigned: S, (P, U, V). All of
    these float32. labels: cluster of every pixel, (M, N) int64 in 0..K-1.
    """

    image: Tensor
    local: Tensor
    glob: Tensor
    scores: Tensor
    probabilities: Tensor
    assigned: Tensor
    labels: Tensor

    @property
    def picture(self) -> np.ndarray:
        """The image as figures take it: (M, N, 3) uint8, infrared left out."""
        rounded = (self.image[:3] * 255).round().clamp(0, 255).byte()
        return rounded.permute(1, 2, 0).contiguous().numpy()


@torch.no_grad()
def look_inside(method: Method, views: Views, item: int = 0) -> Inside:
    """Follow image number `item` of the views through the network in evaluation mode.

    S is what the method's own objective assigns: sum_k V_k H_k (Eq. 5), or, where it trains with
    hard assignment (Table 2), H of the arg max. It is the only place where S itself is computed.
    Raises ValueError for a method other than InfoSeg, which has none of these, and for an item
    that the views do not hold.
    """
    if not isinstance(method, InfoSeg):
        raise ValueError(f"{type(method).__name__} has no L, H, V and S: only InfoSeg does")
    if not 0 <= item < len(views.images):
        raise ValueError(f"item {item} is not among the {len(views.images)} images of the views")
    one = Views(views.images[item : item + 1].to(method.network.mean.device))
    was_training = method.training
    method.eval()
    try:
        local, glob = method.network(one.images)
        scores = method.scores(one.images)
        labels = method.segment(one)
    finally:
        method.train(was_training)
    objective = method.objective
    probabilities = class_probabilities(scores.flatten(2), objective.tau)
    hard = objective.assignment == "hard"
    weights = hard_assignment(scores.flatten(2)) if hard else probabilities
    assigned = glob.float().transpose(1, 2) @ weights
    grid = local.shape[-2:]

    def out(x: Tensor) -> Tensor:
        return x[0].float().cpu()

    return Inside(
        image=out(one.images),
        local=out(local),
        glob=out(glob),
        scores=out(scores),
        probabilities=out(probabilities.unflatten(-1, grid)),
        assigned=out(assigned.unflatten(-1, grid)),
        labels=labels[0].cpu(),
    )
