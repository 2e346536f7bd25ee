"""What a prepared data set must survive: any sizes, a crash, a truncated file, a second writer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoseg.data.ingest import ordered_map
from infoseg.data.store import PreparedWriter, load_prepared
from infoseg.files import DataError


def writer(path, **more):
    how = dict(name="toy", channels=3, classes=("a", "b"), parameters={"scale": 0.33})
    return PreparedWriter(path, **how | more)


def make(path, images, **more):
    with writer(path, **more) as opened:
        for image in images:
            opened.add(*image)
    return load_prepared(path, verify=True)


def picture(height, width, channels=3):
    return np.full((height, width, channels), 7, np.uint8)


def unlabelled(image_id):
    return image_id, picture(2, 2), None, "train"


#: Ids that break a careless index, or that pandas would read as missing or as numbers.
IDS = ["im,0", "NA", "000000000025", "", '"']


@st.composite
def collections(draw):
    channels = draw(st.sampled_from([3, 4]))
    sizes = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    images = []
    for i, size in enumerate(sizes):
        image = random.integers(0, 256, (*size, channels), np.uint8)
        labels = random.choice(np.array([0, 1, 255], np.uint8), size)
        split = draw(st.sampled_from(["train2017", "val2017"]))
        images.append((IDS[i], image, labels if draw(st.booleans()) else None, split))
    return channels, images


@settings(max_examples=40, deadline=None)
@given(collections())
def test_any_list_of_images_comes_back_as_it_went_in(case):
    channels, images = case
    with tempfile.TemporaryDirectory() as folder:
        prepared = make(Path(folder) / "set", images, channels=channels)
        assert len(prepared) == len(images)
        with pytest.raises(ValueError):
            prepared.image(0)[...] = 0  # a reader cannot change the data set
        for i, (image_id, image, labels, split) in enumerate(images):
            row = prepared.index.iloc[i]
            assert (row["id"], row["split"]) == (image_id, split)
            assert row["labelled"] == (labels is not None)
            np.testing.assert_array_equal(prepared.image(i), image)
            expected = np.full(image.shape[:2], 255) if labels is None else labels
            np.testing.assert_array_equal(prepared.label(i), expected)
        pixels = np.concatenate([image.reshape(-1, channels) for _, image, _, _ in images]) / 255
        np.testing.assert_allclose(prepared.meta.mean, pixels.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(prepared.meta.std, pixels.std(axis=0), atol=1e-7)
        known = [labels.ravel() for _, _, labels, _ in images if labels is not None]
        known = np.concatenate([np.empty(0, np.uint8), *known])
        assert prepared.meta.class_pixels == [int((known == k).sum()) for k in (0, 1)]
        share = (known == 255).sum() / max(1, known.size)
        assert prepared.meta.ignored_share == pytest.approx(share)


def test_meta_counts_splits_sources_and_skips(tmp_path):
    source = tmp_path / "list.txt"
    source.write_bytes(b"abc")
    sources = {"curated/list.txt": source}
    with writer(tmp_path / "set", sources=sources, notes=["reconstruction"]) as opened:
        opened.add("1", picture(2, 3), np.zeros((2, 3), np.uint8), "train2017")
        opened.add("2", picture(2, 3), None, "val2017")
        opened.skip("images/3.jpg", "broken")
    meta = load_prepared(tmp_path / "set").meta.model_dump()
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    expected = {
        "splits": {
            "train2017": {"images": 1, "labelled": 1},
            "val2017": {"images": 1, "labelled": 0},
        },
        "sources": {"curated/list.txt": sha256},
        "skipped": [{"file": "images/3.jpg", "reason": "broken"}],
        "parameters": {"scale": 0.33, "superpixels": None},
        "class_pixels": [6, 0],
        "notes": ["reconstruction"],
    } | {"n_skipped": 1, "regions": 0, "n_images": 2, "n_pixels": 12}
    assert {key: meta[key] for key in expected} == expected


def test_images_are_interleaved_and_offsets_count_pixels(tmp_path):
    image = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    make(tmp_path / "set", [unlabelled("x"), ("y", image, None, "train", None, "pond")])
    assert (tmp_path / "set/images.bin").read_bytes()[12:] == bytes(range(12))
    assert (tmp_path / "set/index.csv").read_text() == (
        "id,split,offset,height,width,labelled,group\nx,train,0,2,2,0,\ny,train,4,1,4,0,pond\n"
    )


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        (picture(2, 2, 4), None),
        (picture(2, 2).astype(np.int32), None),
        (picture(2, 2), np.zeros((2, 3), np.uint8)),
        (picture(2, 2), np.full((2, 2), 2, np.uint8)),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, image, labels):
    with pytest.raises(ValueError, match="x: "):
        make(tmp_path / "set", [("x", image, labels, "train")])
    assert not list(tmp_path.iterdir())


def test_something_else_under_the_name_is_never_replaced(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/thesis.tex").touch()
    with pytest.raises(DataError, match="not a prepared data set"):
        make(tmp_path / "set", [unlabelled("x")])
    assert (tmp_path / "set/thesis.tex").is_file()


def edit(**changes):
    return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_text("{"), "not a data set description"),
        (lambda file: file.write_text("[" * 200_000), "not a data set description"),
        (edit(format_version=99), "format_version: Input should be 2"),
        (edit(n_images=2), "index.csv: does not agree with meta.json"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path, damage, message):
    make(tmp_path / "set", [unlabelled("x")])
    damage(tmp_path / "set/meta.json")
    with pytest.raises(DataError, match=f"{message}.*Run the preparation of this data set again"):
        load_prepared(tmp_path / "set")


# ---- crashes and second writers ------------------------------------------------------------------


def test_a_crash_keeps_the_previous_data_set_and_leaves_no_temporary(tmp_path):
    make(tmp_path / "set", [unlabelled("old")])
    with pytest.raises(KeyboardInterrupt), writer(tmp_path / "set"):
        raise KeyboardInterrupt
    assert list(load_prepared(tmp_path / "set", verify=True).index["id"]) == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


KILLED = """
import os, signal, sys
from infoseg.data.store import PreparedWriter

with PreparedWriter(sys.argv[1], name="toy", channels=3, classes=(), parameters={}):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_live_ones_is_not(tmp_path):
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out)])
    assert killed.returncode == -signal.SIGKILL
    left, lock = sorted(tmp_path.iterdir())
    assert left.name.startswith(".out.partial-") and lock.name == f"{left.name}.lock"
    with writer(out) as live:
        assert not left.exists()
        live.add(*unlabelled("b"))
        assert list(make(out, [unlabelled("a")]).index["id"]) == ["a"]
    assert list(load_prepared(out).index["id"]) == ["b"]
    assert list(tmp_path.iterdir()) == [out]


def test_parallel_work_keeps_order_and_bounds_what_is_in_flight():
    taken = []
    results = ordered_map(lambda i: -i, (taken.append(i) or i for i in range(100)), threads=2)
    assert next(results)() == 0
    assert len(taken) == 4  # no further: a hundred results would fill the memory
    assert [result() for result in results] == [-i for i in range(1, 100)]
