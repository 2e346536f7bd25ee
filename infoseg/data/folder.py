"""A data set of one's own: a folder, or a zip, of pictures with or without label maps.

    images/*.jpg, .jpeg, .png, .tif, .tiff     the pictures; the name without ending is the id
    <labels>/<id>.png                          8-bit class indices, 255 = ignore; optional
    dataset.json                               class names of every label folder; optional

Without images/, the pictures are those of the folder itself. ``dataset.json`` lies beside the label
folder and holds, under its name, ``{"classes": {"0": "sky", ...}}``. It may hold ``"groups":
{"<id>": "<group>", ...}`` of pictures that are alike, such as the frames of a sequence.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Unpack

import cv2
import numpy as np

from infoseg.data.archives import RawFolders, places, read_bytes
from infoseg.data.ingest import Options, Sample, ingest
from infoseg.data.pictures import (
    ENDINGS,
    check_size,
    files_by_stem,
    read_labels,
    read_picture,
    resized,
)
from infoseg.data.store import IGNORE
from infoseg.errors import DataError
from infoseg.settings import one_line


def prepare_folder(
    raw: RawFolders,
    out: Path | str,
    *,
    labels: str | None = None,
    shorter_side: int | None = None,
    channels: int = 3,
    **options: Unpack[Options],
) -> None:
    """Prepare a folder of pictures into the directory ``out``; all images are split "train".

    labels: name or path of the label folder, None for none. A picture without a label map is
    unlabelled. Classes that ``dataset.json`` does not name are "class 0" to the largest value of
    the label maps. shorter_side: bring the shorter side down to so many pixels, averaging areas
    (labels: nearest neighbour); smaller pictures stay as they are. channels: 3 for RGB, 4 for TIFFs
    of four bands. Pictures are turned upright as their EXIF orientation says; label maps are
    expected upright.

    Raises DataError for a missing or empty folder, a damaged ``dataset.json``, two pictures with
    one id, groups that do not name every picture once, and, unless ``on_bad_input`` is "skip", for
    an unreadable file, a label map of another size, with a value that is no class, or without a
    picture.
    """
    root = places(raw)[0]
    images = root / "images"
    pictures = _some_files(images if images.is_dir() else root, ENDINGS)
    maps, classes, sources = {}, [], {}
    if labels is not None:
        label_folder = root / labels
        maps = _some_files(label_folder, (".png",))
        description = label_folder.parent / "dataset.json"
        sources = {description.name: description} if description.is_file() else {}
        classes = read_classes(description, label_folder.name) or _numbered(maps)

    groups = read_groups(root / "dataset.json", pictures)

    def prepare(key: str) -> list[Sample]:
        if key not in pictures:
            raise DataError(
                "there is no picture for this label map",
                file=maps[key],
                advice="Remove the label map, or add the picture to images/",
            )
        if key.encode("utf-8", "replace").decode() != key:
            raise DataError("has a name that is not UTF-8", file=pictures[key], advice="Rename it")
        image, label = read_picture(pictures[key], channels), None
        size = image.shape[:2]
        scale = min(1.0, shorter_side / min(size)) if shorter_side else 1.0
        height, width = (max(1, round(side * scale)) for side in size)
        if key in maps:
            label = read_labels(maps[key])
            check_size(label, size, maps[key])
            _check_values(label, len(classes), maps[key])
            label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        group = groups.get(key, "")
        return [Sample(key, resized(image, (height, width)), label, group=group)]

    ingest(
        raw, out, [*pictures, *(key for key in maps if key not in pictures)], prepare,
        channels=channels,
        classes=classes,
        parameters=dict(
            protocol="folder", labels=labels, shorter_side=shorter_side, channels=channels
        ),
        sources=sources,
        **options,
    )  # fmt: skip


def _some_files(folder: Traversable, endings: tuple[str, ...]) -> dict[str, Traversable]:
    if not folder.is_dir():
        raise DataError("folder not found", file=folder, advice="Create it, or check the path")
    files = files_by_stem(folder, endings)
    if not files:
        raise DataError(
            f"holds no file ending in {', '.join(endings)}", file=folder, advice="Put some there"
        )
    return files


def _numbered(maps: dict[str, Traversable]) -> list[str]:
    """Return "class 0" to the largest value of the label maps that can be read."""
    largest = 0
    for file in maps.values():
        try:
            label = read_labels(file)
        except DataError:  # said, or left out, when its picture is prepared
            continue
        largest = max(largest, int(label[label != IGNORE].max(initial=0)))
    return [f"class {i}" for i in range(largest + 1)]


def read_classes(description: Traversable, labels: str) -> list[str]:
    """Return the class names of a label folder in label order; none without `dataset.json`.

    Raises DataError for one that does not describe them.
    """
    if not description.is_file():
        return []
    try:
        content = json.loads(read_bytes(description, 2**24))
        if content.get("ignore_index", IGNORE) != IGNORE:
            raise ValueError(f"ignore_index must be {IGNORE}")
        names = content[labels]["classes"]
        table = names if isinstance(names, list) else [names[str(i)] for i in range(len(names))]
        for entry in table:  # names are written into tables, figures and XML
            one_line(entry)
        if not 0 < len(table) <= IGNORE:
            raise ValueError(f"{len(table)} classes; 1 to {IGNORE} are possible")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"does not describe the classes of {labels!r} ({type(error).__name__}: {error})",
            file=description,
            advice='Expected {"' + labels + '": {"classes": {"0": "...", "1": "..."}}}',
        ) from None
    return table


def read_groups(description: Traversable, pictures: Collection[str]) -> dict[str, str]:
    """Return the group of every picture by its id; none where `dataset.json` has no groups.

    Raises DataError unless the groups name every picture, and nothing else.
    """
    if not description.is_file():
        return {}
    try:
        groups = json.loads(read_bytes(description, 2**24)).get("groups", {})
        for group in groups.values():
            one_line(group)
        if groups and (odd := sorted(groups.keys() ^ set(pictures))):
            raise ValueError(f"{odd[0]!r} {'is no picture' if odd[0] in groups else 'is missing'}")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"does not give every picture its group ({type(error).__name__}: {error})",
            file=description,
            advice='Expected "groups": {"<name of a picture without ending>": "<group>", ...}',
        ) from None
    return groups


def _check_values(label: np.ndarray, n_classes: int, file: Traversable) -> None:
    wrong = (label >= n_classes) & (label != IGNORE)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        value = int(label[row, column])
        one_based = value == n_classes and label.min() > 0
        raise DataError(
            f"value {value} at row {row}, column {column} is none of the {n_classes} classes",
            file=file,
            advice=f"Use 0-{n_classes - 1}, and {IGNORE} for pixels to ignore"
            + ("; these seem to count from 1" if one_based else ""),
        )
