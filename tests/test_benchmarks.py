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
from benchmarks import cases, gpu, student, tries
from infoseg.losses import ObjectiveSettings, infoseg_loss
from infoseg.methods.information import iic_loss


@pytest.mark.parametrize("factor", [1.0, 0.14])
def test_the_students_loss_is_infosegs(factor):
    torch.manual_seed(0)
    local, glob = torch.randn(4, 8, 5, 6), torch.randn(4, 3, 8)
    settings = ObjectiveSettings(**OBJECTIVE | {"tau": 0.8, "score_factor": factor})
    expected = infoseg_loss(local, glob, settings)
    torch.testing.assert_close(student.infoseg_loss(local, glob, 0.8, factor), expected)


def test_the_published_joint_is_the_same_loss():
    torch.manual_seed(0)
    views = [torch.rand(2, 3, 8, 8).softmax(1) for _ in range(2)]
    expected = iic_loss(*views, 2, 1.5)
    torch.testing.assert_close(student.iic_loss(*views, 2, 1.5), expected, atol=5e-7, rtol=0)


def test_the_students_pictures_are_crops_of_the_same_data():
    data = cases.noise(cases.CPU, 64)
    pictures = student.Pictures(data)
    crop = (pictures[3].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
    picture = data.prepared.image(3)
    windows = np.lib.stride_tricks.sliding_window_view(picture, (data.size, data.size), (0, 1))
    places = windows.transpose(0, 1, 3, 4, 2).reshape(-1, *crop.shape)
    assert any((places == way).all((1, 2, 3)).any() for way in (crop, crop[:, ::-1]))


@pytest.mark.parametrize("kind", ["infoseg", "iic"])
def test_a_student_learns(kind):
    step = cases.student_step(kind, 4, 32)
    losses = [step() for _ in range(2)]
    assert np.isfinite(losses).all() and losses[0] != losses[1]


@pytest.mark.parametrize(
    "case", [("step", {"kind": "ac", "batch": 2, "crop": 32}), ("evaluation", {"batch": 32})]
)
def test_a_case_is_timed(case):
    assert benchmarks.timer(cases.CPU)(case) > 0


def test_ratios_are_of_turns_and_a_row_names_what_stands_beside(monkeypatch):
    how = {"kind": "infoseg", "batch": 32}
    row = ("step of infoseg", ("step", how), "a student's", ("student_step", how))
    monkeypatch.setattr(benchmarks, "rows", lambda: iter([row, ("alone", ("joint", {}), "", None)]))
    monkeypatch.setattr(benchmarks, "step_flops", lambda how: 2e9)
    flops = 2 * np.prod(list(benchmarks.PRODUCT.values()))
    seconds = {"product": [flops / 1e11], "step": [0.1, 0.2, 0.1],
               "student_step": [0.2, 1.2, 0.5], "joint": [0.3] * 3}  # fmt: skip
    series = {case: iter(times) for case, times in seconds.items()}
    table = benchmarks.compare(lambda case: next(series[case[0]]), 3)
    assert table["times as fast"].tolist() == ["5.00 (2.00 to 6.00)", ""]
    assert table["beside"].tolist() == ["a student's", ""]
    assert table["floor, ms"].tolist() == [20.0, ""] and table["ms"][0] == 100.0


def test_an_exponent_is_the_slope_between_logarithms():
    assert benchmarks.exponent([1, 2, 4], [3, 12, 48]) == 2
    assert benchmarks.exponent([8, 16], [5, 5]) == 0


@pytest.mark.slow
def test_every_case_runs(tmp_path):
    words = ["-m", "benchmarks", "--turns", "1", "--out", str(tmp_path)]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, timeout=1200)
    (page,) = tmp_path.glob("*.md")
    assert len(json.loads(page.with_suffix(".json").read_text())["compared"]) == 9


# ---- make gpu-check ------------------------------------------------------------------------------


def test_a_device_sees_the_cpus_draws_and_a_loss_that_is_off_by_a_percent_is_noticed():
    losses = gpu.losses("isola", gpu.CPU, 4)
    torch.manual_seed(1)  # of no account
    assert gpu.moved(losses, gpu.losses("isola", gpu.CPU, 4)) == 0
    assert gpu.moved(1.01 * losses, losses) > gpu.TOLERANCE
    with gpu.SameDraws():
        first = torch.rand(3, generator=torch.Generator(), device="meta")
    assert first.device.type == "meta"


def test_hours_count_every_training_of_the_paper_by_its_pixels():
    # InMARS: 3 seeds on each of six data sets at most; 640,000 crops of 128 px, 256,000 of 200 px.
    seeds = {run.dataset: 0 for run in gpu.PAPER.runs()}
    for run in gpu.PAPER.runs():
        seeds[run.dataset] += run.method == "inmars"
    crops = sum(
        n * (256e3 * (200 / 128) ** 2 if name.startswith("potsdam") else 640e3)
        for name, n in seeds.items()
    )
    assert gpu.hours("inmars", 1000) == pytest.approx(crops / 1000 / 3600)


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
