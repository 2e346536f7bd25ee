"""Whatever the bytes and values are, our readers answer with a result or with an error of ours.

Every reader gets pure noise, and valid input of which a few bytes or values were changed.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import zlib
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from helpers import one_data_set
from http_server import make_zip
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from test_damage import JSON, LABEL, MAP, PHOTO, SETS, TILE, VAL_LIST

from infoseg.data.archives import files_below, places, read_bytes
from infoseg.data.pictures import has_infrared, picture_size, read_labels, read_picture
from infoseg.files import InfosegError
from infoseg.settings import load_params

# ---- noise, and changes to what is valid ---------------------------------------------------------

NUMBERS = st.integers(-3, 70) | st.sampled_from([2**31, 2**64, 10**400]) | st.floats()
NOISE = st.none() | NUMBERS | st.text(max_size=5) | st.lists(NUMBERS | st.text(max_size=5))


@st.composite
def damaged(draw, valid):
    """Bytes of which up to 3 pieces were cut out, overwritten or added; or noise."""
    if not draw(st.integers(0, 9)):
        return draw(st.binary(max_size=60))
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


def fails_with_errors_of_ours_alone(strategy, read, examples):
    how = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

    @seed(0)
    @settings(max_examples=examples, phases=[Phase.generate], **how)  # shrinking takes hundreds
    @given(strategy)
    def check(value):
        with contextlib.suppress(InfosegError):
            read(value)

    check()


# ---- files of a data set -------------------------------------------------------------------------

COUNTS = st.just([60, 540]) | st.lists(NUMBERS)
SEGMENTATIONS = (
    st.lists(st.lists(st.floats(-3, 33), min_size=6, max_size=16), max_size=3)
    | st.fixed_dictionaries({"counts": COUNTS, "size": st.just([20, 30])})
    | NOISE
)


@st.composite
def segmented(draw, valid):
    content = json.loads(valid)
    for annotation in content["annotations"][draw(st.integers(0, 3)) :]:
        annotation |= {"segmentation": draw(SEGMENTATIONS), "id": draw(NOISE)}
    for image in content["images"][1:] if draw(st.booleans()) else ():
        image[draw(st.sampled_from([*image]))] = draw(NOISE)
    return json.dumps(content).encode()


#: A data set, one of its files, and what the file is replaced by.
FILES = [
    ("COCO-Stuff", PHOTO, damaged),
    ("COCO-Stuff", MAP, damaged),
    ("COCO-Stuff", VAL_LIST, damaged),
    ("COCO-Persons", JSON, damaged),
    ("COCO-Persons", JSON, segmented),
    ("Potsdam", TILE, damaged),
    ("Potsdam", LABEL, damaged),
    ("folder", "dataset.json", damaged),
]


@pytest.mark.parametrize(("data", "name", "change"), FILES)
def test_a_data_set_is_prepared_or_refused(tmp_path, data, name, change):
    write_raw, prepare = SETS[data]
    write_raw(tmp_path / "raw")
    file = tmp_path / "raw" / name

    def read(content):
        file.write_bytes(content)
        prepare(tmp_path / "raw", tmp_path / "out", on_bad_input="skip", threads=1)

    fails_with_errors_of_ours_alone(change(file.read_bytes()), read, 50)
    assert (tmp_path / "out/meta.json").is_file()  # some were prepared


# ---- pictures and archives -----------------------------------------------------------------------


def encoded():
    """One picture in several formats."""
    pixels = np.arange(16 * 12 * 4, dtype=np.uint8).reshape(16, 12, 4)
    for ending in (".png", ".jpg"):
        yield cv2.imencode(ending, pixels[..., :3])[1].tobytes()
    yield cv2.imencode(".png", pixels[..., :3] * np.uint16(200))[1].tobytes()
    for picture in (Image.fromarray(pixels[..., :3]), Image.fromarray(pixels[..., 0])):
        picture.save(file := io.BytesIO(), "TIFF", compression="tiff_lzw")
        yield file.getvalue()
    for kind in (np.uint8, np.uint16):
        tifffile.imwrite(
            file := io.BytesIO(), pixels.astype(kind), photometric="rgb", extrasamples=[0]
        )
        yield file.getvalue()


def read_any_picture(content):
    with file_of(content, "a.tif") as file:
        for read in (picture_size, has_infrared, read_labels, lambda f: read_picture(f, 4)):
            with contextlib.suppress(InfosegError):
                read(file)
        assert read_picture(file).dtype == np.uint8


MEMBERS = {"a/1.jpg": b"abc" * 50, "a/2.jpg": bytes(range(256)), "b": b""}


def read_archive(content):
    with file_of(content, "a.zip") as file:
        [place] = places([file])
        for member in files_below(place):
            with contextlib.suppress(InfosegError):
                member_content = read_bytes(member, 2**20)
                # Unless the checksum was changed as well, it is the true content.
                expected = MEMBERS.get(member.at, member_content)
                if place.root.getinfo(member.at).CRC == zlib.crc32(expected):
                    assert member_content == expected


# ---- settings ------------------------------------------------------------------------------------

TREE = one_data_set(2)
for section, names in (("methods", TREE["profile"]["methods"]), ("variants", ["iic_mi", "single"])):
    TREE[section] = {name: TREE[section][name] for name in names}
YAML = yaml.safe_dump(TREE).encode()
#: What YAML readers stumble over.
PIECES = [b"2001-99-99", b"9" * 5000, b"[" * 600, b"{a: " * 600, b"&a [*a]", b"!!set", b"\0\xff"]
PARAMS = damaged(YAML) | st.sampled_from(PIECES).map(lambda piece: YAML + b"\nmore: " + piece)
OVERRIDES = damaged(b"methods.infoseg.optimiser={steps: ${oc.env:HOME}}")


def read_params(content, *overrides):
    with file_of(content, "params.yaml") as file:
        load_params(file.parent, overrides=[override.decode("latin-1") for override in overrides])


# ---- all of them ---------------------------------------------------------------------------------

#: Of a reader: its input, what reads it, and how many inputs are tried.
READERS = {
    "picture": (damaged(st.sampled_from([*encoded()])), read_any_picture, 100),
    "archive": (damaged(make_zip(MEMBERS)), read_archive, 100),
    "params.yaml": (PARAMS, read_params, 15),
    "overrides": (OVERRIDES, partial(read_params, YAML), 15),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_gives_a_result_or_an_error_of_ours(reader):
    fails_with_errors_of_ours_alone(*READERS[reader])
