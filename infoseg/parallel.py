"""Runs side by side, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from tqdm import tqdm

from infoseg.errors import InfosegError, memory_advice

Result = TypeVar("Result")


def side_by_side(
    do: Callable[..., Result], work: Sequence[tuple], jobs: int, title: str
) -> list[Result]:
    """`do(*arguments)` for all of `work`, `jobs` at a time; the results in the order of `work`.

    Processes are spawned, not forked: torch's threads do not survive a fork. The first failure ends
    everything, and is raised here; InfosegError for a process that is killed.
    """
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = pool.map(do, *zip(*work, strict=True))
        try:
            return list(tqdm(found, total=len(work), desc=title, unit="run"))
        except BrokenProcessPool:
            told = f"{title}: a process that made one of the runs was killed. {memory_advice()}"
            raise InfosegError(told) from None
