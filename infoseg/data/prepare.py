"""Which code makes and reads which kind of data: the one place to add a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
from infoseg.data.folder import prepare_folder
from infoseg.data.potsdam import prepare_potsdam
from infoseg.data.store import Prepared
from infoseg.errors import DataError, ParamsError
from infoseg.params_data import (
    CocoScenesSource,
    Dataset,
    DatasetParams,
    LocalSource,
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
"""By the ``kind`` that ``infoseg.params_data`` knows."""


def make_raw(source: Source, path: Path) -> None:
    """Bring a source's raw files to `path`: render the demo's, check that local ones are there."""
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


def prepare(dataset: Dataset, raw: Path, out: Path, name: str) -> None:
    """Read raw files by the protocol of the data set's kind and write the prepared arrays."""
    reader = READERS[dataset.kind]
    own = type(dataset).model_fields.keys() - DatasetParams.model_fields.keys() - {"kind"}
    settings = {key: getattr(dataset, key) for key in (*SHARED, *reader.shared, *own)}
    reader.read(raw, out, name=name, progress=True, **settings)


def changed_since_prepared(dataset: Dataset, prepared: Prepared) -> str:
    """The first setting that differs from those the arrays were made with, or ""."""
    now, then = dataset.model_dump(), prepared.meta.parameters
    return next((name for name in then if name in now and now[name] != then[name]), "")


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
