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
import math
import re
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pycocotools import mask as cocomask
from tqdm import tqdm

from infoseg.data.archives import names_in, naming, places, read_bytes
from infoseg.data.ingest import Sample, ingest, log
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
from infoseg.settings import CocoPersonsParams, CocoStuffParams

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
        if path.is_file() or (path.is_dir() and any(n.endswith(ending) for n in names_in(path))):
            return path
    problem = f"no {what} in {' or '.join(paths.split())}"
    raise DataError(problem, file=roots[0], advice=f"Put {source} there, packed or not")


def read_id_list(file: Traversable) -> list[str]:
    """Return the image ids of a curated list, one per line, in its order; DataError for others."""
    ids = read_bytes(file, 2**26).decode("utf-8-sig", errors="replace").split()
    if odd := [image_id for image_id in ids if not re.fullmatch("[0-9]+", image_id)]:
        problem = f"{odd[0][:40]!r} is not a COCO image id"
        raise DataError(problem, file=file, advice="Use IIC's list as published")
    return ids


# ---- COCO-Stuff ----------------------------------------------------------------------------------


def prepare_coco_stuff(
    raw: Sequence[Path], out: Path, settings: CocoStuffParams, **options: Any
) -> None:
    """Prepare COCO-Stuff-15 or COCO-Stuff-3 into the directory ``out``.

    The images are those of IIC's lists, train2017 then val2017, in list order: 51,804 for 15
    classes, 36,660 for 3 (both splits are trained and evaluated on, as IIC does). Pictures are RGB;
    IIC's BGR changes only its grey weights before Sobel. ``unlabelled`` "sky", for 3 classes,
    repeats IIC's code: its remapping starts from zeros, so pixels that nobody annotated are sky.

    Raises DataError for a missing folder or list, a broken list or archive, and, unless
    ``on_bad_input`` is "skip", for a broken or missing picture or map, an id in both lists.
    """
    variant, scale, sky = settings.variant, settings.scale, settings.unlabelled == "sky"
    if sky and variant != "stuff3":
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
    if sky:
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
        raw, out, settings, items, prepare, channels=3, classes=CLASSES[variant], notes=notes,
        protocol="coco-stuff", decides=("variant", "scale", "unlabelled"),
        sources={f"curated/{split}/{file.name}": file for split, file in lists.items()},
        **options,
    )  # fmt: skip


# ---- people in instance annotations --------------------------------------------------------------

#: Pixels along a side that an image may claim; COCO's have 640 at most.
MAX_SIDE = 8192
#: Pixels by which a COCO polygon may leave its image; annotators' mice do.
OVERHANG = 2.0


def read_photos(file: Traversable, split: str) -> pd.DataFrame:
    """Return the images that have person annotations, by image id; people: their annotations.

    instances_train2017.json takes 3 GB of memory while it is read. Raises DataError for a file that
    cannot be read to its end, or is no instances file.
    """
    content, photos = read_bytes(file, 2**32), {}
    with naming(file, "is not a COCO instances file", "Download it again"):
        tree = json.loads(content)
        people = {c["id"] for c in tree["categories"] if c["name"] == "person"}
        if not people:
            raise ValueError("no category named person")
        images: dict[int, dict[str, Any]] = {}
        for image in tree["images"]:
            if images.setdefault(image["id"], image) != image:
                raise ValueError(f"it lists image {image['id']} twice, and not in the same way")
        for annotation in tree["annotations"]:
            if annotation["category_id"] in people:
                if (number := annotation["image_id"]) not in images:
                    raise ValueError(f"it annotates image {number}, which it does not list")
                image = images[number]
                size = image["height"], image["width"]
                if not all(type(side) is int and 0 < side <= MAX_SIDE for side in size):
                    raise ValueError(f"image {image['id']} has {size[1]} x {size[0]} pixels")
                # Never a path: an annotation file does not lead out of the pictures' folder.
                name = PurePosixPath(image["file_name"].replace("\\", "/")).name
                photo = photos.setdefault(image["id"], (split, image["id"], name, *size, []))
                photo[-1].append(annotation)
        columns = ["split", "id", "file_name", "height", "width", "people"]
        return pd.DataFrame(photos.values(), columns=columns).sort_values("id")


def person_masks(photo: Any, file: Traversable) -> np.ndarray:
    """Return (2, height, width) bool masks of a row of ``read_photos``: persons, and crowds.

    Raises DataError naming the annotation file for a malformed annotation.
    """
    masks = np.zeros((2, photo.height, photo.width), bool)
    for annotation in photo.people:
        problem = f"annotation {annotation.get('id')} of {photo.file_name} is malformed"
        advice = "Correct the annotation, or leave the image out with on_bad_input=skip"
        with naming(file, problem, advice):
            mask = mask_of(annotation.get("segmentation"), photo.height, photo.width)
            masks[1 if annotation.get("iscrowd") else 0] |= mask
    return masks


def mask_of(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return the (height, width) bool mask of one annotation's ``segmentation``.

    A list holds polygons, whose union counts; pycocotools draws them, which does not check whether
    they are well-formed and fit the image. A dictionary holds the lengths of runs down the columns,
    as crowds in COCO's files. Raises ValueError or TypeError for anything else.
    """
    if isinstance(segmentation, dict):
        runs = segmentation["counts"]
        if segmentation["size"] != [height, width] or sum(runs) != height * width:
            raise ValueError(f"run lengths do not add up to its {width} x {height} pixels")
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    if not segmentation or not isinstance(segmentation[0], list):
        raise ValueError("neither polygons nor run lengths")
    polygons = [np.asarray(points, float).reshape(-1, 2) for points in segmentation]
    for corners in polygons:
        inside = (corners >= -OVERHANG) & (corners <= (width + OVERHANG, height + OVERHANG))
        if len(corners) < 3 or not inside.all():  # NaN is not
            raise ValueError(f"a polygon has two corners, or leaves its {width} x {height} pixels")
    code = cocomask.frPyObjects([c.ravel().tolist() for c in polygons], height, width)
    return cocomask.decode(cocomask.merge(code)).astype(bool)


# ---- COCO-Persons --------------------------------------------------------------------------------

#: Images of COCO-Persons (paper, 5.1).
PAPER_IMAGES = 15_399
Crowd = Literal["ignore", "person", "exclude"]
CROWDS: tuple[Crowd, ...] = ("ignore", "person", "exclude")
SHARES = ("person_share", "crowd_share", "either_share")


def prepare_coco_persons(
    raw: Sequence[Path],
    out: Path,
    settings: CocoPersonsParams,
    *,
    splits: Sequence[str] = SPLITS,
    **options: Any,
) -> None:
    """Prepare a person / non-person data set (labels 1 / 0) from COCO's instance annotations.

    A *reconstruction*: the paper's 15,399 images of 128 x 128 px and its rule were not published.
    An image is taken if it shows a person, min_person_share <= person pixels / all pixels <=
    max_person_share, and its shorter side has ``min_side`` pixels, all before rescaling; where
    ``images`` are aimed at, min_person_share rises to the nearest multiple of 0.0001. Order:
    ``splits``, then image id. ``crowd``: a region that COCO did not separate into persons is 255
    except where a separate person is drawn over it ("ignore") or a person ("person"), or its image
    is left out ("exclude").

    Raises DataError for a missing or broken annotation file or folder, and, unless ``on_bad_input``
    is "skip", for a broken or missing picture, one of another size, a malformed annotation, and an
    image in two splits.
    """
    roots = places(raw, (_JSON, *(f"{split}.zip" for split in splits)))
    files = {split: find(roots, "annotations", split) for split in splits}
    folders = {split: find(roots, "pictures", split) for split in splits}
    notes = [
        "A reconstruction: the paper's COCO-Persons was not published, "
        "and the rule that selected its 15,399 images is unknown."
    ]
    table = scan_coco_persons(raw, splits, settings.on_bad_input, options.get("progress", False))
    rule = settings.min_side, settings.crowd, splits, settings.max_person_share
    shares = shares_kept(table, *rule)
    least, chosen = settings.min_person_share, {"splits": list(splits)}
    if (aim := settings.images) is not None:
        least, kept = nearest_share(shares, aim, at_least=least)
        chosen |= {"images": aim, "chosen": {"min_person_share": least, "images": kept}}
        notes.append(
            f"min_person_share {least:g} was chosen because {kept:,} images then satisfy the rule; "
            f"{aim:,} were aimed at."
        )
    # Broken ones stay, to be reported.
    taken = table.index.isin(shares.index[shares >= least]) | table["person_share"].isna()

    def prepare(photo: Any) -> list[Sample]:
        people, crowds = person_masks(photo, files[photo.split])
        file = folders[photo.split] / photo.file_name
        image = read_picture(file, upright=False)
        check_size(image, people.shape, file)
        labels = np.zeros(people.shape, np.uint8)
        labels[crowds] = 1 if settings.crowd == "person" else IGNORE
        labels[people] = 1
        scale = min(1.0, (settings.shorter_side or math.inf) / min(people.shape))
        small = rescale_iic(image, scale), rescale_labels(labels, scale)
        return [Sample(PurePosixPath(photo.file_name).stem, *small, photo.split)]

    ingest(
        raw, out, settings, list(table[taken].itertuples()), prepare, channels=3,
        classes=("non-person", "person"), notes=notes, protocol="coco-persons",
        decides="shorter_side min_person_share max_person_share min_side crowd".split(),
        chosen=chosen, sources={f"annotations/{file.name}": file for file in files.values()},
        **options,
    )  # fmt: skip


def scan_coco_persons(
    raw: Sequence[Path],
    splits: Sequence[str] = SPLITS,
    on_bad_input: Literal["error", "skip"] = "error",
    progress: bool = False,
) -> pd.DataFrame:
    """Measure every image that has a person annotation, without opening a picture.

    The rows of ``read_photos`` with the shares of all pixels, in 0..1, that show a separate person
    (person_share), a crowd (crowd_share; the two may overlap) or either (either_share). Raises
    DataError for a malformed annotation; with ``on_bad_input`` "skip" it is logged, and its image
    has no shares.
    """
    roots = places(raw, (_JSON,))
    files = {split: find(roots, "annotations", split) for split in splits}
    table = pd.concat([read_photos(files[split], split) for split in splits], ignore_index=True)
    shares = np.full((len(table), 3), np.nan)
    for photo in tqdm(table.itertuples(), "measuring people", len(table), disable=not progress):
        try:
            people, crowds = person_masks(photo, files[photo.split])
            shares[photo.Index] = [mask.mean() for mask in (people, crowds, people | crowds)]
        except DataError as error:
            if on_bad_input != "skip":
                raise
            log.warning("not measured: %s", error)
    return table.assign(**dict(zip(SHARES, shares.T, strict=True)))


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
