"""IIC: two views, mirrored back, two heads in turn, masked pixels left out."""

from __future__ import annotations

import pytest
import torch
from helpers import build, method_settings, seeded
from pydantic import ValidationError
from torch.nn import functional as F

from infoseg.methods.iic import IIC
from infoseg.methods.information import iic_loss
from infoseg.views import JitterSettings, Views, colour_jitter, jittered_view

STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def views(mask: bool = True, batch: int = 4, size: int = 32) -> Views:
    rng = seeded()
    images = torch.rand(batch, 3, size, size, generator=rng)
    return Views(images, torch.rand(batch, size, size, generator=rng) < 0.7 if mask else None)


def loss(method: IIC, seen: Views, step: int, seed: int = 0) -> torch.Tensor:
    method.begin_step(step)
    return method.loss(seen, seeded(seed))


def test_heads_are_trained_in_turn():
    method = build("iic", turn=3)
    turns = []
    for step in range(1, 13):
        method.zero_grad(set_to_none=True)
        loss(method, views(), step).backward()
        moved = [head.conv.weight.grad is not None for head in (method.head_a, method.head_b)]
        assert sum(moved) == 1
        assert method.trunk.layers[0].weight.grad.abs().sum() > 0
        turns.append("ab"[moved.index(True)])
    assert "".join(turns) == "aaabbbaaabbb"


@pytest.mark.parametrize(("step", "weight"), [(1, 1.0), (3, 1.5)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
@torch.no_grad()
def test_the_loss_is_that_of_two_views_in_one_frame(step, weight, flip):
    method, seen = build("iic", flip=flip).eval(), views()
    head = method.head_b if step == 3 else method.head_a
    settings = JitterSettings(**method_settings("iic")["jitter"])
    other = colour_jitter(seen.images, settings, seeded())
    first = method.probabilities(seen.images, head)
    if flip:  # column x of the mirrored view shows column 31 - x
        mirrored = other[..., list(range(31, -1, -1))]
        second = method.probabilities(mirrored, head)[..., list(range(31, -1, -1))]
    else:
        second = method.probabilities(other, head)
    expected = iic_loss(first, second, 1, weight, seen.mask)
    torch.testing.assert_close(loss(method, seen, step), expected)
    assert first.shape[1] == (3 if step == 3 else 6)


@torch.no_grad()
def test_about_as_many_images_are_mirrored_as_asked_and_each_is_mirrored_back():
    method = build("iic", jitter=STILL, displacement=0, flip=0.5).eval()
    # A network that names the side: the first cluster is certain where the image is bright.
    seen = torch.zeros(200, 3, 32, 32)
    seen[..., :16] = 1.0
    shown: list[torch.Tensor] = []

    def probabilities(images, head):
        shown.append(images)
        bright = images[:, :1]
        return torch.cat([bright, 1 - bright], 1)

    method.probabilities = probabilities
    actual = loss(method, Views(seen), 1)
    # Mirrored back, the second view says the same as the first everywhere: I = log 2.
    torch.testing.assert_close(actual, -torch.tensor(2.0).log(), atol=1e-5, rtol=0)
    share = (shown[1][:, 0, 0, 0] == 0).float().mean()
    assert 0.35 < share < 0.65
    assert torch.equal(shown[0], seen)


def test_a_turn_must_leave_time_for_both_heads():
    with pytest.raises(ValidationError, match="both heads need a turn"):
        IIC.Settings.model_validate(method_settings("iic", turn=6))


# ---- IIC-MI of Table 2: V of Eq. 3 for two views, under the same loss ----------------------------


def blobs(batch: int, side: int) -> Views:
    """Pictures of blobs, so that there is something to agree on."""
    coarse = torch.rand(batch, 3, 4, 4, generator=seeded(9))
    return Views(F.interpolate(coarse, (side, side), mode="bilinear"))


def test_the_loss_of_iic_mi_is_iics_on_v_of_both_views_with_the_mirroring_undone():
    method = build("iic_mi", flip=1.0).eval()
    seen = blobs(4, 32)
    generator = seeded(3)
    actual = method.loss(seen, generator)

    generator.manual_seed(3)
    settings = method.settings
    other, mirrored = jittered_view(seen.images, settings.jitter, 1.0, generator)
    assert mirrored.all()

    def v(images):
        local, glob = method.network(images)
        scores = torch.einsum("bpuv,bkp->bkuv", local, glob) * settings.objective.score_factor
        v = (settings.objective.tau * scores).softmax(1)
        return F.interpolate(v, images.shape[-2:], mode="bilinear", align_corners=False)

    expected = iic_loss(v(seen.images), v(other).flip(-1), settings.displacement, settings.weight)
    torch.testing.assert_close(actual, expected)
