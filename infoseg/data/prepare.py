"""Which code makes and reads which kind of data."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path

from infoseg.data.archives import raw_folders
from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
from infoseg.data.folder import prepare_folder
from infoseg.data.ingest import Options
from infoseg.data.potsdam import prepare_potsdam
from infoseg.data.store import Prepared, sha256_of
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

#: By the kinds of ``infoseg.settings.KINDS``; called with those settings that they take.
READERS = {
    "coco_persons": prepare_coco_persons,
    "coco_stuff": prepare_coco_stuff,
    "folder": prepare_folder,
    "potsdam": prepare_potsdam,
}


def make_raw(source: Source, path: Path) -> None:
    """Render the demo's raw files into `path`; check that local ones are there.

    Official ones are found and downloaded by `infoseg.data.official`.
    """
    if isinstance(source, OfficialSource):
        return
    if isinstance(source, LocalSource):
        raw_folders(path)
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
    """Return name, size and time of every file below a folder, in order; of a zip size and hash."""
    if folder.is_file():
        facts = {"bytes": folder.stat().st_size, "sha256": sha256_of(folder)}
        return [{"file": folder.name} | facts]
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    return [{"file": name, "bytes": s.st_size, "modified_ns": s.st_mtime_ns} for name, s in stats]


def prepare(dataset: Dataset, raw: Sequence[Path], out: Path, name: str) -> None:
    """Read raw files by the protocol of the data set's kind and write the prepared arrays.

    raw: folders, and archives, that the files lie in. The bytes do not depend on the cores used.
    """
    read = READERS[dataset.kind]
    taken = inspect.signature(read).parameters.keys() | Options.__annotations__.keys()
    settings = {key: getattr(dataset, key) for key in type(dataset).model_fields if key in taken}
    read(raw, out, name=name, progress=True, threads=available_cores(), **settings)


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def changed_since_prepared(dataset: Dataset, prepared: Prepared) -> str:
    """Return the first setting that differs from those the arrays were made with, or ""."""
    now, recorded = dataset.model_dump(), prepared.meta.parameters
    own = [key for key in now if key not in DatasetParams.model_fields]
    names = dict.fromkeys([*(name for name in recorded if name in now), *own])
    return next((name for name in names if now[name] != recorded.get(name)), "")


def check_against_data(dataset: Dataset, prepared: Prepared, name: str) -> None:
    """Check the settings that only the data can contradict: K, and the size of the crop.

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
