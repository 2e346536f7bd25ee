"""Damage to raw files: each gives the error that docs/data_errors.md promises, and costs no more.

One table, ``DAMAGE``. With on_bad_input "error" the preparation fails, naming the file. With "skip"
what concerns one image or tile leaves out just that, and everything else comes out bit by bit as
without the damage; what concerns the data set as a whole still fails.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import ROOT
from PIL import Image
from promises import matches, promised
from test_prepare_coco import LISTS, box, crowd_rle, write_persons, write_stuff
from test_prepare_potsdam import write_tile
from test_raw import flip_content, pack, pack_coco, pack_folder, set_field

from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
from infoseg.data.folder import prepare_folder
from infoseg.data.potsdam import prepare_potsdam
from infoseg.data.store import load_prepared
from infoseg.errors import DataError

# --- The undamaged data sets ---------------------------------------------------------------------


def stuff(raw, out, **more):
    prepare_coco_stuff(raw, out, name="d", variant="stuff15", **more)


def persons(raw, out, **more):
    prepare_coco_persons(raw, out, name="d", scale=1.0, splits=["val2017"], **more)


def potsdam(raw, out, **more):
    prepare_potsdam(raw, out, name="d", variant="potsdam6", grid=2, crop=2, **more)


def folder(raw, out, **more):
    prepare_folder(raw, out, name="d", labels="labels", **more)


def write_stuff_packed(raw):
    write_stuff(raw.parent / "tree")
    pack_coco(raw.parent / "tree", raw)


def write_people(raw):
    whole = crowd_rle(20, 30, slice(3, 9)) | {"counts": "l1l`0"}  # compressed: 60, then 540
    write_persons(
        raw,
        [
            (1, (20, 30), [(1, box(0, 0, 9, 9), 0)]),
            (2, (20, 30), [(1, box(2, 2, 20, 9), 0), (1, crowd_rle(20, 30, slice(3, 9)), 1)]),
            (3, (20, 30), [(1, whole, 0)]),
        ],
    )


def write_people_packed(raw):
    write_people(raw.parent / "tree")
    pack_folder(raw / "val2017.zip", raw.parent / "tree/images")
    pack_folder(
        raw / "annotations_trainval2017.zip", raw.parent / "tree/annotations", "annotations/"
    )


def write_tiles(raw):
    for row in (2, 3, 4):
        write_tile(raw, row, 10)


def write_tiles_packed(raw):
    write_tiles(raw.parent / "tree")
    raw.mkdir()
    for name in (ORTHO, PARTICIPANTS):
        pack_folder(raw / f"{name}.zip", raw.parent / "tree" / name)


def write_folder(raw):
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (raw / name).mkdir(parents=True)
    for name in "abc":
        pixels = random.integers(0, 256, (6, 9, 3), np.uint8)
        Image.fromarray(pixels).save(raw / f"images/{name}.png")
        labels = random.choice(np.array([0, 1, 255], np.uint8), (6, 9))
        Image.fromarray(labels).save(raw / f"labels/{name}.png")
    classes = {"labels": {"classes": ["sky", "road"]}}
    (raw / "dataset.json").write_text(json.dumps(classes))


SETS = {
    "COCO-Stuff": (write_stuff, stuff),
    "COCO-Stuff, packed": (write_stuff_packed, stuff),
    "COCO-Persons": (write_people, persons),
    "COCO-Persons, packed": (write_people_packed, persons),
    "Potsdam": (write_tiles, potsdam),
    "Potsdam, packed": (write_tiles_packed, potsdam),
    "folder": (write_folder, folder),
}

# --- Ways to damage a file -----------------------------------------------------------------------


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def cut_noise(file):
    """A uniform picture is all header: first give it pixels that can be cut."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    cut(file)


def empty(file):
    file.write_bytes(b"")


def text(file):
    file.write_text("<html>404 Not Found</html>")


def remove(file):
    shutil.rmtree(file) if file.is_dir() else file.unlink()


def write(content):
    return lambda file: file.write_text(content)


def picture(mode, size, colour=0):
    return lambda file: Image.new(mode, size, colour).save(file, format="png")


def sixteen_bits(file):
    width, height = Image.open(file).size
    Image.fromarray(np.zeros((height, width), np.uint16)).save(file, format="png")


def pixel(value, row=3, column=4):
    """Change one pixel of a PNG or TIFF."""

    def damage(file):
        tiff = file.suffix == ".tif"
        pixels = tifffile.imread(file) if tiff else np.array(Image.open(file))
        pixels[row, column] = value
        tifffile.imwrite(file, pixels) if tiff else Image.fromarray(pixels).save(file)

    return damage


def tiff(*shape, dtype=np.uint8):
    return lambda file: tifffile.imwrite(file, np.zeros(shape, dtype), photometric="minisblack")


def edit(change):
    """Change the content of a JSON file."""

    def damage(file):
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return damage


def segment(annotation, segmentation):
    return edit(lambda c: c["annotations"][annotation].update(segmentation=segmentation))


def member(name, field, value):
    return lambda archive: set_field(archive, name, field, value)


def repack(change, method=zipfile.ZIP_DEFLATED):
    """Rewrite an archive from its (name, content) pairs after a change to them."""

    def damage(archive):
        with zipfile.ZipFile(archive) as source:
            members = {name: source.read(name) for name in source.namelist()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # zipfile's, for a name twice
            pack(archive, change(members) or members.items(), method)

    return damage


def overlay(file):
    """Labels drawn over the picture instead of labels, in the release of all tiles."""
    (file.parent.parent / PARTICIPANTS).rename(file.parent)
    tile = tifffile.imread(file.parent.parent / TILE)[..., :3]
    tifffile.imwrite(file, tile // 2 + tifffile.imread(file) // 2)


def copied_to(other):
    def damage(file):
        target = file.parent.parent / other
        target.parent.mkdir(exist_ok=True)
        shutil.copy(file, target)

    return damage


# --- The table -----------------------------------------------------------------------------------

PHOTO = "images/train2017/000000000002.jpg"
MAP = "stuffthingmaps/train2017/000000000002.png"
TRAIN_LIST, VAL_LIST = (f"curated/{s}/{LISTS['stuff15']}" for s in ("train2017", "val2017"))
TRAIN_ZIP, MAPS_ZIP = "train2017.zip", "stuffthingmaps_trainval2017.zip"
MEMBER, MAP_MEMBER = "train2017/000000000002.jpg", "train2017/000000000002.png"
PERSON_PHOTO = "images/val2017/000000000002.jpg"
JSON = "annotations/instances_val2017.json"
JSON_ZIP = "annotations_trainval2017.zip"
ORTHO, PARTICIPANTS = "4_Ortho_RGBIR", "5_Labels_for_participants"
TILE, LABEL = f"{ORTHO}/top_potsdam_3_10_RGBIR.tif", f"{PARTICIPANTS}/top_potsdam_3_10_label.tif"
ALL = "5_Labels_all/top_potsdam_3_10_label.tif"
IMAGE, LABELS = "images/b.png", "labels/b.png"


@dataclass(frozen=True)
class Damage:
    """promise: first column of docs/data_errors.md. says: part of the message, with what stands in
    the docs' blanks in braces. names: file in the error, if not ``file``. whole: the data set as a
    whole is concerned."""

    data: str
    promise: str
    file: str
    damage: Callable[[Path], object]
    says: str
    names: str | None = None
    whole: bool = False


def of(data, *rows, whole=False):
    return [
        Damage(data, promise, file, damage, says, names[0] if names else None, whole)
        for promise, file, damage, says, *names in rows
    ]


DAMAGE = [
    *of(
        "COCO-Stuff",
        ("a picture is cut short", PHOTO, cut, "cannot be decoded"),
        ("a picture is empty", PHOTO, empty, "is not a picture"),
        ("a picture is text", PHOTO, text, "is not a picture"),
        ("a picture is missing", PHOTO, remove, "not found"),
        ("a picture has more than 8 bits", PHOTO, sixteen_bits, "more than 8 bits per channel"),
        (
            "a picture cannot be read",
            PHOTO,
            lambda file: (file.unlink(), file.mkdir()),
            "cannot be read",
        ),
        ("a map is cut short", MAP, cut, "cannot be decoded"),
        ("a map is empty", MAP, empty, "is not a picture"),
        ("a map is missing", MAP, remove, "not found"),
        ("a map has another size", MAP, picture("L", (40, 29)), "is {40 x 29} pixels"),
        ("a map is in colour", MAP, picture("RGB", (40, 30)), "has pixels of type 'RGB'"),
        ("a map has 16 bits", MAP, sixteen_bits, "has pixels of type 'I;16'"),
        ("a map has a value that is no class", MAP, pixel(200),
         "value {200} at row {3}, column {4} is no COCO-Stuff class"),
    ),
    *of(
        "COCO-Stuff",
        ("the raw folder is missing", ".", remove, "raw folder not found"),
        ("there are no pictures", "images", remove, "neither images/{train2017} nor", "."),
        ("there are no maps", "stuffthingmaps", remove, "no label maps in stuff", "."),
        ("an id list is missing", VAL_LIST, remove, "not found"),
        ("an id list has a word in it", VAL_LIST, write("7\nseven\n"), "{'seven'} is not a COCO"),
        ("an id list has a path in it", VAL_LIST, write("../../7\n"), "{'../../7'} is not a COCO"),
        ("an id list is in UTF-16", VAL_LIST, lambda f: f.write_bytes("7\n".encode("utf-16")),
         "is not a COCO image id"),
        ("an id list has an id twice", VAL_LIST, write("7\n8\n7\n"), "the id {7} occurs twice"),
        ("an id is in both lists", VAL_LIST, write("000000000002\n"),
         "the id {000000000002} is in the list of {train2017}, too"),
        whole=True,
    ),
    *of(
        "COCO-Stuff, packed",
        ("a member's checksum is wrong", TRAIN_ZIP, member(MEMBER, "crc", 1),
         "is damaged in its archive", f"{TRAIN_ZIP}/{MEMBER}"),
        ("a member's content is damaged", MAPS_ZIP, lambda a: flip_content(a, MAP_MEMBER),
         "is damaged in its archive", f"{MAPS_ZIP}/{MAP_MEMBER}"),
        ("a member is encrypted", TRAIN_ZIP, member(MEMBER, "flags", 1),
         "is encrypted", f"{TRAIN_ZIP}/{MEMBER}"),
        ("a member is compressed in another way", TRAIN_ZIP, member(MEMBER, "method", 14),
         "by a method that is not read here ({lzma})", f"{TRAIN_ZIP}/{MEMBER}"),
        ("a member claims to be huge", TRAIN_ZIP, member(MEMBER, "size", 2**31),
         "has {2147483648} bytes, more than", f"{TRAIN_ZIP}/{MEMBER}"),
        ("a member is missing", TRAIN_ZIP, repack(lambda m: m.pop(MEMBER) and None),
         "not found", f"{TRAIN_ZIP}/{MEMBER}"),
        ("a picture is cut short", TRAIN_ZIP, repack(lambda m: m.update({MEMBER: m[MEMBER][:500]})),
         "cannot be decoded", f"{TRAIN_ZIP}/{MEMBER}"),
        ("a map is empty", MAPS_ZIP, repack(lambda m: m.update({MAP_MEMBER: b""})),
         "is not a picture", f"{MAPS_ZIP}/{MAP_MEMBER}"),
    ),
    *of(
        "COCO-Stuff, packed",
        ("an archive is cut short", TRAIN_ZIP, cut, "is not a whole zip archive"),
        ("an archive is something else", MAPS_ZIP, text, "is not a whole zip archive"),
        ("an archive has a name twice", TRAIN_ZIP,
         repack(lambda m: [*m.items(), (MEMBER, b"other")]), f"two members named {{'{MEMBER}'}}"),
        ("there are no maps", MAPS_ZIP, remove, "no label maps in stuff", "."),
        whole=True,
    ),
    *of(
        "COCO-Persons",
        ("a picture is missing", PERSON_PHOTO, remove, "not found"),
        ("a picture is cut short", PERSON_PHOTO, cut_noise, "cannot be decoded"),
        ("a picture has another size than annotated", PERSON_PHOTO, picture("RGB", (31, 20)),
         "is {31 x 20} pixels, its image is {30 x 20}"),
        ("an annotated image is not listed", JSON, edit(lambda c: c["images"].pop(1)),
         "annotates image {2}, which it does not list"),
        ("an image is listed twice", JSON,
         edit(lambda c: c["images"].append(c["images"][1] | {"width": 31})),
         "lists image {2} twice, and not in the same way"),
        ("an image has an impossible size", JSON, edit(lambda c: c["images"][1].update(width=0)),
         "says that {000000000002.jpg} has {0 x 20} pixels"),
        ("a file name leads elsewhere", JSON,
         edit(lambda c: c["images"][1].update(file_name="../../../etc/hosts")), "not found",
         "images/val2017/hosts"),
        ("a polygon leaves its image", JSON, segment(1, box(0, 0, 40, 9)),
         "annotation {1001} of {000000000002.jpg}: polygon reaches from {(0, 0)} to {(40, 9)}"),
        ("a polygon has two points", JSON, segment(1, [[1, 1, 5, 5]]), "polygon of {2} points"),
        ("a polygon has an odd number of numbers", JSON, segment(1, [[1, 1, 5, 5, 7, 2, 3]]),
         "polygon is not a flat list of x, y pairs"),
        ("run lengths do not add up", JSON, segment(2, {"counts": [9, 9], "size": [20, 30]}),
         "annotation {1002} of {000000000002.jpg}: run lengths do not add up"),
        ("run lengths have a character that is none", JSON,
         segment(2, {"counts": "l1\n", "size": [20, 30]}), "a character that is no code"),
        ("run lengths end in a number", JSON, segment(2, {"counts": "l1l`", "size": [20, 30]}),
         "end in the middle of a number"),
        ("a run-length mask has another size", JSON,
         segment(2, {"counts": [600], "size": [30, 20]}),
         "run-length mask of size {[30, 20]} for an image of"),
        ("an annotation has no segmentation", JSON,
         edit(lambda c: c["annotations"][1].pop("segmentation")), "has no segmentation"),
    ),
    *of(
        "COCO-Persons",
        ("the annotations are missing", JSON, remove, "annotation file not found"),
        ("the annotations are cut short", JSON, cut, "is not a COCO instances file"),
        ("the annotations are of another kind", JSON, edit(lambda c: c.pop("annotations")),
         "is not a COCO instances file (KeyError: 'annotations')"),
        ("the annotations have no persons", JSON, edit(lambda c: c["categories"].pop(1)),
         "has no category named person"),
        ("a file name is none", JSON, edit(lambda c: c["images"][1].update(file_name="..")),
         "is not a COCO instances file"),
        ("there are no pictures", "images", remove, "neither images/{val2017} nor", "."),
        whole=True,
    ),
    *of(
        "COCO-Persons, packed",
        ("an archive is cut short", JSON_ZIP, cut, "is not a whole zip archive"),
        ("the annotations are damaged in their archive", JSON_ZIP, lambda a: flip_content(a, JSON),
         "cannot be read", f"{JSON_ZIP}/{JSON}"),
        ("the annotations are missing", JSON_ZIP, remove, "annotation file not found", JSON),
        whole=True,
    ),
    *of(
        "Potsdam",
        ("a tile is cut short", TILE, cut, "cannot be decoded"),
        ("a tile is text", TILE, text, "cannot be decoded"),
        ("a tile has another size", TILE, tiff(8, 10, 4),
         "is {10 x 8} pixels; grid * crop asks for {8 x 8}"),
        ("a tile has three bands", TILE, tiff(8, 8, 3), "instead of 4 bands uint8"),
        ("a tile has 16 bits", TILE, tiff(8, 8, 4, dtype=np.uint16), "type uint16 instead of"),
        ("a label has no tile", TILE, remove, "there is no RGBIR tile for this label", LABEL),
        ("a tile has no label", LABEL, remove, "its label is missing although", TILE),
        ("a label is cut short", LABEL, cut, "cannot be decoded"),
        ("a label has another size", LABEL, tiff(6, 8, 3),
         "is {8 x 6} pixels, its image is {8 x 8}"),
        ("a label has a colour of no class", LABEL, pixel((128, 128, 128)),
         "colour {(128, 128, 128)} at row {3}, column {4} is none of the six classes"),
        ("a label has a colour of no class", ALL, overlay, "is none of the six classes"),
    ),
    *of(
        "Potsdam",
        ("there are no tiles", ORTHO, remove, "no file named like top_potsdam", "."),
        ("a tile is there twice", TILE, copied_to("copy/TOP_potsdam_03_10_RGBIR.tif"),
         "the same tile is there twice, also as"),
        whole=True,
    ),
    *of(
        "Potsdam, packed",
        ("a member's checksum is wrong", f"{ORTHO}.zip", member(Path(TILE).name, "crc", 1),
         "is damaged in its archive", f"{ORTHO}.zip/{Path(TILE).name}"),
        ("a tile has no label", f"{PARTICIPANTS}.zip",
         repack(lambda m: m.pop(Path(LABEL).name) and None), "its label is missing although",
         f"{ORTHO}.zip/{Path(TILE).name}"),
    ),
    *of(
        "Potsdam, packed",
        ("an archive is cut short", f"{ORTHO}.zip", cut, "is not a whole zip archive"),
        whole=True,
    ),
    *of(
        "folder",
        ("a picture is cut short", IMAGE, cut, "cannot be decoded"),
        ("a picture is empty", IMAGE, empty, "is not a picture"),
        ("a picture has more than 8 bits", IMAGE, sixteen_bits, "more than 8 bits per channel"),
        ("a map is cut short", LABELS, cut, "cannot be decoded"),
        ("a map has another size", LABELS, picture("L", (9, 7)), "is {9 x 7} pixels"),
        ("a map is in colour", LABELS, picture("RGB", (9, 6)), "has pixels of type 'RGB'"),
        ("a map has a value that is none of the classes", LABELS, pixel(2),
         "value {2} at row {3}, column {4} is none of the {2} classes"),
        ("a label map has no picture", IMAGE, remove, "there is no picture for this", LABELS),
    ),
    *of(
        "folder",
        ("the folder of pictures is missing", "images", remove, "folder not found"),
        ("the folder of label maps is missing", "labels", remove, "folder not found"),
        ("the folder of pictures is empty", "images",
         lambda folder: (remove(folder), folder.mkdir()), "holds no file ending in"),
        ("two pictures have one name", IMAGE, copied_to("images/b.jpg"), "has the same name as"),
        ("dataset.json does not describe the classes", "dataset.json", write('{"labels": {}}'),
         "does not describe the classes of {'labels'}"),
        ("dataset.json is missing", "dataset.json", remove, "no class names for the label folder"),
        whole=True,
    ),
]  # fmt: skip


def convert(change):
    """Store a picture anew, as another kind of file."""

    def damage(file):
        with Image.open(file) as old:
            change(old.copy()).save(file, format="png")

    return damage


def to_palette(picture):
    palette = Image.frombytes("P", picture.size, picture.tobytes())
    palette.putpalette([7, 8, 9] * 256)
    return palette


def appended(tail):
    return lambda file: file.write_bytes(file.read_bytes() + tail)


def respelled(spell):
    return lambda file: file.write_bytes(spell(file.read_text()).encode())


HARMLESS = [
    ("COCO-Stuff", PHOTO, convert(lambda picture: picture)),
    ("COCO-Stuff", PHOTO, appended(b"\0\0")),
    ("COCO-Stuff", MAP, convert(to_palette)),
    ("COCO-Stuff", VAL_LIST, respelled(lambda text: text.replace("\n", "\r\n"))),
    ("COCO-Stuff", VAL_LIST, respelled(lambda text: "\ufeff" + text)),
    ("COCO-Stuff", VAL_LIST, respelled(lambda text: "\n" + text.replace("\n", "\n\n"))),
    ("COCO-Stuff", VAL_LIST, respelled(str.rstrip)),
    ("COCO-Stuff, packed", TRAIN_ZIP, repack(lambda m: m.update({"../x.jpg": b"", "/x": b""}))),
    ("COCO-Stuff, packed", TRAIN_ZIP, repack(lambda m: None, zipfile.ZIP_STORED)),
    ("Potsdam, packed", f"{ORTHO}.zip", repack(lambda m: m.update({f"../{TILE}": b"", "a": b""}))),
    ("folder", IMAGE, lambda file: (file.parent / "notes.txt").touch()),
]


def docs_rows():
    """The tables of docs/data_errors.md: (problem, advice) patterns by what is wrong."""
    return promised(ROOT / "docs/data_errors.md", "What is wrong")


def images_of(out):
    prepared = load_prepared(out, verify=True)
    rows = zip(prepared.index["id"], prepared.index["split"], strict=True)
    return {
        image_id: (split, prepared.image(i).tobytes(), prepared.label(i).tobytes())
        for i, (image_id, split) in enumerate(rows)
    }


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory):
    """Raw files of a data set and the images they give; made when first asked for."""
    made = {}

    def make(data):
        if data not in made:
            write_raw, prepare = SETS[data]
            at = tmp_path_factory.mktemp("undamaged")
            write_raw(at / "raw")
            prepare(at / "raw", at / "out")
            made[data] = at / "raw", images_of(at / "out")
        return made[data]

    return make


def test_docs_and_table_agree():
    rows = docs_rows()
    assert {damage.promise for damage in DAMAGE} == set(rows)
    assert len({(damage.data, damage.promise) for damage in DAMAGE}) >= 30
    for damage in DAMAGE:
        problem, advice = rows[damage.promise]
        assert re.sub(r"\{.*?\}", "…", damage.says) in problem, damage.promise
        assert advice, damage.promise


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: f"{d.data}: {d.promise}".replace(" ", "_"))
def test_damage_gives_the_promised_error_and_costs_no_more(tmp_path, undamaged, damage):
    raw, out = tmp_path / "raw", tmp_path / "out"
    whole_raw, images = undamaged(damage.data)
    shutil.copytree(whole_raw, raw)
    damage.damage(raw / damage.file)
    prepare = SETS[damage.data][1]
    named = damage.file if damage.names is None else damage.names

    with pytest.raises(DataError) as caught:
        prepare(raw, out)
    assert not out.exists()
    error = caught.value
    assert error.file == raw / named and str(error).startswith(f"{raw / named}: ")
    said = re.sub("[{}]", "", damage.says)
    assert said in error.problem
    problem, advice = docs_rows()[damage.promise]
    assert matches(problem, error.problem), f"docs: {problem}\nsaid: {error.problem}"
    if error.advice:
        assert matches(advice, error.advice), f"docs: {advice}\nsaid: {error.advice}"

    if damage.whole:
        with pytest.raises(DataError, match=re.escape(said)):
            prepare(raw, out, on_bad_input="skip")
        assert not out.exists()
        return
    prepare(raw, out, on_bad_input="skip")
    left = images_of(out)
    victim = {i for i in images if i not in left}
    assert victim and {i.split("_r")[0] for i in victim} <= {"000000000002", "3_10", "b"}
    assert left == {i: images[i] for i in images if i not in victim}
    meta = load_prepared(out).meta
    assert meta.n_skipped == 1 and meta.n_images == len(left)
    [skipped] = meta.skipped
    assert skipped.file == named and said in skipped.reason


@pytest.mark.parametrize(("data", "file", "change"), HARMLESS)
def test_what_does_no_harm_changes_nothing(tmp_path, undamaged, data, file, change):
    raw, out = tmp_path / "raw", tmp_path / "out"
    whole_raw, images = undamaged(data)
    shutil.copytree(whole_raw, raw)
    change(raw / file)
    SETS[data][1](raw, out)
    assert images_of(out) == images
