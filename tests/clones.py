"""Copies of the repository in which tests run the pipeline itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from helpers import ROOT, one_data_set

REPRO = [sys.executable, "-m", "infoseg.pipeline", "repro", "--jobs", "2"]


def small(**profile: Any) -> dict[str, Any]:
    """Settings of a pipeline of seconds: InfoSeg twice, k-means and one ablation on 20 pictures."""
    tree = one_data_set(pictures=2)
    tree["profile"] |= {"ablations": {"dataset": "coco_stuff3", "variants": ["single"]}} | profile
    tree["sources"]["coco"] |= {"stuff_images": 20, "person_images": 0}
    tree["methods"]["infoseg"]["optimiser"] |= {"steps": 8, "batch": 4}
    tree["methods"]["infoseg"]["per_dataset"]["coco_stuff3"]["seeds"] = [0, 1]
    tree["training"] |= {"device": "cpu", "evaluations": 1}
    return tree


def with_checkpoints(seconds: float) -> dict[str, Any]:
    """The same, trained for longer, with a checkpoint every so many seconds."""
    tree = small() | {"execution": {"checkpoint_seconds": seconds}}
    tree["methods"]["infoseg"]["optimiser"] |= {"steps": 800, "batch": 8}
    return tree


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of everything a pipeline makes, by path, and of each stage in dvc.lock."""
    hashes = {}
    for top in ("raw", "prepared", "runs", "results"):
        for path in sorted((folder / top).rglob("*")):
            if path.is_file() and path.name != "timing.csv":
                name = path.relative_to(folder).as_posix()
                hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    if (folder / "dvc.lock").exists():  # the stages stand there in the order in which they ended
        for name, stage in yaml.safe_load((folder / "dvc.lock").read_text())["stages"].items():
            text = json.dumps(stage, sort_keys=True)
            hashes[f"dvc.lock: {name}"] = hashlib.sha256(text.encode()).hexdigest()
    return hashes


def compare(first: Path, second: Path) -> tuple[int, list[str]]:
    """How many files there are in two folders, and the names of those that differ or are alone."""
    left, right = contents(first), contents(second)
    names = left.keys() | right.keys()
    return len(names), sorted(name for name in names if left.get(name) != right.get(name))


class Clone:
    """A commit of a working tree, without results, that DVC can work in.

    tree: the settings in place of params.yaml. of: another clone, which nobody edits meanwhile.
    """

    def __init__(self, path: Path, tree: dict[str, Any], of: Path = ROOT):
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        listed = self.run("git", "ls-files", "-co", "--exclude-standard", cwd=of).split("\n")
        for name in filter(None, listed):
            if (of / name).is_file() and not name.startswith(("results/", "dvc.lock")):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(of / name, path / name)
        self.write_params(tree)
        self.run("git", "init", "-q")
        self.run("git", "config", "user.name", "test")
        self.run("git", "config", "user.email", "test@example.org")
        self.commit()

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "as it is")

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(self.path), "OMP_NUM_THREADS": "1"}
        return os.environ | own | {"DVC_NO_ANALYTICS": "true"}

    def run(self, *words: str, check: bool = True, cwd: Path | None = None) -> str:
        """Run a command; returns all that it said, and keeps that and the exit status."""
        done = subprocess.run(
            words,
            cwd=cwd or self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.code, self.said = done.returncode, done.stdout
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def make(self, check: bool = True) -> str:
        """What `make repro` runs."""
        return self.run(*REPRO, check=check)

    def repro(self, *words: str) -> list[str]:
        """Run plain `dvc repro`; returns the stages whose command ran."""
        return re.findall("^Running stage '(.+)':$", self.run("dvc", "repro", *words), re.M)

    def restore(self) -> None:
        """Put sources, notebooks and settings back as they were."""
        self.run("git", "checkout", "infoseg", "notebooks", "params.yaml")

    def write_params(self, tree: dict[str, Any]) -> None:
        text = yaml.safe_dump(tree, sort_keys=False)
        (self.path / "params.yaml").write_text(text)

    @property
    def params(self) -> dict[str, Any]:
        return yaml.safe_load((self.path / "params.yaml").read_text())

    @property
    def lock(self) -> Path:
        return self.path / "dvc.lock"
