"""The part of a project that deals with data: raw files, and the arrays prepared from them."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from infoseg.data.prepare import (
    changed_since_prepared,
    check_against_data,
    list_files,
    make_raw,
    prepare,
)
from infoseg.data.store import Prepared, load_prepared
from infoseg.files import DataError, ParamsError, find_root, write_csv
from infoseg.settings import Dataset, LocalSource, OfficialSource, Params, load_params


def suffix(overrides: Sequence[str], only: Sequence[str] = (), but: Sequence[str] = ()) -> str:
    """Name the overrides of these sections of the settings, of all but some: "" or `+1a2b3c4d`."""
    sections = {text: text.lstrip("+~").partition("=")[0].partition(".")[0] for text in overrides}
    chosen = sorted(t for t, s in sections.items() if (s in only if only else s not in but))
    return "+" + hashlib.sha256("\n".join(chosen).encode()).hexdigest()[:8] if chosen else ""


class ProjectData:
    """One profile's data under one folder; see `infoseg.runs.Project`.

    overrides: of single settings. What is made with them lies in folders of their own, so that it
    is never taken for the profile's.
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
        self.name = name + suffix(overrides, but=("execution",))
        self.data_name = name + suffix(overrides, only=("sources", "datasets"))
        self.folder = folder
        self.params = params
        self.root = root
        self.make_missing = make_missing

    @classmethod
    def open(cls, profile: str = "", overrides: Sequence[str] = (), folder: str = "") -> Self:
        """The project a notebook works on.

        profile: `""` is params.yaml as it stands, and its files in the repository: what DVC runs.
        Any other is composed from infoseg/conf, lives under build/ (out of the pipeline's way) and
        makes what it misses; `tiny` renders a few pictures and takes seconds. folder: where all
        files lie instead, below the repository; `infoseg report` gives one.
        """
        root = find_root()
        params = load_params(root, profile or None, overrides)
        place = root / (folder or ("build/notebooks" if profile else ""))
        return cls(place, params, root, bool(profile or folder), overrides)

    def raw(self, source: str) -> Path:
        settings = self.params.sources[source]
        if isinstance(settings, LocalSource):
            return self._outside(settings.path, f"sources.{source}.path")
        return self.folder / "raw" / self.data_name / source

    def prepared(self, dataset: str) -> Path:
        return self.folder / "prepared" / self.data_name / dataset

    def make_raw(self, source: str, *, download: bool = True) -> Path:
        """Render, find or, where that is allowed, download the raw files of a source."""
        if source not in self.params.sources:
            raise ParamsError(f"sources: '{source}' is not among {sorted(self.params.sources)}")
        settings, path = self.params.sources[source], self.raw(source)
        make_raw(settings, path)
        # What the pipeline tracks in place of files it neither made nor copies.
        stated = self.folder / "raw" / self.data_name / source / "files.csv"
        if isinstance(settings, LocalSource):
            write_csv(stated, list_files(path))
        elif isinstance(settings, OfficialSource):
            files = self.official_files(source, fetch=download)
            write_csv(stated, [row for _, row in files])
        return path

    def raw_places(self, source: str) -> tuple[Path, ...]:
        """The folders and archives that a source's raw files are read from.

        Raises DataError if they are not there, or are not what the data stage found.
        """
        settings, path = self.params.sources[source], self.raw(source)
        if not path.exists() and self.make_missing:
            # Rendering is expected of this; 20 GB over the network are not.
            self.make_raw(source, download=False)
        if not path.exists():
            raise DataError("not found", file=path, advice=f"Run stage data@{source} first")
        if not isinstance(settings, OfficialSource):
            return (path,)
        files = self.official_files(source, fetch=False)
        _check_stated(path / "files.csv", [row for _, row in files], f"data@{source}")
        return tuple(dict.fromkeys(path for path, _ in files))

    def raw_problem(self, source: str) -> str:
        """What is wrong with a source's raw files, "" if nothing is; fetches and makes nothing."""
        path = self.raw(source)
        try:
            if isinstance(self.params.sources[source], OfficialSource):
                files = self.official_files(source, fetch=False)
                if (path / "files.csv").exists():
                    _check_stated(path / "files.csv", [row for _, row in files], f"data@{source}")
            elif not path.exists():
                return f"{path}: not found"
        except DataError as error:
            return str(error)
        return ""

    def official_files(self, source: str, *, fetch: bool) -> list[tuple[Path, dict[str, Any]]]:
        """The official files of a source; see `infoseg.data.official.find_files`."""
        # Deferred: an HTTP client, which opens a socket as it is imported to look for IPv6.
        from infoseg.data.official import find_files

        settings = self.params.sources[source]
        raw = settings.raw or os.environ.get("INFOSEG_RAW")
        return find_files(
            settings.group,
            self._outside(raw, f"sources.{source}.raw") if raw else None,
            self._outside(settings.downloads, f"sources.{source}.downloads"),
            fetch=fetch,
        )

    def _outside(self, folder: str, key: str) -> Path:
        path = (self.root / Path(folder).expanduser()).resolve()
        if path.is_relative_to(self.folder / "raw"):
            # The pipeline deletes what a stage made before it makes it again.
            raise ParamsError(
                f"{key}: {path} lies among the pipeline's own outputs, which it deletes at will; "
                "move the files elsewhere"
            )
        return path

    def prepare(self, dataset: str) -> Prepared:
        """Raw files to prepared arrays."""
        settings = self._dataset(dataset)
        raw = self.raw_places(settings.source)
        prepare(settings, raw, self.prepared(dataset), dataset)
        prepared = load_prepared(self.prepared(dataset))
        check_against_data(self._dataset(dataset), prepared, dataset)
        return prepared

    def load(self, dataset: str) -> Prepared:
        """The prepared data set. Raises DataError naming the stage to run when it is not there."""
        path = self.prepared(dataset)
        if not (path / "meta.json").exists():
            if self.make_missing:
                return self.prepare(dataset)
            raise DataError("not found", file=path, advice=f"Run stage prepare@{dataset} first")
        prepared = load_prepared(path)
        changed = changed_since_prepared(self._dataset(dataset), prepared)
        if changed and self.make_missing:
            return self.prepare(dataset)
        if changed:
            raise DataError(
                f"was prepared with another {changed}",
                file=path,
                advice=f"Run stage prepare@{dataset} again",
            )
        check_against_data(self._dataset(dataset), prepared, dataset)
        return prepared

    def _dataset(self, dataset: str) -> Dataset:
        if dataset not in self.params.datasets:
            raise ParamsError(f"datasets: '{dataset}' is not among {sorted(self.params.datasets)}")
        return self.params.datasets[dataset]


def _check_stated(stated: Path, rows: list[dict[str, Any]], stage: str) -> None:
    """Raise DataError unless the official files on the disk are those that ``files.csv`` states."""
    advice = f"Restore the files, or run {stage} again"
    try:
        with stated.open(newline="", encoding="utf-8") as stream:
            before = {row.pop("file"): row for row in csv.DictReader(stream)}
    except FileNotFoundError:
        raise DataError("not found", file=stated, advice=f"Run {stage} first") from None
    except (KeyError, ValueError, csv.Error):
        raise DataError("has no column file", file=stated, advice=f"Run {stage} again") from None
    now = {row["file"]: {k: str(v) for k, v in row.items() if k != "file"} for row in rows}
    before = {file: {k: v for k, v in row.items() if v} for file, row in before.items()}
    for file in sorted(now | before):
        if now.get(file) != before.get(file):
            problem = f"{file} is now {_facts(now.get(file))}, but was {_facts(before.get(file))}"
            raise DataError(f"{problem} when it was stated", file=stated, advice=advice)


def _facts(row: dict[str, str] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in (row or {}).items()) or "missing"
