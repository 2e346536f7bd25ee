"""Views indoors and close by, from a furnished room to a heap of cloth."""

import numpy as np

from infoseg.data import scene_built as built
from infoseg.data import scene_rooms as rooms
from infoseg.data import scene_surfaces as surfaces
from infoseg.data.scene_canvas import Canvas
from infoseg.data.scene_textures import grid


def interior(c: Canvas) -> None:
    """A furnished room."""
    rng = c.rng
    x0, y0, x1, y1 = rooms.room(c)
    wide, high = x1 - x0, y1 - y0
    if rng.random() < 0.85:
        at = x0 + rng.uniform(0.1, 0.5) * wide
        size = rng.uniform(0.28, 0.42) * wide
        top, foot = y0 + rng.uniform(0.08, 0.2) * high, y0 + rng.uniform(0.65, 0.85) * high
        rooms.window(c, at, top, at + size, foot)
        if rng.random() < 0.7:
            hang = surfaces.drape(rng, c.mood, int(high), int(0.3 * wide) + 8)
            for x in (at - 0.17 * wide, at + size - 0.02 * wide):
                c.contact(built.rect(x, top, x + 0.2 * wide, y1), 5, 0.35)
                c.quad(hang, "curtain", built.rect(x, top - 8, x + 0.19 * wide, y1 - 2))
    if rng.random() < 0.6:
        middle, half = rng.uniform(0.35, 0.65) * c.w, rng.uniform(0.22, 0.36) * c.w
        near = min(y1 + rng.uniform(0.5, 0.95) * (c.h - y1), c.h)
        far = y1 + 0.15 * (c.h - y1)
        c.quad(
            surfaces.ornament(rng, c.mood, 150, 260),
            "rug",
            [
                [middle - 0.7 * half, far],
                [middle + 0.7 * half, far],
                [middle + half, near],
                [middle - half, near],
            ],
        )
    for _ in range(int(rng.integers(1, 3))):
        at = rng.uniform(-0.05, 0.8) * c.w
        foot = y1 + rng.uniform(0.1, 0.5) * (c.h - y1)
        rooms.cupboard(
            c, at, foot - rng.uniform(0.3, 0.6) * c.h, at + rng.uniform(0.2, 0.4) * c.w, foot
        )


def meal(c: Canvas) -> None:
    """A table with food before a wall or a window."""
    rng = c.rng
    name, material = rooms.pick(rng, surfaces.WALLS)
    c.quad(material(rng, c.mood, c.h, c.w), name, built.rect(0, 0, c.w, c.h))
    if rng.random() < 0.6:
        x = rng.uniform(0.05, 0.5) * c.w
        rooms.window(
            c, x, c.level(0.03, 0.1), x + rng.uniform(0.25, 0.45) * c.w, c.level(0.3, 0.42)
        )
    elif rng.random() < 0.6:
        x = rng.uniform(0, 0.5) * c.w
        rooms.cupboard(
            c, x, c.level(0.02, 0.15), x + rng.uniform(0.3, 0.5) * c.w, c.level(0.4, 0.5)
        )
    back = c.level(0.42, 0.6)
    rooms.table(c, back, c.level(0.88, 1.15), rng.random() < 0.4)
    middle, half = rng.uniform(0.35, 0.65) * c.w, rng.uniform(0.22, 0.4) * c.w
    foot = back + rng.uniform(0.3, 0.45) * (c.h - back) + 20
    cols = np.arange(c.w)
    hump = np.sqrt(np.clip(1 - ((cols - middle) / half) ** 2, 0, 1))
    top = foot + 8 - hump * (foot - back + rng.uniform(0.02, 0.22) * c.h) - 8 * hump
    rooms.produce(c, top, foot)
    if rng.random() < 0.4:
        low = c.h * rng.uniform(0.8, 0.95)
        rooms.produce(c, np.where(np.abs(cols - c.w + middle) < 0.25 * c.w, low, c.h + 99), c.h)


def market(c: Canvas) -> None:
    """Stalls of food under an awning, crates below."""
    rng = c.rng
    name, material = rooms.pick(rng, surfaces.WALLS)
    c.quad(material(rng, c.mood, c.h, c.w), name, built.rect(0, 0, c.w, c.h))
    if rng.random() < 0.7:
        hang = surfaces.drape(rng, c.mood, 90, c.w)
        foot = c.level(0.15, 0.35)
        c.contact(built.rect(0, 0, c.w, foot + 10), 8, 0.6)
        c.quad(hang, "banner", built.rect(0, -10, c.w, foot))
    row = c.level(0.3, 0.45)
    while row < 0.95 * c.h:
        deep = rng.uniform(0.2, 0.34) * c.h
        rooms.produce(c, c.edge(row + 8, 16), row + deep)
        if rng.random() < 0.7:
            high = rng.uniform(0.1, 0.2) * c.h
            rooms.boxes(c, row + deep - 2 + high - 10, row + deep + high, "plastic")
            deep += high
        row += deep


def goods(c: Canvas) -> None:
    """Stacked cartons, crates and sheet metal, close by or in a store."""
    rng = c.rng
    name, material = rooms.pick(rng, surfaces.WALLS)
    c.quad(material(rng, c.mood, c.h, c.w), name, built.rect(0, 0, c.w, c.h))
    foot = c.level(0.82, 1.1)
    name, material = rooms.pick(rng, surfaces.FLOORS)
    c.quad(
        material(rng, c.mood, 160, 320),
        name,
        [[0, foot - 12], [c.w, foot - 12], [1.3 * c.w, c.h + 2], [-0.3 * c.w, c.h + 2]],
    )
    rooms.boxes(c, c.level(0.2, 0.6), foot)


def linen(c: Canvas) -> None:
    """Cloth close by: folds, a curtain, pillows, a woven rug."""
    rng = c.rng
    name, material = rooms.pick(rng, surfaces.CLOTHS)
    c.quad(material(rng, c.mood, c.h, c.w), name, built.rect(0, 0, c.w, c.h))
    if rng.random() < 0.7:
        wall, wall_material = rooms.pick(rng, surfaces.WALLS)
        foot = c.level(0.2, 0.5)
        c.quad(wall_material(rng, c.mood, int(foot), c.w), wall, built.rect(0, 0, c.w, foot))
        c.contact(built.rect(0, foot - 3, c.w, foot + 8), 5, 0.5)
    for _ in range(int(rng.integers(1, 4))):
        size, x, y = rng.uniform(0.3, 0.5) * c.w, rng.uniform(0.1, 0.9) * c.w, c.level(0.4, 0.9)
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        bulge = (
            np.abs(np.cos(t)) ** 0.5 * np.sign(np.cos(t)),
            np.abs(np.sin(t)) ** 0.5 * np.sign(np.sin(t)),
        )
        shape = np.stack([x + 0.5 * size * bulge[0], y + 0.32 * size * bulge[1]], 1)
        c.contact(shape + [4, 10], 7, 0.55)
        rows, cols = grid(c.h, c.w)
        dome = 1.1 - 0.9 * (
            ((cols - x) / (0.6 * size)) ** 2 + ((rows - y + 0.08 * size) / (0.42 * size)) ** 2
        )
        cloth = surfaces.weave if rng.random() < 0.3 else surfaces.crumpled
        face = cloth(rng, c.mood, c.h, c.w) * np.clip(dome, 0.35, 1.2)[..., None]
        c.shape(face.astype(np.float32), "pillow", shape)
