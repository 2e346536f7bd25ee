"""Faults of the machine and of hands: what the user is told, what stays whole, how it goes on.

The pipeline's own faults are in test_faults_pipeline.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
import yaml
from disks import contents, disk_over, file_limit
from helpers import ROOT, one_data_set, random_images, write_prepared
from PIL import Image

from infoseg.cli import main
from infoseg.errors import StorageError
from infoseg.files import write_whole
from infoseg.notebooks import KERNEL, command
from infoseg.reporting.style import save_figure

UNTOUCHED = "Nothing that was there before was touched."
FULL = f"cannot be written (No space left on device). {UNTOUCHED} Free some space there and run"
READ_ONLY = f"cannot be written (Read-only file system). {UNTOUCHED} Remount that disk for writing"
MEMORY = "That is how it ends when memory runs out: run fewer side by side (`make repro JOBS=1`, "
EVERY_STEP = ["-S", "execution.checkpoint_seconds=0"]
INFOSEG = ["train", "coco_stuff3", "infoseg", "-S", "methods.infoseg.optimiser.steps=4"]


def told(output: str, *parts: str) -> re.Match[str] | None:
    """Whether a line of an output has these parts, in this order."""
    return re.search(".*".join(map(re.escape, parts)), output)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder the command line works in, with everything that Table 1 of one method needs."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "conf").mkdir()
    tree = one_data_set(pictures=2)
    tree["profile"]["methods"] = ["kmeans"]
    tree["sources"]["coco"] |= {"stuff_images": 16, "person_images": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    with contextlib.chdir(folder):
        assert main(["table1"]) == 0
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
    "results": ["table1"],
}


@pytest.mark.parametrize("message", [FULL, READ_ONLY], ids=["full", "read-only"])
@pytest.mark.parametrize("place", WRITES)
def test_a_disk_that_takes_nothing_more(home, capsys, place, message):
    folder = home / place
    with disk_over(folder) as disk:
        before = contents(folder)
        assert before
        disk.fill() if message == FULL else disk.lock()
        assert main(WRITES[place]) == 1
        assert told(capsys.readouterr().err, f"infoseg: {folder}", message)
        assert contents(folder) == before
        disk.free() if message == FULL else disk.unlock()
        assert main(WRITES[place]) == 0
        after = contents(folder)
        assert after.keys() == before.keys()
        assert any(after[name] != before[name] for name in before)


def test_a_disk_without_room_for_the_weights(home, capsys):
    # Room for a history, none for weights; the training is not lost with them.
    words = [*INFOSEG, *EVERY_STEP]
    with disk_over(home / "runs", "1m"):
        assert main(words) == 1
        said = capsys.readouterr().err
        assert told(said, "infoseg: ", f"coco_stuff3-infoseg-0/weights.safetensors: {FULL}")
        assert not list((home / "runs").rglob("coco_stuff3-infoseg-0/*"))
    assert main(words) == 0
    assert "goes on from step 4 of 4" in capsys.readouterr().err


def test_a_disk_without_room_for_a_checkpoint(home, capsys):
    (home / "build").mkdir(exist_ok=True)
    with disk_over(home / "build", "64k"):
        assert main([*INFOSEG, *EVERY_STEP]) == 0
        said = capsys.readouterr().err
        assert told(said, "no checkpoint at step ", ", training goes on: ", FULL)


def test_a_limit_on_the_size_of_files(tmp_path):
    figure = plt.figure()
    figure.add_subplot().plot([1, 2])
    written = {
        "text": lambda path: write_whole(path, lambda file: file.write_text("x" * 10_000)),
        "png": lambda path: save_figure(figure, path),
        "svg": lambda path: save_figure(figure, path),
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


WRITING = """
import os, sys
from pathlib import Path
from infoseg.files import write_json
if os.geteuid() == 0:  # to whom nothing is forbidden
    os.setuid(65534)
try:
    write_json(Path(sys.argv[1]), 2)
except Exception as error:
    print(f"infoseg: {error}")
"""


def test_a_folder_of_somebody_else():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.json").write_text("1")
        folder.chmod(0o555)
        words = [sys.executable, "-c", WRITING, str(folder / "a.json")]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
        folder.chmod(0o755)
        denied = f"a.json: cannot be written (Permission denied). {UNTOUCHED} Check who may write"
        assert told(done.stdout, f"infoseg: {folder}", denied)
        assert contents(folder).keys() == {"a.json"}
        assert (folder / "a.json").read_text() == "1"


def test_a_file_in_the_way_of_a_folder(home, capsys):
    results = (home / "results").rename(home / "aside")
    (home / "results").write_text("mine")
    assert main(["table1"]) == 1
    advice = f"{UNTOUCHED} Move away the file that is where a folder should be"
    assert told(capsys.readouterr().err, f"infoseg: {home / 'results'}", advice)
    assert (home / "results").read_text() == "mine"
    (home / "results").unlink()
    results.rename(home / "results")
    assert main(["table1"]) == 0


def test_what_is_no_fault_of_the_disk_is_not_called_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        write_whole(tmp_path / "a", lambda file: file.write_bytes((tmp_path / "gone").read_bytes()))
    with pytest.raises(OSError, match="cannot write mode F") as caught:
        write_whole(tmp_path / "a", lambda file: Image.new("F", (2, 2)).save(file, format="png"))
    assert not isinstance(caught.value, StorageError)
    assert not list(tmp_path.iterdir())


# ---- signals -------------------------------------------------------------------------------------


@contextlib.contextmanager
def signalled(kind: int, when) -> Iterator[None]:
    """Send this process a signal as soon as something is so; it must be before the block ends."""
    over = threading.Event()

    def wait() -> None:
        while not over.wait(0.005):
            if when():
                os.kill(os.getpid(), kind)
                return

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        assert not thread.is_alive(), "it ended before there was anything to stop"
        over.set()
        thread.join()


def test_ctrl_c_during_a_training(home, capsys):
    words = [*INFOSEG[:3], "--seed=1", *EVERY_STEP]
    run = home / "runs/tiny/coco_stuff3-infoseg-1"
    with signalled(signal.SIGINT, lambda: list(home.glob("build/checkpoints/*/step-*.ckpt"))):
        assert main(words) == 130
    said = capsys.readouterr().err
    assert told(said, "infoseg: ", "stopped at step ", " of 30; run it again to go on from there")
    assert not run.exists()
    assert main(words) == 0
    assert "goes on from step" in capsys.readouterr().err
    assert (run / "weights.safetensors").exists()


def test_sigterm_during_a_preparation(home, capsys):
    before = contents(home / "prepared")
    with signalled(signal.SIGTERM, lambda: list(home.glob("prepared/tiny/.coco_stuff3.partial-*"))):
        assert main(["prepare", "coco_stuff3"]) == 143
    assert "infoseg: stopped by SIGTERM" in capsys.readouterr().err
    assert contents(home / "prepared") == before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


KILLED = """
import os, signal
from infoseg.cli import main
from infoseg.data.store_writer import PreparedWriter

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
    assert before.items() <= left.items() and any(".partial-" in name for name in left)
    assert main(["prepare", "coco_stuff3"]) == 0
    assert contents(home / "prepared").keys() == before.keys()


# ---- trainings -----------------------------------------------------------------------------------


def test_a_loss_that_is_no_number(home, capsys):
    words = [*INFOSEG[:3], "--seed=2", "-S", "methods.infoseg.optimiser.learning_rate=1e30"]
    assert main(words) == 1
    advice = "Try a smaller optimiser.learning_rate or objective.score_factor; nothing was written."
    assert told(capsys.readouterr().err, "infoseg: ", "the loss became ", " at step ", advice)
    assert not (home / "runs/tiny/coco_stuff3-infoseg-2").exists()


def test_memory_that_runs_out(home, capsys):
    assert main([*INFOSEG, "-S", "methods.infoseg.network.features=1000000000000"]) == 1
    assert told(capsys.readouterr().err, "infoseg: ", MEMORY)


@pytest.mark.parametrize(
    ("setting", "message"),
    [("learning_rte=1", "unknown key (a typo, or a key"), ("learning_rate=-1", "Input should be")],
)
def test_a_setting_that_is_wrong(home, capsys, setting, message):
    assert main(["params", "-S", f"methods.infoseg.optimiser.{setting}"]) == 1
    key = f"methods.infoseg.optimiser.{setting.partition('=')[0]}"
    assert told(capsys.readouterr().err, key, f": {message}")


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
def book(tmp_path, capfd):
    """Executes a notebook with this cell; returns the exit status and all that was said."""

    def execute(source: str, target: Path = tmp_path / "out.ipynb") -> tuple[int, str]:
        made = notebook(tmp_path / "a.ipynb", source)
        code = command(["run", str(made), str(target)])
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said
        return code, said

    return execute


def test_a_notebook_that_raises(tmp_path, book):
    code, said = book("raise ValueError('no\\nand no again')")
    assert code == 1
    assert told(said, "infoseg: ", "a.ipynb failed in cell ", ": ValueError: no …\n")
    assert not (tmp_path / "out.ipynb").exists()
    kept = outputs(tmp_path / "out.running.ipynb")
    assert any(output["output_type"] == "error" for cell in kept for output in cell)
    assert book("2")[0] == 0
    assert not (tmp_path / "out.running.ipynb").exists()


def test_a_notebook_whose_memory_runs_out(book):
    code, said = book("import numpy\nnumpy.zeros(10**15)")
    assert code == 1
    assert told(said, "infoseg: ", "a.ipynb failed in cell ", MEMORY)


def test_a_notebook_whose_kernel_is_killed(tmp_path, book):
    code, said = book("print('so far')\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert code == 1
    assert told(said, "infoseg: ", "a.ipynb: the kernel died in cell ", f", of SIGKILL. {MEMORY}")
    assert not (tmp_path / "out.ipynb").exists()
    assert len(outputs(tmp_path / "out.running.ipynb")) == 4
    assert book("2")[0] == 0


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_notebook_that_is_stopped(tmp_path, book, kind):
    pid = tmp_path / "pid"
    source = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))"
    with signalled(kind, lambda: pid.exists() and pid.read_text()):
        code, said = book(f"{source}\ntime.sleep(60)")
    assert code == 128 + kind
    assert f"infoseg: stopped by {kind.name}; run it again, and a training goes on from its" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert not (tmp_path / "out.ipynb").exists()
    assert signal.getsignal(kind) not in (None, signal.SIG_IGN)


def test_a_kernel_that_is_not_there(book, tmp_path, monkeypatch):
    # As without ipykernel, whose files are found in two ways.
    monkeypatch.setitem(sys.modules, "ipykernel.kernelspec", None)
    monkeypatch.setattr("jupyter_client.kernelspec.jupyter_path", lambda *_: [str(tmp_path)])
    code, said = book("2")
    assert code == 1
    assert told(said, "infoseg: there is no Jupyter kernel `python3`", "`pip install ipykernel`")


def test_a_disk_that_fills_up_while_a_notebook_runs(tmp_path, book):
    folder = tmp_path / "disk"
    folder.mkdir()
    with disk_over(folder, "64k") as disk:
        fill = f"open({str(folder / 'filler')!r}, 'wb', 0).write(bytes(200_000))"
        code, said = book(fill, folder / "out.ipynb")
        assert code == 1
        assert told(said, "the notebook so far is not kept: ", FULL)
        assert f"infoseg: {folder / 'out.ipynb'}: {FULL}" in said
        assert [name for name in contents(folder)] == ["out.running.ipynb"]
        assert outputs(folder / "out.running.ipynb")  # whole, of a moment before
        disk.free()
        assert book("2", folder / "out.ipynb")[0] == 0
        assert [name for name in contents(folder)] == ["out.ipynb"]
