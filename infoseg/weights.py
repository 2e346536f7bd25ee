"""A safetensors file that rebuilds its method; exported weights and their model card.

The header of a run's file holds a `Card`. That of an exported file has three more keys: `export`,
an `Export`; `model_card`, Markdown; `sha256` of all tensors, since safetensors does not notice a
changed byte in them. All of it is one entry, because safetensors writes several in any order.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from importlib import resources
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import yaml
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from infoseg import __version__
from infoseg.data.archives import naming
from infoseg.data.folder import read_about
from infoseg.data.store import load_prepared, sha256_of
from infoseg.files import DataError, in_clone, read_json, write_whole
from infoseg.machine import git_commit
from infoseg.methods.base import DataInfo, Method
from infoseg.methods.registry import METHODS
from infoseg.settings import (
    CocoScenesSource,
    Dataset,
    OfficialSource,
    PotsdamScenesSource,
    Run,
    SuperpixelSettings,
)

if TYPE_CHECKING:
    from infoseg.runs import Project

WEIGHTS_FORMAT = 5
#: Version of `Export`; another one is refused.
EXPORT_FORMAT = 1
#: What `infoseg segment` uses by default: InfoSeg as the demo trains it.
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "demo.safetensors"
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


class Export(BaseModel):
    """What exported weights say beside the run's card.

    shorter_side: of the pictures trained on, in pixels, which new ones are brought down to; None
    for the crop. cluster_names: the class each cluster was matched to with labels. data, licence:
    what it was trained on, and whose terms hold. pa: percent by seed, of this run and of others
    that differ in their seed alone. commit: of the code that trained it. signals: sentences.
    start_agreement: see `infoseg.verdict.Signals`. started_from: name of the weights that training
    started from; None for a random start.
    """

    format: int = EXPORT_FORMAT
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


class Weights(NamedTuple):
    """Weights read back. export, text (the model card): None and "" for a plain run's."""

    method: Method
    card: Card
    export: Export | None = None
    text: str = ""


# ---- reading -------------------------------------------------------------------------------------


def read_card(path: Path) -> Card:
    """Return what a weights file says of itself. Raises DataError as `read_weights`."""
    with _reading(path), safe_open(path, "pt") as file:
        return Card.model_validate(_header(file.metadata()))


def load_weights(path: Path, device: torch.device) -> tuple[Method, Card]:
    """Return `read_weights`'s method and card."""
    return read_weights(path, device)[:2]


def read_weights(path: Path | None, device: torch.device) -> Weights:
    """Rebuild a method from its weights, exported or a run's, in evaluation mode on `device`.

    path: None for the ones that come with infoseg. Raises DataError for a missing, damaged or
    foreign file, or one of another format version.
    """
    path = path or DEFAULT_WEIGHTS
    with _reading(path):
        with safe_open(path, "pt", device=str(device)) as file:
            header = _header(file.metadata())
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        card = Card.model_validate(header)
        if card.diverged:
            raise DataError(f"holds no weights: {card.diverged}", advice="Name another seed")
        # Before any memory is taken: a few bytes can claim a network of any size.
        with torch.device("meta"):
            claimed = card.build().state_dict()
        if {n: t.shape for n, t in claimed.items()} != {n: t.shape for n, t in state.items()}:
            raise ValueError("they are not of the network that they describe")
        method = card.build()
        method.load_state_dict(state)
        method = method.to(device).eval()
        if "export" not in header:
            return Weights(method, card)
        _check_format("export", header["export"]["format"], EXPORT_FORMAT)
        export = Export.model_validate(header["export"])
        if export.cluster_names and len(export.cluster_names) != method.clusters:
            raise ValueError(f"{len(export.cluster_names)} names for {method.clusters} clusters")
        if _digest(state) != header["sha256"]:
            raise ValueError("they are not those that were exported")
        return Weights(method, card, export, str(header["model_card"]))


def start_from(method: Method, path: Path) -> None:
    """Copy a file's weights into a method as far as they have its names and shapes.

    The statistics of colour stay the method's own: features are of standardised pictures. Raises
    DataError for a file that cannot be read, or one of another network or number of bands.
    """
    state = method.state_dict()
    given = load_weights(path, torch.device("cpu"))[0].state_dict()
    names = [name for name in state if name not in _COLOURS]
    fitting = {n: given[n] for n in names if n in given and given[n].shape == state[n].shape}
    # Block D has a row per class, and may be another.
    if missing := [n for n in names if n not in fitting and ".block_d." not in n]:
        raise DataError(
            f"is of another network or number of bands: {missing[0]} differs",
            file=path,
            advice="Start from weights of the same network, or from none",
        )
    method.load_state_dict(state | fitting)


def _header(metadata: dict[str, str] | None) -> dict[str, Any]:
    if not metadata or "infoseg" not in metadata:
        advice = "Name a file that `infoseg export` or a training of infoseg wrote"
        raise DataError("holds weights of another program", advice=advice)
    header = json.loads(metadata["infoseg"])
    _check_format("weights", header["format"], WEIGHTS_FORMAT)
    return header


def _check_format(what: str, stated: int, known: int) -> None:
    if stated != known:
        problem = f"has {what} format {stated}, this version reads {known}"
        advice = "Use the version of infoseg that wrote it, or train or export the run again"
        raise DataError(problem, advice=advice)


def _reading(path: Path) -> AbstractContextManager[None]:
    """Whatever is wrong with a weights file becomes a DataError that names it."""
    if not path.exists():
        advice = "Check the path; `infoseg train` and `infoseg export RUN` write such files"
        raise DataError("not found", file=path, advice=advice)
    advice = "Copy or download it again, or train or export the run again"
    with naming(path, "cannot be read as weights", advice), path.open("rb"):
        pass  # of a file it may not open safetensors says that it is not there
    return naming(path, "cannot be read as weights", advice)


# ---- writing -------------------------------------------------------------------------------------


def save_weights(path: Path, state: Mapping[str, Tensor], card: Card) -> None:
    """Write a run's weights."""
    _write(path, state, card.model_dump_json())


def export_weights(source: Path, to: Path, export: Export) -> Path:
    """Write a run's weights and their model card, `to` and the same name with .md after it.

    Raises DataError for weights that cannot be read, or that are the file to be written.
    """
    if to.exists() and os.path.samefile(source, to):
        raise DataError("is the run's own file", file=to, advice="Choose another name with --to")
    method, card = load_weights(source, torch.device("cpu"))
    return write_weights(Weights(method, card, export, model_card(export, card, method)), to)


def write_weights(weights: Weights, to: Path) -> Path:
    """Write weights as `read_weights` read them; exported ones with their model card beside them.

    Raises DataError as `check_target`.
    """
    check_target(to)
    card, export, state = weights.card, weights.export, weights.method.state_dict()
    if export is None:
        save_weights(to, state, card)
        return to
    # How and from which path this machine made them is of no use elsewhere.
    header = card.model_dump(exclude={"training", "prepared", "data", "fingerprint", "history"})
    header["settings"] = {k: None if k == "start" else v for k, v in card.settings.items()}
    header |= {"export": export.model_dump(), "model_card": weights.text, "sha256": _digest(state)}
    _write(to, state, json.dumps(header))
    write_whole(card_path(to), lambda file: file.write_text(weights.text, encoding="utf-8"))
    return to


def check_target(to: Path) -> None:
    """Raise DataError for a name that is none of weights, or where something else would be lost.

    Only weights that were exported are written over, and their model card as it was written.
    """
    if to.suffix != ".safetensors":
        raise DataError("does not end in .safetensors", file=to, advice="Give the file such a name")
    text, advice = "", "Choose another name, or move it"
    if to.exists():
        with suppress(DataError):
            text = read_weights(to, torch.device("cpu")).text
        if not text:
            raise DataError("is no export of infoseg's, and would be lost", file=to, advice=advice)
    with naming(card := card_path(to), "cannot be read", advice):
        if card.exists() and card.read_text(encoding="utf-8") != text:
            raise DataError("is not as an export wrote it, and would be lost", advice=advice)


def card_path(weights: Path) -> Path:
    """Return where the model card of exported weights lies."""
    return weights.with_name(weights.name + ".md")


def _write(path: Path, state: Mapping[str, Tensor], header: str) -> None:
    tensors = {name: value.cpu().contiguous() for name, value in state.items()}

    def write(file: Path) -> None:
        file.write_bytes(save(tensors, {"infoseg": header}))  # save_file lets nobody else read it

    write_whole(path, write)


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# ---- the model card ------------------------------------------------------------------------------

#: The Hugging Face Hub's names of licences, by how a card's own text begins.
_HUB_LICENCES = {"MIT": "mit", "CC BY 4.0": "cc-by-4.0", "CC BY-SA 4.0": "cc-by-sa-4.0"}
#: What holds of all of them.
LIMITS = [
    "Clusters have no meaning of their own; another seed finds others, in another order.",
    "Every pixel gets one of the clusters, also what the training pictures never showed.",
    "The network sees a picture at the scale given above; much smaller things are lost.",
    "Labels have a resolution of four pixels at that scale.",
]


def model_card(export: Export, card: Card, method: Method) -> str:
    """Return the model card as Markdown: data, licence, settings, measured accuracy, limits.

    The front matter is the Hugging Face Hub's. Its `license` is `other` where the card's own text
    names more than one of the known licences, or none.
    """
    known = [hub for name, hub in _HUB_LICENCES.items() if export.licence.startswith(name)]
    if ";" in re.sub(r"\(.*\)", "", export.licence):  # several; credits may hold one, too
        known = []
    images = "" if export.images is None else f", {export.images:,} images"
    if export.labelled is not None:
        images += f" ({export.labelled:,} labelled; training sees no label)"
    side = f"whose shorter side is {export.shorter_side} px" if export.shorter_side else "as is"
    started = f"\nTraining started from other weights: {export.started_from}."
    left_out = ("per_dataset", "paper_row", "start")  # the last is a path of one machine
    settings = {k: v for k, v in card.settings.items() if k not in left_out}
    accuracy = "\n- ".join(_accuracy(export, card.seed))
    limits = "\n- ".join(export.limits)
    return f"""\
---
license: {[*known, "other"][0]}
library_name: infoseg
pipeline_tag: image-segmentation
tags: [unsupervised, semantic-segmentation, mutual-information, {card.settings["kind"]}]
---

# {export.title}

Unsupervised semantic segmentation into {card.clusters} clusters, trained without labels by \
`{card.method}` of the InfoSeg reproduction, {card.step:,} steps, seed {card.seed}; \
{sum(value.numel() for value in method.state_dict().values()):,} numbers in float32.\
{started if export.started_from else ""}

## Data

- Trained on: {export.data}{images}.
- Licence: {export.licence}.
- Input: {card.channels} channels of 8 bits; crops of {card.crop} px, of pictures {side}.

## Accuracy

- {accuracy}

## Limits

- {limits}

## Settings

```json
{json.dumps(settings, indent=1)}
```

Trained by commit {export.commit or "unknown (no git checkout)"}; exported by infoseg {__version__}.
"""


def _accuracy(export: Export, seed: int) -> Iterator[str]:
    if pa := export.pa:
        yield (
            f"Pixel accuracy of these weights: {pa[str(seed)]:.1f} %, after one match of clusters "
            "with classes for the data set, which looks at labels."
        )
        seeds = ", ".join(f"{value:.1f} (seed {seed})" for seed, value in pa.items())
        spread = f" ± {stdev(pa.values()):.1f}" if len(pa) > 1 else ""
        yield f"All seeds: {seeds}; mean {mean(pa.values()):.1f}{spread}."
        if export.miou is not None:
            yield f"mIoU of these weights: {export.miou:.1f} %."
        if export.constant_pa is not None:
            yield f"One constant answer would get {export.constant_pa:.1f} %."
    else:
        yield "Not measured: there are no labels, or the run was not evaluated."
    if export.cluster_names:
        names = (f"{k}: {name or 'no class'}" for k, name in enumerate(export.cluster_names))
        yield f"Clusters by their matched class: {', '.join(names)}."
    yield from export.signals


# ---- what a project knows of a run ---------------------------------------------------------------

_RENDERED = CocoScenesSource | PotsdamScenesSource


def export_run(project: Project, name: str, to: Path | None = None) -> Path:
    """Write the last weights of a run of the project's profile, with their model card.

    name: <data set>-<method>-<seed>. to: default <name>.safetensors in the present folder. Raises
    DataError for a run that is not there, listing those that are.
    """
    paths = [p for p in sorted(project.runs.glob("*/*/*.safetensors")) if p.stem.isdecimal()]
    files = {"-".join(path.with_suffix("").parts[-3:]): path for path in paths}
    if name not in files:
        advice = f"There are: {', '.join(files)}" if files else "There is no run here yet"
        raise DataError("there is no such run", file=project.runs / name, advice=advice)
    dataset, method, seed = files[name].with_suffix("").parts[-3:]
    facts = describe_run(project, Run(dataset=dataset, method=method, seed=int(seed)))
    return export_weights(files[name], to or Path(f"{name}.safetensors"), facts)


def describe_run(project: Project, run: Run) -> Export:
    """Return the facts of a run: data, licence, accuracy by seed, what it is not good for."""
    weights = project.weights_path(run)
    card, dataset = read_card(weights), project.params.datasets[run.dataset]
    evaluations = _evaluations(project, run, card)
    own = evaluations.get(str(card.seed))
    if not own or own["made_with"].get("weights") != sha256_of(weights):
        # Those of the other seeds say nothing where this run was not evaluated itself.
        own, evaluations = None, {}
    last = own["last"] if own else {}
    folder = project.prepared(run.dataset)
    prepared = load_prepared(folder) if (folder / "meta.json").is_file() else None
    drawn = "Trained on drawn scenes, to show that everything works: expect little on photographs."
    rendered = isinstance(project.params.sources[dataset.source], _RENDERED)
    data, licence = _source(project, dataset)
    return Export(
        title=f"{card.settings['title']} on {dataset.title}, seed {card.seed}",
        data=data,
        licence=licence,
        images=len(prepared) if prepared else None,
        labelled=int(prepared.index["labelled"].sum()) if prepared else None,
        shorter_side=getattr(dataset, "shorter_side", None),
        cluster_names=[last["match"][str(k)] for k in range(card.clusters)] if own else None,
        pa={seed: round(float(e["last"]["pa"]), 2) for seed, e in evaluations.items()},
        miou=last.get("miou"),
        constant_pa=last.get("constant_pa"),
        # Outside a clone of this repository a commit would be another project's.
        commit=git_commit(project.root) if in_clone(project.root) else None,
        signals=[],
        limits=[drawn, *LIMITS] if rendered else LIMITS,
    )


def _evaluations(project: Project, run: Run, card: Card) -> dict[str, dict[str, Any]]:
    """Evaluations by seed of weights made like these, that did not diverge."""
    parts = ("settings", "training", "prepared", "data")
    evaluations = {}
    stems = [path.stem for path in project.weights_path(run).parent.glob("*.safetensors")]
    for seed in sorted(int(stem) for stem in stems if stem.isdecimal()):
        path = project.evaluation_path(run.model_copy(update={"seed": seed}))
        with suppress(DataError, LookupError, TypeError):  # it is not evaluated, or damaged
            evaluation = read_json(path, "evaluate")
            made_with = evaluation["made_with"]
            alike = all(made_with.get(part) == getattr(card, part) for part in parts)
            if alike and not evaluation["diverged"]:
                evaluations[str(seed)] = evaluation
    return evaluations


def _source(project: Project, dataset: Dataset) -> tuple[str, str]:
    """What a data set is, in words, and its licence."""
    source = project.params.sources[dataset.source]
    if isinstance(source, _RENDERED):
        drawn = "scenes drawn by `infoseg.data.scenes` of this repository, seed"
        licence = "MIT, that of the repository, for scenes and weights alike"
        return f"{dataset.title}: {drawn} {source.seed}", licence
    if isinstance(source, OfficialSource):
        official = (resources.files("infoseg.data") / "official.yaml").read_text(encoding="utf-8")
        files = yaml.safe_load(official)[source.group]
        licences = dict.fromkeys(file["licence"] for file in files)
        return f"{dataset.title}, the published files", "; ".join(licences)
    about = read_about(project.raw(dataset.source))
    unstated = "not stated; that of the pictures' owners holds for what is made of them"
    origin = f" ({about['source']})" if "source" in about else ""
    credit = f" ({about['attribution']})" if "licence" in about and "attribution" in about else ""
    return f"{dataset.title}, a folder of pictures{origin}", about.get("licence", unstated) + credit
