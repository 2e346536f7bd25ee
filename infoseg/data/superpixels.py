"""Superpixels: an image divided into small connected regions of similar colour.

They are computed once, at preparation, because they cost more than a training step and depend on
the image alone. InMARS uses superpixels without saying which algorithm or how many; SLIC
(Achanta et al., TPAMI 2012; scikit-image's implementation) and every number is an assumption.
"""

from __future__ import annotations

import numpy as np

from infoseg.files import DataError
from infoseg.settings import SuperpixelSettings

#: Most regions an image may have: ids are uint16 and 65535 itself stays free for padding.
MAX_REGIONS = 65535


def superpixels(image: np.ndarray, settings: SuperpixelSettings) -> np.ndarray:
    """Return the region of every pixel of an image, (H, W) uint16 with ids 0 to R - 1.

    image: (H, W, C) uint8, C at least 3. Every id occurs and is one 4-connected region, numbered by
    first pixel, row by row. SLIC in Lab of the first three channels, stretched to the image's own
    range of values (scikit-image does so). A fourth, infrared band is left out (assumption: Lab is
    defined for red, green and blue). An image too small for two regions is one. Raises DataError
    for more than ``MAX_REGIONS`` regions.
    """
    # Deferred: most of a second of imports that a data set without superpixels does not need.
    from skimage.measure import label
    from skimage.segmentation import slic

    height, width = image.shape[:2]
    segments = round(height * width / settings.pixels_per_region)
    if segments < 2:
        return np.zeros((height, width), np.uint16)
    regions = slic(
        image[..., :3], segments, settings.compactness, sigma=settings.smoothing, start_label=0
    )
    # SLIC promises neither that every id occurs nor that a region is in one piece.
    regions = label(regions, background=-1, connectivity=1) - 1
    if (count := region_count(regions)) > MAX_REGIONS:
        raise DataError(
            f"{height} x {width} pixels make {count} superpixels, more than {MAX_REGIONS}",
            advice="Raise superpixels.pixels_per_region, or prepare smaller images",
        )
    return regions.astype(np.uint16)


def region_count(regions: np.ndarray) -> int:
    """Return how many regions a map with ids 0 to R - 1 has."""
    return int(regions.max()) + 1
