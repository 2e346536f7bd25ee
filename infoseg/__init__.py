"""Unsupervised image segmentation by mutual information: a reproduction of InfoSeg.

    import infoseg

    model = infoseg.load()                       # or infoseg.fit("~/holiday", classes=4)
    labels = model.segment("photo.jpg")          # (H, W) uint8
    v = model.probabilities("photo.jpg")         # (K, H, W) float32

Importing this imports nothing heavy; torch comes with the first call.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infoseg import losses, model, settings
    from infoseg.segmentation import Picture, Segmenter

__version__ = "0.1.0"
__all__ = ["Segmenter", "fit", "load", "losses", "model", "settings"]


def load(path: str | os.PathLike[str] | None = None, device: str = "auto") -> Segmenter:
    """Read weights; None for those that come with infoseg. See `Segmenter`."""
    from infoseg.segmentation import Segmenter

    return Segmenter(path, device)


def fit(
    pictures: str | os.PathLike[str] | Sequence[Picture],
    classes: int = 4,
    minutes: float = 3,
    random_state: int = 0,
    steps: int | None = None,
    starts: int = 5,
    start: str | None = None,
) -> Segmenter:
    """Train InfoSeg on a folder, or a list, of pictures. See `infoseg.own_pictures.fit`."""
    from infoseg import own_pictures

    return own_pictures.fit(pictures, classes, minutes, random_state, steps, starts, start)


def __getattr__(name: str) -> Any:
    if name == "losses":
        import infoseg.losses as value
    elif name == "model":
        import infoseg.model as value
    elif name == "settings":
        import infoseg.settings as value
    elif name == "Segmenter":
        from infoseg.segmentation import Segmenter as value
    else:
        raise AttributeError(f"module 'infoseg' has no attribute {name!r}")
    return value
