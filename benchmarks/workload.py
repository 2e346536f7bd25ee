"""The paper's settings on pictures of noise: what is trained and evaluated here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infoseg.data.store import PreparedWriter, load_prepared
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.registry import METHODS
from infoseg.settings import Params, TrainingParams, load_params
from infoseg.training import Optimisation
from infoseg.views import NOTHING, DeviceData, Sees

ROOT = Path(__file__).parent.parent


def paper_params(overrides: list[str] | None = None) -> Params:
    return load_params(ROOT, "paper", overrides or [])


def make_method(params: Params, name: str, dataset: str, device: torch.device) -> Method:
    """A method with its settings for a data set, from a fixed seed."""
    settings, data = params.method(name, dataset), params.datasets[dataset]
    channels = 4 if data.kind == "potsdam" else 3
    torch.manual_seed(0)
    info = DataInfo(data.clusters, channels, (0.5,) * channels, (0.25,) * channels)
    return METHODS[settings.kind](settings, info).to(device)


def make_data(
    params: Params,
    dataset: str,
    images: int,
    device: torch.device,
    sees: Sees = NOTHING,
    crop: int | None = None,
) -> DeviceData:
    """Noise of a data set's kind on the device, labelled with stripes; pictures are a quarter
    larger than the crop, superpixels squares of 10 px."""
    data = params.datasets[dataset]
    size = crop or data.crop
    channels, side = (4 if data.kind == "potsdam" else 3), size * 5 // 4
    draw = np.random.default_rng(0)
    labels = np.tile((np.arange(side) % data.clusters).astype(np.uint8), (side, 1))
    places = np.arange(side) // 10
    grid = (places[:, None] * (places[-1] + 1) + places).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        writer = PreparedWriter(
            Path(folder, "noise"),
            name="noise",
            channels=channels,
            classes=[f"class {i}" for i in range(data.clusters)],
            parameters={},
            superpixels=data.superpixels if sees.regions else None,
        )
        with writer:
            for i in range(images):
                picture = draw.integers(0, 256, (side, side, channels), dtype=np.uint8)
                writer.add(f"{i}", picture, labels, "train", grid if sees.regions else None)
        return DeviceData(load_prepared(writer.path), size, device, sees)


def optimisation(
    params: Params,
    name: str,
    dataset: str,
    device: torch.device,
    batch: int,
    crop: int | None = None,
    **training: Any,
) -> Optimisation:
    """A training at its first step, exactly as `infoseg train` makes it but for the batch."""
    method = make_method(params, name, dataset, device)
    method.optimiser = method.optimiser.model_copy(update={"batch": batch, "steps": 10**9})
    data = make_data(params, dataset, max(2 * batch, 8), device, method.sees, crop)
    settings: TrainingParams = params.training.model_copy(
        # Nothing is read in between: the loop's own way of logging is measured with the baseline.
        update={"log_every": 10**6, "recompute": device.type == "cuda"} | training
    )
    return Optimisation(method, data, settings, 0, name)
