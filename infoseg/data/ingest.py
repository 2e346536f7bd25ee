"""The loop every preparation shares: decode in threads, write in order, deal with bad input."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from infoseg.data.raw import RawFolders, raw_folders
from infoseg.data.store_writer import PreparedWriter
from infoseg.data.superpixels import superpixels
from infoseg.errors import DataError
from infoseg.settings import SuperpixelSettings

log = logging.getLogger(__name__)

OnBadInput = Literal["error", "skip"]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sample:
    """One image on its way into a prepared data set; shapes as in ``PreparedWriter.add``.

    regions: left to :func:`ingest` unless the reader has its own.
    """

    id: str
    image: np.ndarray
    labels: np.ndarray | None
    split: str
    regions: np.ndarray | None = None
    group: str = ""


def ingest(
    writer: PreparedWriter,
    items: Sequence[Item],
    prepare: Callable[[Item], list[Sample]],
    *,
    raw: RawFolders,
    on_bad_input: OnBadInput,
    progress: bool = False,
    threads: int = 2,
    ahead: int | None = None,
    limit: int | None = None,
) -> None:
    """Write ``prepare(item)`` for every item, in the order of ``items``.

    An item is one raw input and gives any number of images, also none. ``prepare``, and the
    superpixels if the writer has settings for them, run in ``threads`` threads (decoders and SLIC
    release the GIL), yet the bytes written do not depend on their number. on_bad_input: "error"
    lets a DataError through; "skip" logs a warning, records the file with its path below the raw
    folder, and leaves the whole item out. ahead: items in memory at a time; ``2 * threads`` unless
    given. limit: stop after so many images.
    """
    if on_bad_input not in ("error", "skip"):
        raise ValueError(f"on_bad_input must be 'error' or 'skip', not {on_bad_input!r}")

    def work(item: Item) -> list[Sample]:
        return [_with_regions(sample, writer.superpixels) for sample in prepare(item)]

    written = 0
    bar = tqdm(total=len(items), desc=writer.name, mininterval=1.0, disable=not progress)
    results = ordered_map(work, items, threads, ahead)
    with logging_redirect_tqdm(), bar, closing(results):
        for result in results:
            try:
                for sample in result():
                    if limit is not None and written >= limit:
                        return
                    writer.add(
                        sample.id, sample.image, sample.labels, sample.split, sample.regions,
                        sample.group,
                    )  # fmt: skip
                    written += 1
            except DataError as error:
                if on_bad_input == "error":
                    raise
                log.warning("left out: %s", error)
                writer.skip(*_below(error, raw))
            bar.update()


def _with_regions(sample: Sample, settings: SuperpixelSettings | None) -> Sample:
    if settings is None or sample.regions is not None:
        return sample
    try:
        return replace(sample, regions=superpixels(sample.image, settings))
    except DataError as error:
        raise DataError(f"{sample.id}: {error.problem}", advice=error.advice) from None


def _below(error: DataError, raw: RawFolders) -> tuple[Path, str]:
    if error.file is None:
        return Path("."), error.problem
    for folder in raw_folders(raw):
        if error.file.is_relative_to(folder):
            below = error.file.relative_to(folder)
            return (Path(folder.name) / below if folder.is_file() else below), error.problem
    return Path(error.file.name), error.problem


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int | None = None
) -> Generator[Callable[[], Result], None, None]:
    """Yield, for every item in order, a call that returns ``work(item)`` or raises its error.

    At most ``ahead`` items (unless given, ``2 * threads``) are at work or wait for their turn, so
    memory does not grow with the data set.
    """
    most = ahead or 2 * threads
    pool = ThreadPoolExecutor(max_workers=threads)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= most:
                yield pending.popleft().result
        while pending:
            yield pending.popleft().result
    finally:
        pool.shutdown(cancel_futures=True)
