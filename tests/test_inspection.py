"""L, H, V and S of one image: against slow loops, and without a trace left in the network."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import NETWORK, OBJECTIVE, build

from infoseg.inspection import look_inside
from infoseg.views import Views


def views(count: int = 3, channels: int = 3, side: int = 32) -> Views:
    return Views(
        torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))
    )


def make(network: dict | None = None, **changes):
    network = NETWORK | {"block_c": "residual"} | (network or {})
    return build("infoseg", network=network, **({"clusters_per_class": 1} | changes))


def infoseg(**changes):
    """An InfoSeg whose probabilities are neither uniform nor one-hot."""
    method = make(objective=OBJECTIVE | {"score_factor": 2.0} | changes)
    with torch.no_grad():
        method.network.block_d.linear.weight.mul_(3)
    return method


def test_probabilities_and_assignment_are_equations_3_and_5():
    x = look_inside(infoseg(), views(), item=1)
    classes, high, wide = x.scores.shape
    assert x.local.shape == (16, high, wide) and x.glob.shape == (classes, 16)
    assert 0.4 < float(x.probabilities.amax(0).mean()) < 0.99  # otherwise this would test nothing
    for i in range(high):
        for j in range(wide):
            dots = [2.0 * float(x.local[:, i, j] @ x.glob[k]) for k in range(classes)]
            weights = [math.exp(0.8 * (d - max(dots))) for d in dots]
            v = [w / sum(weights) for w in weights]
            s = sum(v[k] * x.glob[k] for k in range(classes))
            torch.testing.assert_close(x.scores[:, i, j], torch.tensor(dots))
            torch.testing.assert_close(x.probabilities[:, i, j], torch.tensor(v))
            torch.testing.assert_close(x.assigned[:, i, j], s)


def test_hard_assignment_is_the_global_feature_of_the_arg_max():
    x = look_inside(infoseg(assignment="hard"), views())
    best = x.probabilities.argmax(0)
    torch.testing.assert_close(x.assigned, x.glob[best].permute(2, 0, 1))
    soft = look_inside(infoseg(), views())
    assert not torch.allclose(x.assigned, soft.assigned)


@pytest.mark.parametrize("upsampling", ["labels", "scores"])
def test_labels_and_picture_are_those_of_the_method(upsampling):
    method, seen = make(upsampling=upsampling).eval(), views()
    with torch.no_grad():
        expected = method.segment(seen)
    for item in range(3):
        x = look_inside(method, seen, item)
        assert (x.labels == expected[item]).all() and x.labels.dtype == torch.int64
        assert (x.image == seen.images[item]).all()
        assert (x.picture == (seen.images[item] * 255).round().permute(1, 2, 0).numpy()).all()


def test_looking_leaves_no_trace():
    method = make({"norm_c": "batch", "norm_d": "batch"}).train()
    state = {name: value.clone() for name, value in method.state_dict().items()}
    x = look_inside(method, views())
    assert method.training and method.network.block_a[1].training
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    assert not any(v.requires_grad for v in vars(x).values())
    assert all(v.dtype == torch.float32 for n, v in vars(x).items() if n != "labels")
    look_inside(method.eval(), views())
    assert not method.training


def test_what_cannot_be_looked_into():
    with pytest.raises(ValueError, match="KMeans has no L"):
        look_inside(build("kmeans"), views())
    for item in (3, -1):
        with pytest.raises(ValueError, match=f"item {item} is not among the 3"):
            look_inside(infoseg(), views(), item)
