"""COCO-Stuff-15, COCO-Stuff-3 and COCO-Persons from COCO 2017's raw files.

``PATHS`` says where they may lie below a raw folder, or in the published archives there.
``coco_classes.csv`` has the classes. A pixel of a ``stuffthingmaps`` PNG is a *fine* class 0-181
(COCO category id - 1; eleven ids never occur), or 255 where nobody annotated. Fine classes fall
into 27 *coarse* ones: things 0-11 and stuff 12-26. Both benchmarks keep only stuff. Sources: names
and ids from nightrome/cocostuff ``labels.txt``; the grouping from its label hierarchy, in IIC's
coarse order (``fine_to_coarse_dict.pickle``, the same mapping as STEGO's).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd
import yaml
from pycocotools import mask as cocomask
from tqdm import tqdm

from infoseg.data.archives import RawFolders, names_in, places, read_bytes
from infoseg.data.ingest import Options, Sample, ingest, log
from infoseg.data.pictures import (
    check_classes,
    check_size,
    read_labels,
    read_picture,
    rescale_iic,
    rescale_labels,
)  # fmt: skip
from infoseg.data.store import IGNORE, sha256_of
from infoseg.files import DataError

SPLITS = ("train2017", "val2017")
ARCHIVES = ("train2017.zip", "val2017.zip", "stuffthingmaps_trainval2017.zip")
_JSON = "annotations_trainval2017.zip"

# ---- classes -------------------------------------------------------------------------------------

_CLASSES = pd.read_csv(Path(__file__).with_name("coco_classes.csv"))
#: The 182 fine names; the index is the value in a stuffthingmaps PNG.
FINE_NAMES = tuple(_CLASSES["name"])
#: Class names in label order: coarse classes 12 to 26, and three of them.
CLASSES = {
    "stuff15": tuple(_CLASSES.groupby("coarse")["group"].first()[12:]),
    "stuff3": ("sky", "plant", "ground"),
}


def stuff_lookup(variant: str) -> np.ndarray:
    """Return a variant's label of every fine value, uint8 (256,); 255 where there is none."""
    table = np.full(256, IGNORE, np.uint8)
    stuff = _CLASSES[(_CLASSES["coarse"] >= 12) & _CLASSES["group"].isin(CLASSES[variant])]
    table[stuff["value"]] = stuff["group"].map(CLASSES[variant].index)
    return table


# ---- where files lie, and IIC's id lists ---------------------------------------------------------

#: IIC's file names of the lists.
LISTS = {"stuff15": "Coco164kFull_Stuff_Coarse_7.txt", "stuff3": "Coco164kFew_Stuff_6.txt"}
#: SHA-256 of the published lists.
IIC_LISTS = {
    file["sha256"]
    for file in yaml.safe_load(Path(__file__).with_name("official.yaml").read_bytes())["curated"]
}
#: Ending of a kind of file, where it may lie, and what to put there if it lies nowhere.
PATHS = {
    "pictures": (".jpg", "images/{split} {split}", "COCO's {split}.zip"),
    "label maps": (".png", "stuffthingmaps/{split} annotations/{split} {split}", ARCHIVES[2]),
    "annotations": (".json", "annotations/instances_{split}.json instances_{split}.json", _JSON),
    "id list": (".txt", "curated/{split}/{name} {split}/{name}", "IIC's curated/ folder"),
}


def find(roots: Sequence[Traversable], what: str, split: str, name: str = "") -> Traversable:
    """Return a split's folder that holds files of a kind, or its one file, below one of the roots.

    what: a key of ``PATHS``. name: of the id list. Raises DataError where there is none.
    """
    ending, *texts = PATHS[what]
    paths, source = (text.format(split=split, name=name) for text in texts)
    for path in (root / path for root in roots for path in paths.split()):
        names = [path.name] if path.is_file() else names_in(path) if path.is_dir() else []
        if any(name.lower().endswith(ending) for name in names):
            return path
    problem = f"no {what} in {' or '.join(paths.split())}"
    raise DataError(problem, file=roots[0], advice=f"Put {source} there, packed or not")


def read_id_list(file: Traversable) -> list[str]:
    """Return the image ids of a curated list, one per line, in its order.

    Raises DataError for a line that is no id, and for an id that occurs twice.
    """
    ids = read_bytes(file, 2**26).decode("utf-8-sig", errors="replace").split()
    for image_id, count in Counter(ids).items():
        if count > 1 or not re.fullmatch("[0-9]+", image_id):
            problem = "occurs twice" if count > 1 else "is not a COCO image id"
            advice = "Use IIC's list as published"
            raise DataError(f"{image_id[:40]!r} {problem}", file=file, advice=advice)
    return ids


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

    The images are those of IIC's lists, train2017 then val2017, in list order: 51,804 for 15
    classes, 36,660 for 3 (both splits are trained and evaluated on, as IIC does). Pictures are RGB;
    IIC's BGR changes only its grey weights before Sobel. scale: of image and labels, see
    ``rescale_iic``. unlabelled: what pixels become that nobody annotated. "ignore" leaves them out.
    "sky", for 3 classes, repeats IIC's code: its remapping starts from zeros, so they count as sky.

    Raises DataError for a missing folder or list, a broken list or archive, and, unless
    ``on_bad_input`` is "skip", for a broken or missing picture or map, an id in both lists.
    """
    if unlabelled == "sky" and variant != "stuff3":
        raise ValueError("unlabelled may be 'sky' with variant 'stuff3' alone")
    table = stuff_lookup(variant)
    roots = places(raw, ARCHIVES)
    lists = {split: find(roots, "id list", split, LISTS[variant]) for split in SPLITS}
    items = [(split, image_id) for split in SPLITS for image_id in read_id_list(lists[split])]
    splits = dict.fromkeys(split for split, _ in items)
    images = {split: find(roots, "pictures", split) for split in splits}
    maps = {split: find(roots, "label maps", split) for split in splits}
    notes = []
    if not IIC_LISTS.issuperset(map(sha256_of, lists.values())):
        problem = "The id lists are not IIC's published ones"
        notes = [f"{problem}: scores are not comparable to the paper's."]
    if unlabelled == "sky":
        table[IGNORE] = CLASSES["stuff3"].index("sky")
        notes += ["Unlabelled pixels count as sky, as in IIC's code for 3 classes."]

    def prepare(item: tuple[str, str]) -> list[Sample]:
        split, image_id = item
        image = read_picture(images[split] / f"{image_id}.jpg", upright=False)
        file = maps[split] / f"{image_id}.png"
        fine = read_labels(file)
        check_size(fine, image.shape[:2], file)
        check_classes(fine, len(FINE_NAMES), file)
        labels = table[rescale_labels(fine, scale)]
        return [Sample(image_id, rescale_iic(image, scale), labels, split)]

    ingest(
        raw, out, items, prepare, channels=3, classes=CLASSES[variant], notes=notes,
        parameters={
            "protocol": "coco-stuff", "variant": variant, "scale": scale, "unlabelled": unlabelled
        },
        sources={f"curated/{split}/{file.name}": file for split, file in lists.items()},
        **options,
    )  # fmt: skip


# ---- people in instance annotations --------------------------------------------------------------

#: Pixels along a side that an image may claim; COCO's have 640 at most.
MAX_SIDE = 8192
#: Pixels by which a COCO polygon may leave its image; annotators' mice do.
OVERHANG = 2.0


@dataclass(slots=True)
class Photo:
    """One image of an instances file, with its annotations of people as the file has them.

    file_name: a name without folders. problem: what is wrong with the image's own entry.
    """

    split: str
    id: int
    file_name: str = ""
    height: int = 0
    width: int = 0
    problem: str = ""
    people: list[dict[str, Any]] = field(default_factory=list)


def read_photos(file: Traversable, split: str) -> list[Photo]:
    """Return the images that have person annotations, by image id.

    instances_train2017.json takes 3 GB of memory while it is read. Raises DataError for a file that
    cannot be read to its end, is no instances file, or has no category named person.
    """
    content, photos = read_bytes(file, 2**32), {}
    try:
        tree = json.loads(content)
        person = {c["id"] for c in tree["categories"] if c["name"] == "person"}
        if not person:
            raise ValueError("no category named person")
        for image in tree["images"]:
            # Never a path: an annotation file does not lead out of the pictures' folder.
            name = PurePosixPath(image["file_name"].replace("\\", "/")).name
            photo = Photo(split, image["id"], name, image["height"], image["width"])
            if name in ("", "..") or not name.isprintable():
                raise ValueError(f"image {photo.id} has the file name {image['file_name']!r}")
            if not all(type(n) is int and 0 < n <= MAX_SIDE for n in (photo.height, photo.width)):
                photo.problem = f"says that {name} has {photo.width} x {photo.height} pixels"
                photo.height = photo.width = 0  # whatever it was, it is no number of pixels
            if photos.setdefault(photo.id, photo) != photo:
                photos[photo.id].problem = f"lists image {photo.id} twice, and not in the same way"
        for annotation in tree["annotations"]:
            if annotation["category_id"] in person:
                image_id = annotation["image_id"]
                problem = f"annotates image {image_id}, which it does not list"
                photo = photos.setdefault(image_id, Photo(split, image_id, problem=problem))
                photo.people.append(annotation)
        return sorted((p for p in photos.values() if p.people), key=lambda photo: photo.id)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"is not a COCO instances file ({type(error).__name__}: {error})"
        raise DataError(problem, file=file, advice="Download it again") from None


def person_masks(photo: Photo, file: Traversable) -> tuple[np.ndarray, np.ndarray]:
    """Return two (height, width) bool masks: separate persons, and crowds.

    Raises DataError naming the annotation file for a photo's problem, or a malformed annotation.
    """
    if photo.problem:
        raise DataError(photo.problem, file=file, advice="Download it again")
    masks = np.zeros((2, photo.height, photo.width), bool)
    for annotation in photo.people:
        try:
            mask = mask_of(annotation.get("segmentation"), photo.height, photo.width)
        except DataError as error:
            raise DataError(
                f"annotation {annotation.get('id')} of {photo.file_name}: {error.problem}",
                file=file,
                advice="Correct the annotation, or leave the image out with on_bad_input=skip",
            ) from None
        masks[1 if annotation.get("iscrowd") else 0] |= mask
    return masks[0], masks[1]


def mask_of(segmentation: object, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool mask of one annotation's ``segmentation``, by pycocotools.

    A list holds polygons, whose union counts; a dictionary holds a run-length encoding with
    ``counts`` as a list (crowds in COCO's files) or a compressed string. Raises DataError, without
    a file, for what pycocotools does not check: whether it is well-formed and fits the image.
    """
    match segmentation:
        case [_, *_]:
            polygons = [_corners(points, height, width) for points in segmentation]
            code = cocomask.merge(cocomask.frPyObjects(polygons, height, width))
        case {"counts": counts, "size": size}:
            runs = decode_counts(counts) if isinstance(counts, str) else counts
            whole = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
            if size != [height, width] or not whole or sum(runs) != height * width:
                raise DataError(f"run lengths do not add up to its {width} x {height} pixels")
            code = cocomask.frPyObjects({"counts": runs, "size": size}, height, width)
        case _:
            raise DataError("segmentation is neither polygons nor a run-length encoding")
    return cocomask.decode(code).astype(bool)


def _corners(points: object, height: int, width: int) -> list[float]:
    """Return a polygon [x0, y0, x1, y1, ...] in pixels; DataError unless it fits the image."""
    try:
        corners = np.asarray(points, float).reshape(-1, 2)
    except (ValueError, TypeError, OverflowError):
        corners = np.empty((0, 2))
    if len(corners) < 3:
        raise DataError("polygon is not a flat list of three or more x, y pairs")
    inside = (corners >= -OVERHANG) & (corners <= (width + OVERHANG, height + OVERHANG))
    if not inside.all():  # NaN is not
        raise DataError(f"polygon leaves its image of {width} x {height} pixels, or has NaN")
    return corners.ravel().tolist()


def decode_counts(text: str) -> list[int]:
    """Decode COCO's compressed run lengths (pycocotools' string form).

    Each number is a chain of characters; ord - 48 holds five bits, least significant first, and
    0x20 announces another. The last one's 0x10 is the sign. From the fourth number on, the
    difference to the number two places before is stored. Raises DataError for other characters,
    numbers of over 32 bits and cut strings.
    """
    if not re.fullmatch("([P-o]{0,6}[0-O])*", text):
        raise DataError("compressed run lengths are cut, or have a character that is no code")
    counts: list[int] = []
    for number in re.findall("[P-o]*[0-O]", text):
        codes = [ord(character) - 48 for character in number]
        value = sum((code & 0x1F) << 5 * place for place, code in enumerate(codes))
        if codes[-1] & 0x10:
            value -= 1 << 5 * len(codes)
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


# ---- COCO-Persons --------------------------------------------------------------------------------

#: Images of COCO-Persons (paper, 5.1).
PAPER_IMAGES = 15_399
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

    A *reconstruction*: the paper's 15,399 images of 128 x 128 px and its rule were not published.
    An image is taken if it shows a person, min_person_share <= person pixels / all pixels <=
    max_person_share, and its shorter side has ``min_side`` pixels, all before rescaling. Order:
    ``splits``, then image id.

    shorter_side: bring the shorter side down to so many pixels. images: how many to aim at, by
    raising ``min_person_share`` to the nearest multiple of 0.0001; the parameters (``chosen``) say
    which. crowd: what a region becomes that COCO did not separate into persons. "ignore" makes it
    255 except where a separate person is drawn over it, "person" counts it as person, "exclude"
    leaves out images that have one.

    Raises DataError for a missing or broken annotation file or folder, and, unless ``on_bad_input``
    is "skip", for a broken or missing picture, one of another size, an annotation as in
    ``mask_of``, and an image in two splits.
    """
    roots = places(raw, (_JSON, *(f"{split}.zip" for split in splits)))
    files = {split: find(roots, "annotations", split) for split in splits}
    folders = {split: find(roots, "pictures", split) for split in splits}
    parameters = {
        "protocol": "coco-persons", "shorter_side": shorter_side,
        "min_person_share": min_person_share, "max_person_share": max_person_share,
        "min_side": min_side, "crowd": crowd, "splits": list(splits),
    }  # fmt: skip
    notes = [
        "A reconstruction: the paper's COCO-Persons was not published, "
        "and the rule that selected its 15,399 images is unknown."
    ]
    table = scan_coco_persons(raw, splits, **options)
    shares = shares_kept(table, min_side, crowd, splits, max_person_share)
    minimum = min_person_share
    if images is not None:
        minimum, kept = nearest_share(shares, images, at_least=min_person_share)
        parameters |= {"images": images, "chosen": {"min_person_share": minimum, "images": kept}}
        notes.append(
            f"min_person_share {minimum:g} was chosen because {kept:,} images then satisfy the "
            f"rule; {images:,} were aimed at."
        )
    # Broken ones stay, to be reported.
    chosen = table.index.isin(shares.index[shares >= minimum]) | table["person_share"].isna()

    def prepare(photo: Photo) -> list[Sample]:
        people, crowds = person_masks(photo, files[photo.split])
        file = folders[photo.split] / photo.file_name
        image = read_picture(file, upright=False)
        check_size(image, people.shape, file)
        labels = np.zeros(people.shape, np.uint8)
        labels[crowds] = 1 if crowd == "person" else IGNORE
        labels[people] = 1
        scale = min(1.0, shorter_side / min(people.shape)) if shorter_side else 1.0
        small = rescale_iic(image, scale), rescale_labels(labels, scale)
        return [Sample(PurePosixPath(photo.file_name).stem, *small, photo.split)]

    ingest(
        raw, out, table["photo"][chosen].tolist(), prepare, channels=3,
        classes=("non-person", "person"), parameters=parameters, notes=notes,
        sources={f"annotations/{file.name}": file for file in files.values()}, **options,
    )  # fmt: skip


def scan_coco_persons(
    raw: RawFolders, splits: Sequence[str] = SPLITS, **options: Unpack[Options]
) -> pd.DataFrame:
    """Measure every image that has a person annotation, without opening a picture.

    One row per image: split, id, height, width in pixels, and the shares of all pixels, in 0..1,
    that show a separate person (person_share), a crowd (crowd_share; the two may overlap) or
    either of them (either_share); and its ``Photo``. Raises DataError as ``prepare_coco_persons``
    does for annotations; with ``on_bad_input`` "skip", broken ones are logged and have no shares.
    """
    roots, rows = places(raw, (_JSON,)), []
    files = {split: find(roots, "annotations", split) for split in splits}
    photos = [photo for split in splits for photo in read_photos(files[split], split)]
    silent = not options.get("progress")
    for photo in tqdm(photos, desc="measuring people", mininterval=1.0, disable=silent):
        try:
            people, crowds = person_masks(photo, files[photo.split])
            shares = [mask.mean() for mask in (people, crowds, people | crowds)]
        except DataError as error:
            if options.get("on_bad_input") != "skip":
                raise
            log.warning("not measured: %s", error)
            shares = [np.nan] * 3
        rows.append((photo.split, photo.id, photo.height, photo.width, *shares, photo))
    columns = "split id height width person_share crowd_share either_share photo"
    return pd.DataFrame(rows, columns=columns.split())


def shares_kept(
    table: pd.DataFrame,
    min_side: int = 0,
    crowd: Crowd = "ignore",
    splits: Sequence[str] = SPLITS,
    max_person_share: float = 1.0,
) -> pd.Series:
    """Return the shares, ascending, of the images that a rule keeps if its threshold is 0.

    table: of ``scan_coco_persons``; the shares have the index of its rows.
    """
    share = table["either_share" if crowd == "person" else "person_share"]
    kept = (share > 0) & (share <= max_person_share) & table["split"].isin(splits)
    kept &= np.minimum(table["height"], table["width"]) >= min_side
    if crowd == "exclude":
        kept &= table["crowd_share"] == 0
    return share[kept].sort_values()


def nearest_share(
    shares: Sequence[float], target: int, *, at_least: float = 0.0, decimals: int = 4
) -> tuple[float, int]:
    """Return the threshold that keeps the number of images nearest to ``target``, and that number.

    shares: of ``shares_kept``. Thresholds are ``at_least`` and the larger multiples of
    10 ** -decimals. Of several as near, the one with the fewest decimals, then the smallest.
    """
    multiples = np.arange(10**decimals + 1) / 10**decimals
    thresholds = np.array([at_least, *multiples[multiples > at_least]])
    kept = len(shares) - np.searchsorted(shares, thresholds)
    digits = [0, *(len(f"{threshold:g}") for threshold in thresholds[1:])]
    best = np.lexsort((thresholds, digits, np.abs(kept - target)))[0]
    return float(thresholds[best]), int(kept[best])
