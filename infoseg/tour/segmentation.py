"""From scores to labels, and to S: Eqs 3, 4 and 5 on one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from infoseg.evaluation import match_clusters, pixel_accuracy
from infoseg.losses import class_probabilities, hard_assignment
from infoseg.methods.base import relative_entropy
from infoseg.reporting.data_flow import principal_colours
from infoseg.reporting.network_figures import colour_segmentation
from infoseg.reporting.palette import IGNORED, UNMATCHED, colourise, legend_handles
from infoseg.tour.drawing import Picture, mixed_colours, number, rows, signed
from infoseg.tour.start import Tour


def by_colour(tour: Tour) -> Figure:
    """The picture, its segmentation by colour alone (Figure 1b), and its annotation (section 1)."""
    picture, annotation = tour.inside.picture, tour.annotation
    regions = colour_segmentation(picture, len(tour.classes))
    annotated = annotation != IGNORED
    confusion = np.zeros((len(tour.classes), len(tour.classes)), np.int64)
    np.add.at(confusion, (regions[annotated], annotation[annotated].astype(int)), 1)
    match = match_clusters(confusion)
    share = pixel_accuracy(confusion, match)
    painted = np.where(match < 0, UNMATCHED, match)[regions]
    return rows(
        [
            [
                Picture(picture, "a picture", style={"interpolation": "auto"}),
                Picture(colourise(painted), f"by colour, K = {len(confusion)}; PA {share:.0f} %"),
                Picture(colourise(annotation), "annotation"),
            ]
        ],
        cell=1.75,
        legend=legend_handles(tour.classes, UNMATCHED in painted, IGNORED in annotation),
    )


def score_maps(tour: Tour) -> Figure:
    """The class scores <L_ij, H_k> of every class, in the colours of one scale (4.2)."""
    inside = tour.inside
    most = float(inside.scores.abs().max())
    maps = [
        signed(x, f"⟨L, H⟩ of class {k}:\n{_range(x)}", most)
        for k, x in enumerate(inside.scores, 1)
    ]
    picture = Picture(inside.picture, "X", style={"interpolation": "auto"})
    return rows([[picture, *maps]])


def _range(x: Tensor) -> str:
    return f"{number(float(x.min()))} to {number(float(x.max()))}"


def temperatures(tour: Tour, taus: Sequence[float]) -> Figure:
    """V of Eq. 3 for a row of tau: the class colours, mixed by it, and its mean entropy."""
    scores = tour.inside.scores
    pictures = []
    for tau in taus:
        v = class_probabilities(scores.flatten(1), tau).unflatten(-1, scores.shape[1:])
        entropy = float(relative_entropy(v[None])[0])
        caption = f"entropy {number(entropy)} log K\nlargest V {number(float(v.max()))}"
        pictures.append(Picture(mixed_colours(v), caption, f"τ = {tau:g}"))
    return rows([pictures], legend=_numbers(len(scores)))


def label_steps(tour: Tour) -> Figure:
    """Eq. 4 at the resolution of L, then at that of the picture, in either order (4.2)."""
    inside = tour.inside
    low = inside.probabilities.argmax(0).numpy()
    size = inside.image.shape[1:]
    nearest = inside.labels.numpy()
    smooth = F.interpolate(inside.scores[None], size, mode="bilinear", align_corners=False)
    smooth = smooth[0].argmax(0).numpy()
    differ = 100 * float((smooth != nearest).mean())
    return rows(
        [
            [
                Picture(inside.picture, f"X, {_size(size)}", style={"interpolation": "auto"}),
                Picture(colourise(low), f"arg max V, {_size(low.shape)}", lines=True),
                Picture(
                    _over(inside.picture, nearest), f"labels upsampled,\n{_size(nearest.shape)}"
                ),
                Picture(
                    _over(inside.picture, smooth),
                    f"scores upsampled:\n{number(differ, 1)} % other labels",
                ),
            ]
        ],
        legend=_numbers(len(inside.scores)),
    )


def _numbers(classes: int) -> list[Any]:
    """Legend of classes that have no name: nothing was matched to an annotation."""
    return legend_handles([f"class {k}" for k in range(1, classes + 1)])


def _size(shape: Sequence[int]) -> str:
    return " × ".join(str(n) for n in shape)


def _over(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels painted over a picture: (H, W, 3) uint8."""
    return np.round(0.45 * picture + 0.55 * colourise(labels)).astype(np.uint8)


def assignments(tour: Tour) -> Figure:
    """S of Eq. 5, by V and by its arg max, beside L and the H_k it is made of (4.3).

    Features are painted by three principal components: L by its own, S by those of the H_k.
    """
    inside = tour.inside
    grid = inside.scores.shape[1:]
    hard = (inside.glob.T @ hard_assignment(inside.scores.flatten(1))).unflatten(-1, grid)
    # The H_k as stripes, so that they and both S are painted on one scale.
    stripes = torch.arange(grid[0]) * len(inside.glob) // grid[0]
    of_classes = inside.glob.T[:, stripes, None].expand(-1, -1, 2 * grid[1])
    of_classes, assigned = principal_colours(of_classes, torch.cat([inside.assigned, hard], -1))
    of_classes = of_classes[:, : grid[1]]
    soft, hard_colours = np.split(assigned, 2, axis=1)
    mean = float((inside.local * inside.assigned).sum(0).mean())
    mean_hard = float((inside.local * hard).sum(0).mean())
    used = len(inside.scores.argmax(0).unique())
    classes = len(inside.glob)
    return rows(
        [
            [
                Picture(inside.picture, "X", style={"interpolation": "auto"}),
                Picture(principal_colours(inside.local, inside.local)[0], "L"),
                Picture(mixed_colours(inside.probabilities), "V"),
                Picture(of_classes, f"H of classes 1 to {classes},\ntop to bottom"),
                Picture(soft, f"S, soft (Eq. 5);\nmean ⟨L, S⟩ {number(mean)}"),
                Picture(
                    hard_colours,
                    f"S, hard: {used} of {classes} H;\nmean ⟨L, S⟩ {number(mean_hard)}",
                ),
            ]
        ]
    )
