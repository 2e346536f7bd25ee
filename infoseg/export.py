"""Weights to hand on: one safetensors file that says all about itself, and its model card.

The file is a run's (`infoseg.weights`), and can be read as one. What its header says of the run has
three more keys: `export`, an `Export`, with a format version of its own; `model_card`, in Markdown;
`sha256`, over all tensors, since safetensors does not notice a changed byte in them. All of it is
one entry of the header, because safetensors writes several in an order that changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infoseg import __version__
from infoseg.files import DataError, write_whole
from infoseg.methods.base import Method
from infoseg.weights import Card, load_weights, save_weights

#: Of what an exported file says beside a run's weights; another one is refused.
EXPORT_FORMAT = 1
#: What `infoseg segment` uses unless told otherwise: InfoSeg as the demo trains it.
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "demo.safetensors"
_AGAIN = "Copy or download it again, or export the run again"
#: The Hugging Face Hub's names of licences, by how a card's own text begins.
_HUB_LICENCES = {"MIT": "mit", "CC BY 4.0": "cc-by-4.0", "CC BY-SA 4.0": "cc-by-sa-4.0"}


class Export(BaseModel):
    """What exported weights say beside the run's card.

    shorter_side: of the pictures trained on, in pixels, which new ones are brought down to; None
    for the side of the training's crops. cluster_names: the class each cluster was matched to with
    labels, or None without. data, licence: what it was trained on, and whose terms hold. pa: pixel
    accuracy in percent by seed, of this run and of its sisters. commit: of the code that trained
    it. signals: what was seen without labels, in sentences. start_agreement: of this start with
    others, see `infoseg.verdict.Signals`. started_from: name of the weights that training started
    from; None for a random start.
    """

    format: int
    title: str
    data: str
    licence: str
    images: int | None
    labelled: int | None
    shorter_side: int | None
    cluster_names: list[str | None] | None
    pa: dict[str, float]
    miou: float | None
    constant_pa: float | None
    commit: str | None
    signals: list[str]
    limits: list[str]
    start_agreement: float | None = None
    started_from: str | None = None


@dataclass(frozen=True)
class Weights:
    """Weights read back. export, text (the model card): None and "" for a plain run's."""

    method: Method
    card: Card
    export: Export | None
    text: str

    @property
    def shorter_side(self) -> int:
        """Pixels that the shorter side of a new picture is brought down to."""
        return (self.export and self.export.shorter_side) or self.card.crop

    def cluster_names(self) -> list[str]:
        """What to call the clusters: after their class, where labels said which."""
        known = self.export.cluster_names if self.export else None
        names = known or [None] * self.method.clusters
        return [f"cluster {k}" + (f" ({name})" if name else "") for k, name in enumerate(names)]


def read_weights(path: Path | None, device: torch.device) -> Weights:
    """Read exported weights, or a run's. None: the ones that come with the repository.

    Raises DataError for a missing, truncated, changed or foreign file, or another version's.
    """
    file = path or DEFAULT_WEIGHTS
    if not file.is_file():
        advice = (
            "Check the path; `infoseg export RUN` and `infoseg train --images` write such files"
            if path
            else "This copy comes without them: train your own (`infoseg train --images FOLDER "
            "--classes K`) and name them with --weights"
        )
        raise DataError("there are no weights", file=file, advice=advice)
    told = read_header(file)
    method, card = load_weights(file, device)
    if "export" not in told:
        return Weights(method, card, None, "")
    try:
        version = told["export"]["format"]
        if version != EXPORT_FORMAT:
            raise DataError(
                f"has export format {version}, this version reads {EXPORT_FORMAT}",
                file=file,
                advice="Use the version of infoseg that wrote it, or export the run again",
            )
        export = Export.model_validate(told["export"])
        text, claimed = str(told["model_card"]), told["sha256"]
        names = export.cluster_names
        if names is not None and len(names) != method.clusters:
            raise ValueError(f"{len(names)} names for {method.clusters} clusters")
    except (ValueError, LookupError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise DataError(f"has a damaged header ({problem})", file=file, advice=_AGAIN) from None
    if _digest(method.state_dict()) != claimed:
        raise DataError(
            "is damaged: its weights are not those that were exported", file=file, advice=_AGAIN
        )
    return Weights(method, card, export, text)


def read_header(file: Path) -> dict[str, Any]:
    """What a safetensors file of ours says of its run. Raises DataError for any other file."""
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"is truncated or no safetensors file ({error})", file=file, advice=_AGAIN
        ) from None
    if "infoseg" not in metadata:
        raise DataError(
            "holds weights of another program",
            file=file,
            advice="Name a file that `infoseg export` or a training of infoseg wrote",
        )
    try:
        told = json.loads(metadata["infoseg"])
        if not isinstance(told, dict):
            raise ValueError(f"a {type(told).__name__}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"has a damaged header ({error})", file=file, advice=_AGAIN) from None
    return told


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def export_weights(source: Path, to: Path, export: Export) -> Path:
    """Write a run's weights and their model card, `to` and the same name with .md after it.

    Raises DataError for weights that cannot be read, or that are the file to be written.
    """
    if to.exists() and os.path.samefile(source, to):
        raise DataError("is the run's own file", file=to, advice="Choose another name with --to")
    method, card = load_weights(source, torch.device("cpu"))
    numbers = sum(value.numel() for value in method.state_dict().values())
    return write_weights(Weights(method, card, export, model_card(export, card, numbers)), to)


def write_weights(weights: Weights, to: Path) -> Path:
    """Write weights as `read_weights` read them; exported ones with their model card beside them.

    Raises DataError unless `to` ends in .safetensors.
    """
    if to.suffix != ".safetensors":
        raise DataError("does not end in .safetensors", file=to, advice="Give the file such a name")
    card, export, text = weights.card, weights.export, weights.text
    state = weights.method.state_dict()
    if export is None:
        save_weights(to, state, card)
        return to
    tensors = {name: value.cpu().contiguous() for name, value in state.items()}
    # How this machine made them is of no use elsewhere.
    own = {"training", "prepared", "data", "fingerprint", "history"}
    told = card.model_dump(exclude=own) | {
        # A path of this machine.
        "settings": {k: None if k == "start" else v for k, v in card.settings.items()},
        "export": export.model_dump(),
        "model_card": text,
        "sha256": _digest(tensors),
    }
    metadata = {"infoseg": json.dumps(told)}

    def write(file: Path) -> None:
        save_file(tensors, file, metadata)
        file.chmod(0o644)  # safetensors lets nobody else read it

    write_whole(to, write)
    write_whole(card_path(to), lambda file: file.write_text(text, encoding="utf-8"))
    return to


def card_path(weights: Path) -> Path:
    return weights.with_name(weights.name + ".md")


def model_card(export: Export, card: Card, numbers: int) -> str:
    """The model card as Markdown: data, licence, settings, measured accuracy, limits.

    The front matter is the Hugging Face Hub's. Its `license` is `other` where the card's own text
    names more than one of the known licences, or none.
    """
    known = [name for name in _HUB_LICENCES if export.licence.startswith(name)]
    stated = re.sub(r"\(.*\)", "", export.licence)  # without credits
    hub = _HUB_LICENCES[known[0]] if known and ";" not in stated else "other"
    left_out = ("per_dataset", "paper_row", "start")  # the last is a path of one machine
    settings = {k: v for k, v in card.settings.items() if k not in left_out}
    counted = "" if export.images is None else f", {export.images:,} images"
    if export.labelled is not None:
        counted += f" ({export.labelled:,} labelled; training sees no label)"
    lines = [
        "---",
        f"license: {hub}",
        "library_name: infoseg",
        "pipeline_tag: image-segmentation",
        f"tags: [unsupervised, semantic-segmentation, mutual-information, {card.settings['kind']}]",
        "---",
        "",
        f"# {export.title}",
        "",
        f"Unsupervised semantic segmentation into {card.clusters} clusters, trained without labels "
        f"by `{card.method}` of the InfoSeg reproduction, {card.step:,} steps, seed {card.seed}; "
        f"{numbers:,} numbers in float32.",
        *(
            [f"Training started from other weights: {export.started_from}."]
            if export.started_from
            else []
        ),
        "",
        "## Data",
        "",
        f"- Trained on: {export.data}{counted}.",
        f"- Licence: {export.licence}.",
        f"- Input: {card.channels} channels of 8 bits; crops of {card.crop} px, of pictures "
        + (f"whose shorter side is {export.shorter_side} px." if export.shorter_side else "as is."),
        "",
        "## Accuracy",
        "",
    ]
    if export.pa:
        values = np.array(list(export.pa.values()))
        own = export.pa[str(card.seed)]
        listed = ", ".join(f"{value:.1f} (seed {seed})" for seed, value in export.pa.items())
        lines.append(
            f"- Pixel accuracy of these weights: {own:.1f} %, after one match of clusters with "
            "classes for the data set, which looks at labels."
        )
        spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
        lines.append(f"- All seeds: {listed}; mean {values.mean():.1f}{spread}.")
        if export.miou is not None:
            lines.append(f"- mIoU of these weights: {export.miou:.1f} %.")
        if export.constant_pa is not None:
            lines.append(f"- One constant answer would get {export.constant_pa:.1f} %.")
    else:
        lines.append("- Not measured: there are no labels, or the run was not evaluated.")
    names = export.cluster_names
    if names and any(names):
        told = ", ".join(f"{k}: {name or 'no class'}" for k, name in enumerate(names))
        lines.append(f"- Clusters by their matched class: {told}.")
    lines += [f"- {signal}" for signal in export.signals]
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in export.limits)]
    lines += ["", "## Settings", "", "```json", json.dumps(settings, indent=1), "```", ""]
    commit = export.commit or "unknown (no git checkout)"
    lines.append(f"Trained by commit {commit}; exported by infoseg {__version__}.")
    return "\n".join(lines) + "\n"


#: What holds of all of them.
LIMITS = [
    "Clusters have no meaning of their own; another seed finds others, in another order.",
    "Every pixel gets one of the clusters, also what the training pictures never showed.",
    "The network sees a picture at the scale given above; much smaller things are lost.",
    "Labels have a resolution of four pixels at that scale.",
]


def as_percent(evaluation: Mapping[str, Any]) -> float:
    """PA of a run's last weights, from its evaluation file."""
    return round(float(evaluation["last"]["pa"]), 2)
