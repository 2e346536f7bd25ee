"""Class shares, training signals, seeds: the values drawn, what may be missing, the same bytes."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from infoseg.evaluation import summarise
from infoseg.reporting import charts, palette
from infoseg.reporting.style import save_figure


def same_bytes_twice(draw, tmp_path):
    for suffix in ("png", "svg"):
        first, second = (save_figure(draw(), tmp_path / f"{i}.{suffix}") for i in range(2))
        assert first.read_bytes() == second.read_bytes()


# ---- class report --------------------------------------------------------------------------------


def part(classes: int = 4) -> dict:
    """Class 0 is 60 % of the pixels and right half of the time; the last does not occur."""
    confusion = np.zeros((classes, classes), int)
    confusion[0, 0], confusion[1, 0], confusion[1, 1], confusion[2, 2] = 30, 30, 30, 10
    names = [f"class {i}" for i in range(classes)]
    return summarise(confusion[None], ["image"], names)


def points(figure) -> tuple[np.ndarray, np.ndarray]:
    """Where the points stand and their colours, in 0..255."""
    dots = figure.axes[0].collections[0]
    return np.asarray(dots.get_offsets()), np.round(dots.get_facecolors()[:, :3] * 255)


def test_points_are_shares_and_iou_in_the_colours_of_the_classes():
    figure = charts.class_report(part(), title="InfoSeg")
    places, colours = points(figure)
    # IoU: 30 of 60, 30 of 60, 10 of 10. Class 3 is neither annotated nor predicted.
    assert places.tolist() == [[60, 50], [30, 50], [10, 100]]
    assert (colours == palette.class_colours(4)[:3]).all()
    ax = figure.axes[0]
    written = {t.get_text(): tuple(t.xy) for t in ax.texts if t.get_text()}
    assert written == {"class 0": (60, 50), "class 1": (30, 50), "class 2": (10, 100)}
    assert "1 of 4 classes holds over half" in ax.get_title(loc="left")


def test_shares_may_come_from_elsewhere():
    shares = {f"class {i}": value for i, value in enumerate([20, 40, 40, 0])}
    figure = charts.class_report(part(), shares)
    assert points(figure)[0][:, 0].tolist() == [20, 40, 40]
    assert "2 of 4 classes hold over half" in figure.axes[0].get_title(loc="left")
    with pytest.raises(ValueError, match="shares of"):
        charts.class_report(part(), {"class 0": 1.0})
    empty = summarise(np.zeros((1, 2, 2), int), ["image"], ["a", "b"])
    with pytest.raises(ValueError, match="no pixel is annotated"):
        charts.class_report(empty)


@pytest.mark.parametrize(
    ("shares", "count"),
    [([1], 1), ([50, 50], 2), ([51, 49], 1), ([10, 20, 30, 40], 2), ([1] * 15, 8), ([0, 3, 0], 1)],
)
def test_generic_classes(shares, count):
    assert charts.generic_classes(shares) == count
    assert charts.generic_classes(shares[::-1]) == count


def test_no_class_without_pixels_is_generic():
    with pytest.raises(ValueError, match="holds a pixel"):
        charts.generic_classes([0, 0])


@pytest.mark.parametrize("seed", range(4))
def test_names_of_fifteen_crowded_classes_do_not_overlap(seed):
    rng = np.random.default_rng(seed)
    names = "ceiling floor food furniture rawmaterial textile wall window building ground plant "
    names = (names + "sky solid structural water").split()
    shares = np.r_[rng.uniform(0.5, 6, 12), 14.0, 18.0, 22.0]
    iou = np.r_[rng.uniform(0, 12, 12), 30.0, 17.0, 13.0]
    given = {"iou": dict(zip(names, iou, strict=True))}
    figure = charts.class_report(given, dict(zip(names, shares, strict=True)))
    figure.draw_without_rendering()
    labels = [t for t in figure.axes[0].texts if t.get_text()]
    assert {t.get_text() for t in labels} == set(names)
    boxes = [t.get_window_extent().extents for t in labels]
    for p, q in itertools.combinations(boxes, 2):
        assert not (np.minimum(p[2:], q[2:]) - np.maximum(p[:2], q[:2]) > 1).all()
    frame = figure.axes[0].get_window_extent()
    for box in boxes:
        assert box[0] >= frame.x0 and box[1] >= frame.y0 and box[2] <= frame.x1


def test_class_report_has_the_same_bytes_twice(tmp_path):
    same_bytes_twice(lambda: charts.class_report(part()), tmp_path)


# ---- training signals ----------------------------------------------------------------------------


def history(scale: float = 1.0, **changes) -> pd.DataFrame:
    """Loss at every step, evaluations at two of them, as `history.csv` has them."""
    nan = np.nan
    columns = {
        "step": [10, 20, 20, 40],
        "loss": [3 * scale, 2 * scale, nan, scale],
        "pa": [nan, nan, 40.0, 50.0],
        "assignment_entropy": [nan, nan, 0.9, 0.5],
        "permutation_gap": [nan, nan, 5.0, 12.0],
        "clusters_used": [nan, nan, 1, 3],
    }
    return pd.DataFrame(columns | changes)


def lines(ax) -> list[list[list[float]]]:
    return [line.get_xydata().tolist() for line in ax.lines]


def test_signals_stand_one_below_the_other():
    figure = charts.training_signals({"set-infoseg-0": history()}, title="Set")
    labels = [ax.get_ylabel().split("\n")[0] for ax in figure.axes]
    assert labels == ["Loss", "PA (%)", "Entropy of V", "Permutation", "Clusters"]
    assert lines(figure.axes[0]) == [[[10, 3], [20, 2], [40, 1]]]
    assert lines(figure.axes[1]) == [[[20, 40], [40, 50]]]
    assert lines(figure.axes[4]) == [[[20, 1], [40, 3]]]
    assert figure.axes[0].get_title(loc="left") == "Set"


def test_old_histories_and_fitted_methods_leave_rows_out():
    old = history().drop(columns="clusters_used")
    assert len(charts.training_signals({"set-infoseg-0": old}).axes) == 4
    fitted = pd.DataFrame({"step": [0], "loss": [None], "pa": [52.0]})
    figure = charts.training_signals({"set-kmeans-0": fitted})
    assert len(figure.axes) == 1 and figure.axes[0].lines[0].get_marker() == "o"
    # One run that has them is enough for the row; the other is absent from it.
    both = charts.training_signals({"set-infoseg-0": history(), "set-kmeans-0": fitted})
    assert [len(ax.lines) for ax in both.axes] == [1, 2, 1, 1, 1]
    for nothing in ({}, {"set-infoseg-0": history()[["step"]]}):
        with pytest.raises(ValueError, match="hold none of loss"):
            charts.training_signals(nothing)


def test_seeds_share_a_colour_and_methods_do_not():
    keys = ["set-iic-0", "set-infoseg-0", "set-infoseg-1", "set-infoseg_eq8-0"]
    histories = {key: history(i + 1) for i, key in enumerate(keys)}
    titles = {"infoseg": "InfoSeg"}
    figure = charts.training_signals(histories, method_titles=titles)
    drawn = figure.axes[0].lines
    colours = [line.get_color() for line in drawn]
    assert colours[1] == colours[2] == charts.ACCENT and len(set(colours)) == 3
    assert drawn[2].get_linewidth() < drawn[1].get_linewidth() == drawn[3].get_linewidth()
    legend = figure.legends[0]
    assert [t.get_text() for t in legend.texts] == ["iic", "InfoSeg", "infoseg_eq8"]
    assert [h.get_color() for h in legend.legend_handles] == [colours[0], colours[1], colours[3]]


def test_data_sets_stay_apart_when_there_are_several():
    histories = {f"{name}-infoseg-0": history() for name in ("a", "b")}
    figure = charts.training_signals(histories)
    assert [t.get_text() for t in figure.legends[0].texts] == ["a-infoseg", "b-infoseg"]


def test_fifteen_methods_look_different():
    styles = charts._method_styles([f"method {i}" for i in range(15)] + ["infoseg"])
    assert len({(str(s["color"]), str(s["ls"])) for s in styles.values()}) == 16


def test_training_signals_have_the_same_bytes_twice(tmp_path):
    histories = {"set-infoseg-0": history(), "set-infoseg-1": history(2)}
    same_bytes_twice(lambda: charts.training_signals(histories), tmp_path)


# ---- seeds ---------------------------------------------------------------------------------------


def evaluation(dataset: str, method: str, pa: float, classes: int = 4, mask: bool = False) -> dict:
    iou = {f"class {i}": 1.0 for i in range(classes)}
    return {
        "dataset_title": dataset,
        "method_title": method,
        "uses_mask": mask,
        "last": {"pa": pa, "constant_pa": 40.0, "random_pa": 100 / len(iou), "iou": iou},
    }


RUNS = [
    *(evaluation("Potsdam", "InfoSeg", pa) for pa in (50.0, 56.0, 59.0)),
    evaluation("Potsdam", "IIC", 45.0, mask=True),
    evaluation("COCO-Persons", "IIC", 60.0, classes=2, mask=True),
]


def test_every_seed_is_a_dot_at_its_method():
    figure = charts.seeds_strip(RUNS)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Potsdam", "COCO-Persons"]
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert names == ["InfoSeg", "IIC†"]
    dots = [
        np.vstack([c.get_offsets() for c in ax.collections if len(c.get_offsets())]).tolist()
        for ax in figure.axes
    ]
    assert sorted(dots[0]) == [[45, 1], [50, 0], [56, 0], [59, 0]]
    assert dots[1] == [[60, 1]]


def test_means_and_baselines():
    figure = charts.seeds_strip(RUNS)
    for ax, means, chance in (
        (figure.axes[0], [[55, 0], [45, 1]], 25),
        (figure.axes[1], [[60, 1]], 50),
    ):
        ticks = [line for line in ax.lines if line.get_marker() == "|"]
        assert [line.get_xydata().tolist()[0] for line in ticks] == means
        upright = [line for line in ax.lines if line.get_marker() != "|"]
        assert [line.get_xdata()[0] for line in upright] == [40, chance]
        low, high = ax.get_xlim()
        assert low < chance < high
    labels = [t.get_text() for t in figure.legends[0].texts]
    assert labels[2:] == ["one class everywhere", "random labels", "† sees the annotation mask"]
    with pytest.raises(ValueError, match="at least one evaluation"):
        charts.seeds_strip([])


def test_seeds_strip_has_the_same_bytes_twice(tmp_path):
    same_bytes_twice(lambda: charts.seeds_strip(RUNS, title="Seeds"), tmp_path)
