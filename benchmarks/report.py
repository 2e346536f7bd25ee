"""What `infoseg bench` found, as a page in Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.hours import ASSUMED_SHARE, H200_FLOPS
from infoseg.reporting.style import ACCENT, INK, new_figure, theme


def _rows(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|:---|{'---:|' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def table(content: dict[str, Any], hours: pd.DataFrame | None, measured: bool) -> str:
    """All parts that were measured, as Markdown."""
    made, parts = content["provenance"], content["parts"]
    text = [f"# How fast: {made['device']}\n\nWritten by `infoseg bench`; do not edit."]
    text.append(
        f"torch {made['versions']['torch']}, {made['precision']}. Variants of a table took turns "
        "in one run and medians are told; parts may be of several runs (commits in the JSON)."
    )
    writers = {
        "methods": _methods,
        "student": _student,
        "choices": _choices,
        "iic": _iic,
        "evaluation": _evaluation,
        "preparation": _preparation,
        "overhead": _overhead,
        "growth": _growth,
    }
    text += [write(parts[part]) for part, write in writers.items() if part in parts]
    if hours is not None:
        text.append(_hours(hours, measured))
    return "\n\n".join(text) + "\n"


def _methods(part: dict[str, Any]) -> str:
    rates = part["made_by"]["rates"]
    rows = [
        (
            r["dataset"],
            r["method"],
            r["crop"],
            r["batch"],
            f"{r['gflop_per_image']:.1f}",
            f"{r['images_per_second']:.2f}",
            f"{100 * r['floor_share']:.0f} %",
        )
        for r in part["rows"]
    ]
    head = ("data set", "method", "px", "batch", "GFLOP/image", "images/s", "of the floor")
    return (
        "## Training step of every method at the paper's setting\n\n"
        f"The floor is the step's matrix products and convolutions at {rates['flops'] / 1e9:,.0f} "
        f"GFLOP/s, which a large matrix product reached here ({rates['flops_float32'] / 1e9:,.0f} "
        "in float32), or what Adam has to read and write at "
        f"{rates['bytes'] / 1e9:.1f} GB/s.\n\n" + _rows(head, rows)
    )


def _student(part: dict[str, Any]) -> str:
    found, faster = part["images_per_second"], part["times_faster"]
    rows = [
        (name, f"{rate:.2f}", f"{faster[name]:.2f}" if name in faster else "")
        for name, rate in found.items()
    ]
    return (
        f"## InfoSeg beside a careful student's version, batch {part['batch']}\n\n"
        "The same network and loss in float32, eager, from a DataLoader, the loss read at every "
        "step (`benchmarks/student.py`).\n\n"
        + _rows(("version", "images/s", "InfoSeg is faster by"), rows)
    )


def _choices(part: dict[str, Any]) -> str:
    found = part["seconds"]
    first = next(iter(found.values()))
    rows = [(name, f"{1000 * s:.0f}", f"{s / first:.2f}") for name, s in found.items()]
    return f"## What each choice is worth, InfoSeg's step, batch {part['batch']}\n\n" + _rows(
        ("variant", "ms", "against the first"), rows
    )


def _iic(part: dict[str, Any]) -> str:
    found = part["seconds"]
    first = found["as published"]
    rows = [(name, f"{s:.3f}", f"{first / s:.1f}") for name, s in found.items()]
    return (
        f"## IIC's loss, forward and backward: K = 45, 128 px, T = 10, batch {part['batch']}\n\n"
        + _rows(("form", "s", "times faster"), rows)
    )


def _evaluation(part: dict[str, Any]) -> str:
    rows = [
        (name, f"{rate:.1f}", f"{part['pa'][name]:.3f}")
        for name, rate in part["images_per_second"].items()
    ]
    return (
        f"## Evaluation of {part['images']} pictures\n\nForward, upsampling, confusion matrix and "
        f"match; {part['times_faster']:.1f} times faster than a loop over pictures in float32, "
        f"{100 * part['floor_share']:.0f} % of the floor.\n\n"
        + _rows(("version", "images/s", "PA"), rows)
    )


def _preparation(part: dict[str, Any]) -> str:
    rows = [(r["what"], r["count"], f"{r['per_second']:.1f}") for r in part["rows"]]
    return "## Preparation, one thread\n\n" + _rows(("what", "inputs", "per second"), rows)


def _overhead(part: dict[str, Any]) -> str:
    imported = next(part[key] for key in part if key.startswith("import infoseg"))
    layers = [
        ("Python starts", part["python"], 0.0),
        ("PyTorch is imported", part["import torch"], part["python"]),
        ("the package is imported", imported, part["import torch"]),
        ("a run that trains nothing: `infoseg train`", part["infoseg train"], imported),
        ("in a notebook: papermill, kernel", part["its notebook"], part["infoseg train"]),
        ("as a stage: DVC", part["its stage"], part["its notebook"]),
    ]  # fmt: skip
    rows = [(name, f"{total:.2f}", f"{total - below:+.2f}") for name, total, below in layers]
    return (
        "## What the pipeline costs around a run\n\nEach layer by itself; the run itself takes "
        f"{part['of it the run itself']:.2f} s, `dvc status` of it {part['dvc status']:.2f} s.\n\n"
        + _rows(("layer", "s", "more than the one before"), rows)
    )


def _growth(part: dict[str, Any]) -> str:
    rows = [
        (
            name, ", ".join(map(str, found["sizes"])),
            ", ".join(f"{1000 * s:.0f}" for s in found["seconds"]), f"{found['exponent']:.2f}",
        )
        for name, found in part.items()
        if isinstance(found, dict) and "exponent" in found
    ]  # fmt: skip
    head = ("what grows", "sizes", "ms", "exponent")
    return "## As work grows\n\nSeconds go with this power of the size.\n\n" + _rows(head, rows)


def _hours(frame: pd.DataFrame, measured: bool) -> str:
    basis = (
        "from the images per second above"
        if measured
        else f"an estimate: {100 * ASSUMED_SHARE:.0f} % of the {H200_FLOPS / 1e12:.0f} TFLOP/s "
        "that an H200 reaches in bfloat16, an assumption until one is measured"
    )
    rows = [
        (r.table, r.method, r.dataset, r.runs, r.steps, f"{r.hours:.2f}")
        for r in frame.itertuples()
    ]
    head = ("table", "method", "data set", "runs", "steps each", "GPU-hours")
    return (
        f"## The whole paper: {frame['hours'].sum():.1f} GPU-hours\n\nSteps are those of "
        f"`infoseg/conf/profile/paper.yaml`; {basis}.\n\n" + _rows(head, rows)
    )


def plot(content: dict[str, Any], path: Path) -> None:
    """Images per second of every method, and of InfoSeg beside the student's version."""
    parts = content["parts"]
    bars = [
        (f"{r['method']}, {r['dataset']}", r["images_per_second"], r["method"] == "infoseg")
        for r in parts.get("methods", {}).get("rows", [])
    ]
    # Measured beside each other, perhaps on a day when the machine was busier than for the others.
    for name, rate in parts.get("student", {}).get("images_per_second", {}).items():
        bars.append((f"beside each other: {name}", rate, name.startswith("infoseg")))
    if not bars:
        return
    with theme():
        figure = new_figure(6.5, 0.9 + 0.25 * len(bars))
        axes = figure.subplots()
        names, rates, ours = zip(*bars, strict=True)
        colours = [ACCENT if own else "0.6" for own in ours]
        axes.barh(range(len(bars)), rates, color=colours)
        axes.set_yticks(range(len(bars)), names)
        axes.invert_yaxis()
        for i, rate in enumerate(rates):
            axes.text(rate, i, f" {rate:,.1f}", va="center", color=INK, fontsize=8)
        axes.set_xlabel("images per second, training step")
        axes.set_title(content["provenance"]["device"])
        axes.margins(x=0.12)
        figure.savefig(path, dpi=150)
