"""Whether a number moved since golden.json was written; `make golden` renews it."""

from __future__ import annotations

import base64
import copy
import json
import math
import zlib
from pathlib import Path

import golden
import pytest

RECORD = json.loads(golden.RECORD.read_text())
KEY = "infoseg, seed 1"


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return golden.write_stores(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("case", golden.CASES)
def test_no_number_has_moved(case, stores):
    found = {"machine": golden.machine(), "results": golden.compute(case, stores)}
    moved = golden.differences(RECORD, found)
    assert not moved, "\n".join(moved)


def test_the_record_has_every_case_and_no_other():
    expected = [f"{case}, seed {seed}" for case in golden.CASES for seed in golden.SEEDS]
    assert list(RECORD["results"]) == expected


def test_on_another_kind_of_machine_nearly_the_same_is_computed():
    avx2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    cases = ("kmeans", "iic", "inmars", "log_sum_exp")
    found = golden.computed(golden.ROOT, Path(golden.__file__), *cases, **avx2)
    assert len(found["results"]) == len(cases) * len(golden.SEEDS)
    assert found["machine"] != RECORD["machine"]
    moved = golden.differences(RECORD, found)
    assert not moved, "\n".join(moved)
    if found["machine"]["capability"] == "AVX2" != RECORD["machine"]["capability"]:
        # It was not by equal bytes that they passed.
        assert golden.differences(RECORD, found | {"machine": RECORD["machine"]})


def scaled(step: int, factor: float):
    return lambda result: result["losses"].__setitem__(
        step - 1, result["losses"][step - 1] * factor
    )


def next_float(result):
    result["losses"][2] = math.nextafter(result["losses"][2], math.inf)


def other_labels(share: float):
    def change(result):
        labels = bytearray(zlib.decompress(base64.b64decode(result["thinned"])))
        count = round(share * len(labels))
        labels[:count] = bytes((label + 1) % 3 for label in labels[:count])
        result["thinned"] = base64.b64encode(zlib.compress(labels)).decode()
        result["labels"] = "0" * 64

    return change


@pytest.mark.parametrize(
    ("change", "here", "elsewhere"),
    [
        (next_float, "loss of step 3", None),
        (scaled(1, 1.01), "loss of step 1", "loss of step 1"),
        (scaled(10, 1.001), "loss of step 10", None),
        (scaled(10, 1.1), "loss of step 10", "loss of step 10"),
        (lambda result: result["losses"].pop(), "loss of step 10", "loss of step 10"),
        (lambda result: result.update(weights="0" * 64), "other weights", None),
        (lambda result: result["evaluations"][-1].reverse(), "other evaluations", None),
        (other_labels(0.05), "other labels", None),
        (other_labels(0.15), "other labels", "only 85.0% of the labels"),
    ],
)
def test_what_moved_is_named_with_case_and_seed(change, here, elsewhere):
    found = copy.deepcopy(RECORD)
    change(found["results"][KEY])
    for machine, expected in ((RECORD["machine"], here), ({}, elsewhere)):
        moved = golden.differences(RECORD, found | {"machine": machine})
        assert [line.startswith(f"{KEY}: {expected}") for line in moved] == [True] * bool(expected)
