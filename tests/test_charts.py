"""Training signals and seeds: the values drawn, what may be missing, the same bytes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_network_figures import same_bytes_twice

from infoseg.reporting import charts

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
    diverged = history().iloc[:0]
    histories = {"set-infoseg-0": history(), "set-infoseg-1": diverged, "set-kmeans-0": fitted}
    both = charts.training_signals(histories)
    assert [len(ax.lines) for ax in both.axes] == [1, 2, 1, 1, 1]
    for nothing in ({}, {"set-infoseg-0": history()[["step"]]}):
        with pytest.raises(ValueError, match="hold none of loss"):
            charts.training_signals(nothing)


def test_seeds_share_a_colour_and_methods_do_not():
    keys = ["set-iic-0", "set-infoseg-0", "set-infoseg-1", "set-infoseg_rematched-0"]
    histories = {key: history(i + 1) for i, key in enumerate(keys)}
    titles = {"infoseg": "InfoSeg"}
    figure = charts.training_signals(histories, method_titles=titles)
    drawn = figure.axes[0].lines
    colours = [line.get_color() for line in drawn]
    assert colours[1] == colours[2] == charts.ACCENT and len(set(colours)) == 3
    assert drawn[2].get_linewidth() < drawn[1].get_linewidth() == drawn[3].get_linewidth()
    legend = figure.legends[0]
    assert [t.get_text() for t in legend.texts] == ["iic", "InfoSeg", "infoseg_rematched"]
    assert [h.get_color() for h in legend.legend_handles] == [colours[0], colours[1], colours[3]]


def test_data_sets_stay_apart_when_there_are_several():
    histories = {f"{name}-infoseg-0": history() for name in ("a", "b")}
    figure = charts.training_signals(histories)
    assert [t.get_text() for t in figure.legends[0].texts] == ["a-infoseg", "b-infoseg"]


def test_fifteen_methods_look_different():
    styles = charts._method_styles([f"method {i}" for i in range(15)] + ["infoseg"])
    assert len({(str(s["color"]), str(s["ls"])) for s in styles.values()}) == 16


def evaluation(dataset: str, method: str, pa: float, mask: bool = False) -> dict:
    last = {"pa": pa, "halves": {"reported": {"pa": pa - 7}}}
    return {"dataset_title": dataset, "method_title": method, "uses_mask": mask, "last": last}


RUNS = [
    *(evaluation("Potsdam", "InfoSeg", pa) for pa in (50.0, 56.0, 59.0)),
    evaluation("Potsdam", "IIC", 45.0, mask=True),
    evaluation("COCO-Persons", "IIC", 60.0, mask=True),
]
TRIVIAL = pd.DataFrame(
    {"one class": [40.0, 50.0], "equal stripes": [44.0, 35.0]}, ["Potsdam", "COCO-Persons"]
)


@pytest.mark.parametrize(("reported", "less"), [("all", 0), ("half", 7)])
def test_every_seed_is_a_dot_at_its_method(reported, less):
    figure = charts.seeds_strip(RUNS, TRIVIAL, reported)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Potsdam", "COCO-Persons"]
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert names == ["InfoSeg", "IIC†"]
    dots = [
        np.vstack([c.get_offsets() for c in ax.collections if len(c.get_offsets())]).tolist()
        for ax in figure.axes
    ]
    expected = [[45, 1], [50, 0], [56, 0], [59, 0]]
    assert sorted(dots[0]) == [[pa - less, place] for pa, place in expected]
    assert dots[1] == [[60 - less, 1]]


def test_means_and_baselines():
    figure = charts.seeds_strip(RUNS, TRIVIAL)
    for ax, means, trivial in (
        (figure.axes[0], [[55, 0], [45, 1]], [40, 44]),
        (figure.axes[1], [[60, 1]], [50, 35]),
    ):
        ticks = [line for line in ax.lines if line.get_marker() == "|"]
        assert [line.get_xydata().tolist()[0] for line in ticks] == means
        upright = [line for line in ax.lines if line.get_marker() != "|"]
        assert [line.get_xdata()[0] for line in upright] == trivial
        low, high = ax.get_xlim()
        assert low < min(trivial) < max(trivial) < high
    labels = [t.get_text() for t in figure.legends[0].texts]
    assert labels[2:] == ["one class everywhere", "equal stripes", "† sees the annotation mask"]
    with pytest.raises(ValueError, match="at least one evaluation"):
        charts.seeds_strip([], TRIVIAL)


def test_charts_have_the_same_bytes_twice(tmp_path):
    histories = {"set-infoseg-0": history(), "set-infoseg-1": history(2)}
    for draw in (
        lambda: charts.training_signals(histories),
        lambda: charts.seeds_strip(RUNS, TRIVIAL, title="Seeds"),
    ):
        same_bytes_twice(draw, tmp_path)
