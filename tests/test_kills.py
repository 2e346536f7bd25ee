"""Power cuts: `make repro` is killed at random moments until it has ended often enough by itself.

It is done once without kills and, in clones of their own, with them; then every file has to have
the bytes that it has without. Nothing of a killed one may be at work 15 s later. KILLS=20 makes
many: `KILLS=20 python -m pytest tests/test_kills.py -s`.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import time

import psutil
import pytest
from clones import REPRO, Clone, compare, with_checkpoints

#: Marks the processes of one attempt, whatever becomes of their parents.
MARK = "KILLS_ATTEMPT"


def started(clone: Clone, attempt: int) -> subprocess.Popen:
    environment = clone.environment | {MARK: f"{clone.path} {attempt}"}
    how = {"cwd": clone.path, "env": environment, "start_new_session": True}
    with (clone.path / "kills.log").open("w") as log:
        return subprocess.Popen(REPRO, stdout=log, stderr=log, **how)


def killed(clone: Clone, attempt: int, seconds: float | None) -> bool:
    """Run it for so long at most, None: to its end; whether it had to be killed."""
    process = started(clone, attempt)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    said = (clone.path / "kills.log").read_text()
    if "git checkout dvc.lock" in said:
        clone.lock.unlink()  # no commit has one
    elif "corrupted: delete it" in said:
        (clone.path / ".dvc/tmp/rwlock").unlink()
    else:
        assert process.returncode == 0, said[-3000:]
        return False
    return killed(clone, attempt, seconds)


def orphans(clone: Clone, attempt: int) -> list[str]:
    """What is still at work of an attempt after 15 s."""
    until = time.monotonic() + 15
    while (left := list(marked(f"{clone.path} {attempt}"))) and time.monotonic() < until:
        time.sleep(0.5)
    return left


def marked(mark: str):
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield f"{process.pid}: {process.cmdline()}"


@pytest.mark.slow
def test_after_random_kills_every_file_has_the_bytes_it_has_without(tmp_path):
    draw, tree, kills = random.Random(0), with_checkpoints(1), int(os.environ.get("KILLS", 2))
    whole, began = Clone(tmp_path / "whole", tree), time.monotonic()
    assert not killed(whole, 0, None)
    longest, done, resumed = (time.monotonic() - began) / 2, 0, 0
    while done < kills:
        clone = Clone(tmp_path / f"killed-{done}", tree, of=whole.path)
        while killed(clone, done, draw.uniform(0, longest) if done < kills else None):
            assert orphans(clone, done) == []
            done += 1
        timings = clone.path.glob("build/timing/*/*.json")
        resumed += sum(len(json.loads(path.read_text())["resumed_at"]) for path in timings)
        count, different = compare(whole.path, clone.path)
        assert count > 50 and different == []
    print(f"{done} kills; trainings that went on from a checkpoint: {resumed}")


def test_the_comparison_sees_one_byte_one_file_and_one_stage(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / "results").mkdir(parents=True)
        (tmp_path / folder / "results/table").write_bytes(b"same")
        (tmp_path / folder / "results/timing.csv").write_text(folder)
    assert compare(tmp_path / "a", tmp_path / "b") == (1, [])
    (tmp_path / "b/results/table").write_bytes(b"sane")
    (tmp_path / "a/dvc.lock").write_text("stages: {strip: {cmd: a}}")
    assert compare(tmp_path / "a", tmp_path / "b")[1] == ["dvc.lock: strip", "results/table"]
