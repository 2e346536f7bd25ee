"""Faults of the pipeline: DVC's files, results and notebooks that were edited, two at once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from clones import Clone, contents, small
from disks import disk_over

pytestmark = pytest.mark.slow

KMEANS = "train@coco_stuff3-kmeans"
TABLES = "results/tiny/tables"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    """A repository whose tables are made, of one method on a few pictures."""
    tree = small(methods=["kmeans"], ablations={"dataset": "coco_stuff3", "variants": []})
    made = Clone(tmp_path_factory.mktemp("clone"), tree)
    made.repro("tables")
    made.commit()
    made.files = contents(made.path)
    return made


@pytest.fixture(autouse=True)
def good(clone) -> Iterator[None]:
    """Whatever was done, the next run puts everything in order, with the same bytes."""
    yield
    clone.repro("tables")
    assert contents(clone.path) == clone.files
    assert clone.run("git", "status", "--porcelain", "dvc.lock", "results") == ""


@contextlib.contextmanager
def started(clone: Clone, *words: str) -> Iterator[subprocess.Popen]:
    """Run a command in the clone, which goes on beside the block once tables.ipynb runs."""
    running = clone.path / "build/running/runs-tiny-tables-tables.ipynb"
    running.unlink(missing_ok=True)
    process = subprocess.Popen(
        words,
        cwd=clone.path,
        env=clone.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 120
        while not running.exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# ---- files edited by hand ------------------------------------------------------------------------


def status(clone: Clone, stage: str) -> dict:
    """What DVC says of a stage's outputs."""
    found = json.loads(clone.run("dvc", "status", "--json", stage))[stage]
    return next(said["changed outs"] for said in found if "changed outs" in said)


def test_results_edited_or_removed_by_hand(clone):
    with (clone.path / TABLES / "table1.csv").open("a") as file:
        file.write("ours,100\n")
    assert status(clone, "tables") == {TABLES: "modified"}
    assert clone.repro("tables") == ["tables"]
    clone.run("rm", "-r", "results", "runs")
    assert status(clone, "tables")[TABLES] == "deleted"
    # What no commit has is in DVC's cache.
    assert clone.repro("tables") == ["tables"]


def test_prepared_data_edited_by_hand(clone):
    place = "prepared/tiny/coco_stuff3"
    with (clone.path / place / "index.csv").open("a") as file:
        file.write("x\n")
    assert status(clone, "prepare@coco_stuff3") == {place: "modified"}
    clone.run("dvc", "checkout", "--force", place)
    assert contents(clone.path) == clone.files


@pytest.mark.parametrize("place", [TABLES, "build/04_tables.ipynb"])
def test_a_hash_edited_in_dvc_lock(clone, place):
    text = clone.lock.read_text()
    stage = yaml.safe_load(text)["stages"]["tables"]
    [known] = [fact["md5"] for fact in stage["deps"] + stage["outs"] if fact["path"] == place]
    clone.lock.write_text(text.replace(known, "f" * 32))
    assert re.search(rf"modified: +{place}", clone.run("dvc", "status", "tables"))


LOCKS = {
    # As it is for a moment whenever DVC writes it.
    "empty": lambda text: "",
    "cut short": lambda text: text[: text.rindex("hash: md5") + 4],
    "cut to what YAML can be": lambda text: text[: text.rindex("size:") + 5],
    "something else": lambda text: "lost\n",
    "conflict marks": lambda text: f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> theirs\n",
}


@pytest.mark.parametrize("damage", LOCKS.values(), ids=LOCKS)
def test_a_dvc_lock_that_is_damaged(clone, damage):
    clone.lock.write_text(damage(clone.lock.read_text()))
    said = clone.make(check=False)
    assert clone.code == 1
    assert re.fullmatch("infoseg: dvc.lock is not whole: .*`git checkout dvc.lock`.*\n", said)
    clone.run("git", "checkout", "dvc.lock")
    assert clone.repro("tables") == []


def test_a_file_of_dvcs_that_a_kill_cut_short(clone):
    lock = clone.path / ".dvc/tmp/rwlock"
    lock.write_text('{"read": ')
    said = clone.make(check=False)
    assert clone.code == 1
    assert re.fullmatch("infoseg: DVC cannot read .*/rwlock'.* corrupted: delete it, .*\n", said)
    lock.unlink()


def test_a_stage_of_plain_dvc_fails(clone):
    path = clone.path / "notebooks/04_tables.ipynb"
    path.write_text(path.read_text().replace("from infoseg.runs", "raise ValueError('no')\\n#"))
    said = clone.run("dvc", "repro", "tables", check=False)
    assert clone.code != 0
    assert "04_tables.ipynb failed in cell 3: ValueError: no" in said
    assert "failed to reproduce 'tables': failed to run: python -m infoseg" in said
    assert "Traceback" not in said
    assert json.loads(clone.run("dvc", "status", "--json", "tables")), "it is still to be done"
    clone.restore()


# ---- disks and processes -------------------------------------------------------------------------


def test_a_folder_of_results_that_is_read_only(clone):
    with disk_over(clone.path / "results") as disk:
        disk.lock()
        said = clone.run("dvc", "repro", "-f", "-s", "tables", check=False)
        assert clone.code != 0
        assert "failed to reproduce 'tables': [Errno 30] Read-only file system" in said
        disk.unlock()
        clone.repro("tables")
        assert contents(clone.path) == clone.files


def test_a_cache_that_is_full(clone):
    tree = clone.params
    tree["methods"]["kmeans"]["pixels_per_image"] += 50
    clone.write_params(tree)
    with disk_over(clone.path / ".dvc/cache", "32m") as disk:
        disk.fill()
        clone.run("dvc", "repro", "-s", "code", KMEANS, check=False)
        assert clone.code != 0
        assert "[Errno 28] No space left on device" in clone.said
        disk.free()
        assert KMEANS in clone.repro("-s", "code", KMEANS)
    clone.restore()


def test_two_dvc_at_once(clone):
    words = ["dvc", "repro", "-f", "-s", "tables"]
    with started(clone, *words) as first:
        said = clone.run(*words, check=False)
        assert clone.code != 0
        assert re.search("'tables': .* is busy, it is being blocked by:", said)
        assert first.wait(120) == 0


def test_one_that_is_killed_is_in_nobodys_way(clone):
    table: Path = clone.path / TABLES / "table1.csv"
    table.unlink()
    with started(clone, "dvc", "repro", "-f", "-s", "tables") as first:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert clone.repro("tables") == ["tables"]
    assert table.exists()
