"""COCO-Stuff-15, COCO-Stuff-3 and COCO-Persons from COCO 2017's raw files.

Below one of the raw folders, or in the archives as published that lie there: pictures in
``images/{split}/`` or ``{split}/``; stuff maps in ``stuffthingmaps/{split}/``,
``annotations/{split}/`` (IIC's name) or beside the pictures; IIC's id lists in
``curated/{split}/``; instance annotations in ``annotations/instances_{split}.json``. Crops of
128 px are cut later: at random in training, from the centre in evaluation.
"""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from infoseg.data.coco_classes import (
    FINE_NAMES,
    IGNORE,
    STUFF3_CLASSES,
    STUFF15_CLASSES,
    stuff3_lookup,
    stuff15_lookup,
)
from infoseg.data.coco_layout import (
    LISTS,
    SPLITS,
    id_list,
    image_folder,
    map_folder,
    read_id_list,
    read_iic_lists,
)
from infoseg.data.coco_persons import prepare_coco_persons, scan_coco_persons
from infoseg.data.imaging import (
    check_same_size,
    check_scale,
    read_labels,
    read_rgb,
    rescale_iic,
    rescale_labels,
)
from infoseg.data.ingest import OnBadInput, Sample, ingest
from infoseg.data.raw import STUFF_ARCHIVES, RawFolders, places
from infoseg.data.store_writer import PreparedWriter
from infoseg.errors import DataError
from infoseg.settings import SuperpixelSettings

__all__ = [
    "SPLITS",
    "prepare_coco_persons",
    "prepare_coco_stuff",
    "read_id_list",
    "scan_coco_persons",
]


def prepare_coco_stuff(
    raw: RawFolders,
    out: Path | str,
    *,
    name: str,
    variant: Literal["stuff15", "stuff3"],
    scale: float = 0.33,
    unlabelled: Literal["ignore", "sky"] = "ignore",
    superpixels: SuperpixelSettings | None = None,
    on_bad_input: OnBadInput = "error",
    progress: bool = False,
    threads: int = 2,
) -> None:
    """Prepare COCO-Stuff-15 or COCO-Stuff-3 into the directory ``out``.

    The images are those of IIC's curated lists, train2017 then val2017, in list order: 51,804 for
    15 classes, 36,660 for 3 (both splits are trained and evaluated on, as IIC does). scale: factor
    of both image and labels, IIC's 0.33; see ``rescale_iic``. Pictures are RGB where IIC keeps
    cv2's BGR, which only its grey weights before Sobel can notice.

    unlabelled: what pixels become that nobody annotated (255 in the maps). "ignore" leaves them
    out. IIC's code means to do so, but for 3 classes its remapping starts from zeros and never
    writes those pixels, so they count as sky in its training mask and its score; "sky" repeats
    that, for holding against numbers that came from it. Things are 255 either way.

    superpixels: settings of the superpixels to store with every image; None stores none.

    Raises DataError for a missing folder or list, a broken list or archive, for IIC's lists with
    another number of ids than published, and, unless ``on_bad_input`` is "skip", for an unreadable
    or missing picture or map, a map of another size, a value that is no class.
    """
    if variant not in LISTS:
        raise ValueError(f"variant must be one of {sorted(LISTS)}, not {variant!r}")
    if unlabelled not in ("ignore", "sky") or (unlabelled == "sky" and variant != "stuff3"):
        raise ValueError("unlabelled must be 'ignore', or with variant 'stuff3' also 'sky'")
    check_scale(scale)
    lookup = stuff15_lookup() if variant == "stuff15" else stuff3_lookup()
    if unlabelled == "sky":
        lookup[IGNORE] = STUFF3_CLASSES.index("sky")
    found = places(raw, STUFF_ARCHIVES)
    lists = {split: id_list(found, split, LISTS[variant]) for split in SPLITS}
    ids, genuine = read_iic_lists(lists, variant)
    items = [(split, image_id) for split in SPLITS for image_id in ids[split]]
    images = {split: image_folder(found, split) for split in SPLITS if ids[split]}
    maps = {split: map_folder(found, split) for split in SPLITS if ids[split]}

    def prepare(item: tuple[str, str]) -> list[Sample]:
        split, image_id = item
        image = read_rgb(images[split] / f"{image_id}.jpg")
        file = maps[split] / f"{image_id}.png"
        fine = read_labels(file)
        check_same_size(fine, image, file)
        _check_fine_values(fine, file)
        labels = cv2.LUT(rescale_labels(fine, scale), lookup)
        return [Sample(image_id, rescale_iic(image, scale), labels, split)]

    notes = []
    if not genuine:
        notes.append(
            "The id lists are not IIC's published ones: scores are not comparable to the paper's."
        )
    if unlabelled == "sky":
        notes.append("Unlabelled pixels count as sky, as in IIC's code for 3 classes.")
    with PreparedWriter(
        out,
        name=name,
        channels=3,
        classes=STUFF15_CLASSES if variant == "stuff15" else STUFF3_CLASSES,
        parameters={
            "protocol": "coco-stuff",
            "variant": variant,
            "scale": scale,
            "unlabelled": unlabelled,
            "on_bad_input": on_bad_input,
        },
        sources={f"curated/{split}/{LISTS[variant]}": file for split, file in lists.items()},
        notes=notes,
        superpixels=superpixels,
    ) as writer:
        ingest(
            writer, items, prepare,
            raw=raw, on_bad_input=on_bad_input, progress=progress, threads=threads,
        )  # fmt: skip


def _check_fine_values(fine: np.ndarray, file: Traversable) -> None:
    shifted = fine + np.uint8(1)  # 255, which is allowed, wraps to 0
    if shifted.max() > len(FINE_NAMES):
        row, column = np.argwhere(shifted > len(FINE_NAMES))[0]
        raise DataError(
            f"value {fine[row, column]} at row {row}, column {column} is no COCO-Stuff class "
            f"(0-{len(FINE_NAMES) - 1} or {IGNORE})",
            file=file,
            advice="Is it a stuffthingmaps PNG?",
        )
