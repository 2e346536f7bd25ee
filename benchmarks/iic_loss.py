"""IIC's local loss, forward and backward, beside the published form of its joint sums.

    python benchmarks/iic_loss.py [--batches 12 60] [--classes 45] [--side 128] [--displacement 10]
                                  [--threads N] [--repeats N] [--seconds S] [--limit GB]

Times alternate between the forms, so that a busy machine slows all of them alike; the median of
each is compared with the published form, a convolution of one view by the other with the images as
channels. With one thread they are processor time, which other programs hardly change, else wall
time. A form that has taken S seconds is not repeated. Memory is the peak beyond inputs and their
gradients, of a process of its own. Prints Markdown tables with the machine they were measured on.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from infoseg.clustering_losses import iic_loss, information_loss
from infoseg.machine import facts, git_commit
from infoseg.settings import load_params

ROOT = Path(__file__).parent.parent
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def published(first: Tensor, second: Tensor, displacement: int) -> Tensor:
    """The joint as in the published code of IIC (Ji et al. 2019)."""
    joint = F.conv2d(first.transpose(0, 1), second.transpose(0, 1), padding=displacement)
    return information_loss(joint.permute(2, 3, 0, 1), 1.0)


FORMS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "as published": published,
    "here": lambda f, g, displacement: iic_loss(f, g, displacement, 1.0),
}


def views(batch: int, classes: int, side: int) -> list[Tensor]:
    """Class probabilities of two random views, made in place: no peak before the one measured."""
    torch.manual_seed(0)
    found = [torch.rand(batch, classes, side, side, device=DEVICE) for _ in range(2)]
    return [x.div_(x.sum(1, keepdim=True)).requires_grad_() for x in found]


def both_ways(form: str, inputs: list[Tensor], displacement: int) -> float:
    """Seconds of one forward and one backward pass."""
    alone = DEVICE.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    began = clock()
    torch.autograd.grad(FORMS[form](*inputs, displacement), inputs)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def medians(
    times: dict[str, list[float]],
    inputs: list[Tensor],
    displacement: int,
    repeats: int,
    enough: float,
) -> dict[str, float]:
    """Median seconds of each form, their repetitions interleaved; `times` holds earlier ones."""
    for form in times:
        both_ways(form, views(2, 3, 24), displacement)
    for _ in range(repeats):
        for form, taken in times.items():
            if sum(taken) < enough:
                taken.append(both_ways(form, inputs, displacement))
    return {form: statistics.median(taken) for form, taken in times.items()}


def peak_and_time(form: str, batch: int, classes: int, side: int, displacement: int) -> None:
    """Prints the peak bytes of both passes beyond the inputs and as much for gradients; seconds."""

    def peak() -> int:
        if DEVICE.type == "cuda":
            return torch.cuda.max_memory_allocated()
        status = Path("/proc/self/status")
        if status.exists():  # there, getrusage begins with what the parent process held
            return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes

    both_ways(form, views(2, 3, 24), displacement)
    inputs = views(batch, classes, side)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = peak()
    taken = both_ways(form, inputs, displacement)
    print(peak() - before - sum(x.numel() * x.element_size() for x in inputs), taken)


def in_a_process_of_its_own(threads: int, *case: object) -> tuple[float, float]:
    command = [sys.executable, __file__, "--threads", str(threads), "--alone", *map(str, case)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peak, taken = map(float, done.stdout.split())
    return max(0, peak), taken


def compare(batch: int, known: dict[str, float], options: argparse.Namespace) -> None:
    """One table. known: bytes beyond inputs and gradients per image, from smaller batches."""
    case = batch, options.classes, options.side
    own = 4 * 4 * batch * options.classes * options.side**2
    peaks, times = {}, {}
    for form in FORMS:
        if own + known.get(form, 0) * batch <= options.limit * 1e9:
            peaks[form], taken = in_a_process_of_its_own(
                options.threads, form, *case, options.displacement
            )
            times[form], known[form] = [taken], peaks[form] / batch
    inputs = views(*case)
    found = medians(times, inputs, options.displacement, options.repeats - 1, options.seconds)
    first = found.get("as published")
    print(f"\nBatch {batch}\n\n| form | s | times faster | GB beyond |\n|:---|---:|---:|---:|")
    for form in FORMS:
        if form in found:
            faster = f"{first / found[form]:.1f}" if first else ""
            print(f"| {form} | {found[form]:.2f} | {faster} | {peaks[form] / 1e9:.2f} |")
        else:
            print(f"| {form} | not run | | |")


def small_sizes(options: argparse.Namespace) -> None:
    print("\n16 images of 64 px, ms\n\n| K | T |", " | ".join(FORMS), "|")
    print("|---:|---:|" + "---:|" * len(FORMS))
    for classes in (3, 9):
        for displacement in (0, 2, 3, 5, 10):
            inputs = views(16, classes, 64)
            times: dict[str, list[float]] = {form: [] for form in FORMS}
            found = medians(times, inputs, displacement, options.repeats, options.seconds)
            cells = " | ".join(f"{1000 * found[form]:.1f}" for form in FORMS)
            print(f"| {classes} | {displacement} | {cells} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="*", default=[12, 60])
    parser.add_argument("--classes", type=int, default=45)
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--displacement", type=int, default=10, help="pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60, help="enough for one form")
    parser.add_argument("--limit", type=float, default=16, help="GB; forms that need more: not run")
    parser.add_argument("--alone", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        form, *case = options.alone
        peak_and_time(form, *map(int, case))
        return
    made = facts(load_params(ROOT, "demo").training, DEVICE)
    print(
        f"IIC's loss, forward and backward: K = {options.classes}, {options.side} px, "
        f"T = {options.displacement}, {made['device']}, {options.threads} threads"
    )
    print(f"torch {made['versions']['torch']}, commit {git_commit(ROOT)}")
    known: dict[str, float] = {}
    for batch in sorted(options.batches):
        compare(batch, known, options)
    small_sizes(options)


if __name__ == "__main__":
    main()
