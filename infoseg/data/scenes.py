"""Seeded scenes in the official raw layouts of COCO and Potsdam, for tests and the tiny profile.

The readers take them as they take the official files, as folders or as zips, so that scenes of any
number rehearse the paper profile. Any three stuff pictures in a row hold all of COCO-Stuff-15. A
picture depends on (seed, kind, number) alone: same seed, same bytes, whatever the count.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from infoseg.data.coco import FINE_NAMES, LISTS, SPLITS, stuff_lookup
from infoseg.data.potsdam import COLOURS, LABELLED_TILES
from infoseg.data.store import IGNORE
from infoseg.files import DataError, storing
from infoseg.settings import CocoScenesSource, PotsdamScenesSource

#: Name of a file that marks a folder as written here, so that it may be replaced.
MARK = "SCENES.json"
#: Image id of the first person picture; the first stuff picture has 1.
PERSON_ID = 500_001
STUFF, PERSON, LABELLED, UNLABELLED = range(1, 5)
UNLABELLED_TILES = "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split()
#: Official archive of every folder, and the folder's name in it. Id lists are published unpacked.
ARCHIVES = {
    "images/train2017": ("train2017.zip", "train2017/"),
    "images/val2017": ("val2017.zip", "val2017/"),
    "annotations": ("annotations_trainval2017.zip", "annotations/"),
    "stuffthingmaps": ("stuffthingmaps_trainval2017.zip", ""),
    "4_Ortho_RGBIR": ("4_Ortho_RGBIR.zip", "4_Ortho_RGBIR/"),
    "5_Labels_for_participants": ("5_Labels_for_participants.zip", "5_Labels_for_participants/"),
}
Rng, Field = np.random.Generator, np.ndarray
FINE = {name: label for label, name in enumerate(FINE_NAMES)}


def write_coco(
    root: Path | str, scenes: CocoScenesSource, *, zipped: bool = False, progress: bool = False
) -> None:
    """Write ``images/``, ``stuffthingmaps/``, ``annotations/`` and ``curated/`` below ``root``.

    root: created, or replaced if it holds scenes, when all is written. zipped: as the official
    zips, not as folders. Raises DataError for
    anybody else's folder, StorageError for a disk that does not take the files.
    """
    lookups = {name: stuff_lookup(variant) for variant, name in LISTS.items()}
    ids = {(split, name): "" for split in SPLITS for name in lookups}
    persons = [{"supercategory": "person", "id": 1, "name": "person"}]
    instances = {s: {"images": [], "annotations": [], "categories": persons} for s in SPLITS}
    jobs = [(STUFF, i, 1 + i) for i in range(scenes.stuff_images)]
    jobs += [(PERSON, i, PERSON_ID + i) for i in range(scenes.person_images)]
    with _replacing(Path(root), scenes, zipped) as folder:
        for kind, i, number in tqdm(jobs, "COCO scenes", disable=not progress, mininterval=1):
            split = SPLITS[((i + 1) * scenes.val_share + 1e-9) % 1 < scenes.val_share]
            canvas, annotations = coco_picture(scenes, kind, i)
            name, (h, w) = f"{number:012d}", canvas.label.shape
            _save(folder / f"images/{split}/{name}.jpg", canvas.finish())
            _save(folder / f"stuffthingmaps/{split}/{name}.png", canvas.label)
            image = {"id": number, "file_name": f"{name}.jpg", "height": h, "width": w}
            instances[split]["images"].append(image)
            for j, annotation in enumerate(annotations):
                annotation |= {"id": 10 * number + j, "image_id": number, "category_id": 1}
                instances[split]["annotations"].append(annotation)
            for listed, lookup in lookups.items():
                if kind == STUFF and np.mean(lookup[canvas.label] != IGNORE) >= 0.5:
                    ids[split, listed] += f"{name}\n"
        for (split, listed), lines in ids.items():
            _save(folder / f"curated/{split}/{listed}", lines)
        for split, content in instances.items():
            (folder / "images" / split).mkdir(parents=True, exist_ok=True)  # both, even if empty
            _save(folder / f"annotations/instances_{split}.json", json.dumps(content))


def write_potsdam(
    root: Path | str, scenes: PotsdamScenesSource, *, zipped: bool = False, progress: bool = False
) -> None:
    """Write ``4_Ortho_RGBIR/`` and ``5_Labels_for_participants/``; otherwise as ``write_coco``."""
    names = [f"{row}_{column}" for row, column in sorted(LABELLED_TILES)]
    jobs = [(LABELLED, i, name) for i, name in enumerate(names[: scenes.tiles])]
    jobs += [(UNLABELLED, i, UNLABELLED_TILES[i]) for i in range(scenes.unlabelled)]
    with _replacing(Path(root), scenes, zipped) as folder:
        for kind, i, name in tqdm(jobs, "Potsdam scenes", disable=not progress, mininterval=1):
            tile = aerial(np.random.default_rng([scenes.seed, kind, i]), scenes.tile_size)
            _save(folder / f"4_Ortho_RGBIR/top_potsdam_{name}_RGBIR.tif", tile.finish())
            if kind == LABELLED:
                file = folder / f"5_Labels_for_participants/top_potsdam_{name}_label.tif"
                _save(file, 255 * np.array(COLOURS, np.uint8)[tile.label])


def _save(file: Path, content: str | np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        file.write_text(content)
    else:  # a fourth band is neither alpha nor premultiplied: RGBX
        mode = "L" if content.ndim == 2 else {3: "RGB", 4: "RGBX"}[content.shape[2]]
        Image.frombytes(mode, content.shape[1::-1], content.tobytes()).save(file, quality=92)


@contextmanager
def _replacing(
    root: Path, scenes: CocoScenesSource | PotsdamScenesSource, zipped: bool
) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``root`` in the end."""
    mine = root.is_dir() and ((root / MARK).is_file() or not any(root.iterdir()))
    if root.is_symlink() or (root.exists() and not mine):
        problem = "was not written by infoseg.data.scenes and is left alone"
        raise DataError(problem, file=root, advice="Move that folder elsewhere")
    with storing(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        for left in root.parent.glob(f".{root.name}.*.tmp"):
            if time.time() - left.stat().st_mtime > 86_400:  # killed: no rendering takes a day
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(".tmp", f".{root.name}.", root.parent) as scratch:
            fresh = Path(scratch) / "fresh"
            parameters = scenes.model_dump(exclude={"kind"}) | {"zipped": zipped}
            _save(fresh / MARK, json.dumps({"parameters": parameters}))
            yield fresh
            for folder, (name, inside) in ARCHIVES.items():
                if zipped and any((fresh / folder).glob("*")):
                    with zipfile.ZipFile(fresh / name, "w") as archive:
                        for file in sorted(filter(Path.is_file, (fresh / folder).rglob("*"))):
                            member = inside + file.relative_to(fresh / folder).as_posix()
                            archive.writestr(zipfile.ZipInfo(member), file.read_bytes())  # of 1980
                    shutil.rmtree(fresh / folder)
            if root.exists():
                root.rename(Path(scratch) / "old")
            fresh.rename(root)


def grain(rng: Rng, y: Field, x: Field, size: float, stretch=1.0, contrast=1.0) -> Field:
    """Return noise at three scales around 0.5; its blobs are ``stretch`` times as wide as high."""
    noise = np.float32(0.5 - contrast / 2)
    for octave in (1, 2, 4):
        at = [np.float32(octave / size) * axis for axis in (x / np.float32(stretch), y)]
        waves = cv2.remap(rng.random((64, 64), np.float32), *at, 1, None, cv2.BORDER_WRAP)
        noise = noise + contrast / 1.75 / octave * waves
    return noise


def bricks(rng: Rng, y: Field, x: Field, high: float, wide: float, bond=0.0, joint=2) -> Field:
    """Return bricks, tiles, boards or panes of random shades; bond: shift of odd rows."""
    row, column = np.floor(y / high), x / wide + bond * (np.floor(y / high) % 2)
    shade = rng.random((64, 64), np.float32)[row.astype(int) % 64, column.astype(int) % 64]
    return np.where((y % high < joint) | (column % 1 * wide < joint), 0, 0.45 + 0.55 * shade)


#: Dark and light colour, and a pattern in units of 1/240 of a picture's height.
MATERIALS: dict[str, tuple[Any, ...]] = {
    "sky-other": ((95, 150, 215), (240, 246, 252), grain, 80, 2, 2.5),
    "mountain": ((60, 70, 95), (170, 175, 190), grain, 40),
    "grass": ((40, 85, 20), (140, 180, 70), grain, 7, 0.5),
    "sand": ((190, 165, 115), (240, 220, 175), grain, 16, 2),
    "road": ((62, 62, 66), (120, 120, 124), grain, 5),
    "sea": ((15, 60, 105), (150, 195, 215), grain, 14, 6, 2),
    "ceiling-tile": ((175, 172, 165), (250, 248, 240), bricks, 50, 50),
    "wall-brick": ((205, 195, 180), (150, 70, 50), bricks, 9, 22, 0.5),
    "floor-wood": ((70, 40, 20), (190, 130, 75), bricks, 60, 11, 0.5),
    "window-other": ((240, 240, 235), (150, 195, 225), bricks, 38, 26, 0, 5),
    "curtain": ((120, 35, 45), (215, 110, 100), grain, 400, 0.04, 1.5),
    "cabinet": ((40, 24, 10), (150, 100, 55), bricks, 30, 45),
    "cardboard": ((150, 110, 65), (200, 160, 105), grain, 6, 12),
}


class Canvas:
    """Pixels in 0..255 and labels, painted from back to front; x and y count ``scale`` pixels."""

    def __init__(self, rng: np.random.Generator, h: int, w: int, channels: int, scale: int) -> None:
        self.rng, self.scale, self.wide = rng, scale, w / scale
        self.pixels = np.zeros((h, w, channels), np.float32)
        self.label = np.full((h, w), IGNORE, np.uint8)
        self.y, self.x = np.mgrid[:h, :w].astype(np.float32) / np.float32(scale)

    def paint(self, name: str, mask: np.ndarray, horizon: float | None = None) -> None:
        """Cover a mask with a material, upright or as a plane that reaches its horizon."""
        y, x = 240 * self.y, 240 * self.x
        if horizon is not None:
            depth = 0.5 / np.maximum(abs(self.y - horizon), 0.025)
            y, x = 120 * depth, (x - 120 * self.wide) * depth
        dark, light, pattern, *sizes = MATERIALS[name]
        field = pattern(self.rng, y, x, *sizes)[mask, None].clip(0, 1)
        colours = dark + field * np.subtract(light, dark)
        self.pixels[mask] = colours * self.rng.uniform(0.8, 1.2, 3)
        self.label[mask] = FINE[name]

    def shape(self, label: int, points: Any, colour: Any) -> None:
        """Fill a polygon of corners (x, y)."""
        corners = np.round((np.asarray(points) * self.scale - 0.5) * 16).astype(np.int32)[None]
        cv2.fillPoly(self.pixels, corners, [float(c) for c in colour], shift=4)
        cv2.fillPoly(self.label, corners, label, shift=4)

    def leaves(self, label: int, x: float, y: float, size: float, colour: Any) -> None:
        """Fill a ragged disc with dabs, lit from the upper left."""
        angle, reach = self.rng.uniform(0, 6.3, 99), np.sqrt(self.rng.random(99))
        u, v = reach * np.cos(angle), reach * np.sin(angle)
        light = 0.85 - 0.25 * (u + v) + self.rng.normal(0, 0.12, 99)
        for i in np.argsort(light):
            at = int((x + size * u[i]) * self.scale), int((y + size * v[i]) * self.scale)
            radius = int(0.2 * size * self.scale) + 1
            cv2.circle(self.pixels, at, radius, [float(c * light[i]) for c in colour], -1)
            cv2.circle(self.label, at, radius, label, -1)

    def finish(self) -> np.ndarray:
        """Return the picture as light, lens and sensor leave it, uint8."""
        light = 0.8 + 0.4 * grain(self.rng, self.y, self.x, self.y[-1, 0] / 2)[..., None]
        pixels = cv2.GaussianBlur(self.pixels * light, None, 0.6)
        return (pixels + self.rng.normal(0, 4, light.shape)).clip(0, 255).astype(np.uint8)


def _box(x: float, y: float, wide: float, high: float) -> np.ndarray:
    return np.array([(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)])


def _outdoors(c: Canvas, lake: bool) -> None:
    """Paint a lake behind a fence, or a street of houses; lengths in picture heights."""
    rng, horizon, middle = c.rng, c.rng.uniform(0.35, 0.55), c.rng.uniform(0.35, 0.65) * c.wide
    ridge = grain(rng, c.y[:1], c.x[:1], 0.25)
    c.paint("sky-other", c.y >= 0)
    c.paint("mountain", c.y > horizon - rng.uniform(0.2, 0.5) * ridge)
    c.paint("sea" if lake else "grass", c.y > horizon, horizon)
    if not lake:
        c.paint("road", abs(c.x - middle) < 0.9 * (c.y - horizon), horizon)
    for near in () if lake else (0.05, 0.2):
        for x in (middle - 2.6 * near - 0.25, middle + 1.4 * near):
            _house(c, x, horizon + near, 0.25 + 1.2 * near)
    for name, shore in (("sand", 0.6), ("grass", 0.7)) if lake else ():
        c.paint(name, c.y > shore + ridge / 8, horizon)
    for near in np.sort(rng.random(3)):
        size, x, foot = 0.06 + 0.15 * near, rng.uniform(0, c.wide), horizon + 0.02 + 0.3 * near
        c.shape(FINE["tree"], _box(x - size / 9, foot - size, size / 4.5, size), (75, 55, 40))
        c.leaves(FINE["tree"], x, foot - 1.8 * size, size, rng.uniform((50, 90, 30), (95, 160, 55)))
    for x in np.arange(0, c.wide, 0.08) if lake else ():
        for bar in (_box(x, 0.8, 0.025, 0.15), _box(x, 0.84, 0.08, 0.02)):
            c.shape(FINE["fence"], bar, (180, 155, 120))


def _house(c: Canvas, x: float, foot: float, wide: float) -> None:
    high = wide * c.rng.uniform(0.5, 0.8)
    wall, roof = np.array([[225, 205, 175], [150, 70, 50]]) * c.rng.uniform(0.65, 1.15, (2, 3))
    gable = [(x + u * wide, foot - high - v * wide) for u, v in ((-0.1, 0), (0.5, 0.5), (1.1, 0))]
    parts = [(_box(x, foot - high, wide, high), wall), (gable, roof)]
    for u in (0.1, 0.4, 0.7):
        parts.append((_box(x + u * wide, foot - 0.8 * high, wide / 5, high / 3), (70, 85, 105)))
    for points, colour in parts:
        c.shape(FINE["house"], points, colour)


def _indoors(c: Canvas) -> None:
    """Paint a room with a window and a chest; lengths in picture heights and widths."""
    top, floor, x = c.rng.uniform((0.08, 0.65, 0.25), (0.2, 0.75, 0.75))
    left, right, height = (c.x / c.wide - x) % 1, (x - c.x / c.wide) % 1, floor - c.y
    c.paint("wall-brick", c.y >= 0)
    c.paint("ceiling-tile", c.y < top, 0.4)
    c.paint("floor-wood", height < 0, 0.4)
    c.paint("window-other", (left < 0.22) & (height > 0.12) & (c.y > top + 0.06))
    c.paint("curtain", ((left < 0.05) | (abs(left - 0.25) < 0.05)) & (height > 0) & (c.y > top))
    c.paint("cabinet", (right < 0.4) & (right > 0.1) & (abs(height) < 0.15))
    c.paint("cardboard", (right < 0.25) & (right > 0.1) & (height > 0.15) & (height < 0.32))
    c.leaves(FINE["fruit"], (x - 0.32) % 1 * c.wide, floor - 0.21, 0.08, (235, 130, 35))


def _persons(c: Canvas, *figures: tuple[float, float, float]) -> dict[str, Any]:
    """Paint persons at (x, foot, height); returns COCO's annotation of a person or a crowd."""
    mask = np.zeros(c.label.shape, np.uint8)
    for x, foot, tall in figures:
        trousers, shirt, hair = c.rng.uniform((30, 60, 10), (150, 240, 90), (3, 3)).T
        skin, step = c.rng.uniform(0.4, 1.05) * np.array([230, 180, 145]), c.rng.uniform(0.02, 0.18)
        limbs = [(0, 0.48, side * step, 0.02, 0.12, trousers) for side in (-1, 1)]
        limbs += [(0.09 * side, 0.75, (0.1 + step) * side, 0.45, 0.07, skin) for side in (-1, 1)]
        limbs += [(0, 0.5, 0, 0.73, 0.2, shirt), (0, 0.92, 0, 0.93, 0.15, hair)]
        for *ends, wide, colour in [*limbs, (0, 0.82, 0, 0.9, 0.11, skin)]:
            ends = (np.array(ends).reshape(2, 2) * (tall, -tall) + (x, foot)) * c.scale
            for image, value in ((c.pixels, colour.tolist()), (mask, 1)):
                cv2.line(image, *ends.astype(int).tolist(), value, int(wide * tall * c.scale) + 1)
    c.label[mask > 0] = FINE["person"]
    outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    segmentation: Any = [(line + 0.5).ravel().tolist() for line in outlines if len(line) > 2]
    if len(figures) > 1:
        runs = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=2)), prepend=0)
        segmentation = {"size": mask.shape, "counts": runs.tolist()}
    facts = {"area": int(mask.sum()), "bbox": cv2.boundingRect(mask)}
    return {"segmentation": segmentation, "iscrowd": int(len(figures) > 1)} | facts


def coco_picture(
    scenes: CocoScenesSource, kind: int, number: int
) -> tuple[Canvas, list[dict[str, Any]]]:
    """Return a picture and COCO's annotations of its persons; every fourth one has a crowd."""
    rng = np.random.default_rng([scenes.seed, kind, number])
    h, w = scenes.short_side, max(scenes.short_side, int(scenes.long_side * rng.uniform(0.9, 1)))
    h, w = (w, h) if rng.random() < 0.2 else (h, w)
    c = Canvas(rng, h, w, 3, h)
    _indoors(c) if number % 3 == 1 else _outdoors(c, lake=number % 3 == 2)
    cv2.circle(c.label, rng.integers(0, h, 2).tolist(), rng.integers(h // 8), IGNORE, -1)  # a gap
    x, sizes = rng.uniform(0.1, 0.9, 9) * c.wide, np.sort(rng.uniform(0.45, 1, rng.integers(1, 4)))
    groups = [[(at, 0.7, 0.28) for at in x]] if number % 4 == 2 else []
    groups += [[(x[i], 0.72 + 0.3 * size, size)] for i, size in enumerate(sizes)]
    return c, [_persons(c, *group) for group in groups if kind == PERSON]


def aerial(rng: np.random.Generator, side: int) -> Canvas:
    """Paint a town from above: RGB and infrared (side, side, 4), classes of ``potsdam.CLASSES``."""
    road, building, low, tree, car, clutter = range(6)
    c, block, angle = Canvas(rng, side, side, 4, 1), 240, rng.uniform(0, 1.5)
    grey, green, red = np.array([[125, 122, 120, 95], [80, 110, 55, 150], [165, 85, 65, 80]])
    c.pixels[:], c.label[:] = grey, road
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.stack(np.mgrid[-side:side:block, -side:side:block], -1).reshape(-1, 2) @ turn
    for corner in corners[abs(corners).max(1) < side / 2 + 1.5 * block] + side / 2:
        shapes = [(road, _box(40, 40, 200, 200), grey * 1.2), (low, _box(46, 46, 188, 188), green)]
        shapes += [(road, _box(x, 19, 12, 2), grey * 1.8) for x in range(50, block, 24)]
        for x in rng.uniform(50, 190, 2):
            shapes.append((car, _box(x, rng.choice((5, 25)), 24, 11), rng.uniform(40, 240, 4)))
        shapes += [(clutter, _box(125, 125, *rng.uniform(20, 45, 2)), rng.uniform(60, 170, 4))]
        for x, y in ((62, 62), (152, 62), (62, 152), (152, 152)):
            (wide, high), roof = rng.uniform(40, 70, 2), red * rng.uniform(0.6, 1.3, 4)
            shapes += [(low, _box(x + 5, y + 5, wide, high), green / 3)]  # shadow
            shapes += [(building, _box(x, y, wide, high / part), roof / part) for part in (1, 1.4)]
        for label, points, colour in shapes:
            c.shape(label, points @ turn + corner, colour)
        for x, y in rng.uniform(60, block, (5, 2)) @ turn + corner:
            c.leaves(tree, x, y, rng.uniform(9, 20), green * (0.75, 0.85, 0.8, 1.3))
    c.pixels *= 0.7 + 0.6 * grain(rng, c.y, c.x, 6)[..., None]
    return c
