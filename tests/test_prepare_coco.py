"""COCO: label tables, rescaling as IIC's cv2 does it, masks, selection, and every kind of fault."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from infoseg.data import coco, coco_layout
from infoseg.data import coco_classes as classes
from infoseg.data.coco import (
    prepare_coco_persons,
    prepare_coco_stuff,
    scan_coco_persons,
)
from infoseg.data.coco_masks import decode_counts, mask_of, polygon_mask, rle_mask
from infoseg.data.imaging import (
    fit_shorter_side,
    read_labels,
    read_rgb,
    rescale_iic,
    rescale_labels,
)
from infoseg.data.store import load_prepared
from infoseg.errors import DataError

# The coarse class of every fine one by its value, as STEGO's code and IIC's pickle number them. The
# module groups by name instead.
PUBLISHED = """
9 11 11 11 11 11 11 11 11 8 8 8 8 8 8 7 7 7 7 7 7 7 7 7 7 6 6 6 6 6 6 6 6 10 10 10 10 10 10 10 10
10 10 5 5 5 5 5 5 5 5 2 2 2 2 2 2 2 2 2 2 3 3 3 3 3 3 3 3 3 3 0 0 0 0 0 0 1 1 1 1 1 1 4 4 4 4 4 4
4 4 17 17 22 20 20 22 15 25 16 13 12 12 17 17 23 15 15 17 15 21 15 25 13 13 13 13 13 22 26 14 14
15 22 21 21 24 20 22 15 17 16 15 22 24 21 17 25 16 21 17 22 16 21 21 25 21 26 21 24 20 17 14 21 26
15 23 20 21 24 15 24 22 25 15 20 17 17 22 14 18 18 18 18 18 18 18 26 26 19 19 24
"""
COARSE = """
electronic appliance food furniture indoor kitchen accessory animal outdoor person sports vehicle
ceiling floor food furniture rawmaterial textile wall window building ground plant sky solid
structural water
""".split()


def test_every_fine_class_maps_as_published():
    published = [int(number) for number in PUBLISHED.split()]
    assert len(published) == len(set(classes.FINE_NAMES)) == 182
    assert list(classes.COARSE_NAMES) == COARSE
    assert list(classes.STUFF15_CLASSES) == COARSE[12:]
    assert classes.fine_to_coarse().tolist() == published
    expected15 = [coarse - 12 if coarse >= 12 else 255 for coarse in published]
    of_three = {COARSE.index(name): i for i, name in enumerate(("sky", "plant", "ground"))}
    expected3 = [of_three.get(coarse, 255) for coarse in published]
    for lookup, expected in (
        (classes.stuff15_lookup(), expected15),
        (classes.stuff3_lookup(), expected3),
    ):
        assert lookup.tolist() == expected + [255] * 74  # and what is no class
    # The numbers are of these names.
    for fine, coarse in (("person", "person"), ("sea", "water"), ("wood", "solid")):
        assert COARSE[published[classes.FINE_NAMES.index(fine)]] == coarse


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(4, 90),
    width=st.integers(4, 90),
    channels=st.sampled_from([1, 3, 4]),
    scale=st.one_of(st.just(0.33), st.floats(0.2, 0.99)),
    seed=st.integers(0, 2**32 - 1),
    flat=st.booleans(),
)
def test_rescaling_is_cv2_on_floats_bit_by_bit(height, width, channels, scale, seed, flat):
    random = np.random.default_rng(seed)
    # In flat regions a different order of additions already changes what is truncated.
    image = random.integers(0, 256, (1, 1, channels) if flat else (height, width, channels))
    image = np.broadcast_to(image, (height, width, channels)).astype(np.uint8)
    expected = cv2.resize(
        image.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR
    )
    expected = expected.reshape(*expected.shape[:2], channels).astype(np.uint8)
    np.testing.assert_array_equal(rescale_iic(image, scale), expected)
    rows, columns = (
        np.minimum(np.floor(np.arange(round(side * scale)) / scale).astype(int), side - 1)
        for side in (height, width)
    )
    labels = image[..., 0]
    np.testing.assert_array_equal(rescale_labels(labels, scale), labels[np.ix_(rows, columns)])


def test_extreme_scales():
    image = np.full((1, 50, 3), 9, np.uint8)
    assert rescale_iic(image, 0.33).shape == (1, 16, 3)  # cv2 alone would fail on zero rows
    assert rescale_labels(image[..., 0], 0.33).shape == (1, 16)
    assert rescale_iic(image, 1) is image
    assert fit_shorter_side((480, 640), 128) == 128 / 480
    assert fit_shorter_side((100, 640), 128) == 1


# --- Stuff ---------------------------------------------------------------------------------------

LISTS = coco_layout.LISTS


def write_stuff(raw, *, images="images/{}", maps="stuffthingmaps/{}", n=3, size=(30, 40)):
    """Write a small COCO-Stuff in the official layout; return the fine maps by id."""
    random = np.random.default_rng(0)
    fine = {}
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
            photo.save(folders[0] / f"{image_id}.jpg", quality=95)
            Image.fromarray(fine[image_id]).save(folders[1] / f"{image_id}.png")
        for file in LISTS.values():
            (folders[2] / file).write_text("".join(i + "\n" for i in ids))
    return fine


@pytest.mark.parametrize("variant", ["stuff15", "stuff3"])
def test_stuff_from_raw_file_to_prepared_array(tmp_path, variant):
    fine = write_stuff(tmp_path / "raw")
    prepare_coco_stuff(tmp_path / "raw", tmp_path / "out", name="cs", variant=variant)
    prepared = load_prepared(tmp_path / "out", verify=True)
    assert list(prepared.index["id"]) == [f"{i:012d}" for i in (3, 2, 1, 102, 101, 100)]
    assert list(prepared.index["split"]) == ["train2017"] * 3 + ["val2017"] * 3
    table = np.full(256, 255)
    names = ["clouds", "grass", "road", "water-other"]
    table[[classes.FINE_NAMES.index(n) for n in names]] = (
        [11, 10, 9, 14] if variant == "stuff15" else [0, 1, 2, 255]
    )
    for i, image_id in enumerate(prepared.index["id"]):
        np.testing.assert_array_equal(
            prepared.label(i), rescale_labels(table[fine[image_id]].astype(np.uint8), 0.33)
        )
        split = prepared.index["split"][i]
        photo = np.asarray(Image.open(tmp_path / f"raw/images/{split}/{image_id}.jpg"))
        np.testing.assert_array_equal(prepared.image(i), rescale_iic(photo, 0.33))
    assert prepared.meta.classes == list(
        classes.STUFF15_CLASSES if variant == "stuff15" else ("sky", "plant", "ground")
    )
    assert set(prepared.meta.sources) == {
        f"curated/{s}/{LISTS[variant]}" for s in ("train2017", "val2017")
    }
    assert "not IIC's published ones" in prepared.meta.notes[0]
    assert str(tmp_path) not in (tmp_path / "out/meta.json").read_text()


@pytest.mark.parametrize(
    ("images", "maps"), [("{}", "{}"), ("{}", "stuffthingmaps/{}"), ("images/{}", "annotations/{}")]
)
def test_other_layouts_give_the_same_bytes(tmp_path, images, maps):
    for name, layout in (("a", {}), ("b", {"images": images, "maps": maps})):
        write_stuff(tmp_path / name, **layout)
        prepare_coco_stuff(tmp_path / name, tmp_path / f"out{name}", name="cs", variant="stuff3")
    assert (tmp_path / "outa/meta.json").read_bytes() == (tmp_path / "outb/meta.json").read_bytes()


def test_unlabelled_pixels_can_be_sky_as_in_iic(tmp_path):
    fine = write_stuff(tmp_path / "raw", n=1)
    prepare_coco_stuff(
        tmp_path / "raw", tmp_path / "out", name="cs", variant="stuff3", unlabelled="sky"
    )
    prepared = load_prepared(tmp_path / "out")
    small = rescale_labels(fine["000000000001"], 0.33)
    expected = np.isin(small, [105, 255])  # clouds and unlabelled
    np.testing.assert_array_equal(prepared.label(0) == 0, expected)
    assert (prepared.label(0)[small == 0] == 255).all()  # a person stays ignored
    with pytest.raises(ValueError, match="stuff3"):
        prepare_coco_stuff(
            tmp_path / "raw", tmp_path / "out", name="cs", variant="stuff15", unlabelled="sky"
        )


def test_which_values_a_map_may_have():
    fine = np.full((3, 4), 255, np.uint8)
    for value in range(256):
        fine[1, 2] = value
        if value in {*range(182), 255}:
            coco._check_fine_values(fine, Path("map.png"))
            continue
        with pytest.raises(DataError, match=f"map.png: value {value} at row 1, column 2"):
            coco._check_fine_values(fine, Path("map.png"))


def test_grey_and_cmyk_photos_become_rgb(tmp_path):
    grey = Image.fromarray(np.full((8, 8), 90, np.uint8))
    grey.save(tmp_path / "grey.jpg")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    assert (read_rgb(tmp_path / "grey.jpg") == 90).all()
    red = read_rgb(tmp_path / "cmyk.jpg")
    assert red.shape == (8, 8, 3) and red[..., 0].min() > 200 and red[..., 1:].max() < 60


CODINGS = {
    "colour thinned out": {},
    "colour in full": {"subsampling": 0},
    "colour thinned out in rows": {"subsampling": 1},
    "progressive": {"progressive": True},
    "not YCbCr": {"keep_rgb": True, "subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
    "turned": {"exif": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"},
}


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("coding", CODINGS)
def test_jpegs_have_pillows_pixels_however_they_are_coded(tmp_path, coding, upright):
    random = np.random.default_rng(0)
    file = tmp_path / "a.jpg"
    for size in ((1, 1), (9, 17), (40, 33)):
        pixels = cv2.resize(random.integers(0, 256, (5, 7, 3), np.uint8), size)
        Image.fromarray(pixels).save(file, **CODINGS[coding])
        picture = Image.open(file)
        picture = ImageOps.exif_transpose(picture) if upright else picture
        turned = upright and coding == "turned"
        assert read_rgb(file, upright=upright).shape[:2] == (size if turned else size[::-1])
        np.testing.assert_array_equal(
            read_rgb(file, upright=upright), np.asarray(picture.convert("RGB"))
        )


@pytest.mark.parametrize("bits", [8, 4, 1])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_maps_have_the_values_that_pillow_reads(tmp_path, mode, bits):
    values = np.random.default_rng(0).integers(0, 2**bits, (9, 14), np.uint8)
    picture = Image.frombytes(mode, (14, 9), values.tobytes())
    if mode == "P":
        picture.putpalette([1, 2, 3] * 256)
    picture.save(tmp_path / "a.png", **({} if bits == 8 else {"bits": bits}))
    expected = Image.open(tmp_path / "a.png")
    if expected.mode not in ("L", "P"):  # one bit of grey is no map
        with pytest.raises(DataError, match="palette indices"):
            read_labels(tmp_path / "a.png")
        return
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), np.asarray(expected))


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_picture_that_ends_early_is_an_error_wherever_it_ends(tmp_path, ending):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8)
    picture = Image.fromarray(pixels)
    whole, read = tmp_path / f"a.{ending}", read_labels
    if ending == "jpg":
        picture, read = picture.convert("RGB"), read_rgb
    picture.save(whole)
    content = whole.read_bytes()
    # Behind a PNG's pixels stand 20 bytes of checksums and end marks, which are not missed.
    end = len(content) - (20 if ending == "png" else 0)
    for length in (*range(0, end, 7), *range(end - 20, end)):
        whole.write_bytes(content[:length])
        with pytest.raises(DataError, match="cannot be decoded|is not a picture"):
            read(whole)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Two lists that count as IIC's, of three ids and of one, and the table that says so."""
    files = {"train2017": tmp_path / "train.txt", "val2017": tmp_path / "val.txt"}
    table = {}
    for file, (split, ids) in zip(
        files.values(), {"train2017": "1\n2\n3\n", "val2017": "4\n"}.items(), strict=True
    ):
        file.write_text(ids)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        table[digest] = ("stuff3", split, len(ids.split()))
    monkeypatch.setattr(coco_layout, "IIC_LISTS", table)
    monkeypatch.setattr(coco_layout, "IIC_TOTALS", {"stuff3": 4})
    return files, table


def test_published_lists_are_recognised_by_their_hash(published):
    files, _ = published
    expected = {"train2017": ["1", "2", "3"], "val2017": ["4"]}
    assert coco_layout.read_iic_lists(files, "stuff3") == (expected, True)
    files["val2017"].write_text("5\n")
    assert coco_layout.read_iic_lists(files, "stuff3") == (expected | {"val2017": ["5"]}, False)


def test_published_lists_must_have_the_published_counts(published, monkeypatch):
    files, table = published
    monkeypatch.setattr(coco_layout, "IIC_TOTALS", {"stuff3": 5})
    with pytest.raises(DataError, match="4 ids were read instead of the published 5"):
        coco_layout.read_iic_lists(files, "stuff3")
    for digest in table:
        table[digest] = (*table[digest][:2], 2)
    with pytest.raises(DataError, match="train.txt: 3 ids were read instead of the published 2"):
        coco_layout.read_iic_lists(files, "stuff3")


def test_published_lists_must_stand_in_their_own_place(published):
    files, _ = published
    swapped = dict(zip(files, reversed(files.values()), strict=True))
    with pytest.raises(DataError, match="val.txt: is IIC's list for stuff3, val2017, not for st"):
        coco_layout.read_iic_lists(swapped, "stuff3")
    with pytest.raises(DataError, match="is IIC's list for stuff3, train2017, not for stuff15"):
        coco_layout.read_iic_lists(files, "stuff15")
    files["val2017"].write_text("7\n2\n")
    with pytest.raises(DataError, match="val.txt: the id 2 is in the list of train2017, too"):
        coco_layout.read_iic_lists(files, "stuff3")


# --- Masks ---------------------------------------------------------------------------------------


def inside_by_hand(points, height, width):
    """Even-odd rule for every pixel centre, one pixel and one edge at a time."""
    corners = list(zip(points[::2], points[1::2], strict=True))
    mask = np.zeros((height, width), bool)
    for r in range(height):
        for c in range(width):
            x, y, odd = c + 0.5, r + 0.5, False
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 > y) != (y1 > y) and x > x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                    odd = not odd
            mask[r, c] = odd
    return mask


@pytest.mark.parametrize("seed", range(8))
def test_polygons_against_point_in_polygon(seed):
    random = np.random.default_rng(seed)
    # Self-intersecting as annotators' polygons are, and hanging over by up to 2 px.
    points = (random.random((random.integers(3, 12), 2)) * (21, 15) - (1.9, 1.9)).ravel().tolist()
    mask = polygon_mask(points, 12, 18)
    np.testing.assert_array_equal(mask, inside_by_hand(points, 12, 18))


def test_rectangles_cover_exactly_their_pixels():
    mask = polygon_mask([2, 1, 5, 1, 5, 4, 2, 4], 6, 8)
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(mask, expected)
    two = [[0, 0, 1, 0, 1, 1, 0, 1], [0, 0, 2, 0, 2, 1, 0, 1]]  # overlapping parts are a union
    assert mask_of(two, 2, 3).tolist() == [[True, True, False], [False] * 3]


HAND = np.zeros((7, 9), np.uint8)
HAND[1:6, 2:5], HAND[3, 3], HAND[0, 8] = 1, 0, 1
COUNTS = [15, 5, 2, 2, 1, 2, 2, 5, 22, 1, 6]  # HAND, read down the columns


def test_run_lengths_in_both_forms():
    np.testing.assert_array_equal(rle_mask(COUNTS, 7, 9), HAND)
    np.testing.assert_array_equal(mask_of({"counts": COUNTS, "size": [7, 9]}, 7, 9), HAND)
    # What pycocotools.mask.encode writes for the same array.
    np.testing.assert_array_equal(mask_of({"counts": "?52MO013d0L@", "size": [7, 9]}, 7, 9), HAND)
    assert decode_counts(b"?52MO013d0L@") == COUNTS
    assert decode_counts("U>]2=") == [453, 77, 13]  # numbers of more than five bits


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 1, 1]], "2 points"),
        ([[0, 0, 1, 1, 2]], "pairs"),
        ([[0, 0, "a", 1, 2, 2]], "pairs"),
        ([[0, 0, 20.5, 0, 5, 5]], "outside its image"),
        ([[0, -2.5, 5, 0, 5, 5]], "outside its image"),
        ([[0, float("nan"), 5, 0, 5, 5]], "outside its image"),
        ([], "neither"),
        (None, "neither"),
        ({"counts": [5, 5], "size": [7, 9]}, "add up"),
        ({"counts": [-1, 64], "size": [7, 9]}, "add up"),
        ({"counts": ["x"], "size": [7, 9]}, "not integers"),
        ({"counts": [63], "size": [9, 7]}, "size"),
        ({"counts": "?52MO013d0L", "size": [7, 9]}, "add up|middle"),
        ({"counts": "?5\n", "size": [7, 9]}, "no code"),
    ],
)
def test_broken_masks_are_refused(segmentation, message):
    with pytest.raises(DataError, match=message):
        mask_of(segmentation, 7, 9)


# --- Persons -------------------------------------------------------------------------------------


def box(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def crowd_rle(height, width, rows):
    mask = np.zeros((height, width), np.uint8)
    mask[rows] = 1
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"counts": counts, "size": [height, width]}


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
            annotations.append(
                {
                    "id": 1000 + len(annotations),
                    "image_id": image_id,
                    "category_id": category,
                    "segmentation": segmentation,
                    "iscrowd": crowd,
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}],
    }
    file = raw / f"annotations/instances_{split}.json"
    file.write_text(json.dumps(content))
    return file


def prepare_persons(tmp_path, **more):
    settings = {"name": "p", "splits": ["val2017"], "scale": 1.0} | more
    prepare_coco_persons(tmp_path / "raw", tmp_path / "out", **settings)
    return load_prepared(tmp_path / "out", verify=True)


def test_persons_only_and_in_id_order(tmp_path):
    write_persons(
        tmp_path / "raw",
        [
            (9, (20, 30), [(1, box(0, 0, 3, 20), 0), (3, box(5, 5, 9, 9), 0)]),
            (4, (20, 30), [(3, box(0, 0, 9, 9), 0)]),  # a car alone
            (7, (20, 30), [(1, box(1, 1, 2, 2), 0)]),
        ],
    )
    prepared = prepare_persons(tmp_path)
    assert list(prepared.index["id"]) == ["000000000007", "000000000009"]
    expected = np.zeros((20, 30))
    expected[:, :3] = 1
    np.testing.assert_array_equal(prepared.label(1), expected)
    assert prepared.meta.classes == ["non-person", "person"]
    assert "reconstruction" in prepared.meta.notes[0]
    assert list(prepared.meta.sources) == ["annotations/instances_val2017.json"]
    shares = scan_coco_persons(tmp_path / "raw", ["val2017"])
    assert shares["person_share"].tolist() == [1 / 600, 60 / 600]


def test_selection_rules(tmp_path):
    write_persons(
        tmp_path / "raw",
        [
            (1, (20, 30), [(1, box(0, 0, 30, 20), 0)]),  # share 1
            (2, (20, 30), [(1, box(0, 0, 15, 20), 0)]),  # share 0.5
            (3, (10, 30), [(1, box(0, 0, 15, 10), 0)]),  # 0.5, but small
            (4, (20, 30), [(1, box(0, 0, 3, 20), 0)]),  # 0.1
        ],
    )

    def chosen(**rules):
        return [int(i) for i in prepare_persons(tmp_path, **rules).index["id"]]

    assert chosen() == [1, 2, 3, 4]
    assert chosen(min_person_share=0.5) == [1, 2, 3]
    assert chosen(max_person_share=0.5) == [2, 3, 4]
    assert chosen(min_side=11) == [1, 2, 4]
    assert chosen(limit=2) == [1, 2]
    assert chosen(limit=1, min_side=11, max_person_share=0.2) == [4]
    with pytest.raises(DataError, match="no image"):
        chosen(min_person_share=0.6, max_person_share=0.7)


def test_persons_rescaling(tmp_path):
    write_persons(tmp_path / "raw", [(1, (100, 200), [(1, box(0, 0, 100, 100), 0)])])
    assert prepare_persons(tmp_path, scale=0.33).image(0).shape == (33, 66, 3)
    half = prepare_persons(tmp_path, shorter_side=50)
    assert half.label(0).shape == (50, 100)
    assert (half.label(0) == (np.arange(100) < 50)).all()
    assert half.meta.parameters["scale"] is None
    assert prepare_persons(tmp_path, shorter_side=300).image(0).shape == (100, 200, 3)


def test_crowd_rules(tmp_path):
    crowd = (1, crowd_rle(20, 30, slice(0, 10)), 1)
    write_persons(
        tmp_path / "raw",
        [
            (1, (20, 30), [(1, box(0, 5, 30, 15), 0), crowd]),
            (2, (20, 30), [crowd]),
            (3, (20, 30), [(1, box(0, 0, 30, 1), 0)]),
        ],
    )
    ignored = prepare_persons(tmp_path, crowd="ignore")
    assert [int(i) for i in ignored.index["id"]] == [1, 3]  # a crowd alone shows no person
    assert ignored.label(0)[:, 0].tolist() == [255] * 5 + [1] * 10 + [0] * 5
    person = prepare_persons(tmp_path, crowd="person")
    assert [int(i) for i in person.index["id"]] == [1, 2, 3]
    assert person.label(0)[:, 0].tolist() == [1] * 15 + [0] * 5
    assert person.label(1)[:, 0].tolist() == [1] * 10 + [0] * 10
    assert [int(i) for i in prepare_persons(tmp_path, crowd="exclude").index["id"]] == [3]
