"""Tables 2 and 2b: rows read from the settings each run was made with."""

import copy

import pandas as pd
import pytest

from infoseg.reporting.table2 import (
    COLUMNS,
    COLUMNS_2B,
    differences,
    table2,
    table2b,
    write_table2,
    write_table2b,
)

SETTINGS = {
    "kind": "infoseg",
    "title": "InfoSeg",
    "paper_row": "InfoSeg",
    "per_dataset": {},
    "objective": {"measure": "jsd", "assignment": "soft", "gradient_through_v": True},
    "optimiser": {"batch": 16},
}


def measured(pa: float) -> dict:
    return {"pa": pa, "miou": pa / 2, "iou": {"a": pa, "b": 0.0}, "groups": [[pa, 100], [0, 0]]}


def evaluation(pa: float, gap: float = 5.0, **changes) -> dict:
    """changes: dotted paths with __ for the dot."""
    settings = copy.deepcopy(SETTINGS)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = settings
        for parent in parents:
            place = place[parent]
        place[last] = value
    part = {
        **measured(pa),
        "many_to_one_pa": pa + 3,
        "permutation_gap": gap,
        "within_image_chance": 40.0,
        "assignment_entropy": 0.5,
        "clusters_used": 3,
    }
    part["halves"] = {"reported": part | measured(pa - 1)}
    made_with = {"settings": settings}
    return {"made_with": made_with, "last": part, "best": {"pa": pa + 2}, "diverged": ""}


RUNS = [
    evaluation(50.0, kind="iic_mi"),
    evaluation(40.0, objective__measure="dv", objective__assignment="hard"),
    evaluation(70.0),
    evaluation(74.0),
]


def test_seeds_of_a_row_are_averaged_beside_the_papers_number():
    frame = table2(RUNS)
    assert list(frame.columns) == COLUMNS
    iic, dv, jsd = frame.to_dict("records")
    assert (iic["measure"], iic["assignment"], iic["paper_pa"]) == ("IIC-MI", "-", 60.2)
    assert (dv["measure"], dv["assignment"]) == ("DV", "Hard Assignment")
    assert (dv["pa_mean"], dv["n_seeds"], dv["paper_pa"]) == (40.0, 1, 53.9)
    assert pd.isna(dv["pa_std"])
    assert (jsd["pa_mean"], jsd["n_seeds"], jsd["paper_pa"]) == (72.0, 2, 73.8)
    assert jsd["pa_std"] == pytest.approx(8**0.5)
    assert jsd["difference"] == pytest.approx(-1.8)
    assert (jsd["pa_best_mean"], jsd["pa_reported_mean"]) == (74.0, 71.0)
    assert (jsd["miou_mean"], jsd["iou"], jsd["pa_all_mean"]) == (36.0, "a 72.0; b 0.0", 72.0)
    half = table2(RUNS, "half").to_dict("records")[-1]
    assert (half["pa_mean"], half["iou"], half["pa_all_mean"]) == (71.0, "a 71.0; b 0.0", 72.0)
    assert half["groups"].tolist() == [[71, 100], [0, 0]]


def test_it_is_written_in_three_forms_with_the_same_bytes_twice(tmp_path):
    trivial = pd.DataFrame({"method_title": ["Stripes"], "pa_mean": [41.0], "miou_mean": [20.0]})
    written = []
    for folder in ("one", "two"):
        paths = write_table2(table2(RUNS), tmp_path / folder, "Ablations.", trivial)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    text = (tmp_path / "one/table2.md").read_text()
    assert "| JSD, Soft Assignment | 72.0 ± 2.8 | 36.0 ± 1.4 | 73.8 |" in text
    assert "| IIC-MI | 50.0 | 25.0 | 60.2 |\n" in text and "| *Stripes* | 41.0 | 20.0 | – |" in text
    assert "groups" not in (tmp_path / "one/table2.csv").read_text()


def test_every_question_has_the_default_and_its_variants_by_the_settings_that_differ(tmp_path):
    variants = {
        "no_gradient": ("Gradient", [evaluation(60.0, objective__gradient_through_v=False)]),
        "batch_8_dv": ("Batch", [evaluation(55.0, optimiser__batch=8, objective__measure="dv")]),
        "batch_32": ("Batch", [evaluation(58.0, optimiser__batch=32)]),
    }
    frame = table2b(RUNS[2:], variants)
    assert list(frame.columns) == COLUMNS_2B
    assert frame[["question", "choice", "variant", "is_default"]].values.tolist() == [
        ["Gradient", "gradient through v = on", "infoseg", True],
        ["Gradient", "gradient through v = off", "no_gradient", False],
        ["Batch", "measure = jsd, batch = 16", "infoseg", True],
        ["Batch", "measure = dv, batch = 8", "batch_8_dv", False],
        ["Batch", "batch = 32", "batch_32", False],
    ]
    assert frame["pa_mean"].tolist() == [72.0, 60.0, 72.0, 55.0, 58.0]
    assert frame["many_to_one_mean"].tolist() == [75.0, 63.0, 75.0, 58.0, 61.0]
    write_table2b(frame, tmp_path, "Open choices on test data.")
    text = (tmp_path / "table2b.md").read_text()
    assert "*Gradient*" in text and "**72.0** ± 2.8" in text


def test_without_runs_there_are_columns_and_no_rows():
    assert list(table2b([], {}).columns) == COLUMNS_2B
    assert table2([]).empty and table2b([], {}).empty


def test_names_are_no_difference_and_nested_settings_are_told_by_their_path():
    other = evaluation(0.0, title="x", objective__measure="dv")["made_with"]["settings"]
    assert differences(other, SETTINGS) == {"objective.measure": "dv"}
    assert differences(SETTINGS | {"flip": 0.5}, SETTINGS) == {"flip": 0.5}
