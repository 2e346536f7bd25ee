"""Signals without labels, and what is measured of InfoSeg's features."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import (
    CPU,
    Columns,
    build,
    random_images,
    training,
    two_tone_images,
    write_prepared,
)

from infoseg.signals import label_free, mechanism
from infoseg.views import DeviceData, training_images


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DeviceData:
    images, labels = random_images(6, 40)
    path = tmp_path_factory.mktemp("signals") / "p"
    return DeviceData(write_prepared(path, images, labels, 3), 32, CPU)


def test_labels_by_place_disagree_with_the_mirror_image_and_labels_by_content_do_not(data):
    by_place = label_free(Columns("column"), data, training(), 0)
    assert by_place["flip_agreement"] == pytest.approx(-1)
    assert by_place["jitter_agreement"] == pytest.approx(1)
    assert by_place["usage_entropy"] == pytest.approx(1)
    assert by_place["decidedness"] == pytest.approx(0.75)
    assert "bound" not in by_place
    by_content = label_free(Columns("brightness"), data, training(), 0)
    assert by_content["flip_agreement"] == pytest.approx(1)
    assert 0 < by_content["jitter_agreement"] < 1


def test_the_bound_is_taken_on_images_left_out(data):
    method = build("infoseg")
    half = label_free(method, data, training(images=0.5), 0)["bound"]
    whole = label_free(method, data, training(), 0)["bound"]
    assert -4 < half < 0 and -4 < whole < 0
    assert half != whole
    assert half == label_free(method, data, training(images=0.5), 0)["bound"]
    trained, left_out = training_images(data, 0.5)
    assert sorted([*trained.tolist(), *left_out.tolist()]) == list(range(6))


def test_which_images_are_trained_on_depends_on_their_names_alone(data):
    few, more = (training_images(data, share)[0].tolist() for share in (1 / 3, 2 / 3))
    assert len(few) == 2 and len(more) == 4 and set(few) < set(more)


def fixed_features(method, local, glob):
    """Make a method's features those given: functions of the images."""
    method.features = lambda images: (local(images), glob(images))
    return method


def test_constant_and_orthogonal_global_features_are_known_as_such(data):
    method = build("infoseg")
    eye = torch.eye(3, 16)

    def local(images):
        return torch.rand(len(images), 16, 8, 8, generator=torch.Generator().manual_seed(0))

    found = mechanism(
        fixed_features(method, local, lambda images: eye.expand(len(images), -1, -1)),
        data,
        training(),
        0,
    )
    assert found["cosine"] == pytest.approx(0, abs=1e-6)
    assert found["constant_share"] == pytest.approx(1)
    generator = torch.Generator().manual_seed(1)
    found = mechanism(
        fixed_features(
            method, local, lambda images: torch.randn(len(images), 3, 16, generator=generator)
        ),
        data,
        training(),
        0,
    )
    assert found["constant_share"] < 0.5


def test_local_features_that_are_the_brightness_predict_two_tones(tmp_path):
    images, labels = two_tone_images(16)
    data = DeviceData(write_prepared(tmp_path / "p", images, labels, 2), 32, CPU)
    method = build("infoseg")

    def local(images):
        grey = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4)
        return grey.expand(-1, 16, -1, -1)

    def glob(images):
        return torch.ones(len(images), 3, 16)

    found = mechanism(fixed_features(method, local, glob), data, training(), 0)
    assert found["local_pa"] > 60
    assert found["cosine"] == pytest.approx(1)
    assert all(math.isfinite(value) for value in found.values())
