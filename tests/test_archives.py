"""Raw files read where they lie: folders, archives, mixtures, and archives that are damaged."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path

import pytest
from helpers import prepare_raw
from test_coco import write_stuff

from infoseg.data.archives import files_below, places, read_bytes
from infoseg.data.coco import ARCHIVES
from infoseg.files import DataError

#: Where a field stands in a member's record in the archive's list, and in the member's header.
FIELDS = {
    "flags": ("<H", 8, 6),
    "method": ("<H", 10, 8),
    "crc": ("<I", 16, 14),
    "size": ("<I", 24, None),
    "offset": ("<I", 42, None),
}


def pack(archive, members, method=zipfile.ZIP_DEFLATED):
    """Write an archive of (name, content) pairs; content may be a file."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", method) as target:
        for name, content in members:
            target.writestr(name, content.read_bytes() if isinstance(content, Path) else content)
    return archive


def pack_folder(archive, folder, under="", method=zipfile.ZIP_DEFLATED):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return pack(archive, [(under + f.relative_to(folder).as_posix(), f) for f in files], method)


def set_field(archive, member, field, value):
    """Change what an archive says of a member, in its list and in the member's own header."""
    form, in_list, in_header = FIELDS[field]
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as source:
        header = source.getinfo(member).header_offset
        entry = data.index(member.encode(), source.start_dir) - 46
    for at in [entry + in_list] + ([header + in_header] if in_header else []):
        struct.pack_into(form, data, at, value)
    archive.write_bytes(data)


def test_folders_come_first_then_archives_at_the_top_and_one_folder_down(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    member = [("train2017/1.jpg", b"x")]
    for file in ("first/val2017.zip", "second/zips/train2017.zip", "second/too/deep/train2017.zip"):
        pack(tmp_path / file, member)
    pack(second / "other.zip", member)
    roots = places([first, second, second / "zips"], ARCHIVES)
    assert roots[:3] == (first, second, second / "zips")
    archives = [str(place).rstrip("/") for place in roots[3:]]  # each opened once
    assert archives == [str(first / "val2017.zip"), str(second / "zips/train2017.zip")]
    [place] = places([pack(tmp_path / "any name.ZIP", member)])  # named itself
    assert (place / "train2017" / "1.jpg").read_bytes() == b"x"
    for missing in ("no", "no.zip"):
        with pytest.raises(DataError, match=f"{missing}: raw folder not found"):
            places([tmp_path, tmp_path / missing])


def test_names_that_lead_out_of_an_archive_are_never_followed(tmp_path):
    names = ["../evil.tif", "a/../../evil.tif", "/etc/evil.tif", "a\\..\\evil.tif", "a/good.tif"]
    [place] = places([pack(tmp_path / "x/a.zip", [(name, b"inside") for name in names])])
    for file in ("x/evil.tif", "evil.tif"):
        (tmp_path / file).write_bytes(b"outside")
    assert [file.name for file in files_below(place)] == ["good.tif"]
    assert read_bytes(place / "../evil.tif", 100) == b"inside"  # when asked for: the member


# --- damage ---------------------------------------------------------------------------------------

MEMBER = "train2017/1.jpg"
DAMAGED = "cannot be read ("


def flip(archive):
    data = bytearray(archive.read_bytes())
    data[data.index(MEMBER.encode()) + 20] ^= 0xFF
    archive.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (("crc", 1), DAMAGED),
        (("flags", 1), DAMAGED),  # encrypted
        (("method", 9), DAMAGED),  # deflate64
        (("size", 3 * 2**30), "has 3221225472 bytes, more than"),
        (("size", 7), DAMAGED),
        (("offset", 5), DAMAGED),
        (flip, DAMAGED),
        (lambda archive: pack(archive, [("other", b"intact")]), "not found"),
    ],
)
def test_a_damaged_member_is_named_with_its_archive(tmp_path, damage, message):
    archive = pack(tmp_path / "train2017.zip", [(MEMBER, b"abc" * 1000), ("other", b"intact")])
    damage(archive) if callable(damage) else set_field(archive, MEMBER, *damage)
    [place] = places([archive])
    with pytest.raises(DataError) as caught:
        read_bytes(place / "train2017" / "1.jpg", 2**20)
    assert str(caught.value).startswith(f"{archive}/{MEMBER}: {message}")
    assert read_bytes(place / "other", 2**20) == b"intact"


# --- COCO-Stuff ----------------------------------------------------------------------------------


def stuff(raw, out, **more):
    return prepare_raw("coco_stuff", raw, out, variant="stuff15", **more).meta


def pack_coco(tree, folder, *, maps=True, lists=True):
    """Write the archives as published, and IIC's lists as a folder."""
    for split in ("train2017", "val2017"):
        source = tree / "images" / split
        pack_folder(folder / f"{split}.zip", source, f"{split}/", zipfile.ZIP_STORED)
    if maps:
        pack_folder(folder / "stuffthingmaps_trainval2017.zip", tree / "stuffthingmaps")
    if lists:
        shutil.copytree(tree / "curated", folder / "curated")
    return folder


def test_archives_folders_and_mixtures_give_the_same_bytes(tmp_path):
    tree, out = tmp_path / "tree", tmp_path / "out"
    write_stuff(tree)
    expected = stuff(tree, out)
    assert stuff(pack_coco(tree, tmp_path / "packed"), out) == expected
    # One folder down, and the lists in a folder of their own.
    pack_coco(tree, tmp_path / "top/downloads", lists=False)
    assert stuff([tmp_path / "top", tree / "curated"], out) == expected
    # One split packed and one not; an empty folder hides no archive.
    pack_coco(tree, tree, maps=False, lists=False)
    shutil.rmtree(tree / "images/val2017")
    (tree / "train2017.zip").unlink()
    (tree / "images/val2017").mkdir()
    assert stuff(tree, out) == expected


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    archive = pack(tmp_path / "a.zip", [("images/1.png", b"a"), ("images/1.png", b"b")])
    with pytest.raises(DataError, match=r"a\.zip: has two members of one name"):
        places([archive])


def test_a_tree_goes_before_an_archive_and_pictures_are_not_taken_for_maps(tmp_path):
    tree = tmp_path / "tree"
    write_stuff(tree)
    packed = pack_coco(tree, tmp_path / "packed", maps=False)
    with pytest.raises(DataError, match="no label maps in .*stuffthingmaps_trainval2017.zip"):
        stuff(packed, tmp_path / "out")
    set_field(packed / "train2017.zip", "train2017/000000000002.jpg", "crc", 1)
    raw = [tree / "curated", packed / "train2017.zip", packed / "val2017.zip", tree]
    assert stuff(raw, tmp_path / "out", on_bad_input="skip").n_skipped == 0
