"""`infoseg …`: the steps of the pipeline without DVC or a kernel, for a bare GPU machine."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from infoseg import __version__, cli_data, cli_pictures
from infoseg.files import InfosegError, TrainingError, is_out_of_memory, memory_advice, read_json

#: Notebooks that write results/<profile>: `infoseg report` runs them in its own process.
RESULTS = ("04_tables", "05_figures", "06_report")

COMMON = """
Settings come from params.yaml (the demo), or with --profile from infoseg/conf; -S changes one.

  infoseg prepare outdoor                            prepare one data set of the demo
  infoseg train outdoor infoseg --seed 1             train one run
  infoseg train street infoseg --profile photographs -S methods.infoseg.optimiser.steps=3000
  infoseg train --images ~/holiday --classes 4       train on your own pictures
"""


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    settings = common.add_argument_group("settings")
    settings.add_argument(
        "--profile",
        metavar="NAME",
        help="compose infoseg/conf/profile/NAME.yaml instead of params.yaml",
    )
    settings.add_argument(
        "-S",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change one setting, e.g. methods.infoseg.optimiser.steps=3000 (repeatable)",
    )
    run = argparse.ArgumentParser(add_help=False)
    cli_pictures.add_run_arguments(run)

    parser = argparse.ArgumentParser(
        prog="infoseg",
        description="Unsupervised semantic segmentation by mutual-information maximisation.",
        epilog=COMMON,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"infoseg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, parents: list[argparse.ArgumentParser], text: str):
        return cli_data.add_command(commands, name, help, [*parents, common], text)

    prepare = add(
        "prepare",
        "raw files to prepared arrays",
        [],
        "Render or find the raw files a data set needs, and read them by its protocol into\n"
        "prepared/<profile>/<data set>: images.bin, labels.bin, index.csv, meta.json.",
    )
    prepare.add_argument(
        "datasets", nargs="*", help="keys under `datasets`; default: the profile's"
    )
    train = add(
        "train",
        "train one method on one data set, or InfoSeg on a folder of pictures",
        [],
        "Train on random crops of all images, without labels, and write\n"
        "runs/<profile>/<data set>/<method>/: <seed>.safetensors, history.csv, run.json. Without\n"
        "--seed, all seeds of the settings. A training that was killed goes on where it was.\n"
        "With --restarts, train that many seeds from --seed on and name the one that agrees best\n"
        "with the others.\n\n"
        "With --images FOLDER --classes K, train InfoSeg on your own pictures, segment them, and\n"
        "say whether that came out well.",
    )
    cli_pictures.add_run_arguments(train, optional=True)
    train.add_argument(
        "--restarts",
        type=int,
        metavar="N",
        help="seeds to train, from --seed on; default: 1, or 5 with --images",
    )
    cli_pictures.add_own_pictures(train)
    add(
        "evaluate",
        "match clusters to classes and measure one run",
        [run],
        "Segment the centre crop of every labelled image, match clusters to classes once for the\n"
        "data set (Hungarian method), and print PA and mIoU; everything else goes to\n"
        "runs/<profile>/evaluations/<data set>/<method>-<seed>.json.",
    )
    everything = add(
        "all",
        "the whole profile: data, trainings, tables, figures, report",
        [],
        "Every run and ablation of the profile, side by side if asked, then everything in\n"
        "results/<profile>: tables, figures, report.html.\n"
        "Runs whose evaluation is there with the same settings and code are not made again.",
    )
    everything.add_argument(
        "--jobs",
        type=int,
        help="cells side by side, each with training.threads threads; default: one per GPU, or one "
        "per core, four at most",
    )
    add("table1", "write Table 1", [], "Write results/<profile>/tables/table1.{csv,md,tex}.")
    add(
        "report",
        "write all tables, figures and the report page",
        [],
        "Write everything in results/<profile> from runs that are there; what is missing is made.",
    )
    add(
        "params",
        "print the settings",
        [],
        "Print the settings as YAML, after validation:\n"
        "infoseg params --profile demo > params.yaml is what the repository holds.",
    )
    add(
        "list",
        "list data sets, methods and profiles",
        [],
        "List the data sets and methods of the settings, and the profiles there are.",
    )
    completion = cli_data.add_command(
        commands,
        "completion",
        "print a script that completes these commands in a shell",
        [],
        'Print a script for a shell: eval "$(infoseg completion bash)". Needs shtab.',
    )
    completion.add_argument("shell", choices=["bash", "zsh"])
    cli_data.add_commands(commands, common)
    cli_pictures.add_commands(commands, common)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors are one line, without a traceback."""
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
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(type(error).__name__, str(error)):
            raise
        told = (str(error) or "memory ran out").splitlines()[0].rstrip(".")
        print(f"infoseg: {told}. {memory_advice()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"infoseg: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if options.command == "completion":
        try:
            import shtab
        except ImportError:
            raise InfosegError("completion needs shtab: `pip install shtab`") from None
        print(shtab.complete(parser, options.shell))
        return 0
    if options.command == "segment":
        return cli_pictures.run_segment(options)
    if options.command == "train":
        if options.images is not None:
            return cli_pictures.train_own(options)
        cli_pictures.check_run(options)

    from infoseg.files import find_root
    from infoseg.settings import compose, load_params

    try:
        root = find_root()
    except InfosegError:
        if options.command not in ("list", "params"):
            raise
        root, options.profile = Path.cwd(), options.profile or "demo"
    params = load_params(root, options.profile, options.overrides)
    if options.command == "list":
        print(cli_data.listed(params))
        return 0
    if options.command == "params":
        if options.profile:  # as DVC would write it: `infoseg params --profile demo > params.yaml`
            tree = compose(options.profile, options.overrides)
        else:
            tree = params.model_dump()
        print(yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=100), end="")
        return 0
    if options.command in ("data", "prepare"):  # without torch
        from infoseg.project_data import ProjectData as Project
    else:
        from infoseg.runs import Project
    project = Project(root, params, root, make_missing=True, overrides=options.overrides)
    if options.command == "data":
        return cli_data.run_with_project(options, project)
    if options.command == "export":
        return cli_pictures.run_export(options, project)
    if options.command == "prepare":
        for dataset in options.datasets or params.profile.datasets:
            prepared = project.prepare(dataset)
            labelled = int(prepared.index["labelled"].sum())
            print(f"{dataset}: {len(prepared)} images, {labelled} labelled: {prepared.path}")
    elif options.command == "train":
        _train(project, options)
    elif options.command == "evaluate":
        _evaluate(project, options)
    elif options.command == "all":
        return _all(project, options)
    elif options.command == "table1":
        _write_results(project, options, RESULTS[0])
    elif options.command == "report":
        _write_results(project, options, *RESULTS)
    return 0


def _train(project, options: argparse.Namespace) -> None:
    if (options.restarts or 1) > 1:
        from infoseg.restarts import train_restarts

        first = options.seed or 0
        seeds = range(first, first + options.restarts)
        run, agreements = train_restarts(project, options.dataset, options.method, seeds)
        for seed, value in zip(seeds, agreements, strict=True):
            print(f"seed {seed}: agrees with the others by {value:.2f} (0 is chance, 1 equal)")
        print(project.weights_path(run))
        return
    seeds = None if options.seed is None else [options.seed]
    folder = project.train(options.dataset, options.method, seeds)
    print(folder)
    for seed, message in read_json(folder / "run.json", "train")["diverged"].items():
        if options.seed in (None, int(seed)):
            raise TrainingError(message)


def _evaluate(project, options: argparse.Namespace) -> None:
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


def _write_results(project, options: argparse.Namespace, *names: str) -> None:
    """Run the notebooks that write results/<profile>, in this process."""
    try:
        from infoseg.pipeline import execute, page

        parameters = {"profile": options.profile or "", "overrides": options.overrides}
        for name in names:
            source = project.root / "notebooks" / f"{name}.ipynb"
            notebook = execute(source, parameters | {"folder": "."})
        if names == RESULTS:
            page(notebook, project.results / "report.html")
            print(project.results / "report.html")
        else:
            print((project.results / "tables" / "table1.md").read_text())
    except ImportError as error:
        raise InfosegError(f"{error}: `pip install 'infoseg[pipeline]'`") from None


def _all(project, options: argparse.Namespace) -> int:
    """Every cell in a process of its own, so that one failure does not stop the others."""
    from infoseg.pipeline import gpus

    params = project.params
    for dataset in params.profile.datasets:
        project.prepare(dataset)
    settings = [f"--profile={options.profile}"] if options.profile else []
    settings += [word for override in options.overrides for word in ("-S", override)]
    devices = gpus()
    jobs = options.jobs or len(devices) or min(4, os.cpu_count() or 1)
    runs = [*params.runs(), *params.ablations()]
    cells = list(dict.fromkeys((run.dataset, run.method) for run in runs))

    def make(place: int) -> str | None:
        cell = cells[place]
        if all(project.is_current(run) for run in runs if (run.dataset, run.method) == cell):
            return None
        gpu = {"CUDA_VISIBLE_DEVICES": devices[place % len(devices)]} if devices else {}
        for step in ("train", "evaluate"):
            command = [sys.executable, "-m", "infoseg", step, *cell, *settings]
            if subprocess.run(command, env=os.environ | gpu).returncode:
                return f"{step} {' '.join(cell)}"
        return None

    with ThreadPoolExecutor(jobs) as pool:
        failed = [failure for failure in pool.map(make, range(len(cells))) if failure]
    for failure in failed:
        print(f"infoseg: failed: {failure}", file=sys.stderr)
    if failed:
        return 1
    _write_results(project, options, *RESULTS)
    print((project.results / "tables" / "table1.md").read_text())
    return 0
