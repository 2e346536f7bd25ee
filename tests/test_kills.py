"""Random power cuts over a training and over the pipeline."""

import pytest
from helpers import one_data_set
from kills import PIPELINE, TRAINING, compare, contents, trial

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "waits"), [(TRAINING, (5.0, 10.0)), (PIPELINE, (4.0, 25.0))], ids=["one", "all"]
)
def test_after_random_kills_every_file_has_the_bytes_it_has_without(tmp_path, words, waits):
    kills, count, different = trial(words, one_data_set(3), 6, waits, 0, tmp_path)
    assert different == []
    assert count > (200 if words is PIPELINE else 20)
    assert kills > 2


def test_the_comparison_sees_one_byte_and_one_file(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / "runs").mkdir(parents=True)
        (tmp_path / folder / "runs/weights").write_bytes(b"same")
        (tmp_path / folder / "runs/timing.json").write_text(folder)
    assert compare(tmp_path / "a", tmp_path / "b") == (1, [])
    (tmp_path / "b/runs/weights").write_bytes(b"sane")
    (tmp_path / "b/dvc.lock").write_text("more")
    assert compare(tmp_path / "a", tmp_path / "b")[1] == ["dvc.lock", "runs/weights"]
    assert list(contents(tmp_path / "a")) == ["runs/weights"]
