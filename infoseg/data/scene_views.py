"""The views a stuff picture may show, and in which order consecutive pictures show them."""

import numpy as np

from infoseg.data.coco import IGNORE
from infoseg.data.scene_canvas import Canvas
from infoseg.data.scene_indoors import goods, interior, linen, market, meal
from infoseg.data.scene_outdoors import (
    coast,
    country,
    garden,
    harbour,
    highland,
    street,
    village,
    wood,
    yard,
)
from infoseg.data.scene_textures import grid

# Share of pictures in which a soft-edged patch stays without a label, as in real annotations.
GAP_SHARE = 0.25

# One turn of the views; consecutive pictures go through it, so that any number of them is mixed.
# Its length has no common factor with 10: every tenth picture (validation) meets all the views.
CYCLE = (
    country,
    interior,
    street,
    wood,
    coast,
    goods,
    garden,
    highland,
    country,
    meal,
    village,
    linen,
    country,
    yard,
    street,
    interior,
    wood,
    coast,
    market,
    harbour,
    country,
    interior,
    garden,
)


def compose(rng: np.random.Generator, number: int, h: int, w: int) -> Canvas:
    """Paint view `number` of the cycle on a fresh canvas of h by w pixels."""
    c = Canvas(rng, h, w)
    CYCLE[number % len(CYCLE)](c)
    if rng.random() < GAP_SHARE:
        rows, cols = grid(h, w)
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.06, 0.14) * w
        c.label[np.hypot(cols - x, rows - y) + 6 * np.sin(cols / 9) < r] = IGNORE
    return c
