"""What InfoSeg is measured against: the way a careful student would write it in an afternoon.

The network is the same, Figure 3 at the paper's size; everything around it is usual: decoded
arrays in a Dataset, crops and flips in its __getitem__, a DataLoader, channels first, float32,
eager, Adam as it comes, S of Eq. 5 as a field of features like in the paper's text, and .item() of
the loss at every step. Evaluation is a loop over images, as many published ones are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from infoseg.data.batches import DeviceData
from infoseg.data.store import IGNORE
from infoseg.methods.base import Method
from infoseg.views import Views


class Pictures(Dataset):
    """Decoded pictures, (H, W, C) uint8 each; a random crop, mirrored or not, at every access."""

    def __init__(self, data: DeviceData):
        pixels, offset = data.pixels.cpu().numpy(), data.offset.tolist()
        shapes = zip(data.height.tolist(), data.width.tolist(), strict=True)
        self.pictures = [
            pixels[start : start + height * width].reshape(height, width, -1)
            for start, (height, width) in zip(offset, shapes, strict=True)
        ]
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


def loss(local: Tensor, glob: Tensor, tau: float, factor: float) -> Tensor:
    """Eq. 8 with V chosen anew for the other picture's H, every term as a field of features.

    local (B, P, U, V), glob (B, K, P).
    """

    def assigned(glob: Tensor) -> Tensor:
        scores = factor * torch.einsum("bpuv,bkp->bkuv", local, glob)
        return torch.einsum("bkuv,bkp->bpuv", (tau * scores).softmax(1), glob)

    positive = factor * (local * assigned(glob)).sum(1)
    negative = factor * (local * assigned(glob.roll(-1, 0))).sum(1)
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def training_step(
    method: Method, data: DeviceData, batch: int, workers: int
) -> Callable[[], float]:
    """One step of InfoSeg's training; returns the loss, as a number."""
    device, objective = data.device, method.objective
    loader = DataLoader(
        Pictures(data),
        batch,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )

    def endless() -> Iterator[Tensor]:
        while True:
            yield from loader

    batches = endless()
    adam = torch.optim.Adam(method.parameters(), lr=1e-4)
    method.train()

    def step() -> float:
        images = next(batches).to(device)
        local, glob = method.network(images)
        value = loss(local, glob, objective.tau, objective.score_factor)
        adam.zero_grad()
        value.backward()
        adam.step()
        return value.item()

    return step


@torch.no_grad()
def evaluate(method: Method, data: DeviceData) -> float:
    """PA in percent of all labelled pictures, one after the other."""
    method.eval()
    total = np.zeros((method.clusters, data.classes), dtype=np.int64)
    for item in data.evaluated.split(1):
        rows = data.centre(item)
        image = data.views(rows, item, mask=False).images.contiguous()
        found = method.segment(Views(image))[0].cpu().numpy().ravel()
        wanted = data.annotation(rows)[0].cpu().numpy().ravel()
        seen = wanted != IGNORE
        count = max(total.shape)
        table = confusion_matrix(wanted[seen], found[seen], labels=range(count))
        total += table.T[: total.shape[0], : total.shape[1]]
    rows, columns = linear_sum_assignment(total, maximize=True)
    return float(100 * total[rows, columns].sum() / total.sum())
