"""Power cuts: `make repro` is killed at random moments until it has ended often enough by itself.

    python tests/kills.py repro --kills 20 --jobs 2 [--profile tiny]

It is done once without kills and, in clones of their own, with them; then every file has to have
the bytes that it has without. Nothing of a killed one may be at work 15 s later.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from clones import REPRO, Clone, small

from infoseg.settings import compose

#: Marks the processes of one attempt, whatever becomes of their parents.
MARK = "KILLS_ATTEMPT"
PATIENCE = 15.0


@dataclass
class Trial:
    """What happened. in_training: kills of a training that had written a checkpoint by then.
    resumed: trainings that went on from one. mended: files of DVC's that were half-written."""

    kills: int = 0
    in_training: int = 0
    resumed: int = 0
    mended: int = 0
    clones: int = 0
    files: int = 0
    differ: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)


def settings(profile: str) -> dict[str, Any]:
    """A profile with a checkpoint every second; the tiny one cut down, and trained for longer."""
    tree = small() if profile == "tiny" else compose(profile)
    if profile == "tiny":
        tree["methods"]["infoseg"]["optimiser"] |= {"steps": 800, "batch": 8}
    return tree | {"execution": {"checkpoint_seconds": 1}}


def trial(kills: int, jobs: int, tree: dict[str, Any], seed: int, folder: Path) -> Trial:
    """Kill `make repro` so often in clones below `folder`, and compare."""
    outcome, draw = Trial(), random.Random(seed)
    whole, began = Clone(folder / "whole", tree), time.monotonic()
    with _started(whole, jobs, 0) as process:
        if process.wait():
            raise RuntimeError((whole.path / "kills.log").read_text()[-3000:])
    longest = (time.monotonic() - began) / 2
    while outcome.kills < kills:
        outcome.clones += 1
        clone = Clone(folder / f"killed-{outcome.clones}", tree, of=whole.path)
        while not _attempt(clone, jobs, draw.uniform(0, longest), outcome, kills):
            pass
        for path in clone.path.glob("build/timing/*/*.json"):
            outcome.resumed += len(json.loads(path.read_text())["resumed_at"])
        count, differ = compare(whole.path, clone.path)
        outcome.files += count
        outcome.differ += [f"{clone.path.name}/{name}" for name in differ]
    return outcome


@contextlib.contextmanager
def _started(clone: Clone, jobs: int, number: int):
    words = [*REPRO[:-1], str(jobs)]
    with (clone.path / "kills.log").open("w") as log:
        yield subprocess.Popen(
            words,
            cwd=clone.path,
            env=clone.environment | {MARK: f"{clone.path} {number}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _attempt(clone: Clone, jobs: int, seconds: float, outcome: Trial, kills: int) -> bool:
    """Run it for so long at most, or to its end if it was killed often enough; whether it ended."""
    began, number = time.time(), outcome.kills
    with _started(clone, jobs, number) as process:
        if number:
            outcome.orphans += _left(f"{clone.path} {number - 1}")
        rest = max(0.0, began + seconds - time.time())
        try:
            code = process.wait(None if outcome.kills >= kills else rest)
        except subprocess.TimeoutExpired:
            written = [_modified(path) for path in clone.path.glob("build/scratch/*.ckpt")]
            outcome.in_training += any(at > began for at in written)
            outcome.kills += 1
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(ProcessLookupError):
                while True:  # until init has all of them: DVC asks whether a process is there
                    os.killpg(process.pid, 0)
                    time.sleep(0.01)
            return False
    said = (clone.path / "kills.log").read_text()
    if code and "git checkout dvc.lock" in said:
        outcome.mended += 1
        clone.lock.unlink()  # no commit has one
    elif code and "corrupted: delete it" in said:
        outcome.mended += 1
        (clone.path / ".dvc/tmp/rwlock").unlink()
    elif code:
        raise RuntimeError(said[-3000:])
    return not code


def _modified(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):  # the training has just ended
        return path.stat().st_mtime
    return 0.0


def _left(mark: str) -> list[str]:
    """What is still at work of an attempt, after some patience."""
    until = time.monotonic() + PATIENCE
    while (left := list(filter(None, map(_told, _marked(mark))))) and time.monotonic() < until:
        time.sleep(0.5)
    return left


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def _told(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        if process.status() != psutil.STATUS_ZOMBIE:
            return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    return ""


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of everything a pipeline makes, by path, and of each stage in dvc.lock."""
    found = {}
    for top in ("raw", "prepared", "runs", "results"):
        for path in sorted((folder / top).rglob("*")):
            if path.is_file() and path.name != "timing.csv":
                content = path.read_bytes()
                found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    if (folder / "dvc.lock").exists():  # the stages stand there in the order in which they ended
        for name, stage in yaml.safe_load((folder / "dvc.lock").read_text())["stages"].items():
            text = json.dumps(stage, sort_keys=True)
            found[f"dvc.lock: {name}"] = hashlib.sha256(text.encode()).hexdigest()
    return found


def compare(one: Path, two: Path) -> tuple[int, list[str]]:
    """How many files there are in two folders, and the names of those that differ or are alone."""
    left, right = contents(one), contents(two)
    names = left.keys() | right.keys()
    return len(names), sorted(name for name in names if left.get(name) != right.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, usage="%(prog)s repro [options]")
    parser.add_argument("command", choices=["repro"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True) as folder:
        tree = settings(options.profile)
        outcome = trial(options.kills, options.jobs, tree, options.seed, Path(folder))
    print(f"kills: {outcome.kills}, in {outcome.clones} clones")
    print(f"kills inside a training that had a checkpoint: {outcome.in_training}")
    print(f"trainings that went on from a checkpoint: {outcome.resumed}")
    print(f"files of DVC's that were half-written: {outcome.mended}")
    print(
        f"files compared: {outcome.files}, differ: {len(outcome.differ)}",
        *outcome.differ,
        sep="\n  ",
    )
    print(f"orphans after {PATIENCE:g} s: {len(outcome.orphans)}", *outcome.orphans, sep="\n  ")
    return bool(outcome.differ or outcome.orphans)


if __name__ == "__main__":
    sys.exit(main())
