"""`infoseg …`: the steps of the pipeline without DVC or a kernel, and one's own pictures."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from infoseg import __version__
from infoseg.files import (
    DataError,
    InfosegError,
    ParamsError,
    TrainingError,
    find_root,
    is_out_of_memory,
    memory_advice,
    read_json,
    visible,
)

if TYPE_CHECKING:
    from infoseg.data.store import Prepared
    from infoseg.runs import Project
    from infoseg.settings import Params

#: Notebooks that write results/<profile>: `infoseg report` runs them in its own process.
RESULTS = ("04_tables", "05_figures", "06_report")

EXAMPLES = """
Settings come from params.yaml (the demo), or with --profile from infoseg/conf; -S changes one.

  infoseg prepare outdoor                            prepare one data set of the demo
  infoseg train outdoor infoseg --seed 1             train one run
  infoseg train street infoseg --profile photographs -S methods.infoseg.optimiser.steps=3000
  infoseg train --images ~/holiday --classes 4       train on your own pictures
"""


def _path(text: str) -> Path:
    if not text:  # of a variable that is not set; it would be the present folder
        raise argparse.ArgumentTypeError("a path is empty")
    return Path(os.path.expanduser(text))  # a shell leaves `--images=~/holiday` as it is


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 10 or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0 to 2^32 - 1")
    return int(text)


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text} is not auto, cpu, cuda or cuda:N")
    return text


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="infoseg",
        description="Unsupervised semantic segmentation by mutual-information maximisation.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"infoseg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, settings: bool = True) -> argparse.ArgumentParser:
        help = text.partition("\n")[0]
        command = commands.add_parser(name, help=help, description=text, formatter_class=raw)
        if settings:
            profile = "compose infoseg/conf/profile/NAME.yaml instead of params.yaml"
            setting = "one setting, e.g. methods.infoseg.optimiser.steps=3000 (repeatable)"
            repeated = {"action": "append", "default": [], "dest": "overrides"}
            group = command.add_argument_group("settings")
            group.add_argument("--profile", metavar="NAME", help=profile)
            group.add_argument("-S", metavar="KEY=VALUE", help=setting, **repeated)
        return command

    def add_run(command: argparse.ArgumentParser, **count: str) -> None:
        keys = "key under `{}` in the settings, e.g. {}"
        command.add_argument("dataset", help=keys.format("datasets", "outdoor"), **count)
        command.add_argument("method", help=keys.format("methods", "infoseg"), **count)
        command.add_argument("--seed", type=_whole, help="one seed; default: those of the settings")

    def add_options(
        group: argparse._ActionsContainer, *options: tuple[str, type, str, str]
    ) -> None:
        for flag, kind, metavar, text in options:
            group.add_argument(flag, type=kind, metavar=metavar, help=text)

    data = add(
        "data",
        "say what is there of the data sets, and whether it is whole; fetch raw files\n\n"
        "One line for every source and data set of the profile; reads every prepared byte. The\n"
        "exit status is 0 if all data sets are prepared.\n\n"
        "With `fetch`, as the stages data@… do: find the raw files in the folder that INFOSEG_RAW\n"
        "names, download what is missing and may be downloaded (resumed after an interruption,\n"
        "verified), or render those of `tiny`. The other sources go on when one fails.",
    )
    data.add_argument("verb", nargs="?", choices=["fetch"])
    data.add_argument("sources", nargs="*", help="keys under `sources`; default: the profile's")
    prepare = add(
        "prepare",
        "raw files to prepared arrays\n\n"
        "Render or find the raw files a data set needs, and read them by its protocol into\n"
        "prepared/<profile>/<data set>: images.bin, labels.bin, index.csv, meta.json.",
    )
    keys = "keys under `datasets`; default: the profile's"
    prepare.add_argument("datasets", nargs="*", help=keys)

    train = add(
        "train",
        "train one method on one data set, or InfoSeg on a folder of pictures\n\n"
        "Train on random crops of all images, without labels, and write\n"
        "runs/<profile>/<data set>/<method>/: <seed>.safetensors, history.csv, run.json. Without\n"
        "--seed, all seeds of the settings. A training that was killed goes on where it was.\n\n"
        "With --images FOLDER --classes K, train InfoSeg on your own pictures, segment them, and\n"
        "say whether that came out well.",
    )
    add_run(train, nargs="?")
    add_options(
        train.add_argument_group("a folder of your own pictures, instead of DATASET and METHOD"),
        ("--images", _path, "FOLDER", "JPEG, PNG, TIFF, WebP … pictures"),
        ("--classes", int, "K", "how many classes to find, 2 or more"),
        ("--labels", _path, "FOLDER", "to measure with: PNGs of class numbers, 255 where unknown"),
        ("--out", _path, "FOLDER", "default: runs/own/<name>, or infoseg-runs/<name> elsewhere"),
        ("--minutes", float, "M", "of training, all starts together; default: 3"),
        ("--steps", _whole, "N", "of every start in place of minutes: the same again"),
        ("--restarts", _whole, "N", "starts, with seeds from --seed on; default: 5"),
        ("--from", str, "FILE", "weights to start from, or `shipped`; default: a random start"),
    )
    evaluate = add(
        "evaluate",
        "match clusters to classes and measure one run\n\n"
        "Segment the centre crop of every labelled image, match clusters to classes once for the\n"
        "data set (Hungarian method), and print PA and mIoU; everything else goes to\n"
        "runs/<profile>/evaluations/<data set>/<method>-<seed>.json.",
    )
    add_run(evaluate)
    add("tables", "write results/<profile>/tables, and print Table 1")
    add("report", "write results/<profile>: tables, figures, report.html; make what is missing")

    segment = add(
        "segment",
        "segment pictures with trained weights\n\n"
        "Segment a picture, or every picture of a folder, with trained weights. Writes into OUT:\n"
        "NAME.png (cluster index with a palette) and NAME_overlay.png of every picture,\n"
        "contact_sheet.png, index.html (one file to look at or send) and signals.json.\n"
        "A picture that cannot be read is left out with a warning, and the exit status is 1.\n"
        "OUT may not hold other files: label maps made by hand are never overwritten.",
        settings=False,
    )
    segment.add_argument("input", type=_path, help="a picture, or a folder of them")
    segment.add_argument("output", type=_path, help="folder to write to (made if missing)")
    add_options(
        segment,
        ("--weights", _path, "FILE", "of a run or an export; default: InfoSeg's of the demo"),
        ("--shorter-side", _whole, "PIXELS", "to segment at; 0: as is; default: as in training"),
        (
            "--labels",
            _path,
            "FOLDER",
            "measure with PNGs of class numbers, 255 where unknown",
        ),
        ("--device", _device, "NAME", "auto, cpu, cuda or cuda:N"),
    )
    rle = "write coco.json, too: clusters as COCO's run lengths"
    segment.add_argument("--json", action="store_true", help=rle)

    export = add(
        "export",
        "one file of a run's weights, with a model card, to hand on\n\n"
        "Write a run's last weights as one safetensors file that `infoseg segment` needs nothing\n"
        "beside, and a model card FILE.md: data, licence, settings, accuracy by seed, limits.",
    )
    export.add_argument("run", help="<data set>-<method>-<seed>, e.g. outdoor-infoseg-0")
    target = "default: RUN.safetensors in the present folder"
    export.add_argument("--to", type=_path, metavar="FILE", help=target)
    add("params", "print the settings as YAML, after validation")
    add("list", "list data sets and methods of the settings, and the profiles there are")
    script = 'print a script that completes these commands: eval "$(infoseg completion bash)"'
    add("completion", script, settings=False).add_argument("shell", choices=["bash", "zsh"])
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors are one line, without a traceback."""
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is None:  # closed, `>&-`
            setattr(sys, name, open(os.devnull, "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names in any alphabet
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        status = _run(options, parser)
        sys.stdout.flush()  # while an error can still be caught
        return status
    except BrokenPipeError:  # `infoseg list | head -1`: end as Unix tools do, without a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except InfosegError as error:
        print(f"infoseg: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # what no reader or writer of ours has named
        problem = f"{error.filename or 'the output'}: {error.strerror or error}"
        print(f"infoseg: {visible(problem)}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(type(error).__name__, str(error)):
            raise
        problem = (str(error) or "memory ran out").splitlines()[0].rstrip(".")
        print(f"infoseg: {problem}. {memory_advice()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"infoseg: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    command = options.command
    if command == "completion":
        try:
            import shtab
        except ImportError:
            raise InfosegError("completion needs shtab: `pip install shtab`") from None
        print(shtab.complete(parser, options.shell))
        return 0
    if command == "segment":
        return _segment(options)
    if command == "train":
        if options.images:
            return _train_own(options)
        own = ("classes", "labels", "out", "minutes", "steps", "restarts", "from")
        if options.method is None:
            raise ParamsError(
                "train what? Name a data set and a method (infoseg train outdoor infoseg), or your "
                "own pictures (infoseg train --images FOLDER --classes K)"
            )
        if given := [name for name in own if getattr(options, name) is not None]:
            raise ParamsError(
                f"--{given[0]} goes with --images; other settings are changed with -S"
            )
    from infoseg.settings import compose, load_params

    try:
        root = find_root()
    except InfosegError:
        if command not in ("list", "params"):
            raise
        root, options.profile = Path.cwd(), options.profile or "demo"
    params = load_params(root, options.profile, options.overrides)
    if command == "list":
        _list(params)
        return 0
    if command == "params":
        # With a profile as DVC would write it.
        profile = options.profile
        tree = compose(profile, options.overrides) if profile else params.model_dump()
        print(yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=100), end="")
        return 0
    if command in ("data", "prepare"):  # without torch
        from infoseg.data.prepare import ProjectData as Project
    else:
        from infoseg.runs import Project
    project = Project(root, params, root, make_missing=True, overrides=options.overrides)
    if command == "data":
        return data_status(project) if options.verb is None else _fetch(project, options.sources)
    if command == "prepare":
        for dataset in options.datasets or params.profile.datasets:
            prepared = project.prepare(dataset)
            labelled = int(prepared.index["labelled"].sum())
            print(f"{dataset}: {len(prepared)} images, {labelled} labelled: {prepared.path}")
    elif command == "train":
        _train(project, options)
    elif command == "evaluate":
        _evaluate(project, options)
    elif command == "export":
        from infoseg.weights import card_path, export_run

        written = export_run(project, options.run, options.to)
        print(written, card_path(written), sep="\n")
    else:
        _write_results(project, options, RESULTS[:1] if command == "tables" else RESULTS)
    return 0


# ---- own pictures --------------------------------------------------------------------------------


def _tell(text: str) -> None:
    """Print; where that is no longer possible (`infoseg train … | head`), the work goes on."""
    try:
        print(visible(text), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _segment(options: argparse.Namespace) -> int:
    from infoseg.own import segment_files

    result = segment_files(
        options.input,
        options.output,
        options.weights,
        options.shorter_side,
        options.device or "auto",
        options.labels,
        options.json,
        tell=_tell,
    )
    return 1 if result.left_out else 0


def _train_own(options: argparse.Namespace) -> int:
    from infoseg.own import STARTS, train_on_folder

    if options.dataset:
        raise ParamsError(f"--images and the data set '{options.dataset}': choose one of them")
    if options.profile not in (None, "folder"):
        raise ParamsError("--images is for the profile 'folder': leave --profile out")
    if options.steps is not None and options.minutes is not None:
        raise ParamsError("--steps and --minutes: choose one of them")
    if options.classes is None:
        raise ParamsError("--classes is missing: say how many classes to find, 2 or more")
    first, starts = options.seed or 0, STARTS if options.restarts is None else options.restarts
    train_on_folder(
        options.images,
        options.classes,
        out=options.out,
        labels=options.labels,
        steps=options.steps,
        minutes=options.minutes,
        seeds=range(first, first + starts),
        start=getattr(options, "from"),
        overrides=options.overrides,
        tell=_tell,
    )
    return 0


# ---- runs and results ----------------------------------------------------------------------------


def _train(project: Project, options: argparse.Namespace) -> None:
    seeds = None if options.seed is None else [options.seed]
    folder = project.train(options.dataset, options.method, seeds)
    print(folder)
    for seed, message in read_json(folder / "run.json", "train")["diverged"].items():
        if options.seed in (None, int(seed)):
            raise TrainingError(message)


def _evaluate(project: Project, options: argparse.Namespace) -> None:
    from infoseg.diagnostics import signs

    seeds = project.params.method(options.method, options.dataset).seeds
    stripes = project.trivial(options.dataset)["equal stripes"]["pa"]
    for seed in seeds if options.seed is None else [options.seed]:
        evaluation = project.evaluate(options.dataset, options.method, seed)
        if evaluation["diverged"]:
            print(evaluation["diverged"])
            continue
        last, start, best = (evaluation[name] for name in ("last", "start", "best"))
        course = f"at the start {start['pa']:.1f}, " if start else ""
        print(
            f"seed {seed}, step {last['step']}: PA {last['pa']:.1f}, mIoU {last['miou']:.1f} "
            f"({course}best {best['pa']:.1f} at step {best['step']}, chosen with labels)"
        )
        for sentence in signs(last, stripes_pa=stripes):
            print(f"sign of failure: {sentence}")


def _write_results(project: Project, options: argparse.Namespace, names: Sequence[str]) -> None:
    """Run notebooks that write results/<profile>, in this process, and print Table 1."""
    parameters = {"profile": options.profile or "", "overrides": options.overrides, "folder": "."}
    sets = map(project.load, project.params.profile.datasets)
    if names == RESULTS and not any(prepared.index["labelled"].any() for prepared in sets):
        return _show(project)
    try:
        from infoseg.pipeline import execute, page

        for name in names:
            notebook = execute(project.root / "notebooks" / f"{name}.ipynb", parameters)
        print((project.results / "tables" / "table1.md").read_text(encoding="utf-8"))
        if names == RESULTS:
            page(notebook, project.results / "report.html")
            print(project.results / "report.html")
    except ImportError as error:
        raise InfosegError(f"{error}: `pip install 'infoseg[pipeline]'`") from None


def _show(project: Project) -> None:
    """Where there are no labels: train what is missing, and make a page of every run's clusters."""
    from infoseg.own import segment_files

    print("There are no labels to measure with: a page of segmented pictures for every run, no PA")
    for run in project.params.runs():
        weights = project.weights_path(run)
        if not weights.exists():
            project.train(run.dataset, run.method)
        dataset = project.params.datasets[run.dataset]
        raw = project.raw(dataset.source)
        pictures = raw / "images" if (raw / "images").is_dir() else raw
        side, out = getattr(dataset, "shorter_side", None), project.results / "pages" / run.key
        segment_files(pictures, out, weights, side, project.params.training.device, tell=_tell)


# ---- data sets -----------------------------------------------------------------------------------


def _list(params: Params) -> None:
    """Print the data sets, the methods and the profiles."""
    from infoseg.settings import CONF  # deferred, as all that costs time

    row = "{:22}{:52}{:>9}{:>12}".format
    print(row("data set", "title", "clusters", "crop in px"))
    for key, dataset in params.datasets.items():
        print(row(key, dataset.title, dataset.clusters, dataset.crop))
    print("\n" + row("method", "title", "seeds", "steps"))
    for key in params.method_names:
        settings = params.method(key, params.profile.datasets[0])
        optimiser = getattr(settings, "optimiser", None)
        seeds = len(settings.seeds) if key in params.profile.methods else ""
        print(row(key, settings.title, seeds, optimiser.steps if optimiser else ""))
    print(f"\n{'profile':22}description")
    for file in sorted((CONF / "profile").glob("*.yaml")):
        profile = yaml.safe_load(file.read_text(encoding="utf-8"))["profile"]
        print(f"{file.stem:22}{profile['description']}")


def _fetch(project: Project, sources: Sequence[str]) -> int:
    """Run `data fetch`; returns the exit status."""
    failed = 0
    for source in sources or project.params.profile.sources:
        try:
            print(f"{source}: {project.make_raw(source)}")
        except DataError as error:
            print(f"infoseg: {source}: {error}", file=sys.stderr)
            failed = 1
    return failed


def data_status(project: Project) -> int:
    """Print a line for every source and data set; returns the exit status of `data`."""
    profile = project.params.profile
    for source in profile.sources:
        print(visible(f"{source}: {_source_status(project, source)}"))
    texts = [_dataset_status(project, name) for name in profile.datasets]
    for name, text in zip(profile.datasets, texts, strict=True):
        print(visible(f"{name}: {text}"))
    return 0 if all(text.startswith("prepared, ") for text in texts) else 1


def _source_status(project: Project, source: str) -> str:
    """Say whether the raw files of a source are there; fetches and makes nothing."""
    problem = project.raw_problem(source)
    if not problem:
        return f"there, {project.raw(source)}"
    advice = {
        "local": f"put the files there, or correct sources.{source}.path",
        "official": f"run `infoseg data fetch {source} --profile {project.params.profile.name}`",
    }.get(project.params.sources[source].kind, "`infoseg prepare` renders them")
    return f"missing, {problem.rstrip('.')}; {advice}"


def _dataset_status(project: Project, name: str) -> str:
    """Say how a data set stands. Compares the hash of every prepared byte: seconds per gigabyte."""
    from infoseg.data.prepare import changed_since_prepared, check_against_data
    from infoseg.data.store import load_prepared

    settings, folder = project.params.datasets[name], project.prepared(name)
    advice = f"run `infoseg prepare {name} --profile {project.params.profile.name}`"
    if not folder.exists():
        return f"not prepared; {advice}"
    try:
        prepared = load_prepared(folder, verify=True)
    except DataError as error:
        return f"damaged, {error.file}: {error.problem}; {advice}"
    except OSError as error:
        return f"damaged, {error.filename}: cannot be read ({error.strerror}); {advice}"
    if changed := changed_since_prepared(settings, prepared):
        return f"outdated, prepared with another {changed}; {advice}"
    try:
        check_against_data(settings, prepared, name)
    except InfosegError as error:
        return f"outdated, {error}; correct it, or {advice}"
    return f"prepared, {_contents(prepared)}"


def _contents(prepared: Prepared) -> str:
    """Return counts, size, class shares in percent of the annotated pixels, what was left out."""
    meta = prepared.meta
    labelled = sum(split.labelled for split in meta.splits.values())
    splits = ", ".join(f"{name} {split.images:,}" for name, split in meta.splits.items())
    size = sum(file.stat().st_size for file in prepared.path.iterdir()) / 1e6
    parts = [f"{meta.n_images:,} images ({splits}), {labelled:,} labelled, {size:,.1f} MB"]
    if labelled:
        total = max(1, sum(meta.class_pixels))
        pairs = zip(meta.classes, meta.class_pixels, strict=True)
        shares = ", ".join(f"{name} {100 * count / total:.1f}" for name, count in pairs)
        parts += [f"% of pixels: {shares}, ignored {100 * meta.ignored_share:.1f}"]
    for first in meta.skipped[:1]:
        parts += [f"{meta.n_skipped:,} left out ({first.file}: {first.reason}, …)"]
    return "; ".join([*parts, *meta.notes])
