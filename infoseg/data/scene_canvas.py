"""The sheet a procedural scene is painted on: picture and label map grow together."""

import cv2
import numpy as np

from infoseg.data.coco import FINE_NAMES, IGNORE
from infoseg.data.scene_textures import Mood, fractal, grid, polygon

FINE = {name: FINE_NAMES.index(name) for name in FINE_NAMES}
GRAIN = (0.006, 0.022)  # standard deviation of the sensor noise, in units of full white
SOFTNESS = (0.45, 0.75)  # sigma in pixels of the lens


class Canvas:
    """RGB picture (h, w, 3) float32 in 0..1 and fine labels (h, w) uint8, 255 = unlabelled.

    Painting goes from back to front; a later region covers the earlier ones in both.
    """

    def __init__(self, rng: np.random.Generator, h: int, w: int) -> None:
        self.rng, self.h, self.w = rng, h, w
        self.mood = Mood(rng)
        self.rgb = np.full((h, w, 3), 0.5, np.float32)
        self.label = np.full((h, w), IGNORE, np.uint8)

    def level(self, low: float, high: float) -> float:
        """Draw a row between two shares of the height, in pixels."""
        return self.rng.uniform(low, high) * self.h

    def edge(self, y: float, rise: float, size: float = 90) -> np.ndarray:
        """Draw an uneven horizontal edge: a row for every column, (w,), at most `rise` above y."""
        return y - rise * fractal(self.rng, 2, self.w, 1, 4, 0.5, stretch=size)[0]

    def cover(
        self, rgb: np.ndarray, name: str | None, alpha: np.ndarray, x: int = 0, y: int = 0
    ) -> None:
        """Paint a patch whose upper left corner is at x, y; parts outside are cut off.

        rgb: (3,) or (h, w, 3). name: fine class of pixels at least half covered, "" for
        unlabelled, None to leave the labels alone. alpha: cover (h, w) in 0..1.
        """
        h, w = alpha.shape
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, self.w), min(y + h, self.h)
        if x0 >= x1 or y0 >= y1:
            return
        here = (slice(y0, y1), slice(x0, x1))
        part = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
        alpha = alpha[part].astype(np.float32, copy=False)
        source = rgb[part] if rgb.ndim == 3 else rgb
        below = self.rgb[here]
        below += (source.astype(np.float32, copy=False) - below) * alpha[..., None]
        if name is not None:
            self.label[here][alpha > 0.5] = FINE[name] if name else IGNORE

    def shade(self, alpha: np.ndarray, strength: float, x: int = 0, y: int = 0) -> None:
        """Darken by a soft shadow; same placing as `cover`."""
        self.cover(np.zeros(3, np.float32), None, alpha * strength, x, y)

    def shape(self, rgb: np.ndarray, name: str | None, points: np.ndarray) -> None:
        """Paint a polygon given as (n, 2) x, y; rgb is one colour or a picture of full size."""
        x, y, alpha = self._patch(points, 2)
        if alpha.size:
            h, w = alpha.shape
            source = rgb[y : y + h, x : x + w] if rgb.ndim == 3 else rgb
            self.cover(source, name, alpha, x, y)

    def quad(
        self,
        texture: np.ndarray,
        name: str | None,
        corners: np.ndarray,
        inlay: tuple[np.ndarray, str] | None = None,
    ) -> None:
        """Stretch a flat texture over four corners (upper left, then clockwise) and paint it.

        inlay: cover in the texture's coordinates and the fine class of what it covers (windows).
        """
        x, y, alpha = self._patch(corners, 2)
        if not alpha.size:
            return
        th, tw = texture.shape[:2]
        flat = np.array([[0, 0], [tw, 0], [tw, th], [0, th]], np.float32)
        place = (np.asarray(corners, np.float32) - [x, y]).astype(np.float32)
        matrix, size = cv2.getPerspectiveTransform(flat, place), alpha.shape[::-1]
        image = cv2.warpPerspective(
            texture.astype(np.float32), matrix, size, borderMode=cv2.BORDER_REPLICATE
        )
        self.cover(image, name, alpha, x, y)
        if inlay is not None:
            inside = cv2.warpPerspective(inlay[0].astype(np.float32), matrix, size)
            here = self.label[y : y + alpha.shape[0], x : x + alpha.shape[1]]
            here[(inside > 0.5) & (alpha > 0.5)] = FINE[inlay[1]]

    def contact(self, points: np.ndarray, blur: float, strength: float) -> None:
        """A soft shadow of polygon form."""
        x, y, alpha = self._patch(points, int(3 * blur) + 2)
        if alpha.size:
            self.shade(cv2.GaussianBlur(alpha, (0, 0), blur), strength, x, y)

    def _patch(self, points: np.ndarray, margin: int) -> tuple[int, int, np.ndarray]:
        """A polygon's cover on the part of the canvas it touches: x, y of the corner, alpha."""
        points = np.asarray(points, np.float64)
        limit = [self.w, self.h]
        low = np.clip(np.floor(points.min(0)) - margin, 0, limit).astype(int)
        high = np.clip(np.ceil(points.max(0)) + margin, 0, limit).astype(int)
        alpha = polygon(*np.maximum(high - low, 0)[::-1], points - low)
        return int(low[0]), int(low[1]), alpha

    def finish(self) -> np.ndarray:
        """Light, lens and sensor: the picture as uint8 (h, w, 3)."""
        rng, rgb = self.rng, self.rgb
        rows, cols = grid(self.h, self.w)
        x, y = cols / self.w - 0.5, rows / self.h - 0.5
        light = 1 + rng.uniform(0.05, 0.3) * (x * self.mood.light[0] - y * self.mood.light[1])
        light = light - rng.uniform(0.1, 0.5) * (x * x + y * y)
        light = light * (0.86 + 0.28 * fractal(rng, self.h, self.w, self.h / 2.5, 3))
        light = light.astype(np.float32)
        exposure = rng.uniform(0.95, 1.32) * (1 + rng.normal(0, 0.04, 3))
        rgb = rgb * light[..., None] * exposure.astype(np.float32)
        half = cv2.resize(np.clip(rgb - 0.7, 0, 1), None, fx=0.5, fy=0.5)
        glow = cv2.GaussianBlur(half, (0, 0), 3.5)  # halation; half size is enough for it
        rgb += 0.12 * cv2.resize(glow, (self.w, self.h))
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(*SOFTNESS))
        rgb += rng.standard_normal((self.h, self.w, 1), np.float32) * rng.uniform(*GRAIN)
        curve = np.linspace(0, 1, 4096) ** rng.uniform(0.85, 1.15)
        return (curve * 255 + 0.5).astype(np.uint8)[(np.clip(rgb, 0, 1) * 4095).astype(np.uint16)]
