"""Figures 1 and 2: they show what the arrays hold, and the same bytes twice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from infoseg.reporting import network_figures as figures
from infoseg.reporting import palette
from infoseg.reporting.data_flow import principal_colours
from infoseg.reporting.style import save_figure


def same_bytes_twice(draw, tmp_path):
    for suffix in ("png", "svg"):
        first, second = (save_figure(draw(), tmp_path / f"{i}.{suffix}") for i in range(2))
        assert first.read_bytes() == second.read_bytes()


def overlapping_texts(figure) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other, and texts that leave the page."""
    figure.draw_without_rendering()
    inside = [t for ax in figure.axes for t in (*ax.texts, ax.xaxis.label) if t.get_text()]
    boxes = [(t.get_text(), t.get_window_extent().extents) for t in inside]
    page = figure.bbox.extents
    bad = [
        (text, "page")
        for text, box in boxes
        if (box[:2] < page[:2] - 1).any() or (box[2:] > page[2:] + 1).any()
    ]
    for (a, p), (b, q) in itertools.combinations(boxes, 2):
        if (np.minimum(p[2:], q[2:]) - np.maximum(p[:2], q[:2]) > 1).all():
            bad.append((a, b))
    return bad


def halves(side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose upper 3/8 is bright blue and whose rest is dark green; which is which."""
    bright = np.zeros((side, side + 8), np.int64)
    bright[: 3 * side // 8] = 1
    return np.array([[20, 60, 20], [180, 190, 250]], np.uint8)[bright], bright


def test_two_colours_are_two_clusters_the_dark_one_first():
    image, bright = halves()
    assert (figures.colour_segmentation(image, 2) == bright).all()
    assert (figures.colour_segmentation(image / 255, 2, seed=7) == bright).all()
    infrared = np.dstack([image, np.random.default_rng(0).integers(0, 256, image.shape[:2])])
    assert (figures.colour_segmentation(infrared.astype(np.uint8), 2) == bright).all()
    assert (figures.colour_segmentation(image, 1) == 0).all()


def test_no_more_clusters_than_colours():
    flat = np.full((24, 24, 3), 90, np.uint8)
    assert (figures.colour_segmentation(flat, 3) == 0).all()
    with pytest.raises(ValueError, match="0 clusters"):
        figures.colour_segmentation(flat, 0)
    with pytest.raises(ValueError, match=r"a picture is \(H, W, 3 or more\)"):
        figures.colour_segmentation(flat[..., 0], 2)
    with pytest.raises(ValueError, match="float in 0..1"):
        figures.colour_segmentation(flat.astype(float), 2)


def test_similarity_is_the_cosine():
    local = np.random.default_rng(0).normal(size=(5, 3, 4))
    local[:, 2, 3] = 0
    found = figures.similarity_map(torch.from_numpy(local), (1, 2))
    at = local[:, 1, 2]
    for i, j in itertools.product(range(3), range(4)):
        there = local[:, i, j]
        length = np.linalg.norm(at) * np.linalg.norm(there)
        assert found[i, j] == pytest.approx(at @ there / length if length else 0, abs=1e-6)
    assert found[1, 2] == pytest.approx(1) and found[2, 3] == 0
    assert found == pytest.approx(figures.similarity_map(7 * local, (1, 2)))
    with pytest.raises(ValueError, match=r"position \(3, 0\) is outside the 3 x 4 grid"):
        figures.similarity_map(local, (3, 0))
    with pytest.raises(ValueError, match=r"\(P, U, V\)"):
        figures.similarity_map(local[0], (0, 0))


def parts1() -> dict:
    image, bright = halves()
    prediction = np.where(bright, 2, 0)
    prediction[:, 0] = palette.UNMATCHED
    return {
        "image": image,
        "colour_segmentation": bright,
        "similarity": np.linspace(-0.5, 1, 80).reshape(8, 10),
        "similarity_at": (7, 9),
        "prediction": prediction,
        "classes": ["sky", "plant", "ground"],
    }


def test_figure1_shows_what_it_was_given():
    given = parts1()
    figure = figures.figure1(**given)
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes[:4]]
    assert (shown[0] == given["image"]).all()
    # Each half is of one colour: their means are the picture itself.
    assert (shown[1] == given["image"]).all()
    assert (shown[2] == given["similarity"]).all()
    assert (shown[3] == palette.colourise(given["prediction"])).all()
    # The last cell of a grid of 4 px cells is around (38, 30).
    assert figure.axes[2].lines[0].get_xydata().tolist() == [[38, 30]]
    assert [t.get_text() for t in figure.legends[0].texts] == [*given["classes"], "no class"]
    captions = [ax.get_xlabel()[:3] for ax in figure.axes[:4]]
    assert captions == ["(a)", "(b)", "(c)", "(d)"]
    assert overlapping_texts(figure) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour_segmentation": np.zeros((3, 3), int)}, r"colour_segmentation is \(3, 3\)"),
        ({"prediction": np.zeros((3, 3), int)}, r"prediction is \(3, 3\)"),
        ({"similarity": np.zeros(3)}, r"\(U, V\)"),
        ({"similarity_at": (8, 0)}, r"position \(8, 0\)"),
        ({"classes": ["sky", "plant"]}, "id 2 has no name among 2 classes"),
    ],
)
def test_figure1_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        figures.figure1(**(parts1() | changes))


def parts2(clusters: int = 3) -> dict:
    rng = np.random.default_rng(clusters)
    volume = rng.dirichlet(np.ones(clusters), size=(6, 8)).transpose(2, 0, 1)
    local, glob = rng.normal(size=(9, 6, 8)), rng.normal(size=(clusters, 9))
    return {
        "image": rng.integers(0, 256, (24, 32, 3), dtype=np.uint8),
        "local": torch.from_numpy(local),
        "probabilities": volume,
        "labels": volume.argmax(0).repeat(4, 0).repeat(4, 1),
        "assigned": np.einsum("kij,kp->pij", volume, glob),
        "classes": [f"class {k}" for k in range(clusters)],
    }


def volume_axes(figure) -> list:
    """The small maps of V, in the order in which they are read."""
    maps = [ax for ax in figure.axes if ax.images and ax.images[0].get_cmap().name == "Greys"]
    return sorted(maps, key=lambda ax: (round(-ax.get_position().y0, 6), ax.get_position().x0))


def test_figure2_draws_clusters_in_the_colours_of_their_classes():
    given = parts2()
    match = ["class 2", None, "class 0"]
    figure = figures.figure2(**given, match=match)
    colours = palette.class_colours(3) / 255
    expected = [(2, colours[0]), (0, colours[2]), (1, np.array(palette.GREY) / 255)]
    for ax, (cluster, colour) in zip(volume_axes(figure), expected, strict=True):
        assert (np.asarray(ax.images[0].get_array()) == given["probabilities"][cluster]).all()
        assert ax.images[0].get_clim() == (0, 1)
        assert ax.spines["left"].get_edgecolor()[:3] == pytest.approx(tuple(colour))
    shown = {ax.get_xlabel(): ax.images[0].get_array() for ax in figure.axes if ax.get_xlabel()}
    ids = np.array([2, palette.UNMATCHED, 0])
    assert (shown["Segmentation"] == palette.colourise(ids[given["labels"]])).all()
    features, targets = principal_colours(given["local"], given["assigned"])
    assert (shown["Local features L"] == features).all()
    assert (shown["Assigned features S"] == targets).all()
    assert [t.get_text() for t in figure.legends[0].texts] == [*given["classes"], "no class"]


@pytest.mark.parametrize("clusters", [1, 2, 15, 27])
def test_figure2_has_room_for_every_number_of_classes(clusters):
    figure = figures.figure2(**parts2(clusters))
    maps = volume_axes(figure)
    assert len(maps) == clusters
    boxes = [ax.get_position().extents for ax in figure.axes if ax.images]
    for p, q in itertools.combinations(boxes, 2):
        assert not (np.minimum(p[2:], q[2:]) > np.maximum(p[:2], q[:2])).all()
    assert overlapping_texts(figure) == []
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent().extents
    assert legend[2] <= figure.bbox.x1
    lowest = min(ax.xaxis.label.get_window_extent().y0 for ax in figure.axes if ax.get_xlabel())
    assert legend[3] <= lowest


def test_principal_colours_are_comparable():
    rng = np.random.default_rng(0)
    local = rng.normal(size=(7, 5, 6)) * np.array([9, 5, 3, 1, 0.1, 0.1, 0.1])[:, None, None]
    first, again = principal_colours(local, local)
    assert first.shape == (5, 6, 3) and first.dtype == np.uint8
    assert (first == again).all()  # equal features, equal colours
    turned = principal_colours(local, local[:, ::-1])[1]
    assert (turned == first[::-1]).all()
    # The first three axes carry the variance, so that red must follow the first.
    red = np.corrcoef(first[..., 0].ravel(), local[0].ravel())[0, 1]
    assert red > 0.9
    flat = principal_colours(np.ones((4, 2, 2)), np.ones((4, 2, 2)))
    assert all((x == 128).all() for x in flat)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"assigned": np.zeros((9, 6, 7))}, "S is .* on another grid"),
        ({"probabilities": np.zeros((3, 4))}, "V is .* on another grid"),
        ({"assigned": np.zeros((8, 6, 8))}, "of the same length"),
        ({"labels": np.zeros((6, 8), int)}, r"labels are \(6, 8\)"),
        ({"labels": np.full((24, 32), 3)}, "labels are clusters 0 to 2, got 3"),
        ({"classes": ["a", "b"]}, "V has 3 clusters, but 2"),
        ({"match": ["class 0", "sea", None]}, "'sea' is not among"),
    ],
)
def test_figure2_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        figures.figure2(**(parts2() | changes))


def test_figures_have_the_same_bytes_twice(tmp_path):
    same_bytes_twice(lambda: figures.figure1(**parts1()), tmp_path)
    same_bytes_twice(lambda: figures.figure2(**parts2()), tmp_path)
