"""COCO's instances files: masks bit by bit, and every kind of damage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from test_raw import pack_folder

from infoseg.data.coco import prepare_coco_persons, scan_coco_persons
from infoseg.data.coco_instances import person_masks, read_photos
from infoseg.data.coco_masks import mask_of
from infoseg.data.store import load_prepared
from infoseg.errors import DataError

PERSON = [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}]


def person(x0, y0, x1, y1, **more):
    outline = [x0, y0, x1, y0, x1, y1, x0, y1]
    return {"category_id": 1, "segmentation": [outline], "iscrowd": 0} | more


def instances(people, size=(100, 10)):
    """The content of a file: image id -> its annotations; all images have one size, w x h."""
    width, height = size
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "height": height, "width": width} for i in people
    ]
    annotations = [
        {"id": i, "image_id": i} | annotation for i, list_ in people.items() for annotation in list_
    ]
    return {"images": images, "annotations": annotations, "categories": PERSON}


def write_instances(raw, people, split="val2017", size=(100, 10)):
    (raw / "images" / split).mkdir(parents=True)
    (raw / "annotations").mkdir(exist_ok=True)
    for i in people:
        Image.new("RGB", size, (i, 0, 0)).save(raw / "images" / split / f"{i:012d}.jpg")
    file = raw / "annotations" / f"instances_{split}.json"
    file.write_text(json.dumps(instances(people, size)))
    return file


def test_masks_are_bit_by_bit_those_of_the_whole_file(tmp_path):
    random = np.random.default_rng(0)
    people = {
        i: [
            person(0, 0, 1, 1, segmentation=[(random.random(14) * 10).tolist() for _ in range(n)])
            for n in (1, 3)
        ]
        + [
            person(0, 0, 1, 1, segmentation={"counts": [i, 3, 997 - i], "size": [10, 100]}),
            person(0, 0, 1, 1, segmentation={"counts": "T1o00ln0", "size": [10, 100]}),
        ]
        for i in (5, 2, 9)
    }
    for annotation in people[5]:
        annotation["iscrowd"] = 1
    del people[2][-1], people[5][-1], people[9][-1]
    file = write_instances(tmp_path, people)
    photos = read_photos(file, "val2017")
    assert [photo.id for photo in photos] == [2, 5, 9]
    for photo in photos:
        expected = np.zeros((2, 10, 100), bool)
        for annotation in people[photo.id]:
            mask = mask_of(annotation["segmentation"], 10, 100)
            expected[annotation["iscrowd"]] |= mask
        np.testing.assert_array_equal(person_masks(photo, file), expected)
        assert expected.any()


@pytest.mark.parametrize("name", ["../../up/1.jpg", "/etc/1.jpg", "a/b/1.jpg", "..\\up\\1.jpg"])
def test_a_file_name_never_is_a_path(tmp_path, name):
    content = instances({1: [person(0, 0, 5, 5)]})
    content["images"][0]["file_name"] = name
    (tmp_path / "f.json").write_text(json.dumps(content))
    assert read_photos(tmp_path / "f.json", "val2017")[0].file_name == "1.jpg"


def _change(key, place, **values):
    def change(content):
        content[key][place].update(values)

    return change


FILE_FAULTS = {
    "height that is no number": _change("images", 1, height="tall"),
    "infinite height": _change("images", 1, height=float("inf")),
    "no file name": _change("images", 1, file_name=None),
    "file name without a name": _change("images", 1, file_name=".."),
    "file name with a zero": _change("images", 1, file_name="a\0.jpg"),
    "image id in a list": _change("annotations", 1, image_id=[2]),
    "image id that is text": _change("annotations", 1, image_id="2"),
    "category in a list": _change("annotations", 1, category_id=[1]),
    "images that are numbers": lambda content: content.update(images=[1, 2]),
    "annotations that are lists": lambda content: content.update(annotations=[[]]),
    "categories that are text": lambda content: content.update(categories="person"),
    "no annotations": lambda content: content.pop("annotations"),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_file_of_another_structure_is_named(tmp_path, fault):
    content = instances({i: [person(0, 0, 5, 5)] for i in (1, 2, 3)})
    FILE_FAULTS[fault](content)
    file = tmp_path / "instances_val2017.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="instances_val2017.json: is not a COCO instances file"):
        read_photos(file, "val2017")


DAMAGES = {
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut at the end": lambda content: content[:-1],
    "no UTF-8": lambda content: content.replace(b'"height"', b'"hei\xffht"', 1),
    "twice": lambda content: content + content,
    "nested 100,000 deep": lambda content: content[:-1] + b', "x": ' + b"[" * 100_000,
    "height that is NaN": lambda content: content.replace(b'"height": 10', b'"height": NaN'),
    "empty": lambda content: b"",
    "no object": lambda content: b"[" + content + b"]",
    "a web page": lambda content: b"<html>404</html>",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(tmp_path, damage):
    file = write_instances(tmp_path, {1: [person(0, 0, 5, 5)]})
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    with pytest.raises(DataError, match="is not a COCO instances file") as caught:
        read_photos(file, "val2017")
    assert caught.value.file == file


PHOTO_FAULTS = {
    "negative width": (_change("images", 1, width=-3), "has -3 x 10 pixels"),
    "memory's end": (_change("images", 1, width=10**9), "has 1000000000 x 10 pixels"),
    "coordinate of 400 digits": (
        _change("annotations", 1, segmentation=[[10**400] * 6]),
        "annotation 2 of 000000000002.jpg: polygon is not a flat list",
    ),
    "size that is no list": (
        _change("annotations", 1, segmentation={"counts": [1000], "size": 10}),
        "annotation 2 of 000000000002.jpg: run-length mask of size 10",
    ),
    "run lengths that wrap around": (
        _change("annotations", 1, segmentation={"counts": [2**62] * 4 + [1000], "size": [10, 100]}),
        "annotation 2 of 000000000002.jpg: run lengths do not add up",
    ),
    "run lengths with fractions": (
        _change("annotations", 1, segmentation={"counts": [999.5, 1.5], "size": [10, 100]}),
        "annotation 2 of 000000000002.jpg: run lengths are not integers",
    ),
    "run length without an end": (
        _change("annotations", 1, segmentation={"counts": "o" * 10**6, "size": [10, 100]}),
        "annotation 2 of 000000000002.jpg: compressed run lengths contain a number of over",
    ),
}


@pytest.mark.parametrize("fault", PHOTO_FAULTS)
def test_an_image_with_a_fault_can_be_left_out(tmp_path, fault):
    change, message = PHOTO_FAULTS[fault]
    file = write_instances(tmp_path / "raw", {i: [person(0, 0, 5, 5)] for i in (1, 2, 3)})
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        scan_coco_persons(tmp_path / "raw", ["val2017"])
    assert caught.value.file == file
    table = scan_coco_persons(tmp_path / "raw", ["val2017"], on_bad_input="skip")
    assert table["id"].tolist() == [1, 3]


def test_an_image_listed_twice_in_the_same_way_does_no_harm(tmp_path):
    file = write_instances(tmp_path, {i: [person(0, 0, 5, 5)] for i in (1, 2)})
    content = json.loads(file.read_text())
    content["images"].append(content["images"][1])
    file.write_text(json.dumps(content))
    assert [photo.file_name for photo in read_photos(file, "val2017")][1] == "000000000002.jpg"


def test_an_image_of_both_splits_is_an_error_or_left_out_once(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_instances(raw, {i: [person(0, 0, 5, 5)] for i in (1, 2)}, "train2017")
    write_instances(raw, {i: [person(0, 0, 5, 5)] for i in (2, 3)}, "val2017")
    message = "val2017/000000000002.jpg: has the name of an image of train2017"
    with pytest.raises(DataError, match=message):
        prepare_coco_persons(raw, out, name="p", scale=1.0)
    assert not out.exists()
    prepare_coco_persons(raw, out, name="p", scale=1.0, on_bad_input="skip")
    index = load_prepared(out).index
    assert [int(i) for i in index["id"]] == [1, 2, 3]
    assert index["split"].tolist() == ["train2017", "train2017", "val2017"]


def test_archives_give_the_same_bytes_as_folders(tmp_path):
    raw = tmp_path / "raw"
    write_instances(raw, {i: [person(0, 0, 9 * i, 9)] for i in (1, 2, 3)})
    archives = tmp_path / "zips"
    pack_folder(archives / "annotations_trainval2017.zip", raw / "annotations", "annotations/")
    pack_folder(archives / "val2017.zip", raw / "images")
    files = []
    for place in (raw, archives):
        prepare_coco_persons(
            place, tmp_path / "out", name="p", splits=["val2017"], scale=1.0, images=2
        )
        files.append(load_prepared(tmp_path / "out").meta)
    assert files[0].files == files[1].files
    assert files[0].sources == files[1].sources
    table = scan_coco_persons(archives, ["val2017"])
    assert table.equals(scan_coco_persons(raw, ["val2017"]))
