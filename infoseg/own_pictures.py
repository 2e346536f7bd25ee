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
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from infoseg.data.pictures import find_pictures, has_infrared, picture_size
from infoseg.data.prepare import available_cores, prepare
from infoseg.data.store import Prepared, load_prepared
from infoseg.export import DEFAULT_WEIGHTS, export_weights, read_weights
from infoseg.export_run import describe_run
from infoseg.files import (
    DataError,
    InfosegError,
    ParamsError,
    find_root,
    in_clone,
    make_folder,
    write_json,
)
from infoseg.machine import choose_device, reproducible
from infoseg.own_labels import Labels
from infoseg.results.palette import MAX_CLASSES
from infoseg.runs import Project
from infoseg.segmentation import (
    SMALLEST,
    Picture,
    Segmenter,
    duration,
    existing,
    pixels_of,
    report,
    segment_files,
    segment_picture,
)
from infoseg.selection import seed_agreements
from infoseg.settings import MethodSettings, Run, load_params
from infoseg.training import Optimisation
from infoseg.verdict import LOOKED_AT, Signals, look, spread, verdict

LOG = logging.getLogger(__name__)

DATASET, METHOD = "pictures", "infoseg"
#: Fewer pictures than this are a warning: a class has to be seen in several of them.
FEW = 20
#: Of `--from`: the weights that come with infoseg.
SHIPPED = "shipped"
#: Independent starts, and minutes for all of them together, unless something else is asked for.
STARTS, MINUTES = 5, 3.0


def train_on_folder(
    images: Path,
    classes: int | None,
    out: Path | None = None,
    labels: Path | None = None,
    steps: int | None = None,
    seeds: Sequence[int] = range(STARTS),
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    start: str | None = None,
    segment: bool = True,
    tell: Callable[[str], None] = print,
) -> Path:
    """Train InfoSeg on a folder of pictures and segment them; returns the weights' file.

    classes: K, 2 to 27. out: for weights.safetensors, its model card, signals.json, segmented/ and
    everything in between; default runs/own/<name> in the repository, infoseg-runs/<name> elsewhere.
    labels: folder of label maps named like the pictures, to measure with; training never sees them.
    minutes: of training, all starts together, which is resolved to a number of steps; default 3.
    steps: of every start, in place of minutes; on one machine, the same weights every time. seeds:
    one for each start, of which one is kept without labels, see `_choose`. start: weights
    to start from, a file or "shipped"; None for a random start, as the paper. overrides: of the
    profile's settings, Hydra's syntax. segment: write segmented/, label maps and a page. tell: is
    given what is going on.

    Raises ParamsError for settings that make no sense, DataError for pictures that cannot be used.
    """
    classes = _check_classes(classes)
    _check_length(steps, minutes)
    if not seeds:
        raise ParamsError("--restarts: at least 1")
    origin = _start(start)
    root = _repository()
    files = find_pictures(images)
    if len(files) < 2:
        raise _too_few(images, len(files))
    _check_labels(labels, files)
    place = root / "runs" / "own" if in_clone(root) else root / "infoseg-runs"
    out = (out or place / _name(images)).resolve()
    described = _described(images, files)
    if origin:
        described.append(f"methods.{METHOD}.start={_quoted(str(origin))}")
    profile = load_params(root, "folder", [*described, *overrides])
    project = Project(out, profile, root)
    # Anew every time: the folder may hold other pictures than before.
    prepare(profile.datasets[DATASET], [images], project.prepared(DATASET), DATASET)
    prepared = load_prepared(project.prepared(DATASET))
    count = len(prepared)
    if count < 2:
        raise _too_few(images, count)
    if count < FEW:
        tell(
            f"{count} pictures are few: what all of them share, and what only one shows, may be "
            f"told apart in place of classes. {FEW} or more are better; large ones can be cut up."
        )

    settings = profile.method(METHOD, DATASET)
    given = [*described, *fitting(prepared, classes, settings, profile.datasets[DATASET].crop)]
    given += overrides
    project = Project(out, load_params(root, "folder", given), root, make_missing=True)
    per_step = _seconds_per_step(project)
    if steps is minutes is None and any(f"{METHOD}.optimiser.steps" in o for o in overrides):
        steps = project.params.method(METHOD, DATASET).optimiser.steps
    if steps is None:
        steps = max(1, round(60 * (minutes or MINUTES) / per_step / len(seeds)))
    given.append(f"methods.{METHOD}.optimiser.steps={steps}")
    project.params = load_params(root, "folder", given)
    optimiser = project.params.method(METHOD, DATASET).optimiser
    bands = " of RGB and infrared" if prepared.meta.channels == 4 else ""
    tell(
        f"{count} pictures{bands}, {classes} classes: {len(seeds)} start{'s' * (len(seeds) > 1)} "
        f"of {steps} steps (the same again: --steps {steps}), {optimiser.batch} crops of "
        f"{optimiser.crop} px each, on {choose_device(project.params.training.device)}, "
        f"about {duration(steps * per_step * len(seeds))}"
    )
    project.train(DATASET, METHOD, seeds)
    run, signals = _choose(project, seeds)
    weights = _export(project, run, out, signals, start)
    tell(f"weights and model card: {weights}")
    if segment:
        done = segment_files(images, out / "segmented", weights, labels=labels, tell=tell)
        report(done, out / "segmented", tell)
    words = ["infoseg", "segment", "OTHER_PICTURES", "OUT", "--weights", str(weights)]
    tell(f"for other pictures: {shlex.join(words)}")
    return weights


def fit(
    pictures: str | os.PathLike[str] | Sequence[Picture],
    classes: int = 4,
    minutes: float = MINUTES,
    random_state: int = 0,
    steps: int | None = None,
    starts: int = STARTS,
    start: str | None = None,
) -> Segmenter:
    """Train InfoSeg on a folder, or a list, of pictures; files of the training are temporary.

    classes: K, 2 to 27. minutes: of training, resolved to a number of steps that depends on the
    machine and its load. steps: of every start, in place of minutes; on one machine, the same
    weights every time. random_state: decides the seeds of all starts. starts: how many, of
    which one is kept without labels. start: weights to start from, a file or "shipped". Raises
    ParamsError and DataError as `train_on_folder`.
    """
    _check_length(steps, minutes)
    with tempfile.TemporaryDirectory(prefix="infoseg-") as scratch:
        out = Path(scratch) / "out"
        if isinstance(pictures, str | os.PathLike):
            folder = Path(pictures).expanduser()
        else:
            folder = _as_folder(pictures, Path(scratch) / "pictures")
        weights = train_on_folder(
            folder,
            classes,
            out,
            steps=steps,
            seeds=range(random_state * starts, (random_state + 1) * starts),
            minutes=minutes,
            start=start,
            segment=False,
            tell=LOG.info,
        )
        return Segmenter(weights)


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


def _check_length(steps: int | None, minutes: float | None) -> None:
    if steps is not None and steps < 1:
        raise ParamsError(f"--steps is {steps}; it must be at least 1")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ParamsError(f"--minutes is {minutes}; it must be above 0")


def _start(start: str | None) -> Path | None:
    """The file that training starts from. Raises DataError for one that cannot be read."""
    if start is None:
        return None
    path = DEFAULT_WEIGHTS if start == SHIPPED else Path(start).expanduser().resolve()
    read_weights(path, torch.device("cpu"))
    return path


def _check_labels(folder: Path | None, files: Sequence[Path]) -> None:
    """Raise DataError for label maps that cannot be measured with: before training, not after."""
    if folder is None:
        return
    labels = Labels(folder, [file.stem for file in files], 1)
    for file in files:
        try:
            size = picture_size(file)
        except DataError:  # it is left out later
            continue
        labels.check(file.stem, size)
        labels.annotations.clear()


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


def _described(images: Path, files: Sequence[Path]) -> list[str]:
    """Return overrides of the profile that say which pictures these are.

    Infrared is kept where all pictures have it.
    """
    if (images / "images").is_dir():  # which the reader would take for the folder of pictures
        raise DataError(
            "holds a folder named images beside its pictures",
            file=images,
            advice="Name that one, or rename it",
        )
    return [
        f"training.threads={available_cores()}",
        f"sources.{DATASET}.path={_quoted(str(images.resolve()))}",
        f"datasets.{DATASET}.title={_quoted(_name(images))}",
        f"datasets.{DATASET}.channels={4 if all(map(_is_infrared, files)) else 3}",
        f"datasets.{DATASET}.on_bad_input=skip",
    ]


def _is_infrared(file: Path) -> bool:
    try:
        return has_infrared(file)
    except DataError:  # it is left out, and named, when its pixels are read
        return True


def fitting(prepared: Prepared, classes: int, settings: MethodSettings, crop: int) -> list[str]:
    """Overrides of the profile that the number and the size of the pictures ask for.

    No batch is larger than the number of pictures, since none may hold a picture twice; no crop is
    larger than the pictures, whose largest decides: smaller ones get a black border.
    """
    optimiser = settings.optimiser
    shorter = prepared.index[["height", "width"]].min(axis=1)
    crop = max(SMALLEST, min(crop, int(shorter.max())))
    place = f"methods.{METHOD}.optimiser"
    return [
        f"datasets.{DATASET}.clusters={classes}",
        f"datasets.{DATASET}.crop={crop}",
        f"{place}.batch={min(optimiser.batch, len(prepared))}",
        f"{place}.crop={min(optimiser.crop or crop, crop)}",
        "training.evaluations=0",
    ]


# ---- training ------------------------------------------------------------------------------------


def _seconds_per_step(project: Project) -> float:
    """Of a training's steps, measured on a method that is thrown away."""
    cell = project.cell(DATASET, METHOD, [0])
    with reproducible(cell.training, 0) as device:
        optimisation = Optimisation(cell.build(0), cell.data, cell.training, 0, "")
        times = []
        for _ in range(8):
            began = time.perf_counter()
            optimisation.advance()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


def _choose(project: Project, seeds: Sequence[int]) -> tuple[Run, Signals]:
    """The start to keep: the one whose labels changes of colour alter least.

    On 12 folders of 40 photographs, five starts each, this had 32.7 mIoU, the best start 34.8 and
    any one 28.1; on street photographs 37.5, 39.9 and 33.9 (results/own).
    """
    prepared = project.load(DATASET)
    places = sorted(spread(len(prepared), LOOKED_AT))
    pictures = [np.array(prepared.image(place)) for place in places]
    looks, runs = [], [Run(dataset=DATASET, method=METHOD, seed=seed) for seed in seeds]
    with reproducible(project.params.training) as device:
        for run in runs:
            method, _ = project.trained(run, device)
            segment = partial(segment_picture, method, shorter_side=None)
            looks.append(look(segment, pictures, method.clusters))
    signals = [each.signals for each in looks]
    best = int(np.argmax([each.jitter for each in signals]))
    agreements = seed_agreements([each.labels for each in looks])
    starts = agreements[best] if len(runs) > 1 else None
    return runs[best], replace(signals[best], starts=starts)


def _export(project: Project, run: Run, out: Path, signals: Signals, start: str | None) -> Path:
    """Write weights.safetensors and its model card, with what was seen without labels."""
    write_json(out / "signals.json", signals.as_dict())
    export = describe_run(project, run)
    facts = {"signals": verdict(signals).sentences(), "start_agreement": signals.starts}
    if start:
        facts["started_from"] = start if start == SHIPPED else Path(start).name
    return export_weights(
        project.weights_path(run), out / "weights.safetensors", export.model_copy(update=facts)
    )
