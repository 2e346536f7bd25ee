"""Power cuts: a command is killed at random, with everything it started, until it ends by itself.

    python tests/kills.py training --kills 20     one training of the tiny profile's data
    python tests/kills.py repro --kills 20        `make repro` of the demo, or another --profile

Each works in a copy of the repository, is done once without kills, or compared with a copy that
was (--with FOLDER), and ends in a table: what each kill hit, and whether every file has the bytes
it has without kills.
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
    for child in process.children(recursive=True):
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["training", "repro"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--waits", type=float, nargs=2, help="shortest and longest, in seconds")
    parser.add_argument("--with", dest="other", type=Path, help="a folder it was done in already")
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--profile", default="demo")
    options = parser.parse_args()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "true"}
    words = [sys.executable, "-m", "infoseg.pipeline", "--jobs", options.jobs]
    waits = tuple(options.waits or (20.0, 200.0))
    if options.what == "training":
        words = [sys.executable, "-m", "infoseg", "train", "coco_stuff3", "infoseg"]
        words += ["--profile=tiny", "-S", "methods.infoseg.optimiser.steps=1200"]
        words += ["-S", "execution.checkpoint_seconds=0.2"]
        waits = tuple(options.waits or (4.0, 9.0))
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("whole", "killed")]
        for folder in folders[1 if options.other else 0 :]:
            folder.mkdir()
            Clone(folder, compose(ROOT / "conf", options.profile))
        environment |= {"PYTHONPATH": str(folders[1])}
        if options.other:
            folders[0] = options.other
        else:
            took = time.monotonic()
            whole = environment | {"PYTHONPATH": str(folders[0])}
            kill_at_random(words, folders[0], 0, waits, 0, whole)
            print(f"without kills: {time.monotonic() - took:.0f} s")
        made = kill_at_random(words, folders[1], options.kills, waits, options.seed, environment)
        count, different = compare(*folders)
        rows = [(f"{kill.seconds:.1f}", kill.hit, kill.checkpoint) for kill in made]
        table = pd.DataFrame(rows, columns=["killed after s", "during", "newest checkpoint, step"])
        table.index += 1
        print(table.to_string())
        print(f"{count} files, {len(different)} differ", *different, sep="\n  ")
        subprocess.run(["grep", "-h", "was not whole", folders[1] / "kills.log"])
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
