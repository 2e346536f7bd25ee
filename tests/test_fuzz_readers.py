"""Whatever the bytes and values are, our readers answer with a result or with an error of ours.

Every reader gets pure noise, and valid input of which a few bytes or values were changed.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from infoseg.settings import Params, load_params

HEIGHT, WIDTH = 7, 9

# ---- noise, and changes to what is valid ---------------------------------------------------------

NUMBERS = (
    st.integers(-3, 70)
    | st.integers()
    | st.sampled_from([2**31, 2**53, 2**62, 2**63, -(2**63) - 1, 2**64, 10**400])
    | st.floats()
)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=5)
NOISE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@st.composite
def changed(draw: Callable, valid: Any, changes: int = 3) -> Any:
    """A tree of lists and dictionaries with up to so many of its nodes changed."""
    tree = [copy.deepcopy(draw(valid) if isinstance(valid, st.SearchStrategy) else valid)]
    for _ in range(draw(st.integers(0, changes))):
        parent: Any = tree
        key: Any = 0
        while isinstance(parent[key], list | dict) and parent[key] and draw(st.integers(0, 4)):
            parent = parent[key]
            keys = list(parent) if isinstance(parent, dict) else range(len(parent))
            key = draw(st.sampled_from(keys))
        if parent is tree:
            continue
        change = draw(st.sampled_from(["replace", "remove", "repeat", "swap"]))
        if change == "replace":
            parent[key] = draw(NOISE)
        elif change == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, parent[key] if change == "repeat" else draw(SCALARS))
        elif change == "repeat":
            parent[draw(st.text(max_size=5))] = parent[key]
        else:
            other = draw(st.sampled_from(list(parent)))
            parent[key], parent[other] = parent[other], parent[key]
    return tree[0]


@st.composite
def damaged(draw: Callable, valid: Any, changes: int = 3) -> bytes:
    """Bytes of which some were overwritten, cut out, doubled or added, or the end cut off."""
    content = bytearray(draw(valid) if isinstance(valid, st.SearchStrategy) else valid)
    for _ in range(draw(st.integers(0, changes))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 12))
        change = draw(st.sampled_from(["overwrite", "insert", "cut", "double", "end"]))
        if change == "overwrite":
            content[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif change == "insert":
            content[at:at] = draw(st.binary(max_size=length))
        elif change == "cut":
            del content[at : at + length]
        elif change == "double":
            content[at:at] = content[at : at + length]
        else:
            del content[at:]
    return bytes(content)


# ---- Potsdam's label colours ---------------------------------------------------------------------


@st.composite
def label_colours(draw: Callable) -> tuple[np.ndarray, int]:
    side = st.integers(1, 6)
    shape = draw(side), draw(side)
    classes = draw(arrays(np.uint8, shape, elements=st.integers(0, 5)))
    colours = np.array(COLOURS, np.uint8)[classes] * np.uint8(255)
    if draw(st.booleans()):
        colours = colours ^ draw(arrays(np.uint8, colours.shape, fill=st.just(0)))
    return colours, draw(st.integers(0, 127))


def read_colours(case: tuple[np.ndarray, int]) -> None:
    colours, tolerance = case
    labels, inexact = colours_to_classes(colours, Path("label.tif"), tolerance)
    assert labels.shape == colours.shape[:2] and labels.dtype == np.uint8
    assert (labels < 6).all() and 0 <= inexact <= labels.size
    nearest = np.array(COLOURS, np.uint8)[labels] * 255
    assert (np.abs(nearest - colours.astype(int)) <= tolerance).all()


# ---- masks ---------------------------------------------------------------------------------------

CORNERS = st.lists(st.floats(-3, 12), min_size=6, max_size=16)


@st.composite
def run_lengths(draw: Callable) -> list[int]:
    cuts = sorted(draw(st.lists(st.integers(0, HEIGHT * WIDTH), max_size=8)))
    return np.diff([0, *cuts, HEIGHT * WIDTH]).tolist()


def encode(counts: list[int]) -> bytes:
    """The compressed form, as pycocotools writes it."""
    out = bytearray()
    for i, count in enumerate(counts):
        value = count - (counts[i - 2] if i > 2 else 0)
        more = True
        while more:
            chunk, value = value & 0x1F, value >> 5
            more = value != (-1 if chunk & 0x10 else 0)
            out.append(48 + (chunk | 0x20 if more else chunk))
    return bytes(out)


COMPRESSED = damaged(run_lengths().map(encode)).map(lambda text: text.decode("latin-1"))
RLE = st.fixed_dictionaries(
    {"counts": run_lengths() | COMPRESSED},
    optional={"size": st.just([HEIGHT, WIDTH])},
)
SEGMENTATIONS = changed(st.lists(CORNERS, max_size=3)) | changed(RLE) | NOISE


def check_mask(mask: np.ndarray) -> None:
    assert mask.shape == (HEIGHT, WIDTH) and mask.dtype == bool


def read_counts(content: str) -> None:
    counts = decode_counts(content)
    assert all(isinstance(count, int) for count in counts)
    assert len(counts) <= len(content)


# ---- files ---------------------------------------------------------------------------------------


@st.composite
def instances(draw: Callable) -> bytes:
    """An instances file of two images; changed in its values, then in its bytes."""
    annotations = [
        {
            "id": draw(st.integers(0, 9)),
            "image_id": draw(st.integers(1, 3)),
            "category_id": draw(st.integers(0, 2)),
            "iscrowd": draw(st.integers(0, 1)),
            "segmentation": draw(st.lists(CORNERS, max_size=2) | RLE),
        }
        for _ in range(draw(st.integers(0, 3)))
    ]
    content = {
        "info": {"year": 2017},
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in (1, 2)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}],
    }
    text = json.dumps(draw(changed(content)))
    return draw(damaged(text.encode())) if draw(st.booleans()) else text.encode()


def read_instances(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "instances_val2017.json")
        file.write_bytes(content)
        for photo in read_photos(file, "val2017"):
            assert "/" not in photo.file_name and photo.file_name != ".."
            try:
                masks = person_masks(photo, file)
            except InfosegError:
                continue
            assert masks[0].shape == (photo.height, photo.width)


def read_list(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "list.txt")
        file.write_bytes(content)
        ids = read_id_list(file)
        assert len(set(ids)) == len(ids) and all(i.isdecimal() and i.isascii() for i in ids)


def encoded() -> list[bytes]:
    """One picture in several formats."""
    pixels = np.arange(16 * 12 * 4, dtype=np.uint8).reshape(16, 12, 4)
    files = [cv2.imencode(ending, pixels[..., :3])[1].tobytes() for ending in (".png", ".jpg")]
    files.append(cv2.imencode(".png", pixels[..., :3] * np.uint16(200))[1].tobytes())
    for mode, compression in (("RGB", "tiff_lzw"), ("RGBX", "tiff_lzw"), ("L", "tiff_deflate")):
        with io.BytesIO() as file:
            picture = Image.frombytes("RGBX", (12, 16), pixels.tobytes())
            picture = picture if mode == "RGBX" else picture.convert("RGB").convert(mode)
            picture.save(file, "TIFF", compression=compression)
            files.append(file.getvalue())
    for kind in (np.uint8, np.uint16):
        with io.BytesIO() as file:
            tifffile.imwrite(file, pixels.astype(kind), photometric="rgb", extrasamples=[0])
            files.append(file.getvalue())
    return files


ENCODED = encoded()


def read_any_picture(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.tif")
        file.write_bytes(content)
        for read in (picture_size, has_infrared, read_labels, lambda f: read_picture(f, 4)):
            with contextlib.suppress(InfosegError):
                read(file)
        assert read_picture(file).dtype == np.uint8


DESCRIPTION = {
    "ignore_index": 255,
    "labels": {"classes": {"0": "sky", "1": "ground", "2": "rest"}},
    "more": {"classes": ["sky", "ground", "rest"]},
}
PIXELS = cv2.imencode(".png", np.arange(16, dtype=np.uint8).reshape(4, 4) % 3)[1].tobytes()


@st.composite
def folders(draw: Callable) -> tuple[bytes, str]:
    """dataset.json, and the label folder that is asked for."""
    tree = changed(DESCRIPTION) | NOISE | changed({"labels": {"classes": ["a"] * 300}})
    content = json.dumps(draw(tree)).encode()
    if draw(st.booleans()):
        content = draw(damaged(content) | st.binary(max_size=40))
    return content, draw(st.sampled_from(["labels", "more"]))


def read_folder(case: tuple[bytes, str]) -> None:
    content, labels = case
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("images", labels):
            (folder / part).mkdir()
            (folder / part / "1.png").write_bytes(PIXELS)
        (folder / "dataset.json").write_bytes(content)
        prepare_folder(folder, folder / "out", name="fuzz", labels=labels, threads=1)
        assert (folder / "out" / "meta.json").is_file()


# ---- settings ------------------------------------------------------------------------------------


def settings_tree() -> dict[str, Any]:
    """The tiny profile on one data set, without the methods and variants it does not use."""
    tree = one_data_set(2)
    profile = tree["profile"]
    tree["methods"] = {name: tree["methods"][name] for name in profile["methods"]}
    variants = profile["ablations"]["variants"]
    tree["variants"] = {name: tree["variants"][name] for name in variants}
    return tree


TREE = settings_tree()
YAML = yaml.safe_dump(TREE).encode()
PIECES = [
    b"2001-99-99",
    b"9" * 5000,
    b"[" * 600,
    b"{a: " * 600,
    b"&a [*a]",
    b"!!set",
    b"\x00",
    b"\xff",
]
"""What YAML readers stumble over."""
PARAMS = (
    changed(TREE, 2).map(lambda tree: yaml.safe_dump(tree).encode())
    | damaged(YAML, 2)
    | st.builds(lambda piece: YAML + b"\nmore: " + piece, damaged(st.sampled_from(PIECES), 1))
)
OVERRIDES = damaged(
    st.sampled_from(
        [
            b"datasets.coco_stuff3.crop=96",
            b"methods.infoseg.seeds=[0,1]",
            b"methods.infoseg.optimiser={steps: 5}",
            b"training.images=${oc.env:HOME}",
            b"profile.name=${profile.description}",
        ]
    )
).map(lambda override: override.decode("latin-1"))


def read_params(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "params.yaml").write_bytes(content)
        try:
            params = load_params(Path(folder))
        except InfosegError as error:
            assert isinstance(error, ParamsError)
            return
        assert isinstance(params, Params)


def read_override(override: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "params.yaml").write_bytes(YAML)
        try:
            load_params(Path(folder), overrides=[override])
        except InfosegError as error:
            assert isinstance(error, ParamsError)


# ---- all of them ---------------------------------------------------------------------------------

READERS: dict[str, tuple[st.SearchStrategy, Callable[[Any], None]]] = {
    "colours": (label_colours(), read_colours),
    "compressed run lengths": (COMPRESSED | st.text(), read_counts),
    "segmentation": (SEGMENTATIONS, lambda value: check_mask(mask_of(value, HEIGHT, WIDTH))),
    "picture": (damaged(st.sampled_from(ENCODED)) | st.binary(max_size=60), read_any_picture),
    "instances file": (instances() | st.binary(max_size=60), read_instances),
    "id list": (
        damaged(b"000000000030\n000000000025\r\n000000000034\n") | st.binary(max_size=60),
        read_list,
    ),
    "dataset.json": (folders(), read_folder),
    "params.yaml": (PARAMS, read_params),
    "overrides": (OVERRIDES, read_override),
}


SLOW = ("params.yaml", "overrides")
"""Those that take some 30 ms for an input, not 5."""


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_fails_with_errors_of_ours_alone(reader):
    strategy, read = READERS[reader]
    examples, tried = 15 if reader in SLOW else 100, []

    @seed(0)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        # Shrinking takes hundreds of inputs.
        phases=[Phase.generate] if reader in SLOW else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check(value: Any) -> None:
        tried.append(value)
        try:
            read(value)
        except InfosegError as error:
            assert str(error)

    check()
    assert len(tried) >= examples // 2
