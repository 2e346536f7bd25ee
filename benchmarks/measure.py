"""Times whose ratios mean something, and the floors they are held against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    device: torch.device,
    repeats: int,
    warm_up: int = 2,
    calls: int = 1,
) -> dict[str, float]:
    """Median seconds of a call of each variant, after `warm_up` turns that do not count.

    Variants take turns, so that a busy machine slows all of them alike. calls: of each in a turn,
    between which the host does not wait for the device.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(-warm_up, repeats):
        for name, call in variants.items():
            synchronise(device)
            began = time.perf_counter()
            for _ in range(calls):
                call()
            synchronise(device)
            if turn >= 0:
                times[name].append((time.perf_counter() - began) / calls)
    return {name: statistics.median(values) for name, values in times.items()}


def flops_of(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of one call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@dataclass(frozen=True)
class Rates:
    """What this machine does with the given threads: measured, not a data sheet's.

    flops: of a large matrix product per second, in the precision that runs use; flops_float32: in
    float32. bytes: read and written per second by a copy larger than any cache.
    """

    flops: float
    flops_float32: float
    bytes: float

    def floor(self, flops: float, moved: float) -> float:
        """Seconds that this much arithmetic and this many bytes take at least."""
        return max(flops / self.flops, moved / self.bytes)

    def record(self) -> dict[str, float]:
        return asdict(self)


def measure_rates(device: torch.device, precision: torch.dtype | None) -> Rates:
    """Matrix products and a copy, the fastest of several."""
    side = 8192 if device.type == "cuda" else 2048
    count = 2**28 if device.type == "cuda" else 2**26
    source = torch.rand(count, device=device)
    target = torch.empty_like(source)

    def product(dtype: torch.dtype) -> Callable[[], object]:
        a = torch.rand(side, side, device=device).to(dtype)
        return lambda: a @ a

    calls = {"low": product(precision or torch.float32), "float32": product(torch.float32)}
    calls["copy"] = lambda: target.copy_(source)
    found = {name: fastest(call, device) for name, call in calls.items()}
    work = 2 * side**3
    return Rates(work / found["low"], work / found["float32"], 2 * source.nbytes / found["copy"])


def fastest(call: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Least seconds of a call: what the machine can do, not what it does on average."""
    times = []
    for turn in range(-2, repeats):
        synchronise(device)
        began = time.perf_counter()
        call()
        synchronise(device)
        if turn >= 0:
            times.append(time.perf_counter() - began)
    return min(times)


def exponent(sizes: list[float], seconds: list[float]) -> float:
    """Slope of log seconds over log size by least squares: 1 is linear growth."""
    x = torch.tensor(sizes, dtype=torch.float64).log()
    y = torch.tensor(seconds, dtype=torch.float64).log()
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())
