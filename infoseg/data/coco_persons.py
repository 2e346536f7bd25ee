"""COCO-Persons: person / non-person masks from COCO's instance annotations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from infoseg.data.coco_layout import SPLITS, existing, image_folder
from infoseg.data.coco_masks import mask_of
from infoseg.data.imaging import (
    check_same_size,
    check_scale,
    fit_shorter_side,
    read_rgb,
    rescale_iic,
    rescale_labels,
)
from infoseg.data.ingest import OnBadInput, Sample, ingest
from infoseg.data.store_meta import IGNORE
from infoseg.data.store_writer import PreparedWriter
from infoseg.errors import DataError
from infoseg.params_data import SuperpixelSettings


def prepare_coco_persons(
    raw: Path | str,
    out: Path | str,
    *,
    name: str,
    scale: float = 0.33,
    shorter_side: int | None = None,
    min_person_share: float = 0.0,
    max_person_share: float = 1.0,
    min_side: int = 0,
    crowd: Literal["ignore", "person", "exclude"] = "ignore",
    splits: Sequence[str] = SPLITS,
    limit: int | None = None,
    superpixels: SuperpixelSettings | None = None,
    on_bad_input: OnBadInput = "error",
    progress: bool = False,
    threads: int = 2,
) -> None:
    """Prepare a person / non-person data set (labels 1 / 0) from COCO's instance annotations.

    The paper's COCO-Persons, 15,399 images of 128 x 128 px with at least one person each, was
    never published and neither was its rule, so this is a *reconstruction* and ``meta.json`` says
    so. An image is taken if it shows a person, min_person_share <= person pixels / all pixels <=
    max_person_share, and its shorter side has ``min_side`` pixels, all before rescaling. Order:
    ``splits``, then image id; ``limit`` keeps the first so many.

    scale: as for COCO-Stuff (assumption: 0.33 leaves the usual 640 x 480 picture at 211 x 158, so
    that a 128 px crop sees most of its height). shorter_side, in pixels, replaces ``scale``: 128
    gives crops that span the picture in one direction. Neither enlarges.

    crowd: COCO marks groups too dense to separate as one crowd region. "ignore" makes it 255
    except where a separate person is drawn over it, "person" counts it as person, "exclude"
    leaves out the images that have one.

    superpixels: settings of the superpixels to store with every image; None stores none.

    Raises DataError as ``prepare_coco_stuff`` does, and for a polygon more than 2 px outside its
    image or a broken run-length mask, naming the annotation.
    """
    raw = existing(Path(raw))
    if crowd not in ("ignore", "person", "exclude"):
        raise ValueError(f"crowd must be 'ignore', 'person' or 'exclude', not {crowd!r}")
    check_scale(scale)
    files = {split: raw / "annotations" / f"instances_{split}.json" for split in splits}
    photos = [photo for split in splits for photo in _read_photos(files[split], split)]
    folders = {split: image_folder(raw, split) for split in splits}

    def prepare(photo: _Photo) -> list[Sample]:
        people, crowds = _person_masks(photo, files[photo.split])
        if crowd == "exclude" and crowds.any():
            return []
        if crowd == "person":
            people |= crowds
        share = float(people.mean())
        if not (people.any() and min_person_share <= share <= max_person_share):
            return []
        if min(photo.height, photo.width) < min_side:
            return []
        file = folders[photo.split] / photo.file_name
        image = read_rgb(file)
        labels = people.astype(np.uint8)
        check_same_size(image, labels, file)
        if crowd == "ignore":
            labels[crowds & ~people] = IGNORE
        factor = scale
        if shorter_side is not None:
            factor = fit_shorter_side((photo.height, photo.width), shorter_side)
        stem = Path(photo.file_name).stem
        small = rescale_labels(labels, factor)
        return [Sample(stem, rescale_iic(image, factor), small, photo.split)]

    with PreparedWriter(
        out,
        name=name,
        channels=3,
        classes=("non-person", "person"),
        parameters={
            "protocol": "coco-persons",
            "scale": scale if shorter_side is None else None,
            "shorter_side": shorter_side,
            "min_person_share": min_person_share,
            "max_person_share": max_person_share,
            "min_side": min_side,
            "crowd": crowd,
            "splits": list(splits),
            "limit": limit,
            "on_bad_input": on_bad_input,
        },
        sources={file.relative_to(raw).as_posix(): file for file in files.values()},
        notes=[
            "A reconstruction: the paper's COCO-Persons was not published, "
            "and the rule that selected its 15,399 images is unknown."
        ],
        superpixels=superpixels,
    ) as writer:
        ingest(
            writer, photos, prepare,
            raw=raw, on_bad_input=on_bad_input, progress=progress, threads=threads, limit=limit,
        )  # fmt: skip


def scan_coco_persons(raw: Path | str, splits: Sequence[str] = SPLITS) -> pd.DataFrame:
    """Measure every image that has a person annotation, without opening a picture.

    One row per image: split, id, height, width, person_share and crowd_share (both of all pixels,
    in 0..1; separate persons and crowd regions may overlap). For searching the thresholds that
    give the paper's 15,399 images. Raises DataError as ``prepare_coco_persons`` does.
    """
    raw = existing(Path(raw))
    rows = []
    for split in splits:
        file = raw / "annotations" / f"instances_{split}.json"
        for photo in _read_photos(file, split):
            people, crowds = _person_masks(photo, file)
            shares = float(people.mean()), float(crowds.mean())
            rows.append((split, photo.id, photo.height, photo.width, *shares))
    columns = ["split", "id", "height", "width", "person_share", "crowd_share"]
    return pd.DataFrame(rows, columns=columns)


@dataclass
class _Photo:
    """One entry of an instances file with its person annotations."""

    split: str
    id: int
    file_name: str = ""
    height: int = 0
    width: int = 0
    persons: list[dict[str, Any]] = field(default_factory=list)


def _read_photos(file: Path, split: str) -> list[_Photo]:
    """Return the photos that have person annotations, by image id."""
    if not file.is_file():
        raise DataError(
            "annotation file not found",
            file=file,
            advice="Unpack COCO's annotations_trainval2017.zip into the raw folder",
        )
    try:
        content = json.loads(file.read_bytes())
        person = {c["id"] for c in content["categories"] if c["name"] == "person"}
        annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            if annotation["category_id"] in person:
                annotations[annotation["image_id"]].append(annotation)
        entries = {entry["id"]: entry for entry in content["images"]}
        photos = []
        for image_id, persons in sorted(annotations.items()):
            photo = _Photo(split, image_id, persons=persons)
            if entry := entries.get(image_id):
                photo.file_name = Path(entry["file_name"]).name
                photo.height, photo.width = int(entry["height"]), int(entry["width"])
            photos.append(photo)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"is not a COCO instances file ({type(error).__name__}: {error})",
            file=file,
            advice="Download it again",
        ) from None
    if not person:
        raise DataError("has no category named person", file=file)
    return photos


def _person_masks(photo: _Photo, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return two (height, width) bool masks: separate persons, and crowds."""
    if not photo.file_name:
        raise DataError(
            f"annotates image {photo.id}, which it does not list",
            file=file,
            advice="Download it again",
        )
    masks = np.zeros((2, photo.height, photo.width), bool)
    for annotation in photo.persons:
        try:
            mask = mask_of(annotation["segmentation"], photo.height, photo.width)
            masks[1 if annotation.get("iscrowd") else 0] |= mask
        except (DataError, KeyError) as error:
            problem = error.problem if isinstance(error, DataError) else "has no segmentation"
            raise DataError(
                f"annotation {annotation.get('id')} of {photo.file_name}: {problem}",
                file=file,
                advice="Correct the annotation, or leave the image out with on_bad_input=skip",
            ) from None
    return masks[0], masks[1]
