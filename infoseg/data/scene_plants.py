"""Trees, firs, bushes, hedges and tall grass of the procedural outdoor scenes.

Plants are high-contrast clumps at several scales, in any colour: a lit dome, lobes on it, leaves
on those.
"""

import cv2
import numpy as np

from infoseg.data.scene_canvas import Canvas
from infoseg.data.scene_textures import (
    Mood,
    cells,
    fractal,
    grid,
    lump,
    mix,
    paint,
    relief,
    smoothstep,
)

LEAF_HUE = 0.27  # natural hue, one turn = 1


def leaf_ramp(rng, mood: Mood) -> np.ndarray:
    """A high-contrast ramp for foliage of any colour."""
    return mood.ramp(rng, LEAF_HUE + rng.normal(0, 0.04), (0.35, 0.8), (0.25, 0.8), 0.72)


def foliage(rng, light: np.ndarray, h: int, w: int, leaf: float) -> np.ndarray:
    """Field of leaves in clumps: domes of two sizes lit from one side, dark gaps between."""
    big, small = cells(rng, h, w, 3.0 * leaf), cells(rng, h, w, leaf, rng.uniform(0.8, 1.5))
    lit = light[0] * big.dx - light[1] * big.dy
    tip = light[0] * small.dx - light[1] * small.dy
    field = 0.44 + 0.36 * lit + 0.26 * tip + 0.42 * (small.shade - 0.5) + 0.2 * (big.shade - 0.5)
    field += 0.62 * (fractal(rng, h, w, leaf, 2, 0.8, 0.8) - 0.5)
    field -= 0.4 * smoothstep(0.45, 0.85, np.hypot(small.dx, small.dy))
    return field - 0.25 * smoothstep(0.45, 0.75, np.hypot(big.dx, big.dy))


def crown(
    c: Canvas,
    x: float,
    y: float,
    wide: float,
    high: float,
    name: str,
    ramp: np.ndarray,
    flowers: bool = False,
) -> None:
    """A leafy body of overlapping lobes around x, y, `wide` by `high` pixels."""
    rng, light = c.rng, c.mood.light
    w, h = int(wide * 1.15) + 6, int(high * 1.15) + 6
    if w < 8 or h < 8 or x + w / 2 < 0 or x - w / 2 > c.w:
        return
    n = int(rng.integers(9, 18))
    angle, far = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.uniform(0.05, 1, n))
    radii = rng.uniform(0.16, 0.3, n) * min(w, h)
    centres = np.stack(
        [
            w / 2 + far * np.cos(angle) * (w / 2 - 0.21 * min(w, h)),
            h / 2 + far * np.sin(angle) * (h / 2 - 0.21 * min(w, h)),
        ],
        1,
    )
    height = lump(h, w, centres, radii)
    leaf = float(np.clip(min(w, h) / 10, 6, 12))
    leaves = foliage(rng, light, h, w, leaf)
    rows, _ = grid(h, w)
    dome = relief(cv2.GaussianBlur(height, (0, 0), 2), light, 0.8)
    field = 0.8 * leaves + 0.62 * dome - 0.12 - 0.28 * smoothstep(0.35, 1.0, rows / h)
    rgb = paint(field, ramp)
    if flowers:
        dots = cells(rng, h, w, 11)
        bloom = smoothstep(0.32, 0.22, np.hypot(dots.dx, dots.dy)) * (dots.shade > 0.45)
        rgb = mix(rgb, c.mood.colour(rng, 0.95, (0.7, 1.0), (0.2, 0.9)), bloom)
    ragged = np.minimum(height + 1.5 * leaf * (leaves - 0.5), 3 * height)
    c.cover(rgb, name, smoothstep(2.0, 5.0, ragged), int(x - w / 2), int(y - h / 2))


def tree(c: Canvas, x: float, foot: float, high: float) -> None:
    """A broad-leaved tree: trunk, shadow on the ground, crown."""
    rng = c.rng
    ramp = leaf_ramp(rng, c.mood)
    wide = high * rng.uniform(0.55, 0.95)
    trunk = max(3.0, high * rng.uniform(0.05, 0.09))
    side = -c.mood.light[0]
    c.contact(_oval(x + side * 0.3 * wide, foot, 0.5 * wide, 0.08 * high + 2), 4, 0.45)
    lean = rng.uniform(-0.06, 0.06) * high
    h, w = max(int(0.6 * high), 8), max(int(2.8 * trunk), 8)
    _, cols = grid(h, w)
    bark = fractal(rng, h, w, 40, 3, 0.7, 0.2) * 0.5 + 0.4 * smoothstep(
        -0.3 * w, 0.3 * w, (cols - w / 2) * np.sign(c.mood.light[0])
    )
    body = np.array(
        [
            [x - 0.6 * trunk + lean, foot - 0.6 * high],
            [x + 0.6 * trunk + lean, foot - 0.6 * high],
            [x + 1.4 * trunk, foot],
            [x - 1.4 * trunk, foot],
        ]
    )
    c.quad(paint(bark, c.mood.ramp(rng, 0.06, (0.2, 0.5), contrast=0.7)), "tree", body)
    crown(c, x + lean, foot - 0.66 * high, wide, 0.72 * high, "tree", ramp)


def conifer(c: Canvas, x: float, foot: float, high: float) -> None:
    """A fir: hanging tiers of needles, wider towards the ground."""
    rng = c.rng
    wide = high * rng.uniform(0.38, 0.55)
    w, h = int(wide) + 8, int(high) + 8
    if x + w / 2 < 0 or x - w / 2 > c.w or h < 14:
        return
    rows, cols = grid(h, w)
    t = rows / h
    tiers = max(4, int(high / 20))
    saw = np.mod(t * tiers, 1)
    reach = (0.12 + 0.88 * t) * (0.62 + 0.38 * saw) * wide / 2
    comb = 4 * (fractal(rng, h, w, 9, 2, 0.6, 0.8) - 0.5)
    inside = reach - np.abs(cols - w / 2) + 1.7 * comb
    lit = (cols - w / 2) / (reach + 4) * c.mood.light[0]
    field = 0.22 + 0.22 * lit + 0.4 * saw + 0.16 * comb
    c.contact(_oval(x, foot, 0.5 * wide, 0.06 * high + 2), 4, 0.5)
    c.cover(
        paint(field, leaf_ramp(rng, c.mood)),
        "tree",
        (smoothstep(0, 2.5, inside) * (t < 0.97)).astype(np.float32),
        int(x - w / 2),
        int(foot - h),
    )


def bush(c: Canvas, x: float, foot: float, wide: float) -> None:
    """A shrub on the ground, sometimes in flower."""
    flowers = c.rng.random() < 0.3
    high = wide * c.rng.uniform(0.5, 0.85)
    c.contact(_oval(x - c.mood.light[0] * 0.1 * wide, foot, 0.5 * wide, 0.1 * wide), 4, 0.5)
    crown(
        c,
        x,
        foot - 0.45 * high,
        wide,
        high,
        "flower" if flowers else "bush",
        leaf_ramp(c.rng, c.mood),
        flowers,
    )


def thicket(c: Canvas, top: np.ndarray, foot: float, name: str = "leaves") -> None:
    """A wall of leaves from the ragged row `top` (w,) down to `foot`: hedge, wood's edge."""
    rng = c.rng
    rows, _ = grid(c.h, c.w)
    leaf = rng.uniform(8, 13)
    leaves = foliage(rng, c.mood.light, c.h, c.w, leaf)
    depth = fractal(rng, c.h, c.w, 70, 3)
    field = 0.62 * leaves + 0.55 * depth - 0.1 - 0.2 * smoothstep(0, 1, (rows - top) / c.h * 2)
    inside = np.minimum(rows - top + 1.2 * leaf * (leaves - 0.4), foot - rows + 3 * leaves)
    c.cover(paint(field, leaf_ramp(rng, c.mood)), name, smoothstep(-1, 1, inside))


def blades(c: Canvas, top: np.ndarray, foot: float, name: str = "grass") -> None:
    """Tall grass or reeds: overlapping upright blades, longer towards the viewer."""
    rng, mood = c.rng, c.mood
    ramp = leaf_ramp(rng, mood)
    base = float(np.clip(foot, 0, c.h + 20))
    low = float(np.min(top))
    n = int(np.clip(c.w * (base - low) / 70, 150, 1300))
    y = np.sort(rng.uniform(low, base + 25, n))
    x = rng.uniform(-5, c.w + 5, n)
    length = rng.uniform(16, 34, n) * (0.6 + 0.8 * (y - low) / max(base - low, 1))
    bend = rng.normal(0, 0.35, n) + rng.normal(0, 0.2)
    shade = rng.integers(25, 250, n)
    layer, cover = np.zeros((c.h, c.w), np.uint8), np.zeros((c.h, c.w), np.uint8)
    start = np.interp(x, np.arange(c.w), top)
    for i in range(n):
        if y[i] < start[i]:
            continue
        thick = 1.6 + length[i] / 16
        root, tip = (x[i], y[i]), (x[i] + bend[i] * length[i], y[i] - length[i])
        blade = np.array(
            [
                [root[0] - thick, root[1]],
                [x[i] + 0.3 * bend[i] * length[i] - thick / 2, y[i] - 0.6 * length[i]],
                tip,
                [x[i] + 0.3 * bend[i] * length[i] + thick / 2, y[i] - 0.6 * length[i]],
                [root[0] + thick, root[1]],
            ]
        )
        fixed = [np.round(blade * 16).astype(np.int32)]
        cv2.fillPoly(layer, fixed, int(shade[i]), cv2.LINE_8, 4)
        cv2.fillPoly(cover, fixed, 255, cv2.LINE_8, 4)
    rows, _ = grid(c.h, c.w)
    solid = smoothstep(-2, 4, rows - top) * (rows < base)
    alpha = np.maximum(cover / np.float32(255) * (rows < base), solid).astype(np.float32)
    field = layer / np.float32(255) * 0.9 + 0.05
    c.cover(paint(field, ramp), name, alpha)


def _oval(x: float, y: float, a: float, b: float) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    return np.stack([x + a * np.cos(t), y + b * np.sin(t)], 1)
