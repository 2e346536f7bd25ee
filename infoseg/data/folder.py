"""A data set of one's own: a folder of pictures, with or without label maps.

    images/*.jpg, .jpeg, .png, .tif, .tiff     the pictures; the name without ending is the id
    <labels>/<id>.png                          8-bit class indices, 255 = ignore; optional
    dataset.json                               class names of every label folder; optional

``dataset.json`` holds, under the name of each label folder, ``{"classes": {"0": "sky", ...}}``, and
may hold ``"groups": {"<id>": "<group>", ...}`` of pictures that are alike, such as the frames of a
sequence. A zip of all this is read in place.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from infoseg.data.imaging import (
    check_same_size,
    fit_shorter_side,
    read_labels,
    read_rgb,
    read_tiff,
)
from infoseg.data.ingest import OnBadInput, Sample, ingest
from infoseg.data.raw import RawFolders, places, raw_folders, read_all
from infoseg.data.store_meta import IGNORE
from infoseg.data.store_writer import PreparedWriter
from infoseg.errors import DataError
from infoseg.settings import SuperpixelSettings, one_line

_DESCRIPTION_LIMIT = 2**24
"""Bytes that ``dataset.json`` may have."""

_ENDINGS = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}


def prepare_folder(
    raw: RawFolders,
    out: Path | str,
    *,
    name: str,
    labels: str | None = None,
    classes: Sequence[str] | None = None,
    shorter_side: int | None = None,
    channels: int = 3,
    superpixels: SuperpixelSettings | None = None,
    on_bad_input: OnBadInput = "error",
    progress: bool = False,
    threads: int = 2,
) -> None:
    """Prepare a folder of pictures into the directory ``out``; all images are split "train".

    labels: name of the label folder, None for none. A picture without a label map is unlabelled.
    classes: names in label order, where ``dataset.json`` is absent or says something else.
    shorter_side: bring the shorter side down to so many pixels, averaging areas (labels: nearest
    neighbour); smaller pictures stay as they are. channels: 3 for RGB, 4 for 8-bit TIFFs of four
    bands. Pictures are turned upright as their EXIF orientation says; label maps are expected in
    the upright orientation.

    superpixels: settings of the superpixels to store with every image; None stores none.

    Raises DataError for a missing folder, unknown classes, two pictures with one id, and, unless
    ``on_bad_input`` is "skip", for an unreadable file, a label map of another size, with a value
    that is no class, or without a picture. Also for groups that do not name every picture once.
    """
    raw, *more = raw_folders(raw)
    if more:
        raise ValueError(f"pictures lie in one folder, not {1 + len(more)}")
    if channels not in (3, 4):
        raise ValueError(f"channels must be 3 or 4, not {channels}")
    if shorter_side is not None and shorter_side < 1:
        raise ValueError(f"shorter_side must be at least 1, not {shorter_side}")
    root = places(raw, ())[0]  # inside, if it is a zip
    pictures = _some_files(root / "images", _ENDINGS)
    maps = {} if labels is None else _some_files(root / labels, {".png"})
    description = root / "dataset.json"
    if classes is None:
        classes = [] if labels is None else read_classes(description, labels)
    if labels is not None and not classes:
        raise DataError(
            f"no class names for the label folder {labels!r}",
            file=description,
            advice="Describe them there, or pass classes",
        )
    groups = read_groups(description, pictures)
    lonely = [maps[key] for key in maps if key not in pictures]

    def prepare(item: tuple[str, Traversable | None]) -> list[Sample]:
        key, picture = item
        label_file = maps.get(key)
        if picture is None:
            raise DataError(
                "there is no picture for this label map",
                file=label_file,
                advice="Remove the label map, or add the picture to images/",
            )
        image = read_rgb(picture, upright=True) if channels == 3 else read_tiff(picture, 4)
        label = None
        if label_file is not None:
            label = read_labels(label_file)
            check_same_size(label, image, label_file)
            _check_values(label, len(classes), label_file)
        factor = fit_shorter_side(image.shape[:2], shorter_side)
        if factor < 1:
            height, width = (max(1, round(side * factor)) for side in image.shape[:2])
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            if label is not None:
                label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        return [Sample(key, image, label, "train", group=groups.get(key, ""))]

    items: list[tuple[str, Traversable | None]] = [(key, pictures[key]) for key in pictures]
    items += [(file.stem, None) for file in lonely]
    with PreparedWriter(
        out,
        name=name,
        channels=channels,
        classes=classes,
        parameters={
            "protocol": "folder",
            "labels": labels,
            "shorter_side": shorter_side,
            "channels": channels,
            "on_bad_input": on_bad_input,
        },
        sources={"dataset.json": description} if description.is_file() else {},
        superpixels=superpixels,
    ) as writer:
        ingest(
            writer, items, prepare,
            raw=raw, on_bad_input=on_bad_input, progress=progress, threads=threads,
        )  # fmt: skip


def files_by_stem(folder: Traversable, endings: Collection[str]) -> dict[str, Any]:
    """The files of a folder by their name without its ending, sorted by it; hidden ones left out.

    Raises DataError for two that differ in their endings alone.
    """
    files: dict[str, Any] = {}
    for file in sorted(folder.iterdir(), key=lambda file: (file.stem, file.name)):
        if file.suffix.lower() not in endings or file.name.startswith(".") or not file.is_file():
            continue
        if file.stem in files:
            raise DataError(
                f"has the same name as {files[file.stem].name}",
                file=file,
                advice="Rename one of the two",
            )
        files[file.stem] = file
    return files


def _some_files(folder: Traversable, endings: Collection[str]) -> dict[str, Any]:
    if not folder.is_dir():
        raise DataError("folder not found", file=folder, advice="Create it, or check the path")
    files = files_by_stem(folder, endings)
    if not files:
        raise DataError(f"holds no file ending in {', '.join(sorted(endings))}", file=folder)
    return files


def read_classes(description: Traversable, labels: str) -> list[str]:
    """Class names of a label folder in label order; empty where `dataset.json` is not there.

    Raises DataError for one that does not describe them.
    """
    if not description.is_file():
        return []
    try:
        content = json.loads(read_all(description, _DESCRIPTION_LIMIT))
        if content.get("ignore_index", IGNORE) != IGNORE:
            raise ValueError(f"ignore_index must be {IGNORE}")
        names = content[labels]["classes"]
        table = names if isinstance(names, list) else [names[str(i)] for i in range(len(names))]
        if not all(isinstance(entry, str) for entry in table):
            raise ValueError("class names must be strings")
        for entry in table:  # names are written into tables, figures and XML
            one_line(entry)
        if len(table) > IGNORE:
            raise ValueError(f"{len(table)} classes; {IGNORE} is the most beside the ignore value")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"does not describe the classes of {labels!r} ({type(error).__name__}: {error})",
            file=description,
            advice='Expected {"' + labels + '": {"classes": {"0": "...", "1": "..."}}}',
        ) from None
    return table


def read_groups(description: Traversable, pictures: Collection[str]) -> dict[str, str]:
    """Return the group of every picture by its id; empty where ``dataset.json`` names none.

    Raises DataError unless the groups name every picture exactly once, and nothing else.
    """
    if not description.is_file():
        return {}
    try:
        text = read_all(description, _DESCRIPTION_LIMIT)
        groups = json.loads(text, object_pairs_hook=_unique).get("groups", {})
        for group in groups.values():
            if not one_line(group):
                raise ValueError("a group has an empty name")
        if groups and (odd := sorted(groups.keys() ^ set(pictures))):
            raise ValueError(
                f"{odd[0]!r} " + ("is no picture" if odd[0] in groups else "is missing")
            )
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"does not give every picture its group ({type(error).__name__}: {error})",
            file=description,
            advice='Expected "groups": {"<name of a picture without ending>": "<group>", ...}',
        ) from None
    return groups


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(name for name, _ in pairs)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{repeated[0]!r} stands twice")
    return dict(pairs)


def _check_values(label: np.ndarray, n_classes: int, file: Traversable) -> None:
    wrong = (label >= n_classes) & (label != IGNORE)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"value {label[row, column]} at row {row}, column {column} is none of the "
            f"{n_classes} classes",
            file=file,
            advice=f"Use 0-{n_classes - 1}, and {IGNORE} for pixels to ignore",
        )
