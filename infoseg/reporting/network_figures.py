"""Figures 1 and 2 of the paper for real images.

figure1   input, segmentation by colour, one representation's similarities, InfoSeg
figure2   what InfoSeg computes between an image and its segmentation (`data_flow`)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from infoseg.data.superpixels import superpixels
from infoseg.reporting.data_flow import figure2
from infoseg.reporting.palette import IGNORED, UNMATCHED, colourise, legend_handles
from infoseg.reporting.placing import (
    LINE,
    as_picture,
    bottom_legend,
    check_named,
    check_position,
    placed_axes,
)
from infoseg.reporting.style import new_figure, theme
from infoseg.settings import SuperpixelSettings

__all__ = ["colour_segmentation", "figure1", "figure2", "similarity_map"]

#: Regions of about 8 x 8 pixels, small enough for the limbs of a person in a 128 px image.
REGIONS = SuperpixelSettings(pixels_per_region=64, compactness=10.0, smoothing=0.0)
SIMILARITY_COLOURS = "cividis"


# ---- Figure 1 ------------------------------------------------------------------------------------


def colour_segmentation(image: ArrayLike, clusters: int, seed: int = 0) -> np.ndarray:
    """Segment by colour alone (Figure 1b): SLIC superpixels, k-means on their mean Lab colours.

    image: (H, W, 3 or more) uint8, or float in 0..1. Returns (H, W) int64, 0 to clusters - 1 from
    the darkest to the brightest; fewer where the picture has fewer colours. Larger regions weigh
    more. The paper does not say how its panel was made.
    Raises ValueError for fewer than one cluster or what is no picture.
    """
    # Deferred: more than a second of imports that no other figure needs.
    from skimage.color import rgb2lab
    from sklearn.cluster import KMeans

    if clusters < 1:
        raise ValueError(f"{clusters} clusters: at least one is needed")
    picture = as_picture(image)
    regions = superpixels(picture, REGIONS).astype(np.int64)
    sizes = np.bincount(regions.ravel())
    lab = rgb2lab(picture).reshape(-1, 3)
    sums = [np.bincount(regions.ravel(), lab[:, channel]) for channel in range(3)]
    # Rounded, so that equal colours do not count as different ones.
    means = np.round(np.stack(sums, 1) / sizes[:, None], 6)
    k = min(clusters, len(np.unique(means, axis=0)))
    found = KMeans(k, n_init=10, random_state=seed).fit(means, sample_weight=sizes)
    rank = np.argsort(np.argsort(found.cluster_centers_[:, 0], kind="stable"))
    return rank[found.labels_][regions]


def similarity_map(local: ArrayLike, position: tuple[int, int]) -> np.ndarray:
    """Cosine of the local feature at `position` (row, column) with all others (Figure 1c).

    local: (P, U, V). Returns (U, V) float32 in -1..1, 1 at the position; 0 for a feature of zeros.
    Raises ValueError for another shape or a position outside the grid.
    """
    features = np.asarray(local, dtype=np.float64)
    if features.ndim != 3:
        raise ValueError(f"local features are (P, U, V), got {features.shape}")
    check_position(position, features.shape[1:])
    norms = np.linalg.norm(features, axis=0)
    unit = np.divide(features, norms, out=np.zeros_like(features), where=norms > 0)
    row, column = position
    cosine = np.tensordot(unit[:, row, column], unit, 1)
    return np.clip(cosine, -1, 1).astype(np.float32)


def figure1(
    image: ArrayLike,
    colour_segmentation: ArrayLike,
    similarity: ArrayLike,
    similarity_at: tuple[int, int] | None,
    prediction: ArrayLike,
    classes: Sequence[str],
) -> Figure:
    """Figure 1 in the paper's four panels: input, colour, one representation, InfoSeg.

    image: (H, W, 3 or more) uint8, or float in 0..1. colour_segmentation: (H, W) regions, each
    drawn in its own mean colour, since they are no classes. similarity: (U, V) from
    `similarity_map`, and similarity_at the (row, column) it was asked for, which is marked; None
    for the similarity to one global feature of the whole image, as the paper has it.
    prediction: (H, W) class ids after matching, 254 for no class, 255 for not annotated.
    Raises ValueError when maps and picture differ in size, a class has no name or the position
    lies outside.
    """
    picture = as_picture(image)
    regions, labels = np.asarray(colour_segmentation), np.asarray(prediction)
    similarity = np.asarray(similarity, dtype=float)
    for name, array in (("colour_segmentation", regions), ("prediction", labels)):
        if array.shape != picture.shape[:2]:
            raise ValueError(f"{name} is {array.shape}, the image {picture.shape[:2]}")
    if similarity.ndim != 2:
        raise ValueError(f"the similarity map is (U, V), got {similarity.shape}")
    if similarity_at is not None:
        check_position(similarity_at, similarity.shape)
    check_named(labels, classes)
    handles = legend_handles(classes, UNMATCHED in labels, IGNORED in labels)
    cell, gap, edge = 1.75, 0.12, 0.08
    height = cell * picture.shape[0] / picture.shape[1]
    # Short legends stand under the panel they explain, long ones across the figure.
    columns = len(handles) if len(handles) <= 5 else 6
    lines = math.ceil(len(handles) / columns)
    total = (4 * (cell + gap) - gap + 2 * edge, height + 0.52 + lines * LINE)
    bottom = total[1] - 0.06 - height
    with theme():
        figure = new_figure(*total, layout=None)
        axes = [
            placed_axes(figure, total, (edge + i * (cell + gap), bottom, cell, height))
            for i in range(4)
        ]
        axes[0].imshow(picture)
        axes[1].imshow(_mean_colours(picture, regions), interpolation="none")
        # A feature is wholly similar to itself; to a global one it need not be.
        most = 1.0 if similarity_at is not None else float(similarity.max())
        # In pixels of the picture, so that a cell covers what it was computed from.
        extent = (0, picture.shape[1], picture.shape[0], 0)
        shown = axes[2].imshow(
            similarity, cmap=SIMILARITY_COLOURS, extent=extent, vmax=most, interpolation="none"
        )
        if similarity_at is not None:
            step = picture.shape[0] / similarity.shape[0], picture.shape[1] / similarity.shape[1]
            y, x = ((place + 0.5) * size for place, size in zip(similarity_at, step, strict=True))
            for ax in (axes[0], axes[2]):
                ax.plot(x, y, "o", ms=6, mfc="none", mec="black", mew=2.4)
                ax.plot(x, y, "o", ms=6, mfc="none", mec="white", mew=1.2)
        bar = (edge + 2 * (cell + gap) + 0.35, bottom - 0.33, cell - 0.7, 0.07)
        scale = figure.colorbar(
            shown, cax=placed_axes(figure, total, bar), orientation="horizontal"
        )
        low, high = (f"{float(v):.1f}".replace("-", "−") for v in (shown.norm.vmin, most))
        scale.set_ticks([])
        for side, value, align in ((0, f"{low} ", "right"), (1, f" {high}", "left")):
            scale.ax.text(
                side, 0.4, value, transform=scale.ax.transAxes, ha=align, va="center", fontsize=7
            )
        axes[3].imshow(colourise(labels), interpolation="none")
        captions = (
            "(a) Input",
            f"(b) Colour, {len(np.unique(regions))} clusters",
            "(c) Similarity to the circle"
            if similarity_at is not None
            else "(c) One global feature",
            "(d) InfoSeg",
        )
        for ax, caption in zip(axes, captions, strict=True):
            ax.set_xlabel(caption, fontsize=8, labelpad=3)
        bottom_legend(figure, handles, columns, edge / total[0], right=len(handles) <= 5)
    return figure


def _mean_colours(picture: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Every region in the mean of its colours: (H, W, 3) uint8."""
    _, places = np.unique(regions, return_inverse=True)
    places = places.reshape(-1)
    sizes = np.bincount(places)
    flat = picture.reshape(-1, 3)
    means = np.stack([np.bincount(places, flat[:, c]) / sizes for c in range(3)], 1)
    return np.round(means).astype(np.uint8)[places].reshape(picture.shape)
