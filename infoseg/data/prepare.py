"""The part of a project that deals with data: raw files, and the arrays prepared from them."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from infoseg.data.archives import places
from infoseg.data.store import Prepared, load_prepared, sha256_of
from infoseg.files import DataError, ParamsError, find_root, write_csv
from infoseg.settings import (
    Dataset,
    DatasetParams,
    LocalSource,
    OfficialSource,
    Params,
    check_clusters,
    load_params,
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


def prepare(dataset: Dataset, raw: Sequence[Path], out: Path, name: str) -> None:
    """Read raw files by the protocol of the data set's kind and write the prepared arrays.

    raw: folders, and archives, that the files lie in. The bytes do not depend on the cores used.
    """
    read = readers()[dataset.kind]
    read(raw, out, dataset, name=name, progress=True, threads=available_cores())


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def changed_since_prepared(dataset: Dataset, prepared: Prepared) -> str:
    """Return the first setting that differs from those the arrays were made with, or ""."""
    now, recorded = dataset.model_dump(), prepared.meta.parameters
    names = [key for key in now if key in recorded or key not in DatasetParams.model_fields]
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


def _suffix(overrides: Sequence[str], only: Sequence[str] = (), but: Sequence[str] = ()) -> str:
    """Name the overrides of these sections of the settings, of all but some: "" or `+1a2b3c4d`."""
    last = {text.lstrip("+~").partition("=")[0]: text for text in overrides}  # it counts
    sections = {text: key.partition(".")[0] for key, text in last.items()}
    chosen = sorted(t for t, s in sections.items() if (s in only if only else s not in but))
    return "+" + hashlib.sha256("\n".join(chosen).encode()).hexdigest()[:8] if chosen else ""


class ProjectData:
    """One profile's data under one folder; see `infoseg.runs.Project`.

    overrides: of single settings; what is made with them lies in folders of their own.
    """

    def __init__(
        self,
        folder: Path,
        params: Params,
        root: Path,
        make_missing: bool = False,
        overrides: Sequence[str] = (),
    ):
        name = params.profile.name
        self.name = name + _suffix(overrides, but=("execution",))
        self.data_name = name + _suffix(overrides, only=("sources", "datasets"))
        self.folder, self.params, self.root, self.make_missing = folder, params, root, make_missing

    @classmethod
    def open(cls, profile: str = "", overrides: Sequence[str] = (), folder: str = "") -> Self:
        """Open the project a notebook works on.

        profile: `""` is params.yaml as it stands, and its files in the repository: what DVC runs.
        Any other is composed from infoseg/conf, lives under build/ and makes what it misses; `tiny`
        renders a few pictures and takes seconds. folder: where all files lie instead, below the
        repository.
        """
        root = find_root()
        params = load_params(root, profile or None, overrides)
        place = root / (folder or ("build/notebooks" if profile else ""))
        return cls(place, params, root, bool(profile or folder), overrides)

    # ---- raw files -------------------------------------------------------------------------------

    def raw(self, source: str) -> Path:
        settings = self.params.sources[source]
        if isinstance(settings, LocalSource):
            return self._outside(settings.path, f"sources.{source}.path")
        return self.folder / "raw" / self.data_name / source

    def make_raw(self, source: str, *, download: bool = True) -> Path:
        """Render, find or, where that is allowed, download the raw files of a source."""
        if source not in self.params.sources:
            raise ParamsError(f"sources: '{source}' is not among {sorted(self.params.sources)}")
        settings, path = self.params.sources[source], self.raw(source)
        if isinstance(settings, LocalSource):
            places([path])  # raises where there is none
            rows = list_files(path)
        elif isinstance(settings, OfficialSource):
            rows = [row for _, row in self._official(source, verify=True, fetch=download)]
        else:
            from infoseg.data.scenes import write_coco, write_potsdam  # deferred: OpenCV

            write = {"coco_scenes": write_coco, "potsdam_scenes": write_potsdam}[settings.kind]
            write(path, settings, progress=True)
            return path
        # What the pipeline tracks in place of files it neither made nor copies.
        write_csv(self.folder / "raw" / self.data_name / source / "files.csv", rows)
        return path

    def raw_places(self, source: str) -> tuple[Path, ...]:
        """The folders and archives that a source's raw files are read from.

        Raises DataError if they are not there, or are not the published ones.
        """
        path = self.raw(source)
        if not path.exists() and self.make_missing:
            # Rendering is expected of this; 20 GB over the network are not.
            self.make_raw(source, download=False)
        if not path.exists():
            raise DataError("not found", file=path, advice=f"Run stage data@{source} first")
        if not isinstance(self.params.sources[source], OfficialSource):
            return (path,)
        return tuple(dict.fromkeys(place for place, _ in self._official(source, verify=False)))

    def raw_problem(self, source: str) -> str:
        """Say what is wrong with a source's raw files, "" if nothing is; make and fetch nothing."""
        if not isinstance(self.params.sources[source], OfficialSource):
            return "" if self.raw(source).exists() else f"{self.raw(source)}: not found"
        try:
            self._official(source, verify=False)
        except DataError as error:
            return str(error)
        return ""

    def _official(self, source: str, **how: bool) -> list[tuple[Path, dict[str, Any]]]:
        # Deferred: an HTTP client, which opens a socket as it is imported to look for IPv6.
        from infoseg.data.official import find_files

        settings = self.params.sources[source]
        raw = settings.raw or os.environ.get("INFOSEG_RAW")
        raw = self._outside(raw, f"sources.{source}.raw") if raw else None
        downloads = self._outside(settings.downloads, f"sources.{source}.downloads")
        return find_files(settings.group, raw, downloads, **how)

    def _outside(self, folder: str, key: str) -> Path:
        path = (self.root / os.path.expanduser(folder)).resolve()
        if path.is_relative_to(self.folder / "raw"):
            problem = "lies among the pipeline's own outputs, which it deletes at will"
            raise ParamsError(f"{key}: {path} {problem}; move the files elsewhere")
        return path

    # ---- prepared arrays -------------------------------------------------------------------------

    def prepared(self, dataset: str) -> Path:
        return self.folder / "prepared" / self.data_name / dataset

    def prepare(self, dataset: str) -> Prepared:
        """Read raw files, write prepared arrays and open them."""
        settings, path = self._dataset(dataset), self.prepared(dataset)
        prepare(settings, self.raw_places(settings.source), path, dataset)
        if self.make_missing and isinstance(self.params.sources[settings.source], LocalSource):
            self.make_raw(settings.source)  # for `load` to compare with
        prepared = load_prepared(path)
        check_against_data(settings, prepared, dataset)
        return prepared

    def load(self, dataset: str) -> Prepared:
        """Open the prepared data set. Raises DataError naming the stage to run if it is missing."""
        settings, path = self._dataset(dataset), self.prepared(dataset)
        problem = "not found"
        if (path / "meta.json").exists():
            prepared = load_prepared(path)
            if changed := changed_since_prepared(settings, prepared):
                problem = f"was prepared with another {changed}"
            elif self._other_files(settings.source):
                problem = "was prepared from other files than there are now"
            else:
                check_against_data(settings, prepared, dataset)
                return prepared
        if self.make_missing:
            return self.prepare(dataset)
        raise DataError(problem, file=path, advice=f"Run stage prepare@{dataset}")

    def _other_files(self, source: str) -> bool:
        """Whether a local source holds other files (by name, size and time) than were listed."""
        listing = self.folder / "raw" / self.data_name / source / "files.csv"
        if not isinstance(self.params.sources[source], LocalSource) or not listing.exists():
            return False
        with listing.open(encoding="utf-8", newline="") as file:
            listed = list(csv.DictReader(file))
        present = list_files(self.raw(source)) if self.raw(source).exists() else []
        return listed != [{key: str(value) for key, value in row.items()} for row in present]

    def _dataset(self, dataset: str) -> Dataset:
        if dataset not in self.params.datasets:
            raise ParamsError(f"datasets: '{dataset}' is not among {sorted(self.params.datasets)}")
        return self.params.datasets[dataset]


def list_files(folder: Path) -> list[dict[str, Any]]:
    """Return name, size and time of every file below a folder, in order; of a zip size and hash."""
    if folder.is_file():
        size = folder.stat().st_size
        return [{"file": folder.name, "bytes": size, "sha256": sha256_of(folder)}]
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    return [{"file": name, "bytes": s.st_size, "modified_ns": s.st_mtime_ns} for name, s in stats]
