"""People in COCO's instances_*.json: read, drawn, measured."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from infoseg.data.coco_layout import find_file
from infoseg.data.coco_masks import add_mask
from infoseg.data.raw import ARCHIVE_DAMAGE
from infoseg.errors import DataError

MAX_SIDE = 8192
"""Pixels along a side that an image may claim; COCO's have 640 at most."""

_AGAIN = "Download it again"
_ABSENT = object()


@dataclass(slots=True)
class Person:
    """One annotation: a person, or a crowd of them. segmentation: as ``mask_of`` takes it."""

    id: object
    crowd: bool
    segmentation: object


@dataclass(slots=True)
class Photo:
    """One image of an instances file with its person annotations.

    file_name: a name without folders, or "" if the file annotates the image and does not list it.
    unclear: the file lists the image twice, and not in the same way.
    """

    split: str
    id: int
    file_name: str = ""
    height: int = 0
    width: int = 0
    unclear: bool = False
    persons: list[Person] = field(default_factory=list)


def instances_file(places: Sequence[Traversable], split: str) -> Traversable:
    """Return a split's instance annotations; DataError if they are in none of the places."""
    found = find_file(places, f"annotations/instances_{split}.json", f"instances_{split}.json")
    if found is None:
        raise DataError(
            "annotation file not found",
            file=places[0] / "annotations" / f"instances_{split}.json",
            advice="Put COCO's annotations_trainval2017.zip into the raw folder",
        )
    return found


def read_photos(file: Traversable, split: str, progress: bool = False) -> list[Photo]:
    """Return the images that have person annotations, by image id.

    instances_train2017.json takes 3 GB of memory while it is read. Raises DataError for a file that
    cannot be read to its end, is no instances file, or has no category named person.
    """
    try:
        content = _load(file)
        person = {c["id"] for c in content["categories"] if c["name"] == "person"}
        if not person:
            raise DataError("has no category named person", file=file)
        images: dict[int, tuple[Any, Any, Any] | None] = {}
        persons: dict[int, list[Person]] = defaultdict(list)
        entries = [(key, entry) for key in ("images", "annotations") for entry in content[key]]
        for key, entry in tqdm(
            entries, desc=file.name, unit=" entries", mininterval=1.0, disable=not progress
        ):
            if key == "images":
                image = entry["id"], (entry.get("file_name"), entry["height"], entry["width"])
                same = images.setdefault(*image) == image[1]
                images[entry["id"]] = image[1] if same else None
            elif entry["category_id"] in person:
                persons[entry["image_id"]].append(
                    Person(
                        entry.get("id"),
                        bool(entry.get("iscrowd")),
                        _compact(entry.get("segmentation", _ABSENT)),
                    )
                )
        return [_photo(split, i, persons[i], images) for i in sorted(persons)]
    except (
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise DataError(
            f"is not a COCO instances file ({type(error).__name__}: {error})",
            file=file,
            advice=_AGAIN,
        ) from None
    except ARCHIVE_DAMAGE as error:
        raise DataError(f"cannot be read ({error})", file=file, advice=_AGAIN) from None


def _load(file: Traversable) -> Any:
    with file.open("rb") as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        return json.load(text)


def _compact(segmentation: Any) -> Any:
    """Return the same numbers in arrays, a fifth of the size; what is malformed as it is."""
    try:
        if isinstance(segmentation, list):
            return [np.array(points, np.float64) for points in segmentation]
        if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), list):
            counts = np.array(segmentation["counts"])
            if counts.dtype == np.int64:
                return segmentation | {"counts": counts}
    except (ValueError, TypeError, OverflowError):
        pass
    return segmentation


def _photo(split: str, image_id: int, persons: list[Person], images: dict[int, Any]) -> Photo:
    if not isinstance(image_id, int):
        raise TypeError(f"image_id {image_id!r} is not an integer")
    photo = Photo(split, image_id, persons=persons)
    if image_id in images and images[image_id] is None:
        photo.unclear = True
    elif image_id in images:
        name, height, width = images[image_id]
        # Never a path: what an annotation file says does not lead out of the pictures' folder.
        photo.file_name = PurePosixPath(name.replace("\\", "/")).name
        if photo.file_name in ("", "..") or "\0" in photo.file_name:
            raise ValueError(f"image {image_id} has the file name {name!r}")
        photo.height, photo.width = int(height), int(width)
    return photo


def person_masks(photo: Photo, file: Traversable) -> tuple[np.ndarray, np.ndarray]:
    """Return two (height, width) bool masks: separate persons, and crowds.

    Raises DataError naming the annotation file for an image it lists twice or not at all, with an
    impossible size, or with an annotation that is malformed or does not fit.
    """
    problem = ""
    if photo.unclear:
        problem = f"lists image {photo.id} twice, and not in the same way"
    elif not photo.file_name:
        problem = f"annotates image {photo.id}, which it does not list"
    elif not (0 < photo.height <= MAX_SIDE and 0 < photo.width <= MAX_SIDE):
        problem = f"says that {photo.file_name} has {photo.width} x {photo.height} pixels"
    if problem:
        raise DataError(problem, file=file, advice=_AGAIN)
    masks = np.zeros((2, photo.height, photo.width), bool)
    for person in photo.persons:
        try:
            if person.segmentation is _ABSENT:
                raise DataError("has no segmentation")
            add_mask(masks[int(person.crowd)], person.segmentation)
        except DataError as error:
            raise DataError(
                f"annotation {person.id} of {photo.file_name}: {error.problem}",
                file=file,
                advice="Correct the annotation, or leave the image out with on_bad_input=skip",
            ) from None
    return masks[0], masks[1]


def share(mask: np.ndarray) -> float:
    """Return the share of set pixels, in 0..1."""
    return np.count_nonzero(mask) / mask.size
