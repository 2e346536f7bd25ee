"""The benchmarks: what they compare is the same work, what they compute is right, and they run."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import OBJECTIVE, ROOT

from benchmarks import hours, student, traces, training
from benchmarks.measure import Rates, exponent, flops_of, interleaved, measure_rates
from benchmarks.report import plot, table
from benchmarks.workload import make_data, make_method, paper_params
from infoseg import cli
from infoseg.evaluation import evaluate
from infoseg.losses import ObjectiveSettings, infoseg_loss
from infoseg.settings import Run

CPU = torch.device("cpu")
SMALL = ["methods.infoseg.network.width=0.05", "methods.infoseg.network.features=16"]


@pytest.fixture
def small(monkeypatch):
    """The paper's settings but for the width of InfoSeg and crops of 40 px."""
    words = [*SMALL, "datasets.coco_stuff3.crop=40", "training.threads=1"]
    words += ["methods.doersch.width=0.05", "methods.doersch.head_width=8"]
    params = paper_params(words)
    for module in (training, hours):
        monkeypatch.setattr(module, "paper_params", lambda: params)
    return params


def test_variants_take_turns_and_warm_up_does_not_count():
    order = []
    found = interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU, repeats=2, warm_up=1
    )
    assert order == ["a", "b"] * 3
    assert set(found) == {"a", "b"} and all(value > 0 for value in found.values())


def test_exponents_are_slopes_in_logarithms():
    sizes = [1.0, 2.0, 8.0]
    assert exponent(sizes, [3 * size**2 for size in sizes]) == pytest.approx(2)
    assert exponent(sizes, [5.0] * 3) == pytest.approx(0)


def test_the_floor_is_arithmetic_or_traffic():
    rates = Rates(flops=100.0, flops_float32=10.0, bytes=50.0)
    assert rates.floor(200, 50) == 2 and rates.floor(200, 500) == 10


def test_rates_are_those_of_a_product_and_a_copy():
    found = measure_rates(CPU, None)
    assert 1e8 < found.flops < 1e14 and 1e8 < found.bytes < 1e13


def test_flops_are_two_per_multiplication_forward():
    a, b = torch.rand(3, 5), torch.rand(5, 7)
    assert flops_of(lambda: a @ b) == 2 * 3 * 5 * 7


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_the_students_loss_is_infosegs(factor):
    torch.manual_seed(0)
    local, glob = torch.randn(4, 8, 3, 5), torch.randn(4, 3, 8)
    settings = ObjectiveSettings(
        **OBJECTIVE | {"marginal": "rematched", "score_factor": factor, "tau": 0.8}
    )
    expected = infoseg_loss(local, glob, settings)
    torch.testing.assert_close(student.loss(local, glob, 0.8, factor), expected)


def test_the_students_pictures_are_crops_of_the_same_data(small):
    data = make_data(small, "coco_stuff3", 3, CPU)
    pictures = student.Pictures(data)
    assert len(pictures) == 3
    crop = (pictures[1] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert crop.shape == (40, 40, 3)
    whole = pictures.pictures[1]
    side = len(whole) - 39
    places = [whole[y : y + 40, x : x + 40] for y in range(side) for x in range(side)]
    assert any((crop == place).all() or (crop == place[:, ::-1]).all() for place in places)


def test_the_student_learns_and_is_evaluated_alike(small):
    data = make_data(small, "coco_stuff3", 8, CPU)
    method = make_method(small, "infoseg", "coco_stuff3", CPU)
    before = [p.clone() for p in method.parameters()]
    step = student.training_step(method, data, 4, workers=0)
    losses = [step() for _ in range(3)]
    assert np.isfinite(losses).all()
    assert any((a != b).any() for a, b in zip(before, method.parameters(), strict=True))
    ours = evaluate(method, data, 4, ["a", "b", "c"])["pa"]
    # Batches of another size round otherwise, which moves single pixels between near ties.
    assert student.evaluate(method, data) == pytest.approx(ours, abs=0.5)


def test_choices_and_the_student_are_timed_at_one_batch(small):
    found = training.choices(CPU, 2, 1, compiled=False)
    assert next(iter(found)) == "as trained" and {"float32", "channels first"} < set(found)
    beside = training.against_student(CPU, 2, 1)
    rates = beside["images_per_second"]
    assert beside["times_faster"]["student"] == pytest.approx(rates["infoseg"] / rates["student"])


def test_recomputing_is_not_counted_as_work(small):
    plain = training.optimisation(small, "doersch", "coco_stuff3", CPU, 2, recompute=False)
    saving = training.optimisation(small, "doersch", "coco_stuff3", CPU, 2, recompute=True)
    assert training.step_flops(plain) == training.step_flops(saving) > 0


def test_hours_are_images_over_images_per_second():
    rows = [
        {"method": m, "dataset": d, "images_per_second": 1000.0, "gflop_per_image": 60.0}
        for m in ("doersch", "isola", "iic", "ac", "inmars", "infoseg_eq8", "infoseg")
        for d in ("coco_persons", "coco_stuff", "coco_stuff3", "potsdam", "potsdam3")
    ]
    frame = hours.hours(rows, measured=True).set_index(["table", "method", "dataset"])
    made, settings = frame.loc["Table 1", "infoseg", "potsdam"], paper_params()
    optimiser = settings.method("infoseg", "potsdam").optimiser
    assert made.runs == 3
    images = optimiser.steps * optimiser.batch + hours.PASSES * 5400 / 3
    assert made.hours == pytest.approx(3 * images / 1000 / 3600)
    assumed = hours.hours(rows, measured=False).set_index(["table", "method", "dataset"])
    rate = 0.3 * 790e12 / 60e9
    assert assumed.loc["Table 1", "infoseg", "potsdam"].hours * rate == pytest.approx(
        made.hours * 1000
    )


def test_a_data_set_that_was_not_timed_goes_by_the_area_of_its_crops():
    params = paper_params()
    rates = {("infoseg", "coco_stuff3"): 1000.0}

    def rate(method, dataset):
        return hours._rate(rates, Run(dataset=dataset, method=method, seed=0), params)

    assert rate("infoseg", "coco_stuff3") == rate("jsd_hard", "coco_stuff") == 1000
    assert rate("infoseg", "potsdam") == pytest.approx(1000 * (128 / 200) ** 2)


def test_the_idle_share_is_what_no_kernel_covers():
    cuda, cpu = torch.autograd.DeviceType.CUDA, torch.autograd.DeviceType.CPU

    def event(start, end, kind=cuda):
        return SimpleNamespace(time_range=SimpleNamespace(start=start, end=end), device_type=kind)

    events = [event(0, 4), event(2, 5), event(8, 10), event(0, 100, cpu)]
    assert traces.idle_share(SimpleNamespace(events=lambda: events)) == pytest.approx(0.3)


def test_a_part_that_does_not_exist_is_refused(capfd):
    assert cli.main(["bench", "everything"]) == 2
    assert "no such part: everything" in capfd.readouterr().err


def test_other_commands_still_refuse_unknown_options(capsys):
    with pytest.raises(SystemExit):
        cli.main(["params", "--nonsense"])
    assert "unrecognized arguments: --nonsense" in capsys.readouterr().err


def test_what_was_measured_is_kept_and_told(tmp_path):
    words = ["evaluation", "--repeats", "1", "--images", "4", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks", *words]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    assert content["parts"]["evaluation"]["made_by"]["commit"] == content["provenance"]["git"]
    assert "Evaluation of 4 pictures" in table(content, None, measured=False)
    plot(content, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()  # nothing to draw
    row = {"method": "infoseg", "dataset": "potsdam", "images_per_second": 4.0, "crop": 200}
    rows = [row | {"batch": 2, "gflop_per_image": 60.0, "floor_share": 0.25}]
    rates = {"flops": 2e11, "flops_float32": 5e10, "bytes": 1e10}
    content["parts"]["methods"] = {"rows": rows, "made_by": {"rates": rates}}
    frame = pd.DataFrame(
        [("Table 1", "infoseg", "potsdam", 3, 20, 1, 1.5)],
        columns=["table", "method", "dataset", "runs", "steps", "images", "hours"],
    )
    text = table(content, frame, measured=False)
    assert "1.5 GPU-hours" in text and "an assumption until one is measured" in text
    assert "| potsdam | infoseg | 200 | 2 | 60.0 | 4.00 | 25 % |" in text
    plot(content, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 1000


def test_the_trace_names_five_costs(small, monkeypatch, tmp_path):
    monkeypatch.setattr(traces, "paper_params", lambda: small)
    monkeypatch.setattr(traces, "TRACE", ROOT / "build/bench/test-trace.json")
    told = traces.profile_step(CPU, 2, steps=1)
    shares = [line for line in told.splitlines() if line.strip().split()[0].endswith("%")]
    assert len(shares) == 5 and json.loads(traces.TRACE.read_text())["traceEvents"]
    traces.TRACE.unlink()


@pytest.mark.slow
def test_every_part_runs(tmp_path):
    words = ["--repeats", "1", "--batch", "2", "--images", "4", "--datasets", "coco_stuff3"]
    command = [sys.executable, "-m", "benchmarks", *words, "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    (path,) = tmp_path.glob("*.md")
    assert path.read_text().count("\n## ") == 9 and path.with_suffix(".png").exists()
