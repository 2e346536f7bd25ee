"""Which code makes and reads which kind of data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
from infoseg.data.folder import prepare_folder
from infoseg.data.potsdam import prepare_potsdam
from infoseg.data.store import Prepared
from infoseg.errors import DataError, ParamsError
from infoseg.settings import (
    CocoScenesSource,
    Dataset,
    DatasetParams,
    LocalSource,
    OfficialSource,
    PotsdamScenesSource,
    Source,
    check_clusters,
)


@dataclass(frozen=True)
class Reader:
    """How a kind of data set is read.

    read: called with raw folder, output folder, name, progress, all settings that the kind's model
    adds to ``DatasetParams``, and those of ``DatasetParams`` in ``SHARED`` and in ``shared``.
    """

    read: Callable[..., None]
    shared: tuple[str, ...] = ()


SHARED = ("superpixels", "on_bad_input")

READERS = {
    "coco_persons": Reader(prepare_coco_persons),
    "coco_stuff": Reader(prepare_coco_stuff),
    "folder": Reader(prepare_folder),
    "potsdam": Reader(prepare_potsdam, shared=("crop",)),  # images are cut to the crop's size
}
"""By the kinds of ``infoseg.settings.KINDS``."""


def make_raw(source: Source, path: Path) -> None:
    """Render the demo's raw files into `path`; check that local ones are there.

    Official ones are found and downloaded by `infoseg.data.official`.
    """
    if isinstance(source, OfficialSource):
        return
    if isinstance(source, LocalSource):
        if not path.is_dir():
            raise DataError("is not a folder", file=path, advice="Correct sources.*.path")
        return
    # Deferred: two seconds of imports that only the demo's rendering needs.
    from infoseg.data.scenes import CocoScenes, PotsdamScenes, write_coco, write_potsdam

    settings = source.model_dump(exclude={"kind"})
    try:
        if isinstance(source, CocoScenesSource):
            write_coco(path, CocoScenes(**settings), progress=True)
        elif isinstance(source, PotsdamScenesSource):
            write_potsdam(path, PotsdamScenes(**settings), progress=True)
    except ValueError as error:
        raise ParamsError(f"sources: {error}") from None
    except FileExistsError as error:
        raise DataError(str(error), advice="Move that folder elsewhere") from None


def list_files(folder: Path) -> list[dict[str, str | int]]:
    """Name, size and time of every file below a folder, in a fixed order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    return [{"file": name, "bytes": s.st_size, "modified_ns": s.st_mtime_ns} for name, s in stats]


def prepare(dataset: Dataset, raw: Sequence[Path], out: Path, name: str) -> None:
    """Read raw files by the protocol of the data set's kind and write the prepared arrays.

    raw: folders, and archives, that the files lie in.
    """
    reader = READERS[dataset.kind]
    settings = {key: getattr(dataset, key) for key in (*SHARED, *reader.shared, *_own(dataset))}
    # All cores: bytes do not depend on how many.
    reader.read(raw, out, name=name, progress=True, threads=available_cores(), **settings)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _own(dataset: Dataset) -> list[str]:
    """Names of the settings that a data set's kind adds."""
    fields = type(dataset).model_fields
    return [key for key in fields if key not in DatasetParams.model_fields and key != "kind"]


def changed_since_prepared(dataset: Dataset, prepared: Prepared) -> str:
    """The first setting that differs from those the arrays were made with, or ""."""
    now, then = dataset.model_dump(), prepared.meta.parameters
    names = dict.fromkeys([*(name for name in then if name in now), *_own(dataset)])
    return next((name for name in names if now[name] != then.get(name)), "")


def check_against_data(dataset: Dataset, prepared: Prepared, name: str) -> None:
    """Settings that only the data can contradict: K, and the size of the crop.

    Raises ParamsError naming the key under `datasets`.
    """
    classes = len(prepared.meta.classes)
    try:
        if classes:
            check_clusters(dataset.clusters, classes, dataset.over_clustering)
    except ValueError as error:
        raise ParamsError(f"datasets.{name}: {error}") from None
    shorter = prepared.index[["height", "width"]].min(axis=1)
    side = int(shorter.max() if dataset.pad else shorter.min())
    if dataset.crop > side:
        which = "largest" if dataset.pad else "smallest"
        raise ParamsError(
            f"datasets.{name}.crop is {dataset.crop}, larger than the {which} image, whose "
            f"shorter side has {side} pixels"
        )
