"""The order in which `make repro` does stages side by side: each once what it reads is made.

A chain is a stage and what follows it in the same process, a training and its evaluation say. A
chain begins as soon as the one before it has ended, whatever else is still going on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from infoseg.slots import SHORT

#: Stages whose instances are independent of each other, by what they are called when they are
#: counted; a stage that follows an instance of the same key runs right behind it.
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


class Chain(NamedTuple):
    """phase: a key of PHASES. before: the first stage of the chain that makes what this reads."""

    phase: str
    stages: tuple[str, ...]
    before: str | None

    @property
    def name(self) -> str:
        return self.stages[0]


class Failure(NamedTuple):
    stage: str
    account: str


def chains(stages: Sequence[str], inputs: Mapping[str, str]) -> list[Chain]:
    """All chains among these stages, in the order they are begun in when all could be.

    inputs: source by data set. Long trainings come first: what is left for the end is short, and
    all places are busy to the end.
    """
    found = []
    for phase, names in PHASES.items():
        for stage in stages:
            name, _, key = stage.partition("@")
            if name in names:
                follower = names[name]
                members = (stage, f"{follower}@{key}") if follower else (stage,)
                found.append(Chain(phase, members, _before(name, key, inputs)))
    return sorted(found, key=lambda chain: any(f"-{name}" in chain.name for name in SHORT))


def _before(name: str, key: str, inputs: Mapping[str, str]) -> str | None:
    if name == "data":
        return None
    if name == "prepare":
        return f"data@{inputs[key]}"
    dataset = max((known for known in inputs if key.startswith(f"{known}-")), key=len)
    return f"prepare@{dataset}"


class Schedule:
    """What is left to do, chain by chain.

    changed: tells which of these stages (of all, if none is named) are out of date now. It is asked
    at first, and again about chains that what was made before them may have put out of date.
    """

    def __init__(self, chains: Sequence[Chain], changed: Callable[[Sequence[str]], set[str]]):
        self._changed, self._known = changed, changed([])
        self._asked: set[str] = set()
        self._waiting: dict[str, Chain] = {}
        for chain in chains:
            if self._known & set(chain.stages) or chain.before in self._waiting:
                self._waiting[chain.name] = chain
        self._running: set[str] = set()
        self.failures: dict[str, Failure] = {}

    def __str__(self) -> str:
        """How many there are of each kind."""
        phases = [chain.phase for chain in self._waiting.values()]
        return ", ".join(f"{phase}: {phases.count(phase)}" for phase in PHASES if phase in phases)

    def next(self) -> Chain | None:
        """The next chain that can begin, if any can now; it counts as running from then on."""
        for name, chain in list(self._waiting.items()):
            if chain.before in self._waiting or chain.before in self._running:
                continue
            del self._waiting[name]
            if chain.before in self.failures:
                told = f"not begun, since {chain.before} failed"
                self.failures[name] = Failure(name, told)
            elif self._is_out_of_date(chain):
                self._running.add(name)
                return chain
        return None

    def _is_out_of_date(self, chain: Chain) -> bool:
        if chain.name not in self._asked and not self._known & set(chain.stages):
            # One question for all that waited for the same: it takes seconds.
            alike = [chain, *(c for c in self._waiting.values() if c.before == chain.before)]
            self._known |= self._changed([stage for c in alike for stage in c.stages])
            self._asked |= {c.name for c in alike}
        return bool(self._known & set(chain.stages))

    def ended(self, chain: Chain, failure: Failure | None) -> None:
        self._running.remove(chain.name)
        if failure:
            self.failures[failure.stage] = failure

    def run(self, do: Callable[[Chain], Failure | None], jobs: int) -> None:
        """Do everything, so many chains at a time; `failures` has what went wrong.

        A KeyboardInterrupt leaves what runs to whoever catches it.
        """
        running: dict[Future, Chain] = {}
        pool = ThreadPoolExecutor(jobs)
        try:
            while True:
                while len(running) < jobs and (chain := self.next()):
                    running[pool.submit(do, chain)] = chain
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self.ended(running.pop(future), future.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
