"""Whatever the bytes and values are, our readers answer with a result or with an error of ours.

Every reader gets pure noise, and valid input of which a few bytes or values were changed.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from helpers import one_data_set
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from infoseg.data.coco import decode_counts, mask_of, person_masks, read_id_list, read_photos
from infoseg.data.folder import prepare_folder
from infoseg.data.pictures import has_infrared, picture_size, read_labels, read_picture
from infoseg.data.potsdam import COLOURS, colours_to_classes
from infoseg.errors import InfosegError, ParamsError
from infoseg.settings import load_params

HEIGHT, WIDTH = 7, 9

# ---- noise, and changes to what is valid ---------------------------------------------------------

NUMBERS = st.integers(-3, 70) | st.sampled_from([2**31, 2**63, 2**64, 10**400]) | st.floats()
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=5)
NOISE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@st.composite
def changed(draw, valid):
    """A tree of lists and dictionaries of which up to 3 nodes were replaced, removed or doubled."""
    tree = copy.deepcopy(draw(valid) if isinstance(valid, st.SearchStrategy) else valid)
    for _ in range(draw(st.integers(0, 3))):
        parent, key, node = None, None, tree
        while isinstance(node, list | dict) and node and draw(st.integers(0, 4)):
            keys = list(node) if isinstance(node, dict) else range(len(node))
            parent, key = node, draw(st.sampled_from(keys))
            node = parent[key]
        change = draw(st.sampled_from(["replace", "remove", "double"]))
        if parent is None:
            continue
        if change == "replace":
            parent[key] = draw(NOISE)
        elif change == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, node)
        else:
            parent[draw(st.text(max_size=5))] = node
    return tree


@st.composite
def damaged(draw, valid):
    """Bytes of which up to 3 pieces were cut out, overwritten or added, or the end cut off."""
    content = bytearray(draw(valid) if isinstance(valid, st.SearchStrategy) else valid)
    for _ in range(draw(st.integers(0, 3))):
        start, length = draw(st.integers(0, len(content))), draw(st.integers(0, 12) | st.just(9999))
        content[start : start + length] = draw(st.binary(max_size=12))
    return bytes(content)


@contextlib.contextmanager
def file_of(content, name):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(content)
        yield Path(folder, name)


# ---- Potsdam's colours, COCO's masks, annotations and lists --------------------------------------


@st.composite
def label_colours(draw):
    classes = draw(arrays(np.uint8, (4, 5), elements=st.integers(0, 5)))
    colours = np.array(COLOURS, np.uint8)[classes] * np.uint8(255)
    noise = draw(arrays(np.uint8, colours.shape, fill=st.just(0)))
    return colours ^ noise, draw(st.integers(0, 127))


def read_colours(case):
    colours, tolerance = case
    labels, inexact = colours_to_classes(colours, Path("label.tif"), tolerance)
    assert labels.shape == colours.shape[:2] and 0 <= inexact <= labels.size
    nearest = np.array(COLOURS, np.uint8)[labels] * 255
    assert (np.abs(nearest - colours.astype(int)) <= tolerance).all()


CORNERS = st.lists(st.floats(-3, 12), min_size=6, max_size=16)
#: Run lengths that add up, and the compressed 1, 2, 30, 30.
RUNS = st.lists(st.integers(0, HEIGHT * WIDTH), max_size=8).map(
    lambda cuts: np.diff([0, *sorted(cuts), HEIGHT * WIDTH]).tolist()
)
COMPRESSED = damaged(b"12n0l0").map(lambda text: text.decode("latin-1"))
RLE = st.fixed_dictionaries({"counts": RUNS | COMPRESSED, "size": st.just([HEIGHT, WIDTH])})


def read_mask(segmentation):
    mask = mask_of(segmentation, HEIGHT, WIDTH)
    assert mask.shape == (HEIGHT, WIDTH) and mask.dtype == bool


def read_counts(text):
    assert all(isinstance(count, int) for count in decode_counts(text))


@st.composite
def instances(draw):
    """An instances file of two images; changed in its values, then in its bytes."""
    annotation = st.fixed_dictionaries(
        {
            "image_id": st.integers(1, 3),
            "category_id": st.integers(0, 2),
            "iscrowd": st.integers(0, 1),
            "segmentation": st.lists(CORNERS, max_size=2) | RLE,
        }
    )
    size = {"height": HEIGHT, "width": WIDTH}
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", **size} for i in (1, 2)],
        "annotations": draw(st.lists(annotation, max_size=3)),
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}],
    }
    text = json.dumps(draw(changed(content))).encode()
    return draw(damaged(text)) if draw(st.booleans()) else text


def read_instances(content):
    with file_of(content, "instances_val2017.json") as file:
        for photo in read_photos(file, "val2017"):
            assert "/" not in photo.file_name and photo.file_name != ".."
            with contextlib.suppress(InfosegError):
                assert person_masks(photo, file)[0].shape == (photo.height, photo.width)


def read_list(content):
    with file_of(content, "list.txt") as file:
        ids = read_id_list(file)
        assert len(set(ids)) == len(ids) and all(i.isdecimal() and i.isascii() for i in ids)


# ---- pictures and folders ------------------------------------------------------------------------


def encoded():
    """One picture in several formats."""
    pixels = np.arange(16 * 12 * 4, dtype=np.uint8).reshape(16, 12, 4)
    for ending in (".png", ".jpg"):
        yield cv2.imencode(ending, pixels[..., :3])[1].tobytes()
    yield cv2.imencode(".png", pixels[..., :3] * np.uint16(200))[1].tobytes()
    for mode, compression in (("RGB", "tiff_lzw"), ("RGBX", "tiff_lzw"), ("L", "tiff_deflate")):
        file, picture = io.BytesIO(), Image.frombytes("RGBX", (12, 16), pixels.tobytes())
        picture = picture if mode == "RGBX" else picture.convert("RGB").convert(mode)
        picture.save(file, "TIFF", compression=compression)
        yield file.getvalue()
    for kind in (np.uint8, np.uint16):
        file = io.BytesIO()
        tifffile.imwrite(file, pixels.astype(kind), photometric="rgb", extrasamples=[0])
        yield file.getvalue()


def read_any_picture(content):
    with file_of(content, "a.tif") as file:
        for read in (picture_size, has_infrared, read_labels, lambda f: read_picture(f, 4)):
            with contextlib.suppress(InfosegError):
                read(file)
        assert read_picture(file).dtype == np.uint8


DESCRIPTION = {"ignore_index": 255, "labels": {"classes": {"0": "sky", "1": "ground"}}}
TREES = changed(DESCRIPTION | {"groups": {"1": "a"}}) | NOISE
DESCRIPTIONS = TREES.map(json.dumps).map(str.encode)
PIXELS = cv2.imencode(".png", np.arange(16, dtype=np.uint8).reshape(4, 4) % 2)[1].tobytes()


def read_folder(content):
    with file_of(content, "dataset.json") as description:
        folder = description.parent
        for part in ("images", "labels"):
            (folder / part).mkdir()
            (folder / part / "1.png").write_bytes(PIXELS)
        prepare_folder(folder, folder / "out", name="fuzz", labels="labels", threads=1)
        assert (folder / "out" / "meta.json").is_file()


# ---- settings ------------------------------------------------------------------------------------

TREE = one_data_set(2)
for section, names in (("methods", TREE["profile"]["methods"]), ("variants", ["iic_mi", "single"])):
    TREE[section] = {name: TREE[section][name] for name in names}
YAML = yaml.safe_dump(TREE).encode()
#: What YAML readers stumble over.
PIECES = [b"2001-99-99", b"9" * 5000, b"[" * 600, b"{a: " * 600, b"&a [*a]", b"!!set", b"\0\xff"]
PARAMS = (
    changed(TREE).map(lambda tree: yaml.safe_dump(tree).encode())
    | damaged(YAML)
    | st.sampled_from(PIECES).map(lambda piece: YAML + b"\nmore: " + piece)
)
OVERRIDES = damaged(b"methods.infoseg.optimiser={steps: ${oc.env:HOME}}").map(
    lambda override: override.decode("latin-1")
)


def read_params(content, overrides=()):
    with file_of(content, "params.yaml") as file, contextlib.suppress(ParamsError):
        load_params(file.parent, overrides=list(overrides))


# ---- all of them ---------------------------------------------------------------------------------

#: Of a reader: its input, what reads it, and how many inputs are tried.
READERS = {
    "colours": (label_colours(), read_colours, 100),
    "compressed run lengths": (COMPRESSED | st.text(), read_counts, 100),
    "segmentation": (changed(st.lists(CORNERS, max_size=3) | RLE) | NOISE, read_mask, 100),
    "instances file": (instances() | st.binary(max_size=60), read_instances, 100),
    "id list": (damaged(b"000000000030\n25\r\n34\n") | st.binary(max_size=60), read_list, 100),
    "picture": (damaged(st.sampled_from([*encoded()])) | st.binary(), read_any_picture, 100),
    "dataset.json": (damaged(DESCRIPTIONS), read_folder, 100),
    "params.yaml": (PARAMS, read_params, 15),
    "overrides": (OVERRIDES, lambda override: read_params(YAML, [override]), 15),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_fails_with_errors_of_ours_alone(reader):
    strategy, read, examples = READERS[reader]
    tried = []

    @seed(0)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        # Shrinking takes hundreds of inputs.
        phases=[Phase.generate, Phase.shrink][: 1 + (examples > 15)],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check(value):
        tried.append(value)
        try:
            read(value)
        except InfosegError as error:
            assert str(error)

    check()
    assert len(tried) >= examples // 2
