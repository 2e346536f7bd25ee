"""What ran where: recorded beside every result, so that a figure can be traced to its making.

python -m infoseg.provenance OUT    list the sources that decide a run's numbers, with hashes
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from infoseg.devices import choose_precision, is_deterministic
from infoseg.files import write_csv
from infoseg.params import TrainingParams

#: Libraries whose version can change a number.
LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-image",
    "opencv-python-headless",
    "pillow",
)


def git_state(root: Path) -> dict[str, Any]:
    """Commit and whether tracked files differ from it; nulls outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Sources alone: the pipeline's own outputs differ from the commit while it runs.
    status = git("status", "--porcelain", "--", "infoseg", "notebooks", "conf", "dvc.yaml")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


#: Sources that decide what a run's numbers are, below the package; dvc.yaml's stage `code` depends
#: on the same ones (a test compares), and every run on what it lists.
RUN_CODE = (
    "adversarial.py",
    "averaging.py",
    "causal.py",
    "checkpoints.py",
    "clustering_losses.py",
    "correlation.py",
    "data/store.py",
    "devices.py",
    "evaluation.py",
    "interruption.py",
    "jitter.py",
    "losses.py",
    "methods",
    "model.py",
    "regions.py",
    "training.py",
    "trunk.py",
    "views.py",
)


def run_code() -> dict[str, bytes]:
    """The files of `RUN_CODE`, by their path below the package."""
    package = Path(__file__).parent
    files: dict[str, bytes] = {}
    for entry in RUN_CODE:
        place = package / entry
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            files[path.relative_to(package).as_posix()] = path.read_bytes()
    return files


def code_hash() -> str:
    """SHA-256 over `run_code`: which code made a run, whether it was committed or not."""
    digest = hashlib.sha256()
    for name, content in run_code().items():
        digest.update(name.encode())
        digest.update(content)
    return digest.hexdigest()


def write_run_code(path: Path) -> None:
    """List `run_code` with a SHA-256 each."""
    rows = [
        {"file": name, "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in run_code().items()
    ]
    write_csv(path, rows)


def provenance(
    root: Path,
    training: TrainingParams,
    device: torch.device,
    settings: dict[str, Any],
    dataset: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Everything about a run's making that stays the same when it is made again on this machine.

    settings, dataset: the method's and the data set's, as in params.yaml.
    """
    cuda = device.type == "cuda"
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = None
    parameters = {"training": training.model_dump(), "settings": settings, "dataset": dataset}
    return {
        "git": git_state(root),
        "code_sha256": code_hash(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "device": torch.cuda.get_device_name(device) if cuda else _cpu_name(),
        "cuda": torch.version.cuda if cuda else None,
        "driver": _driver() if cuda else None,
        "precision": str(choose_precision(training.precision, device) or torch.float32)[6:],
        "deterministic": is_deterministic(training, device),
        "seed": seed,
        "parameters_sha256": hash_of(parameters),
        "training": training.model_dump(),
        "settings": settings,
    }


def hash_of(content: Any) -> str:
    """SHA-256 of JSON's types, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _driver() -> str | None:
    """Version of NVIDIA's driver."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next(iter(done.stdout.split()), None)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    write_run_code(Path(sys.argv[1]))
