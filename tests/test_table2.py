"""Table 2: rows read from the settings each run was made with."""

import pandas as pd
import pytest

from infoseg.reporting.table2 import COLUMNS, table2, write_table2


def evaluation(measure: str, assignment: str, pa: float) -> dict:
    objective = {"measure": measure, "assignment": assignment}
    return {"made_with": {"settings": {"objective": objective}}, "last": {"pa": pa}}


RUNS = [
    evaluation("dv", "hard", 40.0),
    evaluation("jsd", "soft", 70.0),
    evaluation("jsd", "soft", 74.0),
]


def test_seeds_of_a_row_are_averaged_beside_the_papers_number():
    frame = table2(RUNS)
    assert list(frame.columns) == COLUMNS
    dv, jsd = frame.to_dict("records")
    assert (dv["measure"], dv["assignment"], dv["pa_mean"], dv["n_seeds"]) == (
        "DV",
        "Hard Assignment",
        40.0,
        1,
    )
    assert pd.isna(dv["pa_std"]) and dv["paper_pa"] == 53.9
    assert jsd["pa_mean"] == 72.0 and jsd["paper_pa"] == 73.8
    assert jsd["pa_std"] == pytest.approx(8**0.5)


def test_it_is_written_in_three_forms_with_the_same_bytes_twice(tmp_path):
    written = []
    for folder in ("one", "two"):
        paths = write_table2(table2(RUNS), tmp_path / folder, "Ablations on test data.")
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    text = (tmp_path / "one/table2.md").read_text()
    assert "| JSD, Soft Assignment | 72.0 ± 2.8 | 73.8 |" in text
