"""Raw files where they lie: in folders, or inside the zip archives they were published in.

Everything below a *place* is reached through ``importlib.resources.abc.Traversable``, which both
``pathlib.Path`` and ``zipfile.Path`` offer. An archive is read without being extracted: no member's
name ever becomes a file's path, and 118,000 pictures need no second copy on the disk.
"""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

from infoseg.errors import DataError

RawFolders = Path | str | Sequence[Path | str]
"""One raw folder or several; an archive's own path also counts as a folder."""

#: What ``zipfile`` raises for bytes that are no archive, depending on where they are wrong.
ARCHIVE_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, OverflowError,
    RuntimeError, MemoryError, IndexError,
)  # fmt: skip
_AGAIN = "Download the archive again"


def raw_folders(raw: RawFolders) -> tuple[Path, ...]:
    """Return the raw folders as paths; DataError for one that does not exist."""
    folders = tuple(Path(f) for f in ([raw] if isinstance(raw, Path | str) else raw))
    if not folders:
        raise DataError("no raw folder is given", advice="Name at least one")
    for folder in folders:
        if not folder.is_dir() and not (folder.suffix.lower() == ".zip" and folder.is_file()):
            raise DataError(
                "raw folder not found", file=folder, advice="Check the path of the raw data"
            )
    return folders


def places(raw: RawFolders, archives: Collection[str] = ()) -> tuple[Traversable, ...]:
    """Return where raw files may lie: the folders in their order, then the archives' roots.

    archives: names to look for in every folder and one folder down; what is unpacked goes before
    what is not. Raises DataError for a folder that is not there or cannot be listed, and for an
    archive that cannot be opened.
    """
    folders = raw_folders(raw)
    trees = [folder for folder in folders if folder.is_dir()]
    candidates = [file for file in folders if file not in trees]
    for folder in trees:
        inside = [folder / name for name in names_in(folder)] if archives else []
        candidates += [parent / name for parent in (folder, *inside) for name in archives]
    unique = {file.resolve(): file for file in reversed(candidates) if file.is_file()}
    return (*trees, *map(open_archive, reversed(unique.values())))


def open_archive(file: Path) -> zipfile.Path:
    """Return the root of a zip archive; DataError where its list of members is not whole."""
    try:
        root = zipfile.Path(zipfile.ZipFile(file))
        names = root.root.namelist()  # computed once, and now rather than in several threads
    except ARCHIVE_DAMAGE as error:
        raise DataError(
            f"is not a whole zip archive ({_reason(error)})", file=file, advice=_AGAIN
        ) from None
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError(f"has two members named {twice!r}", file=file, advice=_AGAIN)
    return root


def read_bytes(file: Traversable, limit: int) -> bytes:
    """Return the content of a file or of an archive's member.

    limit: bytes it may have; a member's claim is checked before anything is unpacked. Raises
    DataError for a file that is missing, larger, or cannot be read to its end intact.
    """
    try:
        if isinstance(file, zipfile.Path):
            member = file.root.getinfo(file.at)
            size = member.file_size
        else:
            size = file.stat().st_size
        if size > limit:
            raise DataError(
                f"has {size} bytes, more than the {limit} that such a file may have",
                file=file,
                advice="Is it the right file?",
            )
        if not isinstance(file, zipfile.Path):
            return file.read_bytes()
        # In pieces, because inflating 144 MB at once takes three times the memory.
        with file.root.open(member) as stream, io.BytesIO() as content:
            shutil.copyfileobj(stream, content, 2**24)
            whole = content.getvalue()
        if len(whole) != size or zlib.crc32(whole) != member.CRC:  # zipfile may miss both
            raise zipfile.BadZipFile(f"{len(whole)} of {size} bytes, or a wrong checksum")
        return whole
    except (FileNotFoundError, KeyError):
        raise not_found(file) from None
    except DataError:
        raise
    except ARCHIVE_DAMAGE as error:
        if isinstance(file, zipfile.Path):
            problem, advice = "is damaged in its archive", f"{_AGAIN}, or unpack it yourself"
        else:
            problem, advice = "cannot be read", "Check its permissions and disk"
        raise DataError(f"{problem} ({_reason(error)})", file=file, advice=advice) from None


def not_found(file: Traversable) -> DataError:
    """Return the error for a file that ought to be there."""
    return DataError(
        "not found", file=file, advice="Put it there, or leave it out with on_bad_input=skip"
    )


def _reason(error: BaseException) -> str:
    """Return an error's text without a path, which the message has already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__


def names_in(folder: Traversable) -> list[str]:
    """Return the sorted names of what a folder directly holds, without hidden ones.

    Raises DataError for a folder that cannot be listed.
    """
    if isinstance(folder, zipfile.Path):  # iterdir() makes an object of each of 118,000 names
        start = len(folder.at)
        members = (n[start:] for n in folder.root.namelist() if n.startswith(folder.at))
        names = {name for name in members if name and "/" not in name.rstrip("/")}
    else:
        try:
            names = {entry.name for entry in folder.iterdir()}
        except OSError as error:
            raise DataError(
                f"cannot be listed ({error.strerror})", file=folder, advice="Check its permissions"
            ) from None
    return sorted(name for name in names if not name.startswith("."))


def holds(folder: Traversable, ending: str) -> bool:
    """Say whether a folder directly holds a file whose name has such an ending, in any case."""
    return any(name.lower().endswith(ending) for name in names_in(folder))


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
