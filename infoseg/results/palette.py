"""One colour per class, the same in every picture, legend and chart.

Black is for pixels nobody annotated, grey for clusters that no class was matched to. The first
seven colours are Okabe and Ito's (without their black), in an order that gives COCO-Stuff-3 a blue
sky and green plants. The rest were chosen one after another, each as far as possible (CIEDE2000)
from all before it, black and grey, as seen with normal and with colour-blind eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.patches import Patch

#: Label of pixels that are not annotated, and of those whose cluster no class was matched to.
IGNORED, UNMATCHED = 255, 254

_HEX = (
    "56B4E9 009E73 E69F00 CC79A7 0072B2 D55E00 F0E442 87000F 96FFF0 780F69 0000E1 FFC3A5 7878FF "
    "875A3C 004B3C D20F87 D2D2FF 2DD269 FFA5B4 78964B 870F3C C31E00 2D6978 871EFF 5A785A FF5A87 "
    "D2F0D2"
)
_COLOURS = np.array([tuple(bytes.fromhex(code)) for code in _HEX.split()], dtype=np.uint8)
MAX_CLASSES = len(_COLOURS)
GREY = (96, 96, 96)
BLACK = (0, 0, 0)


#: Of every label: colours of classes, grey for 254, black for 255.
_TABLE = np.zeros((256, 3), np.uint8)
_TABLE[:MAX_CLASSES], _TABLE[UNMATCHED] = _COLOURS, GREY


def class_colours(n: int) -> np.ndarray:
    """The colours of classes 0..n-1: (n, 3) uint8. Raises ValueError for more than 27."""
    if not 0 <= n <= MAX_CLASSES:
        raise ValueError(f"there are colours for up to {MAX_CLASSES} classes, not for {n}")
    return _COLOURS[:n].copy()


def colourise(labels: np.ndarray) -> np.ndarray:
    """Paint label maps: (..., H, W) of any integer type → (..., H, W, 3) uint8.

    254 (no class) becomes grey, 255 (not annotated) black. Raises ValueError for other values
    that are no class, because painting them at all would hide a mistake.
    """
    known = np.isin(labels, [*range(MAX_CLASSES), UNMATCHED, IGNORED])
    if not known.all():
        value = labels[~known][0]
        raise ValueError(f"label {value} is neither a class (0-{MAX_CLASSES - 1}) nor 254 nor 255")
    return _TABLE[labels]


def png_palette() -> bytes:
    """768 bytes for `PIL.Image.putpalette`: a label map saved as an index PNG looks as here."""
    return _TABLE.tobytes()


def legend_handles(
    classes: Sequence[str], unmatched: bool = False, ignored: bool = False
) -> list[Patch]:
    """One coloured square per class, for matplotlib's `legend(handles=…)`, in class order.

    unmatched, ignored: add the grey and the black one, for pictures in which they occur.
    """
    from matplotlib.patches import Patch

    colours = class_colours(len(classes)) / 255
    entries = [*zip(classes, colours, strict=True)]
    entries += [("no class", np.divide(GREY, 255))] * unmatched
    entries += [("not annotated", BLACK)] * ignored
    return [Patch(facecolor=c, edgecolor="0.3", lw=0.4, label=name) for name, c in entries]
