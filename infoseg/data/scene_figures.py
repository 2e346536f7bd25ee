"""Articulated people for the procedural scenes: posed, dressed, shaded and cut by the frame."""

from dataclasses import dataclass

import cv2
import numpy as np

from infoseg.data.scene_canvas import Canvas
from infoseg.data.scene_textures import fractal, grid, hsv, mix, smoothstep

# Lengths in units of the body's height.
HEAD, NECK, SHOULDER, HIP, KNEE = 0.915, 0.85, 0.8, 0.5, 0.26
UPPER_ARM, FORE_ARM, HAND = 0.165, 0.15, 0.028
CROWD_EVERY = 160  # one person picture in this many shows a crowd behind the figures
CROWD_FIRST = 3
CROWD_HEADS = 9
LARGEST = 0.6  # of a picture may be people; larger groups are drawn again, smaller
ATTEMPTS = 5


class Fabric:
    """A cloth: colour and pattern as a function of coordinates along and across the body part."""

    def __init__(self, rng: np.random.Generator, height: float) -> None:
        self.base = hsv(rng.random(), rng.uniform(0.0, 0.9), rng.uniform(0.15, 0.95))
        self.second = hsv(rng.random(), rng.uniform(0.0, 0.9), rng.uniform(0.1, 1.0))
        self.kind = rng.integers(6)  # 0, 1: plain
        self.step = float(np.clip(height * rng.uniform(0.035, 0.07), 8, 30))

    def __call__(self, across: np.ndarray, along: np.ndarray) -> np.ndarray:
        u, v = across / self.step, along / self.step
        if self.kind == 2:
            weight = smoothstep(-0.25, 0.25, np.sin(np.pi * v))
        elif self.kind == 3:
            weight = smoothstep(-0.25, 0.25, np.sin(np.pi * u))
        elif self.kind == 4:
            weight = 0.5 * (np.sin(np.pi * u) > 0) + 0.5 * (np.sin(np.pi * v) > 0)
        elif self.kind == 5:
            weight = smoothstep(0.35, 0.6, np.cos(np.pi * u) * np.cos(np.pi * v))
        else:
            weight = np.zeros_like(u)
        return mix(self.base, self.second, weight.astype(np.float32))


class Plain(Fabric):
    """Skin, hair or leather: one colour."""

    def __init__(self, colour: np.ndarray) -> None:
        self.base, self.second, self.kind, self.step = colour, colour, 0, 10.0


@dataclass
class Figure:
    """Where one person stands on the canvas and what was painted of them so far."""

    canvas: Canvas
    x: float  # column of the hip's middle
    foot: float  # row the feet stand on
    height: float  # body height in pixels
    body: np.ndarray  # cover (h, w) of everything painted, 0..1

    def at(self, dx: float, y: float) -> np.ndarray:
        """Pixel position of a point given in body heights: right of the hip, above the foot."""
        return np.array([self.x + dx * self.height, self.foot - y * self.height])

    def part(self, start, end, profile, fabric: Fabric, capsule: bool = False) -> None:
        """Paint a body part swept along the line from start to end (pixels).

        profile: rows of (position 0..1 along the line, radius in pixels). A capsule has round
        ends beyond start and end; other parts end at the profile's first and last position.
        """
        c, profile = self.canvas, np.asarray(profile, np.float64)
        start, end = np.asarray(start, float), np.asarray(end, float)
        reach = profile[:, 1].max() + 3
        low = np.floor(np.minimum(start, end) - reach).astype(int)
        high = np.ceil(np.maximum(start, end) + reach).astype(int)
        x0, y0 = max(low[0], 0), max(low[1], 0)
        x1, y1 = min(high[0], c.w), min(high[1], c.h)
        if x0 >= x1 or y0 >= y1:
            return
        rows, cols = grid(y1 - y0, x1 - x0)
        length = max(np.hypot(*(end - start)), 1e-3)
        axis = (end - start) / length
        px, py = cols + (x0 - start[0]), rows + (y0 - start[1])
        along = px * axis[0] + py * axis[1]
        across = px * axis[1] - py * axis[0]
        s = along / length
        radius = np.interp(np.clip(s, 0, 1), profile[:, 0], profile[:, 1])
        if capsule:
            beyond = np.maximum(np.maximum(-along, along - length), 0)
            gap = np.hypot(across, beyond) - radius
        else:
            gap = np.maximum(np.abs(across) - radius, np.maximum(-along, along - length))
        alpha = smoothstep(0.75, -0.75, gap).astype(np.float32)
        turn = np.clip(across / np.maximum(radius, 1), -1, 1)
        normal_x = turn * axis[1]  # how far the surface faces right
        light = c.mood.light
        fold = fractal(c.rng, y1 - y0, x1 - x0, max(self.height * 0.07, 8), 2) - 0.5
        lit = 0.62 + 0.42 * np.sqrt(1 - 0.9 * turn * turn) + 0.3 * normal_x * light[0]
        lit = lit + 0.22 * fold - 0.12 * (turn * axis[0]) * light[1]
        rgb = fabric(across + 0.1 * radius * fold, along) * lit[..., None]
        edge = cv2.GaussianBlur(alpha, (0, 0), 3)
        c.shade(edge, 0.28, x0 + 2, y0 + 3)
        c.cover(np.clip(rgb, 0, 1).astype(np.float32), "person", alpha, x0, y0)
        here = self.body[y0:y1, x0:x1]
        np.maximum(here, alpha, out=here)

    def limb(self, start, end, first: float, last: float, fabric: Fabric) -> None:
        """A capsule with radii given in body heights."""
        h = self.height
        self.part(start, end, [(0, first * h), (1, last * h)], fabric, capsule=True)


def _step(start: np.ndarray, angle: float, length: float) -> np.ndarray:
    """The point `length` pixels from start; angle 0 hangs down, positive swings right."""
    return start + length * np.array([np.sin(angle), np.cos(angle)])


def draw(c: Canvas, x: float, foot: float, height: float) -> np.ndarray:
    """Paint one person; returns their cover (h, w) in 0..1, before others may hide them."""
    rng = c.rng
    f = Figure(c, x, foot, height, np.zeros((c.h, c.w), np.float32))
    build = rng.uniform(0.9, 1.25)
    skin = Plain(hsv(rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.98)))
    hair = Plain(hsv(rng.choice([rng.random(), 0.08]), rng.uniform(0, 0.7), rng.uniform(0.05, 0.8)))
    shirt, legs, jacket = (Fabric(rng, height) for _ in range(3))
    shoe = Plain(hsv(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.05, 0.6)))
    skirt, open_jacket, sleeves = rng.random() < 0.3, rng.random() < 0.3, rng.random() < 0.7
    bare_legs = skirt or rng.random() < 0.2
    frontal = rng.random() < 0.7
    lean = rng.normal(0, 0.03)
    half_s, half_h = (0.098, 0.056) if frontal else (0.04, 0.025)
    h = height

    if foot < c.h + 0.1 * h:
        t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        shadow = np.stack(
            [x - 0.12 * h * c.mood.light[0] + 0.2 * h * np.cos(t), foot + 0.03 * h * np.sin(t)], 1
        )
        c.contact(shadow, max(0.02 * h, 2), 0.55)

    pose = rng.integers(5)  # stand, walk, run, wave, hands on hips
    stride = (0.1, 0.3, 0.6, 0.12, 0.14)[pose]
    swing = (0.15, 0.4, 0.9, 0.2, 0.2)[pose]
    shoulder = {s: f.at(s * half_s * build + lean, SHOULDER) for s in (-1, 1)}
    hip = {s: f.at(s * half_h, HIP) for s in (-1, 1)}

    def leg(side: int) -> None:
        angle = side * rng.uniform(0.3, 1) * stride
        bend = -rng.uniform(0, 1) * stride * 1.2 * (1 if rng.random() < 0.8 else -0.3)
        knee = _step(hip[side], angle, (HIP - KNEE) * h)
        ankle = _step(knee, angle + bend * 0.8, (KNEE - 0.03) * h)
        toe = ankle + np.array([(side * 0.03 if frontal else 0.06) * h, 0.018 * h])
        cloth = skin if bare_legs else legs
        f.limb(ankle, toe, 0.026, 0.022, shoe)
        f.limb(knee, ankle, 0.04 * build, 0.028, cloth)
        f.limb(hip[side], knee, 0.062 * build, 0.043 * build, cloth if skirt else legs)

    def arm(side: int) -> None:
        if pose == 3 and side == 1:
            angle, bend = rng.uniform(2.0, 2.7), rng.uniform(0.1, 0.7)
        elif pose == 4:
            angle, bend = side * 0.75, -side * 1.75
        else:
            angle = side * (0.12 + rng.uniform(0.2, 1) * swing)
            bend = rng.uniform(-0.2, 1.0) * swing * 1.3 * (side if frontal else 1)
        elbow = _step(shoulder[side], angle, UPPER_ARM * h)
        wrist = _step(elbow, angle + bend, FORE_ARM * h)
        cover = jacket if open_jacket else shirt
        f.limb(wrist, _step(wrist, angle + bend, 0.03 * h), HAND, HAND * 0.8, skin)
        f.limb(elbow, wrist, 0.034 * build, 0.025, cover if sleeves or open_jacket else skin)
        f.limb(shoulder[side], elbow, 0.043 * build, 0.034 * build, cover)

    arm(-1)
    leg(-1)
    leg(1)
    if skirt:
        flare = rng.uniform(0.1, 0.17)
        top, low = f.at(0, HIP + 0.06), f.at(0, rng.uniform(0.24, 0.4))
        f.part(top, low, [(0, 0.068 * build * h), (0.25, 0.085 * build * h), (1, flare * h)], legs)
    wide = (half_s + 0.032) * build * h
    chest, waist = f.at(lean, SHOULDER + 0.045), f.at(0, HIP - 0.02)
    f.part(
        chest,
        waist,
        [(0, 0.4 * wide), (0.05, 0.75 * wide), (0.14, wide), (0.6, 0.82 * wide), (1, 0.86 * wide)],
        shirt,
    )
    if open_jacket:
        for s in (-1, 1):
            f.part(
                f.at(lean + s * 0.6 * half_s, SHOULDER + 0.035),
                f.at(s * 0.085, HIP - 0.04),
                [(0, 0.025 * h), (0.15, 0.045 * h), (1, 0.055 * h)],
                jacket,
            )
    neck, head = f.at(lean, NECK - 0.03), f.at(lean * 1.5, HEAD)
    f.limb(neck, head, 0.033, 0.03, skin)
    _head(f, head, skin, hair, frontal)
    arm(1)
    return f.body


def _head(f: Figure, head: np.ndarray, skin: Fabric, hair: Fabric, frontal: bool) -> None:
    """Skull, face and hair around the head's middle."""
    rng, h = f.canvas.rng, f.height
    up = np.array([0, -1.0])
    style = rng.integers(4)  # short, long, bun, bald or cap
    egg = [(0, 0.2), (0.06, 0.55), (0.2, 0.82), (0.45, 1.0), (0.7, 0.98), (0.88, 0.72), (1, 0.25)]
    skull = [(s, r * 0.058 * h) for s, r in egg]
    if style == 1:
        f.part(
            head + up * 0.075 * h,
            head - up * rng.uniform(0.08, 0.16) * h,
            [(0, 0.025 * h), (0.12, 0.06 * h), (0.4, 0.075 * h), (1, 0.06 * h)],
            hair,
        )
    if style == 2:
        f.limb(head + up * 0.095 * h, head + up * 0.09 * h, 0.03, 0.03, hair)
    f.part(head - up * 0.078 * h, head + up * 0.08 * h, skull, skin)
    look = 0.0 if frontal else rng.choice([-1, 1]) * 0.022 * h
    dark = Plain(np.array([0.08, 0.06, 0.06], np.float32))
    lips = Plain(skin.base * np.array([0.85, 0.5, 0.5], np.float32))
    white = Plain(np.array([0.93, 0.93, 0.93], np.float32))
    for side in (-1, 1):
        eye = head + np.array([side * 0.021 * h + look, -0.004 * h])
        across = np.array([0.006 * h, 0])
        f.limb(eye - across, eye + across, 0.0065, 0.0065, white)
        f.limb(eye, eye + 0.1, 0.006, 0.006, dark)
        brow = eye + up * 0.018 * h
        f.limb(brow - 1.8 * across, brow + 1.8 * across, 0.003, 0.003, hair)
    nose = head + np.array([1.15 * look, 0.022 * h])
    f.limb(nose + up * 0.015 * h, nose, 0.006, 0.0095, skin)
    mouth = head + np.array([look, 0.046 * h])
    smile = np.array([0.014 * h, 0])
    f.limb(mouth - smile, mouth + smile, 0.005, 0.005, lips)
    if style == 3 and rng.random() < 0.5:
        return
    cap = [(0, 0.054 * h), (0.35, 0.062 * h), (0.7, 0.05 * h), (1, 0.02 * h)]
    f.part(head + up * 0.033 * h, head + up * 0.09 * h, cap, hair)
    if style == 1:
        for side in (-1, 1):
            lock = head + np.array([side * 0.056 * h, -0.03 * h])
            f.limb(lock, lock + np.array([side * 0.006 * h, 0.1 * h]), 0.017, 0.014, hair)


def _group(c: Canvas, count: int, size: float) -> list[np.ndarray]:
    """Draw `count` people side by side; returns their covers, back to front."""
    rng = c.rng
    slots = (np.arange(count) + 0.5) / count + rng.uniform(-0.1, 0.1, count)
    bodies = []
    for x in rng.permutation(slots):
        grown = size * rng.uniform(0.85, 1.1)
        foot = max(rng.uniform(0.0, 0.12) * c.h + grown, 0.86 * c.h)
        bodies.append(draw(c, x * c.w, foot, grown))
    return bodies


def populate(c: Canvas, number: int) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Put one to three people before the scene (picture `number` of the person pictures).

    Returns the visible mask (h, w) bool of every person, back to front, and that of a crowd
    behind them or None.
    """
    rng = c.rng
    crowd = None
    if number % CROWD_EVERY == CROWD_FIRST:
        crowd = np.zeros((c.h, c.w), np.float32)
        for x in np.linspace(0.06, 0.94, CROWD_HEADS) * c.w:
            size = rng.uniform(0.34, 0.42) * c.h
            crowd = np.maximum(crowd, draw(c, x + rng.normal(0, 4), 0.62 * c.h, size))
    before = c.rgb.copy(), c.label.copy()
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.32, 0.18]))
    span = {1: (1.15, 2.5), 2: (1.0, 1.8), 3: (0.92, 1.4)}[count]
    size = rng.uniform(*span) * min(c.h, 0.9 * c.w)
    for _ in range(ATTEMPTS):
        bodies = _group(c, count, size)
        share = np.mean(np.max(bodies, 0) > 0.5)
        if share <= LARGEST:
            break
        size *= 0.95 * np.sqrt(LARGEST / share)
        c.rgb, c.label = before[0].copy(), before[1].copy()
    masks, hidden = [], np.zeros((c.h, c.w), bool)
    for body in reversed(bodies):
        mask = (body > 0.5) & ~hidden
        hidden |= body > 0.5
        masks.append(mask)
    if crowd is not None:
        crowd = (crowd > 0.5) & ~hidden
    return [m for m in reversed(masks) if m.any()], crowd
