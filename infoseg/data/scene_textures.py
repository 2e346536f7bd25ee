"""Fields and colours from which the procedural scenes are painted.

A *field* is an (h, w) float32 array in 0..1; a *ramp* is a (256, 3) table that turns a field into
RGB, also 0..1. Every function takes a numpy Generator, so the same generator state gives the same
pixels. Sizes are in pixels of the rendered picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# Hue offsets (fractions of the colour circle) of the colour schemes an image may follow.
SCHEMES = (
    (0.0, 0.06, -0.07, 0.5),
    (0.0, 0.33, 0.66, 0.1),
    (0.0, 0.45, 0.55, 0.05),
    (0.0, 0.12, 0.25, 0.62),
    (0.0, 0.5, 0.04, 0.54),
)
NATURAL_SHARE = 0.4  # of the images keep the hues one expects; the others follow a free scheme
WRAP = 1024  # length of the tables that give the cells of a grid their random shades


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """One RGB colour (3,) float32 from hue (any real, one turn = 1), saturation and value."""
    k = (np.array([5.0, 3.0, 1.0]) + 6.0 * (hue % 1.0)) % 6.0
    rgb = value * (1.0 - np.clip(saturation, 0, 1) * np.clip(np.minimum(k, 4.0 - k), 0, 1))
    return np.clip(rgb, 0, 1).astype(np.float32)


class Mood:
    """Colour scheme, light and exposure of one picture.

    Colours must not give a class away, so a region's hue comes from what one expects
    (`natural`) in only some of the pictures and from a free scheme in the others; brightness
    and saturation are drawn from the same wide range for every class.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        scheme = np.array(SCHEMES[rng.integers(len(SCHEMES))])
        self.hues = (rng.random() + scheme) % 1.0
        self.natural = rng.random() < NATURAL_SHARE
        self.saturation = rng.uniform(0.55, 1.2)
        angle = rng.uniform(0.15, 0.85) * np.pi
        self.light = np.array([np.cos(angle), np.sin(angle)], np.float32)  # towards the light, y up

    def hue(self, rng: np.random.Generator, natural: float) -> float:
        """A hue near `natural` in natural pictures, near one of the scheme's hues in others."""
        if self.natural:
            return natural + rng.normal(0, 0.035)
        return rng.choice(self.hues) + rng.normal(0, 0.025)

    def colour(
        self,
        rng: np.random.Generator,
        natural: float,
        value: tuple[float, float] = (0.3, 0.9),
        saturation: tuple[float, float] = (0.1, 0.6),
    ) -> np.ndarray:
        """One RGB colour (3,) drawn from the ranges given."""
        strength = rng.uniform(*saturation) * self.saturation
        return hsv(self.hue(rng, natural), strength, rng.uniform(*value))

    def ramp(
        self,
        rng: np.random.Generator,
        natural: float,
        value: tuple[float, float] = (0.42, 0.8),
        saturation: tuple[float, float] = (0.12, 0.6),
        contrast: float = 0.5,
    ) -> np.ndarray:
        """A ramp (256, 3) from shade to light around one drawn colour.

        contrast: how far shade and light lie from the middle, 0 (flat) to 1. Shades turn a
        little towards one hue and lights towards another, as they do outdoors.
        """
        hue = self.hue(rng, natural)
        strength = rng.uniform(*saturation) * self.saturation
        mid = rng.uniform(*value)
        turn = rng.uniform(0.015, 0.06) * rng.choice([-1, 1])
        low = hsv(hue + turn, strength * 1.2, mid * (1 - contrast))
        high = hsv(hue - turn, strength * 0.75, min(1.0, mid * (1 + 0.75 * contrast)))
        steps = np.linspace(0, 1, 5)
        keys = np.stack(
            [
                low,
                0.55 * low + 0.45 * hsv(hue, strength, mid),
                hsv(hue, strength, mid),
                0.5 * high + 0.5 * hsv(hue, strength, mid),
                high,
            ]
        )
        grid = np.linspace(0, 1, 256)
        return np.stack([np.interp(grid, steps, keys[:, c]) for c in range(3)], 1).astype(
            np.float32
        )


def paint(field: np.ndarray, ramp: np.ndarray) -> np.ndarray:
    """Field (h, w) through a ramp: RGB (h, w, 3) float32."""
    return ramp[(np.clip(field, 0, 1) * 255).astype(np.uint8)]


def mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Blend of two colours or pictures by a field: 0 keeps the first, 1 takes the second."""
    weight = np.asarray(weight, np.float32)[..., None]  # one float64 would make all of it so
    first = np.asarray(first, np.float32)
    return first + (np.asarray(second, np.float32) - first) * weight


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below low, 1 above high, smooth between; low > high turns it round."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def grid(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column coordinates as two broadcastable float32 arrays, (h, 1) and (1, w)."""
    return np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None]


def noise(
    rng: np.random.Generator, h: int, w: int, size: float, stretch: float = 1.0
) -> np.ndarray:
    """Smooth noise field whose bumps are about `size` high and `size * stretch` wide."""
    rows = max(2, round(h / size) + 1)
    cols = max(2, round(w / (size * stretch)) + 1)
    coarse = rng.random((rows, cols), dtype=np.float32)
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)


def fractal(
    rng: np.random.Generator,
    h: int,
    w: int,
    size: float,
    octaves: int = 4,
    gain: float = 0.5,
    stretch: float = 1.0,
) -> np.ndarray:
    """Sum of noise fields, each half the size and `gain` times the weight; fills 0..1."""
    total = np.zeros((h, w), np.float32)
    for octave in range(octaves):
        total += gain**octave * noise(rng, h, w, max(size / 2**octave, 2.0), stretch)
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


@dataclass(frozen=True)
class Cells:
    """A Voronoi pattern: for each pixel its cell's random shade and where in the cell it lies."""

    shade: np.ndarray  # (h, w) 0..1, constant in a cell
    dx: np.ndarray  # offset from the cell's centre in units of the cell size
    dy: np.ndarray
    edge: np.ndarray  # distance to the nearest border in pixels


def cells(
    rng: np.random.Generator, h: int, w: int, size: float, stretch: float = 1.0, jitter: float = 0.9
) -> Cells:
    """Voronoi cells about `size` high and `size * stretch` wide."""
    narrow = max(8, round(w / stretch))
    ys, xs = np.meshgrid(
        np.arange(-size / 2, h + size, size),
        np.arange(-size / 2, narrow + size, size),
        indexing="ij",
    )
    offsets = rng.uniform(-0.5, 0.5, (2, *ys.shape)) * size * jitter
    ys = np.clip(ys + offsets[0], 0, h - 1).astype(int).ravel()
    xs = np.clip(xs + offsets[1], 0, narrow - 1).astype(int).ravel()
    seeds = np.full((h, narrow), 255, np.uint8)
    seeds[ys, xs] = 0
    _, owner = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, cols = grid(h, narrow)
    table = np.zeros((owner.max() + 1, 3), np.float32)
    names = owner[ys, xs]
    table[names, 0], table[names, 1] = ys, xs
    table[:, 2] = rng.random(len(table))
    found = table[owner]
    inside = np.full((h, narrow), 255, np.uint8)
    inside[:, 1:][owner[:, 1:] != owner[:, :-1]] = 0
    inside[1:][owner[1:] != owner[:-1]] = 0
    edge = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    layers = [found[..., 2], (cols - found[..., 1]) / size, (rows - found[..., 0]) / size, edge]
    if narrow != w:
        layers = [cv2.resize(np.ascontiguousarray(a), (w, h)) for a in layers]
    return Cells(*layers)


def masonry(
    rng: np.random.Generator,
    u: np.ndarray,
    v: np.ndarray,
    wide: float,
    high: float,
    bond: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of blocks in the coordinates u, v: (random shade per block, distance to the joint).

    bond: by which share of a block every second row is shifted. The distance is in the units
    of u and v.
    """
    row = np.floor(v / high)
    across = u / wide + bond * np.mod(row, 2)
    col = np.floor(across)
    key = (row * 57 + col * 131).astype(np.int64) % WRAP
    shade = rng.random(WRAP, dtype=np.float32)[key]
    fu, fv = across - col, v / high - row
    joint = np.minimum(np.minimum(fu, 1 - fu) * wide, np.minimum(fv, 1 - fv) * high)
    return shade, joint.astype(np.float32)


def lump(h: int, w: int, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Height field (h, w) of overlapping balls, in pixels; 0 outside all of them.

    centres: (n, 2) as x, y; radii: (n,).
    """
    rows, cols = grid(h, w)
    height = np.zeros((h, w), np.float32)
    for (x, y), r in zip(centres, radii, strict=True):
        x0, x1 = max(0, int(x - r)), min(w, int(x + r) + 2)
        y0, y1 = max(0, int(y - r)), min(h, int(y + r) + 2)
        if x0 < x1 and y0 < y1:
            ball = r * r - (cols[:, x0:x1] - x) ** 2 - (rows[y0:y1] - y) ** 2
            part = height[y0:y1, x0:x1]
            np.maximum(part, np.sqrt(np.maximum(ball, 0)), out=part)
    return height


def relief(height: np.ndarray, light: np.ndarray, steep: float = 1.0) -> np.ndarray:
    """Shading field of a height field lit from `light` (x, y up); 0.5 is level ground."""
    slope_y, slope_x = np.gradient(height)
    lit = (-slope_x * light[0] + slope_y * light[1]) * steep
    return (0.5 + 0.5 * lit / np.sqrt(1 + lit * lit)).astype(np.float32)


def polygon(h: int, w: int, points: np.ndarray) -> np.ndarray:
    """Antialiased cover (h, w) float32 of a polygon given as (n, 2) x, y in pixels."""
    cover = np.zeros((h, w), np.uint8)
    if not cover.size:
        return cover.astype(np.float32)
    fixed = np.round(np.asarray(points, np.float64) * 16).astype(np.int32)
    cv2.fillPoly(cover, [fixed], 255, cv2.LINE_AA, 4)
    return cover.astype(np.float32) / 255


def shift(field: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """The field moved right by dx and down by dy pixels, its border repeated."""
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    size = (field.shape[1], field.shape[0])
    return cv2.warpAffine(
        field, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
