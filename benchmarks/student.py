"""What the package is measured against: the way a careful student would write it in an afternoon.

The networks are the same; everything around them is usual: decoded arrays in a Dataset, crops and
flips in its __getitem__, a DataLoader, channels first, float32, eager, Adam as it comes, Eq. 5's S
as a field of features, IIC's joint as its authors compute it, .item() of the loss at every step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from infoseg.data.batches import DeviceData
from infoseg.methods.base import Method
from infoseg.methods.information import information_loss
from infoseg.views import jittered_view


class Pictures(Dataset):
    """Decoded pictures, (H, W, C) uint8 each; a random crop, mirrored or not, at every access."""

    def __init__(self, data: DeviceData):
        self.pictures = [data.prepared.image(i) for i in range(len(data))]
        self.size, self.draw = data.size, np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> Tensor:
        picture = self.pictures[i]
        top, left = (self.draw.integers(side - self.size + 1) for side in picture.shape[:2])
        crop = picture[top : top + self.size, left : left + self.size]
        if self.draw.random() < 0.5:
            crop = crop[:, ::-1]
        return torch.from_numpy(crop.transpose(2, 0, 1).copy()).float() / 255


def infoseg_loss(local: Tensor, glob: Tensor, tau: float, factor: float) -> Tensor:
    """Eq. 8 as written, Eq. 5's S as a field of features; local (B, P, U, V), glob (B, K, P)."""
    scores = factor * torch.einsum("bpuv,bkp->bkuv", local, glob)
    assigned = torch.einsum("bkuv,bkp->bpuv", (tau * scores).softmax(1), glob)
    positive = factor * (local * assigned).sum(1)
    negative = factor * (local * assigned.roll(-1, 0)).sum(1)
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def iic_loss(first: Tensor, second: Tensor, displacement: int, weight: float) -> Tensor:
    """IIC's loss with its joint as published: one view convolved with the other, (B, K, H, W)."""
    sums = F.conv2d(first.transpose(0, 1), second.transpose(0, 1), padding=displacement)
    return information_loss(sums.permute(2, 3, 0, 1), weight)


def loss_of(method: Method, images: Tensor) -> Tensor:
    """InfoSeg's or IIC's loss of a batch."""
    if hasattr(method, "objective"):
        settings = method.objective
        return infoseg_loss(*method.network(images), settings.tau, settings.score_factor)
    settings = method.settings
    draws = torch.Generator(images.device).manual_seed(0)
    other, mirrored = jittered_view(images, settings.jitter, settings.flip, draws)
    first, second = (method.probabilities(view, method.head_a) for view in (images, other))
    second = torch.where(mirrored, second.flip(-1), second)
    return iic_loss(first, second, settings.displacement, settings.weight_a)


def training_step(
    method: Method, data: DeviceData, batch: int, workers: int
) -> Callable[[], float]:
    """One step of training; returns the loss, as a number."""
    pinned = {"pin_memory": data.device.type == "cuda", "persistent_workers": workers > 0}
    loader = DataLoader(
        Pictures(data), batch, shuffle=True, num_workers=workers, drop_last=True, **pinned
    )
    batches = (images for _ in iter(int, 1) for images in loader)
    adam = torch.optim.Adam(method.parameters(), lr=1e-4)
    method.train()

    def step() -> float:
        value = loss_of(method, next(batches).to(data.device))
        adam.zero_grad()
        value.backward()
        adam.step()
        return value.item()

    return step
