"""`make repro`: the DVC pipeline with several stages side by side.

DVC runs one stage after the other. This module asks it for what is out of date and hands stages
that do not depend on each other to several `dvc repro` processes, phase by phase, then ends in a
plain `dvc repro`, which does the rest and finds everything else done. Every number of jobs gives
the same files: a run's threads are fixed by `training.threads`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infoseg import warm

#: Phases of stages whose instances are independent of each other; a stage that follows an instance
#: of the same key runs right behind it, in the same process.
PHASES: dict[str, dict[str, str | None]] = {
    "sources": {"data": None},
    "data sets": {"prepare": None},
    "trainings": {
        "train": "evaluate",
        "repeat": "evaluate_repeat",
        "ablate": "evaluate_ablate",
        "explore": "evaluate_explore",
    },
}
LOGS = Path("build/logs")
#: How the names of methods begin that take seconds, having nothing to optimise.
SHORT = ("random_cnn", "kmeans")


def _dvc(*words: str, **options) -> subprocess.CompletedProcess:
    # Forked from the server of `infoseg.warm` where there is one, as stages are.
    command = [sys.executable, "-m", "infoseg.warm", "dvc", *words]
    return subprocess.run(command, text=True, **options)


def _changed() -> set[str]:
    """Names of the stages DVC holds to be out of date."""
    done = _dvc("status", "--json", capture_output=True)
    if done.returncode:
        sys.exit(f"infoseg: `dvc status` failed:\n{done.stderr}")
    return set(json.loads(done.stdout))


def _stages() -> list[str]:
    done = _dvc("stage", "list", "--name-only", capture_output=True)
    if done.returncode:
        sys.exit(f"infoseg: dvc.yaml or params.yaml is not valid:\n{done.stderr}")
    return done.stdout.split()


def _chains(
    phase: dict[str, str | None], stages: Sequence[str], changed: set[str]
) -> list[list[str]]:
    """[stage, the one that follows it] for every instance either of whose stages is out of date."""
    chains = []
    for stage in stages:
        name, _, key = stage.partition("@")
        if name in phase:
            follower = phase[name]
            chain = [stage, *([f"{follower}@{key}"] if follower else [])]
            if changed & set(chain):
                chains.append(chain)
    # Long trainings first: what is left for the end is short, and all workers end together.
    return sorted(chains, key=lambda chain: any(f"-{name}" in chain[0] for name in SHORT))


def _run_chain(chain: Sequence[str]) -> str | None:
    """Run a stage and what follows it; returns an account of the failure, if any."""
    log = LOGS / f"{chain[0].replace('@', '-')}.log"
    began = time.monotonic()
    with log.open("w") as file:
        # -s: these stages alone; what is upstream of them was done before.
        words = ["--wait-for-lock", "repro", "-s", *chain]
        done = _dvc(*words, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    took = time.monotonic() - began
    print(f"  {chain[0]:45} {'failed' if done.returncode else 'done'} {took:6.0f} s", flush=True)
    if not done.returncode:
        return None
    tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:])
    return f"{chain[0]} failed; the end of {log}:\n{tail}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infoseg.pipeline", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="stages side by side")
    jobs = parser.parse_args(arguments).jobs
    if jobs < 1:
        parser.error(f"--jobs is {jobs}, at least 1")
    LOGS.mkdir(parents=True, exist_ok=True)
    with warm.server():
        return _run(jobs)


def _run(jobs: int) -> int:
    stages = _stages()
    if jobs > 1:
        # The copies of the notebooks and the list of sources that stages depend on; seconds.
        if code := _dvc("repro", "--quiet", "strip", "code").returncode:
            return code
        for name, phase in PHASES.items():
            chains = _chains(phase, stages, _changed())
            if chains:
                print(f"{name}: {len(chains)}, {jobs} side by side (logs in {LOGS})", flush=True)
            with ThreadPoolExecutor(jobs) as pool:
                failures = [found for found in pool.map(_run_chain, chains) if found]
            for failure in failures:
                print(f"\ninfoseg: {failure}", file=sys.stderr)
            if failures:
                return 1
    if code := _dvc("repro").returncode:
        return code
    finish()
    return 0


def finish() -> None:
    """What follows the stages: recorded timings, the README's results, signs of failure."""
    from infoseg.project import Project  # deferred: seconds of imports
    from infoseg.results import timings
    from infoseg.summary import run_signs, write_readme

    project = Project.open()
    print(f"wrote {timings(project)}")
    if write_readme(project):
        print("renewed the results in README.md")
    runs = [*project.params.runs(), *project.params.ablations()]
    found = [(key, sentences) for key, sentences in run_signs(project, runs) if sentences]
    if found:
        print(f"\nSigns of failure in {len(found)} of {len(runs)} runs; InfoSeg's own:")
    for key, sentences in (line for line in found if "-infoseg-" in line[0]):
        print(f"  {key}: {'; '.join(sentences)}")
    print(f"\nreport: {project.results / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
