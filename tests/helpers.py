"""Small settings and small data sets that several tests build on."""

from __future__ import annotations

import copy
import operator
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from infoseg.data.batches import DeviceData
from infoseg.data.prepare import readers
from infoseg.data.store import Prepared, PreparedWriter, load_prepared
from infoseg.data.superpixels import superpixels as make_superpixels
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.registry import METHODS
from infoseg.settings import (
    KINDS,
    METHOD_SETTINGS,
    NetworkSettings,
    ObjectiveSettings,
    SuperpixelSettings,
    TrainingParams,
    compose,
    merge,
)
from infoseg.views import Sees, Views
from infoseg.weights import WEIGHTS_FORMAT, Card

CPU = torch.device("cpu")
ROOT = Path(__file__).parent.parent

#: What the settings of these tests have otherwise than the defaults, small enough for a test.
OBJECTIVE: dict[str, Any] = {"score_factor": 1.0, "marginal": "paired"}
NETWORK: dict[str, Any] = {"block_a": "cheap", "width": 0.05, "features": 16}
OPTIMISER: dict[str, Any] = {"steps": 10, "batch": 4, "learning_rate": 1e-3}
TRAINING: dict[str, Any] = {
    "device": "cpu",
    "precision": "float32",
    "evaluations": 2,
    "evaluation_batch": 4,
    "log_every": 5,
}
INFOSEG = {"network": NETWORK, "objective": OBJECTIVE, "optimiser": OPTIMISER}
FEATURES = {"width": 0.03, "pixels_per_image": 40, "passes": 5}
PATCH_PAIRS = FEATURES | {"sobel": True, "patch": 5, "head_width": 8, "optimiser": OPTIMISER}
# fmt: off
SETTINGS: dict[str, dict[str, Any]] = {
    "infoseg": INFOSEG,
    "iic_mi": INFOSEG | {"displacement": 1},
    "iic": dict(
        sobel=True, width=0.03, clusters_a=6, weight_b=1.5, displacement=1, turn=2,
        optimiser=OPTIMISER,
    ),
    "ac": dict(width=0.06, blocks=2, displacement=4, weight=1.5, optimiser=OPTIMISER),
    "doersch": PATCH_PAIRS,
    "isola": PATCH_PAIRS,
    "inmars": dict(
        sobel=True, width=0.03, entropy_weight=1.5, noise_weight=2.0, epsilon=1.0,
        spatial_weight=3.0, shift=2.0, grid=3, optimiser=OPTIMISER,
    ),
    "kmeans": {"pixels_per_image": 100, "passes": 10},
    "random_cnn": {"sobel": True, "width": 0.03},
    "random_cnn_kmeans": FEATURES | {"sobel": False},
}
# fmt: on
TRAINED = [kind for kind in METHODS if "optimiser" in SETTINGS[kind]]


def prepare_raw(kind: str, raw: Path | list[Path], out: Path, **more: Any) -> Prepared:
    """Prepare raw files with settings that nobody checked, so that they may be small."""
    known = KINDS[kind].model_fields
    settings = KINDS[kind].model_construct(**{k: v for k, v in more.items() if k in known})
    options = {key: value for key, value in more.items() if key not in known}
    readers()[kind](
        raw if isinstance(raw, list) else [raw], out, settings, **({"name": "set"} | options)
    )
    return load_prepared(out, verify=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objective(**changes: Any) -> ObjectiveSettings:
    return ObjectiveSettings(**OBJECTIVE | changes)


def network_settings(**changes: Any) -> NetworkSettings:
    return NetworkSettings(**NETWORK | changes)


def training(**changes: Any) -> TrainingParams:
    return TrainingParams(**TRAINING | changes)


def method_settings(kind: str, **changes: Any) -> dict[str, Any]:
    """All settings of a method, as weights state them; `changes` key by key."""
    head = {"title": kind, "paper_row": None}
    return merge(METHOD_SETTINGS[kind]().numbers() | head, merge(SETTINGS[kind], changes))


def data_info(clusters: int = 3, channels: int = 3) -> DataInfo:
    return DataInfo(clusters, channels, (0.4, 0.5, 0.6, 0.3)[:channels], (0.2,) * channels)


def build(kind: str, info: DataInfo | None = None, seed: int = 0, **changes: Any) -> Method:
    """A freshly initialised method."""
    torch.manual_seed(seed)
    method = METHODS[kind]
    settings = method.Settings.model_validate(method_settings(kind, **changes))
    return method(settings, info or data_info())


def card(kind: str, channels: int = 3, **changes: Any) -> Card:
    """What weights of a method say of themselves."""
    info = data_info(3, channels)
    facts = {"format": WEIGHTS_FORMAT, "dataset": "test", "method": kind, "seed": 0, "step": 10}
    facts |= {"clusters": 3, "channels": channels, "mean": info.mean, "std": info.std, "crop": 32}
    facts |= {"classes": ["a", "b", "c"], "superpixels": None, "settings": method_settings(kind)}
    return Card.model_validate(facts | changes)


def write_prepared(
    path: Path,
    images: list[np.ndarray],
    labels: list[np.ndarray | None],
    classes: int = 3,
    ids: list[str] | None = None,
    superpixels: SuperpixelSettings | None = None,
) -> Prepared:
    """A prepared data set of the given (H, W, C) images and (H, W) labels."""
    with PreparedWriter(
        path,
        name="test",
        channels=images[0].shape[2],
        classes=[f"class{i}" for i in range(classes)],
        parameters={},
        superpixels=superpixels,
    ) as writer:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            regions = None if superpixels is None else make_superpixels(image, superpixels)
            writer.add(ids[i] if ids else f"image{i}", image, label, "train", regions)
    return load_prepared(path)


def in_memory(images: list[np.ndarray], labels: list[np.ndarray]) -> Prepared:
    """What `write_prepared` gives, without a disk: for tests with hundreds of data sets."""
    heights, widths = zip(*(image.shape[:2] for image in images), strict=True)
    pixels = np.array(heights) * np.array(widths)
    index = pd.DataFrame(
        {
            "id": [f"image{i}" for i in range(len(images))],
            "offset": pixels.cumsum() - pixels,
            "height": heights,
            "width": widths,
            "labelled": True,
        }
    )
    return Prepared(
        path=Path("nowhere"),
        meta=SimpleNamespace(classes=["class0", "class1", "class2"], regions=0),
        index=index,
        images=np.concatenate([image.reshape(-1, image.shape[2]) for image in images]),
        labels=np.concatenate([label.ravel() for label in labels]),
        regions=None,
    )


def random_images(
    count: int, size: int = 32, channels: int = 3, classes: int = 3, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Noise images with noise labels."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (size, size, channels), np.uint8) for _ in range(count)]
    labels = [rng.integers(0, classes, (size, size), np.uint8) for _ in range(count)]
    return images, labels


def two_tone_images(count: int, size: int = 40) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images that are easy to learn: a bright and a dark half, divided at a random row."""
    rng = np.random.default_rng(1)
    images, labels = [], []
    for _ in range(count):
        label = np.zeros((size, size), np.uint8)
        label[rng.integers(size // 4, 3 * size // 4) :] = 1
        if rng.random() < 0.5:
            label = label.T.copy()
        tone = np.array([[40, 60, 50], [200, 180, 220]])[label]
        images.append((tone + rng.integers(-20, 21, tone.shape)).clip(0, 255).astype(np.uint8))
        labels.append(label)
    return images, labels


def device_data(path: Path, size: int = 32, **how: Any) -> DeviceData:
    """Noise images on the CPU, cropped to `size`."""
    count, sees = how.pop("count", 6), how.pop("sees", Sees())
    prepared = write_prepared(path, *random_images(count, size=size, **how))
    return DeviceData(prepared, size, CPU, sees)


def descend(method: Method, views: Views, generator: torch.Generator, steps: int) -> list[float]:
    """The losses of some steps of Adam on the same views."""
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        loss = method.loss(views, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def changed(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a tree with one dotted key set; `...` removes it."""
    tree = copy.deepcopy(tree)
    *parents, last = path.split(".")
    parent = reduce(operator.getitem, parents, tree)
    if value is ...:
        del parent[last]
    else:
        parent[last] = value
    return tree


def one_data_set(pictures: int) -> dict[str, Any]:
    """The tiny profile on COCO-Stuff-3 alone, as a tree: one ablation for either table."""
    tree = compose("tiny")
    name = "coco_stuff3"
    tree["profile"] |= {
        "sources": {"coco": "infoseg/data/scenes.py"},
        "datasets": [name],
        "inputs": {name: "coco"},
        "figure4": {"methods": ["infoseg"], "panels": {name: pictures}},
        "figures": {"dataset": name, "confusion": name},
        "ablations": {"dataset": name, "variants": ["iic_mi", "single"]},
    }
    return tree


class Columns(Method):
    """Labels by the column, or by brightness: nothing learnt, all known."""

    def __init__(self, by: str):
        torch.nn.Module.__init__(self)
        self.clusters = 2
        self.by = by

    def segment_with_entropy(self, views):
        images = views.images
        if self.by == "column":
            column = torch.arange(images.shape[-1]) >= images.shape[-1] // 2
            labels = column.long().expand(len(images), *images.shape[-2:])
        else:
            labels = (images.mean(1) > 0.5).long()
        return labels, torch.full((len(images),), 0.25)
