"""COCO: label tables, id lists, masks, selection; from raw file to prepared array."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from helpers import prepare_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infoseg.data import coco
from infoseg.data.pictures import rescale_iic, rescale_labels
from infoseg.files import DataError

# The coarse class of every fine one by its value, as STEGO's code and IIC's pickle number them.
PUBLISHED = """
9 11 11 11 11 11 11 11 11 8 8 8 8 8 8 7 7 7 7 7 7 7 7 7 7 6 6 6 6 6 6 6 6 10 10 10 10 10 10 10 10
10 10 5 5 5 5 5 5 5 5 2 2 2 2 2 2 2 2 2 2 3 3 3 3 3 3 3 3 3 3 0 0 0 0 0 0 1 1 1 1 1 1 4 4 4 4 4 4
4 4 17 17 22 20 20 22 15 25 16 13 12 12 17 17 23 15 15 17 15 21 15 25 13 13 13 13 13 22 26 14 14
15 22 21 21 24 20 22 15 17 16 15 22 24 21 17 25 16 21 17 22 16 21 21 25 21 26 21 24 20 17 14 21 26
15 23 20 21 24 15 24 22 25 15 20 17 17 22 14 18 18 18 18 18 18 18 26 26 19 19 24
"""
STUFF = """
ceiling floor food furniture rawmaterial textile wall window building ground plant sky solid
structural water
""".split()


def test_every_fine_class_maps_as_published():
    published = [int(number) for number in PUBLISHED.split()]
    assert len(published) == len(set(coco.FINE_NAMES)) == 182
    assert list(coco.CLASSES["stuff15"]) == STUFF
    of_three = {12 + STUFF.index(name): i for i, name in enumerate(("sky", "plant", "ground"))}
    expected15 = [coarse - 12 if coarse >= 12 else 255 for coarse in published]
    expected3 = [of_three.get(coarse, 255) for coarse in published]
    for variant, expected in (("stuff15", expected15), ("stuff3", expected3)):
        assert coco.stuff_lookup(variant).tolist() == expected + [255] * 74  # and what is no class
    # The numbers are of these names.
    for fine, label in (("person", 255), ("sea", STUFF.index("water")), ("wood", 12)):
        assert expected15[coco.FINE_NAMES.index(fine)] == label


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(3, 90), st.integers(4, 90), st.sampled_from([3, 4])),
    scale=st.one_of(st.just(0.33), st.floats(0.2, 0.99)),
    flat=st.booleans(),
)
def test_rescaling_is_cv2_on_floats_bit_by_bit(size, scale, flat):
    # In flat regions a different order of additions already changes what is truncated.
    image = np.random.default_rng(0).integers(0, 256, (1, 1, size[2]) if flat else size)
    image = np.broadcast_to(image, size).astype(np.uint8)
    rows, columns = (
        np.minimum(np.floor(np.arange(round(side * scale)) * (1 / scale)).astype(int), side - 1)
        for side in size[:2]
    )
    labels = rescale_labels(image[..., 0], scale)
    np.testing.assert_array_equal(labels, image[..., 0][np.ix_(rows, columns)])
    expected = cv2.resize(image.astype(np.float32), None, fx=scale, fy=scale, interpolation=1)
    np.testing.assert_array_equal(rescale_iic(image, scale), expected.astype(np.uint8))


# --- Stuff ---------------------------------------------------------------------------------------


def write_stuff(raw, *, images="images/{}", maps="stuffthingmaps/{}", n=3, size=(30, 40)):
    """Write a small COCO-Stuff in the official layout; return the fine maps by id."""
    random = np.random.default_rng(0)
    fine, exif = {}, Image.Exif()
    exif[0x0112] = 6  # a quarter turn, which maps and polygons know nothing of
    for split, first in (("train2017", 1), ("val2017", 100)):
        ids = [f"{first + i:012d}" for i in range(n)][::-1]  # list order, not sorted order
        folders = [raw / p.format(split) for p in (images, maps)] + [raw / "curated" / split]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for image_id in ids:
            fine[image_id] = random.choice(
                np.array([0, 105, 123, 148, 177, 255], np.uint8), size, p=[0.1] + [0.18] * 5
            )
            photo = Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8))
            photo.save(folders[0] / f"{image_id}.jpg", quality=95, exif=exif)
            Image.fromarray(fine[image_id]).save(folders[1] / f"{image_id}.png")
        for file in coco.LISTS.values():
            (folders[2] / file).write_text("".join(i + "\n" for i in ids))
    return fine


def prepare_stuff(tmp_path, raw="raw", variant="stuff3", **more):
    return prepare_raw("coco_stuff", tmp_path / raw, tmp_path / "out", variant=variant, **more)


@pytest.mark.parametrize("variant", ["stuff15", "stuff3"])
def test_stuff_from_raw_file_to_prepared_array(tmp_path, variant, monkeypatch):
    fine = write_stuff(tmp_path / "raw")
    prepared = prepare_stuff(tmp_path, variant=variant)
    assert list(prepared.index["id"]) == [f"{i:012d}" for i in (3, 2, 1, 102, 101, 100)]
    assert list(prepared.index["split"]) == ["train2017"] * 3 + ["val2017"] * 3
    table = np.full(256, 255)
    names = ["clouds", "grass", "road", "water-other"]
    table[[coco.FINE_NAMES.index(n) for n in names]] = (
        [11, 10, 9, 14] if variant == "stuff15" else [0, 1, 2, 255]
    )
    for i, image_id in enumerate(prepared.index["id"]):
        labels = rescale_labels(table[fine[image_id]].astype(np.uint8), 0.33)
        np.testing.assert_array_equal(prepared.label(i), labels)
        split = prepared.index["split"][i]
        photo = np.asarray(Image.open(tmp_path / f"raw/images/{split}/{image_id}.jpg"))
        np.testing.assert_array_equal(prepared.image(i), rescale_iic(photo, 0.33))
    assert prepared.meta.classes == (STUFF if variant == "stuff15" else ["sky", "plant", "ground"])
    assert set(prepared.meta.sources) == {f"curated/{s}/{coco.LISTS[variant]}" for s in coco.SPLITS}
    assert str(tmp_path) not in (tmp_path / "out/meta.json").read_text()
    assert "not IIC's published ones" in prepared.meta.notes[0]
    monkeypatch.setattr(coco, "IIC_LISTS", set(prepared.meta.sources.values()))
    assert prepare_stuff(tmp_path, variant=variant).meta.notes == []


def test_other_layouts_give_the_same_bytes(tmp_path):
    write_stuff(tmp_path / "a")
    expected = prepare_stuff(tmp_path, "a").meta
    layouts = [("{}", "{}"), ("{}", "stuffthingmaps/{}"), ("images/{}", "annotations/{}")]
    for i, (images, maps) in enumerate(layouts):
        write_stuff(tmp_path / f"b{i}", images=images, maps=maps)
        assert prepare_stuff(tmp_path, f"b{i}").meta == expected


def test_unlabelled_pixels_can_be_sky_as_in_iic(tmp_path):
    fine = write_stuff(tmp_path / "raw", n=1)
    prepared = prepare_stuff(tmp_path, unlabelled="sky")
    small = rescale_labels(fine["000000000001"], 0.33)
    expected = np.isin(small, [105, 255])  # clouds and unlabelled
    np.testing.assert_array_equal(prepared.label(0) == 0, expected)
    assert (prepared.label(0)[small == 0] == 255).all()  # a person stays ignored
    with pytest.raises(ValueError, match="stuff3"):
        prepare_stuff(tmp_path, variant="stuff15", unlabelled="sky")


# --- Masks ---------------------------------------------------------------------------------------


def test_a_polygon_covers_its_pixels_and_parts_are_a_union():
    two = [[0, 0, 1, 0, 1, 1, 0, 1], [0, 0, 2, 0, 2, 1, 0, 1]]  # overlapping
    assert coco.mask_of(two, 2, 3).tolist() == [[True, True, False], [False] * 3]
    assert coco.mask_of([[-2, -2, 5, -2, 5, 4, -2, 4]], 2, 3).all()  # 2 px outside are allowed


HAND = np.zeros((7, 9), bool)
HAND[1:6, 2:5], HAND[3, 3], HAND[0, 8] = 1, 0, 1
COUNTS = [15, 5, 2, 2, 1, 2, 2, 5, 22, 1, 6]  # HAND, read down the columns


def test_run_lengths():
    np.testing.assert_array_equal(coco.mask_of({"counts": COUNTS, "size": [7, 9]}, 7, 9), HAND)


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [[0, 0, 1, 1]],
        [[0, 0, 1, 1, 2]],
        [[0, 0, "a", 1, 2, 2]],
        [[0, 0, 20.5, 0, 5, 5]],
        {"counts": [-1, 64], "size": [7, 9]},
        {"counts": [2**62] * 4 + [63], "size": [7, 9]},
        {"counts": [61.5, 1.5], "size": [7, 9]},
        {"counts": [63], "size": [9, 7]},
        {"counts": "?5", "size": [7, 9]},
    ],
)
def test_broken_masks_are_refused(segmentation):
    with pytest.raises((ValueError, TypeError)):
        coco.mask_of(segmentation, 7, 9)


# --- Persons -------------------------------------------------------------------------------------


def box(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def crowd_rle(height, width, rows):
    """Run lengths, down the columns, of a band of rows across a picture."""
    above, inside, below = rows.start, rows.stop - rows.start, height - rows.stop
    runs = [above, inside] + [below + above, inside] * (width - 1) + [below]
    return {"counts": runs, "size": [height, width]}


def write_persons(raw, entries, split="val2017"):
    """entries: (id, (height, width), [(category, segmentation, iscrowd)])."""
    (raw / "images" / split).mkdir(parents=True)
    (raw / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for image_id, (height, width), shapes in entries:
        name = f"{image_id:012d}.jpg"
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        Image.new("RGB", (width, height), (image_id, 0, 0)).save(raw / "images" / split / name)
        for category, segmentation, crowd in shapes:
            annotation = {"id": 1000 + len(annotations), "image_id": image_id, "iscrowd": crowd}
            annotation |= {"category_id": category, "segmentation": segmentation}
            annotations.append(annotation)
    categories = [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (raw / f"annotations/instances_{split}.json").write_text(json.dumps(content))


def prepare_persons(tmp_path, **more):
    rule = {"shorter_side": None, "min_person_share": 0, "min_side": 0, "splits": ["val2017"]}
    return prepare_raw("coco_persons", tmp_path / "raw", tmp_path / "out", **(rule | more))


def test_persons_only_selected_and_rescaled(tmp_path):
    car = (3, box(0, 0, 9, 9), 0)
    entries = [
        (4, (20, 30), [(1, box(0, 0, 3, 20), 0), car]),  # share 0.1
        (1, (20, 30), [(1, box(0, 0, 30, 20), 0)]),  # 1
        (2, (20, 30), [(1, box(0, 0, 15, 20), 0)]),  # 0.5
        (3, (10, 30), [(1, box(0, 0, 15, 10), 0)]),  # 0.5, but small
        (5, (20, 30), [car]),
    ]
    write_persons(tmp_path / "raw", entries)
    for rules, expected in (
        ({}, [1, 2, 3, 4]),
        ({"min_person_share": 0.5}, [1, 2, 3]),
        ({"max_person_share": 0.5}, [2, 3, 4]),
        ({"min_side": 11}, [1, 2, 4]),
        ({"min_side": 11, "max_person_share": 0.2}, [4]),
        ({"images": 3}, [1, 2, 3]),
        ({"images": 1, "max_person_share": 0.3}, [4]),
        ({"images": 9, "min_person_share": 0.3}, [1, 2, 3]),  # never below what is set
    ):
        assert prepare_persons(tmp_path, **rules).index["id"].astype(int).tolist() == expected
    with pytest.raises(DataError, match="no image"):
        prepare_persons(tmp_path, min_person_share=0.6, max_person_share=0.7)
    prepared = prepare_persons(tmp_path, shorter_side=300)
    assert prepared.image(0).shape == (20, 30, 3)  # never enlarged
    assert prepared.label(3).tolist() == [[1] * 3 + [0] * 27] * 20
    assert prepared.meta.classes == ["non-person", "person"]
    assert "reconstruction" in prepared.meta.notes[0]
    assert list(prepared.meta.sources) == ["annotations/instances_val2017.json"]
    half = prepare_persons(tmp_path, shorter_side=10, min_side=11, images=2)
    assert half.label(1).shape == (10, 15) and (half.label(1) == (np.arange(15) < 8)).all()
    assert half.meta.parameters["min_person_share"] == 0.0
    assert half.meta.parameters["chosen"] == {"min_person_share": 0.2, "images": 2}
    assert "min_person_share 0.2 was chosen because 2 images" in half.meta.notes[1]


def test_crowd_rules(tmp_path):
    crowd = (1, crowd_rle(20, 30, slice(0, 10)), 1)
    band, line = (1, box(0, 5, 30, 15), 0), (1, box(0, 0, 30, 1), 0)
    people = enumerate(([band, crowd], [crowd], [line]), start=1)
    write_persons(tmp_path / "raw", [(i, (20, 30), shapes) for i, shapes in people])
    lone = [1] + [0] * 19
    for rule, ids, first_column in (
        ("ignore", [1, 3], [255] * 5 + [1] * 10 + [0] * 5),  # a crowd alone shows no person
        ("person", [1, 2, 3], [1] * 15 + [0] * 5),
        ("exclude", [3], lone),
    ):
        prepared = prepare_persons(tmp_path, crowd=rule)
        assert prepared.index["id"].astype(int).tolist() == ids
        assert prepared.label(0)[:, 0].tolist() == first_column
        assert prepared.label(len(ids) - 1)[:, 0].tolist() == lone


def test_of_thresholds_as_near_the_roundest_is_taken():
    shares = np.sort(np.append(np.full(5, 0.7), [0.1234, 0.1987, 0.2]))
    expected = {5: (0.3, 5), 6: (0.2, 6), 7: (0.13, 7), 100: (0.0, 8), 0: (1.0, 0)}
    assert {target: coco.nearest_share(shares, target) for target in expected} == expected
    assert coco.nearest_share(shares, 8, at_least=0.12345) == (0.12345, 7)
    assert coco.nearest_share(np.array([]), 5) == (0.0, 0)


def test_an_image_of_both_splits_is_an_error_or_left_out_once(tmp_path):
    for split, ids in (("train2017", (1, 2)), ("val2017", (2, 3))):
        people = [(i, (10, 20), [(1, box(0, 0, 5, 5), 0)]) for i in ids]
        write_persons(tmp_path / "raw", people, split)
    with pytest.raises(DataError, match="id '000000000002' occurs twice. Rename or remove one"):
        prepare_persons(tmp_path, splits=coco.SPLITS)
    prepared = prepare_persons(tmp_path, splits=coco.SPLITS, on_bad_input="skip")
    assert prepared.index["id"].astype(int).tolist() == [1, 2, 3]
    assert prepared.index["split"].tolist() == ["train2017", "train2017", "val2017"]
