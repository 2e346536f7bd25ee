"""The pipeline: notebooks as build products, the code that runs depend on, and `make repro`.

    python -m infoseg.pipeline strip IN... OUT          notebooks' inputs alone, for stages to read
    python -m infoseg.pipeline code OUT                 hashes of code and settings, a file per row
    python -m infoseg.pipeline run IN OUT [KEY=VALUE]   execute with papermill, then scrub
    python -m infoseg.pipeline repro [--jobs N]         `dvc repro`, stages side by side
    python -m infoseg.pipeline page IN OUT              an executed notebook as one HTML page
    python -m infoseg.pipeline show NOTEBOOK EXECUTED   give a notebook the outputs of an execution
    python -m infoseg.pipeline check|clean FILE...      outputs that do not belong in a notebook;
                                                        a table of README.md that is not results/'s

The only module that knows DVC, papermill and nbconvert. Outputs in the repository are those of
`show`, and of cells tagged `nbval-check-output`, which the tests compare.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import queue
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoseg.files import (
    InfosegError,
    ParamsError,
    is_out_of_memory,
    make_folder,
    memory_advice,
    storing,
    write_json,
    write_whole,
)
from infoseg.settings import load_params

if TYPE_CHECKING:
    from nbformat import NotebookNode as Notebook

#: The tag of cells whose outputs are part of the notebook, because nbval compares them.
CHECKED = "nbval-check-output"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
#: Where a notebook grows while it runs; what failed is left there to be read.
RUNNING = Path("build/running")


# ---- notebooks -----------------------------------------------------------------------------------


def _read(path: Path) -> Notebook:
    import nbformat  # deferred, with papermill: half a second each

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise InfosegError(f"{path} is not there") from None
    except (ValueError, nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        raise InfosegError(f"{path} is not a notebook: {error}") from None


def _text(notebook: Notebook) -> str:
    import nbformat

    return nbformat.writes(notebook, version=4) + "\n"


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8", newline="\n"))


def clean(notebook: Notebook, keep: Callable[[Any], list[Any]]) -> Notebook:
    """Remove outputs but those of `keep(cell)`, counts, and metadata that tools leave behind."""
    import nbformat

    notebook.metadata = nbformat.from_dict(KERNEL)
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = keep(cell)
            # nbval takes a cell with outputs and without a count for one that was never run.
            cell.execution_count = number + 1 if cell.outputs else None
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = cell.execution_count
    return notebook


def strip(sources: Sequence[Path], folder: Path) -> None:
    """Write notebooks' inputs alone, the same bytes whatever was run or displayed in them."""
    for source in sources:
        _write(folder / source.name, _text(clean(_read(source), keep=lambda cell: [])))


def scrub(notebook: Notebook) -> Notebook:
    """Remove from an executed notebook what differs from run to run: times, ids, progress."""

    def keep(cell: Any) -> list[Any]:
        # Progress bars and warnings go to stderr; they show times and paths of this machine.
        kept: list[Any] = []
        for output in cell.outputs:
            # Where what went to stdout was divided is a matter of time, too.
            if kept and output.get("name") == kept[-1].get("name") == "stdout":
                kept[-1].text += output.text
            elif output.get("name") != "stderr":
                kept.append(output)
        return kept

    return clean(notebook, keep)


def _compared(cell: Any) -> list[Any]:
    return cell.outputs if CHECKED in cell.metadata.get("tags", []) else []


def _digest(notebook: Notebook) -> str:
    """Of inputs and outputs."""
    cells = [[cell.source, cell.get("outputs")] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


def show(source: Path, executed: Path) -> None:
    """Give a notebook the outputs of its execution; `check` accepts exactly these.

    Raises InfosegError where the executed notebook is of other code.
    """
    import nbformat

    notebook, ran = _read(source), scrub(_read(executed)).cells
    injected = [cell for cell in ran if "injected-parameters" in cell.metadata.get("tags", [])]
    ran = [cell for cell in ran if cell not in injected]
    if [cell.source for cell in ran] != [cell.source for cell in notebook.cells]:
        raise InfosegError(f"{executed} is of other code than {source}: run it again")
    for cell, made in zip(notebook.cells, ran, strict=True):
        if "parameters" in cell.metadata.get("tags", []):
            lines = [line for c in injected for line in c.source.splitlines() if "=" in line]
            text = f"What is shown below was made with {', '.join(lines)}\n"
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        elif cell.cell_type == "code":
            cell.outputs = made.outputs
        for output in cell.get("outputs", []):
            if "text" in output:  # what it says of this machine's folders
                output.text = output.text.replace(f"{Path.cwd()}/", "")
    notebook = clean(notebook, lambda cell: cell.outputs)
    notebook.metadata["outputs"] = _digest(notebook)
    _write(source, _text(notebook))


def tidy(path: Path, write: bool) -> bool:
    """Whether a notebook, or README.md, is as it should be; with `write`, make it so."""
    before = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        after = with_results(path)
    else:
        made = _read(path).metadata.get("outputs")
        notebook = clean(_read(path), lambda cell: cell.outputs)
        if made == _digest(notebook):
            notebook.metadata["outputs"] = made
        else:
            notebook = clean(notebook, _compared)
        after = _text(notebook)
    if write and before != after:
        _write(path, after)
    return before == after


def with_results(path: Path) -> str:
    """README.md with a profile's committed Table 1 between the marks `<!-- results:<profile> -->`
    and `<!-- /results -->`. Raises InfosegError without these."""
    text = path.read_text(encoding="utf-8")
    marks = re.search(r"(<!-- results:(\S+) -->\n).*?(<!-- /results -->)", text, re.DOTALL)
    if not marks:
        raise InfosegError(f"{path} has no place for results")
    table = path.parent / "results" / marks[2] / "tables/table1.md"
    if not table.exists():
        raise InfosegError(f"{table} is not there. Run `make repro` first")
    return (
        text[: marks.end(1)] + f"\n{table.read_text(encoding='utf-8')}\n" + text[marks.start(3) :]
    )


def execute(source: Path, parameters: dict[str, Any]) -> Notebook:
    """Execute a notebook in this process, without a kernel, and keep what it displays.

    For the command line; errors are those of the code. Only what cells `display` is kept.
    """
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    import matplotlib.pyplot as plt
    from IPython.core.formatters import DisplayFormatter
    from nbformat.v4 import new_output

    notebook, formatter = _read(source), DisplayFormatter()
    outputs: list[Any] = []

    def display(*shown: Any) -> None:
        for data, metadata in map(formatter.format, shown):
            outputs.append(new_output("display_data", data, metadata=metadata))

    space: dict[str, Any] = {"display": display}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{source.name}, cell {number}", "exec"), space)
            plt.close("all")
            cell.outputs, outputs = outputs, []
        if "parameters" in cell.metadata.get("tags", []):
            space |= parameters
    return notebook


def page(notebook: Notebook, target: Path) -> None:
    """Write an executed notebook as an HTML page: no code, one style sheet, no other file."""
    from jinja2 import Template
    from nbconvert import HTMLExporter

    from infoseg.results.page import CSS, HEAD

    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    title = re.search(r"^# (.*)", notebook.cells[0].source, re.M)
    head = Template(HEAD, autoescape=True).render(title=title[1] if title else "", css="CSS")
    head = head.replace("CSS", CSS)
    _write(target, f"{head}<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n")


def run(source: Path, target: Path, parameters: dict[str, str]) -> None:
    """Execute a notebook on params.yaml with papermill and scrub it.

    Only a notebook that ran to its end gets the final name. Raises InfosegError naming a parameter
    the notebook does not have, and the cell when one fails or its kernel dies.
    """
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    _read(source)  # named if it is none
    known = papermill.inspect_notebook(str(source))
    if unknown := parameters.keys() - known.keys():
        raise InfosegError(f"{source} has no parameter '{min(unknown)}', only {sorted(known)}")
    # The empty profile is params.yaml as it stands.
    values: dict[str, Any] = {"profile": "", **parameters}
    values |= {k: int(v) for k, v in parameters.items() if re.fullmatch("-?[0-9]+", v)}
    # The kernel of this interpreter, not one that JUPYTER_PATH or the user's folder has; figures
    # without the user's matplotlibrc.
    os.environ["JUPYTER_PATH"] = str(Path(sys.prefix, "share/jupyter"))
    os.environ |= {"MATPLOTLIBRC": os.devnull, "PYTHONUTF8": "1"}
    running = RUNNING / re.sub(r"[^\w.-]", "-", str(target))
    make_folder(running.parent)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    how = {"kernel_name": "python3", "language": "python", "progress_bar": False}
    try:
        executed = papermill.execute_notebook(source, running, values, log_output=True, **how)
    except PapermillExecutionError as error:
        lines = error.evalue.splitlines() or [""]
        # Of settings every key that is wrong has a line; other errors go on for pages.
        shown = lines if error.ename == ParamsError.__name__ else lines[:1]
        message = f"{error.ename}: " + "\n".join(shown) + " …" * (len(lines) > len(shown))
        if is_out_of_memory(error.ename, error.evalue):
            message = f"{message}. {memory_advice()}"
        message = f"{source} failed in cell {error.exec_count}: {message}"
    except DeadKernelError:
        message = f"{source}: the kernel died. {memory_advice()}"
    except OSError:  # papermill writes after every cell
        with storing(running):
            raise
    except (NoSuchKernel, RuntimeError) as error:  # nbclient's, for a kernel that never came
        raise InfosegError(f"{source}: {error}. `make setup` installs the kernel") from None
    else:
        _write(target, _text(scrub(executed)))
        running.unlink(missing_ok=True)
        return
    raise InfosegError(f"{message}\nThe notebook as far as it came: {running}")


# ---- code ----------------------------------------------------------------------------------------


def write_code(folder: Path) -> None:
    """Write what the stages depend on in place of sources: hashes of syntax trees, and settings
    with their defaults, a file per method or variant, data set, source and kind of later stage."""
    from infoseg.machine import TRAINING_CODE, code_hashes
    from infoseg.methods.registry import METHODS

    params = load_params(Path())
    profile, ablations = params.profile, params.profile.ablations
    rows = {method: profile.datasets for method in profile.methods}
    rows |= {variant: [ablations.dataset] for variant in ablations.variants}
    files: dict[str, dict[str, Any]] = {}
    for name, datasets in rows.items():
        settings = {dataset: params.method(name, dataset) for dataset in datasets}
        modules = {METHODS[method.kind].__module__ for method in settings.values()}
        files[name] = {
            "code": code_hashes([*modules, *TRAINING_CODE]),
            "settings": {d: s.numbers() | {"seeds": s.seeds} for d, s in settings.items()},
            "training": params.training.model_dump(),
        }
    for kind, module, names, known in (
        ("data", "infoseg.data.prepare", profile.inputs, params.datasets),
        ("sources", "infoseg.data.scenes", profile.sources, params.sources),
    ):
        code = code_hashes([module])
        for name in names:
            files[f"{kind}/{name}"] = {"code": code, "settings": known[name].model_dump()}
    results = [f"infoseg.results.{name}" for name in ("tables", "claims", "figures", "page")]
    files["stages/evaluate"] = code_hashes(["infoseg.runs"])
    files["stages/results"] = code_hashes(results)
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        write_json(folder / f"{name}.json", content)


# ---- make repro ----------------------------------------------------------------------------------

DVC = [sys.executable, "-m", "dvc"]
LOGS = Path("build/logs")


def gpus() -> list[str]:
    """GPUs of this machine as CUDA_VISIBLE_DEVICES names them; none where there is no driver."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return []
    return [] if listed.returncode else [str(n) for n, _ in enumerate(listed.stdout.splitlines())]


def out_of_date() -> dict[str, set[str]]:
    """Stages that have to run, each with those of them that it waits for."""
    from graphlib import TopologicalSorter

    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph = repo.index.graph
            reads = {s.addressing: {d.addressing for d in graph.successors(s)} for s in graph}
            due = set(repo.status())
    except DvcException as error:
        if "dvc.lock" in str(error):
            raise InfosegError(
                "dvc.lock is not whole: DVC was killed while it wrote it. Type `git checkout "
                "dvc.lock` and run again; the run cache brings back what was done"
            ) from None
        advice = ": delete it, DVC was killed while it wrote it" if "RWLock" in str(error) else ""
        raise InfosegError(f"DVC cannot read the pipeline: {error}{advice}") from None
    for stage in TopologicalSorter(reads).static_order():
        if reads[stage] & due:
            due.add(stage)  # DVC itself skips it if what it reads comes out the same
    return {stage: reads[stage] & due for stage in reads if stage in due}


def run_stage(stage: str, places: queue.Queue[str | None]) -> bool:
    """Run one stage, on a GPU of its own if there are any; whether it succeeded."""
    place, began, log = places.get(), time.monotonic(), LOGS / f"{stage.replace('@', '-')}.log"
    environment = os.environ | ({} if place is None else {"CUDA_VISIBLE_DEVICES": place})
    with log.open("w") as file:
        command = [*DVC, "--wait-for-lock", "repro", "--single-item", stage]
        done = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    places.put(place)
    state = "done" if done.returncode == 0 else "FAILED; the end of its log:"
    print(f"  {stage:40} {time.monotonic() - began:6.0f} s  {state}", flush=True)
    if done.returncode:
        print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:]), flush=True)
    return done.returncode == 0


def repro(jobs: int | None) -> int:
    """Run what is out of date, each stage as soon as everything it reads is made.

    A stage that fails stops what depends on it and nothing else. Plain `dvc repro` makes the same
    files, one stage at a time.
    """
    from filelock import FileLock, Timeout

    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(LOGS / "repro.lock", timeout=0):
            return _repro(jobs)
    except Timeout:
        raise InfosegError("another `make repro` is at work in this folder: wait for it") from None


def _repro(jobs: int | None) -> int:
    from graphlib import TopologicalSorter

    load_params(Path())  # before DVC, which puts settings into commands that a shell reads
    devices = gpus()
    jobs = jobs or len(devices) or min(4, os.cpu_count() or 1)
    places: queue.Queue[str | None] = queue.Queue()
    for number in range(jobs):
        places.put(devices[number % len(devices)] if devices else None)
    waiting = out_of_date()
    print(f"{len(waiting)} stages to run, {jobs} side by side (logs in {LOGS})", flush=True)
    order = TopologicalSorter(waiting)
    order.prepare()
    failed, running = [], {}
    pool = ThreadPoolExecutor(jobs)
    try:
        while running or order.is_active():
            ready = order.get_ready()
            running |= {pool.submit(run_stage, stage, places): stage for stage in ready}
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                stage = running.pop(future)
                if future.result():
                    order.done(stage)  # a stage that failed is never done: nothing after it begins
                else:
                    failed.append(stage)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C none begins that was ready
    if failed:
        raise InfosegError(f"failed: {', '.join(failed)}; `make repro` goes on from here")
    return 0


# ---- commands ------------------------------------------------------------------------------------


def _jobs(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a number, at least 1, or auto")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        match words:
            case ["strip", *sources, folder] if sources:
                strip([Path(source) for source in sources], Path(folder))
            case ["code", folder]:
                write_code(Path(folder))
            case ["run", source, target, *pairs] if all("=" in pair for pair in pairs):
                run(Path(source), Path(target), dict(pair.split("=", 1) for pair in pairs))
            case ["show", source, executed]:
                show(Path(source), Path(executed))
            case ["page", source, target]:
                page(_read(Path(source)), Path(target))
            case ["repro", *options]:
                parser = argparse.ArgumentParser(prog="python -m infoseg.pipeline repro")
                parser.add_argument("--jobs", type=_jobs, help="stages side by side, or auto")
                return repro(parser.parse_args(options).jobs)
            case ["check" | "clean" as command, *files]:
                untidy = [file for file in files if not tidy(Path(file), command == "clean")]
                if untidy and command == "check":
                    print(
                        "outputs, metadata or numbers that do not belong, in:", *untidy, sep="\n  "
                    )
                    print("renew them with: python -m infoseg.pipeline clean", *untidy)
                    return 1
            case _:
                print(__doc__)
                return 2
    except InfosegError as error:
        print(f"infoseg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("infoseg: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
