"""What makes a training fast moves no loss further than the arithmetic's precision lets it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import CPU, TRAINED, build, random_images, training, write_prepared

from infoseg.data.batches import DeviceData
from infoseg.settings import SuperpixelSettings
from infoseg.training import Optimisation

#: Unit roundoff of bfloat16, with 8 bits; of float32, with 24.
BFLOAT16, FLOAT32 = 2.0**-8, 2.0**-24


def as_is(made: Optimisation) -> Optimisation:
    return made


def contiguous(made: Optimisation) -> Optimisation:
    """Without channels-last memory, in which networks bring their input."""
    convolve = torch.nn.Conv2d.forward
    for module in made.method.modules():
        if type(module) is torch.nn.Conv2d:
            module.forward = lambda x, module=module: convolve(module, x.contiguous())
    return made


def compiled(made: Optimisation) -> Optimisation:
    # What torch.compile traces, without the compiler that turns it into C++.
    torch.compiler.reset()
    made.loss_of = torch.compile(made.method.loss, backend="aot_eager")
    return made


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    grid = SuperpixelSettings(pixels_per_region=40, compactness=10, smoothing=0)
    folder = tmp_path_factory.mktemp("noise") / "data"
    return write_prepared(folder, *random_images(6), superpixels=grid)


def loss(kind: str, prepared, change: Callable[[Optimisation], Optimisation], **how) -> float:
    method = build(kind)
    data = DeviceData(prepared, 32, CPU, method.sees)
    return change(Optimisation(method, data, training(log_every=1, **how), 0, kind)).advance()


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize(
    ("options", "change", "roundoff"),
    [
        ({"precision": "bfloat16"}, as_is, BFLOAT16),
        ({"recompute": True}, as_is, FLOAT32),
        ({}, contiguous, FLOAT32),
        pytest.param({"recompute": True}, compiled, FLOAT32, marks=pytest.mark.slow),
    ],
    ids=["bfloat16", "recompute", "channels first", "compiled"],
)
def test_losses_agree_within_the_precisions_bound(kind, prepared, options, change, roundoff):
    plain = loss(kind, prepared, as_is)
    off = abs(loss(kind, prepared, change, **options) - plain)
    # They are some nats; the largest seen was 9 times the roundoff, the worst perturbation of
    # InMARS being found by a difference of two losses.
    assert off <= 16 * roundoff * max(1, abs(plain))
