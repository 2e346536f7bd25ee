"""More clusters than classes, merged by what two views of a picture agree on."""

import numpy as np
import pytest
import torch
from helpers import build

from infoseg.jitter import JitterSettings
from infoseg.methods.merged import merge_clusters
from infoseg.views import Views


def groups(parts):
    """Which clusters are together, whatever the groups are called."""
    return {frozenset(np.flatnonzero(parts == part).tolist()) for part in set(parts.tolist())}


def test_clusters_that_swap_pixels_are_merged():
    joint = np.diag([900, 50, 400, 700, 80, 60])
    for a, b in [(0, 4), (4, 2), (1, 3), (3, 5)]:
        joint[a, b] = joint[b, a] = 30
    assert groups(merge_clusters(joint, 2, 0)) == {frozenset({0, 2, 4}), frozenset({1, 3, 5})}


def test_the_direction_of_a_swap_does_not_matter():
    joint = np.diag([100, 100, 100, 100])
    joint[0, 1] = joint[3, 2] = 20
    assert groups(merge_clusters(joint, 2, 0)) == {frozenset({0, 1}), frozenset({2, 3})}
    np.testing.assert_array_equal(merge_clusters(joint, 2, 0), merge_clusters(joint.T, 2, 0))


def test_clusters_without_pixels_do_not_take_a_group():
    joint = np.zeros((5, 5), int)
    joint[1, 1], joint[4, 4] = 10, 20
    parts = merge_clusters(joint, 2, 0)
    assert parts[1] != parts[4]
    assert set(parts.tolist()) == {0, 1}


def test_fewer_clusters_than_groups_stay_apart():
    joint = np.diag([5, 0, 7, 0])
    parts = merge_clusters(joint, 3, 0)
    assert parts[0] != parts[2]
    assert parts.max() < 3


def fitted(images, **changes):
    method = build("infoseg_merged", **changes).eval()
    method.fit(iter([Views(images[:2]), Views(images[2:])]), seed=0)
    return method


@pytest.fixture
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_labels_are_the_groups_of_the_trained_clusters(images):
    method = fitted(images)
    assert method.network.classes == 3 * method.clusters
    trained = super(type(method), method).segment_with_entropy(Views(images))[0]
    labels = method.segment(Views(images))
    assert labels.max() < method.clusters
    torch.testing.assert_close(labels, method.parts[trained])


def test_fitting_twice_gives_the_same_groups(images):
    assert torch.equal(fitted(images).parts, fitted(images).parts)


def test_identical_views_count_mirrored_pixels_as_the_same_place():
    """A left and a right half that differ stay apart: the second view is mirrored back."""
    method = build("infoseg_merged").eval()
    method.agreement = JitterSettings(brightness=0, contrast=0, saturation=0, hue=0)
    seen = []

    def scores(images):
        left_is_bright = images.mean(1)[:, None, ::4, ::4]
        seen.append(images)
        one_hot = torch.zeros(len(images), method.network.classes, 8, 8)
        one_hot[:, :2] = torch.cat([left_is_bright, 1 - left_is_bright], 1)
        return one_hot

    method.scores = scores
    images = torch.zeros(2, 3, 32, 32)
    images[..., :16] = 1
    method.fit(iter([Views(images)]), seed=0)
    torch.testing.assert_close(seen[1], images.flip(-1))
    assert method.parts[0] != method.parts[1]


def test_no_picture_is_an_error():
    with pytest.raises(ValueError, match="no picture"):
        build("infoseg_merged").fit(iter([]), seed=0)
