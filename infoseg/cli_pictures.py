"""Commands for one's own pictures: `segment`, `export`, and `train --images`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from infoseg.cli_data import add_command
from infoseg.files import ParamsError


def add_commands(commands, common: argparse.ArgumentParser) -> None:
    """Add `segment` and `export` to the command line's."""
    segment = add_command(
        commands,
        "segment",
        "segment pictures with trained weights",
        [],
        "Segment a picture, or every picture of a folder, with trained weights. Writes into OUT:\n"
        "NAME.png (cluster index with a palette) and NAME_overlay.png of every picture,\n"
        "contact_sheet.png, index.html (one file to look at or send) and signals.json.\n"
        "A picture that cannot be read is left out with a warning, and the exit status is 1.\n"
        "OUT may not hold other files: label maps made by hand are never overwritten.",
    )
    segment.add_argument("input", type=Path, help="a picture (JPEG, PNG, TIFF) or a folder of them")
    segment.add_argument("output", type=Path, help="folder to write to (made if missing)")
    segment.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="<seed>.safetensors of a run, or what `infoseg export` wrote; default: InfoSeg's of "
        "the demo, which come with the repository",
    )
    segment.add_argument(
        "--shorter-side",
        type=int,
        metavar="PIXELS",
        help="segment at this size, 0 for every picture's own (default: the size that the weights "
        "were trained at)",
    )
    segment.add_argument(
        "--labels",
        type=Path,
        metavar="FOLDER",
        help="measure with label maps named like the pictures: 8-bit PNGs of class numbers, 255 "
        "where unknown",
    )
    segment.add_argument(
        "--json", action="store_true", help="write coco.json, too: clusters as COCO's run lengths"
    )
    segment.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    export = add_command(
        commands,
        "export",
        "one file of a run's weights, with a model card, to hand on",
        [common],
        "Write a run's last weights as one safetensors file that `infoseg segment` needs nothing\n"
        "beside, and a model card FILE.md: data, licence, settings, accuracy by seed, limits.",
    )
    export.add_argument("run", help="<data set>-<method>-<seed>, e.g. outdoor-infoseg-0")
    export.add_argument(
        "--to", type=Path, metavar="FILE", help="default: RUN.safetensors in the present folder"
    )


def add_run_arguments(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Add what names a run. optional: there is another way to say what to do."""
    count = {"nargs": "?"} if optional else {}
    keys = "key under `{}` in the settings, e.g. {}"
    parser.add_argument("dataset", help=keys.format("datasets", "outdoor"), **count)
    parser.add_argument("method", help=keys.format("methods", "infoseg"), **count)
    parser.add_argument("--seed", type=int, help="one seed; default: those of the settings")


def check_run(options: argparse.Namespace) -> None:
    """Raise ParamsError unless `train` was told what to train, and on what."""
    if options.dataset is None or options.method is None:
        raise ParamsError(
            "train what? Name a data set and a method (infoseg train outdoor infoseg), or your "
            "own pictures (infoseg train --images FOLDER --classes K)"
        )
    for name in ("classes", "labels", "out", "steps", "minutes", "start"):
        if getattr(options, name) is not None:
            name = "from" if name == "start" else name
            raise ParamsError(f"--{name} goes with --images; other settings are changed with -S")


def add_own_pictures(train: argparse.ArgumentParser) -> None:
    """Add what `train` needs for a folder of pictures."""
    own = train.add_argument_group("a folder of your own pictures, instead of DATASET and METHOD")
    own.add_argument("--images", type=Path, metavar="FOLDER", help="JPEG, PNG and TIFF pictures")
    own.add_argument("--classes", type=int, metavar="K", help="how many classes to find, 2 or more")
    own.add_argument(
        "--labels", type=Path, metavar="FOLDER", help="label maps to measure with afterwards"
    )
    own.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="default: runs/own/<name>, or infoseg-runs/<name> outside a clone",
    )
    own.add_argument(
        "--minutes", type=float, metavar="M", help="of training, all starts together; default: 3"
    )
    own.add_argument(
        "--steps", type=int, metavar="N", help="of every start in place of minutes: the same again"
    )
    own.add_argument(
        "--from",
        dest="start",
        metavar="FILE",
        help="weights to start from, or `shipped`; default: a random start, as the paper",
    )


def train_own(options: argparse.Namespace) -> int:
    """`train --images`."""
    if options.dataset is not None:
        raise ParamsError(f"--images and the data set '{options.dataset}': choose one of them")
    if options.profile not in (None, "folder"):
        raise ParamsError("--images is for the profile 'folder': leave --profile out")
    if options.steps is not None and options.minutes is not None:
        raise ParamsError("--steps and --minutes: choose one of them")
    from infoseg.own_pictures import STARTS, train_on_folder

    first, starts = options.seed or 0, STARTS if options.restarts is None else options.restarts
    train_on_folder(
        options.images,
        options.classes,
        out=options.out,
        labels=options.labels,
        steps=options.steps,
        minutes=options.minutes,
        seeds=range(first, first + starts),
        start=options.start,
        overrides=options.overrides,
        tell=_tell,
    )
    return 0


def _tell(text: str) -> None:
    print(text, flush=True)


def run_segment(options: argparse.Namespace) -> int:
    from infoseg.segmentation import counted, report, segment_files

    done = segment_files(
        options.input,
        options.output,
        options.weights,
        options.shorter_side,
        options.device,
        options.labels,
        options.json,
        tell=_tell,
    )
    report(done, options.output, _tell)
    if done.left_out:
        print(f"infoseg: {counted(len(done.left_out))} left out", file=sys.stderr)
    return 1 if done.left_out else 0


def run_export(options: argparse.Namespace, project) -> int:
    from infoseg.export import card_path
    from infoseg.export_run import export_run

    written = export_run(project, options.run, options.to)
    print(written)
    print(card_path(written))
    return 0
