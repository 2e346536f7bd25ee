"""Rooms, furniture, windows, tables of food and stacked goods of the procedural scenes."""

import cv2
import numpy as np

from infoseg.data import scene_surfaces as surfaces
from infoseg.data.scene_built import rect
from infoseg.data.scene_canvas import Canvas
from infoseg.data.scene_nature import sky
from infoseg.data.scene_textures import cells, fractal, grid, mix, paint, smoothstep


def pick(rng: np.random.Generator, table: dict):
    """A random (name, material) of one of the tables in `scene_surfaces`."""
    names = list(table)
    name = names[rng.integers(len(names))]
    return name, table[name]


def room(c: Canvas) -> tuple[float, float, float, float]:
    """Ceiling, three walls and floor in perspective; returns the back wall's x0, y0, x1, y1."""
    rng, w, h = c.rng, c.w, c.h
    x0, x1 = rng.uniform(0.04, 0.28) * w, rng.uniform(0.72, 0.96) * w
    y0, y1 = rng.uniform(0.14, 0.34) * h, rng.uniform(0.55, 0.76) * h
    grow = rng.uniform(1.5, 2.2)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    fx0, fx1 = min(cx + (x0 - cx) * grow, -2), max(cx + (x1 - cx) * grow, w + 2)
    fy0, fy1 = min(cy + (y0 - cy) * grow, -2), max(cy + (y1 - cy) * grow, h + 2)
    name, material = pick(rng, surfaces.WALLS)
    back = material(rng, c.mood, int(y1 - y0), int(x1 - x0))
    state = rng.bit_generator.state  # side walls of the same paper as the back wall
    side = material(rng, c.mood, int(y1 - y0), 160)
    rng.bit_generator.state = state
    dark = rng.uniform(0.6, 0.85)
    left, right = (dark, 1.0) if c.mood.light[0] > 0 else (1.0, dark)
    c.quad(side * left, name, [[fx0, fy0], [x0, y0], [x0, y1], [fx0, fy1]])
    c.quad(side * right, name, [[x1, y0], [fx1, fy0], [fx1, fy1], [x1, y1]])
    c.quad(back, name, rect(x0, y0, x1, y1))
    name, material = pick(rng, surfaces.CEILINGS)
    c.quad(material(rng, c.mood, 240, 300), name, [[fx0, fy0], [fx1, fy0], [x1, y0], [x0, y0]])
    name, material = pick(rng, surfaces.FLOORS)
    c.quad(material(rng, c.mood, 240, 320), name, [[x0, y1], [x1, y1], [fx1, fy1], [fx0, fy1]])
    for edge in (
        rect(x0, y0 - 2, x1, y0 + 3),
        rect(x0, y1 - 3, x1, y1 + 4),
        rect(x0 - 2, y0, x0 + 2, y1),
        rect(x1 - 2, y0, x1 + 2, y1),
    ):
        c.contact(edge, 5, 0.45)
    return x0, y0, x1, y1


def window(c: Canvas, x0: float, y0: float, x1: float, y1: float) -> None:
    """A framed window with a view, or with its blind down."""
    rng, h, w = c.rng, max(int(y1 - y0), 12), max(int(x1 - x0), 12)
    rows, cols = grid(h, w)
    if rng.random() < 0.4:
        step = rng.uniform(9, 13)
        slat = np.mod(rows / step, 1) + 0 * cols
        view = paint(0.25 + 0.6 * slat, c.mood.ramp(rng, 0.12, (0.5, 0.85), contrast=0.6))
        name = "window-blind"
    else:
        small = Canvas(rng, h, w)
        small.mood = c.mood
        sky(small, int(h * rng.uniform(0.5, 0.9)))
        hedge = fractal(rng, h, w, 18, 3) * 0.5 + rows / h
        tree = paint(fractal(rng, h, w, 16, 3), c.mood.ramp(rng, 0.3, (0.3, 0.6)))
        view = mix(small.rgb, tree, smoothstep(0.85, 1.0, hedge))
        view = cv2.GaussianBlur(view, (0, 0), 1.2) * 1.15
        slant = smoothstep(0.2, 0.0, np.abs(np.mod((cols + rows) / (1.3 * w), 1) - 0.5) - 0.06)
        view = mix(view, np.ones(3, np.float32), 0.22 * slant)
        name = "window-other"
    frame = c.mood.colour(rng, 0.08, (0.3, 1.0), (0, 0.5))
    c.contact(rect(x0 - 8, y0 - 6, x1 + 8, y1 + 10), 5, 0.3)
    c.shape(frame, name, rect(x0 - 5, y0 - 5, x1 + 5, y1 + 5))
    c.quad(view, name, rect(x0, y0, x1, y1))
    if name == "window-other":
        for bar in (
            rect((x0 + x1) / 2 - 2, y0, (x0 + x1) / 2 + 2, y1),
            rect(x0, y0 + 0.4 * h - 2, x1, y0 + 0.4 * h + 2),
        ):
            c.shape(frame * 0.9, name, bar)


def cupboard(c: Canvas, x0: float, top: float, x1: float, foot: float) -> None:
    """A cabinet with panelled doors, a shelf of books, or a chest of drawers."""
    rng, h, w = c.rng, max(int(foot - top), 24), max(int(x1 - x0), 24)
    kind = ("cabinet", "shelf", "cupboard")[rng.integers(3)]
    rows, cols = grid(h, w)
    ramp = c.mood.ramp(rng, 0.075, (0.3, 0.8))
    grain = 0.4 + 0.3 * fractal(rng, h, w, 50, 3, 0.6, 0.2)
    n_w, n_h = max(1, round(w / 40)), max(1, round(h / (30 if kind == "cupboard" else 62)))
    fu, fv = np.mod(cols * n_w / w, 1) - 0.5, np.mod(rows * n_h / h, 1) - 0.5
    cell_w, cell_h = w / n_w, h / n_h
    edge = np.minimum((0.5 - np.abs(fu)) * cell_w, (0.5 - np.abs(fv)) * cell_h)
    if kind == "shelf":
        thick = rng.uniform(7, 12)
        book = np.floor(cols / thick) * 7 + np.floor(rows * n_h / h) * 31
        table = np.stack(
            [c.mood.colour(rng, rng.random(), (0.2, 0.9), (0.2, 0.8)) for _ in range(40)]
        )
        pick_book = table[(book.astype(int) * 17) % 40]
        round_back = 0.65 + 0.5 * np.sin(np.pi * np.mod(cols / thick, 1)) + 0 * rows
        top_of = rng.uniform(-0.42, -0.1, 64)[np.floor(cols / thick).astype(int) % 64]
        standing = smoothstep(-0.02, 0.02, fv - top_of) * (edge > 3)
        face = mix(paint(grain * 0.45, ramp), pick_book * round_back[..., None], standing)
        face = mix(face, paint(grain + 0.25, ramp), smoothstep(4, 3, (0.5 - np.abs(fv)) * cell_h))
    else:
        field = grain + 0.22 * smoothstep(9, 7, edge) * np.sign(-fu - fv)
        field = field * (0.35 + 0.65 * smoothstep(0.4, 2.0, edge))
        face = paint(field, ramp)
        side = 0.0 if kind == "cupboard" else 0.36
        knob = smoothstep(4.2, 3, np.hypot((fu - side) * cell_w, fv * cell_h))
        face = mix(face, c.mood.colour(rng, 0.12, (0.7, 1.0), (0, 0.5)), knob)
    c.contact(rect(x0 - 8, foot - 8, x1 + 8, foot + 9), 5, 0.55)
    c.contact(rect(x0 - 6, top, x1 + 9, foot), 6, 0.3)
    c.quad(face, kind, rect(x0, top, x1, foot))
    slab = c.mood.colour(rng, 0.08, (0.4, 0.95), (0, 0.4))
    c.shape(slab, "counter" if rng.random() < 0.5 else kind, rect(x0 - 4, top - 7, x1 + 4, top))


def table(c: Canvas, back: float, front: float, cloth: bool) -> str:
    """A table top reaching from row `back` to row `front`; returns its fine class."""
    rng, w = c.rng, c.w
    x0, x1 = rng.uniform(-0.05, 0.18) * w, rng.uniform(0.82, 1.05) * w
    corners = np.array([[x0 + 0.1 * w, back], [x1 - 0.1 * w, back], [x1, front], [x0, front]])
    material = surfaces.crumpled if cloth else surfaces.planks
    name = "cloth" if cloth else "table"
    c.contact(corners + [0, 14], 9, 0.5)
    if front < c.h:
        edge = np.array([[x0, front], [x1, front], [x1, front + 11], [x0, front + 11]])
        c.shape(c.mood.colour(rng, 0.07, (0.15, 0.5)), name, edge)
        for x in (x0 + 0.04 * w, x1 - 0.09 * w):
            leg = rect(x, front + 11, x + 0.05 * w, c.h)
            c.shape(c.mood.colour(rng, 0.07, (0.15, 0.4)), "table", leg)
    texture = material(rng, c.mood, 170, 280)
    c.quad(texture, name, corners)
    return name


def produce(c: Canvas, top: np.ndarray, foot: float, kind: str | None = None) -> None:
    """A heap of food from row `top` (w,) down to `foot`: fruit, roots and pods, or salad."""
    rng = c.rng
    kind = kind or ("fruit", "vegetable", "salad", "food-other")[rng.integers(4)]
    rows, cols = grid(c.h, c.w)
    p = cells(rng, c.h, c.w, rng.uniform(20, 30), 1.3)
    curl = fractal(rng, c.h, c.w, 18, 3, 0.7)
    vein = np.abs(np.sin(9 * curl + 5 * np.hypot(p.dx, p.dy)))
    field = 0.1 + 0.45 * vein + 0.35 * p.shade - 0.25 * p.dy
    leaf = c.mood.ramp(rng, 0.28, (0.45, 0.8), (0.4, 0.9), 0.7)
    alpha = smoothstep(-1, 1, rows - top - 6 * (curl - 0.5)) * (rows < foot)
    c.shade(cv2.GaussianBlur(np.roll(alpha, 5, 0).astype(np.float32), (0, 0), 6), 0.5)
    c.cover(paint(field * (1.0 if kind == "salad" else 0.3), leaf), kind, alpha)
    kinds = [c.mood.colour(rng, h, (0.5, 1.0), (0.5, 1.0)) for h in (0.0, 0.09, 0.15, 0.3)]
    size = rng.uniform(20, 34)
    long = {"vegetable": rng.uniform(2.0, 2.8), "food-other": 1.4}.get(kind, 1.0)
    few = 0.12 if kind == "salad" else 1.0
    for y in np.arange(float(np.min(top)) + 0.25 * size, foot, 0.62 * size):
        for x in np.arange(rng.uniform(-size, 0), c.w + size, 0.85 * size * long):
            px, py = x + rng.normal(0, 0.12 * size), y + rng.normal(0, 0.1 * size)
            start = top[int(np.clip(px, 0, c.w - 1))]
            if start + 0.15 * size <= py <= foot - 0.2 * size and rng.random() < few:
                _piece(c, px, py, size * rng.uniform(0.8, 1.1), long, kinds, kind)


def _piece(c: Canvas, x: float, y: float, size: float, long: float, kinds, kind: str) -> None:
    """One fruit, root or roll: a lit ellipsoid with a highlight."""
    rng = c.rng
    reach = int(0.5 * size * long) + 3
    rows, cols = grid(2 * reach, 2 * reach)
    angle = rng.uniform(-0.5, 0.5) if long > 1 else 0.0
    u = ((cols - reach) * np.cos(angle) + (rows - reach) * np.sin(angle)) / (0.5 * size * long)
    v = ((rows - reach) * np.cos(angle) - (cols - reach) * np.sin(angle)) / (0.5 * size)
    if kind == "vegetable":
        v = v * (1.25 + 0.45 * u)  # tapered
    far = u * u + v * v
    bulge = np.sqrt(np.clip(1 - far, 0, 1))
    light = c.mood.light
    lit = 0.3 + 0.5 * bulge + 0.3 * (u * light[0] - v * light[1])
    if kind != "fruit":
        lit = lit * (1 + 0.22 * np.sin(7 * u + 2 * v))
    spark = np.exp(-((u - 0.35 * light[0]) ** 2 + (v + 0.4 * light[1]) ** 2) / 0.05)
    rgb = kinds[rng.integers(len(kinds))] * rng.uniform(0.85, 1.1) * lit[..., None]
    rgb = mix(rgb, np.ones(3, np.float32), (0.25 if kind == "food-other" else 0.7) * spark)
    x0, y0 = int(x) - reach, int(y) - reach
    c.shade(smoothstep(1.4, 0.8, far), 0.35, x0 + 2, y0 + 3)
    c.cover(np.clip(rgb, 0, 1), kind, smoothstep(1.06, 0.94, far), x0, y0)


def boxes(c: Canvas, top: float, foot: float, kind: str | None = None) -> None:
    """A stack of cartons, crates or sheet metal boxes standing on row `foot`."""
    rng = c.rng
    y = foot
    while y > top:
        high = rng.uniform(50, 86)
        x = rng.uniform(-60, 0)
        while x < c.w:
            wide = high * rng.uniform(1.0, 1.9)
            one = kind or list(surfaces.RAW)[rng.integers(len(surfaces.RAW))]
            face = surfaces.RAW[one](rng, c.mood, max(int(high), 30), max(int(wide), 30))
            up = y - high * rng.uniform(0.85, 1.0)
            c.contact(rect(x + 3, up - 3, x + wide + 8, y + 2), 4, 0.4)
            c.quad(face, one, rect(x, up, x + wide, y))
            lid = np.array([[x + 9, up - 10], [x + wide + 5, up - 10], [x + wide, up], [x, up]])
            c.quad(face * 1.25, one, lid)
            x += wide + rng.uniform(-2, 8)
        y -= high * 0.97
