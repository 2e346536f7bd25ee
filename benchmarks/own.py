"""What becomes of small folders of one's own pictures: the table and the verdict's errors.

    python -m benchmarks.own FOLDERS.yaml OUT.csv

FOLDERS.yaml: a list of {name, images, labels, classes, part, minutes or steps}. part: number of a
random choice of 40 labelled pictures. Each is trained as `infoseg train --images` does and measured
with its labels, beside K-Means, stripes and one class.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from infoseg.data.pictures import find_pictures
from infoseg.own import train_on_folder

#: mIoU above the best of the other answers from which a segmentation is useful.
USEFUL = 5


def measure(folder: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Train and measure a folder: accuracies by answer, signals, and whether the verdict errs."""
    pairs = {
        f: Path(folder["labels"], f"{f.stem}.png") for f in find_pictures(Path(folder["images"]))
    }
    files = [file for file, labels in pairs.items() if labels.exists()]
    random.Random(folder["part"]).shuffle(files)
    (pictures := scratch / "images").mkdir()
    (maps := scratch / "labels").mkdir()
    for file in files[:40]:
        shutil.copy(file, pictures)
        shutil.copy(pairs[file], maps)
    length = {key: folder[key] for key in ("minutes", "steps") if key in folder}
    train_on_folder(pictures, folder["classes"], scratch / "out", maps, **length)
    signals = json.loads((scratch / "out/segmented/signals.json").read_text())
    accuracy = pd.DataFrame(signals["accuracy"]).T
    row = {key: folder[key] for key in ("name", "part", "classes")}
    row |= {f"{answer} {name}": round(x, 1) for (answer, name), x in accuracy.stack().items()}
    gain = accuracy["miou"]["these weights"] - accuracy["miou"].drop("these weights").max()
    row |= {"gain": round(gain, 1), "useful": gain >= USEFUL, "verdict": signals["verdict"]}
    return row | signals["signals"]


if __name__ == "__main__":
    rows = []
    for folder in yaml.safe_load(Path(sys.argv[1]).read_text()):
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(measure(folder, Path(scratch)))
        pd.DataFrame(rows).to_csv(sys.argv[2], index=False)
