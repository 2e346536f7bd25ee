"""What makes a training fast moves no loss further than the arithmetic's precision lets it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import CPU, TRAINED, build, random_images, training, write_prepared

from benchmarks.undone import channels_first, unfused
from infoseg.settings import SuperpixelSettings
from infoseg.training import Optimisation
from infoseg.views import DeviceData

#: Unit roundoff of bfloat16, with 8 bits; of float32, with 24.
BFLOAT16, FLOAT32 = 2.0**-8, 2.0**-24


def as_is(made: Optimisation) -> Optimisation:
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


def losses(kind: str, prepared, change: Callable[[Optimisation], Optimisation], steps: int, **how):
    method = build(kind)
    data = DeviceData(prepared, 32, CPU, method.sees)
    made = change(Optimisation(method, data, training(log_every=1, **how), 0, kind))
    return np.array([made.advance() for _ in range(steps)])


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize(
    ("options", "change", "roundoff", "steps"),
    [
        ({"precision": "bfloat16"}, as_is, BFLOAT16, 1),
        ({"recompute": True}, as_is, FLOAT32, 1),
        ({}, channels_first, FLOAT32, 1),
        pytest.param({}, compiled, FLOAT32, 1, marks=pytest.mark.slow),
        # The same gradients, so that later steps agree, too. Elsewhere they do not: Adam's first
        # step has a gradient's sign, which is that of its rounding error where it is near 0.
        ({}, unfused, FLOAT32, 3),
    ],
    ids=["bfloat16", "recompute", "channels first", "compiled", "Adam not fused"],
)
def test_losses_agree_within_the_precisions_bound(kind, prepared, options, change, roundoff, steps):
    plain = losses(kind, prepared, as_is, steps)
    off = np.abs(losses(kind, prepared, change, steps, **options) - plain)
    # They are some nats; the largest seen was 9 times the roundoff, the worst perturbation of
    # InMARS being found by a difference of two losses.
    assert (off <= 16 * roundoff * np.abs(plain).clip(1)).all()
