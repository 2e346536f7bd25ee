"""Damage to raw files: what is said, and that it costs no more than what is damaged.

With on_bad_input "error" the preparation fails, naming the file. With "skip" what concerns one
image or tile (``ONE``) leaves out just that, and everything else comes out bit by bit as without
the damage; what concerns the data set as a whole (``ALL``) still fails.
"""

from __future__ import annotations

import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import tifffile
from helpers import prepare_raw
from PIL import Image
from test_coco import box, crowd_rle, write_persons, write_stuff
from test_folder import write_folder
from test_potsdam import write_tile

from infoseg.data.coco import LISTS
from infoseg.data.store import load_prepared
from infoseg.files import DataError, visible

PHOTO = "images/train2017/000000000002.jpg"
MAP = "stuffthingmaps/train2017/000000000002.png"
VAL_LIST = f"curated/val2017/{LISTS['stuff15']}"
PERSON_PHOTO = "images/val2017/000000000002.jpg"
JSON, JSON_ZIP = "annotations/instances_val2017.json", "annotations_trainval2017.zip"
ORTHO, PARTICIPANTS = "4_Ortho_RGBIR", "5_Labels_for_participants"
TILE, LABEL = f"{ORTHO}/top_potsdam_3_10_RGBIR.tif", f"{PARTICIPANTS}/top_potsdam_3_10_label.tif"
ALL_LABEL = "5_Labels_all/top_potsdam_3_10_label.tif"
IMAGE, LABELS = "images/b.png", "labels/b.png"

# --- The undamaged data sets ---------------------------------------------------------------------


def write_people(raw):
    crowd = crowd_rle(20, 30, slice(3, 9))
    people = (
        [(1, box(0, 0, 9, 9), 0)],
        [(1, box(2, 2, 20, 9), 0), (1, crowd, 1)],
        [(1, box(20, 2, 29, 19), 0)],
    )
    write_persons(raw, [(i, (20, 30), shapes) for i, shapes in enumerate(people, start=1)])


def write_tiles(raw):
    for row in (2, 3, 4):
        write_tile(raw, row, 10)


SETS = {
    "COCO-Stuff": (write_stuff, partial(prepare_raw, "coco_stuff", variant="stuff15")),
    "COCO-Persons": (
        write_people,
        partial(prepare_raw, "coco_persons", splits=["val2017"], min_person_share=0, min_side=0),
    ),
    "Potsdam": (
        write_tiles,
        partial(prepare_raw, "potsdam", variant="potsdam6", grid=2, crop=2),
    ),
    "folder": (write_folder, partial(prepare_raw, "folder", labels="labels")),
}

# --- Ways to damage a file -----------------------------------------------------------------------


def remove(file):
    shutil.rmtree(file) if file.is_dir() else file.unlink()


def to_folder(file):
    remove(file)
    file.mkdir()


def write(content, encoding="utf-8"):
    return lambda file: file.write_text(content, encoding)


def picture(mode, size):
    return lambda file: Image.new(mode, size).save(file, format="png")


def pixel(value):
    """Change one pixel of a PNG or TIFF."""

    def damage(file):
        tiff = file.suffix == ".tif"
        pixels = tifffile.imread(file) if tiff else np.array(Image.open(file))
        pixels[3, 4] = value
        tifffile.imwrite(file, pixels) if tiff else Image.fromarray(pixels).save(file)

    return damage


def tiff(*shape):
    return lambda file: tifffile.imwrite(file, np.zeros(shape, np.uint8), photometric="rgb")


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


def respelled(spell):
    return lambda file: file.write_bytes(spell(file.read_bytes()))


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


def copied_to(name):
    def damage(file):
        target = file.parent.parent / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(file, target)

    return damage


# --- The damages ----------------------------------------------------------------------------------

html = write("<html>404 Not Found</html>")
cut = respelled(lambda content: content[: len(content) * 2 // 3])
CUT = "cannot be decoded (…). Replace the file by an intact copy, or leave it out with on_bad_input"
NO_PICTURE = "is not a picture in a format that is read here. Replace the file by an intact copy"
NOT_FOUND = "not found. Put it there, or leave it out with on_bad_input=skip"
SIZE = "is 40 x 29 pixels, its image is 40 x 30. Replace the file"
LABEL_TYPE = "has pixels of type '…'; labels are greyscale … Convert it to an 8-bit PNG"
COCO_ID = "is not a COCO image id. Use IIC's list as published"
NO_ZIP = "is not a whole zip archive (…). Download the archive again"
NO_JSON = "is not a COCO instances file (…). Download it again"
CORRECT = "… Correct the annotation, or leave the image out with on_bad_input=skip"
FIRST, SECOND = (
    f"annotation {number} of 000000000002.jpg is malformed (" for number in (1001, 1002)
)
NO_LABEL = f"its label is missing … Add top_potsdam_R_C_label.tif from {PARTICIPANTS}.zip"
NO_CLASSES = "does not describe the classes of 'labels' (…). Expected {\"labels\": "
COLOUR = f"is none of the six classes (… Use the label of {PARTICIPANTS}.zip"

#: (file, damage, what is said, the file in the error if it is another one): one image is concerned.
ONE = {
    "COCO-Stuff": [
        (PHOTO, cut, CUT),
        (PHOTO, html, NO_PICTURE),
        (PHOTO, remove, NOT_FOUND),
        (MAP, picture("L", (40, 29)), SIZE),
        (MAP, picture("RGB", (40, 30)), LABEL_TYPE),
        (MAP, pixel(182), "value 182 at row 3, column 4 is none of the 182 classes. Use 0-181"),
    ],
    "COCO-Persons": [
        (PERSON_PHOTO, remove, NOT_FOUND),
        (PERSON_PHOTO, picture("RGB", (31, 20)), "is 31 x 20 pixels, its image is 30 x 20."),
        (JSON, image(file_name="../../../etc/hosts"), NOT_FOUND, "images/val2017/hosts"),
        (JSON, segment(1, box(0, 0, 40, 9)), f"{FIRST}… leaves its 30 x{CORRECT}"),
        (JSON, segment(1, [[1, 1, float("nan"), 5, 7, 2]]), f"{FIRST}… leaves{CORRECT}"),
        (JSON, segment(2, {"counts": [9, 9], "size": [20, 30]}), f"{SECOND}… add up to{CORRECT}"),
    ],
    "Potsdam": [
        (TILE, cut, CUT),
        (TILE, tiff(8, 10, 4), "is 10 x 8 pixels; grid * crop asks for 8. Use an original tile"),
        (TILE, tiff(8, 8, 3), "has no infrared band. Use TIFFs of four bands"),
        (TILE, remove, "there is no RGBIR tile for this label. Add the tile", LABEL),
        (LABEL, remove, NO_LABEL, TILE),
        (LABEL, tiff(6, 8, 3), "is 8 x 6 pixels, its image is 8 x 8. Replace the file"),
        (LABEL, pixel((128, 0, 0)), f"colour (128, 0, 0) at row 3, column 4 {COLOUR}"),
        (ALL_LABEL, overlay, COLOUR),
    ],
    "folder": [
        (LABELS, from_one, "value 2 at … Use 0-1, and 255 … these seem to count from 1"),
        (IMAGE, misname, "has a name that is not UTF-8, … Rename it", "images/b\udce9.png"),
        (IMAGE, remove, "there is no picture for this label map. Remove the label map, or", LABELS),
    ],
}  # fmt: skip
#: The same, where the data set as a whole is concerned.
ALL = {
    "COCO-Stuff": [
        (".", remove, "raw folder not found. Check the path of the raw data"),
        ("images", remove, "no pictures in images/train2017 … Put COCO's train2017.zip there", "."),
        (VAL_LIST, remove, "no id list in curated/val2017/… Put IIC's curated/ folder there", "."),
        (VAL_LIST, write("../../7\n"), COCO_ID),
        (VAL_LIST, write("7\n", "utf-16"), COCO_ID),
        ("train2017.zip", html, NO_ZIP),
        ("val2017.zip", write("PK\3\4, and half of it"), NO_ZIP),
    ],
    "COCO-Persons": [
        (JSON, remove, f"no annotations in annotations/… Put {JSON_ZIP} there", "."),
        (JSON, cut, NO_JSON),
        (JSON, edit(lambda c: c.pop("annotations")), NO_JSON),
        (JSON, edit(lambda c: c["categories"].pop(1)), NO_JSON),
        (JSON, edit(lambda c: c["images"].pop(1)), NO_JSON),
        (JSON, edit(lambda c: c["images"].append(c["images"][1] | {"width": 9})),
         "lists image 2 twice, and not in the same way). Download it again"),
        (JSON, image(width=0), "image 2 has 0 x 20 pixels). Download it again"),
        ("images", remove, "no pictures in images/val2017 … Put COCO's val2017.zip there", "."),
    ],
    "Potsdam": [
        (ORTHO, remove, f"no file named like top_potsdam_… Put {ORTHO}.zip and", "."),
    ],
    "folder": [
        ("labels", remove, "folder not found. Create it, or check the path"),
        ("images", to_folder, "holds no file ending in … Put some there"),
        (IMAGE, copied_to("images/b.jpg"), "has the same name as b.jpg. Rename one of the two"),
        *(("dataset.json", write(content), NO_CLASSES)
          for content in ("{", "[]", '{"labels": {"classes": {"1": "sky"}}}',
                          '{"labels": {"classes": ["sky", "sky"]}}')),
    ],
}  # fmt: skip


HARMLESS = [
    ("COCO-Stuff", PHOTO, lambda file: Image.open(file).copy().save(file, format="png")),
    ("COCO-Stuff", VAL_LIST, respelled(lambda t: b"\xef\xbb\xbf" + t.replace(b"\n", b"\r\n"))),
    ("COCO-Persons", JSON, edit(lambda c: c["images"].append(c["images"][1]))),
    ("COCO-Persons", JSON, image(file_name="../a\\000000000002.jpg")),
]


def cases(table):
    """The rows of a table, each with its data set and with the file in the error."""
    return [(data, *(*row, row[0])[:4]) for data, rows in table.items() for row in rows]


def images_of(out):
    prepared = load_prepared(out, verify=True)
    rows = prepared.index[["id", "split"]].itertuples(index=False)
    return {
        image_id: (split, prepared.image(i).tobytes(), prepared.label(i).tobytes())
        for i, (image_id, split) in enumerate(rows)
    }


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory):
    """Raw files of every data set and the images they give."""
    sets = {}
    for data, (write_raw, prepare) in SETS.items():
        folder = tmp_path_factory.mktemp("undamaged")
        write_raw(folder / "raw")
        prepare(folder / "raw", folder / "out")
        sets[data] = folder / "raw", images_of(folder / "out")
    return sets


@pytest.fixture
def damaged(tmp_path, undamaged, data, file, damage):
    """A function that prepares a damaged copy; and the intact images."""
    whole, images = undamaged[data]
    shutil.copytree(whole, tmp_path / "raw")
    damage(tmp_path / "raw" / file)
    return partial(SETS[data][1], tmp_path / "raw", tmp_path / "out"), images


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
def test_damage_to_one_image(tmp_path, damaged, caplog, says, names):
    prepare, images = damaged
    error = refused(tmp_path, prepare, names, says)
    prepare(on_bad_input="skip")
    left = images_of(tmp_path / "out")
    victim = images.keys() - left.keys()
    assert victim and {i.split("_r")[0] for i in victim} <= {"000000000002", "3_10", "b"}
    assert left == {i: images[i] for i in images if i not in victim}
    [skipped] = load_prepared(tmp_path / "out").meta.skipped
    assert (skipped.file, skipped.reason) == (visible(names), error.problem)
    assert visible(names) in caplog.text


@pytest.mark.parametrize(("data", "file", "damage", "says", "names"), cases(ALL))
def test_damage_to_the_data_set(tmp_path, damaged, says, names):
    prepare, _ = damaged
    for choice in ("error", "skip"):
        refused(tmp_path, prepare, names, says, on_bad_input=choice)


@pytest.mark.parametrize(("data", "file", "damage"), HARMLESS)
def test_what_does_no_harm_changes_nothing(tmp_path, damaged):
    prepare, images = damaged
    prepare()
    assert images_of(tmp_path / "out") == images
