"""Trainings under a real Slurm on this machine: what it kills goes on, and the bytes are the same.

Not part of `make test`: `make test-slurm`, as root, with Debian's slurm-wlm and munge.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import ROOT, Clone
from helpers import one_data_set
from kills import compare

pytestmark = pytest.mark.slurm
INFOSEG, KMEANS = "coco_stuff3-infoseg-0", "coco_stuff3-kmeans-0"
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


def tree() -> dict:
    made = one_data_set(pictures=3)
    made["methods"]["infoseg"]["optimiser"]["steps"] = 200
    made["execution"]["checkpoint_seconds"] = 0.1
    return made


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Clone:
    made = Clone(tmp_path_factory.mktemp("local"), tree())
    pipeline(made)
    return made


def pipeline(clone: Clone, check: bool = True) -> str:
    return clone.run(sys.executable, "-m", "infoseg.pipeline", "--jobs", "2", check=check)


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
    within(200, lambda: list(clone.path.glob(f"build/checkpoints/{INFOSEG}-*/step-*.ckpt")))
    listed = ask("squeue", "--noheader", "--format=%i %j %T")
    running = [line.split()[0] for line in listed.splitlines() if line.endswith("RUNNING")]
    for job in running:
        for pid in ask("scontrol", "listpids", job).splitlines()[1:]:
            place = Path("/proc", pid.split()[0], "cmdline")
            if place.exists() and INFOSEG.encode() in place.read_bytes():
                return job
    raise AssertionError(f"none of {listed} is the training")


def resumed_at(clone: Clone) -> list[int]:
    return json.loads((clone.path / f"runs/tiny/{INFOSEG}/timing.json").read_text())["resumed_at"]


def test_srun_gives_the_same_bytes_and_a_killed_job_goes_on(slurm, local, tmp_path, monkeypatch):
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INFOSEG_LAUNCHER", "srun --quiet --ntasks=1 --cpus-per-task=1")
    clone = Clone(tmp_path, tree())
    killer = threading.Thread(
        target=lambda: ask("scancel", "--signal=KILL", job_with_checkpoint(clone))
    )
    killer.start()
    text = pipeline(clone, check=False)
    killer.join()
    assert clone.code == 1
    # 137 of the killed task itself, or 143 where srun is ended with its job.
    assert f"train@{INFOSEG} failed" in text and re.search(r"exited with 1(37|43)", text)
    assert re.search(rf"train@{KMEANS} +done", text)
    pipeline(clone)
    assert len(resumed_at(clone)) == 1 and resumed_at(local) == []
    assert compare(local.path, clone.path)[1] == []


def test_a_batch_job_that_is_queued_again_goes_on_by_itself(slurm, local, tmp_path, monkeypatch):
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INFOSEG_LAUNCHER", "cluster/batch.sh")
    clone = Clone(tmp_path, tree())
    other = threading.Thread(target=lambda: ask("scontrol", "requeue", job_with_checkpoint(clone)))
    other.start()
    pipeline(clone)
    other.join()
    assert len(resumed_at(clone)) == 1
    assert compare(local.path, clone.path)[1] == []


def test_stopping_the_pipeline_cancels_its_jobs(slurm, tmp_path, monkeypatch):
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INFOSEG_LAUNCHER", "cluster/batch.sh")
    clone = Clone(tmp_path, tree())
    process = subprocess.Popen(
        [sys.executable, "-m", "infoseg.pipeline", "--jobs", "2"],
        cwd=clone.path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    job_with_checkpoint(clone)
    process.terminate()
    assert "stopped; `make repro` goes on from here" in process.communicate(timeout=90)[1]
    assert process.returncode == 143
    within(60, lambda: not ask("squeue", "--noheader"))
