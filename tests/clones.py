"""Copies of the repository in which tests run the pipeline itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from helpers import one_data_set

ROOT = Path(__file__).parent.parent


class Clone:
    """A copy of the working tree that DVC can work in.

    tree: the settings, one data set of the tiny profile by default.
    """

    def __init__(self, path: Path, tree: dict[str, Any] | None = None):
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        tracked = self.run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).split("\n")
        for name in filter(None, tracked):
            if (ROOT / name).is_file() and not name.startswith("results/"):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name)
        (path / "dvc.lock").unlink(missing_ok=True)
        self.write_params(tree or one_data_set(pictures=3))
        self.run("git", "init", "-q")

    def run(self, *words: str, check: bool = True, cwd: Path | None = None) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            words,
            cwd=cwd or self.path,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.code, self.output = done.returncode, done.stdout
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def repro(self, *words: str, check: bool = True) -> list[str]:
        """Run `dvc repro`; returns the stages whose command ran, or came from the run cache."""
        text = self.run("dvc", "repro", *words, check=check)
        return [
            line.split("'")[1]
            for line in text.splitlines()
            if line.startswith(("Running stage", "Stage '")) and "didn't change" not in line
        ]

    def write_params(self, tree: dict) -> None:
        (self.path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    @property
    def params(self) -> dict:
        return yaml.safe_load((self.path / "params.yaml").read_text())

    @property
    def lock(self) -> str:
        return (self.path / "dvc.lock").read_text()
