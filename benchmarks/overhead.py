"""(f) What the pipeline costs around a run: Python, imports, kernel, papermill, DVC."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from infoseg.settings import compose

ROOT = Path(__file__).parent.parent
#: The shortest run there is: nothing is trained.
DATASET, METHOD = "coco_stuff3", "random_cnn"
CELL = f"runs/tiny/{DATASET}/{METHOD}"


def overhead(repeats: int = 3) -> dict[str, Any]:
    """Seconds of each layer around a run of `random_cnn` on the tiny profile's pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        return _measure(_copy(Path(scratch, "clone")), repeats)


def _copy(folder: Path) -> Path:
    """A copy of what git tracks, with one short run in its settings and its data prepared."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith("results/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    tree = compose("tiny")
    tree["profile"] |= {"methods": [METHOD], "ablations": {"dataset": DATASET, "variants": []}}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    _seconds(["git", "init", "--quiet"], folder)
    _seconds([sys.executable, "-m", "dvc", "repro", "--quiet", f"evaluate@{DATASET}"], folder)
    return folder


def _seconds(words: list[str], folder: Path) -> float:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {"PYTHONPATH": str(folder), "PATH": paths, "DVC_NO_ANALYTICS": "true"}
    began = time.perf_counter()
    done = subprocess.run(
        words, cwd=folder, env=os.environ | variables, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - began


def _measure(folder: Path, repeats: int) -> dict[str, Any]:
    python = [sys.executable]
    stage, notebook = f"train@{DATASET}-{METHOD}", "build/02_train.ipynb"
    arguments = [notebook, f"{CELL}/train.ipynb", f"dataset={DATASET}", f"method={METHOD}"]
    commands = {
        "python": [*python, "-c", "pass"],
        "import torch": [*python, "-c", "import torch"],
        "import infoseg.runs": [*python, "-c", "import infoseg.runs"],
        "infoseg train": [*python, "-m", "infoseg", "train", DATASET, METHOD],
        "its notebook": [*python, "-m", "infoseg.pipeline", "run", *arguments],
        "its stage": [*python, "-m", "dvc", "repro", "--quiet", "-s", "-f", stage],
        "dvc status": [*python, "-m", "dvc", "status", "--json", stage],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, words in commands.items():
            if name != "dvc status":  # a finished seed is not trained again
                for made in (CELL, "build/scratch"):
                    shutil.rmtree(folder / made, ignore_errors=True)
            times[name].append(_seconds(words, folder))
    found: dict[str, Any] = {name: statistics.median(values) for name, values in times.items()}
    timing = folder / f"build/timing/tiny/{DATASET}-{METHOD}-0.json"
    found["of it the run itself"] = json.loads(timing.read_text())["seconds"]
    return found
