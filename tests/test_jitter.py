"""Colour jitter against the standard library's colour conversions, pixel by pixel."""

from __future__ import annotations

import colorsys

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infoseg.settings import JitterSettings
from infoseg.views import colour_jitter, turn_hue

NONE = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
UNIT = st.floats(0, 1, width=32)


def images(batch: int = 4, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, channels, 6, 5, generator=torch.Generator().manual_seed(seed))


def jitter(pictures: torch.Tensor, seed: int = 1, **strengths: float) -> torch.Tensor:
    given_settings = JitterSettings(**NONE | strengths)
    return colour_jitter(pictures, given_settings, torch.Generator().manual_seed(seed))


def draws(row: int, batch: int = 4, seed: int = 1) -> np.ndarray:
    """The numbers in -1..1 that one operation draws, one per image."""
    actual = torch.rand(4, batch, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    return (2 * actual - 1)[row].flatten().numpy()


def grey(pixel: np.ndarray) -> float:
    return 0.2989 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


@settings(deadline=None, max_examples=200)
@given(st.tuples(UNIT, UNIT, UNIT), st.floats(-0.5, 0.5, width=32))
@example((0.0, 0.0, 0.0), 0.1)
@example((1.0, 1.0, 1.0), -0.5)
@example((1.0, 0.0, 0.0), 1 / 3)
@example((0.5, 0.5, 0.2), -0.2)
def test_turning_the_hue_equals_the_standard_librarys(colour, turn):
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    actual = turn_hue(torch.tensor(colour).view(1, 3, 1, 1), torch.tensor(turn)).flatten()
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-5)


def test_brightness_multiplies():
    actual, given_images = jitter(images(), brightness=0.4), images()
    for b, draw in enumerate(draws(0)):
        expected = (given_images[b] * (1 + 0.4 * draw)).clamp(0, 1)
        torch.testing.assert_close(actual[b], expected.float(), atol=1e-6, rtol=0)


def test_contrast_blends_with_the_mean_grey_of_the_image():
    actual, pictures = jitter(images(), contrast=0.4).numpy(), images().numpy()
    for b, draw in enumerate(draws(1)):
        middle = np.mean([grey(pictures[b, :, y, x]) for y in range(6) for x in range(5)])
        expected = np.clip(middle + (1 + 0.4 * draw) * (pictures[b] - middle), 0, 1)
        np.testing.assert_allclose(actual[b], expected, atol=1e-5)


def test_saturation_blends_with_the_grey_of_the_pixel():
    actual, pictures = jitter(images(), saturation=0.4).numpy(), images().numpy()
    for b, draw in enumerate(draws(2)):
        for y in range(6):
            for x in range(5):
                pixel = pictures[b, :, y, x]
                expected = grey(pixel) + (1 + 0.4 * draw) * (pixel - grey(pixel))
                np.testing.assert_allclose(actual[b, :, y, x], np.clip(expected, 0, 1), atol=1e-5)


def test_hue_turns_by_up_to_its_strength():
    actual, pictures = jitter(images(), hue=0.125), images()
    for b, draw in enumerate(draws(3)):
        expected = turn_hue(pictures[b : b + 1], torch.tensor(0.125 * float(draw)))
        torch.testing.assert_close(actual[b : b + 1], expected, atol=1e-6, rtol=0)


def test_infrared_stays_and_values_stay_colours():
    strong = {"brightness": 0.9, "contrast": 0.9, "saturation": 0.9, "hue": 0.5}
    pictures = images(64, 4)
    actual = jitter(pictures, **strong)
    assert torch.equal(actual[:, 3], pictures[:, 3])
    assert 0 <= actual.min() <= actual.max() <= 1
    assert (actual[:, :3] != pictures[:, :3]).flatten(1).any(1).all()


def test_every_image_is_jittered_by_itself_and_the_same_seed_repeats_it():
    same = images(1).expand(8, -1, -1, -1)
    strong = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.125}
    actual = jitter(same, **strong)
    assert len({tuple(image.flatten().tolist()) for image in actual}) == 8
    assert torch.equal(actual, jitter(same, **strong))
    assert not torch.equal(actual, jitter(same, seed=2, **strong))
