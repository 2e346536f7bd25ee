"""`infoseg train --images FOLDER --classes K`: from a folder of pictures to weights.

The pictures are prepared as the profile `folder` does; from there on it is a run like any other.
What fits the number and the size of the pictures is decided here; every other setting is the
profile's.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from infoseg.data.pictures import find_pictures, has_infrared, picture_size
from infoseg.data.prepare import available_cores, prepare
from infoseg.data.store import load_prepared
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
from infoseg.results.palette import MAX_CLASSES
from infoseg.runs import Project
from infoseg.segmentation import (
    SMALLEST,
    Labels,
    Picture,
    Segmenter,
    existing,
    pixels_of,
    segment_files,
    segment_picture,
)
from infoseg.settings import Run, compose, parse_params
from infoseg.training import Optimisation
from infoseg.verdict import LOOKED_AT, Signals, agreement, look, spread, verdict
from infoseg.weights import DEFAULT_WEIGHTS, describe_run, export_weights, read_weights

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
    classes: int,
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
    _check(classes, steps, minutes, len(seeds))
    name = re.sub(r"[^\w-]", "_", images.resolve().name) or DATASET
    if (images / "images").is_dir():  # which the profile's reader would take, too
        images = images / "images"
    files = find_pictures(images)
    _check_count(images, len(files))
    sizes = {}
    for file in files:
        with suppress(DataError):  # it is left out, and named, when its pixels are read
            sizes[file] = picture_size(file)
    if labels:  # looked at before training, not after
        maps = Labels(labels, files)
        for file, size in sizes.items():
            maps.read(file.stem, size)
    try:
        root = find_root()
    except InfosegError:
        root = Path.cwd()
    place = root / "runs" / "own" if in_clone(root) else Path.cwd() / "infoseg-runs"
    out = (out or place / name).resolve()

    section = f"datasets.{DATASET}"
    infrared = all(map(has_infrared, sizes))
    tree = compose("folder", [
        f"training.threads={available_cores()}", "training.evaluations=0",
        f"{section}.channels={4 if infrared else 3}", f"{section}.on_bad_input=skip",
        f"{section}.clusters={classes}", *overrides,
    ])  # fmt: skip
    tree["sources"][DATASET]["path"] = str(images.resolve())
    dataset, method = tree["datasets"][DATASET], tree["methods"][METHOD]
    dataset["title"] = name
    if start:
        method["start"] = str(DEFAULT_WEIGHTS if start == SHIPPED else existing(start))
        read_weights(Path(method["start"]), torch.device("cpu"))

    def opened() -> Project:
        return Project(out, parse_params(tree, "profile folder"), root, make_missing=True)

    # Anew every time: the folder may hold other pictures than before.
    project = opened()
    prepare(project.params.datasets[DATASET], [images], project.prepared(DATASET), DATASET)
    prepared = load_prepared(project.prepared(DATASET))
    count = len(prepared)
    _check_count(images, count)
    if count < FEW:
        tell(
            f"{count} pictures are few: what all of them share, and what only one shows, may be "
            f"told apart in place of classes. {FEW} or more are better; large ones can be cut up."
        )

    # No batch may hold a picture twice. The largest picture decides the crop: smaller ones get a
    # black border.
    shorter = int(prepared.index[["height", "width"]].min(axis=1).max())
    dataset["crop"] = max(SMALLEST, min(dataset["crop"], shorter))
    optimiser = method["optimiser"]
    optimiser["batch"] = min(optimiser["batch"], count)
    optimiser["crop"] = min(optimiser["crop"] or dataset["crop"], dataset["crop"])
    project = opened()
    per_step = _seconds_per_step(project)
    if not (steps or minutes) and any(f"{METHOD}.optimiser.steps" in text for text in overrides):
        steps = optimiser["steps"]
    steps = steps or max(1, round(60 * (minutes or MINUTES) / per_step / len(seeds)))
    optimiser["steps"] = steps
    project = opened()
    tell(
        f"{count} pictures{' of RGB and infrared' if infrared else ''}, {classes} classes: "
        f"{len(seeds)} start{'s' * (len(seeds) > 1)} of {steps} steps (the same again: --steps "
        f"{steps}), {optimiser['batch']} crops of {optimiser['crop']} px each, on "
        f"{choose_device(project.params.training.device)}, about "
        f"{max(1, round(steps * per_step * len(seeds)))} s"
    )
    project.train(DATASET, METHOD, seeds)
    run, signals = _choose(project, seeds)
    write_json(out / "signals.json", signals.as_dict())
    facts = {"signals": verdict(signals).sentences, "start_agreement": signals.starts}
    if start:
        facts["started_from"] = Path(start).name
    export = describe_run(project, run).model_copy(update=facts)
    weights = export_weights(project.weights_path(run), out / "weights.safetensors", export)
    tell(f"weights and model card: {weights}")
    if segment:
        segment_files(images, out / "segmented", weights, labels=labels, tell=tell)
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
    with tempfile.TemporaryDirectory(prefix="infoseg-") as scratch:
        if isinstance(pictures, str | os.PathLike):
            folder = Path(pictures).expanduser()
        else:
            folder = _as_folder(pictures, Path(scratch) / "pictures")
        weights = train_on_folder(
            folder,
            classes,
            Path(scratch) / "out",
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


def _check(classes: int, steps: int | None, minutes: float | None, starts: int) -> None:
    if not 2 <= classes <= MAX_CLASSES:
        raise ParamsError(f"--classes is {classes}; choose 2 to {MAX_CLASSES}")
    for name, value in (("--steps", steps), ("--minutes", minutes), ("--restarts", starts)):
        if value is not None and not 0 < value < np.inf:
            raise ParamsError(f"{name} is {value}; it must be above 0")


def _check_count(images: Path, count: int) -> None:
    if count < 2:
        raise DataError(
            f"has {count} picture{'s' * (count != 1)} to train on, and InfoSeg learns by comparing "
            "pictures with each other",
            file=images,
            advice=f"Use at least 2, better {FEW} or more; a large picture can be cut into pieces",
        )


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
    pictures = [np.array(prepared.image(i)) for i in spread(len(prepared), LOOKED_AT)]
    runs, looks = [Run(dataset=DATASET, method=METHOD, seed=seed) for seed in seeds], []
    with reproducible(project.params.training) as device:
        for run in runs:
            method, _ = project.trained(run, device)
            segment = partial(segment_picture, method, shorter_side=None)
            looks.append(look(segment, pictures, method.clusters))
    best = int(np.argmax([each.signals.jitter for each in looks]))
    signals, labels, _ = looks.pop(best)
    starts = [agreement(labels, each.labels, signals.clusters, match=True) for each in looks]
    return runs[best], signals._replace(starts=float(np.mean(starts)) if starts else None)
