"""A run on disk: weights with everything needed to use them, history, evaluation.

runs/<profile>/<data set>-<method>-<seed>/
    weights.safetensors   last weights
    best.safetensors      weights of the best evaluation, chosen with labels
    history.csv           loss and evaluations by step, no timings
    provenance.json       what ran where
    timing.json           seconds, images/s, memory: what differs from run to run
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infoseg.errors import DataError
from infoseg.files import write_whole
from infoseg.methods import METHODS, DataInfo, Method
from infoseg.params_data import SuperpixelSettings

WEIGHTS_FORMAT = 5


class Card(BaseModel):
    """What weights say about themselves: enough to rebuild the method and to name its clusters.

    superpixels: how to make them for new pictures, for a method that needs them. training: settings
    of the training; prepared: of the data set; data: SHA-256 of each prepared array; None in
    weights of an earlier version.
    """

    format: int
    dataset: str
    method: str
    seed: int
    step: int
    settings: dict[str, Any]
    clusters: int
    channels: int
    mean: list[float]
    std: list[float]
    crop: int
    classes: list[str]
    superpixels: SuperpixelSettings | None
    training: dict[str, Any] | None = None
    prepared: dict[str, Any] | None = None
    data: dict[str, str] | None = None

    def build(self) -> Method:
        """The method these weights belong to, freshly initialised."""
        kind = METHODS[self.settings["kind"]]
        info = DataInfo(self.clusters, self.channels, tuple(self.mean), tuple(self.std))
        return kind(kind.Settings.model_validate(self.settings), info)


def save_weights(path: Path, state: dict[str, Tensor], card: Card) -> None:
    tensors = {name: value.cpu().contiguous() for name, value in state.items()}
    metadata = {"infoseg": card.model_dump_json()}
    write_whole(path, lambda file: save_file(tensors, file, metadata))


def load_weights(path: Path, device: torch.device) -> tuple[Method, Card]:
    """Rebuild a method from its weights file, in evaluation mode on `device`.

    Raises DataError for a missing, damaged or foreign file, or one of another format version.
    """
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "infoseg" not in metadata:
            raise DataError("holds weights of another program", file=path)
        told = json.loads(metadata["infoseg"])
        if told["format"] != WEIGHTS_FORMAT:
            raise DataError(
                f"has weights format {told['format']}, this version reads {WEIGHTS_FORMAT}",
                file=path,
                advice="Use the version of infoseg that wrote it, or train this run again",
            )
        card = Card.model_validate(told)
        # Before any memory is taken: a few bytes can claim a network of any size.
        with torch.device("meta"):
            claimed = card.build().state_dict()
        if {n: t.shape for n, t in claimed.items()} != {n: t.shape for n, t in state.items()}:
            raise ValueError("they are not of the network that they describe")
        method = card.build()
        method.load_state_dict(state)
    except FileNotFoundError:
        raise DataError("not found", file=path, advice="Train this run first") from None
    except (
        SafetensorError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError,
        ArithmeticError, AssertionError, RecursionError,
    ) as error:  # fmt: skip
        problem = " ".join(str(error).split())
        raise DataError(
            f"cannot be read as weights ({problem})",
            file=path,
            advice="Train this run again, or copy it again",
        ) from None
    return method.to(device).eval(), card
