"""The moving average of weights, and what training does with it and with the schedule."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import OPTIMISER, device_data, training
from torch import nn

from infoseg.averaging import Average
from infoseg.methods.base import Method
from infoseg.params import OptimiserSettings
from infoseg.training import SCHEDULES, train

FIGURES = {"pa": 50.0, "miou": 40.0, "assignment_entropy": None}
FIGURES |= {"permutation_gap": 0.0, "clusters_used": 3}


class Counter(Method):
    """A weight that Adam moves by the learning rate in every step, and a counter of steps."""

    def __init__(self, **optimiser):
        nn.Module.__init__(self)
        self.clusters = 3
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.optimiser = OptimiserSettings(**OPTIMISER | {"learning_rate": 1.0} | optimiser)
        self.seen: list[float] = []

    def loss(self, views, generator):
        self.steps += 1
        self.seen.append(float(self.weight.detach()[0]))
        return self.weight.sum()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return device_data(tmp_path_factory.mktemp("averaging") / "p")


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


def test_training_evaluates_and_keeps_the_average_but_goes_on_from_the_weights(data):
    method, evaluated = Counter(steps=12, average=0.8), []

    def figures():
        evaluated.append(float(method.weight.detach()[0]))
        return dict(FIGURES)

    trained = train(method, data, training(evaluations=3), 0, figures)
    values = [*method.seen[1:], -12.0]
    assert values == pytest.approx([-float(n) for n in range(1, 13)], abs=1e-3)
    expected = [averaged(values[:count], 0.8) for count in (4, 8, 12)]
    assert evaluated == pytest.approx(expected, abs=1e-3)
    assert trained.last["weight"][0].item() == pytest.approx(expected[-1], abs=1e-3)
    assert method.weight[0].item() == pytest.approx(expected[-1], abs=1e-3)
    assert trained.best["weight"][0].item() == pytest.approx(expected[0], abs=1e-3)


def test_without_an_average_the_last_weights_are_kept(data):
    method = Counter(steps=5)
    trained = train(method, data, training(), 0, lambda: dict(FIGURES))
    assert trained.last["weight"][0].item() == pytest.approx(-5, abs=1e-3)


def test_a_fit_after_training_is_not_undone_by_the_average(data):
    class Fitted(Counter):
        def fit(self, batches, seed):
            self.weight.data.fill_(7.0)

    method, evaluated = Fitted(average=0.5), []

    def figures():
        evaluated.append(float(method.weight.detach()[0]))
        return dict(FIGURES)

    trained = train(method, data, training(), 0, figures)
    assert evaluated == [7.0]
    assert trained.last["weight"].tolist() == [7.0, 7.0]


def test_the_learning_rate_falls_along_half_a_cosine(data):
    method = Counter(steps=10, schedule="cosine")
    train(method, data, training(), 0, lambda: dict(FIGURES))
    moved = [a - b for a, b in zip(method.seen, method.seen[1:], strict=False)]
    rates = [(1 + math.cos(math.pi * step / 10)) / 2 for step in range(9)]
    assert moved == pytest.approx(rates, abs=1e-3)
    assert SCHEDULES["cosine"](10)(10) == pytest.approx(0)
