"""The loop every preparation shares: decode in threads, write in order, deal with bad input."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from infoseg.data.store import PreparedWriter
from infoseg.data.superpixels import superpixels
from infoseg.files import DataError
from infoseg.settings import DatasetParams

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


def ingest(
    raw: Sequence[Path],
    out: Path,
    settings: DatasetParams,
    items: Sequence[Any],
    prepare: Callable[[Any], list[Sample]],
    *,
    name: str,
    protocol: str,
    decides: Sequence[str],
    chosen: Mapping[str, Any] | None = None,
    progress: bool = False,
    threads: int = 2,
    **description: Any,
) -> None:
    """Prepare a data set into the directory ``out``: ``prepare(item)`` of every item, in order.

    An item is one raw input and gives any number of images, also none. Items are prepared, and
    their superpixels made, in ``threads`` threads (decoders and SLIC release the GIL); the bytes
    written do not depend on their number. ``settings.on_bad_input``: "error" lets a DataError
    through; "skip" logs a warning, records the file with its path below the raw folder, and leaves
    the whole item out. ``meta.json`` states protocol, the settings ``decides``, and ``chosen``.
    description: the rest that ``PreparedWriter`` takes.
    """

    def work(item: Any) -> list[tuple[Sample, np.ndarray | None]]:
        kind = settings.superpixels
        return [(s, kind and superpixels(s.image, kind)) for s in prepare(item)]

    parameters = {"protocol": protocol} | {key: getattr(settings, key) for key in decides}
    parameters |= {**(chosen or {}), "on_bad_input": settings.on_bad_input}
    description |= {"superpixels": settings.superpixels, "parameters": parameters}
    with (
        PreparedWriter(out, name=name, **description) as writer,
        logging_redirect_tqdm(),
        tqdm(total=len(items), desc=name, mininterval=1.0, disable=not progress) as bar,
        closing(ordered_map(work, items, threads)) as results,
    ):
        for result in results:
            try:
                for s, regions in result():
                    writer.add(s.id, s.image, s.labels, s.split, regions, s.group)
                    writer.notes += [s.note] if s.note else []
            except DataError as error:
                if settings.on_bad_input != "skip":
                    raise
                log.warning("left out: %s", error)
                writer.skip(_below(error.file or Path("."), raw), error.problem)
            bar.update()


def _below(file: Path, raw: Sequence[Path]) -> Path:
    """Return a file's path below the raw folder that it lies in, or its name."""
    roots = [folder.parent if folder.is_file() else folder for folder in raw]
    below = (file.relative_to(root) for root in roots if file.is_relative_to(root))
    return next(below, Path(file.name))


def ordered_map(
    work: Callable[[Any], Any], items: Iterable[Any], threads: int
) -> Iterator[Callable[[], Any]]:
    """Yield, for every item in order, a call that returns ``work(item)`` or raises its error.

    At most ``2 * threads`` items are at work or wait for their turn, so memory does not grow.
    """
    pool, pending = ThreadPoolExecutor(threads), deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= 2 * threads:
                yield pending.popleft().result
        yield from (future.result for future in pending)
    finally:
        pool.shutdown(cancel_futures=True)
