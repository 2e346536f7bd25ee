"""The network of Figure 3: shapes, receptive fields, what is shared and what is not."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import network_settings

from infoseg.losses import class_scores
from infoseg.model import BlockC, BlockD, Network
from infoseg.views import GREY

RECEPTIVE_FIELD = {"figure3": 24, "cheap": 10, "dim": 10}


def network(channels: int = 3, classes: int = 3, seed: int = 0, **changes) -> Network:
    torch.manual_seed(seed)
    settings = network_settings(**changes)
    return Network(channels, classes, settings, (0.4,) * channels, (0.2,) * channels)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block_a", RECEPTIVE_FIELD)
@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (96, 96), (128, 128), (200, 200), (102, 65), (33, 34)]
)
def test_local_features_have_a_quarter_of_the_size_and_global_ones_none(block_a, height, width):
    channels = 4 if height == 200 else 3
    layers = 1 if min(height, width) < 64 else 3
    actual = network(channels, 5, block_a=block_a, width=0.02, layers_b=layers)
    with torch.no_grad():
        local, glob = actual(noise(2, channels, height, width))
    assert local.shape == (2, 16, height // 4, width // 4)  # rounded down
    assert glob.shape == (2, 5, 16) and glob.isfinite().all()
    assert actual.stride == 4


def pixels_behind(block_a: str, value) -> torch.Tensor:
    """Which pixels the gradient of something reaches that is made of L and H: (H, W) bool."""
    actual = network(block_a=block_a, width=0.1).eval()
    image = noise(1, 3, 96, 96).requires_grad_()
    value(*actual(image)).square().sum().backward()
    return image.grad[0].abs().sum(0) > 0


@pytest.mark.parametrize(("block_a", "side"), RECEPTIVE_FIELD.items())
def test_a_local_feature_sees_its_receptive_field_and_a_class_score_the_whole_image(block_a, side):
    seen = pixels_behind(block_a, lambda local, glob: local[0, :, 8, 8])
    for places in (seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]):
        first, last = int(places[0]), int(places[-1])
        assert last - first + 1 == side
        # Centred on the 4 x 4 pixels the feature stands for, 32 to 35.
        assert first + last == 32 + 35
    seen = pixels_behind(
        block_a, lambda local, glob: class_scores(local.flatten(2), glob)[0, :, 12 * 24 + 12]
    )
    assert seen[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert seen.float().mean() > 0.99


def test_block_d_is_one_linear_layer_per_class_side_by_side():
    torch.manual_seed(0)
    block, x = BlockD(features=64, classes=40), torch.randn(5, 64)
    actual, bound = block(x), 1 / math.sqrt(64)  # of PyTorch's default for a fan-in of 64
    for k in range(40):
        single = torch.nn.Linear(64, 64)
        rows = slice(64 * k, 64 * (k + 1))
        single.weight.data, single.bias.data = block.linear.weight[rows], block.linear.bias[rows]
        torch.testing.assert_close(actual[:, k], single(x))
    for layer in (block.linear, torch.nn.Linear(64, 64)):  # and begins as such layers do
        assert layer.weight.abs().max() <= bound
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_block_c_is_a_residual_block_of_pointwise_convolutions():
    torch.manual_seed(0)
    block = BlockC(5, 8, "none").eval()
    block.norm.running_mean.uniform_(-1, 1)
    block.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 5, 3, 4)
    actual = block(x)
    for i in range(3):
        for j in range(4):
            v = x[:, :, i, j]
            hidden = v @ block.expand.weight[:, :, 0, 0].T
            hidden = (hidden - block.norm.running_mean) / (block.norm.running_var + 1e-5).sqrt()
            mixed = hidden.clamp_min(0) @ block.mix.weight[:, :, 0, 0].T + block.mix.bias
            short = v @ block.shortcut.weight[:, :, 0, 0].T + block.shortcut.bias
            torch.testing.assert_close(actual[:, :, i, j], mixed + short)


def test_standardising_subtracts_the_mean_colour_and_travels_with_the_weights():
    plain, standard = network(standardise="none").eval(), network(standardise="dataset").eval()
    images = noise(2, 3, 32, 32)
    assert torch.equal(plain.mean, torch.zeros(3))
    assert torch.equal(plain.std, torch.ones(3))
    with torch.no_grad():
        by_hand = plain((images - 0.4) / 0.2)
        actual = standard(images)
    for a, b in zip(by_hand, actual, strict=True):
        torch.testing.assert_close(a, b)
    state = standard.state_dict()
    torch.testing.assert_close(state["mean"], torch.full((3,), 0.4))
    torch.testing.assert_close(state["std"], torch.full((3,), 0.2))
    other = Network(3, 3, network_settings(), (0.9, 0.9, 0.9), (0.1, 0.1, 0.1)).eval()
    other.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(other(images)[0], standard(images)[0])


def test_grey_input_cannot_tell_hues_of_one_brightness_apart_and_keeps_infrared():
    torch.manual_seed(0)
    weights = torch.tensor(GREY)
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.0, 0.0, 0.0]])
    # The second colour is the grey of the first one's brightness.
    colours[1] = (colours[0] * weights).sum() / weights.sum()
    images = colours[:, :, None, None].expand(-1, -1, 64, 64)
    grey = network(input="grey", standardise="none").eval()
    with torch.no_grad():
        local, _ = grey(images)
        assert torch.allclose(local[0], local[1], atol=1e-5)
        with_infrared = network(channels=4, input="grey", standardise="none").eval()
        bands = torch.cat([images[:1], torch.zeros(1, 1, 64, 64)], 1).repeat(2, 1, 1, 1)
        bands[1, 3] = 1
        local, _ = with_infrared(bands)
        assert not torch.allclose(local[0], local[1])


def test_standardising_by_image_removes_its_brightness_and_contrast():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 64, 64)
    net = network(standardise="image").eval()
    with torch.no_grad():
        one, _ = net(images)
        other, _ = net(0.3 + 0.5 * images)
    assert torch.allclose(one, other, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("block_a", RECEPTIVE_FIELD)
def test_without_block_c_local_features_are_what_block_a_ends_with(block_a):
    actual = network(classes=4, block_a=block_a, block_c="none", features=999).eval()
    images = noise(2, 3, 64, 64)
    with torch.no_grad():
        local, glob = actual(images)
        patches = actual.block_a(actual._input(images))
    assert torch.equal(local, patches)
    assert glob.shape == (2, 4, patches.shape[1])
