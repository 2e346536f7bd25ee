"""Trainings under a real Slurm on this machine: what it kills goes on, and the bytes are the same.

Not part of `make test`: `make test-slurm`, as root, with Debian's slurm-wlm and munge.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import REPRO, Clone, compare, with_checkpoints
from helpers import ROOT

pytestmark = pytest.mark.slurm
SCRIPT = ROOT / "cluster/localhost.sh"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Two CPUs under Slurm; yields the environment its commands need."""
    # Short: the name of a Unix socket has 107 characters at most.
    folder = tmp_path_factory.mktemp("s")
    done = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True)
    if "apt-get install" in done.stderr or "as root" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([SCRIPT, "stop", folder], check=True)


@pytest.fixture(scope="module")
def local(slurm, tmp_path_factory) -> Clone:
    made = Clone(tmp_path_factory.mktemp("local"), with_checkpoints(0.1))
    made.make()
    return made


@pytest.fixture
def clone(slurm, local, tmp_path, monkeypatch) -> Clone:
    """Another one, whose trainings are Slurm's."""
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    return Clone(tmp_path, local.params, of=local.path)


def ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def within(seconds: float, question: Callable[[], object]):
    end = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return answer


def job_with_checkpoint(clone: Clone) -> str:
    """Wait until InfoSeg's training has kept a state; returns the number of its job."""
    within(200, lambda: list(clone.path.glob("build/scratch/coco_stuff3-infoseg-*.ckpt")))
    listed = ask("squeue", "--noheader", "--format=%i %j %T")
    running = [line.split()[0] for line in listed.splitlines() if line.endswith("RUNNING")]
    for job in running:
        for pid in ask("scontrol", "listpids", job).splitlines()[1:]:
            place = Path("/proc", pid.split()[0], "cmdline")
            if place.exists() and b"method=infoseg" in place.read_bytes():
                return job
    raise AssertionError(f"none of {listed} is the training")


def resumed(clone: Clone) -> int:
    """How often a training of InfoSeg went on from a checkpoint."""
    paths = clone.path.glob("build/timing/tiny/coco_stuff3-infoseg-*.json")
    return sum(len(json.loads(path.read_text())["resumed_at"]) for path in paths)


def test_srun_gives_the_same_bytes_and_a_killed_job_goes_on(local, clone, monkeypatch):
    monkeypatch.setenv("INFOSEG_LAUNCHER", "srun --quiet --ntasks=1 --cpus-per-task=1")
    killer = threading.Thread(
        target=lambda: ask("scancel", "--signal=KILL", job_with_checkpoint(clone))
    )
    killer.start()
    text = clone.make(check=False)
    killer.join()
    assert clone.code == 1
    # 137 of the killed task itself, or 143 where srun is ended with its job.
    assert re.search(r"^  train@coco_stuff3-infoseg .* FAILED; the end of its log:$", text, re.M)
    assert re.search(r"exited with 1(37|43)", text)
    assert re.search(r"^  train@coco_stuff3-kmeans .* done$", text, re.M)
    clone.make()
    assert resumed(clone) == 1 and resumed(local) == 0
    assert compare(local.path, clone.path)[1] == []


def test_a_batch_job_that_is_queued_again_goes_on_by_itself(local, clone, monkeypatch):
    monkeypatch.setenv("INFOSEG_LAUNCHER", "cluster/batch.sh")
    other = threading.Thread(target=lambda: ask("scontrol", "requeue", job_with_checkpoint(clone)))
    other.start()
    clone.make()
    other.join()
    assert resumed(clone) == 1
    assert compare(local.path, clone.path)[1] == []


def test_ctrl_c_cancels_the_jobs_of_the_pipeline(clone, monkeypatch):
    monkeypatch.setenv("INFOSEG_LAUNCHER", "cluster/batch.sh")
    process = subprocess.Popen(
        REPRO, cwd=clone.path, env=clone.environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    job_with_checkpoint(clone)
    os.killpg(process.pid, signal.SIGINT)
    assert "infoseg: interrupted; run it again to go on" in process.communicate(timeout=90)[1]
    assert process.returncode == 130
    within(60, lambda: not ask("squeue", "--noheader"))
