"""Which code makes and reads which kind of data."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from infoseg.data.archives import raw_folders
from infoseg.data.ingest import Options
from infoseg.data.store import Prepared, sha256_of
from infoseg.files import ParamsError
from infoseg.settings import (
    CocoScenesSource,
    Dataset,
    DatasetParams,
    LocalSource,
    OfficialSource,
    Source,
    check_clusters,
)


def readers() -> dict[str, Callable[..., None]]:
    """Return the reader of every kind in ``infoseg.settings.KINDS``."""
    # Deferred: OpenCV, Pillow and pycocotools, which commands that only look at data do not need.
    from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
    from infoseg.data.folder import prepare_folder
    from infoseg.data.potsdam import prepare_potsdam

    return {
        "coco_persons": prepare_coco_persons,
        "coco_stuff": prepare_coco_stuff,
        "folder": prepare_folder,
        "potsdam": prepare_potsdam,
    }


def make_raw(source: Source, path: Path) -> None:
    """Render scenes into ``path``, or check that local raw files are there.

    Official ones are found and downloaded by ``infoseg.data.official``.
    """
    if isinstance(source, LocalSource):
        raw_folders(path)
    if isinstance(source, LocalSource | OfficialSource):
        return
    from infoseg.data.scenes import write_coco, write_potsdam

    write = write_coco if isinstance(source, CocoScenesSource) else write_potsdam
    write(path, source, progress=True)


def list_files(folder: Path) -> list[dict[str, str | int]]:
    """Return name, size and time of every file below a folder, in order; of a zip size and hash."""
    if folder.is_file():
        size = folder.stat().st_size
        return [{"file": folder.name, "bytes": size, "sha256": sha256_of(folder)}]
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    return [{"file": name, "bytes": s.st_size, "modified_ns": s.st_mtime_ns} for name, s in stats]


def prepare(dataset: Dataset, raw: Sequence[Path], out: Path, name: str) -> None:
    """Read raw files by the protocol of the data set's kind and write the prepared arrays.

    raw: folders, and archives, that the files lie in. The bytes do not depend on the cores used.
    """
    read = readers()[dataset.kind]
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
    names = [name for name in recorded if name in now] + own
    return next((name for name in names if now[name] != recorded.get(name)), "")


def check_against_data(dataset: Dataset, prepared: Prepared, name: str) -> None:
    """Raise ParamsError for settings that only the data contradict: K, the size of the crop."""
    if classes := len(prepared.meta.classes):
        try:
            check_clusters(dataset.clusters, classes, dataset.over_clustering)
        except ValueError as error:
            raise ParamsError(f"datasets.{name}: {error}") from None
    shorter = prepared.index[["height", "width"]].min(axis=1)
    which, side = ("largest", shorter.max()) if dataset.pad else ("smallest", shorter.min())
    if dataset.crop > side:
        raise ParamsError(
            f"datasets.{name}.crop is {dataset.crop}, larger than the {which} image, whose "
            f"shorter side has {side} pixels"
        )
