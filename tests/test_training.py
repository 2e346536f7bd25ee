"""The training loop: what it optimises, evaluates, averages, keeps and never looks at."""

from __future__ import annotations

import copy
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
    training,
    two_tone_images,
    write_prepared,
)
from torch import nn

from infoseg import machine
from infoseg.data.batches import DeviceData
from infoseg.data.store import halves
from infoseg.evaluation import evaluate
from infoseg.files import ParamsError
from infoseg.machine import choose_device, choose_precision, reproducible
from infoseg.methods.base import Method
from infoseg.settings import OptimiserSettings
from infoseg.training import SCHEDULES, Adam, Average, Trained, train

FIGURES = {
    "pa": 50.0,
    "miou": 40.0,
    "assignment_entropy": 0.9,
    "permutation_gap": 1.0,
    "clusters_used": 2,
}
START = {"step": 0, "loss": None, **FIGURES}


class Stub(Method):
    """One weight, pulled down by one learning rate a step; its loss is what `values` says.

    seen: the weight before each step.
    """

    def __init__(self, steps: int, values=lambda step: 1.0, **optimiser):
        super().__init__(SimpleNamespace(), data_info(2))
        how = OPTIMISER | {"steps": steps, "learning_rate": 1.0} | optimiser
        self.optimiser = OptimiserSettings(**how)
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.values = values
        self.seen: list[float] = []

    def loss(self, views, generator):
        self.seen.append(self.weight.item())
        self.steps += 1
        return self.values(len(self.seen)) + self.weight - self.weight.detach()


class Fitted(Stub):
    """Sets its weight to 5 after training, from all images."""

    def fit(self, batches, seed):
        assert not self.training
        self.images = sum(len(views.images) for views in batches)
        self.weight.data.fill_(5.0)


def run(method: Method, data: DeviceData, figures=lambda: dict(FIGURES), seed=0, **how) -> Trained:
    return train(method, data, training(**how), seed, figures, "stub")


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> DeviceData:
    return device_data(tmp_path_factory.mktemp("noise") / "p")


@pytest.fixture(scope="module")
def two_tone(tmp_path_factory) -> DeviceData:
    images, labels = two_tone_images(16)
    path = tmp_path_factory.mktemp("two_tone") / "p"
    return DeviceData(write_prepared(path, images, labels, 2), 32, CPU)


def train_method(
    data: DeviceData, seed: int = 0, kind: str = "infoseg", initial: int | None = None, **how
) -> tuple[Method, Trained]:
    """Train on images of two tones. initial: another seed, of the initial weights."""
    optimiser = {key: how.pop(key) for key in ("steps", "batch", "learning_rate") if key in how}
    changes = {"objective": {"marginal": "rematched"}} if kind == "infoseg" else {}
    with reproducible(training(), seed):
        first = seed if initial is None else initial
        method = build(kind, data_info(2), first, optimiser=optimiser, **changes)

        def figures():
            return evaluate(method, data, 8, ["a", "b"])

        return method, run(method, data, figures, seed, **{"log_every": 10} | how)


def same(one: Method, two: Method) -> bool:
    states = one.state_dict(), two.state_dict()
    assert list(states[0]) == list(states[1])
    return all(
        value.numpy().tobytes() == states[1][k].numpy().tobytes() for k, value in states[0].items()
    )


# ---- weights -------------------------------------------------------------------------------------


def test_the_loss_falls_on_images_of_two_tones(two_tone):
    _, trained = train_method(two_tone, steps=60, batch=8, learning_rate=3e-3)
    losses = [row["loss"] for row in trained.history if row["loss"] is not None]
    assert len(losses) == 6 and trained.steps == 60
    assert losses[-1] < losses[0] - 0.1
    assert 0 <= losses[-1] < 2 * math.log(2)
    assert trained.images_per_second > 0 and trained.seconds > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(two_tone):
    (one, told), (again, retold), (other, _) = (train_method(two_tone, seed) for seed in (0, 0, 1))
    assert same(one, again) and told.history == retold.history
    assert not same(one, other)
    # That of the batches matters by itself.
    assert not same(one, train_method(two_tone, 1, initial=0)[0])


def test_labels_have_no_influence_on_the_weights(tmp_path):
    images, labels = two_tone_images(8)
    rng = np.random.default_rng(0)
    shuffled = [rng.choice(np.array([0, 1, 255], np.uint8), label.shape) for label in labels]
    methods, accuracies = [], []
    for name, given in (("true", labels), ("shuffled", shuffled)):
        data = DeviceData(write_prepared(tmp_path / name, images, given, 2), 32, CPU)
        method, trained = train_method(data)
        methods.append(method)
        accuracies.append([row.get("pa") for row in trained.history])
    assert same(*methods)
    assert accuracies[0] != accuracies[1]


@pytest.mark.parametrize("kind", ["infoseg", "isola"])
def test_nothing_of_the_other_half_reaches_a_training_on_the_chosen_one(tmp_path, kind):
    images, labels = two_tone_images(16)
    chosen, found = halves([f"image{i}" for i in range(16)]), []
    for factor in (True, False):
        given = [image * (here or factor) for image, here in zip(images, chosen, strict=True)]
        data = DeviceData(write_prepared(tmp_path / str(factor), given, labels, 2), 32, CPU)
        found.append(train_method(data.choosing_half(), kind=kind))
    assert same(found[0][0], found[1][0]) and found[0][1].history == found[1][1].history


@pytest.mark.parametrize("kind", ["infoseg", "isola"])
def test_evaluating_during_training_changes_no_weight(two_tone, kind):
    often, never = (train_method(two_tone, kind=kind, evaluations=n)[0] for n in (5, 0))
    assert same(often, never)


def test_training_changes_the_method_itself(noise):
    method = Stub(4)
    assert run(method, noise, evaluations=1).steps == 4
    assert method.weight.item() == pytest.approx(-4, rel=1e-3)


# ---- evaluations and history ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "evaluations", "at"),
    [
        (12, 3, [4, 8, 12]),
        (10, 4, [3, 5, 8, 10]),
        (7, 1, [7]),
        (5, 5, [1, 2, 3, 4, 5]),
        (100, 7, [15, 29, 43, 58, 72, 86, 100]),
        (8, 0, []),
    ],
)
def test_evaluations_are_evenly_spaced_from_before_the_first_step_to_the_end(
    noise, steps, evaluations, at
):
    method, seen = Stub(steps), []

    def figures():
        seen.append(len(method.seen))
        return dict(FIGURES)

    trained = run(method, noise, figures, evaluations=evaluations)
    assert seen == [0] * bool(at) + at
    assert [row["step"] for row in trained.history if "pa" in row] == seen


def test_the_history_holds_mean_losses_and_figures_and_no_timings(noise):
    told = []
    trained = train(
        Stub(12, lambda step: float(step)),
        noise,
        training(evaluations=2, log_every=5),
        0,
        lambda: dict(FIGURES),
        tell=lambda history: told.append(list(history)),
    )
    assert trained.history == [
        START,
        {"step": 5, "loss": pytest.approx((1 + 2 + 3 + 4 + 5) / 5)},
        {"step": 6, "loss": None, **FIGURES},
        {"step": 10, "loss": pytest.approx((6 + 7 + 8 + 9 + 10) / 5)},
        {"step": 12, "loss": pytest.approx((11 + 12) / 2), **FIGURES},
    ]
    assert told == [trained.history[:count] for count in range(1, 6)]


@pytest.mark.parametrize(("kind", "at"), [("kmeans", 1), ("random_cnn", 0)])
def test_methods_that_are_not_optimised_are_evaluated_once_after_the_fit(noise, kind, at):
    method, moved = build(kind), []
    before = {name: value.clone() for name, value in method.state_dict().items()}

    def figures():
        state = method.state_dict()
        moved.append(any(not torch.equal(state[name], value) for name, value in before.items()))
        return dict(FIGURES)

    trained = run(method, noise, figures)
    assert trained.history == [START] and moved == [bool(at)]
    assert (trained.steps, trained.images_per_second) == (0, 0)
    assert run(build(kind), noise, evaluations=0).history == [{"step": 0, "loss": None}]


@pytest.mark.parametrize("average", [0, 0.5])
def test_a_method_that_is_trained_and_fitted_is_evaluated_after_the_fit(noise, average):
    method, weights = Fitted(4, average=average), []

    def figures():
        weights.append((len(method.seen), method.weight.item()))
        return dict(FIGURES)

    trained = run(method, noise, figures)
    assert weights == [(0, 5.0), (4, 5.0)]
    assert method.images == len(noise) and method.weight.item() == 5.0
    assert trained.history == [START, {"step": 4, "loss": 1.0}, START | {"step": 4}]


# ---- divergence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training_and_is_told(noise, bad):
    method = Fitted(20, lambda step: bad if step >= 7 else 1.0 + step / 8)
    trained = run(method, noise, log_every=5)
    assert f"stub: the loss became {bad} at step 7 (last finite loss 1.75)" in trained.diverged
    assert "optimiser.learning_rate" in trained.diverged
    assert len(method.seen) == 10  # noticed when the losses are next read
    # What was seen before stays, and where it ended; nothing is fitted or evaluated after.
    ended = {"step": 10, "loss": None}
    assert trained.history == [START, {"step": 5, "loss": pytest.approx(1.375)}, ended]
    assert trained.steps == 20 and not math.isnan(trained.seconds)


def test_divergence_in_the_last_incomplete_interval_or_at_once_is_noticed(noise):
    for first, words in ((12, "at step 12 (last finite"), (1, "at step 1 (it never was finite")):
        method = Stub(12, lambda step, first=first: math.nan if step >= first else 1.0)
        assert words in run(method, noise, log_every=5).diverged
    assert run(Stub(12), noise).diverged == ""


# ---- averaged weights and schedules --------------------------------------------------------------


def averaged(values: list[float], decay: float) -> float:
    """The average as its definition has it, beginning at the initial weight, 0."""
    mean = 0.0
    for step, value in enumerate(values, 1):
        own = min(decay, (1 + step) / (10 + step))
        mean = own * mean + (1 - own) * value
    return mean


def test_the_average_is_that_of_its_definition():
    module = nn.BatchNorm1d(2)
    module.weight.data.zero_()
    average = Average(module, 0.5)
    values = [1.0, 5.0, -2.0, 8.0, 0.5, 3.0, 3.0, 9.0, 1.0, 4.0, 2.0]
    for value in values:
        module.weight.data.fill_(value)
        module.running_mean.fill_(2 * value)
        module.num_batches_tracked += 1
        average.update()
    with average.applied():
        assert module.weight.tolist() == pytest.approx([averaged(values, 0.5)] * 2)
        assert module.running_mean.tolist() == pytest.approx([2 * averaged(values, 0.5)] * 2)
        assert module.num_batches_tracked == len(values)
    assert module.weight.tolist() == [2.0, 2.0]
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert module.weight.tolist() == [2.0, 2.0]
    average.keep()
    assert module.weight.tolist() == pytest.approx([averaged(values, 0.5)] * 2)


def test_training_evaluates_and_keeps_the_average_but_goes_on_from_the_weights(noise):
    method, evaluated = Stub(12, average=0.8), []

    def figures():
        evaluated.append(method.weight.item())
        return dict(FIGURES)

    run(method, noise, figures, evaluations=3)
    values = [*method.seen[1:], -12.0]
    assert values == pytest.approx([-float(n) for n in range(1, 13)], abs=1e-3)
    expected = [averaged(values[:count], 0.8) for count in (0, 4, 8, 12)]
    assert evaluated == pytest.approx(expected, abs=1e-3)
    assert method.weight.item() == pytest.approx(expected[-1], abs=1e-3)


def test_the_learning_rate_falls_along_half_a_cosine(noise):
    method = Stub(10, schedule="cosine")
    run(method, noise)
    moved = [a - b for a, b in zip(method.seen, method.seen[1:], strict=False)]
    rates = [(1 + math.cos(math.pi * step / 10)) / 2 for step in range(9)]
    assert moved == pytest.approx(rates, abs=1e-3)
    assert SCHEDULES["cosine"](10)(10) == pytest.approx(0)


# ---- the machine ---------------------------------------------------------------------------------


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
        "from infoseg.machine import reproducible\n"
        "from infoseg.settings import load_params\n"
        "from pathlib import Path\n"
        "with reproducible(load_params(Path('.'), 'tiny').training, 0): pass\n"
        "sys.exit('torch._dynamo' in sys.modules or 'torch._inductor' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_convolution_benchmarks_are_switched_off_again_after_a_cuda_run(monkeypatch):
    monkeypatch.setattr(machine, "choose_device", lambda name: torch.device("cuda"))
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
        monkeypatch.setattr(machine, "cpu_has_bfloat16", lambda has=has: has)
        assert choose_precision("auto", CPU) is expected


def test_adam_gives_the_bytes_of_torchs_and_leaves_what_has_no_gradient():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in ((3,), (4, 2, 3, 3), (5, 7), (2,))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    adam, reference = Adam(ours), torch.optim.Adam(theirs, lr=0.01, fused=True)
    for step in range(6):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            has_none = i == 3 or (i == 2 and step % 2)
            p.grad = None if has_none else torch.randn(p.shape)
            q.grad = None if has_none else p.grad.clone()
        if step == 3:  # resumed
            state = copy.deepcopy(adam.state())
            adam = Adam(ours)
            adam.restore(state)
        adam.step(0.01)
        reference.step()
        assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
