"""Damage to raw files: what is said, and that it costs no more than what is damaged.

With on_bad_input "error" the preparation fails, naming the file. With "skip" what concerns one
image or tile (``ONE``) leaves out just that, and everything else comes out bit by bit as without
the damage; what concerns the data set as a whole (``ALL``) still fails.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_archives import pack, pack_coco, pack_folder, set_field
from test_coco import LISTS, box, crowd_rle, write_persons, write_stuff
from test_potsdam import write_tile

from infoseg.data.coco import prepare_coco_persons, prepare_coco_stuff
from infoseg.data.folder import prepare_folder
from infoseg.data.potsdam import prepare_potsdam
from infoseg.data.store import load_prepared
from infoseg.errors import DataError, visible

PHOTO = "images/train2017/000000000002.jpg"
MAP = "stuffthingmaps/train2017/000000000002.png"
VAL_LIST = f"curated/val2017/{LISTS['stuff15']}"
TRAIN_ZIP, MAPS_ZIP = "train2017.zip", "stuffthingmaps_trainval2017.zip"
MEMBER, MAP_MEMBER = "train2017/000000000002.jpg", "train2017/000000000002.png"
PERSON_PHOTO = "images/val2017/000000000002.jpg"
JSON, JSON_ZIP = "annotations/instances_val2017.json", "annotations_trainval2017.zip"
ORTHO, PARTICIPANTS = "4_Ortho_RGBIR", "5_Labels_for_participants"
TILE, LABEL = f"{ORTHO}/top_potsdam_3_10_RGBIR.tif", f"{PARTICIPANTS}/top_potsdam_3_10_label.tif"
ALL_LABEL = "5_Labels_all/top_potsdam_3_10_label.tif"
IMAGE, LABELS = "images/b.png", "labels/b.png"

# --- The undamaged data sets ---------------------------------------------------------------------


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


stuff = partial(prepare_coco_stuff, name="d", variant="stuff15")
persons = partial(prepare_coco_persons, name="d", splits=["val2017"])
potsdam = partial(prepare_potsdam, name="d", variant="potsdam6", grid=2, crop=2)
SETS = {
    "COCO-Stuff": (write_stuff, stuff),
    "COCO-Stuff, packed": (write_stuff_packed, stuff),
    "COCO-Persons": (write_people, persons),
    "Potsdam": (write_tiles, potsdam),
    "Potsdam, packed": (write_tiles_packed, potsdam),
    "folder": (write_folder, partial(prepare_folder, name="d", labels="labels")),
}

# --- Ways to damage a file -----------------------------------------------------------------------


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def cut_noise(file):
    """A uniform picture is all header: first give it pixels that can be cut."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    cut(file)


def remove(file):
    shutil.rmtree(file) if file.is_dir() else file.unlink()


def to_folder(file):
    remove(file)
    file.mkdir()


def write(content, encoding="utf-8"):
    return lambda file: file.write_text(content, encoding)


def picture(mode, size):
    return lambda file: Image.new(mode, size).save(file, format="png")


def sixteen_bits(file):
    width, height = Image.open(file).size
    Image.fromarray(np.zeros((height, width), np.uint16)).save(file, format="png")


def pixel(value):
    """Change one pixel of a PNG or TIFF."""

    def damage(file):
        tiff = file.suffix == ".tif"
        pixels = tifffile.imread(file) if tiff else np.array(Image.open(file))
        pixels[3, 4] = value
        tifffile.imwrite(file, pixels) if tiff else Image.fromarray(pixels).save(file)

    return damage


def tiff(*shape, dtype=np.uint8):
    return lambda file: tifffile.imwrite(file, np.zeros(shape, dtype), photometric="rgb")


def edit(change):
    """Change the content of a JSON file."""

    def damage(file):
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return damage


def image(**more):
    return edit(lambda content: content["images"][1].update(more))


def segment(annotation, segmentation):
    return edit(lambda c: c["annotations"][annotation].update(segmentation=segmentation))


def rle(counts, height=20, width=30):
    return segment(2, {"counts": counts, "size": [height, width]})


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


def from_one(file):
    labels = np.array(Image.open(file))
    Image.fromarray(np.where(labels == 255, 255, labels + 1).astype(np.uint8)).save(file)


def misname(file):
    """As unpacked from a Latin-1 archive."""
    for folder in ("images", "labels"):
        (file.parent.parent / folder / "b.png").rename(file.parent.parent / folder / "b\udce9.png")


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


# --- The damages ----------------------------------------------------------------------------------

html = write("<html>404 Not Found</html>")
CUT = "cannot be decoded (…). Replace the file by an intact copy, or leave it out with on_bad_input"
NO_PICTURE = "is not a picture in a format that is read here. Replace the file by an intact copy"
NOT_FOUND = "not found. Put it there, or leave it out with on_bad_input=skip"
RGB = "has pixels of type 'RGB'; labels are 8-bit greyscale … Convert it to an 8-bit PNG"
COCO_ID = "is not a COCO image id. Use IIC's list as published"
NO_MAPS = "no label maps in stuffthingmaps/… Put stuffthingmaps_trainval2017.zip there"
CRC = "is damaged in its archive (…). Download the archive again, or unpack it yourself"
NO_ZIP = "is not a whole zip archive (…). Download the archive again"
NO_JSON = "is not a COCO instances file (…). Download it again"
NO_ANNOTATIONS = f"not found. Put COCO's {JSON_ZIP} into the raw folder"
CORRECT = "… Correct the annotation, or leave the image out with on_bad_input=skip"
FIRST, SECOND = (f"annotation {number} of 000000000002.jpg: " for number in (1001, 1002))
NO_LABEL = "its label is missing … Add top_potsdam_R_C_label.tif from 5_Labels_for_participants.zip"
NO_CLASSES = "does not describe the classes of 'labels' (…). Expected {\"labels\": "
COLOUR = "is none of the six classes (… Use the label of 5_Labels_for_participants.zip"

#: (file, damage, what is said, the file in the error if it is another one): one image is concerned.
ONE = {
    "COCO-Stuff": [
        (PHOTO, cut, CUT),
        (PHOTO, write(""), NO_PICTURE),
        (PHOTO, html, NO_PICTURE),
        (PHOTO, remove, NOT_FOUND),
        (PHOTO, to_folder, "cannot be read (…). Check its permissions and disk"),
        (MAP, cut, CUT),
        (MAP, write(""), NO_PICTURE),
        (MAP, remove, NOT_FOUND),
        (MAP, picture("L", (40, 29)), "is 40 x 29 pixels, its image is 40 x 30. Replace the file"),
        (MAP, picture("RGB", (40, 30)), RGB),
        (MAP, sixteen_bits, "has pixels of type 'I;16'; labels are 8-bit … Convert it"),
        (MAP, pixel(200), "value 200 at row 3, column 4 is no COCO-Stuff class … stuffthingmaps"),
    ],
    "COCO-Stuff, packed": [
        (TRAIN_ZIP, member(MEMBER, "crc", 1), CRC, f"{TRAIN_ZIP}/{MEMBER}"),
        (TRAIN_ZIP, repack(lambda m: m.pop(MEMBER) and None), NOT_FOUND, f"{TRAIN_ZIP}/{MEMBER}"),
        (TRAIN_ZIP, repack(lambda m: m.update({MEMBER: m[MEMBER][:500]})), CUT,
         f"{TRAIN_ZIP}/{MEMBER}"),
        (MAPS_ZIP, repack(lambda m: m.update({MAP_MEMBER: b""})), NO_PICTURE,
         f"{MAPS_ZIP}/{MAP_MEMBER}"),
    ],
    "COCO-Persons": [
        (PERSON_PHOTO, remove, NOT_FOUND),
        (PERSON_PHOTO, cut_noise, CUT),
        (PERSON_PHOTO, picture("RGB", (31, 20)), "is 31 x 20 pixels, its image is 30 x 20."),
        (JSON, edit(lambda c: c["images"].pop(1)),
         "annotates image 2, which it does not list. Download it again"),
        (JSON, edit(lambda c: c["images"].append(c["images"][1] | {"width": 31})),
         "lists image 2 twice, and not in the same way. Download it again"),
        (JSON, image(width=0), "says that 000000000002.jpg has 0 x 20 pixels. Download it again"),
        (JSON, image(file_name="../../../etc/hosts"), NOT_FOUND, "images/val2017/hosts"),
        (JSON, segment(1, box(0, 0, 40, 9)),
         f"{FIRST}polygon reaches from (0, 0) to (40, 9), outside its image of 30 x 20{CORRECT}"),
        (JSON, segment(1, [[1, 1, 5, 5]]), f"{FIRST}polygon of 2 points; a surface needs{CORRECT}"),
        (JSON, segment(1, [[1, 1, 5, 5, 7, 2, 3]]), f"{FIRST}polygon is not a flat list{CORRECT}"),
        (JSON, segment(1, [[1, 1, float("nan"), 5, 7, 2]]), f"{FIRST}polygon is no{CORRECT}"),
        (JSON, rle([9, 9]), f"{SECOND}run lengths do not add up to the 600 pixels{CORRECT}"),
        (JSON, rle("l1\n"), f"{SECOND}compressed run lengths contain a character{CORRECT}"),
        (JSON, rle("l1l`"), f"{SECOND}compressed run lengths end in the middle{CORRECT}"),
        (JSON, rle([600], 30, 20), f"{SECOND}run-length mask of size [30, 20] for{CORRECT}"),
        (JSON, edit(lambda c: c["annotations"][1].pop("segmentation")),
         f"{FIRST}has no segmentation{CORRECT}"),
    ],
    "Potsdam": [
        (TILE, cut, CUT),
        (TILE, html, "has no infrared band. Use TIFFs"),
        (TILE, tiff(8, 10, 4),
         "is 10 x 8 pixels; grid * crop asks for 8 x 8. Use an original tile, or change grid and"),
        (TILE, tiff(8, 8, 3), "has 3 bands instead of 4. Use TIFFs of four bands"),
        (TILE, tiff(8, 8, 4, dtype=np.float32), "has pixels of type float32. Save it as"),
        (TILE, remove, "there is no RGBIR tile for this label. Add the tile", LABEL),
        (LABEL, remove, NO_LABEL, TILE),
        (LABEL, cut, CUT),
        (LABEL, tiff(6, 8, 3), "is 8 x 6 pixels, its image is 8 x 8. Replace the file"),
        (LABEL, pixel((128, 128, 128)), f"colour (128, 128, 128) at row 3, column 4 {COLOUR}"),
        (LABEL, pixel((0, 0, 0)), f"colour (0, 0, 0) at row 3, column 4 {COLOUR}"),
        (ALL_LABEL, overlay, COLOUR),
    ],
    "Potsdam, packed": [
        (f"{ORTHO}.zip", member(Path(TILE).name, "crc", 1), CRC, f"{ORTHO}.zip/{Path(TILE).name}"),
        (f"{PARTICIPANTS}.zip", repack(lambda m: m.pop(Path(LABEL).name) and None), NO_LABEL,
         f"{ORTHO}.zip/{Path(TILE).name}"),
    ],
    "folder": [
        (IMAGE, cut, CUT),
        (IMAGE, write(""), NO_PICTURE),
        (LABELS, cut, CUT),
        (LABELS, picture("L", (9, 7)), "is 9 x 7 pixels, its image is 9 x 6. Replace the file"),
        (LABELS, picture("RGB", (9, 6)), RGB),
        (LABELS, pixel(2), "value 2 at row 3, column 4 is none of the 2 classes. Use 0-1, and 255"),
        (LABELS, from_one, "value 2 at … Use 0-1, and 255 … these seem to count from 1"),
        (LABELS, sixteen_bits, "has pixels of type 'I;16'; labels are 8-bit … Convert it"),
        (IMAGE, misname, "has a name that is not UTF-8. Rename it", "images/b\udce9.png"),
        (IMAGE, remove, "there is no picture for this label map. Remove the label map, or", LABELS),
    ],
}  # fmt: skip
#: The same, where the data set as a whole is concerned.
ALL = {
    "COCO-Stuff": [
        (".", remove, "raw folder not found. Check the path of the raw data"),
        ("images", remove, "no pictures in images/train2017 … Put COCO's train2017.zip there", "."),
        ("stuffthingmaps", remove, NO_MAPS, "."),
        (VAL_LIST, remove, "not found. Put IIC's curated/ folder into the raw folder"),
        (VAL_LIST, write("7\nseven\n"), f"'seven' {COCO_ID}"),
        (VAL_LIST, write("../../7\n"), f"'../../7' {COCO_ID}"),
        (VAL_LIST, write("7\n", "utf-16"), COCO_ID),
        (VAL_LIST, write("7\n8\n7\n"), "the id 7 occurs twice. Use IIC's list as published"),
        (VAL_LIST, write("000000000002\n"),
         "the id 000000000002 is in the list of train2017, too. Use IIC's list as published"),
    ],
    "COCO-Stuff, packed": [
        (TRAIN_ZIP, cut, NO_ZIP),
        (MAPS_ZIP, html, NO_ZIP),
        (TRAIN_ZIP, repack(lambda m: [*m.items(), (MEMBER, b"other")]),
         f"has two members named '{MEMBER}'. Download the archive again"),
        (MAPS_ZIP, remove, NO_MAPS, "."),
    ],
    "COCO-Persons": [
        (JSON, remove, NO_ANNOTATIONS),
        (JSON, cut, NO_JSON),
        (JSON, edit(lambda c: c.pop("annotations")),
         "is not a COCO instances file (KeyError: 'annotations'). Download it again"),
        (JSON, edit(lambda c: c["categories"].pop(1)), "has no category named person"),
        (JSON, image(file_name=".."), NO_JSON),
        ("images", remove, "no pictures in images/val2017 … Put COCO's val2017.zip there", "."),
    ],
    "Potsdam": [
        (ORTHO, remove, f"no file named like top_potsdam_… Put {ORTHO}.zip and", "."),
        (TILE, copied_to("copy/TOP_potsdam_03_10_RGBIR.tif"),
         "the same tile is there twice, also as … Remove one of the two"),
    ],
    "Potsdam, packed": [(f"{ORTHO}.zip", cut, NO_ZIP)],
    "folder": [
        ("images", remove, "holds no file ending in … Put some there", "."),
        ("labels", remove, "folder not found. Create it, or check the path"),
        ("images", to_folder, "holds no file ending in "),
        (IMAGE, copied_to("images/b.jpg"), "has the same name as b.jpg. Rename one of the two"),
        *(("dataset.json", write(content), NO_CLASSES)
          for content in ("{", "[]", '{"labels": {}}', '{"labels": {"classes": {"1": "sky"}}}')),
    ],
}  # fmt: skip


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


def respelled(spell):
    return lambda file: file.write_bytes(spell(file.read_bytes()))


HARMLESS = [
    ("COCO-Stuff", PHOTO, convert(lambda picture: picture)),
    ("COCO-Stuff", PHOTO, respelled(lambda content: content + b"\0\0")),
    ("COCO-Stuff", MAP, convert(to_palette)),
    ("COCO-Stuff", VAL_LIST, respelled(lambda text: text.replace(b"\n", b"\r\n"))),
    ("COCO-Stuff", VAL_LIST, respelled(lambda text: "\ufeff".encode() + text)),
    ("COCO-Stuff", VAL_LIST, respelled(lambda text: b"\n" + text.replace(b"\n", b"\n\n"))),
    ("COCO-Stuff", VAL_LIST, respelled(bytes.rstrip)),
    ("COCO-Stuff, packed", TRAIN_ZIP, repack(lambda m: m.update({"../x.jpg": b"", "/x": b""}))),
    ("COCO-Stuff, packed", TRAIN_ZIP, repack(lambda m: None, zipfile.ZIP_STORED)),
    ("Potsdam, packed", f"{ORTHO}.zip", repack(lambda m: m.update({f"../{TILE}": b"", "a": b""}))),
    ("folder", IMAGE, lambda file: (file.parent / "notes.txt").touch()),
]


def cases(table):
    """The rows of a table, each with its data set and with the file in the error."""
    return [
        pytest.param(data, *(*row, row[0])[:4], id=f"{data}: {row[0]}")
        for data, rows in table.items()
        for row in rows
    ]


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


@pytest.fixture
def damaged(tmp_path, undamaged):
    """damaged(data, file, damage): a function that prepares a damaged copy; the intact images."""

    def make(data, file, damage):
        whole, images = undamaged(data)
        shutil.copytree(whole, tmp_path / "raw")
        damage(tmp_path / "raw" / file)
        return partial(SETS[data][1], tmp_path / "raw", tmp_path / "out"), images

    return make


def refused(tmp_path, prepare, file, says, **more):
    """The error of a preparation, which names the file and says this; … stands for anything."""
    with pytest.raises(DataError) as caught:
        prepare(**more)
    error = caught.value
    assert error.file == tmp_path / "raw" / file
    assert str(error).startswith(visible(f"{error.file}: ")) and str(error).count("\n") == 0
    assert re.search(".*".join(map(re.escape, says.split("…"))), str(error)), error
    assert not (tmp_path / "out").exists()
    return error


@pytest.mark.parametrize(("data", "file", "damage", "says", "names"), cases(ONE))
def test_damage_to_one_image(tmp_path, damaged, caplog, data, file, damage, says, names):
    prepare, images = damaged(data, file, damage)
    error = refused(tmp_path, prepare, names, says)
    prepare(on_bad_input="skip")
    left = images_of(tmp_path / "out")
    victim = images.keys() - left.keys()
    assert victim and {i.split("_r")[0] for i in victim} <= {"000000000002", "3_10", "b"}
    assert left == {i: images[i] for i in images if i not in victim}
    meta = load_prepared(tmp_path / "out").meta
    assert meta.n_images == len(left)
    assert [(skipped.file, skipped.reason) for skipped in meta.skipped] == [
        (visible(names), error.problem)
    ]
    assert visible(names) in caplog.text


@pytest.mark.parametrize(("data", "file", "damage", "says", "names"), cases(ALL))
def test_damage_to_the_data_set(tmp_path, damaged, data, file, damage, says, names):
    prepare, _ = damaged(data, file, damage)
    for choice in ("error", "skip"):
        refused(tmp_path, prepare, names, says, on_bad_input=choice)


@pytest.mark.parametrize(("data", "file", "change"), HARMLESS)
def test_what_does_no_harm_changes_nothing(tmp_path, damaged, data, file, change):
    prepare, images = damaged(data, file, change)
    prepare()
    assert images_of(tmp_path / "out") == images
