"""A rehearsal of the preparation on drawn scenes in the official layout: speed, memory, sameness.

    python benchmarks/preparation.py SCRATCH [--images 500] [--tiles 1] [--threads 1 8] [--json F]

Draws scenes of COCO's size and aerial tiles (infoseg.data.scenes) below SCRATCH, prepares them with
every number of threads, and holds images per second against the bare decoder: Pillow decoding the
JPEGs that COCO-Stuff-15 takes from memory, and cv2 resizing them. Every measurement is a process
of its own, whose peak is that of nothing else; decoder and preparation take turns, and
medians over ``--repeats`` turns are reported. Shares of the bare decoder are given by the clock and
by processor time, which other work on the machine disturbs less. The files were just written, so
that the system has most of them in memory: what a slow disk adds is not in these numbers.

Ends with status 1 when the bytes depend on the number of threads, when a preparation needs more
than 1 GB, or when COCO-Stuff-15 without superpixels falls below 60 % of the bare decoder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from infoseg.data.coco import LISTS

ROOT = Path(__file__).parent.parent
LIST = LISTS["stuff15"]
MAX_PEAK, MIN_SHARE = 1e9, 0.6
TITLES = {
    "bare": "bare decoder",
    "stuff": "COCO-Stuff-15",
    "superpixels": "COCO-Stuff-15 with superpixels",
    "persons": "COCO-Persons",
    "potsdam": "Potsdam-6 (tiles)",
}


# ---- what a process of its own does; imports are its own too, to keep the caller small -----------


def scenes(options: argparse.Namespace) -> int:
    """Draw the pictures, unless they are there; their bytes."""
    from infoseg.data.scenes import MARK, write_coco, write_potsdam
    from infoseg.settings import CocoScenesSource, PotsdamScenesSource

    raw, few = options.scratch / "raw", options.images // 3
    size = {"long_side": 640, "short_side": 480}  # COCO's
    coco = {"stuff_images": options.images, "person_images": few, **size}
    potsdam = {"tiles": options.tiles, "unlabelled": 0, "tile_size": options.tile_size}
    for layout, write, source in (
        ("coco", write_coco, CocoScenesSource(kind="coco_scenes", **coco)),
        ("potsdam", write_potsdam, PotsdamScenesSource(kind="potsdam_scenes", **potsdam)),
    ):
        mark, parameters = raw / layout / MARK, source.model_dump(exclude={"kind"})
        written = json.loads(mark.read_text())["parameters"] if mark.is_file() else None
        if written != parameters | {"zipped": False}:
            write(raw / layout, source, progress=True)
    return sum(file.stat().st_size for file in raw.rglob("*") if file.is_file())


class Clock:
    """Seconds by the clock, and of processor time over all threads, while it is entered."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began[0]
        self.cpu_seconds += time.process_time() - self._began[1]


def bare(options: argparse.Namespace, threads: int, clock: Clock) -> int:
    """Decode and resize the JPEGs that COCO-Stuff-15 takes, read beforehand; their number."""
    import cv2
    import numpy as np
    from PIL import Image

    coco, count = options.scratch / "raw/coco", 0

    def decode(data: bytes) -> Any:
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        return cv2.resize(image, None, fx=0.33, fy=0.33).shape

    with ThreadPoolExecutor(threads) as pool:
        for split in ("train2017", "val2017"):
            folder = coco / "images" / split
            ids = (coco / "curated" / split / LIST).read_text().split()
            for start in range(0, len(ids), 128 * threads):
                batch = ids[start : start + 128 * threads]
                data = [(folder / f"{image_id}.jpg").read_bytes() for image_id in batch]
                with clock:
                    list(pool.map(decode, data))
            count += len(ids)
    return count


def prepare(options: argparse.Namespace, what: str, threads: int, clock: Clock) -> tuple[int, Path]:
    """Prepare with the paper's settings; the inputs read, and where the arrays are."""
    from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
    from infoseg.data.potsdam import prepare_potsdam
    from infoseg.settings import load_params

    settings = load_params(ROOT, "paper").datasets
    raw, out = options.scratch / "raw", options.scratch / "prepared"
    stuff, grid = settings["coco_stuff"], settings["potsdam"].grid
    with clock:
        if what in ("stuff", "superpixels"):
            prepare_coco_stuff(
                raw / "coco", out, name=what, variant="stuff15", scale=stuff.scale,
                superpixels=stuff.superpixels if what == "superpixels" else None, threads=threads,
            )  # fmt: skip
        elif what == "persons":
            side = settings["coco_persons"].shorter_side
            prepare_coco_persons(raw / "coco", out, name=what, shorter_side=side, threads=threads)
        else:
            crop = options.tile_size // (2 * grid)
            prepare_potsdam(
                raw / "potsdam", out, name=what, variant="potsdam6", grid=grid, crop=crop,
                threads=threads,
            )  # fmt: skip
    images = json.loads((out / "meta.json").read_text())["n_images"]
    return images // grid**2 if what == "potsdam" else images, out


def step(options: argparse.Namespace) -> dict[str, Any]:
    """One measurement, in this process."""
    what, threads = options.step[0], int(options.step[1])
    files: dict[str, str] = {}
    clock = Clock()
    if what == "scenes":
        count = scenes(options)
    elif what == "bare":
        count = bare(options, threads, clock)
    else:
        count, out = prepare(options, what, threads, clock)
        stored = json.loads((out / "meta.json").read_text())["files"]
        files = {name: facts["sha256"] for name, facts in stored.items()}
        shutil.rmtree(out)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    times = {"seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds}
    return times | {"count": count, "peak_bytes": peak, "files": files}


# ---- the rehearsal -------------------------------------------------------------------------------


def measure(arguments: list[str], what: str, threads: int) -> dict[str, Any]:
    """`step` in a process of its own."""
    words = [sys.executable, __file__, *arguments, "--step", what, str(threads)]
    print(f"{what}, threads {threads} ...", file=sys.stderr, flush=True)
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{what} with {threads} threads failed; nothing is reported")
    return {"what": what, "threads": threads} | json.loads(done.stdout)


def summarise(measured: list[dict[str, Any]], cores: int) -> list[dict[str, Any]]:
    """One row per kind of work and number of threads."""
    rows = []
    for what, threads in dict.fromkeys((m["what"], m["threads"]) for m in measured):
        runs = [m for m in measured if (m["what"], m["threads"]) == (what, threads)]
        bare_runs = [m for m in measured if (m["what"], m["threads"]) == ("bare", threads)]
        speed = median(run["count"] / run["seconds"] for run in runs)
        row = {
            "what": what,
            "threads": threads,
            "count": runs[0]["count"],
            "per_second": speed,
            "per_second_and_core": speed / min(threads, cores),
            "peak_bytes": max(run["peak_bytes"] for run in runs),
        }
        if what in ("stuff", "superpixels"):  # the same JPEGs, in the same turn
            for share, unit in (("share_of_bare", "seconds"), ("cpu_share", "cpu_seconds")):
                pairs = zip(bare_runs, runs, strict=False)
                row[share] = median(b[unit] / r[unit] for b, r in pairs)
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scratch", type=Path, help="folder for scenes and arrays")
    parser.add_argument("--images", type=int, default=500, help="drawn for COCO-Stuff")
    parser.add_argument("--tiles", type=int, default=1)
    parser.add_argument("--tile-size", type=int, default=3000, help="a multiple of 30")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores}))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write everything measured there")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options)))
        return 0
    arguments = sys.argv[1:]
    written = measure(arguments, "scenes", 0)
    measured = []
    for turn in range(options.repeats):
        for threads in options.threads:
            # The slow ones once: their speed is not held against anything.
            kinds = ["bare", "stuff", *(["superpixels", "persons", "potsdam"] * (turn == 0))]
            measured += [measure(arguments, what, threads) for what in kinds]
    rows = summarise(measured, cores)
    same = {
        what: len({json.dumps(m["files"]) for m in measured if m["what"] == what}) == 1
        for what in TITLES
        if what != "bare"
    }
    size, peak = written["count"] / 1e9, written["peak_bytes"] / 1e6
    print(f"\n{size:.1f} GB of scenes (peak {peak:.0f} MB)", end="")
    print(f", {cores} cores, {options.repeats} turns\n")
    print("| what | inputs | threads | per second | per core | of bare: clock | processor ", end="")
    print("| peak MB | same bytes |\n|:---|---:|---:|---:|---:|---:|---:|---:|:---|")
    for row in rows:
        shares = [row.get(share) for share in ("share_of_bare", "cpu_share")]
        by_clock, by_cpu = ("" if s is None else f"{100 * s:.0f} %" for s in shares)
        alike = {None: "", True: "yes", False: "NO"}[same.get(row["what"])]
        print(
            f"| {TITLES[row['what']]} | {row['count']} | {row['threads']} | "
            f"{row['per_second']:.1f} | {row['per_second_and_core']:.1f} | {by_clock} | {by_cpu} | "
            f"{row['peak_bytes'] / 1e6:.0f} | {alike} |"
        )
    if options.json:
        write_record(options, {"rows": rows, "same_bytes": same, "measured": measured})
    stuff = [row for row in rows if row["what"] == "stuff"]
    good = (
        all(same.values())
        and all(row["peak_bytes"] <= MAX_PEAK for row in rows)
        and all(row["share_of_bare"] >= MIN_SHARE for row in stuff)
    )
    return int(not good)


def write_record(options: argparse.Namespace, content: dict[str, Any]) -> None:
    import torch

    from infoseg.files import write_json
    from infoseg.machine import facts, git_commit
    from infoseg.settings import load_params

    asked = {key: value for key, value in vars(options).items() if key not in ("step", "json")}
    made = facts(load_params(ROOT).training, torch.device("cpu"))
    made |= {"git": git_commit(ROOT), "asked": asked | {"scratch": options.scratch.name}}
    write_json(options.json, content | {"provenance": made})


if __name__ == "__main__":
    sys.exit(main())
