"""The pictures runs are shown by: blind ones alike for all, ranked ones from the evaluation."""

import numpy as np
import pytest
from helpers import CPU, build, write_prepared

from infoseg.data.batches import DeviceData
from infoseg.diagnostics import (
    UNMATCHED,
    choose_items,
    make_examples,
    read_examples,
    summarise,
    write_examples,
)
from infoseg.evaluation import confusions
from infoseg.files import DataError


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DeviceData:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(12)]
    labels = [rng.integers(0, 3, (32, 32)).astype(np.uint8) for _ in range(12)]
    labels[4] = None
    return DeviceData(write_prepared(tmp_path_factory.mktemp("d"), images, labels), 32, CPU)


def test_ranked_pictures_are_those_the_evaluation_names(data, tmp_path):
    method, classes = build("infoseg").eval(), ["a", "b", "c"]
    found = summarise(confusions(method, data, 4)[0], [f"image{i}" for i in range(11)], classes)
    items = data.evaluated[[rank["item"] for rank in found["quantiles"]]]
    match = list(found["match"].values())
    write_examples(tmp_path / "e.npz", make_examples(method, data, match, classes, items))
    ranked = read_examples(tmp_path / "e.npz", "evaluate")
    # The accuracy that an evaluation names of a picture is the one that can be counted in it.
    for prediction, annotation, rank in zip(
        ranked.predictions, ranked.annotations, found["quantiles"], strict=True
    ):
        seen = annotation != 255
        assert 100 * (prediction == annotation)[seen].mean() == pytest.approx(rank["pa"])


def test_by_default_the_pictures_are_those_chosen_blind(data):
    made = make_examples(build("infoseg").eval(), data, None, ["a", "b", "c"])
    rows = data.centre(choose_items(data))
    assert len(rows) == 8 and np.array_equal(made.annotations, data.annotation(rows).numpy())
    assert made.predictions.max() < 3


def test_clusters_without_a_class_are_marked(data):
    method = build("infoseg", clusters_per_class=2).eval()
    assert method.clusters == 6
    match = [None, "a", None, "b", None, "c"]
    made = make_examples(method, data, match, ["a", "b", "c"])
    assert set(np.unique(made.predictions)) <= {0, 1, 2, UNMATCHED}


def test_a_file_of_another_version_is_an_error_that_names_the_stage(tmp_path):
    np.savez(tmp_path / "e.npz", images=np.zeros(1))
    with pytest.raises(DataError, match="evaluate@x"):
        read_examples(tmp_path / "e.npz", "evaluate@x")
