"""A safetensors file that rebuilds its method: weights, and a card that says how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infoseg.files import DataError, write_whole
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.registry import METHODS
from infoseg.settings import SuperpixelSettings

WEIGHTS_FORMAT = 5
#: Statistics of a data set's colours among a network's tensors.
_COLOURS = ("network.mean", "network.std")


class Card(BaseModel):
    """What weights say about themselves: enough to rebuild the method and to name its clusters.

    superpixels: how to make them for new pictures, for a method that needs them. training: settings
    of the training; prepared: of the data set; data: SHA-256 of each prepared array. fingerprint:
    of all that decides the weights' bytes. history: rows of history.csv. diverged: how the training
    did, and then the file holds no weights. None and empty in weights that are handed on.
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
    fingerprint: str = ""
    history: list[dict[str, Any]] = []
    diverged: str = ""

    def build(self) -> Method:
        """The method these weights belong to, freshly initialised."""
        kind = METHODS[self.settings["kind"]]
        info = DataInfo(self.clusters, self.channels, tuple(self.mean), tuple(self.std))
        return kind(kind.Settings.model_validate(self.settings), info)


def save_weights(path: Path, state: dict[str, Tensor], card: Card) -> None:
    tensors = {name: value.cpu().contiguous() for name, value in state.items()}
    metadata = {"infoseg": card.model_dump_json()}
    write_whole(path, lambda file: save_file(tensors, file, metadata))


def read_card(path: Path) -> Card:
    """What a weights file says of itself. Raises DataError as `load_weights`."""
    with _reading(path), safe_open(path, "pt") as file:
        return _card(path, file.metadata() or {})


def load_weights(path: Path, device: torch.device) -> tuple[Method, Card]:
    """Rebuild a method from its weights file, in evaluation mode on `device`.

    Raises DataError for a missing, damaged or foreign file, or one of another format version.
    """
    with _reading(path):
        with safe_open(path, "pt", device=str(device)) as file:
            card = _card(path, file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if card.diverged:
            raise DataError(f"holds no weights: {card.diverged}", file=path)
        # Before any memory is taken: a few bytes can claim a network of any size.
        with torch.device("meta"):
            claimed = card.build().state_dict()
        if {n: t.shape for n, t in claimed.items()} != {n: t.shape for n, t in state.items()}:
            raise ValueError("they are not of the network that they describe")
        method = card.build()
        method.load_state_dict(state)
    return method.to(device).eval(), card


def start_from(method: Method, path: Path) -> None:
    """Copy a file's weights into a method as far as they have its names and shapes.

    The statistics of colour stay the method's own: features are of standardised pictures. Raises
    DataError for a file that cannot be read, or one of another network or number of bands.
    """
    state = method.state_dict()
    given = load_weights(path, torch.device("cpu"))[0].state_dict()
    fitting = {
        name: value
        for name, value in given.items()
        if name in state and state[name].shape == value.shape and name not in _COLOURS
    }
    missing = [n for n in state if n not in fitting and n not in _COLOURS and ".block_d." not in n]
    if missing:
        raise DataError(
            f"is of another network or number of bands: {missing[0]} differs",
            file=path,
            advice="Start from weights of the same network, or from none",
        )
    method.load_state_dict(state | fitting)


def _card(path: Path, metadata: dict[str, str]) -> Card:
    if "infoseg" not in metadata:
        raise DataError("holds weights of another program", file=path)
    content = json.loads(metadata["infoseg"])
    if content["format"] != WEIGHTS_FORMAT:
        raise DataError(
            f"has weights format {content['format']}, this version reads {WEIGHTS_FORMAT}",
            file=path,
            advice="Use the version of infoseg that wrote it, or train this run again",
        )
    return Card.model_validate(content)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever is wrong with a weights file becomes a DataError that names it."""
    try:
        yield
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
