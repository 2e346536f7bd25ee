"""Power cuts: a command is killed at random, with everything it started, until it ends by itself.

It is done once without kills and once with them, in copies of the repository; then every file has
to have the bytes that it has without kills.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from clones import Clone

#: Recorded timings, which differ; logs of DVC and of the pipeline; what only a killed one leaves.
DIFFERENT = re.compile(
    r"(^|/)(timing\.(json|csv)|lock|dvc\.lock\.damaged)$|^build/(logs|repro\.lock|checkpoints)"
)


def kill_at_random(
    words: Sequence[str],
    folder: Path,
    kills: int,
    waits: tuple[float, float],
    seed: int,
    environment: dict[str, str],
) -> int:
    """Run a command in `folder`, killed up to `kills` times after a random wait, then to its end.

    Returns how often it was killed.
    """
    draw, made = random.Random(seed), 0
    while True:
        with (folder / "kills.log").open("a") as log:
            process = psutil.Popen(
                words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
            wait = draw.uniform(*waits) if made < kills else None
            try:
                code = process.wait(wait)
            except psutil.TimeoutExpired:
                made += 1
                power_cut(process)
                continue
        if code:
            raise RuntimeError((folder / "kills.log").read_text()[-3000:])
        return made


def power_cut(process: psutil.Process) -> None:
    """Kill a process and all its descendants as if at one moment: none sees another one end."""
    everyone = [process, *process.children(recursive=True)]
    for action in (psutil.Process.suspend, psutil.Process.kill):
        for one in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                action(one)
    psutil.wait_procs(everyone, 10)


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of everything a pipeline writes, by path; of links, what they lead to."""
    found = {}
    for top in ("dvc.lock", "build", "prepared", "raw", "results", "runs"):
        place = folder / top
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not DIFFERENT.search(name):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def compare(one: Path, two: Path) -> tuple[int, list[str]]:
    """How many files there are in two folders, and the names of those that differ or are alone."""
    left, right = contents(one), contents(two)
    names = left.keys() | right.keys()
    return len(names), sorted(name for name in names if left.get(name) != right.get(name))


PIPELINE = [sys.executable, "-m", "infoseg.pipeline", "--jobs", "2"]
#: One training of the tiny profile's pictures, long enough to be killed in the middle.
TRAINING = [
    *[sys.executable, "-m", "infoseg", "train", "coco_stuff3", "infoseg"],
    *["-S", "methods.infoseg.optimiser.steps=600", "-S", "execution.checkpoint_seconds=0.2"],
]


def trial(
    words: Sequence[str],
    tree: dict[str, Any],
    kills: int,
    waits: tuple[float, float],
    seed: int,
    scratch: Path,
) -> tuple[int, int, list[str]]:
    """Do `words` once without kills and once with them.

    Both in copies of the repository below `scratch`, with the settings of `tree`. Returns how
    often it was killed, the number of files to compare, and those that differ.
    """

    def do(folder: Path, kills: int) -> int:
        Clone(folder, tree)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "true"}
        environment["PYTHONPATH"] = str(folder)
        return kill_at_random(words, folder, kills, waits, seed, environment)

    do(scratch / "whole", 0)
    made = do(scratch / "killed", kills)
    return made, *compare(scratch / "whole", scratch / "killed")
