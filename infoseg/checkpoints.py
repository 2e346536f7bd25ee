"""Checkpoints: a training that was killed goes on where it was, and ends in the same bytes.

    <scratch>/<run>-<fingerprint>/step-000000120.ckpt    SHA-256 of what follows, then the state
                                  step-000000080.ckpt    the one before, should that be damaged

The fingerprint is of all that decides a training's bytes, so that a checkpoint of other code,
settings or data is never picked up. The folder is an undeclared one, of which DVC knows nothing:
declared outputs are deleted when a stage starts again.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infoseg.files import write_whole

State = dict[str, Any]

#: Where checkpoints go, in place of build/checkpoints; absolute, for runs in temporary copies.
VARIABLE = "INFOSEG_SCRATCH"
#: Of a checkpoint's content; belongs into the fingerprint.
FORMAT = 1
KEPT = 2
_DIGEST = 32


def scratch(folder: Path) -> Path:
    """Where the checkpoints of a project below `folder` are."""
    return Path(os.environ.get(VARIABLE) or folder / "build" / "checkpoints")


class Checkpoints:
    """The checkpoints of one training.

    folder: named after the run and its fingerprint. seconds: between two of them, or None for none.
    """

    def __init__(self, folder: Path, seconds: float | None):
        self.folder = folder
        self.seconds = seconds
        self._last = time.monotonic()
        self._lock: int | None = None

    def open(self, patience: float = 10.0) -> bool:
        """Take the folder for this process; false if another keeps it for `patience` seconds.

        A killed training's process may outlive what started it by a second or two.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            return self._without(f"cannot be kept ({error})")
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    return self._without("belong to another process that trains the same run")
                time.sleep(0.2)
        for left in self.folder.glob(".*.tmp"):  # of a process that was killed while writing
            left.unlink(missing_ok=True)
        return True

    def _without(self, reason: str) -> bool:
        print(f"checkpoints in {self.folder} {reason}: training without any", file=sys.stderr)
        self.close()
        self.seconds = None
        return False

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    def latest(self) -> State | None:
        """The newest whole checkpoint's state, on the CPU; damaged ones are removed and named."""
        if self._lock is None:
            return None
        for path in self._paths():
            try:
                content = path.read_bytes()
                digest, state = content[:_DIGEST], content[_DIGEST:]
                if hashlib.sha256(state).digest() != digest:
                    raise ValueError("it is not whole")
                return torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
            except Exception as error:  # whatever is wrong with it: there is the one before
                print(f"checkpoint {path} is not used: {error}", file=sys.stderr)
                path.unlink(missing_ok=True)
        return None

    def due(self) -> bool:
        return self.seconds is not None and time.monotonic() - self._last >= self.seconds

    def save(self, step: int, state: State) -> bool:
        """Keep a state beside the one before; false, with a line, where the disk has no room."""
        if self._lock is None:
            return False
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()

        def write(path: Path) -> None:
            with path.open("wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)

        try:
            write_whole(self.folder / f"step-{step:09d}.ckpt", write)
        except Exception as error:  # a training is worth more than its checkpoint
            print(f"no checkpoint at step {step}, training goes on: {error}", file=sys.stderr)
            return False
        finally:
            self._last = time.monotonic()
        for path in self._paths()[KEPT:]:
            path.unlink(missing_ok=True)
        return True

    def clear(self) -> None:
        """Remove them: the training's results are written."""
        if self._lock is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.close()


def random_states(device: torch.device) -> State:
    """States of all global generators: PyTorch's, NumPy's and Python's."""
    kind, keys, place, has_gauss, gauss = np.random.get_state()
    version, words, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), place, has_gauss, gauss],
        "python": [version, list(words), gauss_next],
    }


def restore_random_states(state: State, device: torch.device) -> None:
    torch.set_rng_state(state["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words), gauss_next))
