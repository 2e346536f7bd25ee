"""Which code makes and reads which kind of data: the one place to add a data set."""

from __future__ import annotations

from pathlib import Path

from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
from infoseg.data.folder import prepare_folder
from infoseg.data.potsdam import prepare_potsdam
from infoseg.errors import DataError, ParamsError
from infoseg.params import (
    CocoPersonsParams,
    CocoScenesSource,
    CocoStuffParams,
    Dataset,
    FolderParams,
    LocalSource,
    PotsdamScenesSource,
    Source,
)


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
    common = {"name": name, "on_bad_input": dataset.on_bad_input, "progress": True}
    if isinstance(dataset, CocoStuffParams):
        prepare_coco_stuff(
            raw,
            out,
            variant=dataset.variant,
            scale=dataset.scale,
            unlabelled=dataset.unlabelled,
            **common,
        )
    elif isinstance(dataset, CocoPersonsParams):
        prepare_coco_persons(
            raw,
            out,
            shorter_side=dataset.shorter_side,
            min_person_share=dataset.min_person_share,
            max_person_share=dataset.max_person_share,
            min_side=dataset.min_side,
            crowd=dataset.crowd,
            **common,
        )
    elif isinstance(dataset, FolderParams):
        prepare_folder(raw, out, labels=dataset.labels, shorter_side=dataset.shorter_side, **common)
    else:
        prepare_potsdam(
            raw,
            out,
            variant=dataset.variant,
            grid=dataset.grid,
            crop=dataset.crop,
            colour_tolerance=dataset.colour_tolerance,
            **common,
        )
