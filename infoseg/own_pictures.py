"""`infoseg train --images FOLDER --classes K`: from a folder of pictures to weights.

The pictures are prepared as the profile `folder` does; from there on it is a run like any other.
What fits the number and the size of the pictures is decided here; every other setting is the
profile's.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from infoseg.data.batches import centre_crops, evaluated_items
from infoseg.data.pictures import find_pictures, has_infrared
from infoseg.data.prepare import available_cores, prepare
from infoseg.data.store import Prepared, load_prepared
from infoseg.errors import DataError, InfosegError, ParamsError
from infoseg.export import export_weights
from infoseg.export_run import describe_run
from infoseg.files import find_root, in_clone, make_folder, write_json
from infoseg.machine import autocast, choose_device, choose_precision, reproducible
from infoseg.methods.base import DataInfo
from infoseg.methods.registry import METHODS
from infoseg.own_labels import Labels
from infoseg.restarts import train_restarts
from infoseg.results.palette import MAX_CLASSES
from infoseg.runs import Project
from infoseg.segmentation import SMALLEST, Picture, Segmenter, existing, pixels_of
from infoseg.segmented import duration
from infoseg.selection import agreement
from infoseg.settings import JitterSettings, MethodSettings, Run, load_params
from infoseg.training import Optimisation
from infoseg.views import Views, colour_jitter

LOG = logging.getLogger(__name__)

DATASET, METHOD = "pictures", "infoseg"
#: Fewer pictures than this are a warning: a class has to be seen in several of them.
FEW = 20
#: IIC's strengths, for the agreement between a picture and its jittered view.
JITTER = JitterSettings(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.125)


def train_on_folder(
    images: Path,
    classes: int | None,
    out: Path | None = None,
    labels: Path | None = None,
    steps: int | None = None,
    seeds: Sequence[int] = (0,),
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    tell: Callable[[str], None] = print,
) -> str:
    """Train InfoSeg on a folder of pictures; returns the command that segments with the weights.

    classes: K, 2 to 27. out: for weights.safetensors, its model card, signals.json and everything
    in between; default runs/own/<name> in the repository, infoseg-runs/<name> elsewhere. labels:
    folder of label maps named like the pictures, to measure with; training never sees them. steps:
    of optimisation; None for the profile's. seeds: several are compared without labels, and the one
    the others agree with most is kept. overrides: of the profile's settings, Hydra's syntax.
    minutes: as many steps as take that long here, in place of `steps`. tell: is given what is going
    on.

    Raises ParamsError for settings that make no sense, DataError for pictures that cannot be used.
    """
    classes = _check_classes(classes)
    if steps is not None and steps < 1:
        raise ParamsError(f"--steps is {steps}; it must be at least 1")
    if 1 < len(seeds) < 3:
        raise ParamsError("--restarts: two are too few to choose among, 3 or more")
    root = _repository()
    files = find_pictures(images)
    if len(files) < 2:
        raise _too_few(images, len(files))
    place = root / "runs" / "own" if in_clone(root) else root / "infoseg-runs"
    out = (out or place / _name(images)).resolve()
    described = _described(images, files, labels)
    profile = load_params(root, "folder", [*described, *overrides])
    project = Project(out, profile, root)
    # Anew every time: the folder may hold other pictures than before.
    prepare(profile.datasets[DATASET], [images], project.prepared(DATASET), DATASET)
    prepared = load_prepared(project.prepared(DATASET))
    if len(prepared) < 2:
        raise _too_few(images, len(prepared))

    settings = profile.method(METHOD, DATASET)
    fitted = fitting(prepared, classes, settings, profile.datasets[DATASET].crop, steps)
    given = [*described, *fitted, *overrides]
    project = Project(out, load_params(root, "folder", given), root, make_missing=True)
    per_step = _seconds_per_step(project)
    if minutes is not None:
        given.append(f"methods.{METHOD}.optimiser.steps={max(1, round(60 * minutes / per_step))}")
        project.params = load_params(root, "folder", given)
    optimiser = project.params.method(METHOD, DATASET).optimiser
    seconds = optimiser.steps * per_step
    count = len(prepared)
    if count < FEW:
        tell(
            f"{count} pictures are few: what all of them share, and what only one shows, may be "
            f"told apart in place of classes. {FEW} or more are better; large ones can be cut up."
        )
    device = choose_device(project.params.training.device)
    side = optimiser.crop or project.params.datasets[DATASET].crop
    bands = " of RGB and infrared" if prepared.meta.channels == 4 else ""
    many = f", {len(seeds)} seeds" if len(seeds) > 1 else ""
    tell(
        f"{count} pictures{bands}, {classes} classes: {optimiser.steps} steps of "
        f"{optimiser.batch} crops of {side} px{many} on {device}, "
        f"about {duration(seconds * len(seeds))}"
    )
    run, agreements = _train(project, seeds)
    if labels:
        for seed in seeds:
            found = project.evaluate(DATASET, METHOD, seed)["last"]
            tell(f"seed {seed}: PA {found['pa']:.1f}, mIoU {found['miou']:.1f} with the labels")
    signals = _signals(project, run, out, agreements)
    for sentence in signals:
        tell(sentence)
    weights = export_weights(
        project.weights_path(run),
        out / "weights.safetensors",
        describe_run(project, run).model_copy(update={"signals": signals}),
    )
    tell(f"weights and model card: {weights}")
    words = ["infoseg", "segment", str(images), str(out / "segmented"), "--weights", str(weights)]
    if labels:
        words += ["--labels", str(labels)]
    return f"now: {shlex.join(words)}"


def fit(
    pictures: str | os.PathLike[str] | Sequence[Picture],
    classes: int = 4,
    minutes: float = 3,
    random_state: int = 0,
    steps: int | None = None,
) -> Segmenter:
    """Train InfoSeg on a folder, or a list, of pictures; files of the training are temporary.

    classes: K, 2 to 27. minutes: of training, a number of steps that depends on the machine and its
    load. steps: their number in place of minutes; on one machine, the same weights every time.
    random_state: the seed. Raises ParamsError and DataError as `train_on_folder`.
    """
    if not minutes > 0:
        raise ParamsError(f"minutes is {minutes}; it must be above 0")
    with tempfile.TemporaryDirectory(prefix="infoseg-") as scratch:
        out = Path(scratch) / "out"
        if isinstance(pictures, str | os.PathLike):
            folder = Path(pictures).expanduser()
        else:
            folder = _as_folder(pictures, Path(scratch) / "pictures")
        how = {"steps": steps} if steps is not None else {"minutes": minutes}
        train_on_folder(folder, classes, out, seeds=(random_state,), tell=LOG.info, **how)
        return Segmenter(out / "weights.safetensors")


def _as_folder(pictures: Sequence[Picture], folder: Path) -> Path:
    """A folder of links to those pictures that are files, and of the others as PNGs."""
    make_folder(folder)
    for number, picture in enumerate(pictures):
        if isinstance(picture, str | os.PathLike):
            file = existing(picture)
            # What a file is its content says; a folder is searched by endings.
            (folder / f"{number:06d}-{file.stem}.png").symlink_to(file)
        else:
            Image.fromarray(pixels_of(picture, 3)).save(folder / f"{number:06d}.png")
    return folder


def example_pictures(count: int = 24) -> Path:
    """A folder of rendered scenes as PNGs, to try it out with: build/notebooks/pictures."""
    project = Project.open("tiny")
    prepared, folder = project.load("coco_stuff3"), project.folder / "pictures"
    make_folder(folder)
    for i in range(min(count, len(prepared))):
        Image.fromarray(prepared.image(i)).save(folder / f"scene-{i:02d}.png")
    return folder


def _repository() -> Path:
    """The clone worked in or, outside of one, the present folder."""
    try:
        root = find_root()
    except InfosegError:
        return Path.cwd()
    return root if in_clone(root) else Path.cwd()


def _check_classes(classes: int | None) -> int:
    if classes is None:
        raise ParamsError("--classes is missing: say how many classes to find, 2 or more")
    if classes < 2:
        raise ParamsError(
            f"--classes is {classes}: with fewer than two there is nothing to tell apart. Choose 2 "
            "or more"
        )
    if classes > MAX_CLASSES:
        raise ParamsError(f"--classes is {classes}; at most {MAX_CLASSES} can be shown apart")
    return classes


def _too_few(images: Path, count: int) -> DataError:
    return DataError(
        f"has {count} picture{'s' * (count != 1)} to train on, and InfoSeg learns by comparing "
        "pictures with each other",
        file=images,
        advice=f"Use at least 2, better {FEW} or more; a large picture can be cut into pieces",
    )


def _name(images: Path) -> str:
    """A folder's name as part of a path."""
    name = images.resolve().stem if images.is_file() else images.resolve().name
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in name) or "pictures"


def _quoted(text: str) -> str:
    """A value of Hydra's override syntax."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${") + "'"


def _described(images: Path, files: Sequence[Path], labels: Path | None) -> list[str]:
    """Return overrides of the profile that say which pictures these are.

    Infrared is kept where all pictures have it. Raises DataError for labels of none of them.
    """
    if (images / "images").is_dir():  # which the reader would take for the folder of pictures
        raise DataError(
            "holds a folder named images beside its pictures",
            file=images,
            advice="Name that one, or rename it",
        )
    overrides = [
        f"training.threads={available_cores()}",
        f"sources.{DATASET}.path={_quoted(str(images.resolve()))}",
        f"datasets.{DATASET}.title={_quoted(_name(images))}",
        f"datasets.{DATASET}.channels={4 if all(map(_is_infrared, files)) else 3}",
        f"datasets.{DATASET}.on_bad_input=skip",
    ]
    if labels:
        Labels(labels, [file.stem for file in files], 1)
        overrides.append(f"datasets.{DATASET}.labels={_quoted(str(labels.resolve()))}")
    return overrides


def _is_infrared(file: Path) -> bool:
    try:
        return has_infrared(file)
    except DataError:  # it is left out, and named, when its pixels are read
        return True


def fitting(
    prepared: Prepared, classes: int, settings: MethodSettings, crop: int, steps: int | None
) -> list[str]:
    """Overrides of the profile that the number and the size of the pictures ask for.

    No batch is larger than the number of pictures, since none may hold a picture twice; no crop is
    larger than the pictures, whose largest decides: smaller ones get a black border.
    """
    optimiser = settings.optimiser
    shorter = prepared.index[["height", "width"]].min(axis=1)
    crop = max(SMALLEST, min(crop, int(shorter.max())))
    place = f"methods.{METHOD}.optimiser"
    found = [
        f"datasets.{DATASET}.clusters={classes}",
        f"datasets.{DATASET}.crop={crop}",
        f"{place}.batch={min(optimiser.batch, len(prepared))}",
        f"{place}.crop={min(optimiser.crop or crop, crop)}",
        "training.evaluations=0",  # labels, if any, are looked at once, at the end
    ]
    if steps is not None:
        found.append(f"{place}.steps={steps}")
    if prepared.meta.classes and len(prepared.meta.classes) != classes:
        found.append(f"datasets.{DATASET}.over_clustering=true")
    return found


# ---- training ------------------------------------------------------------------------------------


def _seconds_per_step(project: Project) -> float:
    """Of a training's steps, measured on a method that is thrown away."""
    training = project.params.training
    settings = project.params.method(METHOD, DATASET)
    with reproducible(training, 0) as device:
        prepared = project.load(DATASET)
        meta = prepared.meta
        clusters = project.params.datasets[DATASET].clusters
        info = DataInfo(clusters, meta.channels, tuple(meta.mean), tuple(meta.std))
        method = METHODS[settings.kind](settings, info).to(device)
        data = project.crops(DATASET, method)
        optimisation = Optimisation(method, data, training, 0, "")
        times = []
        for _ in range(4):
            began = time.perf_counter()
            optimisation.advance()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


def _train(project: Project, seeds: Sequence[int]) -> tuple[Run, list[float]]:
    """The run to export, and how far each seed agrees with the others."""
    if len(seeds) > 1:
        return train_restarts(project, DATASET, METHOD, seeds)
    project.train(DATASET, METHOD, seeds)
    return Run(dataset=DATASET, method=METHOD, seed=seeds[0]), []


@torch.no_grad()
def _signals(project: Project, run: Run, out: Path, agreements: Sequence[float]) -> list[str]:
    """Write signals.json of the exported weights; returns what it says, in words.

    usage_entropy: of the shares of the clusters, in units of log K. flip_agreement,
    jitter_agreement: between a picture's labels and those of its mirrored or jittered view, beyond
    chance.
    """
    training = project.params.training
    with reproducible(training, 0) as device:
        method, _ = project.trained(run, device)
        data = project.crops(DATASET, method)
        generator = torch.Generator(device).manual_seed(0)
        precision = choose_precision(training.precision, device)
        plain, mirrored, jittered = [], [], []
        # All pictures where none is labelled.
        for views in centre_crops(data, evaluated_items(data), training.evaluation_batch, False):
            jitter = colour_jitter(views.images, JITTER, generator)
            with autocast(device, precision):
                plain.append(method.segment(views))
                mirrored.append(method.segment(Views(views.images.flip(-1))).flip(-1))
                jittered.append(method.segment(Views(jitter)))
    labels, mirrored, jittered = (
        torch.cat(part).cpu().numpy() for part in (plain, mirrored, jittered)
    )
    usage = np.bincount(labels.ravel(), minlength=method.clusters) / labels.size
    entropy = -sum(share * math.log(share) for share in usage if share)
    signals: dict[str, Any] = {
        "usage_entropy": entropy / math.log(max(2, method.clusters)),
        "flip_agreement": agreement(labels, mirrored, method.clusters),
        "jitter_agreement": agreement(labels, jittered, method.clusters),
    }
    sentences = [
        f"Without labels: clusters are used evenly to {100 * signals['usage_entropy']:.0f} %; "
        f"labels agree by {signals['flip_agreement']:.2f} with those of mirrored pictures and by "
        f"{signals['jitter_agreement']:.2f} after changes of colour (0 is chance, 1 equal)."
    ]
    if agreements:
        signals["seed_agreements"] = list(agreements)
        listed = ", ".join(f"{value:.2f}" for value in agreements)
        sentences.append(f"Seeds agree with the others by {listed}; the best one is kept.")
    write_json(out / "signals.json", signals)
    return sentences
