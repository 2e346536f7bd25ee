"""What deterministic algorithms cost here, measured on the very training they are for."""

from __future__ import annotations

import copy
import time

import torch

from infoseg.methods.base import Method
from infoseg.params import TrainingParams
from infoseg.training import Optimisation
from infoseg.views import DeviceData

WARM_UP, TIMED = 3, 10


def price_of_determinism(
    method: Method, data: DeviceData, params: TrainingParams, seed: int
) -> str:
    """Time some steps with deterministic algorithms and without; returns a sentence.

    The method is left as it was, global generators too.
    """
    if not method.optimiser:
        return "deterministic algorithms: nothing is optimised, so they cost nothing"
    cuda = data.device.type == "cuda"
    before, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    seconds = {}
    with torch.random.fork_rng([data.device] if cuda else []):
        for mode in ("default", "error"):
            torch.set_deterministic_debug_mode(mode)
            torch.backends.cudnn.benchmark = mode == "default"
            optimisation = Optimisation(copy.deepcopy(method), data, params, seed, "price")
            for step in range(WARM_UP + TIMED):
                if step == WARM_UP:
                    _wait_for(data.device)
                    began = time.perf_counter()
                optimisation.advance()
            _wait_for(data.device)
            seconds[mode] = (time.perf_counter() - began) / TIMED
    torch.set_deterministic_debug_mode(before)
    torch.backends.cudnn.benchmark = benchmark
    chosen, free = seconds["error"], seconds["default"]
    return (
        f"deterministic algorithms: a step takes {chosen / free:.2f} times as long "
        f"({chosen * 1000:.1f} ms, not {free * 1000:.1f} ms)"
    )


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
