"""The views a stuff picture may show, from open country to a heap of fruit."""

import numpy as np

from infoseg.data import scene_built as built
from infoseg.data import scene_nature as nature
from infoseg.data import scene_plants as plants
from infoseg.data import scene_rooms as rooms
from infoseg.data import scene_surfaces as surfaces
from infoseg.data.coco_classes import IGNORE
from infoseg.data.scene_canvas import Canvas
from infoseg.data.scene_textures import fractal, grid, smoothstep

# Share of pictures in which a soft-edged patch stays without a label, as in real annotations.
GAP_SHARE = 0.25


def _level(c: Canvas, low: float, high: float) -> float:
    return c.rng.uniform(low, high) * c.h


def _edge(c: Canvas, y: float, rise: float, size: float = 90) -> np.ndarray:
    return y - rise * fractal(c.rng, 2, c.w, 1, 4, 0.5, stretch=size)[0]


def _grove(c: Canvas, horizon: float, count: int, size: float) -> None:
    """Trees and bushes standing on the plane, far ones first."""
    rng = c.rng
    firs = rng.random() < 0.3
    for near in np.sort(rng.uniform(0.05, 1, count) ** 1.5):
        foot = horizon + near * (c.h - horizon) * 0.85
        grown = size * (0.45 + near) * rng.uniform(0.8, 1.25)
        x = rng.uniform(-0.05, 1.05) * c.w
        what = rng.random()
        if what < 0.3:
            plants.bush(c, x, foot, 0.7 * grown)
        elif firs:
            plants.conifer(c, x, foot, 1.2 * grown)
        else:
            plants.tree(c, x, foot, 1.2 * grown)


def country(c: Canvas) -> None:
    """Sky over a field, with a hedge, a grove or hills on the horizon."""
    rng = c.rng
    horizon = _level(c, 0.18, 0.8)
    nature.sky(c, int(horizon))
    if rng.random() < 0.35:
        nature.mountain(
            c,
            horizon + 2,
            rng.uniform(0.08, 0.3) * c.h,
            "hill" if rng.random() < 0.6 else "mountain",
        )
    nature.ground(c, horizon)
    if rng.random() < 0.6:
        rise = rng.uniform(0.06, 0.25) * c.h
        top = _edge(c, horizon - 0.2 * rise, rise)
        plants.thicket(c, top, horizon + rng.uniform(2, 14), "tree")
    if rng.random() < 0.2:
        built.house(c, rng.uniform(0.2, 0.8) * c.w, horizon + 12, rng.uniform(0.25, 0.4) * c.w)
    _grove(c, horizon, int(rng.integers(1, 5)), rng.uniform(0.3, 0.55) * c.h)
    if rng.random() < 0.35:
        top = c.h - rng.uniform(0.1, 0.3) * c.h
        plants.blades(c, _edge(c, top + 10, 25), c.h + 20)


def wood(c: Canvas) -> None:
    """A path between trees; hardly any sky or none."""
    rng = c.rng
    horizon = _level(c, 0.25, 0.6)
    if rng.random() < 0.5:
        nature.sky(c, int(horizon))
    plants.thicket(c, _edge(c, rng.uniform(-0.1, 0.35) * horizon, 40), c.h, "tree")
    nature.ground(c, horizon)
    if rng.random() < 0.5:
        plants.blades(c, _edge(c, horizon + 4, 14), horizon + rng.uniform(0.1, 0.25) * c.h, "grass")
    for near in np.sort(rng.uniform(0.1, 1, int(rng.integers(4, 8)))):
        side = rng.choice([-1, 1])
        x = c.w * (0.5 + side * (0.12 + 0.42 * near) * rng.uniform(0.7, 1.2))
        plants.tree(c, x, horizon + near * 0.8 * (c.h - horizon), (0.45 + 0.7 * near) * c.h)


def garden(c: Canvas) -> None:
    """Plants close by: beds and hedges before a path, a lawn of tall grass."""
    rng = c.rng
    horizon = _level(c, 0.1, 0.35)
    nature.sky(c, int(horizon))
    nature.ground(c, horizon)
    top = _edge(c, horizon + 6, rng.uniform(0.1, 0.4) * c.h)
    plants.thicket(c, top, horizon + rng.uniform(0.1, 0.35) * c.h, "leaves")
    for near in np.sort(rng.uniform(0.25, 0.95, int(rng.integers(2, 6)))):
        plants.bush(
            c,
            rng.uniform(0, 1) * c.w,
            horizon + near * (c.h - horizon),
            rng.uniform(0.2, 0.4) * c.w,
        )
    if rng.random() < 0.5:
        plants.blades(c, _edge(c, c.h * rng.uniform(0.75, 0.95), 22), c.h + 20, "plant-other")


def street(c: Canvas) -> None:
    """A road between fronts or past them, with trees and cars."""
    rng = c.rng
    horizon = _level(c, 0.35, 0.62)
    nature.sky(c, int(horizon))
    kind = ("road", "pavement", "gravel", "road")[rng.integers(4)]
    canyon = rng.random() < 0.6
    if not canyon or rng.random() < 0.5:
        x = rng.uniform(-0.1, 0.1) * c.w
        while x < c.w:
            wide = rng.uniform(0.16, 0.4) * c.w
            if rng.random() < 0.8:
                built.block(c, x, x + wide, horizon - rng.uniform(0.15, 0.6) * c.h, horizon + 3)
            x += wide + rng.uniform(0, 0.1) * c.w
    nature.ground(c, horizon, kind)
    if canyon:
        for left in (True, False):
            if rng.random() < 0.8:
                built.street_side(c, left, horizon, _level(c, -0.25, 0.15), _level(c, 0.8, 1.05))
    for near in np.sort(rng.uniform(0.1, 0.7, int(rng.integers(1, 4)))):
        plants.tree(
            c, rng.uniform(0, 1) * c.w, horizon + near * (c.h - horizon), (0.4 + 0.5 * near) * c.h
        )
    for near in np.sort(rng.uniform(0.2, 0.9, int(rng.integers(0, 3)))):
        built.car(
            c,
            rng.uniform(0.15, 0.85) * c.w,
            horizon + near * (c.h - horizon),
            (0.12 + 0.28 * near) * c.w,
        )
    if rng.random() < 0.25:
        built.fence(c, c.h * rng.uniform(0.9, 1.05), rng.uniform(0.15, 0.3) * c.h)


def village(c: Canvas) -> None:
    """Houses among trees on open ground."""
    rng = c.rng
    horizon = _level(c, 0.3, 0.6)
    nature.sky(c, int(horizon))
    nature.ground(c, horizon)
    top = _edge(c, horizon, rng.uniform(0.05, 0.2) * c.h)
    plants.thicket(c, top, horizon + rng.uniform(4, 20), "tree")
    for near in np.sort(rng.uniform(0.05, 0.45, int(rng.integers(1, 4)))):
        built.house(
            c,
            rng.uniform(0.1, 0.9) * c.w,
            horizon + near * (c.h - horizon),
            (0.25 + 0.45 * near) * c.w,
        )
    _grove(c, horizon + 0.1 * c.h, 3, 0.4 * c.h)
    if rng.random() < 0.4:
        built.fence(c, c.h * rng.uniform(0.85, 0.98), rng.uniform(0.14, 0.25) * c.h)


def coast(c: Canvas) -> None:
    """Sky, sea and a beach with boulders or dune grass."""
    rng = c.rng
    horizon = _level(c, 0.2, 0.6)
    nature.sky(c, int(horizon))
    if rng.random() < 0.5:
        nature.mountain(
            c,
            horizon + 2,
            rng.uniform(0.08, 0.3) * c.h,
            "hill" if rng.random() < 0.4 else "mountain",
        )
    shore = horizon + rng.uniform(0.25, 0.7) * (c.h - horizon)
    kind = ("sand", "gravel", "dirt", "mud")[rng.integers(4)]
    nature.ground(c, horizon, kind)
    nature.water(c, horizon, shore)
    for _ in range(int(rng.integers(0, 3))):
        built.boat(
            c,
            rng.uniform(0.1, 0.9) * c.w,
            horizon + rng.uniform(0.05, 0.5) * (shore - horizon),
            rng.uniform(0.08, 0.2) * c.w,
        )
    for near in np.sort(rng.uniform(0.1, 0.9, int(rng.integers(0, 4)))):
        nature.rock(
            c, rng.uniform(0, 1) * c.w, shore + near * (c.h - shore), rng.uniform(0.15, 0.35) * c.w
        )
    if rng.random() < 0.6:
        _grove(c, shore, 2, 0.45 * c.h)
    if rng.random() < 0.4:
        plants.blades(c, _edge(c, c.h * rng.uniform(0.82, 0.98), 30), c.h + 20, "straw")


def highland(c: Canvas) -> None:
    """Mountains or cliffs behind firs, a lake or scree in front."""
    rng = c.rng
    horizon = _level(c, 0.45, 0.75)
    nature.sky(c, int(horizon))
    nature.mountain(c, horizon + 2, rng.uniform(0.25, 0.55) * c.h)
    if rng.random() < 0.5:
        nature.mountain(
            c, horizon + 4, rng.uniform(0.12, 0.3) * c.h, ("hill", "mountain")[rng.integers(2)]
        )
    if rng.random() < 0.4:
        nature.water(c, horizon)
    else:
        nature.ground(c, horizon, ("gravel", "dirt", "snow", "ground-other")[rng.integers(4)])
    for near in np.sort(rng.uniform(0.0, 0.8, int(rng.integers(2, 7)))):
        plants.conifer(
            c, rng.uniform(0, 1) * c.w, horizon + near * (c.h - horizon), (0.22 + 0.5 * near) * c.h
        )
    for near in np.sort(rng.uniform(0.2, 1, int(rng.integers(0, 3)))):
        nature.rock(
            c,
            rng.uniform(0, 1) * c.w,
            horizon + near * (c.h - horizon),
            rng.uniform(0.2, 0.5) * c.w,
            ("rock", "stone")[rng.integers(2)],
        )


def harbour(c: Canvas) -> None:
    """Water before a town, seen from a quay with a railing."""
    rng = c.rng
    horizon = _level(c, 0.3, 0.5)
    nature.sky(c, int(horizon))
    x = -0.05 * c.w
    while x < c.w:
        wide = rng.uniform(0.12, 0.3) * c.w
        built.block(c, x, x + wide, horizon - rng.uniform(0.08, 0.3) * c.h, horizon + 2)
        x += wide + rng.uniform(0, 0.08) * c.w
    quay = _level(c, 0.68, 0.88)
    nature.water(c, horizon)
    for near in np.sort(rng.uniform(0.1, 0.6, int(rng.integers(1, 4)))):
        built.boat(
            c,
            rng.uniform(0.1, 0.9) * c.w,
            horizon + near * (quay - horizon),
            (0.12 + 0.25 * near) * c.w,
        )
    rows, cols = grid(c.h, c.w)
    nature.ground(c, horizon, "platform", smoothstep(-0.7, 0.7, rows - quay + 0 * cols))
    built.fence(
        c,
        quay + rng.uniform(2, 20),
        rng.uniform(0.2, 0.4) * c.h,
        ("railing", "structural-other", "railing")[rng.integers(3)],
    )


def yard(c: Canvas) -> None:
    """A fence, net or cage close by, plants and ground behind it."""
    country(c)
    rng = c.rng
    if rng.random() < 0.4:
        rows, cols = grid(c.h, c.w)
        logs = surfaces.log_ends(rng, c.mood, c.h, c.w)
        y, x = _level(c, 0.35, 0.6), rng.uniform(0.1, 0.6) * c.w
        inside = np.minimum(rows - y - 6 * np.sin(cols / 15), 0.3 * c.w - np.abs(cols - x))
        c.cover(logs, "wood", (smoothstep(-1, 1, inside) * (rows < y + 0.35 * c.h)).astype("f4"))
    built.fence(c, _level(c, 0.85, 1.1), rng.uniform(0.4, 0.75) * c.h)


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
            c, x, _level(c, 0.03, 0.1), x + rng.uniform(0.25, 0.45) * c.w, _level(c, 0.3, 0.42)
        )
    elif rng.random() < 0.6:
        x = rng.uniform(0, 0.5) * c.w
        rooms.cupboard(
            c, x, _level(c, 0.02, 0.15), x + rng.uniform(0.3, 0.5) * c.w, _level(c, 0.4, 0.5)
        )
    back = _level(c, 0.42, 0.6)
    rooms.table(c, back, _level(c, 0.88, 1.15), rng.random() < 0.4)
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
        foot = _level(c, 0.15, 0.35)
        c.contact(built.rect(0, 0, c.w, foot + 10), 8, 0.6)
        c.quad(hang, "banner", built.rect(0, -10, c.w, foot))
    row = _level(c, 0.3, 0.45)
    while row < 0.95 * c.h:
        deep = rng.uniform(0.2, 0.34) * c.h
        rooms.produce(c, _edge(c, row + 8, 16), row + deep)
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
    foot = _level(c, 0.82, 1.1)
    name, material = rooms.pick(rng, surfaces.FLOORS)
    c.quad(
        material(rng, c.mood, 160, 320),
        name,
        [[0, foot - 12], [c.w, foot - 12], [1.3 * c.w, c.h + 2], [-0.3 * c.w, c.h + 2]],
    )
    rooms.boxes(c, _level(c, 0.2, 0.6), foot)


def linen(c: Canvas) -> None:
    """Cloth close by: folds, a curtain, pillows, a woven rug."""
    rng = c.rng
    name, material = rooms.pick(rng, surfaces.CLOTHS)
    c.quad(material(rng, c.mood, c.h, c.w), name, built.rect(0, 0, c.w, c.h))
    if rng.random() < 0.7:
        wall, wall_material = rooms.pick(rng, surfaces.WALLS)
        foot = _level(c, 0.2, 0.5)
        c.quad(wall_material(rng, c.mood, int(foot), c.w), wall, built.rect(0, 0, c.w, foot))
        c.contact(built.rect(0, foot - 3, c.w, foot + 8), 5, 0.5)
    for _ in range(int(rng.integers(1, 4))):
        size, x, y = rng.uniform(0.3, 0.5) * c.w, rng.uniform(0.1, 0.9) * c.w, _level(c, 0.4, 0.9)
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


# One turn of the views; consecutive pictures go through it, so that any number of them is mixed.
# Its length has no common factor with 10: every tenth picture (validation) meets all the views.
CYCLE = (
    country,
    interior,
    street,
    wood,
    coast,
    goods,
    garden,
    highland,
    country,
    meal,
    village,
    linen,
    country,
    yard,
    street,
    interior,
    wood,
    coast,
    market,
    harbour,
    country,
    interior,
    garden,
)


def compose(rng: np.random.Generator, number: int, h: int, w: int) -> Canvas:
    """Paint view `number` of the cycle on a fresh canvas of h by w pixels."""
    c = Canvas(rng, h, w)
    CYCLE[number % len(CYCLE)](c)
    if rng.random() < GAP_SHARE:
        rows, cols = grid(h, w)
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.06, 0.14) * w
        c.label[np.hypot(cols - x, rows - y) + 6 * np.sin(cols / 9) < r] = IGNORE
    return c
