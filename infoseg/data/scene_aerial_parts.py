"""Surfaces and objects seen from above; `scene_aerial` puts them together to a tile."""

import cv2
import numpy as np

from infoseg.data.scene_textures import (
    Mood,
    cells,
    fractal,
    grid,
    hsv,
    lump,
    masonry,
    mix,
    noise,
    paint,
    relief,
    smoothstep,
)

ROAD, BUILDING, LOW, TREE, CAR, CLUTTER = range(6)
SHADOW_STEPS = 14  # samples along the sun's ray
SHADOW_DARKNESS = (0.42, 0.6)  # what is taken away of the light in a shadow
INFRARED = {
    ROAD: (0.15, 0.5),
    BUILDING: (0.12, 0.65),
    LOW: (0.4, 0.8),
    TREE: (0.45, 0.9),
    CAR: (0.1, 0.6),
    CLUTTER: (0.1, 0.5),
}  # mean reflectance; the ranges overlap
NATURE_HUE = 0.6  # share of tiles in the hues one expects


class Sheet:
    """The tile under work: R, G, B, IR (n, n, 4) float32, labels (n, n), heights in pixels."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.mood = Mood(rng)
        self.mood.natural = rng.random() < NATURE_HUE
        self.bands = np.full((size, size, 4), 0.4, np.float32)
        self.label = np.full((size, size), LOW, np.uint8)
        self.height = np.zeros((size, size), np.float32)
        self.vegetation_gain = rng.uniform(0.7, 1.15)

    def material(self, field: np.ndarray, ramp: np.ndarray, kind: int) -> np.ndarray:
        """Field through a ramp, with an infrared band as this class reflects it."""
        level = self.rng.uniform(*INFRARED[kind])
        level *= self.vegetation_gain if kind in (LOW, TREE) else 1.0
        near = np.clip(level * (0.45 + 1.1 * np.clip(field, 0, 1)), 0, 1)
        return np.dstack([paint(field, ramp), near.astype(np.float32)])

    def cover(self, bands, kind: int | None, alpha, x: int = 0, y: int = 0, height=None) -> None:
        """Paint a patch with its corner at x, y; bands (4,) or (h, w, 4), alpha (h, w)."""
        h, w = alpha.shape
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, self.size), min(y + h, self.size)
        if x0 >= x1 or y0 >= y1:
            return
        here, part = (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
        alpha = alpha[part]
        source = bands[part] if bands.ndim == 3 else bands
        self.bands[here] += (source - self.bands[here]) * alpha[..., None]
        if kind is not None:
            self.label[here][alpha > 0.5] = kind
        if height is not None:
            top = height[part] if isinstance(height, np.ndarray) else height
            self.height[here] = np.where(alpha > 0.5, top, self.height[here])

    def light(self, factor: np.ndarray) -> None:
        """Multiply all bands by a field (n, n)."""
        self.bands *= factor[..., None]

    def finish(self) -> np.ndarray:
        """Throw the shadows, add haze, lens and sensor: (n, n, 4) uint8."""
        rng, n = self.rng, self.size
        toward = self.mood.light / np.hypot(*self.mood.light)
        shadow = np.zeros((n, n), np.float32)
        for step in range(1, SHADOW_STEPS + 1):
            reach = step * 2.6
            matrix = np.array([[1, 0, -toward[0] * reach], [0, 1, toward[1] * reach]], np.float32)
            moved = cv2.warpAffine(self.height, matrix, (n, n))
            np.maximum(shadow, moved - reach * 0.9 - self.height, out=shadow)
        shadow = cv2.GaussianBlur(smoothstep(0, 2.5, shadow), (0, 0), 1.0)
        dark = rng.uniform(*SHADOW_DARKNESS) * np.array([1.08, 1.0, 0.86, 1.12], np.float32)
        for band in range(4):
            plane = self.bands[..., band]
            plane *= 1 - dark[band] * shadow
        self.light(0.88 + 0.24 * fractal(rng, n, n, 500, 2))
        gain = rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.04, 4))
        gain[3] *= rng.uniform(0.75, 1.2)
        out = cv2.GaussianBlur(self.bands * gain.astype(np.float32), (0, 0), 0.7)
        out += rng.standard_normal((n, n, 1), np.float32) * rng.uniform(0.006, 0.014)
        return (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)


# --- masks -------------------------------------------------------------------------------------


def stroke(size: int, lines: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Cover (size, size) of thick lines given as (points x, y; width)."""
    out = np.zeros((size, size), np.uint8)
    for points, width in lines:
        fixed = np.round(points * 16).astype(np.int32)
        cv2.polylines(out, [fixed], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    return out.astype(np.float32) / 255


def box(size: int, x: float, y: float, w: float, h: float) -> np.ndarray:
    """Cover of an upright rectangle with rounded corners."""
    rows, cols = grid(size, size)
    dx, dy = np.abs(cols - x - w / 2) - w / 2 + 8, np.abs(rows - y - h / 2) - h / 2 + 8
    return smoothstep(8.7, 7.3, np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)))


def turned(x: float, y: float, a: float, b: float, angle: float):
    """Corner and coordinates of a patch round x, y: (x0, y0, u along, v across).

    a, b: half length and half width in pixels; u runs along the angle.
    """
    reach = int(np.hypot(a, b)) + 4
    x0, y0 = int(x) - reach, int(y) - reach
    rows, cols = grid(2 * reach, 2 * reach)
    px, py = cols + (x0 - x), rows + (y0 - y)
    u = px * np.cos(angle) + py * np.sin(angle)
    v = -px * np.sin(angle) + py * np.cos(angle)
    return x0, y0, u.astype(np.float32), v.astype(np.float32)


# --- surfaces ----------------------------------------------------------------------------------


def asphalt(s: Sheet) -> np.ndarray:
    """Worn carriageway: patches, tyre marks, fine grain."""
    n = s.size
    field = 0.45 + 0.3 * (fractal(s.rng, n, n, 120, 3) - 0.5) + 0.16 * (noise(s.rng, n, n, 6) - 0.5)
    patch = cells(s.rng, n, n, 130, 1.5)
    field += 0.14 * (patch.shade > 0.75)
    return s.material(field, s.mood.ramp(s.rng, 0.6, (0.25, 0.7), (0.0, 0.25), 0.45), ROAD)


def paving(s: Sheet, side: float) -> np.ndarray:
    """Slabs or setts."""
    n = s.size
    rows, cols = grid(n, n)
    a = s.rng.uniform(-0.3, 0.3)
    u, v = cols * np.cos(a) + rows * np.sin(a), rows * np.cos(a) - cols * np.sin(a)
    shade, joint = masonry(s.rng, u, v, side * 1.4, side)
    field = 0.5 + 0.25 * (shade - 0.5) - 0.28 * (1 - smoothstep(0.4, 1.8, joint))
    field += 0.25 * (fractal(s.rng, n, n, 90, 3) - 0.5)
    return s.material(field, s.mood.ramp(s.rng, 0.08, (0.4, 0.85), (0.02, 0.3), 0.4), ROAD)


def lawn(s: Sheet) -> np.ndarray:
    """Mown stripes, meadow or furrowed field."""
    rng, n = s.rng, s.size
    rows, cols = grid(n, n)
    a = rng.uniform(0, np.pi)
    along = cols * np.cos(a) + rows * np.sin(a) + 16 * noise(rng, n, n, 150)
    wave = np.sin(2 * np.pi * along / rng.uniform(18, 44))
    kind = rng.integers(3)
    stripe = (0.12 * np.sign(wave), 0.2 * wave, 0.0 * wave)[kind]
    tuft = fractal(rng, n, n, 26, 3, 0.7) - 0.5
    field = 0.47 + stripe + (0.35, 0.25, 0.6)[kind] * tuft
    field += 0.3 * (fractal(rng, n, n, 160, 3) - 0.5)
    hue = rng.choice([0.26, 0.2, 0.13])
    return s.material(field, s.mood.ramp(rng, hue, (0.3, 0.75), (0.2, 0.6), 0.45), LOW)


def road_marking(s: Sheet, line: np.ndarray, width: float, carriage: np.ndarray) -> None:
    """A dashed centre line and, on wide roads, lines along the edge."""
    paint_band = np.array([0.9, 0.9, 0.86, 0.6], np.float32)
    pieces = [(line[i : i + 2], 3.2) for i in range(0, len(line) - 1, 2)]
    if width > 60:
        ahead = np.gradient(line, axis=0)
        side = np.stack([-ahead[:, 1], ahead[:, 0]], 1) / np.hypot(*ahead.T)[:, None]
        pieces += [(line + side * sign * (width / 2 - 19), 2) for sign in (-1, 1)]
    s.cover(paint_band, ROAD, stroke(s.size, pieces) * carriage * s.rng.uniform(0.5, 0.9))


# --- objects -----------------------------------------------------------------------------------


def building(s: Sheet, x: float, y: float, long: float, wide: float, angle: float) -> None:
    """A roof: hipped, gabled or flat."""
    rng, a, b = s.rng, long / 2, wide / 2
    x0, y0, u, v = turned(x, y, a, b, angle)
    inside = np.maximum(np.abs(u) - a, np.abs(v) - b)
    alpha = smoothstep(0.7, -0.7, inside)
    sun = s.mood.light[0] * np.cos(angle) - s.mood.light[1] * np.sin(angle)
    sun_v = -s.mood.light[0] * np.sin(angle) - s.mood.light[1] * np.cos(angle)
    kind = rng.choice(["hip", "gable", "flat"], p=[0.36, 0.36, 0.28])
    grain = fractal(rng, *u.shape, 40, 4, 0.6) - 0.5
    eave = rng.uniform(13, 24)
    if kind == "flat":
        rim = smoothstep(6, 4.5, -inside)
        seam = smoothstep(1.5, 0.5, np.abs(np.mod(u, 30) - 15))
        field = 0.5 + 0.4 * grain - 0.12 * seam + 0.28 * rim
        bands = s.material(field, s.mood.ramp(rng, 0.08, (0.3, 0.85), (0.0, 0.35), 0.4), BUILDING)
        height = eave + 3 * rim
        for _ in range(int(rng.integers(2, 6))):
            du, dv = rng.uniform(-0.7, 0.7) * a, rng.uniform(-0.6, 0.6) * b
            size_u, size_v = rng.uniform(5, 11), rng.uniform(5, 9)
            unit = smoothstep(
                0.7, -0.7, np.maximum(np.abs(u - du) - size_u, np.abs(v - dv) - size_v)
            )
            tone = rng.uniform(0.25, 0.95) * np.array([1, 1, 1, 0.7], np.float32)
            bands = mix(bands, tone * (1 - 0.3 * (u > du))[..., None], unit)
            height = np.where(unit > 0.5, eave + 8, height)
    else:
        run_u = (a - np.abs(u)) if kind == "hip" else np.full_like(u, 1e3)
        on_end = run_u < b - np.abs(v)
        facing = np.where(on_end, np.sign(u) * sun, np.sign(v) * sun_v)
        down = np.where(on_end, run_u, b - np.abs(v))
        across = np.where(on_end, v, u)
        shade, joint = masonry(rng, across, down, rng.uniform(9, 13), rng.uniform(8, 11))
        field = 0.45 + 0.27 * facing + 0.2 * (shade - 0.5) + 0.25 * grain
        field -= 0.14 * (1 - smoothstep(0.3, 1.6, joint))
        ridge = (
            np.abs(b - down)
            if kind == "gable"
            else np.minimum(np.abs(b - down), np.abs(run_u - b + np.abs(v)))
        )
        field += 0.22 * smoothstep(2.4, 1.0, ridge)
        bands = s.material(field, s.mood.ramp(rng, 0.03, (0.3, 0.75), (0.1, 0.65), 0.55), BUILDING)
        height = eave + 0.35 * down
        for _ in range(int(rng.integers(0, 4))):  # roof lights and chimneys
            du, dv = rng.uniform(-0.6, 0.6) * a, rng.choice([-1, 1]) * rng.uniform(0.25, 0.6) * b
            hole = smoothstep(0.7, -0.7, np.maximum(np.abs(u - du) - 4.5, np.abs(v - dv) - 6))
            tone = np.array([0.2, 0.24, 0.3, 0.15], np.float32) * rng.uniform(0.6, 3)
            bands = mix(bands, tone, hole)
    s.cover(bands.astype(np.float32), BUILDING, alpha, x0, y0, height.astype(np.float32))


def leaves(s: Sheet) -> np.ndarray:
    """A ramp for tree crowns."""
    return s.mood.ramp(s.rng, s.rng.choice([0.28, 0.24, 0.33, 0.12]), (0.25, 0.65), (0.2, 0.7), 0.7)


def tree(s: Sheet, x: float, y: float, wide: float, ramp: np.ndarray) -> None:
    """A crown of lumps with a sunlit and a shaded side."""
    rng, n = s.rng, int(wide * 1.2) + 6
    count = int(rng.integers(8, 15))
    angle, far = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.uniform(0, 1, count))
    radii = rng.uniform(0.15, 0.27, count) * wide
    middle = np.stack([np.cos(angle), np.sin(angle)], 1) * (far * 0.3 * wide)[:, None] + n / 2
    body = lump(n, n, middle, radii)
    rows, cols = grid(n, n)
    dome = np.sqrt(np.maximum((0.55 * wide) ** 2 - (cols - n / 2) ** 2 - (rows - n / 2) ** 2, 0))
    leaf = cells(rng, n, n, rng.uniform(6, 9))
    lit = relief(body + 0.5 * dome, s.mood.light, 0.9)
    field = 0.05 + 0.72 * lit + 0.3 * (leaf.shade - 0.5) - 0.2 * (np.hypot(leaf.dx, leaf.dy) > 0.6)
    alpha = smoothstep(1.5, 3.5, body + 4 * (leaf.shade - 0.5))
    height = (10 + 0.45 * wide * np.clip(body / (0.2 * wide), 0, 1)).astype(np.float32)
    s.cover(s.material(field, ramp, TREE), TREE, alpha, int(x - n / 2), int(y - n / 2), height)


def car(s: Sheet, x: float, y: float, angle: float) -> None:
    """A car or, sometimes, a van: body, windscreens, roof."""
    rng = s.rng
    a, b = rng.uniform(13, 16), rng.uniform(6.4, 7.8)
    if rng.random() < 0.08:
        a, b = 1.4 * a, 1.15 * b
    x0, y0, u, v = turned(x, y, a, b, angle)
    gap = np.hypot(np.maximum(np.abs(u) - a + 4, 0), np.maximum(np.abs(v) - b + 4, 0)) - 4
    body = np.append(
        hsv(
            rng.random(),
            rng.choice([0.06, 0.06, 0.6]) * rng.uniform(0.4, 1),
            rng.uniform(0.12, 1.0),
        ),
        rng.uniform(*INFRARED[CAR]),
    )
    round_side = 1.1 - 0.3 * (np.abs(v) / b) ** 3 + 0.1 * np.sign(v) * s.mood.light[0]
    bands = body.astype(np.float32) * round_side[..., None]
    front, back = np.abs(u - 0.3 * a) < 0.15 * a, np.abs(u + 0.62 * a) < 0.1 * a
    side = (np.abs(np.abs(v) - 0.78 * b) < 0.1 * b) & (np.abs(u + 0.15 * a) < 0.4 * a)
    glass = ((front | back) & (np.abs(v) < 0.76 * b)) | side
    bands = mix(bands, np.array([0.1, 0.12, 0.15, 0.08], np.float32), glass * np.float32(0.95))
    s.cover(bands.astype(np.float32), CAR, smoothstep(0.6, -0.6, gap), x0, y0, 6.0)


def site(s: Sheet, x: float, y: float, w: float, h: float, allowed: np.ndarray) -> None:
    """A building site: churned soil, tracks, heaps, a trench."""
    rng, n = s.rng, s.size
    mask = box(n, x, y, w, h) * allowed
    centres = np.stack([rng.uniform(x + 15, x + w - 15, 6), rng.uniform(y + 15, y + h - 15, 6)], 1)
    heap = lump(n, n, centres, rng.uniform(12, 26, 6))
    rough = fractal(rng, n, n, 40, 5, 0.65)
    field = 0.15 + 0.4 * relief(0.8 * heap + 14 * rough, s.mood.light) + 0.35 * rough
    ramp = s.mood.ramp(rng, 0.08, (0.4, 0.8), (0.15, 0.55), 0.55)
    s.cover(s.material(field, ramp, CLUTTER), CLUTTER, mask, height=heap * 0.6)


def pond(s: Sheet, x: float, y: float, w: float, h: float, allowed: np.ndarray) -> None:
    """Standing water with a bank."""
    rng, n = s.rng, s.size
    rows, cols = grid(n, n)
    far = np.hypot((cols - x - w / 2) / w * 2, (rows - y - h / 2) / h * 2)
    far = far + 0.5 * (fractal(rng, n, n, 70, 3) - 0.5)
    ripple = np.sin((cols + rows * 0.5 + 20 * noise(rng, n, n, 60)) / 2.6)
    field = 0.4 + 0.12 * ripple + 0.3 * (fractal(rng, n, n, 90, 3) - 0.5) + 0.35 * (far > 0.93)
    ramp = s.mood.ramp(rng, 0.5, (0.2, 0.6), (0.2, 0.7), 0.6)
    s.cover(s.material(field, ramp, CLUTTER), CLUTTER, smoothstep(1.03, 0.99, far) * allowed)


def court(s: Sheet, x: float, y: float, w: float, h: float, allowed: np.ndarray) -> None:
    """A sports court with its lines."""
    rng, n = s.rng, s.size
    rows, cols = grid(n, n)
    inset = np.minimum(np.minimum(cols - x, x + w - cols), np.minimum(rows - y, y + h - rows))
    line = smoothstep(2.2, 1.2, np.abs(inset - 14))
    line = np.maximum(line, smoothstep(2.2, 1.2, np.abs(cols - x - w / 2)) * (inset > 14))
    field = 0.5 + 0.25 * (fractal(rng, n, n, 70, 3) - 0.5) - 0.2 * (inset < 14)
    ramp = s.mood.ramp(rng, 0.03, (0.4, 0.7), (0.3, 0.7), 0.4)
    white = np.array([0.95, 0.95, 0.9, 0.6], np.float32)
    bands = mix(s.material(field, ramp, CLUTTER), white, line)
    s.cover(bands, CLUTTER, box(n, x, y, w, h) * allowed)


def containers(s: Sheet, x: float, y: float, w: float, h: float, allowed: np.ndarray) -> None:
    """Rows of ribbed containers and stacks on rough ground."""
    site(s, x, y, w, h, allowed)
    rng = s.rng
    angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.06)
    for cx in np.arange(x + 28, x + w - 20, 52):
        for cy in np.arange(y + 22, y + h - 14, 30):
            inside = allowed[min(int(cy), s.size - 1), min(int(cx), s.size - 1)]
            if rng.random() < 0.25 or inside < 1:
                continue
            x0, y0, u, v = turned(cx, cy, 23, 9, angle)
            gap = np.maximum(np.abs(u) - 22, np.abs(v) - 9)
            field = 0.5 + 0.25 * np.sin(2 * np.pi * u / 6)
            ramp = s.mood.ramp(rng, rng.random(), (0.3, 0.8), (0.3, 0.9), 0.5)
            s.cover(
                s.material(field, ramp, CLUTTER), CLUTTER, smoothstep(0.6, -0.6, gap), x0, y0, 14.0
            )
