"""Finding the repository; writing files whole or not at all. Imports nothing heavy."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from infoseg.errors import DataError, InfosegError, StorageError


def find_root(start: Path | None = None) -> Path:
    """The repository: the nearest folder at or above `start` with `params.yaml`."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "params.yaml").exists():
            return folder
    raise InfosegError(
        f"{start} is not inside the repository (no params.yaml above it): go there first"
    )


def in_clone(root: Path) -> bool:
    """Whether a folder is a clone of this repository: other projects have a params.yaml, too."""
    return (root / "params.yaml").exists() and (root / "infoseg" / "conf").is_dir()


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """What the system says against writing `path`, or below it, becomes a StorageError naming it.

    Errors about anything else pass: a file that is read meanwhile, a format that cannot hold what
    it is given.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        number = _refusal(error, path)
        if number is None:
            raise
        raise StorageError(number, os.strerror(number), str(path)) from None


def _refusal(error: Exception, path: Path) -> int | None:
    """The errno of an error if it is about writing `path`."""
    place = None
    if isinstance(error, OSError) and error.errno is not None:
        number, place = error.errno, error.filename
    elif found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors, from Rust
        number = int(found[1])
    elif type(error) is OSError and _is_full(path):  # an encoder tells no reason
        number = errno.ENOSPC
    else:
        return None
    if number in StorageError.SURE:  # whatever name comes with it: of a copy, it is the source's
        return number
    if number not in StorageError.KNOWN:
        return None
    where = path if place is None else Path(os.fsdecode(place))
    ours = where.is_relative_to(path.parent) or path.is_relative_to(where)
    return number if ours else None


def _is_full(path: Path) -> bool:
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    return shutil.disk_usage(folder).free == 0


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises StorageError."""
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: all of it or nothing.

    Raises StorageError where the system does not let it be written, with nothing left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # what went wrong is told already
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
