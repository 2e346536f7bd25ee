"""Where a training step's time goes: a trace of torch.profiler, and its five largest costs."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.workload import ROOT, optimisation, paper_params

#: Opened with https://ui.perfetto.dev or chrome://tracing.
TRACE = ROOT / "build/bench/trace.json"


def profile_step(device: torch.device, batch: int, steps: int = 3) -> str:
    """Profile a few steps of InfoSeg at the paper's setting; returns what is to be printed."""
    made = optimisation(paper_params(), "infoseg", "coco_stuff3", device, batch)
    for _ in range(3):
        made.advance()
    cuda = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=kinds) as seen:
        for _ in range(steps):
            made.advance()
        if cuda:
            torch.cuda.synchronize()
    TRACE.parent.mkdir(parents=True, exist_ok=True)
    seen.export_chrome_trace(str(TRACE))
    spent = "self_device_time_total" if cuda else "self_cpu_time_total"
    costs = sorted(seen.key_averages(), key=lambda event: -getattr(event, spent))
    total = sum(getattr(event, spent) for event in costs)
    lines = [f"A step takes {total / steps / 1000:.1f} ms of the {device.type}'s time; of it:"]
    lines += [f"  {getattr(event, spent) / total:6.1%}  {event.key}" for event in costs[:5]]
    if cuda:
        lines.append(f"the GPU had nothing to do for {idle_share(seen):.1%} of the time")
    return "\n".join([*lines, f"trace: {TRACE.relative_to(ROOT)}"])


def idle_share(seen: profile) -> float:
    """Share of the time between the first and the last kernel in which none was running."""
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in seen.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    busy, until = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return 1 - busy / (until - spans[0][0])
