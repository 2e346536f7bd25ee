"""What became of a folder of pictures that was segmented, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image


@dataclass
class Segmented:
    """What became of a folder of pictures.

    done: names of the pictures. left_out: those that could not be read, and why. usage: share of
    all pixels in each cluster, (K,). flip_agreement: of a picture's labels with those of its mirror
    image, beyond chance (1 equal, 0 chance). evaluation: of `infoseg.evaluation.summarise`, where
    there are labels. shown: name, small picture and small overlay of up to 60 of them.
    """

    done: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    usage: np.ndarray = field(default_factory=lambda: np.zeros(0))
    flip_agreement: float | None = None
    evaluation: dict[str, Any] | None = None
    seconds: float = 0.0
    shown: list[tuple[str, Image.Image, Image.Image]] = field(default_factory=list)


def signals(result: Segmented) -> dict[str, Any]:
    """What can be said without labels, and the accuracy where there are any."""
    found: dict[str, Any] = {
        "pictures": len(result.done),
        "left_out": result.left_out,
        "cluster_usage": [round(float(share), 4) for share in result.usage],
        "flip_agreement": result.flip_agreement,
    }
    if result.evaluation:
        found |= {name: result.evaluation[name] for name in ("pa", "miou", "constant_pa", "match")}
    return found


def sentences(result: Segmented) -> list[str]:
    """What cluster usage and flips tell, in words a newcomer can use."""
    used = int((result.usage > 0.01).sum())
    hold = "holds" if used == 1 else "hold"
    found = [f"{used} of {len(result.usage)} clusters {hold} more than 1 % of the pixels."]
    if used < len(result.usage):
        found[0] += " Fewer classes, more pictures or another seed may use all of them."
    if (result.usage > 0.9).any():
        found.append("One cluster holds more than 90 % of the pixels: little was told apart.")
    # Where all is one cluster nothing is beyond chance, whatever was flipped.
    if result.flip_agreement is not None and used > 1:
        word = (
            "they do not depend on what is left and right"
            if result.flip_agreement > 0.8
            else "so far they depend on what is left and right, which content does not"
        )
        found.append(
            f"Labels of pictures and of their mirror images agree by {result.flip_agreement:.2f} "
            f"(0 is chance, 1 equal): {word}."
        )
    return found


def counted(pictures: int) -> str:
    return f"{pictures} picture" + "s" * (pictures != 1)


def duration(seconds: float) -> str:
    """A time in words, for estimates."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
