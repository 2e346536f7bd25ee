"""Folders that grow under a hidden name until they are whole: held while they do, removed if left.

A process that is killed cannot remove what it began. Its lock ends with it, by which the next one
tells what was abandoned from what another process is still writing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path


def hold(folder: Path) -> int:
    """Lock a folder until the descriptor is closed; OSError if another process has done so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_abandoned(path: Path, role: str) -> None:
    """Remove the siblings `.<name>.<role>-*` of `path` that nobody holds."""
    for folder in path.parent.glob(f".{path.name}.{role}-*"):
        with suppress(OSError):  # its writer is at work, or has just ended
            lock = hold(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
