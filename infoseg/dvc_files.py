"""DVC's own files after a crash: it writes them in place, so that a kill may leave half of one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from voluptuous import Invalid

from infoseg.errors import InfosegError
from infoseg.files import write_whole
from infoseg.lock_entries import split

LOCK, RWLOCK = Path("dvc.lock"), Path(".dvc/tmp/rwlock")
ASIDE = Path("build/dvc.lock.damaged")


def mend() -> None:
    """Put the repository's DVC files in order before DVC reads them; says what was done.

    Nothing is lost by it: stages that dvc.lock no longer knows come back from DVC's run cache.
    Raises InfosegError for a dvc.lock that git left unmerged.
    """
    if not _is_whole(LOCK):
        if "<<<<<<<" in LOCK.read_text(errors="replace"):
            raise InfosegError(
                "dvc.lock has conflict marks: take either side, with `git checkout --theirs "
                "dvc.lock` say, and run again; what is missing in it comes from DVC's run cache"
            )
        ASIDE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LOCK, ASIDE)
        done = subprocess.run(["git", "show", f"HEAD:{LOCK}"], capture_output=True)
        if done.returncode == 0:
            LOCK.write_bytes(done.stdout)
        else:
            LOCK.unlink()
        print(
            f"dvc.lock was not whole (DVC was killed while writing it, say): it is kept as {ASIDE},"
            " the last commit's is used, and stages that were done come from DVC's run cache",
            file=sys.stderr,
        )
    if not _is_json(RWLOCK):
        time.sleep(1)  # another DVC may be writing it
        if not _is_json(RWLOCK):
            RWLOCK.unlink(missing_ok=True)
            print(f"{RWLOCK} was not whole and is removed", file=sys.stderr)


def sort_lock(stages: Sequence[str]) -> None:
    """Put dvc.lock's entries into the order of `stages`, the same whichever ended first.

    Entries of others, of another profile say, follow by name. Entries stay as they are, byte for
    byte; a dvc.lock of any other form is left alone.
    """
    head, mark, body = LOCK.read_text(encoding="utf-8").partition("stages:\n")
    entries = split(body)
    if not mark or "".join(entries) != body:
        return
    place = {stage: number for number, stage in enumerate(stages)}
    names = {entry: entry.partition("\n")[0].strip().removesuffix(":") for entry in entries}
    entries.sort(key=lambda entry: (place.get(names[entry], len(place)), names[entry]))
    text = head + mark + "".join(entries)
    if text != head + mark + body:
        write_whole(LOCK, lambda file: file.write_text(text, encoding="utf-8"))


def _is_whole(path: Path) -> bool:
    """Whether dvc.lock is one, or not there."""
    from dvc.exceptions import DvcException  # deferred: a second of imports
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml

    if not path.exists():
        return True
    try:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(path.read_text(encoding="utf-8"), path))
    except (DvcException, ValueError, Invalid):
        return False
    return True


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True
