"""dvc.lock, one entry at a time.

To record a stage, DVC parses the whole file with its comments and writes it anew: at the demo's 160
stages 5 s of one core, after every stage. Within `by_entries` it reads the entry it asks for and
replaces that, as text; the file has the bytes it would have had.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infoseg.files import write_whole

#: What every lock file of DVC's begins with, but an empty one.
HEAD = "schema: '2.0'\nstages:\n"


class Entries:
    """The stages of a lock file, as much of a mapping as DVC uses: `get` and `update`."""

    def __init__(self, text: str):
        self._texts = {
            entry.partition("\n")[0].strip().removesuffix(":"): entry for entry in split(text)
        }

    def get(self, name: str, default: Any = None) -> Any:
        from dvc.utils.serialize import parse_yaml  # deferred, as in `_written`

        text = self._texts.get(name)
        return default if text is None else parse_yaml(text, "dvc.lock")[name]

    def update(self, stages: Mapping[str, Any]) -> None:
        for name, entry in stages.items():
            self._texts[name] = _written({"schema": "2.0", "stages": {name: entry}})

    def __str__(self) -> str:
        return "".join(self._texts.values())


def split(stages: str) -> list[str]:
    """The text under `stages:`, entry by entry; they join to what they were."""
    return re.split(r"^(?=  \S)", stages, flags=re.MULTILINE)[1:]


def _written(lock: dict[str, Any]) -> str:
    from dvc.utils.serialize import dumps_yaml

    return dumps_yaml(lock).removeprefix(HEAD)


@contextlib.contextmanager
def by_entries() -> Iterator[None]:
    """Let DVC, in this process and context, record stages this way.

    A lock file of another form, with comments of somebody's say, is left to DVC.
    """
    from dvc import dvcfile

    original = dvcfile.modify_yaml

    @contextlib.contextmanager
    def modify(path: str, fs: Any = None) -> Iterator[Any]:
        file = Path(path)
        text = file.read_text(encoding="utf-8") if file.exists() else HEAD
        if not is_plain(text):
            with original(path, fs=fs) as data:
                yield data
            return
        entries = Entries(text.removeprefix(HEAD))
        yield {"schema": "2.0", "stages": entries}
        write_whole(file, lambda whole: whole.write_text(f"{HEAD}{entries}", encoding="utf-8"))

    dvcfile.modify_yaml = modify
    try:
        yield
    finally:
        dvcfile.modify_yaml = original


def is_plain(text: str) -> bool:
    """Whether this is a lock file as DVC writes it: stages, each under its unquoted name."""
    stages = text.removeprefix(HEAD)
    if stages == text or not text.endswith("\n"):
        return False
    line = re.compile(r"  (  .*|[A-Za-z][\w@.-]*:)")
    return all(line.fullmatch(written) for written in stages.splitlines())
