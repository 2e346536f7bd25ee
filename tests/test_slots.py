"""Runs side by side: one per GPU unless told otherwise, and never two in one place."""

import os
import threading
from pathlib import Path

import pytest

from infoseg.slots import GPUS, Slots, gpus


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes a machine with so many GPUs, or without NVIDIA's tool (None)."""

    def make(count: int | None, cores: int = 8) -> None:
        monkeypatch.delenv(GPUS, raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        tool = tmp_path / "nvidia-smi"
        if count is not None:
            lines = "".join(f"echo 'GPU {i}: NVIDIA H200 (UUID: GPU-{i})'\n" for i in range(count))
            tool.write_text(f"#!/bin/sh\n{lines}")
            tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return make


def places(slots: Slots) -> list[str | None]:
    """What every run would be given, were all to start at once."""
    found = []
    for _ in range(slots.jobs):
        place = slots.taken()
        found.append(place.__enter__().get(GPUS))
    return found


@pytest.mark.parametrize(
    ("count", "cores", "jobs", "per_gpu", "expected"),
    [
        (None, 2, None, 1, [None, None]),
        (None, 64, None, 1, [None] * 4),
        (None, 64, 6, 1, [None] * 6),
        (0, 2, None, 1, [None, None]),
        (1, 16, None, 1, ["0"]),
        (3, 16, None, 1, ["0", "1", "2"]),
        (2, 16, None, 2, ["0", "1", "0", "1"]),
        (2, 16, 3, 1, ["0", "1", "0"]),
    ],
)
def test_every_run_gets_a_place(machine, count, cores, jobs, per_gpu, expected):
    machine(count, cores)
    assert places(Slots(jobs, per_gpu)) == expected


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("", []),
        ("-1", []),
        ("2", ["2"]),
        ("1, 3", ["1", "3"]),
        ("GPU-ab,GPU-cd", ["GPU-ab", "GPU-cd"]),
    ],
)
def test_gpus_chosen_beforehand_are_the_only_ones(machine, monkeypatch, chosen, expected):
    machine(4)
    monkeypatch.setenv(GPUS, chosen)
    assert gpus() == expected


def test_a_scheduler_places_runs_itself(machine):
    machine(2, cores=3)
    assert places(Slots(None, 1, launched=True)) == [None] * 3


def test_a_tool_that_fails_means_no_gpus(machine, tmp_path):
    machine(1)
    Path(tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: x'\nexit 9\n")
    assert gpus() == []


def test_no_two_runs_are_in_one_place(machine):
    machine(2)
    slots, lock = Slots(None, 1), threading.Lock()
    now: list[str] = []
    seen: list[list[str]] = []

    def run() -> None:
        with slots.taken() as place:
            with lock:
                now.append(place[GPUS])
                seen.append(list(now))
            with lock:
                now.remove(place[GPUS])

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 20
    assert all(len(set(held)) == len(held) for held in seen)
