"""Sky, ground, water and rocks of the procedural outdoor scenes.

Sky, plant and ground are looked at closely by the three-class task, so none of them may be known
by its colour: sky is smooth and soft, ground is a plane whose marks run in perspective, and plants
(`scene_plants`) are high-contrast clumps at several scales.
"""

import cv2
import numpy as np

from infoseg.data.scene_canvas import Canvas
from infoseg.data.scene_textures import (
    cells,
    fractal,
    grid,
    lump,
    masonry,
    mix,
    noise,
    paint,
    relief,
    shift,
    smoothstep,
)

SKY_HUE, SOIL_HUE, WATER_HUE, ROCK_HUE = 0.58, 0.09, 0.55, 0.08  # natural hues, one turn = 1
SKIES = ("clear", "cumulus", "cumulus", "streaks", "overcast", "sunset", "night")
GROUNDS = (
    "road",
    "pavement",
    "dirt",
    "sand",
    "gravel",
    "snow",
    "playingfield",
    "railroad",
    "platform",
    "mud",
    "ground-other",
)


# --- sky ---------------------------------------------------------------------------------------


def sky(c: Canvas, horizon: int) -> None:
    """Fill the picture down to `horizon` (and a little below, for what stands before it)."""
    rng, mood = c.rng, c.mood
    h, w = min(c.h, max(horizon, 8) + 12), c.w
    kind = SKIES[rng.integers(len(SKIES))]
    dark = kind == "night"
    value = (0.08, 0.35) if dark else (0.35, 0.92)
    top = mood.colour(rng, SKY_HUE, value, (0.15, 0.75))
    low = mood.colour(
        rng, SKY_HUE + rng.choice([0.0, 0.45]), (0.2, 0.5) if dark else (0.5, 1.0), (0.05, 0.6)
    )
    rows, cols = grid(h, w)
    t = np.clip(rows / h, 0, 1) ** rng.uniform(0.6, 1.8) + 0 * cols
    t = np.clip(t + 0.12 * (noise(rng, h, w, 120, 2) - 0.5), 0, 1)
    rgb = mix(top, low, t)
    if kind in ("sunset", "night") or rng.random() < 0.25:
        x, y = rng.uniform(0.1, 0.9) * w, rng.uniform(0.3, 1.0) * h
        near = np.hypot(cols - x, 1.4 * (rows - y)) / (0.5 * w)
        glow = mood.colour(rng, 0.09, (0.8, 1.0), (0.1, 0.6))
        rgb = mix(rgb, glow, 0.75 * np.exp(-((near * 1.7) ** 2)))
        rgb = mix(rgb, np.minimum(glow * 1.3, 1), smoothstep(0.075, 0.05, near))
    if kind != "clear":
        size, stretch, low_cut, soft = {
            "cumulus": (80, 1.6, 0.48, 0.2),
            "streaks": (34, 6, 0.45, 0.4),
            "overcast": (70, 2.5, 0.2, 0.6),
            "sunset": (30, 7, 0.45, 0.3),
            "night": (70, 3, 0.5, 0.4),
        }[kind]
        size *= rng.uniform(0.8, 1.4)
        field = fractal(rng, h, w, size, 4, 0.45, stretch)
        cut = low_cut + rng.uniform(-0.08, 0.08)
        cover = smoothstep(cut, cut + soft, field) * rng.uniform(0.7, 1.0)
        dx, dy = -8 * mood.light
        lit = np.clip(0.55 + 2.2 * (field - shift(field, round(-dx), round(dy))), 0, 1)
        lit = cv2.GaussianBlur(lit.astype(np.float32), (0, 0), 3)
        bright = mood.colour(rng, SKY_HUE, (0.35, 0.6) if dark else (0.75, 1.0), (0.0, 0.25))
        shadow = 0.45 * bright + 0.45 * top * rng.uniform(0.6, 1.1)
        rgb = mix(rgb, mix(shadow, bright, lit * (1 - 0.3 * t)), cover)
    name = "clouds" if kind in ("cumulus", "overcast", "streaks") else "sky-other"
    c.cover(rgb.astype(np.float32), name, np.ones((h, w), np.float32))


# --- ground and water --------------------------------------------------------------------------


def plane(c: Canvas, horizon: float, vanish: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates of a level plane below `horizon`: across, into the depth, and nearness.

    Both coordinates are in pixels of the lowest row; nearness is 1 there and 0 at the horizon,
    where marks must fade because they get smaller than a pixel.
    """
    rows, cols = grid(c.h, c.w)
    span = max(c.h - horizon, 0.4 * c.h)
    below = np.maximum(rows - horizon + 0.04 * span, 0.02 * span)
    scale = span / below
    u = (cols - vanish) * scale
    v = 0.8 * span * scale + 0 * cols
    return u.astype(np.float32), v.astype(np.float32), smoothstep(0.05, 0.35, below / span)


def _on_plane(rng, u, v, size: float, octaves: int = 3, smear: float = 1.0) -> np.ndarray:
    """Fractal noise laid on the plane; smear > 1 lengthens it across."""
    tile = fractal(rng, 256, 256, 32, octaves, 0.6)
    to = np.float32(32 / size)
    return cv2.remap(
        tile, u * np.float32(to / smear), v * to, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def ground(c: Canvas, horizon: float, kind: str | None = None, mask=None) -> str:
    """Lay a ground plane from `horizon` down; returns its fine class.

    mask: cover (h, w) to restrict it to, by default everything below the horizon.
    """
    rng, mood = c.rng, c.mood
    kind = kind or GROUNDS[rng.integers(len(GROUNDS))]
    vanish = rng.uniform(0.1, 0.9) * c.w
    u, v, near = plane(c, horizon, vanish)
    ramp = mood.ramp(rng, SOIL_HUE, (0.35, 0.9))
    blotch = _on_plane(rng, u, v, 130)
    rough = _on_plane(rng, u, v, 24) - 0.5
    field = 0.5 + 0.25 * (blotch - 0.5)
    extra = None
    if kind in ("pavement", "platform"):
        wide = rng.uniform(30, 60)
        shade, joint = masonry(rng, u, v, wide, wide * rng.uniform(0.6, 1.6), 0.5)
        field = field + near * (0.34 * (shade - 0.5) - 0.3 * (1 - smoothstep(0.8, 3, joint)))
        field += 0.12 * rough * near
    elif kind in ("dirt", "mud"):
        wave = u + 14 * (_on_plane(rng, u, v, 90) - 0.5)
        furrow = np.sin(2 * np.pi * wave / rng.uniform(34, 60))
        field = field + near * (0.26 * furrow + 0.42 * rough)
        if kind == "mud":
            extra = smoothstep(0.6, 0.68, blotch) * near
    elif kind in ("sand", "snow"):
        wave = v + 30 * (_on_plane(rng, u, v, 150) - 0.5) + 8 * rough
        crest = np.sin(2 * np.pi * wave / rng.uniform(24, 40))
        field = field + near * (0.2 * crest + 0.12 * np.maximum(crest, 0) ** 4 + 0.1 * rough)
    elif kind in ("gravel", "ground-other"):
        size = rng.uniform(18, 30)
        jog_u, jog_v = 9 * (_on_plane(rng, u, v, 30) - 0.5), 9 * (_on_plane(rng, u, v, 30) - 0.5)
        shade, joint = masonry(rng, u + jog_u, v + jog_v, size * 1.25, size, 0.5)
        stone = smoothstep(0, 0.4 * size, joint)
        field = field + near * (0.45 * (shade - 0.5) + 0.35 * (stone - 0.6)) + 0.1 * rough * near
    elif kind == "railroad":
        sleeper = smoothstep(0.1, 0.2, np.abs(np.mod(v / 46, 1) - 0.5) - 0.12)
        inside = smoothstep(96, 92, np.abs(u))
        field = field + near * 0.6 * rough - 0.35 * (1 - sleeper) * inside * near
        rail = np.abs(np.abs(u) - 66)
        field = np.where(rail < 7, 0.9 - 0.1 * rail, field)
    else:  # road, playingfield: smooth with painted lines
        stripe = np.mod(np.floor(u / 60 if rng.random() < 0.5 else v / 60), 2)
        weight = 0.22 if kind == "playingfield" else 0.03
        field = field + weight * (stripe - 0.5) + near * 0.22 * rough
        half = rng.uniform(110, 200)
        line = smoothstep(6, 4, np.abs(np.abs(u) - half))
        if kind == "road":
            line = np.maximum(line, smoothstep(6, 4, np.abs(u)) * (np.mod(v / 90, 1) < 0.55))
        else:
            line = np.maximum(line, smoothstep(7, 5, np.abs(np.mod(v, 260) - 130)))
        extra = line * 0.85 * smoothstep(0.0, 0.15, near)
    rgb = paint(field, ramp)
    if extra is not None:
        mark = mood.colour(rng, 0.14, (0.7, 1.0), (0.0, 0.4))
        rgb = mix(rgb, mark if kind != "mud" else mood.colour(rng, SKY_HUE), extra)
    haze = mood.colour(rng, SKY_HUE, (0.4, 0.85), (0.05, 0.3))
    rgb = mix(rgb, haze, 0.35 * (1 - near) ** 2)
    rows, _ = grid(c.h, c.w)
    wavy = horizon + 2 * (noise(rng, 1, c.w, 1, 40) - 0.5)
    below = smoothstep(-0.7, 0.7, rows - wavy) if mask is None else mask
    c.cover(rgb.astype(np.float32), kind, below.astype(np.float32))
    return kind


def water(c: Canvas, horizon: float, foot: float | None = None) -> None:
    """Water from `horizon` down to a wavy shore at row `foot` (default: the lower border)."""
    rng, mood = c.rng, c.mood
    u, v, near = plane(c, horizon, 0.5 * c.w)
    bend = _on_plane(rng, u, v, 90, smear=2.5)
    small = _on_plane(rng, u, v, 34, smear=3)
    crest = np.sin(2 * np.pi * (v + 60 * bend) / rng.uniform(30, 50))
    field = 0.4 + 0.3 * near * crest * small + 0.28 * (small - 0.5)
    glint = smoothstep(0.62, 0.8, small + 0.12 * crest)
    rgb = paint(field, mood.ramp(rng, WATER_HUE, (0.3, 0.8), (0.2, 0.7), 0.6))
    streak = fractal(rng, c.h, c.w, c.h, 3, 0.6, 0.1)  # upright reflections of the far shore
    rgb = mix(
        rgb,
        mood.colour(rng, 0.2, (0.1, 0.6)),
        0.55 * smoothstep(0.45, 0.8, streak) * (1 - near * 0.7),
    )
    rgb = mix(rgb, mood.colour(rng, SKY_HUE, (0.8, 1.0), (0.0, 0.2)), 0.75 * glint)
    rows, _ = grid(c.h, c.w)
    alpha = smoothstep(-0.7, 0.7, rows - horizon + np.zeros((1, c.w), np.float32))
    name = ("sea", "river", "water-other")[rng.integers(3)]
    if foot is not None:
        shore = foot + 22 * (fractal(rng, 1, c.w, 1, 1, stretch=90) - 0.5) + 0 * rows
        foam = np.exp(-(((rows - shore + 4) / 4) ** 2))
        rgb = mix(rgb, np.ones(3, np.float32), 0.8 * foam)
        alpha = alpha * smoothstep(0.7, -0.7, rows - shore)
    c.cover(rgb.astype(np.float32), name, alpha.astype(np.float32))


# --- solid -------------------------------------------------------------------------------------


def skyline(rng, w: int, base: float, rise: float, size: float, rough: float) -> np.ndarray:
    """Row (w,) of a ridge's upper edge: `rise` is how far its peaks lie above `base`."""
    ridge = fractal(rng, 2, w, 1, 5, rough, stretch=size)[0]
    return base - rise * ridge


def mountain(c: Canvas, base: float, rise: float, name: str = "mountain") -> None:
    """A range of faceted slopes ("mountain") or rounded ones ("hill") standing on row `base`."""
    rng, mood = c.rng, c.mood
    rows, _ = grid(c.h, c.w)
    rounded = name == "hill"
    edge = skyline(rng, c.w, base, rise, c.w / rng.uniform(1.5, 3), 0.3 if rounded else 0.55)
    fold = fractal(rng, c.h, c.w, rng.uniform(50, 80), 3 if rounded else 5, 0.5, 0.8)
    sharp = 1 - np.abs(2 * fold - 1)
    lit = relief((26 if rounded else 44) * sharp + 0 * rows, mood.light, 0.7 if rounded else 1.0)
    field = 0.18 + 0.62 * lit + 0.15 * (rows - edge) / c.h
    rgb = paint(field, mood.ramp(rng, ROCK_HUE))
    if not rounded and rng.random() < 0.5:
        cap = smoothstep(0.42 * rise, 0.12 * rise, rows - edge + 26 * (fold - 0.5))
        rgb = mix(rgb, np.minimum(1, 0.55 + 0.6 * lit[..., None]) + 0 * rgb, cap)
    haze = mood.colour(rng, SKY_HUE, (0.5, 0.9), (0.05, 0.4))
    rgb = mix(rgb, haze, rng.uniform(0.0, 0.45) + 0 * rows + np.zeros((1, c.w), np.float32))
    alpha = smoothstep(-0.8, 0.8, rows - edge) * (rows < base + 30)
    c.cover(rgb.astype(np.float32), name, alpha.astype(np.float32))


def rock(c: Canvas, x: float, y: float, size: float, name: str = "rock") -> None:
    """A boulder or a heap of them whose foot stands on row y; size is about its width."""
    rng, mood = c.rng, c.mood
    h, w = int(size * rng.uniform(0.6, 0.9)) + 4, int(size) + 4
    n = 7
    centres = np.stack([rng.uniform(0.28, 0.72, n) * w, rng.uniform(0.5, 0.95, n) * h], 1)
    height = lump(h, w, centres, rng.uniform(0.2, 0.33, n) * w)
    facet = cells(rng, h, w, max(size / 5, 9), 1.2)
    outline = height + 5 * (facet.shade - 0.5) * (height > 0)
    field = 0.2 + 0.5 * relief(height, mood.light, 0.9) + 0.34 * (facet.shade - 0.5)
    field += 0.3 * (fractal(rng, h, w, 14) - 0.5) - 0.25 * (1 - smoothstep(0, 2.0, facet.edge))
    left, top = int(x - w / 2), int(y - h)
    foot = np.array(
        [[x - 0.45 * w, y - 5], [x + 0.45 * w, y - 5], [x + 0.5 * w, y + 4], [x - 0.5 * w, y + 4]]
    )
    c.contact(foot, 4, 0.5)
    c.cover(paint(field, mood.ramp(rng, ROCK_HUE)), name, smoothstep(1.5, 4, outline), left, top)
