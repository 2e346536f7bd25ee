"""Unsupervised image segmentation by mutual information: a reproduction of InfoSeg.

    import infoseg

    model = infoseg.load()                       # or infoseg.fit("~/holiday", classes=4)
    labels = model.segment("photo.jpg")          # (H, W) uint8
    v = model.probabilities("photo.jpg")         # (K, H, W) float32

Importing this imports nothing heavy; torch comes with the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infoseg import losses, model, settings
    from infoseg.own import Segmenter, fit, load

__version__ = "0.1.0"
__all__ = ["Segmenter", "fit", "load", "losses", "model", "settings"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'infoseg' has no attribute {name!r}")
    from infoseg import own  # which imports the modules, too

    return globals().get(name) or getattr(own, name)
