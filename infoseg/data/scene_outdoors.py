"""Views out of doors, from open country to a harbour."""

import numpy as np

from infoseg.data import scene_built as built
from infoseg.data import scene_nature as nature
from infoseg.data import scene_plants as plants
from infoseg.data import scene_surfaces as surfaces
from infoseg.data.scene_canvas import Canvas
from infoseg.data.scene_textures import grid, smoothstep


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
    horizon = c.level(0.18, 0.8)
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
        top = c.edge(horizon - 0.2 * rise, rise)
        plants.thicket(c, top, horizon + rng.uniform(2, 14), "tree")
    if rng.random() < 0.2:
        built.house(c, rng.uniform(0.2, 0.8) * c.w, horizon + 12, rng.uniform(0.25, 0.4) * c.w)
    _grove(c, horizon, int(rng.integers(1, 5)), rng.uniform(0.3, 0.55) * c.h)
    if rng.random() < 0.35:
        top = c.h - rng.uniform(0.1, 0.3) * c.h
        plants.blades(c, c.edge(top + 10, 25), c.h + 20)


def wood(c: Canvas) -> None:
    """A path between trees; hardly any sky or none."""
    rng = c.rng
    horizon = c.level(0.25, 0.6)
    if rng.random() < 0.5:
        nature.sky(c, int(horizon))
    plants.thicket(c, c.edge(rng.uniform(-0.1, 0.35) * horizon, 40), c.h, "tree")
    nature.ground(c, horizon)
    if rng.random() < 0.5:
        plants.blades(c, c.edge(horizon + 4, 14), horizon + rng.uniform(0.1, 0.25) * c.h, "grass")
    for near in np.sort(rng.uniform(0.1, 1, int(rng.integers(4, 8)))):
        side = rng.choice([-1, 1])
        x = c.w * (0.5 + side * (0.12 + 0.42 * near) * rng.uniform(0.7, 1.2))
        plants.tree(c, x, horizon + near * 0.8 * (c.h - horizon), (0.45 + 0.7 * near) * c.h)


def garden(c: Canvas) -> None:
    """Plants close by: beds and hedges before a path, a lawn of tall grass."""
    rng = c.rng
    horizon = c.level(0.1, 0.35)
    nature.sky(c, int(horizon))
    nature.ground(c, horizon)
    top = c.edge(horizon + 6, rng.uniform(0.1, 0.4) * c.h)
    plants.thicket(c, top, horizon + rng.uniform(0.1, 0.35) * c.h, "leaves")
    for near in np.sort(rng.uniform(0.25, 0.95, int(rng.integers(2, 6)))):
        plants.bush(
            c,
            rng.uniform(0, 1) * c.w,
            horizon + near * (c.h - horizon),
            rng.uniform(0.2, 0.4) * c.w,
        )
    if rng.random() < 0.5:
        plants.blades(c, c.edge(c.h * rng.uniform(0.75, 0.95), 22), c.h + 20, "plant-other")


def street(c: Canvas) -> None:
    """A road between fronts or past them, with trees and cars."""
    rng = c.rng
    horizon = c.level(0.35, 0.62)
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
                built.street_side(c, left, horizon, c.level(-0.25, 0.15), c.level(0.8, 1.05))
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
    horizon = c.level(0.3, 0.6)
    nature.sky(c, int(horizon))
    nature.ground(c, horizon)
    top = c.edge(horizon, rng.uniform(0.05, 0.2) * c.h)
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
    horizon = c.level(0.2, 0.6)
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
        plants.blades(c, c.edge(c.h * rng.uniform(0.82, 0.98), 30), c.h + 20, "straw")


def highland(c: Canvas) -> None:
    """Mountains or cliffs behind firs, a lake or scree in front."""
    rng = c.rng
    horizon = c.level(0.45, 0.75)
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
    horizon = c.level(0.3, 0.5)
    nature.sky(c, int(horizon))
    x = -0.05 * c.w
    while x < c.w:
        wide = rng.uniform(0.12, 0.3) * c.w
        built.block(c, x, x + wide, horizon - rng.uniform(0.08, 0.3) * c.h, horizon + 2)
        x += wide + rng.uniform(0, 0.08) * c.w
    quay = c.level(0.68, 0.88)
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
        y, x = c.level(0.35, 0.6), rng.uniform(0.1, 0.6) * c.w
        inside = np.minimum(rows - y - 6 * np.sin(cols / 15), 0.3 * c.w - np.abs(cols - x))
        c.cover(logs, "wood", (smoothstep(-1, 1, inside) * (rows < y + 0.35 * c.h)).astype("f4"))
    built.fence(c, c.level(0.85, 1.1), rng.uniform(0.4, 0.75) * c.h)
