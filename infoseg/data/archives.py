"""Raw files where they lie: in folders, or inside the zip archives they were published in.

Everything below a *place* is reached through ``importlib.resources.abc.Traversable``, which both
``pathlib.Path`` and ``zipfile.Path`` offer. An archive is never extracted, so no member's name
becomes a file's path and 118,000 pictures need no second copy on the disk.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path

from infoseg.files import DataError


@contextmanager
def naming(file: Traversable, problem: str, advice: str) -> Iterator[None]:
    """Turn a reader's exception into a DataError "<file>: <problem> (<reason>). <advice>".

    Decoders fail on a user's bytes in many ways, so every exception counts. A missing file and a
    DataError keep their own problem; a DataError with its own advice keeps that, too.
    """
    try:
        yield
    except DataError as error:
        advice = error.advice or advice
        raise DataError(error.problem, file=error.file or file, advice=advice) from None
    except FileNotFoundError:
        advice = "Put it there, or leave it out with on_bad_input=skip"
        raise DataError("not found", file=file, advice=advice) from None
    except Exception as error:
        text = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        problem = f"{problem} ({' '.join(text.split())})"
        raise DataError(problem, file=file, advice=advice) from None


def places(raw: Sequence[Path], archives: Collection[str] = ()) -> tuple[Traversable, ...]:
    """Return where raw files may lie: the raw folders in their order, then the archives' roots.

    raw: folders; an archive also counts as one. archives: names to look for in every folder and one
    folder down; what is unpacked goes before what is not. Raises DataError for a missing folder and
    for an archive that cannot be opened.
    """
    roots: list[Traversable] = [folder for folder in raw if folder.is_dir()]
    files = [file for file in raw if file not in roots]
    for file in files:
        if not (file.suffix.lower() == ".zip" and file.is_file()):
            advice = "Check the path of the raw data"
            raise DataError("raw folder not found", file=file, advice=advice)
    for folder, name, at in itertools.product(list(roots), archives, ("", "*/")):
        files += sorted(folder.glob(at + name))
    for file in dict.fromkeys(files):
        with naming(file, "is not a whole zip archive", "Download the archive again"):
            roots.append(zipfile.Path(file))
            names = roots[-1].root.namelist()
            if len(names) > len({*names}):
                raise DataError("has two members of one name")
    return tuple(roots)


def read_bytes(file: Traversable, limit: int) -> bytes:
    """Return the content of a file or of an archive's member.

    limit: bytes it may have; a member's claim is checked before anything is unpacked. Raises
    DataError for a file that is missing, larger, or cannot be read to its end intact.
    """
    with naming(file, "cannot be read", "Check permissions and disk, or replace it"):
        if not file.exists():
            raise FileNotFoundError
        packed = isinstance(file, zipfile.Path)
        size = file.root.getinfo(file.at).file_size if packed else file.stat().st_size
        if size > limit:
            problem = f"has {size} bytes, more than the {limit} that such a file may have"
            raise DataError(problem, advice="Is it the right file?")
        return file.read_bytes()


def names_in(folder: Traversable) -> list[str]:
    """Return the sorted names of what a folder directly holds, without hidden ones.

    Raises DataError for a folder that cannot be listed.
    """
    with naming(folder, "cannot be listed", "Check its permissions"):
        return sorted(f.name for f in folder.iterdir() if not f.name.startswith("."))


def files_below(place: Traversable) -> Iterator[Traversable]:
    """Yield the files at any depth below a place, in the order of their paths.

    Members whose names are absolute or lead out of their archive are left out.
    """
    if isinstance(place, zipfile.Path):
        for name in sorted(place.root.namelist()):
            parts = name.replace("\\", "/").split("/")
            if parts[-1] and parts[0] and ".." not in parts:
                yield zipfile.Path(place.root, name)
    else:
        yield from (file for file in sorted(place.rglob("*")) if file.is_file())
