"""Figures inside a page: files as data URIs, with the size they are meant to be shown at.

An SVG is embedded as an image, too, not as markup: so its ids and style rules cannot meet those of
another figure or of the page, nothing in it can run or load, and it has an alternative text.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from infoseg.errors import DataError

SCREEN = 96
"""Pixels of CSS per inch."""
_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
_UNITS = {"pt": 72.0, "in": 1.0, "px": 96.0, "": 96.0, "mm": 25.4, "cm": 2.54}
_SVG_HEAD = re.compile(r"<svg\b[^>]*>", re.S)


@dataclass(frozen=True)
class Embedded:
    """A picture as a data URI, and the width and height it is drawn for, in pixels of CSS."""

    uri: str
    width: int
    height: int


def embed(path: Path) -> Embedded:
    """Read a figure. Raises DataError when it is missing, unreadable or neither SVG nor PNG."""
    kind = _TYPES.get(path.suffix)
    if kind is None:
        raise DataError("figures of a report are .svg or .png", file=path)
    try:
        data = path.read_bytes()
        inches = _svg_inches(data.decode()) if path.suffix == ".svg" else _png_inches(path)
    except FileNotFoundError:
        raise DataError("not found", file=path, advice="Draw the figures first") from None
    except (OSError, ValueError) as error:
        raise DataError(f"is not a readable figure ({error})", file=path) from error
    width, height = (max(1, round(SCREEN * side)) for side in inches)
    return Embedded(f"data:{kind};base64,{base64.b64encode(data).decode()}", width, height)


def _png_inches(path: Path) -> tuple[float, float]:
    with Image.open(path) as image:
        dpi = image.info.get("dpi", (SCREEN, SCREEN))
        return image.width / (dpi[0] or SCREEN), image.height / (dpi[1] or SCREEN)


def _svg_inches(text: str) -> tuple[float, float]:
    """From width and height, or from the viewBox where those are absent or relative."""
    head = _SVG_HEAD.search(text)
    if head is None:
        raise ValueError("no <svg> element")
    sides = []
    for name in ("width", "height"):
        found = re.search(rf'\s{name}="([\d.]+)(pt|in|px|mm|cm|)"', head[0])
        if found:
            sides.append(float(found[1]) / _UNITS[found[2]])
    if len(sides) == 2:
        return sides[0], sides[1]
    box = re.search(r'\sviewBox="([^"]+)"', head[0])
    if box is None:
        raise ValueError("neither width and height nor a viewBox")
    _, _, width, height = (float(number) for number in box[1].replace(",", " ").split())
    return width / SCREEN, height / SCREEN
