"""Places for runs side by side: which GPU a run gets, and how many there are."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
from collections.abc import Iterator, Mapping

#: More runs than that share a machine's memory bandwidth to no gain.
MOST_CPU_JOBS = 4
#: How the names of methods begin that take seconds, having nothing to optimise: they come last, so
#: that all places are busy to the end.
SHORT = ("random_cnn", "kmeans")
GPUS = "CUDA_VISIBLE_DEVICES"


def gpus() -> list[str]:
    """The GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get(GPUS)
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    try:
        # Not torch, whose import takes seconds, and whose CUDA context would take memory.
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(found))] if done.returncode == 0 else []


class Slots:
    """As many environments as runs may go side by side; each run takes one while it lasts.

    jobs: how many, or None for one per CPU core (four at most), or `per_gpu` for every GPU. With
    GPUs, runs are spread evenly over them, whatever their number. launched: a scheduler places the
    runs, on machines of its own, so that nothing is decided here.
    """

    def __init__(self, jobs: int | None, per_gpu: int, launched: bool = False):
        found = [] if launched else gpus()
        cores = min(MOST_CPU_JOBS, os.cpu_count() or 1)
        self.jobs = jobs or (len(found) * per_gpu if found else cores)
        self.gpus = found
        self._free: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for number in range(self.jobs):
            self._free.put({GPUS: found[number % len(found)]} if found else {})

    @contextlib.contextmanager
    def taken(self) -> Iterator[Mapping[str, str]]:
        """Wait for a free place; yields the variables to add to the run's environment."""
        place = self._free.get()
        try:
            yield place
        finally:
            self._free.put(place)

    def __str__(self) -> str:
        on = f" on {len(self.gpus)} GPU{'s' * (len(self.gpus) > 1)}" if self.gpus else ""
        return f"{self.jobs} side by side{on}"
