"""Faults of the machine and of hands: what the user is told, what stays whole, how it goes on.

Each message is a row of docs/troubleshooting.md, which these tests hold against what is said. The
pipeline's own faults are in test_faults_pipeline.py.
"""

from __future__ import annotations

import contextlib
import os
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
from helpers import one_data_set, random_images, write_prepared
from promises import ROOT, TESTED, faults, troubles

from infoseg.cli import main
from infoseg.errors import StorageError
from infoseg.files import write_whole
from infoseg.notebooks import KERNEL, command
from infoseg.parallel import side_by_side
from infoseg.reporting.style import save_figure

EVERY_STEP = ["-S", "execution.checkpoint_seconds=0"]
INFOSEG = ["train", "coco_stuff3", "infoseg", "-S", "methods.infoseg.optimiser.steps=4"]


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
FULL, READ_ONLY = "the disk is full", "the disk or folder is read-only"


@pytest.mark.parametrize("fault", [FULL, READ_ONLY])
@pytest.mark.parametrize("place", WRITES)
@faults(FULL, READ_ONLY)
def test_a_disk_that_takes_nothing_more(home, capsys, told, place, fault):
    folder = home / place
    with disk_over(folder) as disk:
        before = contents(folder)
        assert before
        disk.fill() if fault == FULL else disk.lock()
        assert main(WRITES[place]) == 1
        line = told(fault, capsys.readouterr().err)
        assert f"infoseg: {folder}" in line
        assert contents(folder) == before
        disk.free() if fault == FULL else disk.unlock()
        assert main(WRITES[place]) == 0
        after = contents(folder)
        assert after.keys() == before.keys()
        assert any(after[name] != before[name] for name in before)


@faults("the disk is full: weights")
def test_a_disk_without_room_for_the_weights(home, capsys, told):
    # Room for a history, none for weights; the training is not lost with them.
    words = [*INFOSEG, *EVERY_STEP]
    with disk_over(home / "runs", "1m"):
        assert main(words) == 1
        line = told("the disk is full: weights", capsys.readouterr().err)
        assert "coco_stuff3-infoseg-0/weights.safetensors" in line
        assert not list((home / "runs").rglob("coco_stuff3-infoseg-0/*"))
    assert main(words) == 0
    assert "goes on from step 4 of 4" in capsys.readouterr().err


@faults("the disk is full: a checkpoint")
def test_a_disk_without_room_for_a_checkpoint(home, capsys, told):
    (home / "build").mkdir(exist_ok=True)
    with disk_over(home / "build", "64k"):
        assert main([*INFOSEG, *EVERY_STEP]) == 0
        told("the disk is full: a checkpoint", capsys.readouterr().err)


@faults("files may not grow larger")
def test_a_limit_on_the_size_of_files(tmp_path, told):
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
        assert told("files may not grow larger", f"infoseg: {caught.value}").startswith(
            f"infoseg: {path}: "
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


@faults("the folder is somebody else's")
def test_a_folder_of_somebody_else(told):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.json").write_text("1")
        folder.chmod(0o555)
        words = [sys.executable, "-c", WRITING, str(folder / "a.json")]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
        folder.chmod(0o755)
        told("the folder is somebody else's", done.stdout)
        assert contents(folder).keys() == {"a.json"}
        assert (folder / "a.json").read_text() == "1"


@faults("a file is where a folder should be")
def test_a_file_in_the_way_of_a_folder(home, capsys, told):
    results = (home / "results").rename(home / "aside")
    (home / "results").write_text("mine")
    assert main(["table1"]) == 1
    told("a file is where a folder should be", capsys.readouterr().err)
    assert (home / "results").read_text() == "mine"
    (home / "results").unlink()
    results.rename(home / "results")
    assert main(["table1"]) == 0


def test_what_is_no_fault_of_the_disk_is_not_called_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        write_whole(tmp_path / "a", lambda file: file.write_bytes((tmp_path / "gone").read_bytes()))
    with pytest.raises(OSError, match="cannot write mode F") as caught:
        from PIL import Image

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


@faults("a training is stopped")
def test_ctrl_c_during_a_training(home, capsys, told):
    words = [*INFOSEG[:3], "--seed=1", *EVERY_STEP]
    run = home / "runs/tiny/coco_stuff3-infoseg-1"
    with signalled(signal.SIGINT, lambda: list(home.glob("build/checkpoints/*/step-*.ckpt"))):
        assert main(words) == 130
    told("a training is stopped", capsys.readouterr().err)
    assert not run.exists()
    assert main(words) == 0
    assert "goes on from step" in capsys.readouterr().err
    assert (run / "weights.safetensors").exists()


@faults("a command is stopped")
def test_sigterm_during_a_preparation(home, capsys, told):
    before = contents(home / "prepared")
    with signalled(signal.SIGTERM, lambda: list(home.glob("prepared/tiny/.coco_stuff3.partial-*"))):
        assert main(["prepare", "coco_stuff3"]) == 143
    told("a command is stopped", capsys.readouterr().err)
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


@faults("a process of several is killed")
def test_a_process_beside_others_is_killed(told):
    with pytest.raises(Exception) as caught:  # noqa: B017
        side_by_side(os._exit, [(9,)], 1, "marginal, 100 steps")
    told("a process of several is killed", f"infoseg: {caught.value}")


# ---- trainings -----------------------------------------------------------------------------------


@faults("the loss is no number")
def test_a_loss_that_is_no_number(home, capsys, told):
    words = [*INFOSEG[:3], "--seed=2", "-S", "methods.infoseg.optimiser.learning_rate=1e30"]
    assert main(words) == 1
    told("the loss is no number", capsys.readouterr().err)
    assert not (home / "runs/tiny/coco_stuff3-infoseg-2").exists()


@faults("memory runs out")
def test_memory_that_runs_out(home, capsys, told):
    assert main([*INFOSEG, "-S", "methods.infoseg.network.features=1000000000000"]) == 1
    told("memory runs out", capsys.readouterr().err)


@faults("a setting is misspelt", "a setting is impossible")
def test_settings_that_are_wrong(home, capsys, told):
    for key, fault in (("learning_rte=1", "misspelt"), ("learning_rate=-1", "impossible")):
        assert main(["params", "-S", f"methods.infoseg.optimiser.{key}"]) == 1
        told(f"a setting is {fault}", capsys.readouterr().err)


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


@faults("a notebook fails")
def test_a_notebook_that_raises(tmp_path, book, told):
    code, said = book("raise ValueError('no\\nand no again')")
    assert code == 1
    assert told("a notebook fails", said).endswith("ValueError: no …")
    assert not (tmp_path / "out.ipynb").exists()
    kept = outputs(tmp_path / "out.running.ipynb")
    assert any(output["output_type"] == "error" for cell in kept for output in cell)
    assert book("2")[0] == 0
    assert not (tmp_path / "out.running.ipynb").exists()


@faults("a notebook's memory runs out")
def test_a_notebook_whose_memory_runs_out(book, told):
    code, said = book("import numpy\nnumpy.zeros(10**15)")
    assert code == 1
    told("a notebook's memory runs out", said)


@faults("a kernel is killed")
def test_a_notebook_whose_kernel_is_killed(tmp_path, book, told):
    code, said = book("print('so far')\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert code == 1
    told("a kernel is killed", said)
    assert not (tmp_path / "out.ipynb").exists()
    assert len(outputs(tmp_path / "out.running.ipynb")) == 4
    assert book("2")[0] == 0


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@faults("a notebook is stopped")
def test_a_notebook_that_is_stopped(tmp_path, book, told, kind):
    pid = tmp_path / "pid"
    source = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))"
    with signalled(kind, lambda: pid.exists() and pid.read_text()):
        code, said = book(f"{source}\ntime.sleep(60)")
    assert code == 128 + kind
    assert kind.name in told("a notebook is stopped", said)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert not (tmp_path / "out.ipynb").exists()
    assert signal.getsignal(kind) not in (None, signal.SIG_IGN)


@faults("there is no kernel")
def test_a_kernel_that_is_not_there(book, told, tmp_path, monkeypatch):
    # As without ipykernel, whose files are found in two ways.
    monkeypatch.setitem(sys.modules, "ipykernel.kernelspec", None)
    monkeypatch.setattr("jupyter_client.kernelspec.jupyter_path", lambda *_: [str(tmp_path)])
    code, said = book("2")
    assert code == 1
    told("there is no kernel", said)


@faults("the disk is full: a notebook that runs")
def test_a_disk_that_fills_up_while_a_notebook_runs(tmp_path, book, told):
    folder = tmp_path / "disk"
    folder.mkdir()
    with disk_over(folder, "64k") as disk:
        fill = f"open({str(folder / 'filler')!r}, 'wb', 0).write(bytes(200_000))"
        code, said = book(fill, folder / "out.ipynb")
        assert code == 1
        told("the disk is full: a notebook that runs", said)
        assert f"infoseg: {folder / 'out.ipynb'}: cannot be written" in said
        assert [name for name in contents(folder)] == ["out.running.ipynb"]
        assert outputs(folder / "out.running.ipynb")  # whole, of a moment before
        disk.free()
        assert book("2", folder / "out.ipynb")[0] == 0
        assert [name for name in contents(folder)] == ["out.ipynb"]


def test_every_row_of_the_page_is_a_tests():
    import test_faults_pipeline  # noqa: F401  these have the other rows
    import test_newcomers  # noqa: F401

    assert set(troubles()) == TESTED
