"""Houses, streets, fences and vehicles of the procedural outdoor scenes."""

import cv2
import numpy as np

from infoseg.data import scene_surfaces as surfaces
from infoseg.data.scene_canvas import FINE, Canvas
from infoseg.data.scene_textures import (
    grid,
    noise,
    paint,
    smoothstep,
)

WINDOW_MIN = 40  # a facade higher than this many pixels shows windows large enough to label


def rect(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Corners of an upright rectangle, upper left first, clockwise."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def house(c: Canvas, x: float, foot: float, wide: float) -> None:
    """A house seen from the front: facade with windows and a tiled roof."""
    rng = c.rng
    high = wide * rng.uniform(0.5, 0.9)
    rise = wide * rng.uniform(0.25, 0.45)
    front, windows = surfaces.facade(rng, c.mood, max(int(high), 60), max(int(wide), 60))
    x0, x1, top = x - wide / 2, x + wide / 2, foot - high
    c.contact(rect(x0 - 4, foot - 5, x1 + 4, foot + 5), 4, 0.5)
    inlay = (windows, "window-other") if high > WINDOW_MIN else None
    c.quad(front, "house", rect(x0, top, x1, foot), inlay)
    roof = surfaces.roof_tiles(rng, c.mood, max(int(rise), 50), max(int(wide), 60))
    lap, inset = 0.06 * wide, wide * rng.uniform(0.05, 0.4)
    c.contact(rect(x0, top, x1, top + 6), 3, 0.5)
    c.quad(
        roof,
        "roof",
        np.array(
            [
                [x0 + inset, top - rise],
                [x1 - inset, top - rise],
                [x1 + lap, top + 3],
                [x0 - lap, top + 3],
            ]
        ),
    )
    if high > WINDOW_MIN:
        door = surfaces.panels(rng, c.mood, 90, 46)
        at = x0 + wide * rng.uniform(0.2, 0.7)
        c.quad(door, "house", rect(at, foot - 0.42 * high, at + 0.17 * wide, foot))


def block(c: Canvas, x0: float, x1: float, top: float, foot: float) -> None:
    """A high building seen from the front."""
    h, w = max(int(foot - top), 60), max(int(x1 - x0), 40)
    front, windows = surfaces.facade(c.rng, c.mood, h, w)
    name = "skyscraper" if h > 1.6 * w else "building-other"
    c.quad(front, name, rect(x0, top, x1, foot), (windows, "window-other"))
    c.shape(c.mood.colour(c.rng, 0.08, (0.2, 0.8)), name, rect(x0 - 3, top - 6, x1 + 3, top))
    c.contact(rect(x1 - 2, top, x1 + 6, foot), 3, 0.35)


def street_side(c: Canvas, left: bool, horizon: float, near_top: float, foot: float) -> None:
    """A row of fronts running into the depth at the left or right border."""
    vanish, reach = c.w * c.rng.uniform(0.42, 0.58), c.rng.uniform(0.3, 0.42) * c.w
    start = 0.0 if left else float(c.w)
    sign = 1 if left else -1
    cuts = np.sort(c.rng.uniform(0.25, 0.85, c.rng.integers(1, 3)))
    marks = np.concatenate([[-0.15], cuts, [1.0]])
    for far, near in zip(marks[1:][::-1], marks[:-1][::-1], strict=True):
        xs = [start + sign * reach * m for m in (near, far)]
        shrink = [abs(vanish - x) / abs(vanish - start) for x in xs]
        lift = c.rng.uniform(0.75, 1.25)
        tops = [horizon - (horizon - near_top) * lift * s for s in shrink]
        feet = [horizon + (foot - horizon) * s for s in shrink]
        front, windows = surfaces.facade(c.rng, c.mood, 220, int(120 + 160 * (far - near)))
        a, b = (0, 1) if left else (1, 0)
        corners = np.array([[xs[a], tops[a]], [xs[b], tops[b]], [xs[b], feet[b]], [xs[a], feet[a]]])
        c.quad(
            front * (0.75 if left == (c.mood.light[0] > 0) else 1.05),
            "building-other",
            corners,
            (windows, "window-other"),
        )


def fence(c: Canvas, foot: float, high: float, kind: str | None = None) -> None:
    """A barrier across the picture: pickets, a railing, a net or a cage's bars.

    As annotators do, the whole strip is labelled although the background shows through.
    """
    rng = c.rng
    kind = kind or ("fence", "railing", "net", "cage", "structural-other")[rng.integers(5)]
    rows, cols = grid(c.h, c.w)
    tilt = rng.uniform(-0.08, 0.08) * (cols - c.w / 2)
    y = rows - (foot + tilt)
    step = rng.uniform(16, 26)
    phase = np.mod(cols / step, 1) - 0.5
    inside = smoothstep(0.6, -0.6, np.maximum(y, -y - high))
    if kind == "fence":
        bars = smoothstep(0.36, 0.3, np.abs(phase) + np.maximum(-y - high + 9, 0) / 26)
        bars = np.maximum(bars, np.abs(np.mod(-y / high, 0.55) - 0.22) < 0.055)
    elif kind == "railing":
        bars = smoothstep(0.17, 0.12, np.abs(phase))
        bars = np.maximum(bars, smoothstep(5, 4, np.abs(y + high - 4)) + 0 * cols)
        bars = np.maximum(bars, smoothstep(4, 3, np.abs(y + 8)) + 0 * cols)
    elif kind == "net":
        a, b = np.mod((cols + rows) / step, 1), np.mod((cols - rows) / step, 1)
        bars = smoothstep(0.17, 0.11, np.minimum(np.minimum(a, 1 - a), np.minimum(b, 1 - b)))
    elif kind == "cage":
        bars = smoothstep(0.2, 0.14, np.abs(phase))
        bars = np.maximum(bars, smoothstep(0.11, 0.08, np.abs(np.mod(rows / (2 * step), 1) - 0.5)))
    else:  # lattice girder
        wide = max(high * 0.7, 24)
        fu, fv = np.abs(np.mod(cols / wide, 1) - 0.5) * 2, -y / high
        bars = smoothstep(0.16, 0.1, np.minimum(np.abs(fu - fv), np.abs(1 - fu - fv)))
        bars = np.maximum(bars, smoothstep(0.12, 0.09, np.minimum(fv, 1 - fv)) + 0 * cols)
    bars = np.clip(bars, 0, 1) * inside
    shadow = cv2.GaussianBlur(np.roll(bars, (3, 4), (0, 1)).astype(np.float32), (0, 0), 2)
    c.shade(shadow * inside, 0.5)
    field = 0.5 + 0.3 * np.sign(c.mood.light[0]) * phase + 0.35 * (noise(rng, c.h, c.w, 30) - 0.5)
    rgb = paint(field, c.mood.ramp(rng, 0.08, (0.25, 0.9)))
    c.cover(rgb, kind, bars.astype(np.float32))
    c.label[inside > 0.5] = FINE[kind]


def car(c: Canvas, x: float, foot: float, wide: float) -> None:
    """A car from the side (a thing: label 2)."""
    body = c.mood.colour(c.rng, c.rng.random(), (0.25, 0.95), (0.0, 0.9))
    flip = c.rng.choice([-1, 1])
    t = np.array(
        [
            [-0.5, -0.12],
            [-0.49, -0.24],
            [-0.33, -0.28],
            [-0.2, -0.42],
            [0.14, -0.43],
            [0.3, -0.29],
            [0.46, -0.25],
            [0.5, -0.12],
            [0.48, -0.08],
            [-0.48, -0.08],
        ]
    )
    place = np.array([flip * wide, wide])
    at = np.array([x, foot])
    rows, _ = grid(c.h, c.w)
    shine = np.clip(1.15 - 0.9 * (rows - foot + 0.43 * wide) / (0.4 * wide), 0.3, 1.4)
    c.contact(
        at + place * np.array([[-0.5, -0.06], [0.5, -0.06], [0.5, 0.02], [-0.5, 0.02]]), 3, 0.7
    )
    c.shape(body * (shine[..., None] + np.zeros((1, c.w, 1))), "car", at + place * t)
    glass = np.array([[-0.29, -0.28], [-0.18, -0.39], [0.12, -0.4], [0.25, -0.29]])
    c.shape(np.array([0.12, 0.15, 0.2], np.float32), "car", at + place * glass)
    pillar = np.array([[-0.03, -0.4], [0, -0.4], [0, -0.28], [-0.03, -0.28]])
    c.shape(body * 0.7, "car", at + place * pillar)
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    wheel = np.stack([np.cos(angle), np.sin(angle)], 1)
    for side in (-0.3, 0.3):
        hub = at + place * np.array([side, -0.09])
        c.shape(np.array([0.07, 0.07, 0.08], np.float32), "car", hub + 0.09 * wide * wheel)
        c.shape(np.array([0.6, 0.6, 0.62], np.float32), "car", hub + 0.045 * wide * wheel)


def boat(c: Canvas, x: float, foot: float, wide: float) -> None:
    """A sailing boat (a thing: label 8)."""
    at, size = np.array([x, foot]), wide
    hull = np.array([[-0.5, -0.16], [0.5, -0.18], [0.36, 0.02], [-0.4, 0.02]])
    sail = np.array([[-0.02, -0.95], [-0.02, -0.22], [-0.42, -0.22]])
    jib = np.array([[0.03, -0.85], [0.03, -0.22], [0.36, -0.22]])
    c.contact(at + size * (hull + [0, 0.1]), 3, 0.5)
    c.shape(c.mood.colour(c.rng, 0.6, (0.2, 0.9)), "boat", at + size * hull)
    for part in (sail, jib):
        c.shape(c.mood.colour(c.rng, 0.1, (0.7, 1.0), (0, 0.5)), "boat", at + size * part)
