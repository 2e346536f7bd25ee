"""The pictures a run is shown by: eight chosen blind, the same ones for every method and seed, and
eight by rank, from the best segmented to the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from infoseg.errors import DataError
from infoseg.files import write_whole
from infoseg.methods import Method
from infoseg.views import IGNORE, DeviceData

COUNT = 8
#: Class id of pixels whose cluster has no class (when there are more clusters than classes).
UNMATCHED = 254


def class_ids(match: Sequence[str | None], classes: Sequence[str]) -> list[int]:
    """Class id of each cluster from the name it was matched to, 254 where it has none."""
    return [UNMATCHED if name is None else list(classes).index(name) for name in match]


class Examples:
    """images (N, S, S, C) uint8; predictions and annotations (N, S, S) uint8 class ids, 254 for
    clusters without a class, 255 where nobody annotated; accuracies (N,) the PA of each picture in
    percent for those chosen by rank, best first, NaN for those chosen blind; classes: their names.
    """

    FIELDS = ("images", "predictions", "annotations", "accuracies", "classes")

    def __init__(self, **arrays: np.ndarray):
        self.images, self.predictions, self.annotations, self.accuracies, self.classes = (
            arrays[name] for name in self.FIELDS
        )

    def chosen(self, by_rank: bool) -> Examples:
        """Those chosen by rank, or those chosen blind."""
        part = np.isnan(self.accuracies) != by_rank
        arrays = {name: getattr(self, name)[part] for name in self.FIELDS[:-1]}
        return Examples(**arrays, classes=self.classes)


def choose_items(data: DeviceData, count: int = COUNT) -> Tensor:
    """Images worth showing, (count,) indices: drawn with a fixed seed, blind to any result.

    Preferred are images at least half annotated with two classes of 5 % or more in the centre
    crop; an image of one flat label shows nothing.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.evaluated), generator=generator)[:400]
    items = data.evaluated[order.to(data.device)]
    annotation = data.annotation(data.centre(items)).flatten(1).long()
    shares = torch.zeros(len(items), 256, device=data.device)
    ones = torch.ones_like(annotation, dtype=torch.float32)
    shares.scatter_add_(1, annotation, ones / annotation.shape[1])
    good = (shares[:, IGNORE] <= 0.5) & ((shares[:, :IGNORE] >= 0.05).sum(1) >= 2)
    # A stable sort keeps the random order among the good ones and among the others.
    return items[(~good).int().argsort(stable=True)][:count]


@torch.no_grad()
def make_examples(
    method: Method,
    data: DeviceData,
    match: Sequence[str | None] | None,
    classes: Sequence[str],
    quantiles: Sequence[Mapping[str, Any]] = (),
) -> Examples:
    """Segment the chosen images.

    match: class name of each cluster, None where it has none; without a match predictions are
    cluster numbers. quantiles: of the evaluation, the pictures by rank.
    """
    items = choose_items(data)
    accuracies = np.full(len(items) + len(quantiles), np.nan)
    accuracies[len(items) :] = [picture["pa"] for picture in quantiles]
    ranked = torch.tensor([picture["item"] for picture in quantiles], dtype=torch.int64)
    items = torch.cat([items, data.evaluated[ranked.to(data.device)]])
    rows = data.centre(items)
    views = data.views(rows, items, mask=False)
    ids = list(range(method.clusters)) if match is None else class_ids(match, classes)
    labels = torch.tensor(ids, dtype=torch.uint8)[method.segment(views).cpu()]
    images = (views.images.permute(0, 2, 3, 1) * 255).round().byte()
    return Examples(
        images=images.cpu().numpy(),
        predictions=labels.numpy(),
        annotations=data.annotation(rows).cpu().numpy(),
        accuracies=accuracies,
        classes=np.array(list(classes)),
    )


def write_examples(path: Path, examples: Examples) -> None:
    arrays = {name: getattr(examples, name) for name in Examples.FIELDS}

    def write(file: Path) -> None:
        with file.open("wb") as stream:  # given a name, NumPy would append .npz to it
            np.savez(stream, **arrays)

    write_whole(path, write)


def read_examples(path: Path, stage: str) -> Examples:
    """Raises DataError naming the stage that makes them when they are not there or not whole."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Examples(**{name: arrays[name] for name in Examples.FIELDS})
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(
            f"cannot be read ({error})", file=path, advice=f"Run stage {stage}"
        ) from None
