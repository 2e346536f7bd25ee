"""Faults of the pipeline: DVC's files, results and notebooks that were edited, two at once."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from clones import Clone
from disks import disk_over
from helpers import one_data_set

pytestmark = pytest.mark.slow

KMEANS = "coco_stuff3-kmeans-0"
PIPELINE = [sys.executable, "-m", "infoseg.pipeline"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    """A repository whose Table 1 is made, of one method on a few pictures."""
    tree = one_data_set(pictures=2)
    tree["profile"] |= {"methods": ["kmeans"]}
    for table in ("table2", "table2b"):
        tree["profile"][table]["variants"] = []
    tree["sources"]["coco"] |= {"stuff_images": 16, "person_images": 0}
    made = Clone(tmp_path_factory.mktemp("clone"), tree)
    made.run("dvc", "repro", "strip", "code", "table1")
    made.run("git", "add", "-A")
    made.run("git", "-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "made")
    made.results = made.path / "results/tiny"
    made.files = {path.name: path.read_bytes() for path in made.results.iterdir()}
    return made


@pytest.fixture(autouse=True)
def good(clone) -> Iterator[None]:
    """Whatever was done, the next run puts Table 1 in order, with the same bytes."""
    lock = clone.lock
    yield
    assert not clone.run("dvc", "repro", "table1").count("ERROR")
    assert {path.name: path.read_bytes() for path in clone.results.iterdir()} == clone.files
    assert clone.lock == lock
    assert clone.run("git", "status", "--porcelain", "dvc.lock", "results") == ""


def running(clone: Clone, key: str) -> Path:
    return clone.path / f"runs/tiny/{key}.running.ipynb"


@contextlib.contextmanager
def started(clone: Clone, *words: str, when: Path) -> Iterator[subprocess.Popen]:
    """Run a command in the clone until a file is there; it goes on beside the block."""
    when.unlink(missing_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (clone.path / "build/started.log").open("w+") as log:
        process = subprocess.Popen(
            words,
            cwd=clone.path,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(clone.path)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        process.said = lambda: log.seek(0) or log.read()
        try:
            until = time.monotonic() + 120
            while not (when.exists() and when.stat().st_size):
                assert process.poll() is None, process.said()
                assert time.monotonic() < until
                time.sleep(0.05)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# ---- files edited by hand ------------------------------------------------------------------------


def test_results_edited_by_hand(clone):
    with (clone.results / "table1.csv").open("a") as file:
        file.write("ours,100\n")
    (clone.results / "table1.md").unlink()
    status = clone.run("dvc", "status", "table1")
    assert re.search(r"modified: +results/tiny/table1\.csv", status)
    assert re.search(r"deleted: +results/tiny/table1\.md", status)
    assert clone.repro("table1") == ["table1"]
    assert (clone.results / "table1.csv").read_bytes() == clone.files["table1.csv"]


def test_prepared_data_edited_by_hand(clone):
    index = clone.path / "prepared/tiny/coco_stuff3/index.csv"
    before = index.read_bytes()
    index.write_bytes(before + b"x\n")
    status = clone.run("dvc", "status", "prepare@coco_stuff3")
    assert re.search("modified: +prepared/tiny/coco_stuff3", status)
    clone.run("dvc", "checkout", "--force", "prepared/tiny/coco_stuff3")
    assert index.read_bytes() == before


@pytest.mark.parametrize("place", ["results/tiny/table1.csv", "build/04_table1.ipynb"])
def test_a_hash_edited_in_dvc_lock(clone, place):
    stages = yaml.safe_load(clone.lock)["stages"]
    facts = [*stages["table1"]["deps"], *stages["table1"]["outs"]]
    [known] = [fact["md5"] for fact in facts if fact["path"] == place]
    (clone.path / "dvc.lock").write_text(clone.lock.replace(known, "f" * 32))
    status = clone.run("dvc", "status", "table1")
    assert re.search(rf"modified: +{place}", status)
    clone.repro("table1")
    assert known in clone.lock


LOCKS = {
    # In the middle of a stage: between two of them it would be one that knows fewer.
    "cut short": (
        lambda text: text[: text.rindex("hash: md5") + 4],
        "'./dvc.lock' is invalid.",
    ),
    "something else": (lambda text: "lost\n", "'./dvc.lock' validation failed"),
    "conflict marks": (
        lambda text: f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> theirs\n",
        "'./dvc.lock' is invalid (possible merge conflicts).",
    ),
}


@pytest.mark.parametrize(("damage", "message"), LOCKS.values(), ids=LOCKS)
def test_a_dvc_lock_that_is_damaged(clone, damage, message):
    lock = clone.lock
    (clone.path / "dvc.lock").write_text(damage(lock))
    said = clone.run("dvc", "status", check=False)
    assert clone.code != 0 and message in said
    # What to do then: results are in git, the rest in DVC's cache.
    clone.run("git", "checkout", "dvc.lock")
    assert clone.lock == lock


def test_make_repro_mends_a_damaged_dvc_lock(clone):
    lock, aside = clone.lock, clone.path / "build/dvc.lock.damaged"
    damaged = LOCKS["cut short"][0](lock)
    (clone.path / "dvc.lock").write_text(damaged)
    with started(clone, *PIPELINE, when=aside) as first:
        time.sleep(1)  # it says so, and goes on
        first.terminate()
        assert first.wait(60) == 143
        assert "it is kept as build/dvc.lock.damaged, the last commit's is used" in first.said()
    assert aside.read_text() == damaged
    assert clone.lock == lock


def test_make_repro_leaves_a_conflict_alone(clone):
    lock = clone.lock
    marked = LOCKS["conflict marks"][0](lock)
    (clone.path / "dvc.lock").write_text(marked)
    said = clone.run(*PIPELINE, check=False)
    assert clone.code == 1
    assert "infoseg: dvc.lock has conflict marks: take either side, with `git checkout" in said
    assert clone.lock == marked
    clone.run("git", "checkout", "dvc.lock")


@contextlib.contextmanager
def raising(clone: Clone, name: str) -> Iterator[None]:
    """A notebook has a cell that raises, behind its first two."""
    path = clone.path / f"notebooks/{name}.ipynb"
    good = path.read_bytes()
    book = nbformat.read(path, 4)
    first = next(n for n, cell in enumerate(book.cells) if cell.cell_type == "code")
    wrong = nbformat.v4.new_code_cell("raise ValueError('wrong on purpose')")
    book.cells.insert(first + 2, wrong)
    nbformat.write(book, path)
    yield
    path.write_bytes(good)


def test_a_stage_whose_notebook_raises(clone):
    with raising(clone, "04_table1"):
        clone.repro("table1", check=False)
        assert clone.code != 0
        assert "failed to reproduce 'table1': failed to run: python -m infoseg" in clone.output
        assert "ValueError: wrong on purpose" in clone.output
        assert "Traceback" not in clone.output
        assert "wrong on purpose" in running(clone, "tables/table1").read_text()
        assert "table1" in clone.run("dvc", "status", "table1")  # it is still to be done
    clone.repro("table1")
    assert not running(clone, "tables/table1").exists()


def test_a_stage_of_make_repro_fails(clone):
    with raising(clone, "02_train"):
        said = clone.run(*PIPELINE, "--jobs", "2", check=False)
        assert clone.code == 1
        assert f"infoseg: train@{KMEANS} failed; the end of build/logs/train-{KMEANS}.log:" in said
        assert "ValueError: wrong on purpose" in said and "Traceback" not in said
    # Its outputs are gone, as are those of what could not follow: DVC's cache has them.
    assert f"train@{KMEANS}" in clone.repro("table1")


# ---- disks and processes -------------------------------------------------------------------------


def test_a_folder_of_results_that_is_read_only(clone):
    with disk_over(clone.path / "results") as disk:
        disk.lock()
        clone.repro("-f", "-s", "table1", check=False)
        assert clone.code != 0
        assert "failed to reproduce 'table1': [Errno 30] Read-only file system" in clone.output
        disk.unlock()
        assert {path.name: path.read_bytes() for path in clone.results.iterdir()} == clone.files
        clone.repro("-f", "-s", "table1")


def test_a_cache_that_is_full(clone):
    good = clone.params
    tree = clone.params
    tree["methods"]["kmeans"]["pixels_per_image"] += 50
    clone.write_params(tree)
    with disk_over(clone.path / ".dvc/cache", "32m") as disk:
        disk.fill()
        clone.repro("-s", f"train@{KMEANS}", check=False)
        assert clone.code != 0
        assert f"'train@{KMEANS}': [Errno 28] No space left on device" in clone.output
        disk.free()
        assert clone.repro("-s", f"train@{KMEANS}") == [f"train@{KMEANS}"]
    clone.write_params(good)


def test_two_dvc_at_once(clone):
    words = ["dvc", "repro", "-f", "-s", "table1"]
    with started(clone, *words, when=running(clone, "tables/table1")) as first:
        clone.run(*words, check=False)
        assert clone.code != 0
        assert re.search("'table1': .* is busy, it is being blocked by:", clone.output)
        assert first.wait(120) == 0, first.said()


def test_dvc_is_killed(clone):
    words = ["dvc", "repro", "-f", "-s", "table1"]
    with started(clone, *words, when=running(clone, "tables/table1")) as first:
        first.kill()
    clone.run("dvc", "repro", "table1")
    assert re.search(rf"\(Pid {first.pid}\), in RWLock-file .* had been killed", clone.output)


def test_two_make_repro_at_once_and_one_that_is_stopped(clone):
    with started(clone, *PIPELINE, when=clone.path / "build/repro.lock") as first:
        said = clone.run(*PIPELINE, check=False)
        assert clone.code == 1
        assert f"another `make repro` is at work in this folder (process {first.pid}): wait" in said
        first.terminate()
        assert first.wait(60) == 143
        assert "infoseg: stopped; `make repro` goes on from here" in first.said()
        assert "Traceback" not in first.said()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_make_repro_that_is_stopped_keeps_a_checkpoint_of_its_trainings(clone, kind):
    good, tree = clone.params, clone.params
    tree["profile"]["methods"] = ["infoseg"]
    tree["methods"]["infoseg"]["optimiser"]["steps"] = 3000
    tree["execution"]["checkpoint_seconds"] = 4
    clone.write_params(tree)
    log = clone.path / "build/logs/train-coco_stuff3-infoseg-0.log"
    log.unlink(missing_ok=True)

    def newest() -> str:
        return max(
            (path.name for path in clone.path.glob("build/checkpoints/*/*.ckpt")), default=""
        )

    before = newest()
    with started(clone, *PIPELINE, "--jobs", "2", when=log) as first:
        until = time.monotonic() + 120
        while newest() == before:  # the first one that is due
            assert first.poll() is None and time.monotonic() < until, first.said()
            time.sleep(0.05)
        due = newest()
        time.sleep(1)  # less than to the next
        first.send_signal(kind)
        assert first.wait(60) == 128 + kind, first.said()
        time.sleep(2)
        assert newest() > due
    assert "Traceback" not in log.read_text()
    clone.write_params(good)
