"""The loop every preparation shares: decode in threads, write in order, deal with bad input."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from infoseg.data.archives import RawFolders, raw_folders
from infoseg.data.store import PreparedWriter
from infoseg.data.superpixels import superpixels as make_superpixels
from infoseg.files import DataError
from infoseg.settings import SuperpixelSettings

log = logging.getLogger(__name__)


@dataclass
class Sample:
    """One image on its way into a prepared data set; shapes as in ``PreparedWriter.add``.

    note: what ``meta.json`` should say about it.
    """

    id: str
    image: np.ndarray
    labels: np.ndarray | None
    split: str = "train"
    note: str = ""
    group: str = ""


class Options(TypedDict, total=False):
    """What every reader takes and passes on to ``ingest``, which explains it."""

    name: str
    superpixels: SuperpixelSettings | None
    on_bad_input: Literal["error", "skip"]
    progress: bool
    threads: int


def ingest(
    raw: RawFolders,
    out: Path | str,
    items: Sequence[Any],
    prepare: Callable[[Any], list[Sample]],
    *,
    name: str,
    superpixels: SuperpixelSettings | None = None,
    on_bad_input: Literal["error", "skip"] = "error",
    progress: bool = False,
    threads: int = 2,
    parameters: Mapping[str, Any],
    **description: Any,
) -> None:
    """Prepare a data set into the directory ``out``: ``prepare(item)`` of every item, in order.

    An item is one raw input and gives any number of images, also none. Items are prepared, and
    their superpixels made, in ``threads`` threads (decoders and SLIC release the GIL); the bytes
    written do not depend on their number. superpixels: None stores none. on_bad_input: "error" lets
    a DataError through; "skip" logs a warning, records the file with its path below the raw folder,
    and leaves the whole item out. description: the rest that ``PreparedWriter`` takes.
    """

    def work(item: Any) -> list[tuple[Sample, np.ndarray | None]]:
        return [(sample, _regions(sample, superpixels)) for sample in prepare(item)]

    description |= {"name": name, "superpixels": superpixels}
    description["parameters"] = {**parameters, "on_bad_input": on_bad_input}
    with (
        PreparedWriter(out, **description) as writer,
        logging_redirect_tqdm(),
        tqdm(total=len(items), desc=name, mininterval=1.0, disable=not progress) as bar,
        closing(ordered_map(work, items, threads)) as results,
    ):
        for result in results:
            try:
                for sample, regions in result():
                    writer.add(
                        sample.id, sample.image, sample.labels, sample.split, regions, sample.group
                    )
                    writer.notes += [sample.note] if sample.note else []
            except DataError as error:
                if on_bad_input != "skip":
                    raise
                log.warning("left out: %s", error)
                writer.skip(_below(error.file or Path("."), raw), error.problem)
            bar.update()


def _regions(sample: Sample, settings: SuperpixelSettings | None) -> np.ndarray | None:
    try:
        return None if settings is None else make_superpixels(sample.image, settings)
    except DataError as error:
        raise DataError(f"{sample.id}: {error.problem}", advice=error.advice) from None


def _below(file: Path, raw: RawFolders) -> Path:
    """Return a file's path below the raw folder that it lies in, or its name."""
    for folder in raw_folders(raw):
        if file.is_relative_to(folder):
            return file.relative_to(folder.parent if folder.is_file() else folder)
    return Path(file.name)


def ordered_map(
    work: Callable[[Any], Any], items: Iterable[Any], threads: int
) -> Generator[Callable[[], Any], None, None]:
    """Yield, for every item in order, a call that returns ``work(item)`` or raises its error.

    At most ``2 * threads`` items are at work or wait for their turn, so memory does not grow.
    """
    pool, pending = ThreadPoolExecutor(threads), deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= 2 * threads:
                yield pending.popleft().result
        while pending:
            yield pending.popleft().result
    finally:
        pool.shutdown(cancel_futures=True)
