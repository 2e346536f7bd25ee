"""The demo profile's data: seeded procedural scenes in the raw layouts of COCO and Potsdam.

The preparation code reads these folders exactly as it reads the official downloads. Classes
differ by texture and shape while colours vary freely, so clustering pixel colours does not solve
them. Every picture has its own seed made of (seed, kind, number): the same parameters give the
same bytes, and higher counts leave the earlier pictures as they were.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from tqdm import tqdm

from infoseg.data import scene_aerial, scene_figures, scene_views
from infoseg.data.abandoned import hold, remove_abandoned
from infoseg.data.coco import IGNORE, stuff3_lookup, stuff15_lookup
from infoseg.data.scene_annotations import annotation
from infoseg.files import make_folder, storing

GENERATOR, VERSION = "infoseg.data.scenes", 1
MARK = "SCENES.json"  # tells a folder written here from one that must not be replaced
JPEG_QUALITY = 92
STUFF_ID, PERSON_ID = 1, 500001  # image ids of the first stuff and the first person picture
STUFF, PERSON, LABELLED, UNLABELLED = range(1, 5)  # kinds of pictures, part of their seeds
PERSON_STRIDE = 5  # person pictures walk through the views in steps of this, stuff ones in ones
FULL_SHARE = 0.75  # of a picture must be stuff to stand in the 15-class list
FEW_SHARE, FEW_EACH = 0.5, 0.05  # sky, plant and ground together; at least two must have FEW_EACH
FULL_LIST, FEW_LIST = "Coco164kFull_Stuff_Coarse_7.txt", "Coco164kFew_Stuff_6.txt"

LABELLED_TILES = tuple(f"{r}_{c}" for c in (10, 11, 12) for r in range(2, 8)) + tuple(
    f"{r}_{c}" for c in (7, 8, 9) for r in (6, 7)
)
UNLABELLED_TILES = (
    "2_13",
    "2_14",
    "3_13",
    "3_14",
    "4_13",
    "4_14",
    "4_15",
    "5_13",
    "5_14",
    "5_15",
    "6_13",
    "6_14",
    "6_15",
    "7_13",
)
# Colours of road, building, low vegetation, tree, car, clutter.
POTSDAM_COLOURS = np.array(
    [[255, 255, 255], [0, 0, 255], [0, 255, 255], [0, 255, 0], [255, 255, 0], [255, 0, 0]],
    np.uint8,
)


@dataclass(frozen=True)
class CocoScenes:
    """How many COCO-like pictures to write and how large.

    val_share: share of both kinds that goes to val2017. long_side, short_side: pixels of a
    typical picture; at the default sizes no side is below 200. ValueError on impossible values.
    """

    seed: int = 0
    stuff_images: int = 480
    person_images: int = 320
    val_share: float = 0.1
    long_side: int = 320
    short_side: int = 240

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed must not be negative")
        _require(min(self.stuff_images, self.person_images) >= 0, "counts must not be negative")
        _require(max(self.stuff_images, self.person_images) < PERSON_ID, "too many images")
        _require(0 <= self.val_share < 1, "val_share must lie in [0, 1)")
        _require(64 <= self.short_side <= self.long_side, "need 64 <= short_side <= long_side")


@dataclass(frozen=True)
class PotsdamScenes:
    """How many Potsdam-like tiles to write.

    tiles: labelled ones, at most 24; unlabelled: at most 14 (the real names are used). tile_size:
    side in pixels, at least 256 so that a road and a house fit. ValueError on impossible values.
    """

    seed: int = 0
    tiles: int = 6
    unlabelled: int = 2
    tile_size: int = 960

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed must not be negative")
        _require(0 <= self.tiles <= len(LABELLED_TILES), f"tiles: 0-{len(LABELLED_TILES)}")
        _require(
            0 <= self.unlabelled <= len(UNLABELLED_TILES), f"unlabelled: 0-{len(UNLABELLED_TILES)}"
        )
        _require(self.tile_size >= 256, "tile_size must be at least 256")


def write_coco(root: Path, scenes: CocoScenes, progress: bool = False) -> None:
    """Write `images/`, `stuffthingmaps/`, `annotations/` and `curated/` under root.

    root: replaced if this generator wrote it, created if absent or empty; anything else raises
    FileExistsError. Nothing stands under that name before all of it is written.
    """
    _publish(Path(root), "coco", scenes, lambda folder: _coco(folder, scenes, progress))


def write_potsdam(root: Path, scenes: PotsdamScenes, progress: bool = False) -> None:
    """Write `4_Ortho_RGBIR/` and `5_Labels_for_participants/` under root.

    root: as in `write_coco`.
    """
    _publish(Path(root), "potsdam", scenes, lambda folder: _potsdam(folder, scenes, progress))


# --- COCO --------------------------------------------------------------------------------------


def _coco(folder: Path, scenes: CocoScenes, progress: bool) -> None:
    splits = ("train2017", "val2017")
    lists = {(split, name): [] for split in splits for name in (FULL_LIST, FEW_LIST)}
    images = {split: [] for split in splits}
    people = {split: [] for split in splits}
    for split in splits:
        (folder / "images" / split).mkdir(parents=True)
        (folder / "stuffthingmaps" / split).mkdir(parents=True)
        (folder / "curated" / split).mkdir(parents=True)
    jobs = [(STUFF, k) for k in range(scenes.stuff_images)]
    jobs += [(PERSON, k) for k in range(scenes.person_images)]
    for kind, number in _bar(jobs, "COCO scenes", progress):
        image_id = number + (STUFF_ID if kind == STUFF else PERSON_ID)
        split = splits[_is_validation(number, scenes.val_share)]
        rgb, labels, figures, crowd = _coco_picture(scenes, kind, number)
        _save(folder, split, image_id, rgb, labels)
        images[split].append(
            {
                "id": image_id,
                "file_name": f"{image_id:012d}.jpg",
                "height": rgb.shape[0],
                "width": rgb.shape[1],
            }
        )
        for i, mask in enumerate([*figures, *([] if crowd is None else [crowd])]):
            entry = annotation(image_id * 10 + i, image_id, mask, i == len(figures))
            if entry is not None:
                people[split].append(entry)
        if kind == STUFF:
            full, few = qualifies(labels)
            lists[split, FULL_LIST] += [image_id] * full
            lists[split, FEW_LIST] += [image_id] * few
    for (split, name), ids in lists.items():
        text = "".join(f"{i:012d}\n" for i in ids)
        (folder / "curated" / split / name).write_text(text)
    (folder / "annotations").mkdir()
    for split in splits:
        content = {
            "info": {"description": "procedural scenes in the layout of COCO 2017", "year": 2017},
            "licenses": [],
            "images": images[split],
            "annotations": people[split],
            "categories": [{"supercategory": "person", "id": 1, "name": "person"}],
        }
        path = folder / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content, separators=(",", ":")))


def _coco_picture(scenes: CocoScenes, kind: int, number: int):
    """RGB, fine labels, the visible mask of every figure, and the crowd's or None."""
    rng = _generator(scenes.seed, kind, number)
    h, w = _size(rng, scenes)
    if kind == STUFF:
        canvas = scene_views.compose(rng, number, h, w)
        return canvas.finish(), canvas.label, [], None
    canvas = scene_views.compose(rng, PERSON_STRIDE * number, h, w)
    figures, crowd = scene_figures.populate(canvas, number)
    return canvas.finish(), canvas.label, figures, crowd


def _size(rng: np.random.Generator, scenes: CocoScenes) -> tuple[int, int]:
    """Height and width: mostly landscape, some portrait, some nearly square."""
    form = rng.random()
    short = scenes.short_side * rng.uniform(0.9, 1.08)
    long = max(short, scenes.long_side * rng.uniform(0.94, 1.05))
    if form < 0.2:
        return round(long), round(short)
    if form < 0.4:
        return round(short), round(short + rng.uniform(0, 0.4) * (long - short))
    return round(short), round(long)


def qualifies(labels: np.ndarray) -> tuple[bool, bool]:
    """Whether a fine label map belongs in the 15-class and in the 3-class curated list."""
    full = np.mean(stuff15_lookup()[labels] != IGNORE) >= FULL_SHARE
    shares = np.bincount(stuff3_lookup()[labels].ravel(), minlength=256)[:3] / labels.size
    few = shares.sum() >= FEW_SHARE and np.sum(shares >= FEW_EACH) >= 2
    return bool(full), bool(few)


def _save(folder: Path, split: str, image_id: int, rgb: np.ndarray, labels: np.ndarray) -> None:
    Image.fromarray(rgb).save(
        folder / "images" / split / f"{image_id:012d}.jpg", quality=JPEG_QUALITY
    )
    Image.fromarray(labels).save(folder / "stuffthingmaps" / split / f"{image_id:012d}.png")


def _is_validation(number: int, share: float) -> bool:
    """Spread validation evenly over the numbers, whatever the count."""
    return int((number + 1) * share + 1e-9) > int(number * share + 1e-9)


# --- Potsdam -----------------------------------------------------------------------------------


def _potsdam(folder: Path, scenes: PotsdamScenes, progress: bool) -> None:
    ortho, marked = folder / "4_Ortho_RGBIR", folder / "5_Labels_for_participants"
    ortho.mkdir()
    marked.mkdir()
    jobs = [(LABELLED, k) for k in range(scenes.tiles)]
    jobs += [(UNLABELLED, k) for k in range(scenes.unlabelled)]
    for kind, number in _bar(jobs, "Potsdam scenes", progress):
        bands, classes = scene_aerial.render(
            _generator(scenes.seed, kind, number), scenes.tile_size
        )
        name = (LABELLED_TILES if kind == LABELLED else UNLABELLED_TILES)[number]
        tifffile.imwrite(
            ortho / f"top_potsdam_{name}_RGBIR.tif",
            bands,
            photometric="rgb",
            planarconfig="contig",
            extrasamples=["unspecified"],
            metadata=None,
        )
        if kind == LABELLED:
            tifffile.imwrite(
                marked / f"top_potsdam_{name}_label.tif",
                POTSDAM_COLOURS[classes],
                photometric="rgb",
                metadata=None,
            )


# --- folders -----------------------------------------------------------------------------------


def _publish(root: Path, layout: str, scenes, write: Callable[[Path], None]) -> None:
    """Let `write` fill a sibling of root, then put it in root's place."""
    _check_replaceable(root)
    make_folder(root.parent)
    fresh = root.with_name(f".{root.name}.writing-{os.getpid()}")
    old = root.with_name(f".{root.name}.old-{os.getpid()}")
    remove_abandoned(root, "writing")
    if root.exists():  # else it may be all there is of it
        remove_abandoned(root, "old")
    lock = None
    try:
        with storing(root):
            fresh.mkdir()
            lock = hold(fresh)
            write(fresh)
            record = {
                "generator": GENERATOR,
                "version": VERSION,
                "layout": layout,
                "parameters": asdict(scenes),
            }
            (fresh / MARK).write_text(json.dumps(record, indent=2) + "\n")
            _check_replaceable(root)  # somebody may have put something there meanwhile
            if root.exists():
                root.rename(old)
            fresh.rename(root)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not root.exists():
            old.rename(root)
        raise
    finally:
        if lock is not None:
            os.close(lock)
    shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(root: Path) -> None:
    if root.is_symlink() or (root.exists() and not root.is_dir()):
        raise FileExistsError(f"{root} is no folder; scenes are written into a folder of their own")
    if not root.exists() or not any(root.iterdir()):
        return
    try:
        ours = json.loads((root / MARK).read_text())["generator"] == GENERATOR
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise FileExistsError(f"{root} was not written by {GENERATOR} and is left alone")


def _generator(seed: int, kind: int, number: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, kind, number]))


def _bar(jobs: list[tuple[int, int]], what: str, progress: bool) -> tqdm:
    lively = sys.stderr.isatty()  # a line now and then in logs and notebooks
    return tqdm(jobs, what, unit="scene", disable=not progress, mininterval=0.3 if lively else 10)


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)
