"""COCO-Persons: person / non-person masks from COCO's instance annotations."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from infoseg.data.coco_instances import Photo, instances_file, person_masks, read_photos, share
from infoseg.data.coco_layout import SPLITS, image_folder
from infoseg.data.imaging import (
    check_same_size,
    check_scale,
    fit_shorter_side,
    read_rgb,
    rescale_iic,
    rescale_labels,
)
from infoseg.data.ingest import OnBadInput, Sample, ingest, log
from infoseg.data.persons_rule import CROWDS, Crowd, nearest_share, shares_kept
from infoseg.data.raw import RawFolders, places
from infoseg.data.store_meta import IGNORE
from infoseg.data.store_writer import PreparedWriter
from infoseg.errors import DataError
from infoseg.settings import SuperpixelSettings

ANNOTATIONS = "annotations_trainval2017.zip"


def prepare_coco_persons(
    raw: RawFolders,
    out: Path | str,
    *,
    name: str,
    scale: float = 0.33,
    shorter_side: int | None = None,
    images: int | None = None,
    min_person_share: float = 0.0,
    max_person_share: float = 1.0,
    min_side: int = 0,
    crowd: Crowd = "ignore",
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

    images: how many to aim at. All images are measured first, and ``min_person_share`` is raised to
    the multiple of 0.0001 with which the number that the rule keeps is nearest; which one that
    was, and the number, stand in the parameters (``chosen``) and in the notes. See
    ``infoseg.data.persons_rule`` for how little that determines.

    scale: as for COCO-Stuff (assumption: 0.33 leaves the usual 640 x 480 picture at 211 x 158, so
    that a 128 px crop sees most of its height). shorter_side, in pixels, replaces ``scale``: 128
    gives crops that span the picture in one direction. Neither enlarges.

    crowd: COCO marks groups too dense to separate as one crowd region. "ignore" makes it 255
    except where a separate person is drawn over it, "person" counts it as person, "exclude"
    leaves out the images that have one.

    superpixels: settings of the superpixels to store with every image; None stores none.

    Raises DataError for a missing or broken annotation file or folder of pictures, and, unless
    ``on_bad_input`` is "skip", for an unreadable or missing picture, one of another size than
    annotated, a polygon more than 2 px outside its image or a broken run-length mask (naming the
    annotation), and an image that is in two splits.
    """
    if crowd not in CROWDS:
        raise ValueError(f"crowd must be one of {CROWDS}, not {crowd!r}")
    if images is not None and images < 1:
        raise ValueError(f"images must be at least 1, not {images}")
    check_scale(scale)
    found = places(raw, (ANNOTATIONS, *(f"{split}.zip" for split in splits)))
    files = {split: instances_file(found, split) for split in splits}
    folders = {split: image_folder(found, split) for split in splits}
    photos = [photo for split in splits for photo in read_photos(files[split], split, progress)]
    first = {_image_id(photo): photo for photo in reversed(photos)}
    minimum, chosen = min_person_share, None
    if images is not None:
        table = _measure(photos, files, on_bad_input, progress)
        shares = shares_kept(
            table, min_side=min_side, crowd=crowd, splits=splits, max_person_share=max_person_share
        )
        minimum, kept = nearest_share(shares, images, at_least=min_person_share)
        chosen = {"min_person_share": minimum, "images": kept}
        photos = _worth_drawing(photos, table, minimum, crowd)

    def prepare(photo: Photo) -> list[Sample]:
        annotated = files[photo.split]
        people, crowds = person_masks(photo, annotated)
        if crowd == "exclude" and crowds.any():
            return []
        if crowd == "person":
            people |= crowds
        if not (people.any() and minimum <= share(people) <= max_person_share):
            return []
        if min(photo.height, photo.width) < min_side:
            return []
        file = folders[photo.split] / photo.file_name
        other = first[_image_id(photo)]
        if other is not photo:
            raise DataError(
                f"has the name of an image of {other.split}",
                file=file,
                advice="Remove one of the two from the annotations",
            )
        image = read_rgb(file)
        labels = people.astype(np.uint8)
        check_same_size(image, labels, file)
        if crowd == "ignore":
            labels[crowds & ~people] = IGNORE
        factor = scale
        if shorter_side is not None:
            factor = fit_shorter_side((photo.height, photo.width), shorter_side)
        small = rescale_labels(labels, factor)
        return [Sample(_image_id(photo), rescale_iic(image, factor), small, photo.split)]

    notes = [
        "A reconstruction: the paper's COCO-Persons was not published, "
        "and the rule that selected its 15,399 images is unknown."
    ]
    if chosen is not None:
        notes.append(
            f"min_person_share {minimum:g} was chosen because {kept:,} images then satisfy the "
            f"rule; {images:,} were aimed at."
        )
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
        }
        | ({} if images is None else {"images": images, "chosen": chosen}),
        sources={f"annotations/{file.name}": file for file in files.values()},
        notes=notes,
        superpixels=superpixels,
    ) as writer:
        ingest(
            writer, photos, prepare,
            raw=raw, on_bad_input=on_bad_input, progress=progress, threads=threads, limit=limit,
        )  # fmt: skip


def scan_coco_persons(
    raw: RawFolders,
    splits: Sequence[str] = SPLITS,
    *,
    on_bad_input: OnBadInput = "error",
    progress: bool = False,
) -> pd.DataFrame:
    """Measure every image that has a person annotation, without opening a picture.

    One row per image: split, id, height, width in pixels, and the shares of all pixels, in 0..1,
    that show a separate person (person_share), a crowd (crowd_share; the two may overlap) or
    either of them (either_share). For searching the thresholds that give the paper's 15,399
    images: ``infoseg.data.persons_rule``. Raises DataError as ``prepare_coco_persons`` does for
    annotations; with ``on_bad_input`` "skip", broken ones are logged and their image left out.
    """
    found = places(raw, (ANNOTATIONS,))
    files = {split: instances_file(found, split) for split in splits}
    photos = [photo for split in splits for photo in read_photos(files[split], split, progress)]
    return _measure(photos, files, on_bad_input, progress)


def _measure(
    photos: Sequence[Photo],
    files: dict[str, Traversable],
    on_bad_input: OnBadInput,
    progress: bool,
) -> pd.DataFrame:
    """Return the table of ``scan_coco_persons``.

    In one thread: drawing outlines is many short steps in Python, which threads cannot share.
    """
    rows = []
    bar = tqdm(photos, desc="measuring people", mininterval=1.0, disable=not progress)
    with logging_redirect_tqdm(), bar:
        for photo in bar:
            try:
                people, crowds = person_masks(photo, files[photo.split])
            except DataError as error:
                if on_bad_input == "error":
                    raise
                log.warning("not measured: %s", error)
                continue
            shares = share(people), share(crowds), share(people | crowds)
            rows.append((photo.split, photo.id, photo.height, photo.width, *shares))
    columns = ["split", "id", "height", "width", "person_share", "crowd_share", "either_share"]
    return pd.DataFrame(rows, columns=columns)


def _worth_drawing(
    photos: Sequence[Photo], table: pd.DataFrame, minimum: float, crowd: Crowd
) -> list[Photo]:
    """Leave out the images whose share is known to be too small; broken ones are not in the table
    and stay, to be reported."""
    small = table[table["either_share" if crowd == "person" else "person_share"] < minimum]
    left_out = set(zip(small["split"], small["id"], strict=True))
    return [photo for photo in photos if (photo.split, photo.id) not in left_out]


def _image_id(photo: Photo) -> str:
    return PurePosixPath(photo.file_name).stem
