"""The protocol: confusion, match, PA, IoU, permutation gap, halves."""

from __future__ import annotations

import itertools
import json
import math
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import CPU, build, data_info, write_prepared
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infoseg.data.batches import DeviceData
from infoseg.diagnostics import (
    BUCKETS,
    LOOKS,
    UNMATCHED,
    Stripes,
    by_group,
    by_quantile,
    chance_accuracy,
    choose_items,
    content_or_place,
    halves,
    make_examples,
    read_examples,
    summarise,
    write_examples,
)
from infoseg.evaluation import (
    confusions,
    evaluate,
    intersection_over_union,
    match_clusters,
    measure,
    per_image_accuracy,
    pixel_accuracy,
)
from infoseg.files import DataError
from infoseg.methods.base import Method


class Painted(Method):
    """Segments by what stands in the picture: red is the cluster, green the entropy."""

    def __init__(self, clusters: int, probabilities: bool = True):
        super().__init__(SimpleNamespace(), data_info(clusters))
        self.probabilities = probabilities
        self.modes: list[bool] = []

    def segment_with_entropy(self, views):
        assert views.mask is None
        self.modes.append(self.training)
        values = views.images * 255
        entropy = values[:, 1].mean((1, 2)) / 100
        return values[:, 0].round().long(), entropy if self.probabilities else None


def painted_data(path, clusters: int, classes: int, count: int = 5, size: int = 12):
    """Random clusters and labels, some ignored, in images larger and smaller than the crop."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for i in range(count):
        shape = (int(rng.integers(6, 20)), int(rng.integers(6, 20)))
        image = rng.integers(0, 101, (*shape, 3), np.uint8)
        image[..., 0] = rng.integers(0, clusters, shape)
        label = rng.integers(0, classes, shape).astype(np.uint8)
        label[rng.random(shape) < 0.3] = 255
        images.append(image)
        labels.append(None if i == 2 else label)
    data = DeviceData(write_prepared(path, images, labels, classes), size, CPU)
    return data, images, labels


def brute_force(confusion: np.ndarray) -> int:
    """The most pixels that any one-to-one map of clusters to classes gets right."""
    clusters, classes = confusion.shape
    if clusters > classes:
        return brute_force(confusion.T)
    return max(
        sum(int(confusion[k, c]) for k, c in enumerate(chosen))
        for chosen in itertools.permutations(range(classes), clusters)
    )


tables = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 50))
)


# ---- confusion -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("clusters", "classes"), [(3, 3), (5, 3), (2, 4)])
@pytest.mark.parametrize("batch", [1, 3, 10])
def test_the_confusion_equals_a_loop_over_pixels_of_centre_crops(
    tmp_path, clusters, classes, batch
):
    size = 12
    data, images, labels = painted_data(tmp_path / "p", clusters, classes, size=size)
    actual, entropy = confusions(Painted(clusters), data, batch)
    expected, greens = [], []
    for image, label in zip(images, labels, strict=True):
        if label is None:
            continue
        table = np.zeros((clusters, classes), np.int64)
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        green = 0
        for y in range(top, top + size):
            for x in range(left, left + size):
                if not (0 <= y < image.shape[0] and 0 <= x < image.shape[1]):
                    continue
                green += int(image[y, x, 1])
                if label[y, x] != 255:
                    table[image[y, x, 0], label[y, x]] += 1
        expected.append(table)
        greens.append(green / size**2 / 100)
    assert actual.dtype == np.int64
    assert np.array_equal(actual, np.stack(expected))
    assert entropy == pytest.approx(np.mean(greens), rel=1e-5)


def test_evaluation_runs_in_evaluation_mode_and_leaves_a_network_as_it_was(tmp_path):
    data, _, _ = painted_data(tmp_path / "p", 3, 3, size=32)
    method = Painted(3)
    for mode in (True, False):
        method.train(mode)
        confusions(method, data, 2)
        assert method.training is mode
    assert method.modes and not any(method.modes)
    method = build("infoseg").train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    confusions(method, data, 2)
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert not value.requires_grad


# ---- match, PA, IoU ------------------------------------------------------------------------------


@settings(deadline=None)
@given(tables)
def test_the_match_is_one_to_one_and_as_good_as_the_best_of_all(confusion):
    match = match_clusters(confusion)
    used = match[match >= 0]
    assert len(match) == len(confusion)
    assert len(set(used.tolist())) == len(used) == min(confusion.shape)
    right = sum(int(confusion[k, c]) for k, c in enumerate(match) if c >= 0)
    assert right == brute_force(confusion)
    expected = 100 * right / max(1, confusion.sum())
    assert pixel_accuracy(confusion, match) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("confusion", "expected", "right", "iou"),
    [
        #  class 0  1  2
        (
            [[6, 2, 0], [1, 8, 1], [0, 3, 9]],
            [0, 1, 2],
            23 / 30,
            [6 / (8 + 7 - 6), 8 / (10 + 13 - 8), 9 / (12 + 10 - 9)],
        ),
        # Three clusters for two classes: pixels of the third, which is left over, are wrong but
        # enlarge no prediction.
        (
            [[20, 1], [2, 30], [5, 1]],
            [0, 1, -1],
            50 / 59,
            [20 / (21 + 27 - 20), 30 / (32 + 32 - 30)],
        ),
        # A class without a cluster has an IoU of zero, an absent one none.
        ([[20, 1, 4, 0], [2, 30, 0, 0]], [0, 1], 50 / 57, [20 / 27, 30 / 33, 0, math.nan]),
    ],
)
def test_match_accuracy_and_iou_equal_examples_by_hand(confusion, expected, right, iou):
    confusion = np.array(confusion)
    match = match_clusters(confusion)
    assert match.tolist() == expected
    assert pixel_accuracy(confusion, match) == pytest.approx(100 * right)
    actual = intersection_over_union(confusion, match)
    np.testing.assert_allclose(actual, 100 * np.array(iou))


# ---- permutation gap -----------------------------------------------------------------------------


@settings(deadline=None)
@given(arrays(np.int64, (3, 3, 3), elements=st.integers(0, 50)))
def test_a_match_per_image_is_never_worse_than_one_for_all(counts):
    total = counts.sum(0)
    assert per_image_accuracy(counts) >= pixel_accuracy(total, match_clusters(total)) - 1e-9


def test_the_permutation_gap_is_zero_for_consistent_labels_and_what_swapping_costs_otherwise():
    good = np.array([[40, 10], [5, 45]])
    same = summarise(np.stack([good, good, good]), ["a", "b", "c"], ["x", "y"])
    assert same["permutation_gap"] == pytest.approx(0)
    # One of three images with its two labels exchanged: 85 of 100 right with a match of its own,
    # 15 with the match of the data set.
    swapped = summarise(np.stack([good, good, good[::-1]]), ["a", "b", "c"], ["x", "y"])
    assert swapped["pa"] == pytest.approx((85 + 85 + 15) / 3)
    assert swapped["permutation_gap"] == pytest.approx(85 - (85 + 85 + 15) / 3)


# ---- summary -------------------------------------------------------------------------------------


def test_halves_depend_on_the_name_alone_and_are_about_equal():
    # Odd, even, even: 3718386515, 3861003770 and 264941120 are the CRC-32 of these names. Another
    # rule would move images between the halves of results that are already out.
    assert halves(["000000000009", "000000000025", "image0"]).tolist() == [False, True, True]
    names = [f"{i:012d}" for i in range(4000)]
    actual = halves(names)
    assert 0.45 < actual.mean() < 0.55
    assert np.array_equal(halves(names, [""] * len(names)), actual)
    assert np.array_equal(halves(names[::-1]), actual[::-1])
    assert halves(names[:7]).tolist() == actual[:7].tolist()


def test_no_group_is_in_both_halves():
    names = [f"{group}_{i}" for group in range(60) for i in range(5)]
    groups = [f"sequence {name.partition('_')[0]}" for name in names]
    chosen = halves(names, groups)
    assert 0.3 < chosen.mean() < 0.7
    assert not {*np.array(groups)[chosen]} & {*np.array(groups)[~chosen]}
    assert np.array_equal(chosen, halves(groups))
    some = halves(names, groups[:150] + [""] * 150)
    assert np.array_equal(some, np.append(chosen[:150], halves(names)[150:]))


def test_the_summary_reports_each_half_by_itself_and_can_be_written_as_json(tmp_path):
    data, _, _ = painted_data(tmp_path / "p", 3, 3, count=9)
    ids = [f"image{i}" for i in range(9) if i != 2]
    names = ["a", "b", "c"]
    counts, entropy = confusions(Painted(3), data, 4)
    actual = summarise(counts, ids, names)
    protocol = evaluate(Painted(3), data, 4, names)
    assert protocol.pop("assignment_entropy") == entropy
    assert protocol == {name: actual[name] for name in protocol}
    total, first = counts.sum(0), halves(ids)
    assert 0 < first.sum() < 8
    assert actual["images"] == 8
    assert actual["pixels"] == total.sum()
    assert actual["confusion"] == total.tolist()
    match = match_clusters(total)
    assert actual["pa"] == pixel_accuracy(total, match)
    iou = intersection_over_union(total, match)
    assert actual["miou"] == pytest.approx(iou.mean())
    assert list(actual["iou"]) == names
    assert actual["match"] == {str(k): names[c] for k, c in enumerate(match)}
    assert actual["cluster_usage"] == pytest.approx((total.sum(1) / total.sum()).tolist())
    assert actual["constant_pa"] == pytest.approx(100 * total.sum(0).max() / total.sum())
    assert actual["many_to_one_pa"] == pytest.approx(100 * total.max(1).sum() / total.sum())
    for name, part in (("chosen", counts[first]), ("reported", counts[~first])):
        half, expected = actual["halves"][name], measure(part, names)
        right, pixels = np.sum(half["groups"], 0)
        assert len(half["groups"]) == len(part) and 100 * right / pixels == half["pa"]
        assert {key: half[key] for key in expected} == expected
    json.dumps(actual, allow_nan=False)


def test_what_does_not_occur_can_be_written_as_json():
    over = summarise(np.array([[[9, 0], [0, 9], [1, 2]]]), ["a"], ["x", "y"])
    assert over["match"] == {"0": "x", "1": "y", "2": None}
    under = summarise(np.array([[[9, 1, 0], [0, 9, 0]]]), ["a"], ["x", "y", "z"])
    assert under["match"] == {"0": "x", "1": "y"}
    assert under["iou"] == {"x": pytest.approx(90), "y": pytest.approx(90), "z": None}
    assert under["miou"] == pytest.approx(90)
    for actual in (over, under):  # one image, so that a half has none
        [empty] = [half for half in actual["halves"].values() if half["images"] == 0]
        assert empty["miou"] is None
        json.dumps(actual, allow_nan=False)


@pytest.mark.parametrize("groups", [5, 2 * BUCKETS])
def test_pixels_by_group_are_those_of_a_loop(groups):
    counts = np.random.default_rng(0).integers(0, 9, (4 * groups, 3, 2))  # a cluster has no class
    names = [f"group {i % groups}" for i in range(len(counts))]
    match, table = match_clusters(counts.sum(0)), {}
    for image, name in zip(counts, names, strict=True):
        key = zlib.crc32(name.encode()) % (BUCKETS if groups > BUCKETS else 2**32)
        right, pixels = table.get(key, (0, 0))
        right += sum(image[k, c] for k, c in enumerate(match) if c >= 0)
        table[key] = [right, pixels + image.sum()]
    assert by_group(counts, names, match) == [table[key] for key in sorted(table)]
    assert by_group(counts[:0], [], match) == []


# ---- many-to-one, chance, pictures by rank -------------------------------------------------------


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)).flatmap(
        lambda shape: arrays(np.int64, shape, elements=st.integers(0, 30))
    )
)
def test_the_chance_of_a_match_per_image_is_that_of_independent_labels(counts):
    right = 0.0
    for image in counts:
        pixels = image.sum()
        if pixels:
            independent = np.outer(image.sum(1), image.sum(0)) / pixels
            match = match_clusters(independent)
            right += sum(independent[k, c] for k, c in enumerate(match) if c >= 0)
    expected = 100 * right / max(1, counts.sum())
    assert chance_accuracy(counts) == pytest.approx(expected, abs=1e-6)


def test_pictures_go_from_the_best_to_the_worst_by_their_own_accuracy():
    # Image i has 10 i right pixels of 100; image 3 has a handful of pixels, all wrong.
    counts = np.zeros((11, 2, 2), np.int64)
    for i in range(11):
        counts[i] = [[10 * i, 0], [0, 0]]
        counts[i, 1, 0] = 100 - 10 * i
    counts[3] = [[0, 0], [4, 0]]
    match = np.array([0, 1])
    assert by_quantile(counts, match, 3) == [(10, 100.0), (6, 60.0), (0, 0.0)]
    everything = by_quantile(counts, match, 99)
    assert [item for item, _ in everything] == [10, 9, 8, 7, 6, 5, 4, 2, 1, 0]
    assert by_quantile(0 * counts, match, 8) == []
    names = [f"image{i}" for i in range(11)]
    part = summarise(counts, names, ["a", "b"])
    assert part["clusters_used"] == 2
    # Of the half for reporting alone, under their numbers among all.
    places = [i for i, here in enumerate(halves(names)) if not here and i != 3]
    ranks = sorted(places, reverse=part["match"]["0"] == "a")
    assert [(r["item"], r["id"]) for r in part["quantiles"]] == [(i, names[i]) for i in ranks]


@pytest.mark.parametrize("across", [False, True])
def test_stripes_are_scored_by_the_protocol_itself(across, tmp_path):
    """Labels in three equal stripes are all right but for the pixels that are ignored; labels in
    columns are right by chance."""
    label = np.repeat(np.arange(3, dtype=np.uint8), 12)[:, None].repeat(36, 1)
    label = label.T if across else label
    label[:2, :2] = 255
    pictures = [np.zeros((36, 36, 3), np.uint8)] * 2
    data = DeviceData(write_prepared(tmp_path / "p", pictures, [label, label]), 36, CPU)
    names = ["image0", "image1"], ["a", "b", "c"]
    answer, one = (summarise(confusions(Stripes(k), data, 1)[0], *names) for k in (3, 1))
    assert answer["pa"] == pytest.approx(100 / 3 if across else 100, abs=0.5)
    assert answer["miou"] == pytest.approx(20 if across else 100, abs=0.5)
    assert one["pa"] == one["constant_pa"] == answer["constant_pa"]


def test_content_keeps_its_accuracy_upside_down_and_place_does_not(tmp_path):
    """Three bands of class and colour; in the half that settings are chosen on, one class."""
    band = np.arange(36, dtype=np.uint8)[:, None].repeat(36, 1) // 12
    labels = [band * (not chosen) for chosen in halves([f"image{i}" for i in range(8)])]
    prepared = write_prepared(tmp_path / "p", [np.dstack([band] * 3)] * 8, labels)
    data = DeviceData(prepared, 36, CPU)
    assert content_or_place(Painted(3), data, 3) == dict.fromkeys(LOOKS, 100)
    # Shares of rows that stripes get right with the match of the upright pictures.
    expected = [100, 100 / 3, 100 * 20 / 24, 50, 50]
    assert [*content_or_place(Stripes(3), data, 3).values()] == pytest.approx(expected)
    noise = content_or_place(Painted(3), painted_data(tmp_path / "n", 3, 3, count=9)[0], 4)
    assert noise["upside_down"] == noise["as_it_is"] < 100


# ---- the pictures runs are shown by --------------------------------------------------------------


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> DeviceData:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(12)]
    labels = [rng.integers(0, 3, (32, 32)).astype(np.uint8) for _ in range(12)]
    labels[4] = None
    return DeviceData(write_prepared(tmp_path_factory.mktemp("d"), images, labels), 32, CPU)


def test_ranked_pictures_are_those_the_evaluation_names(noise, tmp_path):
    method, classes = build("infoseg").eval(), ["a", "b", "c"]
    actual = summarise(confusions(method, noise, 4)[0], [f"image{i}" for i in range(11)], classes)
    items = noise.evaluated[[rank["item"] for rank in actual["quantiles"]]]
    match = list(actual["match"].values())
    write_examples(tmp_path / "e.npz", make_examples(method, noise, match, classes, items))
    ranked = read_examples(tmp_path / "e.npz", "evaluate")
    # The accuracy that an evaluation names of a picture is the one that can be counted in it.
    for prediction, annotation, rank in zip(
        ranked.predictions, ranked.annotations, actual["quantiles"], strict=True
    ):
        seen = annotation != 255
        assert 100 * (prediction == annotation)[seen].mean() == pytest.approx(rank["pa"])


def test_by_default_the_pictures_are_those_chosen_blind(noise):
    made = make_examples(build("infoseg").eval(), noise, None, ["a", "b", "c"])
    rows = noise.centre(choose_items(noise))
    assert len(rows) == 8 and np.array_equal(made.annotations, noise.annotation(rows).numpy())
    assert made.predictions.max() < 3


def test_clusters_without_a_class_are_marked(noise):
    method = build("infoseg", clusters_per_class=2).eval()
    assert method.clusters == 6
    match = [None, "a", None, "b", None, "c"]
    made = make_examples(method, noise, match, ["a", "b", "c"])
    assert set(np.unique(made.predictions)) <= {0, 1, 2, UNMATCHED}


def test_a_file_of_another_version_is_an_error_that_names_the_stage(tmp_path):
    np.savez(tmp_path / "e.npz", images=np.zeros(1))
    with pytest.raises(DataError, match="evaluate@x"):
        read_examples(tmp_path / "e.npz", "evaluate@x")
