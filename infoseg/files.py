"""Finding the repository; writing files whole or not at all. Imports nothing heavy."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infoseg.errors import DataError, InfosegError


def find_root(start: Path | None = None) -> Path:
    """The repository: the nearest folder at or above `start` with `params.yaml` and `conf`."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "params.yaml").exists() and (folder / "conf").is_dir():
            return folder
    raise InfosegError(f"{start} is not inside the repository (no params.yaml and conf/ above it)")


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make sure that a rename in a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, stages: str) -> Any:
    """Raises DataError naming the stages that make the file when it is not there or not whole."""
    advice = f"Run {stages}"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError("not found", file=path, advice=advice) from None
    except ValueError as error:
        raise DataError(f"is not whole ({error})", file=path, advice=advice) from None


def write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write_text(text))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows of possibly different columns; missing and None values are left empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))

    def write(file: Path) -> None:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)
