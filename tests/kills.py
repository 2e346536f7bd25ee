"""Power cuts: a command is killed at random, with everything it started, until it ends by itself.

    python tests/kills.py training --kills 20     one training
    python tests/kills.py repro --kills 20        a whole `make repro`

Each is done once without kills and once with them, in copies of the repository, and ends in a
table: what each kill hit, and whether every file has the bytes that it has without kills. With
`--with FOLDER`, a clone in which it was done, it is killed in a clone of that one instead.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from clones import ROOT, Clone

from infoseg.params import compose

#: Recorded timings, which differ; logs of DVC and of the pipeline; what only a killed one leaves.
DIFFERENT = re.compile(
    r"(^|/)(timing\.(json|csv)|lock|dvc\.lock\.damaged)$|^build/(logs|repro\.lock|checkpoints)"
)


@dataclass
class Kill:
    """After how many seconds, during what, and the step of the newest checkpoint there was."""

    seconds: float
    hit: str
    checkpoint: str


def kill_at_random(
    words: Sequence[str],
    folder: Path,
    kills: int,
    waits: tuple[float, float],
    seed: int,
    environment: dict[str, str],
) -> list[Kill]:
    """Run a command in `folder`, killed `kills` times after a random wait, then to its end."""
    draw, made = random.Random(seed), []
    while True:
        with (folder / "kills.log").open("a") as log:
            began = time.monotonic()
            process = psutil.Popen(
                words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
            wait = draw.uniform(*waits) if len(made) < kills else None
            try:
                code = process.wait(wait)
            except psutil.TimeoutExpired:
                made.append(Kill(wait, _running(process), _newest_checkpoint(folder)))
                power_cut(process)
                continue
            print(f"  ended with {code} after {time.monotonic() - began:.0f} s", file=sys.stderr)
        if code:
            raise RuntimeError((folder / "kills.log").read_text()[-3000:])
        if len(made) < kills:
            print(f"it ended after {len(made)} of {kills} kills", file=sys.stderr)
        return made


def power_cut(process: psutil.Process) -> None:
    """Kill a process and all its descendants as if at one moment: none sees another one end."""
    everyone = [process, *process.children(recursive=True)]
    for action in (psutil.Process.suspend, psutil.Process.kill):
        for one in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                action(one)
    psutil.wait_procs(everyone, 10)


def _running(process: psutil.Process) -> str:
    """Which stages' notebooks are being executed, or else what DVC does."""
    found, dvc = set(), set()
    for child in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            line = " ".join(child.cmdline())
            if match := re.search(r"infoseg\.notebooks run \S+ runs/[^/]+/(\S+)\.ipynb", line):
                found.add(match[1])
            elif match := re.search(r"infoseg\.warm dvc (?:--wait-for-lock )?(\S+.*)", line):
                dvc.add(match[1].replace("repro -s ", "")[:60])
            elif match := re.search(r"-m infoseg (train .*)", line):
                found.add(match[1])
    return ", ".join(sorted(found) or [f"dvc {words}" for words in sorted(dvc)] or ["start"])


def _newest_checkpoint(folder: Path) -> str:
    found = sorted(folder.glob("build/checkpoints/*/step-*.ckpt"), key=lambda path: path.name)
    return ", ".join(f"{p.parent.name[:-17]}: {int(p.stem[5:])}" for p in found[-1:])


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
    whole: Path | None = None,
) -> tuple[pd.DataFrame, int, list[str]]:
    """Do `words` once without kills, unless it was done in the folder `whole`, and once with them.

    Both in copies of the repository below `scratch`, with the settings of `tree`, or in a clone of
    `whole`, at its commit. Returns a row for each kill, the number of files to compare, and those
    that differ.
    """

    def do(folder: Path, kills: int) -> list[Kill]:
        if whole is None:
            Clone(folder, tree)
        else:
            subprocess.run(["git", "clone", "--quiet", whole, folder], check=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "true"}
        environment["PYTHONPATH"] = str(folder)
        return kill_at_random(words, folder, kills, waits, seed, environment)

    if whole is None:
        do(scratch / "whole", 0)
    made = do(scratch / "killed", kills)
    rows = [(f"{kill.seconds:.1f}", kill.hit, kill.checkpoint) for kill in made]
    table = pd.DataFrame(rows, columns=["killed after s", "during", "newest checkpoint, step"])
    table.index += 1
    return table, *compare(whole or scratch / "whole", scratch / "killed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["training", "repro"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--waits", type=float, nargs=2, help="shortest and longest, in seconds")
    parser.add_argument("--with", dest="whole", type=Path, help="a clone it was done in already")
    parser.add_argument("--profile", default="tiny")
    options = parser.parse_args()
    words, waits = {"training": (TRAINING, (6.0, 12.0)), "repro": (PIPELINE, (5.0, 40.0))}[
        options.what
    ]
    waits = tuple(options.waits or waits)
    tree = compose(ROOT / "conf", options.profile)
    with tempfile.TemporaryDirectory() as scratch:
        table, count, different = trial(
            words, tree, options.kills, waits, options.seed, Path(scratch), options.whole
        )
        print(table.to_string())
        print(f"{count} files, {len(different)} differ", *different, sep="\n  ")
        log = (Path(scratch) / "killed/kills.log").read_text()
    for line in log.splitlines():
        if "was not whole" in line or "is not used" in line or "had been killed" in line:
            print(line)
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
