"""The loop every preparation shares: decode in threads, write in order, deal with bad input."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from infoseg.data.store_writer import PreparedWriter
from infoseg.errors import DataError

log = logging.getLogger(__name__)

OnBadInput = Literal["error", "skip"]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sample:
    """One image on its way into a prepared data set; shapes as in ``PreparedWriter.add``."""

    id: str
    image: np.ndarray
    labels: np.ndarray | None
    split: str


def ingest(
    writer: PreparedWriter,
    items: Sequence[Item],
    prepare: Callable[[Item], list[Sample]],
    *,
    raw: Path,
    on_bad_input: OnBadInput,
    progress: bool = False,
    threads: int = 2,
    limit: int | None = None,
) -> None:
    """Write ``prepare(item)`` for every item, in the order of ``items``.

    An item is one raw input and gives any number of images, also none. ``prepare`` runs in
    ``threads`` threads (decoders release the GIL), yet the bytes written do not depend on their
    number. on_bad_input: "error" lets a DataError through; "skip" logs a warning, records the
    file with its path below ``raw``, and leaves the whole item out. limit: stop after so many
    images.
    """
    if on_bad_input not in ("error", "skip"):
        raise ValueError(f"on_bad_input must be 'error' or 'skip', not {on_bad_input!r}")
    written = 0
    bar = tqdm(total=len(items), desc=writer.name, mininterval=1.0, disable=not progress)
    results = ordered_map(prepare, items, threads)
    with logging_redirect_tqdm(), bar, closing(results):
        for result in results:
            try:
                for sample in result():
                    if limit is not None and written >= limit:
                        return
                    writer.add(sample.id, sample.image, sample.labels, sample.split)
                    written += 1
            except DataError as error:
                if on_bad_input == "error":
                    raise
                log.warning("left out: %s", error)
                writer.skip(*_below(error, raw))
            bar.update()


def _below(error: DataError, raw: Path) -> tuple[Path, str]:
    if error.file is None:
        return Path("."), error.problem
    inside = error.file.is_relative_to(raw)
    return error.file.relative_to(raw) if inside else Path(error.file.name), error.problem


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Generator[Callable[[], Result], None, None]:
    """Yield, for every item in order, a call that returns ``work(item)`` or raises its error.

    At most ``2 * threads`` results exist at a time, so memory does not grow with the data set.
    """
    pool = ThreadPoolExecutor(max_workers=threads)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= 2 * threads:
                yield pending.popleft().result
        while pending:
            yield pending.popleft().result
    finally:
        pool.shutdown(cancel_futures=True)
