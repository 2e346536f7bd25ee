"""What becomes of small folders of one's own pictures: the table and the verdict's errors.

    python -m benchmarks.own FOLDERS.yaml OUT.csv

FOLDERS.yaml: a list of {name, images, labels, classes, part, minutes or steps}. part: number of a
random choice of 40 labelled pictures. Each is trained as `infoseg train --images` does and measured
with its labels, beside K-Means, stripes and one class; a row is written as soon as it is there.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from infoseg.data.pictures import find_pictures
from infoseg.own import train_on_folder

COUNT = 40
#: mIoU above the best of the other answers from which a segmentation is useful.
USEFUL = 5


def measure(folder: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Train and measure a folder: accuracies by answer, signals, and whether the verdict errs."""
    labels = Path(folder["labels"])
    files = [
        f for f in find_pictures(Path(folder["images"])) if (labels / f"{f.stem}.png").exists()
    ]
    random.Random(folder["part"]).shuffle(files)
    pictures, maps = scratch / folder["name"] / "images", scratch / folder["name"] / "labels"
    for place in (pictures, maps):
        place.mkdir(parents=True)
    for file in files[:COUNT]:
        shutil.copy(file, pictures)
        shutil.copy(labels / f"{file.stem}.png", maps)
    length = {key: folder[key] for key in ("minutes", "steps") if key in folder}
    out = scratch / folder["name"] / "out"
    weights = train_on_folder(pictures, folder["classes"], out, maps, **length)
    found = json.loads((out / "segmented" / "signals.json").read_text())
    row = {key: folder[key] for key in ("name", "part", "classes")} | {"weights": weights.name}
    row |= {f"{answer} {figure}": round(value, 1) for answer, figures in found["accuracy"].items()
            for figure, value in figures.items()}  # fmt: skip
    others = [f["miou"] for answer, f in found["accuracy"].items() if answer != "these weights"]
    gain = found["accuracy"]["these weights"]["miou"] - max(others)
    row |= {"gain": round(gain, 1), "useful": gain >= USEFUL, "verdict": found["verdict"]}
    return row | found["signals"]


def main(listing: Path, out: Path) -> None:
    rows = []
    for folder in yaml.safe_load(listing.read_text()):
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(measure(folder, Path(scratch)))
        with out.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
