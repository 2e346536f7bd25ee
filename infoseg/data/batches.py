"""Batches made on the device: crops, flips, with no loop over images.

The whole data set lies on the device as one flat array of pixels. A crop is an index computation:
for every pixel of every crop, the row of the flat array it comes from, mirrored where the crop is
flipped. One gather then reads the batch, already in channels-last order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoseg.data.store import IGNORE, Prepared, halves
from infoseg.files import DataError, ParamsError
from infoseg.views import NOTHING, Sees, Views


class DeviceData:
    """A prepared data set on the device, and the crops of it.

    size: side of a crop in pixels. sees: what views hold beside the images; superpixels, which take
    two bytes per pixel, are on the device only if asked for.
    Raises DataError when superpixels are asked for and the data set was prepared without.
    """

    def __init__(self, prepared: Prepared, size: int, device: torch.device, sees: Sees = NOTHING):
        self.prepared = prepared
        self.size = size
        self.device = device
        #: Number of annotated classes.
        self.classes = len(prepared.meta.classes)
        # One row more than there are pixels, black and not annotated: what lies outside an image.
        self.outside = len(prepared.images)
        self.pixels = _with_last(prepared.images, 0).to(device)
        self.labels = _with_last(prepared.labels, IGNORE).to(device)
        self.sees = sees
        self.region_count = prepared.meta.regions if sees.regions else 0
        if sees.regions:
            if prepared.regions is None:
                raise DataError(
                    "was prepared without superpixels",
                    file=prepared.path,
                    advice="Set datasets.*.superpixels and prepare it again",
                )
            # The same 16 bits as a signed type: PyTorch indexes no unsigned one on every device.
            self.regions = _with_last(prepared.regions.view(np.int16), self.region_count).to(device)
        index = prepared.index
        self.offset, self.height, self.width = (
            torch.tensor(index[column].to_numpy(), dtype=torch.int64, device=device)
            for column in ("offset", "height", "width")
        )
        #: Images that training sees.
        self.trained = torch.arange(len(index), device=device)
        labelled = torch.tensor(index["labelled"].to_numpy(), dtype=torch.bool)
        self.labelled = labelled.to(device)
        #: Images that evaluation looks at: those with labels.
        self.evaluated = labelled.nonzero()[:, 0].to(device)

    def __len__(self) -> int:
        return len(self.offset)

    def choosing_half(self) -> DeviceData:
        """The same data, of which training and evaluation see the chosen one of the `halves`."""
        index, half = self.prepared.index, copy.copy(self)
        chosen = torch.from_numpy(halves(index["id"].tolist(), index["group"].tolist()))
        half.trained = chosen.nonzero()[:, 0].to(self.device)
        half.evaluated = self.evaluated[chosen.to(self.device)[self.evaluated]]
        return half

    def _rows(
        self, items: Tensor, top: Tensor, left: Tensor, size: int, flip: Tensor | None = None
    ) -> Tensor:
        """Row of `pixels` for every pixel of the crops, (B, S, S) int64; the last one outside."""
        span = torch.arange(size, device=self.device)
        x = span.expand(len(items), -1)
        if flip is not None:
            x = torch.where(flip[:, None], size - 1 - x, x)
        y = top[:, None] + span
        x = left[:, None] + x
        height, width = self.height[items, None], self.width[items, None]
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
        rows = self.offset[items, None, None] + y[:, :, None] * width[:, :, None] + x[:, None, :]
        return torch.where(inside, rows, self.outside)

    def centre(self, items: Tensor) -> Tensor:
        """Rows of the centre crops: what evaluation sees (IIC's protocol)."""
        top = (self.height[items] - self.size).div(2, rounding_mode="floor")
        left = (self.width[items] - self.size).div(2, rounding_mode="floor")
        return self._rows(items, top, left, self.size)

    def random(
        self, items: Tensor, generator: torch.Generator, flip: bool, size: int | None = None
    ) -> Tensor:
        """Rows of crops at random places, mirrored with probability one half if `flip`.

        size: side of the crops, that of evaluation's where it is None. Images smaller than the crop
        stand in its centre, with zeros around them.
        """
        size = size or self.size
        draws = torch.rand(3, len(items), generator=generator, device=self.device)
        top, left = (
            torch.where(
                side >= size,
                # float64 so that the product cannot round up to the first place outside.
                (draw.double() * (side - size + 1)).long(),
                (side - size).div(2, rounding_mode="floor"),
            )
            for draw, side in zip(draws[:2], (self.height[items], self.width[items]), strict=True)
        )
        return self._rows(items, top, left, size, draws[2] < 0.5 if flip else None)

    def views(self, rows: Tensor, items: Tensor, mask: bool | None = None) -> Views:
        """Read the crops. mask: false keeps the mask from a method that otherwise sees it."""
        pixels = _take(self.pixels, rows)
        # (B, S, S, C) permuted is (B, C, S, S) in channels-last memory: no copy.
        images = pixels.permute(0, 3, 1, 2).float().div_(255)
        annotated = regions = None
        if self.sees.mask if mask is None else mask:
            # A training image without labels has nothing marked as ignored (Potsdam's unlabelled
            # tiles, which the authors' code uses unmasked).
            annotated = _take(self.labels, rows) != IGNORE
            annotated |= ~self.labelled[items, None, None] & (rows < self.outside)
        if self.sees.regions:
            regions = _take(self.regions, rows).long() & 0xFFFF
        return Views(images, annotated, regions, self.region_count)

    def annotation(self, rows: Tensor) -> Tensor:
        """Labels of the crops, (B, S, S) uint8, 255 where ignored or outside the image."""
        return _take(self.labels, rows)


def _with_last(values: np.ndarray, last: int) -> Tensor:
    """A copy of (N, ...) with one row more, filled with `last`."""
    return torch.from_numpy(np.concatenate([values, np.full_like(values[:1], last)]))


def _take(values: Tensor, rows: Tensor) -> Tensor:
    """values[rows], by the function that does it three times as fast on a CPU."""
    return values.index_select(0, rows.flatten()).view(*rows.shape, *values.shape[1:])


class TrainingBatches:
    """Endless batches of random crops, each epoch in a fresh random order.

    crop: their side, or None for that of the crops evaluation looks at. The incomplete last batch
    of an epoch is dropped, so that no batch holds an image twice: a pair of an image with itself
    would be a false negative in Eq. 8.
    Raises DataError when there are fewer images than a batch needs, ParamsError for a crop larger
    than evaluation's.
    """

    def __init__(
        self,
        data: DeviceData,
        batch: int,
        flip: bool,
        generator: torch.Generator,
        crop: int | None = None,
    ):
        if crop and crop > data.size:
            raise ParamsError(
                f"optimiser.crop is {crop}, larger than the data set's crop, {data.size}"
            )
        self.images = data.trained
        if len(self.images) < batch:
            raise DataError(
                f"optimiser.batch is {batch}, but there are only {len(self.images)} images: choose "
                f"a batch of at most {len(self.images)}"
            )
        self.data, self.batch, self.flip, self.crop = data, batch, flip, crop
        self.generator = generator
        #: This epoch's order of `images`, and how many of them were taken.
        self.order = self.images[:0]
        self.taken = 0

    def __iter__(self) -> TrainingBatches:
        return self

    def __next__(self) -> Views:
        if self.taken + self.batch > len(self.order):
            count = len(self.images)
            self.order = torch.randperm(count, generator=self.generator, device=self.data.device)
            self.taken = 0
        items = self.images[self.order[self.taken : self.taken + self.batch]]
        self.taken += self.batch
        rows = self.data.random(items, self.generator, self.flip, self.crop)
        return self.data.views(rows, items)

    def state(self) -> dict[str, Any]:
        """Where the sampler is; the generator's state is its owner's to keep."""
        return {"order": self.order, "taken": self.taken}

    def restore(self, state: dict[str, Any]) -> None:
        self.order, self.taken = state["order"].to(self.data.device), state["taken"]


def centre_crops(
    data: DeviceData, items: Tensor, batch: int, mask: bool | None = None
) -> Iterator[Views]:
    """The centre crops of these images, in order. mask: see `DeviceData.views`."""
    for part in items.split(batch):
        yield data.views(data.centre(part), part, mask)


def evaluated_crops(data: DeviceData, batch: int) -> Iterator[Views]:
    """The crops evaluation looks at, in order, without their labels: what `Method.fit` sees.

    Where nothing is labelled, the centre crops of all images.
    """
    return centre_crops(data, evaluated_items(data), batch)


def evaluated_items(data: DeviceData) -> Tensor:
    """Images that evaluation looks at, or all that training sees where nothing is labelled."""
    return data.evaluated if len(data.evaluated) else data.trained
