"""A data set of one's own: a folder, or a zip, of pictures with or without label maps.

    images/*.jpg, .png, .tif, .webp, ...        the pictures; the name without ending is the id
    <labels>/<id>.png                          8-bit class indices, 255 = ignore; optional
    dataset.json                               class names of every label folder; optional

Without images/, the pictures are those of the folder itself. ``dataset.json`` lies beside the label
folder and holds, under its name, ``{"classes": {"0": "sky", ...}}``. It may hold ``"groups":
{"<id>": "<group>", ...}`` of pictures that are alike, such as the frames of a sequence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import cv2

from infoseg.data.archives import naming, places, read_bytes
from infoseg.data.ingest import Sample, ingest
from infoseg.data.pictures import (
    ENDINGS,
    check_classes,
    check_size,
    files_by_stem,
    label_values,
    read_labels,
    read_picture,
    resized,
)  # fmt: skip
from infoseg.data.store import IGNORE
from infoseg.files import DataError
from infoseg.settings import FolderParams, one_line


def prepare_folder(raw: Sequence[Path], out: Path, settings: FolderParams, **options: Any) -> None:
    """Prepare a folder of pictures into the directory ``out``; all images are split "train".

    A picture without a label map, or whose map is 255 everywhere, is unlabelled. Classes that
    ``dataset.json`` does not name are "class 0" to the largest value of the label maps. Pictures,
    but not label maps, are turned upright as their EXIF orientation says.

    Raises DataError for a missing or empty folder, a damaged ``dataset.json``, two pictures with
    one id, groups that do not name every picture once, and, unless ``on_bad_input`` is "skip", for
    an unreadable file, a label map of another size, with a value that is no class, or without a
    picture.
    """
    root = places(raw)[0]
    images = root / "images"
    pictures = files_by_stem(images if images.is_dir() else root, ENDINGS)
    maps, classes, sources = {}, [], {}
    if settings.labels is not None:
        folder = root / settings.labels
        maps = files_by_stem(folder, (".png",))
        description = folder.parent / "dataset.json"
        sources = {description.name: description} if description.is_file() else {}
        classes = read_classes(description, folder.name)
        values = label_values(maps.values(), named=bool(classes))
        classes = classes or [f"class {i}" for i in range(max(values, default=-1) + 1)]
    groups = read_groups(root / "dataset.json", pictures)

    def prepare(key: str) -> list[Sample]:
        if key not in pictures:
            advice = "Remove the label map, or add the picture to images/"
            raise DataError("there is no picture for this label map", file=maps[key], advice=advice)
        if key.encode("utf-8", "replace").decode() != key or "\r" in key:
            problem = "has a name that is not UTF-8, or with a carriage return"
            raise DataError(problem, file=pictures[key], advice="Rename it")
        image, label = read_picture(pictures[key], settings.channels), None
        height, width = image.shape[:2]
        scale = min(1.0, (settings.shorter_side or math.inf) / min(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        if key in maps:
            label = read_labels(maps[key])
            check_size(label, (height, width), maps[key])
            check_classes(label, len(classes), maps[key])
            label = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)
            label = None if (label == IGNORE).all() else label  # nothing to measure with
        return [Sample(key, resized(image, size), label, group=groups.get(key, ""))]

    ingest(
        raw, out, settings, list(pictures | maps), prepare, channels=settings.channels,
        classes=classes, sources=sources,
        protocol="folder", decides=("labels", "shorter_side", "channels"), **options,
    )  # fmt: skip


@contextmanager
def _described(description: Traversable, problem: str, expected: str) -> Iterator[dict[str, Any]]:
    """Yield what ``dataset.json`` holds, {} where there is none; DataError for what fails there."""
    with naming(description, problem, f"Expected {expected}"):
        yield json.loads(read_bytes(description, 2**24)) if description.is_file() else {}


def read_classes(description: Traversable, labels: str) -> list[str]:
    """Return the class names of a label folder in label order; none without `dataset.json`.

    Raises DataError for one that does not describe them.
    """
    problem = f"does not describe the classes of {labels!r}"
    expected = f'{{"{labels}": {{"classes": {{"0": "...", "1": "..."}}}}}}'
    with _described(description, problem, expected) as content:
        if not description.is_file():
            return []
        if content.get("ignore_index", IGNORE) != IGNORE:
            raise ValueError(f"ignore_index must be {IGNORE}")
        names = content[labels]["classes"]
        table = names if isinstance(names, list) else [names[str(i)] for i in range(len(names))]
        if not 0 < len(table) <= IGNORE:
            raise ValueError(f"{len(table)} classes; 1 to {IGNORE} are possible")
        if len(set(table)) < len(table):
            raise ValueError("two classes of one name")
        return [one_line(name) for name in table]  # they are written into tables, figures and XML


def read_about(raw: Path) -> dict[str, str]:
    """Return source, licence and attribution, as far as ``dataset.json`` gives them."""
    description, names = places([raw])[0] / "dataset.json", ("source", "licence", "attribution")
    with _described(description, "is no description", '{"licence": "...", ...}') as content:
        return {name: one_line(content[name]) for name in names if content.get(name)}


def read_groups(description: Traversable, pictures: Collection[str]) -> dict[str, str]:
    """Return the group of every picture by its id; none where `dataset.json` has no groups.

    Raises DataError unless the groups name every picture, and nothing else.
    """
    expected = '"groups": {"<name of a picture without ending>": "<group>", ...}'
    with _described(description, "does not give every picture its group", expected) as content:
        groups = content.get("groups", {})
        if not all(one_line(group) for group in groups.values()):
            raise ValueError("a group has an empty name")
        if groups and (odd := sorted(groups.keys() ^ set(pictures))):
            raise ValueError(f"{odd[0]!r} {'is no picture' if odd[0] in groups else 'is missing'}")
        return groups
