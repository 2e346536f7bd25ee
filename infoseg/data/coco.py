"""COCO-Stuff-15, COCO-Stuff-3 and COCO-Persons from COCO 2017's raw files.

Below one of the raw folders, or in the archives as published that lie there: pictures in
``images/{split}/`` or ``{split}/``; stuff maps in ``stuffthingmaps/{split}/``,
``annotations/{split}/`` (IIC's name) or beside the pictures; IIC's id lists in
``curated/{split}/``; instance annotations in ``annotations/instances_{split}.json``. Crops of
128 px are cut later: at random in training, from the centre in evaluation.

``coco_classes.csv`` has the classes. A pixel of a ``stuffthingmaps`` PNG is a *fine* class 0-181
(COCO category id - 1; eleven ids were dropped from COCO and never occur), or 255 where nobody
annotated. They fall into 27 *coarse* ones: things 0-11, of which "food" and "furniture" recur among
stuff, 12-26. Both benchmarks keep only stuff. Sources: names and ids from nightrome/cocostuff
``labels.txt``; the grouping from its label hierarchy, in IIC's coarse order
(``fine_to_coarse_dict.pickle``, the same mapping as STEGO's).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Unpack

import cv2
import numpy as np
import pandas as pd
from pycocotools import mask as cocomask
from tqdm import tqdm

from infoseg.data.archives import RawFolders, holds, places, read_bytes
from infoseg.data.ingest import Options, Sample, ingest, log
from infoseg.data.pictures import (
    check_size,
    read_labels,
    read_picture,
    rescale_iic,
    rescale_labels,
)
from infoseg.data.store import IGNORE
from infoseg.errors import DataError

SPLITS = ("train2017", "val2017")
ARCHIVES = ("train2017.zip", "val2017.zip", "stuffthingmaps_trainval2017.zip")
ANNOTATIONS = "annotations_trainval2017.zip"

# ---- classes -------------------------------------------------------------------------------------

with (resources.files("infoseg.data") / "coco_classes.csv").open(encoding="utf-8") as _table:
    _CLASSES = list(csv.DictReader(_table))

FINE_NAMES = tuple(row["name"] for row in _CLASSES)
"""The 182 fine names; the index is the value in a stuffthingmaps PNG."""
FINE_TO_COARSE = np.array([int(row["coarse"]) for row in _CLASSES], np.uint8)
_GROUPS = {int(row["coarse"]): row["group"] for row in _CLASSES}
STUFF15_CLASSES = tuple(_GROUPS[coarse] for coarse in range(12, 27))
"""Class names of COCO-Stuff-15 in label order 0-14."""
STUFF3_CLASSES = ("sky", "plant", "ground")
"""Class names of COCO-Stuff-3 in label order 0-2 (coarse 23, 22, 21)."""


def stuff15_lookup() -> np.ndarray:
    """Return the table from fine value to COCO-Stuff-15 label, uint8 of shape (256,).

    ``table[png]`` labels a whole map. Things, unlabelled pixels and values that are no class are
    255. Values 182-254 are errors in a file; finding them is the caller's task.
    """
    table = np.full(256, IGNORE, np.uint8)
    stuff = np.flatnonzero(FINE_TO_COARSE >= 12)
    table[stuff] = FINE_TO_COARSE[stuff] - 12
    return table


def stuff3_lookup() -> np.ndarray:
    """Return the same for COCO-Stuff-3: sky 0, plant 1, ground 2; all else 255."""
    table = np.full(256, IGNORE, np.uint8)
    for label, name in enumerate(STUFF3_CLASSES):
        table[stuff15_lookup() == STUFF15_CLASSES.index(name)] = label
    return table


# ---- where files lie, and IIC's id lists ---------------------------------------------------------

LISTS = {"stuff15": "Coco164kFull_Stuff_Coarse_7.txt", "stuff3": "Coco164kFew_Stuff_6.txt"}
"""IIC's file names of the lists."""

IIC_LISTS = {
    "5f78b43a1ad7408f590f0404ea86cdfc55e3a991d748a9cb64e5f86663541a6b":
        ("stuff3", "train2017", 35_228),
    "b5b09cbb5258417a40c7a57dfe65f6be455fa64d5a14b6a93bda91642d431fce":
        ("stuff3", "val2017", 1_432),
    "3b837594a81880a70f177afab906fc45147d8b9c2c4f51132f784e41941812f9":
        ("stuff15", "train2017", 49_629),
    "7c629734c88f1a74bba6311e01d4d9fe976df84f07cb4fc86452ce5116e51655":
        ("stuff15", "val2017", 2_175),
}  # fmt: skip
"""Variant, split and number of ids of IIC's four published lists, by the SHA-256 of the file."""

_AS_PUBLISHED = "Use IIC's list as published"


def _find(places: Sequence[Traversable], *paths: str, advice: str) -> Traversable:
    """Return the first of ``paths`` that is a file below one of the places, or raise DataError."""
    for place in places:
        for path in paths:
            if (file := place.joinpath(*path.split("/"))).is_file():
                return file
    raise DataError("not found", file=places[0].joinpath(*paths[0].split("/")), advice=advice)


def _folder(places: Sequence[Traversable], paths: Sequence[str], ending: str) -> Traversable | None:
    """Return the first of the folders ``paths`` that holds files of such an ending."""
    folders = (place.joinpath(*path.split("/")) for place in places for path in paths)
    return next((f for f in folders if f.is_dir() and holds(f, ending)), None)


def image_folder(places: Sequence[Traversable], split: str) -> Traversable:
    """Return the folder of a split's pictures, a real one or one in an archive, or DataError."""
    folder = _folder(places, (f"images/{split}", split), ".jpg")
    if folder is None:
        raise DataError(
            f"no pictures in images/{split} or {split}, and no {split}.zip",
            file=places[0],
            advice=f"Put COCO's {split}.zip there, or unpack it into images/",
        )
    return folder


def map_folder(places: Sequence[Traversable], split: str) -> Traversable:
    """Return the folder of a split's stuff maps, or raise DataError if none holds a PNG."""
    paths = (f"stuffthingmaps/{split}", f"annotations/{split}", split)
    folder = _folder(places, paths, ".png")
    if folder is None:
        raise DataError(
            f"no label maps in {', '.join(paths)}, and no stuffthingmaps_trainval2017.zip",
            file=places[0],
            advice="Put stuffthingmaps_trainval2017.zip there, or unpack it into stuffthingmaps/",
        )
    return folder


def read_id_list(file: Traversable) -> list[str]:
    """Return the image ids of a curated list, one per line, in its order.

    Windows line ends, blank lines and a byte order mark do no harm. Raises DataError for a missing
    list, a line that is no id, an id that occurs twice.
    """
    ids = read_bytes(file, 2**26).decode("utf-8-sig", errors="replace").split()
    wrong = next((i for i in ids if not (i.isascii() and i.isdecimal())), None)
    if wrong is not None:
        raise DataError(f"{wrong[:40]!r} is not a COCO image id", file=file, advice=_AS_PUBLISHED)
    if len(set(ids)) != len(ids):
        repeated = Counter(ids).most_common(1)[0][0]
        raise DataError(f"the id {repeated} occurs twice", file=file, advice=_AS_PUBLISHED)
    return ids


def read_iic_lists(
    files: dict[str, Traversable], variant: str
) -> tuple[dict[str, list[str]], bool]:
    """Return the ids of every split, and whether the lists are those that IIC published.

    files: the list of each split. Raises DataError as ``read_id_list`` does, for an id in both
    splits, and for a published list in the place of another.
    """
    ids = {split: read_id_list(file) for split, file in files.items()}
    genuine = True
    for split, file in files.items():
        digest = hashlib.sha256(read_bytes(file, 2**26)).hexdigest()
        published = IIC_LISTS.get(digest)
        if published is None:
            genuine = False
        elif published[:2] != (variant, split):
            raise DataError(
                f"is IIC's list for {', '.join(published[:2])}, not for {variant}, {split}",
                file=file,
                advice="Put each list back under its own name",
            )
    train, val = SPLITS
    if both := set(ids[train]) & set(ids[val]):
        raise DataError(
            f"the id {min(both)} is in the list of {train}, too",
            file=files[val],
            advice=_AS_PUBLISHED,
        )
    return ids, genuine


# ---- COCO-Stuff ----------------------------------------------------------------------------------


def prepare_coco_stuff(
    raw: RawFolders,
    out: Path | str,
    *,
    variant: Literal["stuff15", "stuff3"],
    scale: float = 0.33,
    unlabelled: Literal["ignore", "sky"] = "ignore",
    **options: Unpack[Options],
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

    Raises DataError for a missing folder or list, a broken list or archive, and, unless
    ``on_bad_input`` is "skip", for an unreadable or missing picture or map, a map of another size,
    a value that is no class.
    """
    if unlabelled == "sky" and variant != "stuff3":
        raise ValueError("unlabelled may be 'sky' with variant 'stuff3' alone")
    table = stuff15_lookup() if variant == "stuff15" else stuff3_lookup()
    roots, listed = places(raw, ARCHIVES), LISTS[variant]
    lists = {
        split: _find(
            roots, f"curated/{split}/{listed}", f"{split}/{listed}",
            advice="Put IIC's curated/ folder into the raw folder",
        )
        for split in SPLITS
    }  # fmt: skip
    ids, genuine = read_iic_lists(lists, variant)
    notes = []
    if not genuine:
        notes.append(
            "The id lists are not IIC's published ones: scores are not comparable to the paper's."
        )
    if unlabelled == "sky":
        table[IGNORE] = STUFF3_CLASSES.index("sky")
        notes.append("Unlabelled pixels count as sky, as in IIC's code for 3 classes.")
    images = {split: image_folder(roots, split) for split in SPLITS if ids[split]}
    maps = {split: map_folder(roots, split) for split in SPLITS if ids[split]}

    def prepare(item: tuple[str, str]) -> list[Sample]:
        split, image_id = item
        image = read_picture(images[split] / f"{image_id}.jpg", upright=False)
        file = maps[split] / f"{image_id}.png"
        fine = read_labels(file)
        check_size(fine, image.shape[:2], file)
        check_fine_values(fine, file)
        labels = cv2.LUT(rescale_labels(fine, scale), table)
        return [Sample(image_id, rescale_iic(image, scale), labels, split)]

    ingest(
        raw, out, [(split, image_id) for split in SPLITS for image_id in ids[split]], prepare,
        channels=3,
        classes=STUFF15_CLASSES if variant == "stuff15" else STUFF3_CLASSES,
        parameters=dict(
            protocol="coco-stuff", variant=variant, scale=scale, unlabelled=unlabelled
        ),
        sources={f"curated/{split}/{listed}": file for split, file in lists.items()},
        notes=notes,
        **options,
    )  # fmt: skip


def check_fine_values(fine: np.ndarray, file: Traversable) -> None:
    """Raise DataError for a value of a stuff map that is neither a fine class nor 255."""
    shifted = fine + np.uint8(1)  # 255, which is allowed, wraps to 0
    if shifted.max() > len(FINE_NAMES):
        row, column = np.argwhere(shifted > len(FINE_NAMES))[0]
        raise DataError(
            f"value {fine[row, column]} at row {row}, column {column} is no COCO-Stuff class "
            f"(0-{len(FINE_NAMES) - 1} or {IGNORE})",
            file=file,
            advice="Is it a stuffthingmaps PNG?",
        )


# ---- people in instance annotations --------------------------------------------------------------

MAX_SIDE = 8192
"""Pixels along a side that an image may claim; COCO's have 640 at most."""
OVERHANG = 2.0
"""Pixels by which a COCO polygon may leave its image; annotators' mice do."""

_DOWNLOAD = "Download it again"


@dataclass(slots=True)
class Photo:
    """One image of an instances file, with its annotations of people as the file has them.

    file_name: a name without folders. problem: what is wrong with the image's own entry.
    """

    split: str
    id: int
    people: list[dict[str, Any]]
    file_name: str = ""
    height: int = 0
    width: int = 0
    problem: str = ""

    @property
    def image_id(self) -> str:
        return PurePosixPath(self.file_name).stem


def instances_file(places: Sequence[Traversable], split: str) -> Traversable:
    """Return a split's instance annotations; DataError if they are in none of the places."""
    name = f"instances_{split}.json"
    advice = f"Put COCO's {ANNOTATIONS} into the raw folder"
    return _find(places, f"annotations/{name}", name, advice=advice)


def read_photos(file: Traversable, split: str) -> list[Photo]:
    """Return the images that have person annotations, by image id.

    instances_train2017.json takes 3 GB of memory while it is read. Raises DataError for a file that
    cannot be read to its end, is no instances file, or has no category named person.
    """
    content = read_bytes(file, 2**32)
    try:
        tree = json.loads(content)
        person = {c["id"] for c in tree["categories"] if c["name"] == "person"}
        if not person:
            raise DataError("has no category named person", file=file)
        images, people = defaultdict(set), defaultdict(list)
        for image in tree["images"]:
            images[image["id"]].add((image.get("file_name"), image["height"], image["width"]))
        for annotation in tree["annotations"]:
            if annotation["category_id"] in person:
                people[annotation["image_id"]].append(annotation)
        return [_photo(split, i, people[i], images.get(i, set())) for i in sorted(people)]
    except (
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise DataError(
            f"is not a COCO instances file ({type(error).__name__}: {error})",
            file=file,
            advice=_DOWNLOAD,
        ) from None


def _photo(split: str, image_id: int, people: list, images: set[tuple[str, Any, Any]]) -> Photo:
    if not isinstance(image_id, int):
        raise TypeError(f"image_id {image_id!r} is not an integer")
    photo = Photo(split, image_id, people)
    if len(images) != 1:
        photo.problem = f"lists image {image_id} twice, and not in the same way"
        if not images:
            photo.problem = f"annotates image {image_id}, which it does not list"
        return photo
    [(name, height, width)] = images
    # Never a path: what an annotation file says does not lead out of the pictures' folder.
    photo.file_name = PurePosixPath(name.replace("\\", "/")).name
    if photo.file_name in ("", "..") or not photo.file_name.isprintable():
        raise ValueError(f"image {image_id} has the file name {name!r}")
    photo.height, photo.width = int(height), int(width)
    if not (0 < photo.height <= MAX_SIDE and 0 < photo.width <= MAX_SIDE):
        photo.problem = f"says that {photo.file_name} has {width} x {height} pixels"
    return photo


def person_masks(photo: Photo, file: Traversable) -> tuple[np.ndarray, np.ndarray]:
    """Return two (height, width) bool masks: separate persons, and crowds.

    Raises DataError naming the annotation file for an image it lists twice or not at all, with an
    impossible size, or with an annotation that is malformed or does not fit.
    """
    if photo.problem:
        raise DataError(photo.problem, file=file, advice=_DOWNLOAD)
    masks = np.zeros((2, photo.height, photo.width), bool)
    for annotation in photo.people:
        try:
            if "segmentation" not in annotation:
                raise DataError("has no segmentation")
            mask = mask_of(annotation["segmentation"], photo.height, photo.width)
        except DataError as error:
            raise DataError(
                f"annotation {annotation.get('id')} of {photo.file_name}: {error.problem}",
                file=file,
                advice="Correct the annotation, or leave the image out with on_bad_input=skip",
            ) from None
        masks[int(bool(annotation.get("iscrowd")))] |= mask
    return masks[0], masks[1]


def mask_of(segmentation: object, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool mask of one annotation's ``segmentation``, by pycocotools.

    A list holds polygons, whose union counts; a dictionary holds a run-length encoding with
    ``counts`` as a list (crowds in COCO's files) or a compressed string. pycocotools checks
    neither. Raises DataError, without a file, where one is malformed or does not fit the image.
    """
    if isinstance(segmentation, list) and segmentation:
        polygons = [_corners(points, height, width) for points in segmentation]
        return cocomask.decode(
            cocomask.merge(cocomask.frPyObjects(polygons, height, width))
        ).astype(bool)
    if not isinstance(segmentation, dict) or not {"counts", "size"} <= segmentation.keys():
        raise DataError("segmentation is neither polygons nor a run-length encoding")
    counts, size = segmentation["counts"], segmentation["size"]
    if size != [height, width]:
        raise DataError(
            f"run-length mask of size {size} for an image of {[height, width]} (height, width)"
        )
    runs = decode_counts(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int for run in runs):
        raise DataError("run lengths are not integers")
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise DataError(f"run lengths do not add up to the {height * width} pixels of the image")
    coded = cocomask.frPyObjects({"counts": runs, "size": size}, height, width)
    return cocomask.decode(coded).astype(bool)


def _corners(points: object, height: int, width: int) -> list[float]:
    """Return a polygon [x0, y0, x1, y1, ...] in pixels, checked; DataError unless it fits."""
    if (
        not isinstance(points, list)
        or len(points) % 2
        or not all(type(value) in (int, float) and abs(value) < 2**31 for value in points)
    ):  # NaN is not below anything
        raise DataError("polygon is not a flat list of x, y pairs")
    if len(points) < 6:
        raise DataError(f"polygon of {len(points) // 2} points; a surface needs 3")
    (left, right), (top, bottom) = ((min(c), max(c)) for c in (points[::2], points[1::2]))
    if min(left, top) < -OVERHANG or right > width + OVERHANG or bottom > height + OVERHANG:
        raise DataError(
            f"polygon reaches from ({left:g}, {top:g}) to ({right:g}, {bottom:g}), "
            f"outside its image of {width} x {height} pixels"
        )
    return points


def decode_counts(text: str) -> list[int]:
    """Decode COCO's compressed run lengths (pycocotools' string form, which it does not check).

    Each number is a chain of characters; ord - 48 holds five bits, least significant first, and
    0x20 announces another. The last one's 0x10 is the sign. From the fourth number on, the
    difference to the number two places before is stored.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        chunk = ord(character) - 48
        if not 0 <= chunk < 64:
            raise DataError("compressed run lengths contain a character that is no code")
        if shift > 30:
            raise DataError("compressed run lengths contain a number of over 32 bits")
        value |= (chunk & 0x1F) << shift
        shift += 5
        if not chunk & 0x20:
            value -= (chunk >> 4 & 1) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError("compressed run lengths end in the middle of a number")
    return counts


# ---- COCO-Persons --------------------------------------------------------------------------------

PAPER_IMAGES = 15_399
"""Images of COCO-Persons (paper, 5.1)."""
Crowd = Literal["ignore", "person", "exclude"]
CROWDS: tuple[Crowd, ...] = ("ignore", "person", "exclude")


def prepare_coco_persons(
    raw: RawFolders,
    out: Path | str,
    *,
    shorter_side: int | None = None,
    images: int | None = None,
    min_person_share: float = 0.0,
    max_person_share: float = 1.0,
    min_side: int = 0,
    crowd: Crowd = "ignore",
    splits: Sequence[str] = SPLITS,
    **options: Unpack[Options],
) -> None:
    """Prepare a person / non-person data set (labels 1 / 0) from COCO's instance annotations.

    The paper's COCO-Persons, 15,399 images of 128 x 128 px with at least one person each, was
    never published and neither was its rule, so this is a *reconstruction* and ``meta.json`` says
    so. An image is taken if it shows a person, min_person_share <= person pixels / all pixels <=
    max_person_share, and its shorter side has ``min_side`` pixels, all before rescaling. Order:
    ``splits``, then image id.

    shorter_side: bring the shorter side down to so many pixels; 128 gives crops that span the
    picture in one direction. images: how many to aim at. All images are measured first, and
    ``min_person_share`` is raised to the multiple of 0.0001 with which the number that the rule
    keeps is nearest; which one that was, and the number, stand in the parameters (``chosen``) and
    in the notes. Notebook 9 shows how little that determines. crowd: COCO marks groups too dense to
    separate as one crowd region. "ignore" makes it 255 except where a separate person is drawn over
    it, "person" counts it as person, "exclude" leaves out the images that have one.

    Raises DataError for a missing or broken annotation file or folder of pictures, and, unless
    ``on_bad_input`` is "skip", for an unreadable or missing picture, one of another size than
    annotated, a polygon more than 2 px outside its image or a broken run-length mask (naming the
    annotation), and an image that is in two splits.
    """
    roots = places(raw, (ANNOTATIONS, *(f"{split}.zip" for split in splits)))
    files = {split: instances_file(roots, split) for split in splits}
    folders = {split: image_folder(roots, split) for split in splits}
    photos = [photo for split in splits for photo in read_photos(files[split], split)]
    owners = {photo.image_id: photo.split for photo in reversed(photos)}
    parameters = dict(
        protocol="coco-persons", shorter_side=shorter_side, min_person_share=min_person_share,
        max_person_share=max_person_share, min_side=min_side, crowd=crowd, splits=list(splits),
    )  # fmt: skip
    minimum = min_person_share
    notes = [
        "A reconstruction: the paper's COCO-Persons was not published, "
        "and the rule that selected its 15,399 images is unknown."
    ]
    if images is not None:
        table = _measure(photos, files, options)
        shares = shares_kept(table, min_side, crowd, splits, max_person_share)
        minimum, kept = nearest_share(shares, images, at_least=min_person_share)
        parameters |= dict(images=images, chosen={"min_person_share": minimum, "images": kept})
        notes.append(
            f"min_person_share {minimum:g} was chosen because {kept:,} images then satisfy the "
            f"rule; {images:,} were aimed at."
        )
        # What is not in the table is broken, and stays to be reported.
        small = table[_share(table, crowd) < minimum]
        left_out = set(zip(small["split"], small["id"], strict=True))
        photos = [photo for photo in photos if (photo.split, photo.id) not in left_out]

    def prepare(photo: Photo) -> list[Sample]:
        people, crowds = person_masks(photo, files[photo.split])
        if crowd == "person":
            people |= crowds
        if (
            not (people.any() and minimum <= people.mean() <= max_person_share)
            or min(people.shape) < min_side
            or (crowd == "exclude" and crowds.any())
        ):
            return []
        file = folders[photo.split] / photo.file_name
        if owners[photo.image_id] != photo.split:
            raise DataError(
                f"has the name of an image of {owners[photo.image_id]}",
                file=file,
                advice="Remove one of the two from the annotations",
            )
        image = read_picture(file, upright=False)
        check_size(image, people.shape, file)
        labels = people.astype(np.uint8)
        if crowd == "ignore":
            labels[crowds & ~people] = IGNORE
        scale = min(1.0, shorter_side / min(people.shape)) if shorter_side else 1.0
        small = rescale_labels(labels, scale)
        return [Sample(photo.image_id, rescale_iic(image, scale), small, photo.split)]

    ingest(
        raw, out, photos, prepare,
        channels=3,
        classes=("non-person", "person"),
        parameters=parameters,
        sources={f"annotations/{file.name}": file for file in files.values()},
        notes=notes,
        **options,
    )  # fmt: skip


def scan_coco_persons(
    raw: RawFolders, splits: Sequence[str] = SPLITS, **options: Unpack[Options]
) -> pd.DataFrame:
    """Measure every image that has a person annotation, without opening a picture.

    One row per image: split, id, height, width in pixels, and the shares of all pixels, in 0..1,
    that show a separate person (person_share), a crowd (crowd_share; the two may overlap) or
    either of them (either_share). For searching the thresholds that give the paper's 15,399
    images: notebook 9. Raises DataError as ``prepare_coco_persons`` does for annotations; with
    ``on_bad_input`` "skip", broken ones are logged and their image left out.
    """
    roots = places(raw, (ANNOTATIONS,))
    files = {split: instances_file(roots, split) for split in splits}
    photos = [photo for split in splits for photo in read_photos(files[split], split)]
    return _measure(photos, files, options)


def _measure(
    photos: Sequence[Photo], files: dict[str, Traversable], options: Options
) -> pd.DataFrame:
    rows = []
    silent = not options.get("progress")
    for photo in tqdm(photos, desc="measuring people", mininterval=1.0, disable=silent):
        try:
            people, crowds = person_masks(photo, files[photo.split])
        except DataError as error:
            if options.get("on_bad_input") != "skip":
                raise
            log.warning("not measured: %s", error)
            continue
        shares = people.mean(), crowds.mean(), (people | crowds).mean()
        rows.append((photo.split, photo.id, photo.height, photo.width, *shares))
    columns = ["split", "id", "height", "width", "person_share", "crowd_share", "either_share"]
    return pd.DataFrame(rows, columns=columns)


def _share(table: pd.DataFrame, crowd: Crowd) -> pd.Series:
    return table["either_share" if crowd == "person" else "person_share"]


def shares_kept(
    table: pd.DataFrame,
    min_side: int = 0,
    crowd: Crowd = "ignore",
    splits: Sequence[str] = SPLITS,
    max_person_share: float = 1.0,
) -> np.ndarray:
    """Return the shares, ascending, of the images that a rule keeps if its threshold is 0.

    table: of ``scan_coco_persons``.
    """
    share = _share(table, crowd)
    kept = (share > 0) & (share <= max_person_share) & table["split"].isin(splits)
    kept &= np.minimum(table["height"], table["width"]) >= min_side
    if crowd == "exclude":
        kept &= table["crowd_share"] == 0
    return np.sort(share[kept].to_numpy())


def nearest_share(
    shares: np.ndarray, target: int, *, at_least: float = 0.0, decimals: int = 4
) -> tuple[float, int]:
    """Return the threshold that keeps the number of images nearest to ``target``, and that number.

    shares: of ``shares_kept``. Thresholds are ``at_least`` and the larger multiples of
    10 ** -decimals; 0.0001 is about ten of the paper's images. Of several as near, the one with the
    fewest decimals, then the smallest.
    """
    multiples = [step / 10**decimals for step in range(10**decimals + 1)]
    thresholds = np.array([at_least, *(m for m in multiples if m > at_least)])
    kept = len(shares) - np.searchsorted(shares, thresholds, side="left")
    digits = [0, *(len(f"{m:.{decimals}f}".rstrip("0")) for m in thresholds[1:])]
    best = np.lexsort((thresholds, digits, np.abs(kept - target)))[0]
    return float(thresholds[best]), int(kept[best])
