"""Notebooks as build products: stripped before DVC hashes them, executed, scrubbed afterwards.

    python -m infoseg.notebooks strip IN OUT            inputs alone: what stages depend on
    python -m infoseg.notebooks run IN OUT [KEY=VALUE]  execute with papermill, then scrub
    python -m infoseg.notebooks check FILE...           complain about outputs that do not belong
    python -m infoseg.notebooks clean FILE...           remove them

Outputs stay in the repository only in cells tagged `nbval-check-output`, which the tests compare.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoseg import warm
from infoseg.errors import InfosegError, ParamsError, StorageError, is_out_of_memory, memory_advice
from infoseg.files import clear_leftovers, storing, write_whole
from infoseg.kernels import Kernel, Stopped

if TYPE_CHECKING:
    from nbformat import NotebookNode as Notebook

#: The tag of cells whose outputs are part of the notebook, because nbval compares them.
CHECKED = "nbval-check-output"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def _read(path: Path) -> Notebook:
    import nbformat  # deferred, as everywhere here: a stage's fork has it loaded

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise InfosegError(f"{path} is not there") from None
    except (ValueError, nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        raise InfosegError(f"{path} is not a notebook: {error}") from None


def _write(path: Path, notebook: Notebook) -> None:
    import nbformat

    text = nbformat.writes(notebook, version=4) + "\n"
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))


def clean(notebook: Notebook, keep: Callable[[Any], bool]) -> Notebook:
    """Remove outputs (except of cells that `keep`), counts, and metadata tools leave behind."""
    import nbformat

    notebook.metadata = nbformat.from_dict(KERNEL)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            kept = cell.outputs and keep(cell)
            cell.outputs = cell.outputs if kept else []
            # nbval takes a cell with outputs and without a count for one that was never run.
            cell.execution_count = number + 1 if kept else None
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = cell.execution_count
    return notebook


def strip(source: Path, target: Path) -> None:
    """Write the notebook's inputs alone, the same bytes whatever was run or displayed in it."""
    _write(target, clean(_read(source), keep=lambda cell: False))


def scrub(path: Path) -> None:
    """Remove from an executed notebook what differs from run to run: times, ids, progress."""
    _write(path, _scrubbed(_read(path)))


def _scrubbed(notebook: Notebook) -> Notebook:
    def keep(cell: Any) -> bool:
        # Progress bars and warnings go to stderr; they show times and paths of this machine.
        kept: list[Any] = []
        for output in cell.outputs:
            if output.get("name") == "stderr":
                continue
            # Where what went to stdout was divided is a matter of time, too.
            if kept and output.get("name") == kept[-1].get("name") == "stdout":
                kept[-1].text += output.text
            else:
                kept.append(output)
        cell.outputs = kept
        return True

    return clean(notebook, keep)


def tidy(path: Path, write: bool) -> bool:
    """Whether a notebook in the repository is as it should be; with `write`, make it so."""
    import nbformat

    before = path.read_text(encoding="utf-8")
    notebook = clean(_read(path), keep=lambda cell: CHECKED in cell.metadata.get("tags", []))
    after = nbformat.writes(notebook, version=4) + "\n"
    if write and before != after:
        _write(path, notebook)
    return before == after


class _Running:
    """papermill's way to write the notebook while it runs: whole, under a name of its own scheme.

    Only the first time must succeed. Later a disk that is full costs what is kept for reading, and
    not the hours of a training whose weights may find room again.
    """

    SCHEME = "running:"

    def __init__(self) -> None:
        self._begun = self._told = False

    def write(self, text: str, path: str) -> None:
        file = Path(path.removeprefix(self.SCHEME))
        try:
            write_whole(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        except StorageError as error:
            if not self._begun:
                raise
            if not self._told:
                print(f"the notebook so far is not kept: {error}", file=sys.stderr)
            self._told = True
        self._begun = True

    def pretty_path(self, path: str) -> str:
        return path.removeprefix(self.SCHEME)


def run(source: Path, target: Path, parameters: dict[str, str]) -> None:
    """Execute a notebook on params.yaml with papermill and scrub it.

    While it runs, its log (progress included) is shown and target.with_suffix(".running.ipynb")
    grows; only a notebook that ran to its end gets the final name. Raises InfosegError naming a
    parameter the notebook does not have, and the cell when one fails or its kernel dies; Stopped
    when a signal ends it.
    """
    import papermill  # deferred: half a second

    _read(source)  # named if it is none
    known = papermill.inspect_notebook(str(source))
    for name in parameters:
        if name not in known:
            raise InfosegError(f"{source} has no parameter '{name}', only {sorted(known)}")
    whole = re.compile(r"-?\d+", re.ASCII)
    values = {k: int(v) if whole.fullmatch(v) else v for k, v in parameters.items()}
    running = target.with_suffix(".running.ipynb")
    with storing(running):
        running.unlink(missing_ok=True)  # an earlier run's
    clear_leftovers(target.parent, target.stem)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("papermill").setLevel(logging.INFO)
    # The empty profile is params.yaml as it stands.
    executed = _execute(source, running, {"profile": "", **values})
    _write(target, _scrubbed(executed))
    with suppress(OSError):
        running.unlink(missing_ok=True)


def _execute(source: Path, running: Path, values: dict[str, Any]) -> Notebook:
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import papermill_io

    papermill_io.register(_Running.SCHEME, _Running())
    kernel = Kernel()
    kept = f"The notebook as far as it came: {running}"
    try:
        with kernel.stoppable():
            return papermill.execute_notebook(
                source,
                f"{_Running.SCHEME}{running}",
                values,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                log_output=True,
                **kernel.options(),
            )
    except StorageError:
        raise
    except Exception as error:
        if kernel.asked:
            raise Stopped(kernel.asked) from None
        if isinstance(error, PapermillExecutionError):
            lines = error.evalue.splitlines() or [""]
            # Of settings every key that is wrong has a line; other errors go on for pages.
            shown = lines if error.ename == ParamsError.__name__ else lines[:1]
            told = f"{error.ename}: " + "\n".join(shown) + " …" * (len(lines) > len(shown))
            if is_out_of_memory(error.ename, error.evalue):
                told = f"{told}. {memory_advice()}"
            message = f"{source} failed in cell {error.exec_count}: {told}\n{kept}"
        elif isinstance(error, NoSuchKernel):
            message = (
                "there is no Jupyter kernel `python3` in this environment. `make lab` and "
                "`make repro` set it up; so does `pip install ipykernel`"
            )
        elif isinstance(error, RuntimeError):  # nbclient's, for a kernel that died or never came
            message = f"{source}: {kernel.death()}\n{kept}"
        else:
            raise
        raise InfosegError(message) from None


def main(arguments: list[str]) -> int:
    match arguments:
        case ["strip", source, target]:
            strip(Path(source), Path(target))
        case ["run", source, target, *pairs]:
            run(Path(source), Path(target), dict(pair.split("=", 1) for pair in pairs))
        case ["check" | "clean" as command, *files]:
            untidy = [file for file in files if not tidy(Path(file), write=command == "clean")]
            if untidy and command == "check":
                print("outputs or metadata that do not belong, in:", *untidy, sep="\n  ")
                print("remove them with: python -m infoseg.notebooks clean", *untidy)
                return 1
        case _:
            print(__doc__)
            return 2
    return 0


def command(arguments: Sequence[str]) -> int:
    """`main`, with errors of ours, and signals that end it, as one line."""
    try:
        return main(list(arguments))
    except InfosegError as error:
        print(f"infoseg: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        told = f"stopped by {stopped}; run it again, and a training goes on from its checkpoint"
        print(f"infoseg: {told}", file=sys.stderr)
        return 128 + stopped.kind
    except KeyboardInterrupt:
        print("infoseg: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    words = sys.argv[1:]
    forked = warm.forward("notebooks", words) if words[:1] == ["run"] else None
    sys.exit(command(words) if forked is None else forked)
