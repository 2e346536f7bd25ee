"""`make repro`: the DVC pipeline with several stages side by side.

DVC runs one stage after the other. This module asks it for what is out of date and hands stages
that do not depend on each other to several `dvc repro` processes (`infoseg.schedule`), then ends in
a plain `dvc repro`, which does the rest and finds everything else done. Every number of jobs gives
the same files: a run's threads are fixed by `training.threads`.

A stage that fails stops what depends on it and nothing else; all that failed is told at the end.
Stopped at any moment, even by a power cut, it goes on where it was when it is started again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from infoseg import warm
from infoseg.dvc_files import mend, sort_lock
from infoseg.errors import InfosegError
from infoseg.params import load_params
from infoseg.schedule import Chain, Failure, Schedule, chains
from infoseg.slots import Slots

LOGS = Path("build/logs")
LOCK = Path("build/repro.lock")


#: Seconds that stages have to end in when they are stopped: a training keeps a checkpoint.
GRACE = 30
TOLD_BY_OTHERS = re.compile(r"infoseg\.warm (serve|kernel) |ipykernel_launcher")


def _dvc(*words: str, variables: Mapping[str, str] | None = None, **options):
    # Forked from the server of `infoseg.warm` where there is one, as stages are.
    command = [sys.executable, "-m", "infoseg.warm", "dvc", *words]
    return subprocess.run(command, text=True, env={**os.environ, **(variables or {})}, **options)


def _changed(stages: Sequence[str]) -> set[str]:
    """Names of the stages, of all if none is given, that DVC holds to be out of date."""
    done = _dvc("--wait-for-lock", "status", "--json", *stages, capture_output=True)
    if done.returncode:
        raise InfosegError(f"`dvc status` failed:\n{done.stderr}")
    return set(json.loads(done.stdout))


def _stages() -> list[str]:
    done = _dvc("stage", "list", "--name-only", capture_output=True)
    if done.returncode:
        raise InfosegError(f"dvc.yaml or params.yaml is not valid:\n{done.stderr}")
    return done.stdout.split()


def _run_chain(chain: Chain, slots: Slots) -> Failure | None:
    """Run a stage and what follows it; returns an account of the failure, if any."""
    log = LOGS / f"{chain.name.replace('@', '-')}.log"
    began = time.monotonic()
    with slots.taken() as variables, log.open("w") as file:
        # -s: these stages alone; what is upstream of them was done before.
        words = ["--wait-for-lock", "repro", "-s", *chain.stages]
        streams = {"stdout": file, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        done = _dvc(*words, variables=variables, **streams)
    took = time.monotonic() - began
    told = _red("failed") if done.returncode else "done"
    print(f"  {chain.name:45} {told} {took:6.0f} s", flush=True)
    if not done.returncode:
        return None
    tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:])
    return Failure(chain.name, f"failed; the end of {log}:\n{tail}")


def _red(text: str) -> str:
    return f"\033[31m{text}\033[0m" if sys.stdout.isatty() else text


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the folder for this process. Raises InfosegError while another one does."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise InfosegError(
                f"another `make repro` is at work in this folder (process {file.read().strip()}): "
                "wait for it, or stop it and start again"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infoseg.pipeline", description=__doc__)
    parser.add_argument("--jobs", default="auto", help="stages side by side, or auto")
    told = parser.parse_args(arguments).jobs
    if told != "auto" and not (told.isdecimal() and int(told)):
        parser.error(f"--jobs is {told}, at least 1, or auto")

    def stop(kind: int, _: object) -> None:
        signal.signal(kind, signal.SIG_IGN)
        raise KeyboardInterrupt(kind)

    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, stop)
    try:
        with _alone():
            mend()
            with warm.server():
                # Before DVC, which puts settings into commands that a shell reads.
                settings = load_params(Path())
                slots = Slots(
                    None if told == "auto" else int(told),
                    settings.execution.runs_per_gpu,
                    launched=bool(os.environ.get(warm.LAUNCHER)),
                )
                return _run(slots, settings.profile.inputs)
    except InfosegError as error:
        print(f"infoseg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        _end_all()
        with contextlib.suppress(InfosegError):
            mend()  # DVC was ended too, in the middle of a file perhaps
        print("\ninfoseg: stopped; `make repro` goes on from here", file=sys.stderr)
        return 128 + stopped.args[0]


def _end_all() -> None:
    """End everything this process started, the politer way first.

    A training needs one SIGTERM and time for its checkpoint: a second one ends it at once. So a
    kernel is told by its notebook's process alone, and a fork when whoever asked for it ends.
    """
    started = psutil.Process().children(recursive=True)
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            if not TOLD_BY_OTHERS.search(" ".join(process.cmdline())):
                process.terminate()
    # The server of forks ends with us, and kernels within a second of it.
    servers = {child for child in psutil.Process().children() if _is_server(child)}
    for process in psutil.wait_procs([p for p in started if p not in servers], GRACE)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _is_server(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()[1:4] == ["-m", "infoseg.warm", "serve"]
    return False


def _run(slots: Slots, inputs: Mapping[str, str]) -> int:
    stages = _stages()
    if slots.jobs > 1:
        # The copies of the notebooks and the list of sources that stages depend on; seconds.
        if code := _dvc("repro", "--quiet", "strip", "code").returncode:
            return code
        schedule = Schedule(chains(stages, inputs), _changed)
        if left := str(schedule):
            print(f"{left}, {slots} (logs in {LOGS})", flush=True)
        try:
            schedule.run(lambda chain: _run_chain(chain, slots), slots.jobs)
        except KeyboardInterrupt:
            _end_all()
            raise
        if failures := schedule.failures:
            for failure in failures.values():
                print(f"\ninfoseg: {_red(failure.stage)} {failure.account}", file=sys.stderr)
            print(f"\ninfoseg: {len(failures)} stages are not done", file=sys.stderr)
            return 1
    if code := _dvc("repro").returncode:
        return code
    sort_lock(stages)
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
