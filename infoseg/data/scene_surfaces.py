"""Flat materials: brick, planks, tiles, cloth, cardboard, … each as an RGB picture (h, w, 3).

Every function has the same form, `material(rng, mood, h, w)`, and returns float32 in 0..1, so a
scene can stretch any of them over a wall, a floor or a box. Features are 6 to 40 pixels large,
because training sees the scenes at a third of their size.
"""

import cv2
import numpy as np

from infoseg.data.scene_textures import (
    Mood,
    cells,
    fractal,
    grid,
    masonry,
    mix,
    noise,
    paint,
    smoothstep,
)

# Natural hues, one turn = 1.
EARTH, WOOD, GREY_BLUE, CLAY = 0.09, 0.075, 0.6, 0.03


def _flat(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = grid(h, w)
    return np.broadcast_to(cols, (h, w)), np.broadcast_to(rows, (h, w))


def brick(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Bricks in bond with mortar lighter or darker than the bricks."""
    high = rng.uniform(11, 20)
    u, v = _flat(h, w)
    shade, joint = masonry(rng, u, v, high * rng.uniform(2.0, 2.8), high)
    field = 0.3 + 0.35 * shade + 0.3 * (fractal(rng, h, w, 12) - 0.5) + 0.02 * np.minimum(joint, 4)
    mortar = mood.colour(rng, EARTH, (0.25, 0.9), (0.0, 0.2))
    return mix(mortar, paint(field, mood.ramp(rng, CLAY)), smoothstep(0.6, 2.2, joint))


def rubble(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """A wall of irregular rounded stones."""
    c = cells(rng, h, w, rng.uniform(24, 38), rng.uniform(1.1, 1.6))
    field = 0.2 + 0.35 * c.shade + 0.25 * smoothstep(0, 8, c.edge) - 0.2 * c.dy
    field += 0.25 * (fractal(rng, h, w, 14) - 0.5)
    return mix(
        mood.colour(rng, EARTH, (0.15, 0.5), (0.0, 0.3)),
        paint(field, mood.ramp(rng, EARTH)),
        smoothstep(0.3, 3, c.edge),
    )


def concrete(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Plain plaster or concrete: large stains, faint formwork joints."""
    u, v = _flat(h, w)
    _, joint = masonry(rng, u, v, rng.uniform(90, 150), rng.uniform(60, 110), 0.0)
    field = 0.5 + 0.3 * (fractal(rng, h, w, 90, 5, 0.6) - 0.5)
    field -= 0.22 * (1 - smoothstep(0.5, 2, joint))
    return paint(field, mood.ramp(rng, EARTH, saturation=(0.02, 0.45)))


def panels(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Wainscot: upright raised panels with a lit and a shaded edge."""
    wide, high = rng.uniform(46, 80), rng.uniform(80, 150)
    u, v = _flat(h, w)
    fu, fv = np.mod(u, wide), np.mod(v, high)
    field = 0.5 + 0.14 * (fractal(rng, h, w, 40) - 0.5)
    for inset, sign in ((7, 1), (14, -1)):
        left = (np.abs(fu - inset) < 2) & (fv > inset) & (fv < high - inset)
        right = (np.abs(fu - wide + inset) < 2) & (fv > inset) & (fv < high - inset)
        top = (np.abs(fv - inset) < 2) & (fu > inset) & (fu < wide - inset)
        bottom = (np.abs(fv - high + inset) < 2) & (fu > inset) & (fu < wide - inset)
        field = field + 0.25 * sign * (right | bottom) - 0.25 * sign * (left | top)
    return paint(cv2.GaussianBlur(field, (0, 0), 0.8), mood.ramp(rng, WOOD))


def wallpaper(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Printed paper: a staggered motif or upright stripes."""
    u, v = _flat(h, w)
    step = rng.uniform(26, 44)
    if rng.random() < 0.5:
        motif = np.cos(2 * np.pi * u / step) * np.cos(np.pi * v / step)
        motif = smoothstep(0.25, 0.55, np.abs(motif) + 0.12 * np.cos(8 * np.pi * v / step))
    else:
        motif = smoothstep(-0.2, 0.2, np.sin(2 * np.pi * u / step) + 0.45)
    back = paint(0.5 + 0.2 * (fractal(rng, h, w, 120) - 0.5), mood.ramp(rng, 0.12))
    front = paint(0.5 + 0.2 * (fractal(rng, h, w, 120) - 0.5), mood.ramp(rng, 0.55))
    return mix(back, front, motif * rng.uniform(0.35, 0.8))


def tiles(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Square glazed tiles, plain or chequered."""
    side = rng.uniform(22, 40)
    u, v = _flat(h, w)
    shade, joint = masonry(rng, u, v, side, side, 0.0)
    if rng.random() < 0.5:
        shade = np.mod(np.floor(u / side) + np.floor(v / side), 2)
    gloss = np.mod(v, side) / side * 0.15
    field = 0.62 - 0.42 * shade * rng.uniform(0.4, 1) - gloss + 0.2 * noise(rng, h, w, 70)
    grout = mood.colour(rng, EARTH, (0.3, 0.95), (0.0, 0.15))
    return mix(grout, paint(field, mood.ramp(rng, GREY_BLUE)), smoothstep(0.6, 1.8, joint))


def planks(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Boards lying across the picture, with grain and knots."""
    high = rng.uniform(16, 30)
    u, v = _flat(h, w)
    shade, joint = masonry(rng, u, v, high * rng.uniform(6, 11), high, rng.uniform(0.25, 0.7))
    grain = fractal(rng, h, w, 9, 2, 0.6, stretch=12)
    field = 0.18 + 0.42 * shade + 0.38 * grain
    field *= 0.45 + 0.55 * smoothstep(0, 2.2, joint)
    return paint(field, mood.ramp(rng, WOOD))


def upright_planks(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """The boards of `planks` standing."""
    return np.ascontiguousarray(planks(rng, mood, w, h).transpose(1, 0, 2))


def marble(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Polished slabs with veins."""
    warp = fractal(rng, h, w, 110, 5, 0.55)
    vein = 1 - np.abs(np.sin(2 * np.pi * (2.5 * warp + noise(rng, h, w, 90))))
    u, v = _flat(h, w)
    _, joint = masonry(rng, u, v, 84, 84, 0.0)
    field = 0.7 - 0.5 * vein**5 - 0.15 * warp - 0.3 * (1 - smoothstep(0, 1.6, joint))
    return paint(field, mood.ramp(rng, EARTH, (0.5, 0.8), (0.02, 0.35)))


def carpet(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Deep pile: soft tufts, brushed patches."""
    field = 0.35 + 0.3 * fractal(rng, h, w, 60, 3) + 0.35 * (noise(rng, h, w, 7, 1.2) - 0.3)
    return paint(field, mood.ramp(rng, 0.0, contrast=0.35))


def ceiling_panels(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Suspended ceiling: a light grid with perforated panels and a few lit ones."""
    wide, high = rng.uniform(58, 84), rng.uniform(40, 60)
    u, v = _flat(h, w)
    shade, joint = masonry(rng, u, v, wide, high, 0.0)
    dots = np.cos(2 * np.pi * u / 11) * np.cos(2 * np.pi * v / 11)
    field = 0.5 + 0.1 * shade - 0.2 * smoothstep(0.3, 0.8, dots) * smoothstep(4, 7, joint)
    field += 0.25 * (1 - smoothstep(1.5, 2.5, joint))
    lamp = (shade > 0.88) * smoothstep(3, 6, joint)
    return mix(
        paint(field, mood.ramp(rng, EARTH, (0.45, 0.85), (0.02, 0.3), 0.4)),
        np.array([1.0, 0.98, 0.92], np.float32),
        lamp,
    )


def ceiling_beams(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Plaster between dark or light beams that cast a shadow."""
    step, thick = rng.uniform(60, 95), rng.uniform(14, 24)
    u, v = _flat(h, w)
    along = np.mod(u, step)
    plaster = paint(
        0.55 + 0.3 * (fractal(rng, h, w, 80) - 0.5) - 0.35 * smoothstep(thick + 16, thick, along),
        mood.ramp(rng, EARTH, (0.45, 0.85), (0.02, 0.35), 0.4),
    )
    beam = paint(
        0.3 + 0.4 * fractal(rng, h, w, 40, 3, 0.6, 0.2) + 0.2 * (along < 4), mood.ramp(rng, WOOD)
    )
    return mix(plaster, beam, smoothstep(thick, thick - 1.5, along))


def drape(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Hanging cloth: upright folds, plain, striped or printed."""
    rows, cols = grid(h, w)
    wander = 26 * noise(rng, h, w, max(h / 2, 40), 0.6) + cols
    phase = 2 * np.pi * wander / rng.uniform(26, 44)
    fold = 0.5 + 0.32 * np.sin(phase) + 0.14 * np.sin(2.3 * phase + 1)
    cloth = _print(rng, mood, wander + 7 * np.sin(phase), rows + 3 * np.cos(phase), h, w)
    return cloth * (0.4 + 0.85 * fold[..., None])


def crumpled(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Cloth lying in soft oblique folds."""
    rows, cols = grid(h, w)
    angle = rng.uniform(0, np.pi)
    bend = 70 * fractal(rng, h, w, 110, 2)
    phase = 2 * np.pi * (cols * np.cos(angle) + rows * np.sin(angle) + bend) / rng.uniform(60, 95)
    fold = 0.5 + 0.32 * np.sin(phase) + 0.2 * np.sin(1.7 * phase + 2)
    cloth = _print(rng, mood, cols + 0.6 * bend, rows + 8 * np.cos(phase), h, w)
    return cloth * (0.5 + 0.75 * fold[..., None])


def weave(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Coarse basket weave seen close."""
    side = rng.uniform(11, 17)
    u, v = _flat(h, w)
    over = np.mod(np.floor(u / side) + np.floor(v / side), 2)
    warp, weft = np.abs(np.sin(np.pi * u / side)), np.abs(np.sin(np.pi * v / side))
    first = paint(0.15 + 0.65 * warp * (0.7 + 0.3 * weft), mood.ramp(rng, 0.95))
    second = paint(0.15 + 0.65 * weft * (0.7 + 0.3 * warp), mood.ramp(rng, 0.62))
    return mix(first, second, over)


def ornament(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """A woven rug: borders round a field of medallions."""
    u, v = _flat(h, w)
    border = np.minimum(np.minimum(u, w - u), np.minimum(v, h - v))
    step = rng.uniform(36, 56)
    diamond = np.abs(np.mod(u / step, 1) - 0.5) + np.abs(np.mod(v / step, 1) - 0.5)
    level = np.where(border < 26, np.floor(border / 6.5) % 2, np.floor(diamond * 5) % 2)
    level = np.where((border > 26) & (diamond < 0.2), 2, level).astype(int)
    colours = np.stack([mood.colour(rng, hue, (0.2, 0.9), (0.2, 0.75)) for hue in (0, 0.1, 0.6)])
    return colours[level] * (0.8 + 0.4 * noise(rng, h, w, 7))[..., None]


def _print(rng, mood: Mood, u, v, h: int, w: int) -> np.ndarray:
    base = mood.colour(rng, 0.0, (0.4, 0.95), (0.1, 0.7))
    second = mood.colour(rng, 0.6, (0.25, 0.95), (0.1, 0.7))
    kind, step = rng.integers(4), rng.uniform(18, 34)
    if kind == 0:
        pattern = np.zeros((h, w), np.float32)
    elif kind == 1:
        pattern = smoothstep(-0.1, 0.1, np.sin(2 * np.pi * v / step) + 0 * u)
    elif kind == 2:
        pattern = 0.5 * (np.sin(2 * np.pi * u / step) > 0)
        pattern = pattern + 0.5 * (np.sin(2 * np.pi * v / step) > 0)
    else:
        pattern = smoothstep(0.3, 0.5, np.cos(2 * np.pi * u / step) * np.cos(2 * np.pi * v / step))
    return mix(base, second, (pattern + np.zeros((h, w))).astype(np.float32))


def cardboard(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """The face of a carton: flutes, a parting with tape, a printed mark."""
    u, v = _flat(h, w)
    field = 0.5 + 0.13 * np.sin(2 * np.pi * v / 9) + 0.25 * (fractal(rng, h, w, 70) - 0.5)
    field = field - 0.3 * (np.abs(v - h / 2) < 2)
    face = paint(field, mood.ramp(rng, EARTH, saturation=(0.2, 0.6), contrast=0.4))
    tape = (np.abs(v - h / 2) < 9).astype(np.float32) * 0.5
    face = mix(face, mood.colour(rng, 0.12, (0.5, 0.95)), tape)
    x, y = rng.uniform(0.1, 0.6) * w, rng.uniform(0.08, 0.25) * h
    mark = (np.abs(u - x - 14) < 14) & (np.abs(v - y - 9) < 9)
    mark &= ~((np.abs(u - x - 14) < 9) & (np.abs(v - y - 9) < 4))
    return mix(face, mood.colour(rng, 0.0, (0.1, 0.35)), mark * np.float32(0.8))


def metal(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Chequer plate or corrugated sheet with bands of reflection."""
    u, v = _flat(h, w)
    shine = fractal(rng, h, w, 100, 2, 0.5, 3)
    if rng.random() < 0.5:
        pitch = rng.uniform(20, 28)
        a, b = (u + v) / pitch, (u - v) / pitch
        odd = np.mod(np.floor(a) + np.floor(b), 2)
        bar_a = np.exp(-(((np.mod(a, 1) - 0.5) / 0.13) ** 2 + ((np.mod(b, 1) - 0.5) / 0.38) ** 2))
        bar_b = np.exp(-(((np.mod(a, 1) - 0.5) / 0.38) ** 2 + ((np.mod(b, 1) - 0.5) / 0.13) ** 2))
        field = 0.2 + 0.4 * shine + 0.55 * np.where(odd > 0, bar_a, bar_b)
    else:
        pitch = rng.uniform(16, 26)
        wave = np.sin(2 * np.pi * u / pitch)
        field = 0.12 + 0.4 * shine + 0.25 * wave + 0.4 * np.maximum(wave, 0) ** 8
    return paint(field, mood.ramp(rng, GREY_BLUE, saturation=(0.0, 0.4), contrast=0.75))


def plastic(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """A crate's side: glossy ribs with openings."""
    u, v = _flat(h, w)
    pitch = rng.uniform(24, 34)
    fu, fv = np.mod(u, pitch) / pitch - 0.5, np.mod(v, 1.6 * pitch) / (1.6 * pitch) - 0.5
    hole = smoothstep(0.34, 0.26, np.sqrt((fu * 1.15) ** 4 + fv**4) ** 0.5)
    rim = smoothstep(0.46, 0.38, np.sqrt((fu * 1.15) ** 4 + fv**4) ** 0.5)
    field = 0.5 + 0.2 * rim * np.sign(-fu) + 0.15 * (fractal(rng, h, w, 90, 2) - 0.5)
    face = paint(field, mood.ramp(rng, 0.58, (0.45, 0.8), (0.4, 0.9), 0.6))
    return mix(face, mood.colour(rng, 0.6, (0.03, 0.2)), hole)


def log_ends(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """A stack of logs seen from the cut ends, with growth rings."""
    size = rng.uniform(26, 38)
    c = cells(rng, h, w, size, 1.0, 0.45)
    radius = np.hypot(c.dx, c.dy)
    ring = 0.5 + 0.5 * np.sin(2 * np.pi * radius * size / 6)
    face = paint(0.35 + 0.35 * c.shade + 0.3 * (ring - 0.5), mood.ramp(rng, WOOD))
    bark = mood.colour(rng, 0.06, (0.08, 0.25))
    return mix(bark, face, smoothstep(0.49, 0.42, radius) * smoothstep(0.5, 2, c.edge))


def roof_tiles(rng, mood: Mood, h: int, w: int) -> np.ndarray:
    """Rows of overlapping round tiles."""
    wide, high = rng.uniform(13, 18), rng.uniform(14, 20)
    u, v = _flat(h, w)
    row = np.floor(v / high)
    across = u / wide + 0.5 * np.mod(row, 2)
    shade, _ = masonry(rng, u, v, wide, high)
    fu, fv = np.mod(across, 1) - 0.5, np.mod(v / high, 1)
    lip = smoothstep(0.05, 0.3, fv + 0.9 * fu * fu)
    field = 0.15 + 0.3 * shade + 0.25 * lip + 0.25 * np.cos(np.pi * fu)
    return paint(field - 0.15 * fv, mood.ramp(rng, CLAY))


def facade(rng, mood: Mood, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """The front of a house: RGB and the cover (h, w) of its windows."""
    wall = (concrete, brick, concrete, planks)[rng.integers(4)](rng, mood, h, w)
    wide, high = rng.uniform(32, 52), rng.uniform(38, 56)
    u, v = _flat(h, w)
    fu = np.mod(u - (w % wide) / 2, wide) - wide / 2
    fv = np.mod(v, high) - high / 2
    half_w, half_h = wide * rng.uniform(0.22, 0.36), high * rng.uniform(0.22, 0.36)
    window = smoothstep(0.7, -0.7, np.maximum(np.abs(fu) - half_w, np.abs(fv) - half_h))
    frame = smoothstep(0.7, -0.7, np.maximum(np.abs(fu) - half_w - 3, np.abs(fv) - half_h - 3))
    sill = (np.abs(fv - half_h - 3) < 2.5) & (np.abs(fu) < half_w + 5)
    bars = (np.abs(fu) < 1.3) | (np.abs(fv + half_h * 0.3) < 1.3)
    pane = noise(rng, h, w, 40) * 0.5 + 0.4 * (fu * 0.4 + fv + half_h) / (2 * half_h)
    glass = paint(pane, mood.ramp(rng, 0.57, (0.2, 0.7), (0.1, 0.6), 0.8))
    trim = mood.colour(rng, EARTH, (0.3, 1.0), (0.0, 0.35))
    wall = mix(wall, trim, np.maximum(frame, sill * np.float32(1)))
    band = np.mod(v, high) < 3
    wall = wall * (1 - 0.25 * band[..., None])
    glass = mix(glass, trim, bars * np.float32(1))
    return mix(wall, glass, window), window


WALLS = {
    "wall-brick": brick,
    "wall-concrete": concrete,
    "wall-panel": panels,
    "wall-other": wallpaper,
    "wall-tile": tiles,
    "wall-stone": rubble,
    "wall-wood": upright_planks,
}
FLOORS = {
    "floor-wood": planks,
    "floor-tile": tiles,
    "floor-marble": marble,
    "carpet": carpet,
    "floor-stone": rubble,
    "floor-other": concrete,
}
CEILINGS = {"ceiling-tile": ceiling_panels, "ceiling-other": ceiling_beams}
CLOTHS = {"curtain": drape, "cloth": crumpled, "blanket": crumpled, "textile-other": weave}
RAW = {"cardboard": cardboard, "metal": metal, "plastic": plastic}
