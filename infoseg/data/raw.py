"""Raw files where they lie: in folders, or inside the archives they were published in.

Everything below a *place* is reached through ``importlib.resources.abc.Traversable``, which both
``pathlib.Path`` and ``zipfile.Path`` offer. So an archive is read without being extracted: no
member's name ever becomes a file's path, and 118,000 pictures need no second copy on the disk.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

from infoseg.errors import DataError

COCO_ARCHIVES = (
    "train2017.zip",
    "val2017.zip",
    "annotations_trainval2017.zip",
    "stuffthingmaps_trainval2017.zip",
)
STUFF_ARCHIVES = ("train2017.zip", "val2017.zip", "stuffthingmaps_trainval2017.zip")
POTSDAM_ARCHIVES = ("4_Ortho_RGBIR.zip", "5_Labels_for_participants.zip", "5_Labels_all.zip")
ARCHIVES = COCO_ARCHIVES + POTSDAM_ARCHIVES
"""Names of the archives that are read in place, as their publishers spell them."""

RawFolders = Path | str | Sequence[Path | str]
"""One raw folder or several; an archive's own path also counts as a folder."""

_PIECE = 2**24
_AGAIN = "Download the archive again"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
ARCHIVE_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, OverflowError,
    RuntimeError, MemoryError, IndexError,
)  # fmt: skip
"""What ``zipfile`` raises for bytes that are no archive, depending on where they are wrong."""


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


def places(raw: RawFolders, archives: Collection[str] = ARCHIVES) -> tuple[Traversable, ...]:
    """Return where raw files may lie: the folders in their order, then the archives' roots.

    archives: names to look for in every folder and one folder down. What is unpacked therefore
    goes before what is not. An archive is opened here, once; its members may then be read from any
    number of threads. Raises DataError for a folder that does not exist and for an archive that
    cannot be opened.
    """
    folders = raw_folders(raw)
    trees = [folder for folder in folders if folder.is_dir()]
    candidates = [file for file in folders if file not in trees]
    for folder in trees:
        inside = sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())
        candidates += [at / name for at in (folder, *inside) for name in archives]
    found: dict[Path, Path] = {}  # a folder and its parent may both be given
    for file in candidates:
        if file.is_file():
            found.setdefault(file.resolve(), file)
    return (*trees, *map(open_archive, found.values()))


def open_archive(file: Path) -> zipfile.Path:
    """Return the root of a zip archive; DataError where its list of members is not whole."""
    try:
        root = zipfile.Path(zipfile.ZipFile(file))
        names = [info.filename for info in root.root.infolist()]
        root.root.namelist()  # computed once, and now rather than in several threads
    except ARCHIVE_DAMAGE as error:
        raise DataError(
            f"is not a whole zip archive ({_reason(error)})", file=file, advice=_AGAIN
        ) from None
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise DataError(f"has two members named {twice!r}", file=file, advice=_AGAIN)
    return root


def read_all(file: Traversable, limit: int) -> bytes:
    """Return the content of a file or of an archive's member.

    limit: bytes it may have; a member's claim is checked before anything is unpacked. Raises
    DataError for a file that is missing, larger, or cannot be read to its end intact: a wrong
    checksum, an encrypted member, a compression other than deflate.
    """
    if isinstance(file, zipfile.Path):
        return _read_member(file, limit)
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise _too_large(file, size, limit)
            return stream.read()
    except FileNotFoundError:
        raise not_found(file) from None
    except OSError as error:
        raise DataError(
            f"cannot be read ({_reason(error)})", file=file, advice="Check its permissions and disk"
        ) from None


def _read_member(file: zipfile.Path, limit: int) -> bytes:
    try:
        info = file.root.getinfo(file.at)
    except KeyError:
        raise not_found(file) from None
    problem = ""
    if info.flag_bits & 0x1:
        problem = "is encrypted"
    elif info.compress_type not in _METHODS:
        name = zipfile.compressor_names.get(info.compress_type, info.compress_type)
        problem = f"is compressed by a method that is not read here ({name})"
    if problem:
        raise DataError(
            problem, file=file, advice="Use the archive as published, or unpack it yourself"
        )
    if info.file_size > limit:
        raise _too_large(file, info.file_size, limit)
    whole = io.BytesIO()
    try:
        with file.root.open(info) as stream:
            # Never more than was claimed: a bomb ends here. The last read compares the checksum.
            # In pieces, because inflating 144 MB at once takes three times the memory.
            while missing := info.file_size - whole.tell():
                if not (piece := stream.read(min(missing, _PIECE))):
                    break
                whole.write(piece)
    except ARCHIVE_DAMAGE as error:
        raise DataError(
            f"is damaged in its archive ({_reason(error)})", file=file, advice=_AGAIN
        ) from None
    if missing or (info.CRC and not info.file_size):  # zipfile checks nothing of an empty member
        raise DataError(
            f"is damaged in its archive ({missing} of {info.file_size} bytes are missing)",
            file=file,
            advice=_AGAIN,
        )
    return whole.getvalue()


def not_found(file: Traversable) -> DataError:
    """Return the error for a file that ought to be there."""
    return DataError(
        "not found", file=file, advice="Put it there, or leave it out with on_bad_input=skip"
    )


def _too_large(file: Traversable, size: int, limit: int) -> DataError:
    return DataError(
        f"has {size} bytes, more than the {limit} that such a file may have",
        file=file,
        advice="Is it the right file?",
    )


def _reason(error: BaseException) -> str:
    """Return an error's text without a path, which the message has already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__


def holds(folder: Traversable, ending: str) -> bool:
    """Say whether a folder directly holds a file whose name has such an ending, in any case."""
    if isinstance(folder, zipfile.Path):  # iterdir() makes an object of each of 118,000 names
        start = len(folder.at)
        names = (n[start:] for n in folder.root.namelist() if n.startswith(folder.at))
        names = (name for name in names if "/" not in name)
    else:
        names = (entry.name for entry in folder.iterdir())
    return any(name.lower().endswith(ending) and not name.startswith(".") for name in names)


def files_below(place: Traversable) -> Iterator[Traversable]:
    """Yield the files at any depth below a place, in the order of their paths.

    Members whose names are absolute or lead out of their archive are left out.
    """
    if isinstance(place, zipfile.Path):
        for info in sorted(place.root.infolist(), key=lambda info: info.filename):
            if not info.is_dir() and _inside(info.filename):
                yield zipfile.Path(place.root, info.filename)
    elif isinstance(place, Path):
        yield from (file for file in sorted(place.rglob("*")) if file.is_file())


def _inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.replace("\\", "/").split("/")
