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

from infoseg.data.archives import RawFolders, naming, places, read_bytes
from infoseg.data.ingest import Options, Sample, ingest
from infoseg.data.pictures import (
    ENDINGS,
    check_classes,
    check_size,
    files_by_stem,
    read_labels,
    read_picture,
    resized,
)  # fmt: skip
from infoseg.data.store import IGNORE
from infoseg.files import DataError
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
    pictures = files_by_stem(images if images.is_dir() else root, ENDINGS)
    maps, classes, sources = {}, [], {}
    if labels is not None:
        maps = files_by_stem(root / labels, (".png",))
        description = (root / labels).parent / "dataset.json"
        sources = {description.name: description} if description.is_file() else {}
        classes = read_classes(description, (root / labels).name) or _numbered(maps)
    groups = read_groups(root / "dataset.json", pictures)

    def prepare(key: str) -> list[Sample]:
        if key not in pictures:
            advice = "Remove the label map, or add the picture to images/"
            raise DataError("there is no picture for this label map", file=maps[key], advice=advice)
        if key.encode("utf-8", "replace").decode() != key:
            raise DataError("has a name that is not UTF-8", file=pictures[key], advice="Rename it")
        image, label = read_picture(pictures[key], channels), None
        height, width = image.shape[:2]
        scale = min(1.0, shorter_side / min(height, width)) if shorter_side else 1.0
        size = max(1, round(height * scale)), max(1, round(width * scale))
        if key in maps:
            label = read_labels(maps[key])
            check_size(label, (height, width), maps[key])
            check_classes(label, len(classes), maps[key])
            label = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)
        return [Sample(key, resized(image, size), label, group=groups.get(key, ""))]

    ingest(
        raw, out, list(pictures | maps), prepare,
        channels=channels,
        classes=classes,
        parameters={
            "protocol": "folder", "labels": labels, "shorter_side": shorter_side,
            "channels": channels,
        },
        sources=sources,
        **options,
    )  # fmt: skip


def _numbered(maps: dict[str, Traversable]) -> list[str]:
    """Return "class 0" to the largest value of the label maps that can be read."""
    largest = 0
    for file in maps.values():
        try:
            label = read_labels(file)
        except DataError:  # reported when its picture is prepared
            continue
        largest = max(largest, int(label[label != IGNORE].max(initial=0)))
    return [f"class {i}" for i in range(largest + 1)]


def read_classes(description: Traversable, labels: str) -> list[str]:
    """Return the class names of a label folder in label order; none without `dataset.json`.

    Raises DataError for one that does not describe them.
    """
    if not description.is_file():
        return []
    advice = f'Expected {{"{labels}": {{"classes": {{"0": "...", "1": "..."}}}}}}'
    with naming(description, f"does not describe the classes of {labels!r}", advice):
        content = json.loads(read_bytes(description, 2**24))
        if content.get("ignore_index", IGNORE) != IGNORE:
            raise ValueError(f"ignore_index must be {IGNORE}")
        names = content[labels]["classes"]
        table = names if isinstance(names, list) else [names[str(i)] for i in range(len(names))]
        if not 0 < len(table) <= IGNORE:
            raise ValueError(f"{len(table)} classes; 1 to {IGNORE} are possible")
        return [one_line(name) for name in table]  # they are written into tables, figures and XML


def read_about(raw: RawFolders) -> dict[str, str]:
    """Return source, licence and attribution, as far as ``dataset.json`` gives them."""
    description = places(raw)[0] / "dataset.json"
    if not description.is_file():
        return {}
    with naming(description, "is no description of pictures", 'Expected {"licence": "...", ...}'):
        content = json.loads(read_bytes(description, 2**24))
        names = ("source", "licence", "attribution")
        return {name: one_line(content[name]) for name in names if content.get(name)}


def read_groups(description: Traversable, pictures: Collection[str]) -> dict[str, str]:
    """Return the group of every picture by its id; none where `dataset.json` has no groups.

    Raises DataError unless the groups name every picture, and nothing else.
    """
    if not description.is_file():
        return {}
    advice = 'Expected "groups": {"<name of a picture without ending>": "<group>", ...}'
    with naming(description, "does not give every picture its group", advice):
        groups = json.loads(read_bytes(description, 2**24)).get("groups", {})
        if not all(one_line(group) for group in groups.values()):
            raise ValueError("a group has an empty name")
        if groups and (odd := sorted(groups.keys() ^ set(pictures))):
            raise ValueError(f"{odd[0]!r} {'is no picture' if odd[0] in groups else 'is missing'}")
        return groups
