"""Raw files read where they lie: folders, archives, mixtures, and archives that are damaged."""

from __future__ import annotations

import random
import shutil
import struct
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coco import write_stuff

from infoseg.data.archives import files_below, holds, open_archive, places, read_bytes
from infoseg.data.coco import ARCHIVES, find, prepare_coco_stuff
from infoseg.data.store import load_prepared
from infoseg.errors import DataError

# Where a field stands in a member's record in the archive's list, and in the member's own header.
FIELDS = {
    "flags": ("<H", 8, 6),
    "method": ("<H", 10, 8),
    "crc": ("<I", 16, 14),
    "packed": ("<I", 20, None),
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
    data = bytearray(archive.read_bytes())
    form, in_list, in_header = FIELDS[field]
    with zipfile.ZipFile(archive) as source:
        info = source.getinfo(member)
    name = member.encode()
    entry = next(
        at
        for at in range(len(data))
        if data[at : at + 4] == b"PK\1\2" and data[at + 46 : at + 46 + len(name)] == name
    )
    struct.pack_into(form, data, entry + in_list, value)
    if in_header is not None:
        struct.pack_into(form, data, info.header_offset + in_header, value)
    archive.write_bytes(data)


def flip_content(archive, member):
    """Change a byte in the middle of a member's compressed content."""
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as source:
        info = source.getinfo(member)
    data[info.header_offset + 30 + len(member.encode()) + info.compress_size // 2] ^= 0xFF
    archive.write_bytes(data)


def test_folders_come_first_then_archives_at_the_top_and_one_folder_down(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    member = [("train2017/1.jpg", b"x")]
    for file in (one / "val2017.zip", two / "zips/train2017.zip", two / "too/deep/train2017.zip"):
        pack(file, member)
    pack(two / "other.zip", member)
    roots = places([one, two, two / "zips"], ARCHIVES)
    assert roots[:3] == (one, two, two / "zips")
    archives = [str(place).rstrip("/") for place in roots[3:]]  # each opened once
    assert archives == [str(one / "val2017.zip"), str(two / "zips/train2017.zip")]
    assert places(str(one)) == (one,)
    [place] = places(pack(tmp_path / "any name.ZIP", member))  # named itself
    assert (place / "train2017" / "1.jpg").read_bytes() == b"x"
    for missing in (tmp_path / "no", tmp_path / "no.zip"):
        with pytest.raises(DataError, match=f"{missing.name}: raw folder not found"):
            places([tmp_path, missing])


def test_members_are_read_from_several_threads(tmp_path):
    contents = {f"{i}.bin": random.Random(i).randbytes(2000 + i) for i in range(200)}
    [place] = places(pack(tmp_path / "a.zip", contents.items()))
    barrier = threading.Barrier(8)

    def read(part):
        barrier.wait(5)
        return {name: read_bytes(place / name, 2**20) for name in list(contents)[part::8]}

    with ThreadPoolExecutor(8) as pool:
        assert contents == {n: c for part in pool.map(read, range(8)) for n, c in part.items()}


def test_only_files_that_a_folder_holds_itself_count(tmp_path):
    names = ["train2017/1.JPG", "train2017/deeper/2.png", "train2017/._3.png", "other/4.png"]
    [place] = places(pack(tmp_path / "a.zip", [(name, b"") for name in names]))
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for folder in (place / "train2017", tmp_path / "train2017"):
        assert holds(folder, ".jpg") and not holds(folder, ".png")


def test_names_that_lead_out_of_an_archive_are_never_followed(tmp_path):
    names = ["../evil.tif", "a/../../evil.tif", "/etc/evil.tif", "a\\..\\evil.tif", "a/good.tif"]
    place = open_archive(pack(tmp_path / "x/a.zip", [(name, b"inside") for name in names]))
    for file in ("x/evil.tif", "evil.tif"):
        (tmp_path / file).write_bytes(b"outside")
    assert [file.name for file in files_below(place)] == ["good.tif"]
    assert read_bytes(place / "../evil.tif", 100) == b"inside"  # when asked for: the member


def test_files_below_a_place_are_those_of_the_tree(tmp_path):
    names = ["b/2.tif", "a/1.tif", "a/c/3.tif", "0.tif"]
    [place] = places(pack(tmp_path / "a.zip", [(name, b"") for name in names]))
    tree = tmp_path / "tree"
    with zipfile.ZipFile(tmp_path / "a.zip") as source:
        source.extractall(tree)
    below = [str(file).removeprefix(str(place)) for file in files_below(place)]
    assert below == [str(f).removeprefix(f"{tree}/") for f in files_below(tree)] == sorted(names)


MEMBER = "train2017/1.jpg"
DAMAGED = "is damaged in its archive ("


def _cut_stream(archive):
    """A deflated member that ends before its end is announced."""
    with zipfile.ZipFile(archive) as source:
        packed = source.getinfo(MEMBER).compress_size
    set_field(archive, MEMBER, "packed", packed // 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: set_field(a, MEMBER, "crc", 1), DAMAGED),
        (lambda a: flip_content(a, MEMBER), DAMAGED),
        (lambda a: set_field(a, MEMBER, "flags", 1), DAMAGED),  # encrypted
        (lambda a: set_field(a, MEMBER, "method", 9), DAMAGED),  # deflate64
        (_cut_stream, DAMAGED),
        (lambda a: set_field(a, MEMBER, "size", 3 * 2**30), "has 3221225472 bytes, more than"),
        (lambda a: set_field(a, MEMBER, "size", 7), DAMAGED),
        (lambda a: set_field(a, MEMBER, "size", 0), DAMAGED),
        (lambda a: set_field(a, MEMBER, "size", 9999), DAMAGED),
        (lambda a: set_field(a, MEMBER, "offset", 5), DAMAGED),
        (lambda a: set_field(a, MEMBER, "offset", 2**31), DAMAGED),
        (lambda a: pack(a, [("train2017/2.jpg", b"x")]), "not found"),
    ],
)
def test_a_damaged_member_is_named_with_its_archive(tmp_path, damage, message):
    archive = pack(tmp_path / "train2017.zip", [(MEMBER, b"abc" * 1000), ("other", b"intact")])
    damage(archive)
    [place] = places(archive)
    with pytest.raises(DataError) as caught:
        read_bytes(place / "train2017" / "1.jpg", 2**20)
    assert str(caught.value).startswith(f"{archive}/{MEMBER}: {message}")
    if message != "not found":
        assert read_bytes(place / "other", 2**20) == b"intact"


def _change(place):
    def damage(archive):
        data = bytearray(archive.read_bytes())
        data[place(data)] ^= 0xFF
        archive.write_bytes(data)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda a: a.write_bytes(a.read_bytes()[:-30]),
        lambda a: a.write_bytes(a.read_bytes()[: a.stat().st_size // 2]),
        lambda a: a.write_bytes(b""),
        lambda a: a.write_text("<html>404 Not Found</html>"),
        _change(lambda data: data.index(b"PK\1\2")),
        _change(lambda data: data.rindex(b"PK\5\6") + 13),
    ],
)
def test_a_damaged_archive_is_named(tmp_path, damage):
    archive = pack(tmp_path / "train2017.zip", [(MEMBER, b"abc" * 1000), ("other", b"intact")])
    damage(archive)
    with pytest.raises(DataError, match="train2017.zip: is not a whole zip archive.*Download"):
        places(tmp_path, ARCHIVES)


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 2**16), st.binary(max_size=9)), max_size=3))
def test_whatever_bytes_change_either_content_or_error_is_right(tmp_path_factory, changes):
    archive = tmp_path_factory.getbasetemp() / "fuzz" / "train2017.zip"
    contents = {"a/1.jpg": b"abc" * 50, "a/2.jpg": bytes(range(256)), "b": b""}
    pack(archive, contents.items())
    data = bytearray(archive.read_bytes())
    for place, new in changes:
        place %= len(data)
        data[place : place + len(new)] = new
    archive.write_bytes(data)
    try:
        [place] = places(archive)
        files = {str(f).removeprefix(f"{archive}/"): f for f in files_below(place)}
    except DataError:
        return
    for name, file in files.items():
        try:
            content = read_bytes(file, 2**20)
        except DataError:
            continue
        # Unless the checksum was changed as well, nothing but the true content is returned.
        if name in contents and place.root.getinfo(name).CRC == zlib.crc32(contents[name]):
            assert content == contents[name]


# --- COCO-Stuff ----------------------------------------------------------------------------------


def stuff(raw, out, **more):
    prepare_coco_stuff(raw, out, name="cs", variant="stuff15", **more)
    return load_prepared(out, verify=True).meta


def pack_coco(tree, folder, *, images=True, maps=True, lists=True):
    """Write the archives as published, and IIC's lists as a folder."""
    folder.mkdir(exist_ok=True)
    if images:
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
    pack_coco(tree, tmp_path / "top", lists=False).rename(tmp_path / "downloads")
    (tmp_path / "top").mkdir()
    (tmp_path / "downloads").rename(tmp_path / "top/downloads")
    assert stuff([tmp_path / "top", str(tree / "curated")], out) == expected
    # One split packed and one not; an empty folder hides no archive.
    pack_coco(tree, tree, maps=False, lists=False)
    shutil.rmtree(tree / "images/val2017")
    (tree / "train2017.zip").unlink()
    (tree / "images/val2017").mkdir()
    assert stuff(tree, out) == expected


def test_a_tree_goes_before_an_archive_and_pictures_are_not_taken_for_maps(tmp_path):
    tree = tmp_path / "tree"
    write_stuff(tree)
    packed = pack_coco(tree, tmp_path / "packed", maps=False)
    roots = places(packed, ARCHIVES)
    assert str(find(roots, "pictures", "train2017")) == f"{packed}/train2017.zip/train2017/"
    with pytest.raises(DataError, match="no label maps in .*stuffthingmaps_trainval2017.zip"):
        find(roots, "label maps", "train2017")
    set_field(packed / "train2017.zip", "train2017/000000000002.jpg", "crc", 1)
    raw = [tree / "curated", packed / "train2017.zip", packed / "val2017.zip", tree]
    assert stuff(raw, tmp_path / "out", on_bad_input="skip").n_skipped == 0
