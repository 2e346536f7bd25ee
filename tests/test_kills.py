"""Power cuts over the pipeline; `python tests/kills.py repro --kills 20` makes many."""

import pytest
from kills import compare, settings, trial


@pytest.mark.slow
def test_after_random_kills_every_file_has_the_bytes_it_has_without(tmp_path):
    told = trial(2, 2, settings("tiny"), 0, tmp_path)
    assert told.kills == 2
    assert told.files > 50
    assert told.differ == []
    assert told.orphans == []


def test_the_comparison_sees_one_byte_one_file_and_one_stage(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / "results").mkdir(parents=True)
        (tmp_path / folder / "results/table").write_bytes(b"same")
        (tmp_path / folder / "results/timing.csv").write_text(folder)
    assert compare(tmp_path / "a", tmp_path / "b") == (1, [])
    (tmp_path / "b/results/table").write_bytes(b"sane")
    (tmp_path / "a/dvc.lock").write_text("stages: {strip: {cmd: a}}")
    assert compare(tmp_path / "a", tmp_path / "b")[1] == ["dvc.lock: strip", "results/table"]
