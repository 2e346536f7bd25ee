"""Faults of the machine and of hands: what the user reads, what stays whole, how it goes on.

The pipeline's own faults are in test_pipeline.py.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
import yaml
from helpers import ROOT, one_data_set, random_images, write_prepared
from PIL import Image

from infoseg import pipeline
from infoseg.cli import main
from infoseg.files import StorageError, write_whole
from infoseg.pipeline import KERNEL
from infoseg.results.figures import save_figure

UNTOUCHED = "Nothing that was there before was touched."
FULL = f"cannot be written (No space left on device). {UNTOUCHED} Free some space there and run"
READ_ONLY = f"cannot be written (Read-only file system). {UNTOUCHED} Remount that disk for writing"
MEMORY = "That is how it ends when memory runs out: run fewer side by side (`make repro JOBS=1`, "
DIVERGED = "Try a smaller optimiser.learning_rate or objective.score_factor"
INFOSEG = ["train", "coco_stuff3", "infoseg", "-S", "methods.infoseg.optimiser.steps=4"]


def says(output: str, *parts: str) -> re.Match[str] | None:
    """Whether a line of an output has these parts, in this order."""
    return re.search(".*".join(map(re.escape, parts)), output)


class Disk:
    """A small disk of its own, mounted over a folder."""

    def __init__(self, folder: Path):
        self.folder, self._filler = folder, folder / "filler"

    def mount(self, options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")

    def refuse(self, message: str) -> None:
        """Be full or read-only, as the message says."""
        if message == READ_ONLY:
            self.mount("remount,ro")
        else:
            with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

    def take(self) -> None:
        self.mount("remount,rw")
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_over(folder: Path, size: str = "16m") -> Iterator[Disk]:
    """A disk over a folder, with what the folder holds."""
    disk = Disk(folder)
    with tempfile.TemporaryDirectory() as aside:
        subprocess.run(["cp", "-a", f"{folder}/.", aside], check=True)
        disk.mount(f"size={size}")
        try:
            subprocess.run(["cp", "-a", f"{aside}/.", str(folder)], check=True)
            yield disk
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What is in a folder, hidden files too: a file that is written anew is another one."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "filler"]
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.read_bytes()) for path in files
    }


@contextlib.contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file may grow larger: a fault of the disk that needs no permission to be made."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder the command line works in, with everything that Table 1 of one method needs."""
    folder = tmp_path_factory.mktemp("home")
    tree = one_data_set(pictures=2)
    tree["profile"] |= {"methods": ["kmeans"]}
    tree["profile"]["ablations"]["variants"] = []
    tree["sources"]["coco"] |= {"stuff_images": 16, "person_images": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    with contextlib.chdir(folder):
        assert main(["tables"]) == 0
    return folder


@pytest.fixture
def home(made, monkeypatch) -> Path:
    monkeypatch.chdir(made)
    return made


# ---- the disk ------------------------------------------------------------------------------------

WRITES = {
    "raw": ["data", "fetch", "coco"],
    "prepared": ["prepare", "coco_stuff3"],
    "runs": ["train", "coco_stuff3", "kmeans"],
    "runs/tiny/evaluations": ["evaluate", "coco_stuff3", "kmeans"],
    "results": ["tables"],
}


@pytest.mark.parametrize("message", [FULL, READ_ONLY], ids=["full", "read-only"])
@pytest.mark.parametrize("place", WRITES)
def test_a_disk_that_takes_nothing_more(home, capsys, place, message):
    folder = home / place
    with disk_over(folder) as disk:
        before = contents(folder)
        assert before
        disk.refuse(message)
        assert main(WRITES[place]) == 1
        assert says(capsys.readouterr().err, f"infoseg: {folder}", message)
        assert contents(folder) == before
        disk.take()
        assert main(WRITES[place]) == 0
        after = contents(folder)
        assert after.keys() == before.keys()
        assert any(after[name] != before[name] for name in before)


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("INFOSEG_SCRATCH", str(tmp_path))
    return tmp_path


def test_a_disk_without_room_for_the_weights(home, scratch, capsys):
    # Room for a history, none for weights; the training is not lost with them.
    with disk_over(home / "runs", "2m"):
        assert main(INFOSEG) == 1
        assert says(capsys.readouterr().err, "infoseg: ", "/infoseg/0.safetensors: ", FULL)
        assert not list(home.glob("runs/**/infoseg/0.safetensors"))
    kept = contents(scratch)
    assert len(kept) == 1
    assert main(INFOSEG) == 0
    assert contents(scratch) == kept
    assert len(list(home.glob("runs/**/infoseg/0.safetensors"))) == 1


@pytest.mark.parametrize(("seed", "size", "room"), [(1, "64k", False), (2, "5m", True)])
def test_a_disk_without_room_for_a_checkpoint(home, scratch, capsys, seed, size, room):
    # Which is three times as large as the weights: a training can do without it.
    words = [*INFOSEG, f"--seed={seed}", "-S", "execution.checkpoint_seconds=0"]
    with disk_over(scratch, size):
        assert main(words) == (not room)
        said = capsys.readouterr().err
        assert "no checkpoint, training goes on: " in said
        assert room or says(said, "infoseg: ", ".safetensors: ", FULL)
        assert not [name for name in contents(scratch) if not name.endswith(".safetensors")]


def test_a_limit_on_the_size_of_files(tmp_path):
    figure = plt.figure()
    figure.add_subplot().plot([1, 2])
    written = {
        "text": lambda path: write_whole(path, lambda file: file.write_text("x" * 10_000)),
        "png": lambda path: save_figure(figure, path, "A line."),
        "svg": lambda path: save_figure(figure, path, "A line."),
        "prepared": lambda path: write_prepared(path, *random_images(10)),
    }
    for kind, write in written.items():
        path = tmp_path / f"a.{kind}"
        write(path)
        before = contents(tmp_path)
        with file_limit(2_000), pytest.raises(StorageError) as caught:
            write(path)
        assert str(caught.value) == (
            f"{path}: cannot be written (File too large). {UNTOUCHED} Raise the limit on the size "
            "of files (`ulimit -f`), or choose another disk"
        )
        assert contents(tmp_path) == before, kind
        write(path)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "Check who may write there"),
        (errno.EDQUOT, "have your quota raised"),
        (errno.ESTALE, "The network drive is gone"),
        (errno.EIO, "The disk itself reports a fault"),
    ],
)
def test_what_the_system_refuses_is_said_with_advice(tmp_path, number, advice):
    def write(file: Path) -> None:
        file.write_text("half")
        raise OSError(number, os.strerror(number), str(file))

    write_whole(tmp_path / "a", lambda file: file.write_text("whole"))
    with pytest.raises(StorageError, match=re.escape(f"{tmp_path}/a: cannot be")) as caught:
        write_whole(tmp_path / "a", write)
    assert UNTOUCHED in str(caught.value) and advice in str(caught.value)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_a_file_in_the_way_of_a_folder(home, capsys):
    results = (home / "results").rename(home / "aside")
    (home / "results").write_text("mine")
    assert main(["tables"]) == 1
    advice = f"{UNTOUCHED} Move away the file that is where a folder should be"
    assert says(capsys.readouterr().err, f"infoseg: {home / 'results'}", advice)
    assert (home / "results").read_text() == "mine"
    (home / "results").unlink()
    results.rename(home / "results")
    assert main(["tables"]) == 0


def test_what_is_no_fault_of_the_disk_is_not_called_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        write_whole(tmp_path / "a", lambda file: file.write_bytes((tmp_path / "gone").read_bytes()))
    with pytest.raises(OSError, match="cannot write mode F") as caught:
        write_whole(tmp_path / "a", lambda file: Image.new("F", (2, 2)).save(file, format="png"))
    assert not isinstance(caught.value, StorageError)
    assert not list(tmp_path.iterdir())


# ---- kills ---------------------------------------------------------------------------------------


KILLED = """
import os, signal
from infoseg.cli import main
from infoseg.data.store import PreparedWriter

add, added = PreparedWriter.add, []

def killed(*arguments):
    add(*arguments)
    added.append(1)
    if len(added) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

PreparedWriter.add = killed
main(["prepare", "coco_stuff3"])
"""


def test_a_preparation_that_is_killed_leaves_the_old_data_and_is_cleared_up_after(home):
    before = contents(home / "prepared")
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    left = contents(home / "prepared")
    assert before.items() <= left.items() and any(".partial/" in name for name in left)
    assert main(["prepare", "coco_stuff3"]) == 0
    assert contents(home / "prepared").keys() == before.keys()


# ---- trainings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("network.features=1000000000000", [MEMORY]),
        ("optimiser.learning_rte=1", ["optimiser.learning_rte: unknown key (a typo, or a key"]),
        ("optimiser.learning_rate=1e30", ["the loss became ", " at step ", DIVERGED]),
    ],
)
def test_a_training_that_cannot_be(home, capsys, setting, parts):
    assert main([*INFOSEG, "-S", f"methods.infoseg.{setting}"]) == 1
    said = capsys.readouterr()
    assert says(said.err.replace("\n", " "), "infoseg: ", *parts)
    if DIVERGED in parts:  # a result like any other
        state = json.loads((Path(said.out.strip()) / "run.json").read_text())
        assert state["seeds"] == [0] and DIVERGED in state["diverged"]["0"]


# ---- notebooks -----------------------------------------------------------------------------------


def notebook(path: Path, source: str) -> Path:
    book = nbformat.v4.new_notebook(metadata=KERNEL)
    book.cells = [nbformat.v4.new_code_cell(text) for text in ('profile = ""', "1 + 1", source)]
    book.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(book, path)
    return path


def outputs(path: Path) -> list:
    return [cell.get("outputs", []) for cell in nbformat.read(path, 4).cells]


@pytest.fixture
def book(tmp_path, capfd, monkeypatch):
    """Executes a notebook with this cell; returns the exit status and all that was said."""
    monkeypatch.chdir(tmp_path)

    def execute(source: str, target: str = "out.ipynb", *words: str) -> tuple[int, str]:
        made = notebook(tmp_path / "a.ipynb", source)
        code = pipeline.main(["run", str(made), target, *words])
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said
        return code, said

    return execute


RUNNING = Path("build/running/out.ipynb")
KEPT = f"The notebook as far as it came: {RUNNING}"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise ValueError('no\\nand no again')", "ValueError: no …"),
        ("import numpy\nnumpy.zeros(10**15)", MEMORY),
        (
            "from infoseg.files import ParamsError\nraise ParamsError('bad:\\n  a.b: missing')",
            "ParamsError: bad:\n  a.b: missing",
        ),
    ],
    ids=["raises", "memory", "settings"],
)
def test_a_notebook_that_raises(book, source, words):
    code, said = book(source)
    assert code == 1
    assert re.search(r"^infoseg: \S*a.ipynb failed in cell \d: ", said, re.M)
    assert words in said and KEPT in said
    assert not Path("out.ipynb").exists()
    assert any("ename" in output for cell in outputs(RUNNING) for output in cell)
    assert book("2")[0] == 0
    assert Path("out.ipynb").exists() and not RUNNING.exists()


def test_a_notebook_whose_kernel_is_killed(book):
    code, said = book("print('so far')\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert code == 1
    assert says(said, "infoseg: ", f"a.ipynb: the kernel died. {MEMORY}")
    assert KEPT in said
    assert not Path("out.ipynb").exists()
    assert "so far" in RUNNING.read_text()


def test_a_kernel_that_is_not_there(book, tmp_path, monkeypatch):
    # As without ipykernel, which is looked for in two ways.
    monkeypatch.setitem(sys.modules, "ipykernel.kernelspec", None)
    monkeypatch.setattr("jupyter_client.kernelspec.jupyter_path", lambda *_: [str(tmp_path)])
    code, said = book("2")
    assert code == 1
    assert says(said, "infoseg: ", "a.ipynb: ", "python3", "`make setup` installs the kernel")


def test_a_parameter_that_the_notebook_does_not_have(book):
    code, said = book("open('ran', 'w')", "out.ipynb", "sed=2")
    assert code == 1
    assert says(said, "infoseg: ", "a.ipynb has no parameter 'sed', only ['profile']")
    assert not Path("ran").exists()


@pytest.mark.parametrize("place", [".", "build"], ids=["the notebook", "while it runs"])
def test_a_disk_that_fills_up_while_a_notebook_runs(tmp_path, book, place):
    folder = tmp_path / "disk"
    folder.mkdir()
    (tmp_path / "build").mkdir()
    over = folder if place == "." else tmp_path / "build"
    with disk_over(over, "64k") as disk:
        fill = f"open({str(over / 'filler')!r}, 'wb', 0).write(bytes(200_000))"
        code, said = book(f"{fill}\nprint('x' * 200_000)", "disk/out.ipynb")
        assert code == 1
        assert says(said, "infoseg: ", "out.ipynb: ", FULL)
        assert not (folder / "out.ipynb").exists()
        disk.take()
        assert book("2", "disk/out.ipynb")[0] == 0
        assert (folder / "out.ipynb").exists()
