"""Deterministic algorithms: when they are used, what is said where there are none, their price."""

import re

import pytest
import torch
from helpers import CPU, OPTIMISER, build, device_data, training

from infoseg.determinism import price_of_determinism
from infoseg.devices import is_deterministic, reproducible
from infoseg.errors import TrainingError

CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    ("setting", "device", "expected"),
    [
        ("auto", CPU, True),
        ("auto", CUDA, False),
        (True, CUDA, True),
        (False, CPU, False),
    ],
)
def test_they_are_for_the_cpu_unless_asked_for(setting, device, expected):
    assert is_deterministic(training(deterministic=setting), device) is expected


@pytest.mark.parametrize(("setting", "mode"), [("auto", 2), (False, 0)])
def test_pytorch_is_told_and_put_back(setting, mode):
    before = torch.get_deterministic_debug_mode()
    with reproducible(training(deterministic=setting), 0):
        assert torch.get_deterministic_debug_mode() == mode
    assert torch.get_deterministic_debug_mode() == before


def test_an_operation_without_a_deterministic_form_is_named():
    with (
        pytest.raises(TrainingError, match=r"training\.deterministic: .*put_.* Set it to false"),
        reproducible(training(), 0),
    ):
        # Refused by its check alone; what else there is needs CUDA.
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)


def test_the_price_is_measured_and_leaves_no_trace(tmp_path):
    data = device_data(tmp_path / "p")
    method = build("infoseg", optimiser=OPTIMISER | {"steps": 20})
    state = {name: value.clone() for name, value in method.state_dict().items()}
    generator, mode = torch.get_rng_state(), torch.get_deterministic_debug_mode()
    text = price_of_determinism(method, data, training(), 0)
    found = re.fullmatch(
        r"deterministic algorithms: a step takes ([\d.]+) times as long \(([\d.]+) ms, not "
        r"([\d.]+) ms\)",
        text,
    )
    ratio, chosen, free = map(float, found.groups())
    assert ratio == pytest.approx(chosen / free, rel=0.1)
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_deterministic_debug_mode() == mode


def test_what_is_not_optimised_has_no_price(tmp_path):
    text = price_of_determinism(build("kmeans"), device_data(tmp_path / "p"), training(), 0)
    assert "nothing is optimised" in text
