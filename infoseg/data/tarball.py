"""One small file out of a tarball, without unpacking it."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # sources imports this module
    pass

from infoseg.data.verify import amount, wrong_file

_TARBALL_LIMIT = 2**30
"""Bytes that a tarball of lists may unpack to."""


def read_member(tarball: Path, suffix: str, size: int) -> bytes:
    """Return the regular file whose path ends with ``suffix``; raises WrongFile.

    The tarball is read to its end, so that damage behind the member is noticed too.
    """
    ending, found, unpacked = PurePosixPath(suffix).parts, None, 0
    try:
        with gzip.open(tarball) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                unpacked += member.size
                if unpacked > _TARBALL_LIMIT:
                    raise wrong_file(f"unpacks to more than {amount(_TARBALL_LIMIT)}", tarball)
                parts = PurePosixPath(member.name).parts
                if parts[-len(ending) :] != ending or ".." in parts or not member.isreg():
                    continue
                if found is not None:
                    raise wrong_file(f"has two members like {suffix}", tarball)
                if member.size != size:
                    raise wrong_file(f"{suffix} has {member.size} bytes instead of {size}", tarball)
                found = archive.extractfile(member).read(size)
            while unpacked <= _TARBALL_LIMIT and (rest := stream.read(2**20)):
                unpacked += len(rest)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise wrong_file(f"is not a whole tarball ({error})", tarball) from None
    if found is None:
        raise wrong_file(f"has no regular file {suffix}", tarball)
    return found
