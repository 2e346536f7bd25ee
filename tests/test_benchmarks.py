"""The benchmarks: what they compare is the same work, and what they compute is right."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import OBJECTIVE, ROOT

import benchmarks.__main__ as benchmarks
from benchmarks import student, tries, worker
from infoseg.evaluation import evaluate
from infoseg.losses import ObjectiveSettings, infoseg_loss


@pytest.mark.parametrize("factor", [1.0, 0.14])
def test_the_students_loss_is_infosegs(factor):
    torch.manual_seed(0)
    local, glob = torch.randn(4, 8, 5, 6), torch.randn(4, 3, 8)
    settings = ObjectiveSettings(
        **OBJECTIVE | {"marginal": "rematched", "tau": 0.8, "score_factor": factor}
    )
    expected = infoseg_loss(local, glob, settings)
    torch.testing.assert_close(student.loss(local, glob, 0.8, factor), expected)


def test_the_students_pictures_are_crops_of_the_same_data():
    data = worker.noise()
    pictures = student.Pictures(data)
    crop = (pictures[3].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
    picture = data.prepared.image(3)
    windows = np.lib.stride_tricks.sliding_window_view(picture, (data.size, data.size), (0, 1))
    places = windows.transpose(0, 1, 3, 4, 2).reshape(-1, *crop.shape)
    assert any((places == way).all((1, 2, 3)).any() for way in (crop, crop[:, ::-1]))


def test_the_student_learns_and_is_evaluated_alike():
    data, method = worker.noise(), worker.method("infoseg", worker.INFOSEG)
    step = student.training_step(method, data, 4, workers=0)
    first = [step() for _ in range(2)]
    assert np.isfinite(first).all() and first[0] != first[1]
    ours = evaluate(method, data, 8, ["class 0", "class 1", "class 2"])["pa"]
    assert student.evaluate(method, data) == pytest.approx(ours, abs=0.5)


def test_the_published_joint_is_the_same_loss(monkeypatch):
    values = []
    monkeypatch.setattr(
        torch.autograd, "grad", lambda loss, views: values.append(float(loss.detach()))
    )
    for published in (False, True):
        worker.joint("2 3 8 2", published)()
    assert values[0] == pytest.approx(values[1], abs=5e-7)


@pytest.mark.parametrize("case", ["convolutions: InfoSeg", "evaluation: 32", "product: 4 5 6"])
def test_a_process_times_what_it_is_told(case):
    working = benchmarks.Worker(ROOT, "cpu")
    try:
        assert working.seconds(case, 1) > 0
    finally:
        working.close()


def test_ratios_are_of_repeats_that_took_turns_and_rows_name_the_floor():
    assert benchmarks.ratio([2, 9, 8], [1, 3, 4]) == "2.00 (2.00 to 3.00)"
    seconds = {f"{kind}: {name}": {"now": [0.2, 0.1], "before": [0.4, 0.4]} for name in worker.STEPS
               for kind in ("step", "convolutions")}  # fmt: skip
    seconds |= {"product: 2048 2048 128": {"now": [1e-3]}, "evaluation: 1": {"now": [4.0]}}
    seconds |= {"evaluation: 32": {"now": [1.0], "before": [2.0]}}
    page = benchmarks.tables(seconds)
    assert "1074 GFLOP/s" in page and "3.00 (2.00 to 4.00)" in page
    assert "| evaluation: 32 |" in page and "4.00 (4.00 to 4.00)" in page


@pytest.mark.slow
def test_every_case_runs(tmp_path):
    words = ["-m", "benchmarks", "--repeats", "1", "--out", str(tmp_path)]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, timeout=600)
    (page,) = tmp_path.glob("*.md")
    assert len(json.loads(page.with_suffix(".json").read_text())) > 12


def test_a_try_has_the_seconds_it_is_given_and_is_not_made_twice(tmp_path):
    plan, table = tmp_path / "plan.yaml", tmp_path / "tries.csv"
    plan.write_text(
        "{profile: tiny, dataset: coco_stuff3, seeds: [5], seconds: 1, warm_up: 4, evaluations: 2, "
        "methods: {infoseg: ['jitter={} optimiser.crop=48']}}"
    )
    tries.main(str(plan), str(table), "1")
    made = table.read_bytes()
    rows = pd.read_csv(table)
    assert rows["step"].is_monotonic_increasing and rows["step"][0] == 0 and len(rows) == 3
    assert rows["seconds"].iloc[-1] > 0 and rows[["pa", "miou"]].notna().to_numpy().all()
    tries.main(str(plan), str(table), "1")
    assert table.read_bytes() == made
