"""The training loop: what it optimises, evaluates, keeps and never looks at."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import (
    CPU,
    OPTIMISER,
    ROOT,
    build,
    data_info,
    device_data,
    method_settings,
    training,
    two_tone_images,
    write_prepared,
)

from infoseg import devices
from infoseg.devices import choose_device, choose_precision, reproducible
from infoseg.errors import ParamsError, TrainingError
from infoseg.evaluation import evaluate
from infoseg.methods import Method
from infoseg.params import OptimiserSettings
from infoseg.training import Trained, train
from infoseg.views import DeviceData

FIGURES = {
    "pa": 50.0,
    "miou": 40.0,
    "assignment_entropy": 0.9,
    "permutation_gap": 1.0,
    "clusters_used": 2,
}


class Stub(Method):
    """One weight, pulled down by one learning rate a step; its loss is what `values` says."""

    def __init__(self, steps: int, values=None, fits: bool = False):
        super().__init__(SimpleNamespace(), data_info(2))
        self.optimiser = OptimiserSettings(**OPTIMISER | {"steps": steps, "learning_rate": 1.0})
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.values = values or (lambda step: 1.0)
        self.calls = 0

    def loss(self, views, generator):
        self.calls += 1
        return self.values(self.calls) + self.weight - self.weight.detach()


def run(method: Method, data: DeviceData, figures=None, seed: int = 0, **how) -> Trained:
    return train(method, data, training(**how), seed, figures or (lambda: dict(FIGURES)), "stub")


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> DeviceData:
    return device_data(tmp_path_factory.mktemp("noise") / "p")


@pytest.fixture(scope="module")
def two_tone(tmp_path_factory) -> DeviceData:
    images, labels = two_tone_images(16)
    path = tmp_path_factory.mktemp("two_tone") / "p"
    return DeviceData(write_prepared(path, images, labels, 2), 32, CPU)


def infoseg(seed: int = 0, clusters: int = 2, **optimiser):
    objective = method_settings("infoseg")["objective"] | {
        "marginal": "rematched",
        "score_factor": 1.0,
    }
    return build(
        "infoseg", data_info(clusters), seed, objective=objective, optimiser=OPTIMISER | optimiser
    )


def train_infoseg(data: DeviceData, seed: int = 0, **optimiser) -> tuple[Method, Trained]:
    with reproducible(training(), seed):
        method = infoseg(seed, **optimiser)
        ids = [f"image{i}" for i in range(len(data.evaluated))]
        trained = run(
            method, data, lambda: evaluate(method, data, 8, ids, ["a", "b"]), seed, log_every=10
        )
    return method, trained


def test_the_loss_falls_on_images_of_two_tones(two_tone):
    _, trained = train_infoseg(two_tone, steps=60, batch=8, learning_rate=3e-3)
    losses = [row["loss"] for row in trained.history if row["loss"] is not None]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.1
    assert 0 <= losses[-1] < 2 * math.log(2)
    assert trained.images_per_second > 0


def same_state(one: dict, two: dict) -> bool:
    assert list(one) == list(two)
    return all(one[k].numpy().tobytes() == two[k].numpy().tobytes() for k in one)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(two_tone):
    (_, one), (_, same), (_, other) = (train_infoseg(two_tone, seed) for seed in (0, 0, 1))
    assert same_state(one.last, same.last)
    assert same_state(one.best, same.best)
    assert one.history == same.history
    assert not same_state(one.last, other.last)
    assert one.history != other.history


def test_the_seed_of_the_batches_matters_by_itself(two_tone):
    found = []
    for seed in (0, 0, 1):
        method = infoseg(0)  # the same initial weights
        found.append(run(method, two_tone, seed=seed).last)
    assert same_state(found[0], found[1])
    assert not same_state(found[0], found[2])


def test_labels_have_no_influence_on_the_weights(tmp_path):
    images, labels = two_tone_images(8)
    rng = np.random.default_rng(0)
    shuffled = [rng.choice(np.array([0, 1, 255], np.uint8), label.shape) for label in labels]
    states, accuracies = [], []
    for name, given in (("true", labels), ("shuffled", shuffled)):
        data = DeviceData(write_prepared(tmp_path / name, images, given, 2), 32, CPU)
        _, trained = train_infoseg(data)
        states.append(trained.last)
        accuracies.append([row.get("pa") for row in trained.history])
    assert same_state(*states)
    assert accuracies[0] != accuracies[1]


def test_the_weights_change_and_are_copies(noise):
    method = Stub(4)
    trained = run(method, noise, evaluations=1)
    assert float(trained.last["weight"]) == pytest.approx(-4, rel=1e-3)
    method.weight.data.fill_(7)
    assert float(trained.last["weight"]) == pytest.approx(-4, rel=1e-3)
    assert trained.last_step == 4


@pytest.mark.parametrize(
    ("steps", "evaluations", "at"),
    [
        (12, 3, [4, 8, 12]),
        (10, 4, [3, 5, 8, 10]),
        (7, 1, [7]),
        (5, 5, [1, 2, 3, 4, 5]),
        (100, 7, [15, 29, 43, 58, 72, 86, 100]),
    ],
)
def test_evaluations_are_evenly_spaced_and_the_last_one_is_at_the_end(
    noise, steps, evaluations, at
):
    method, seen = Stub(steps), []

    def figures():
        seen.append(method.calls)
        return dict(FIGURES)

    trained = run(method, noise, figures, evaluations=evaluations)
    assert seen == at
    assert [row["step"] for row in trained.history if "pa" in row] == at


def test_the_history_holds_mean_losses_and_figures_and_no_timings(noise):
    trained = run(Stub(12, lambda step: float(step)), noise, evaluations=2, log_every=5)
    nothing = {"loss": None}
    assert trained.history == [
        {"step": 5, "loss": pytest.approx((1 + 2 + 3 + 4 + 5) / 5)},
        {"step": 6, **nothing, **FIGURES},
        {"step": 10, "loss": pytest.approx((6 + 7 + 8 + 9 + 10) / 5)},
        {"step": 12, "loss": pytest.approx((11 + 12) / 2), **FIGURES},
    ]


def test_the_best_weights_are_those_of_the_first_highest_accuracy(noise):
    accuracies = iter([30.0, 70.0, 70.0, 60.0])
    trained = run(Stub(8), noise, lambda: FIGURES | {"pa": next(accuracies)}, evaluations=4)
    assert trained.best_step == 4
    assert trained.last_step == 8
    assert float(trained.best["weight"]) == pytest.approx(-4, rel=1e-3)
    assert float(trained.last["weight"]) == pytest.approx(-8, rel=1e-3)


def test_without_evaluations_the_best_weights_are_the_last(noise):
    def never():
        raise AssertionError("evaluated")

    trained = run(Stub(8), noise, never, evaluations=0)
    assert trained.best_step == trained.last_step == 8
    assert trained.best["weight"] == trained.last["weight"] != 0
    assert all("pa" not in row for row in trained.history)
    kmeans = run(build("kmeans", pixels_per_image=4, passes=1), noise, never, evaluations=0)
    assert kmeans.history == [{"step": 0, "loss": None}]
    assert kmeans.best is kmeans.last


def test_methods_that_are_only_fitted_are_evaluated_once_after_the_fit(noise):
    method = build("kmeans")
    centroids = []

    def figures():
        centroids.append(method.nearest.centroids.clone())
        return dict(FIGURES)

    trained = run(method, noise, figures)
    assert len(centroids) == 1
    assert centroids[0].abs().sum() > 0
    assert trained.history == [{"step": 0, "loss": None, **FIGURES}]
    assert same_state(trained.last, trained.best)
    assert trained.images_per_second == 0


def test_methods_that_need_neither_are_evaluated_once(noise):
    trained = run(build("random_cnn"), noise)
    assert trained.history == [{"step": 0, "loss": None, **FIGURES}]
    assert same_state(trained.last, build("random_cnn").state_dict())


def test_a_method_that_is_trained_and_fitted_is_evaluated_after_the_fit(noise):
    class Both(Stub):
        def fit(self, batches, seed):
            assert not self.training
            self.seen = sum(len(views.images) for views in batches)
            self.weight.data.fill_(5.0)

    method, weights = Both(4), []

    def figures():
        weights.append(method.weight.item())
        return dict(FIGURES)

    trained = run(method, noise, figures)
    assert weights == [5.0]
    assert method.seen == len(noise)
    assert float(trained.last["weight"]) == 5.0
    assert trained.best_step == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error_naming_the_step_and_the_last_finite_loss(noise, bad):
    method = Stub(20, lambda step: bad if step >= 7 else 1.0 + step / 8)
    with pytest.raises(TrainingError) as caught:
        run(method, noise, log_every=5)
    message = str(caught.value)
    assert f"stub: the loss became {bad} at step 7" in message
    assert "last finite loss 1.75" in message
    assert "optimiser.learning_rate" in message
    assert method.calls == 10  # noticed when the losses are next read


def test_divergence_in_the_last_incomplete_interval_is_noticed(noise):
    method = Stub(12, lambda step: math.nan if step == 12 else 1.0)
    with pytest.raises(TrainingError, match="at step 12"):
        run(method, noise, log_every=5)


def test_a_run_has_its_own_threads_and_seed_and_gives_the_machine_back():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with reproducible(training(threads=before[0] + 1), 5) as device:
        assert device == CPU
        assert torch.get_num_threads() == before[0] + 1
        assert torch.are_deterministic_algorithms_enabled()
        drawn = torch.rand(3)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    with reproducible(training(), 5):
        assert torch.equal(torch.rand(3), drawn)
    with pytest.raises(KeyError), reproducible(training(threads=before[0] + 1), 5):
        raise KeyError
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_a_run_does_not_load_torchs_compiler():
    # Seconds for every stage of the pipeline; only `training.compile` is worth them.
    code = (
        "import sys\n"
        "from infoseg.devices import reproducible\n"
        "from infoseg.params import load_params\n"
        "from pathlib import Path\n"
        "with reproducible(load_params(Path('.'), 'tiny').training, 0): pass\n"
        "sys.exit('torch._dynamo' in sys.modules or 'torch._inductor' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_convolution_benchmarks_are_switched_off_again_after_a_cuda_run(monkeypatch):
    monkeypatch.setattr(devices, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    with reproducible(training(), 0):
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark


def test_the_device_is_what_was_asked_for_or_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(ParamsError, match=r"training\.device is 'cuda:1'"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")


def test_automatic_precision_is_bfloat16_where_the_device_has_it(monkeypatch):
    cuda = torch.device("cuda")
    assert choose_precision("float32", cuda) is None
    assert choose_precision("bfloat16", CPU) is torch.bfloat16
    assert choose_precision("auto", cuda) is torch.bfloat16
    for has, expected in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda has=has: has)
        assert choose_precision("auto", CPU) is expected
