"""Raw files read where they lie: folders, archives, mixtures, and archives that are damaged."""

from __future__ import annotations

import random
import shutil
import struct
import threading
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prepare_coco import write_stuff

from infoseg.data import raw as raw_module
from infoseg.data.coco import prepare_coco_stuff
from infoseg.data.coco_layout import image_folder, map_folder
from infoseg.data.raw import files_below, holds, open_archive, places, read_all
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
    start = info.header_offset + 30 + len(member.encode())
    data[start + info.compress_size // 2] ^= 0xFF
    archive.write_bytes(data)


# --- Places --------------------------------------------------------------------------------------


def test_folders_come_first_then_archives_at_the_top_and_one_folder_down(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    pack(one / "val2017.zip", [("val2017/1.jpg", b"x")])
    pack(two / "zips/train2017.zip", [("train2017/1.jpg", b"x")])
    pack(two / "too/deep/train2017.zip", [("train2017/1.jpg", b"x")])
    pack(two / "other.zip", [("train2017/1.jpg", b"x")])
    found = places([one, two])
    assert found[:2] == (one, two)
    archives = [str(place).rstrip("/") for place in found[2:]]
    assert archives == [str(one / "val2017.zip"), str(two / "zips/train2017.zip")]
    assert places(str(one), archives=()) == (one,)


def test_an_archive_may_be_named_itself_and_is_opened_once(tmp_path):
    archive = pack(tmp_path / "any name.ZIP", [("train2017/1.jpg", b"x")])
    [place] = places(archive)
    assert (place / "train2017" / "1.jpg").read_bytes() == b"x"
    pack(tmp_path / "a/train2017.zip", [("train2017/1.jpg", b"x")])
    assert len(places([tmp_path, tmp_path / "a"])) == 3


def test_a_folder_that_is_not_there_is_named(tmp_path):
    for missing in (tmp_path / "no", tmp_path / "no.zip"):
        with pytest.raises(DataError, match=f"{missing.name}: raw folder not found"):
            places([tmp_path, missing])
    with pytest.raises(DataError, match="no raw folder"):
        places([])


def test_members_are_read_from_several_threads(tmp_path):
    contents = {f"{i}.bin": random.Random(i).randbytes(2000 + i) for i in range(200)}
    [place] = places(pack(tmp_path / "a.zip", contents.items()))
    barrier = threading.Barrier(8)

    def read(part):
        barrier.wait(5)
        return {name: read_all(place / name, 2**20) for name in list(contents)[part::8]}

    with ThreadPoolExecutor(8) as pool:
        found = {name: c for part in pool.map(read, range(8)) for name, c in part.items()}
    assert found == contents


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
    (tmp_path / "x/evil.tif").write_bytes(b"outside")
    (tmp_path / "evil.tif").write_bytes(b"outside")
    assert [file.name for file in files_below(place)] == ["good.tif"]
    # Even when asked for, what is read is the member.
    assert read_all(place / "../evil.tif", 100) == b"inside"


def test_files_below_a_place_are_those_of_the_tree(tmp_path):
    names = ["b/2.tif", "a/1.tif", "a/c/3.tif", "0.tif"]
    [place] = places(pack(tmp_path / "a.zip", [(name, b"") for name in names]))
    tree = tmp_path / "tree"
    with zipfile.ZipFile(tmp_path / "a.zip") as source:
        source.extractall(tree)
    found = [str(file).removeprefix(str(place)) for file in files_below(place)]
    assert found == [str(f).removeprefix(f"{tree}/") for f in files_below(tree)] == sorted(names)


# --- Reading -------------------------------------------------------------------------------------


def test_files_and_members_give_their_content(tmp_path):
    content = random.Random(0).randbytes(3000)
    (tmp_path / "1.jpg").write_bytes(content)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        [place] = places(pack(tmp_path / f"{method}.zip", [("1.jpg", content), ("0", b"")], method))
        assert read_all(place / "1.jpg", 3000) == read_all(tmp_path / "1.jpg", 3000) == content
        assert read_all(place / "0", 0) == b""


def test_large_members_are_read_in_pieces(tmp_path, monkeypatch):
    content = random.Random(0).randbytes(5000)
    [place] = places(pack(tmp_path / "a.zip", [("1.tif", content)]))
    monkeypatch.setattr(raw_module, "_PIECE", 999)
    assert read_all(place / "1.tif", 2**20) == content


def test_what_is_wrong_with_a_plain_file_is_said(tmp_path):
    (tmp_path / "large").write_bytes(bytes(11))
    (tmp_path / "folder").mkdir()
    for name, message in (("no", "not found"), ("large", "has 11 bytes, more than the 10 that")):
        with pytest.raises(DataError, match=f"{name}: {message}"):
            read_all(tmp_path / name, 10)
    with pytest.raises(DataError, match="folder: cannot be read"):
        read_all(tmp_path / "folder", 10)


MEMBER = "train2017/1.jpg"


def _cut_stream(archive):
    """A deflated member that ends before its end is announced."""
    with zipfile.ZipFile(archive) as source:
        packed = source.getinfo(MEMBER).compress_size
    set_field(archive, MEMBER, "packed", packed // 2)


MEMBER_FAULTS = {
    "wrong checksum": (lambda a: set_field(a, MEMBER, "crc", 1), "damaged in its archive (Bad CRC"),
    "changed content": (lambda a: flip_content(a, MEMBER), "damaged in its archive ("),
    "encrypted": (lambda a: set_field(a, MEMBER, "flags", 1), "is encrypted"),
    "unknown method": (lambda a: set_field(a, MEMBER, "method", 9), "not read here (deflate64)"),
    "ends early": (_cut_stream, "damaged in its archive ("),
    "claims 3 GB": (lambda a: set_field(a, MEMBER, "size", 3 * 2**30), "has 3221225472 bytes"),
    "claims too little": (lambda a: set_field(a, MEMBER, "size", 7), "damaged in its archive ("),
    "claims nothing": (lambda a: set_field(a, MEMBER, "size", 0), "damaged in its archive ("),
    "claims too much": (lambda a: set_field(a, MEMBER, "size", 9999), "damaged in its archive ("),
    "place is wrong": (lambda a: set_field(a, MEMBER, "offset", 5), "damaged in its archive ("),
    "place is behind the end": (
        lambda a: set_field(a, MEMBER, "offset", 2**31),
        "damaged in its archive (",
    ),
    "missing": (lambda a: pack(a, [("train2017/2.jpg", b"x")]), "not found"),
}


@pytest.mark.parametrize("fault", MEMBER_FAULTS)
def test_a_damaged_member_is_named_with_its_archive(tmp_path, fault):
    damage, message = MEMBER_FAULTS[fault]
    archive = pack(tmp_path / "train2017.zip", [(MEMBER, b"abc" * 1000), ("other", b"intact")])
    damage(archive)
    [place] = places(archive)
    with pytest.raises(DataError) as caught:
        read_all(place / "train2017" / "1.jpg", 2**20)
    assert str(caught.value).startswith(f"{archive}/{MEMBER}: ") and message in str(caught.value)
    assert caught.value.file == archive / MEMBER
    if fault != "missing":
        assert read_all(place / "other", 2**20) == b"intact"


def test_other_compressions_are_refused(tmp_path):
    for method, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")):
        [place] = places(pack(tmp_path / f"{name}.zip", [("1.jpg", b"abc")], method))
        with pytest.raises(DataError, match=rf"1.jpg: is compressed by a method.*\({name}\)"):
            read_all(place / "1.jpg", 100)


def test_a_bomb_takes_no_more_memory_than_it_claims(tmp_path):
    archive = pack(tmp_path / "a.zip", [("1.jpg", bytes(2**24))])
    set_field(archive, "1.jpg", "size", 1000)
    [place] = places(archive)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="damaged in its archive"):
            read_all(place / "1.jpg", 2**30)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def _change(place):
    def damage(archive):
        data = bytearray(archive.read_bytes())
        data[place(data)] ^= 0xFF
        archive.write_bytes(data)

    return damage


ARCHIVE_FAULTS = {
    "truncated": lambda a: a.write_bytes(a.read_bytes()[:-30]),
    "half": lambda a: a.write_bytes(a.read_bytes()[: a.stat().st_size // 2]),
    "empty": lambda a: a.write_bytes(b""),
    "a web page": lambda a: a.write_text("<html>404 Not Found</html>"),
    "list of members": _change(lambda data: data.index(b"PK\1\2")),
    "length of the list": _change(lambda data: data.rindex(b"PK\5\6") + 13),
}


@pytest.mark.parametrize("fault", ARCHIVE_FAULTS)
def test_a_damaged_archive_is_named(tmp_path, fault):
    archive = pack(tmp_path / "train2017.zip", [(MEMBER, b"abc" * 1000), ("other", b"intact")])
    ARCHIVE_FAULTS[fault](archive)
    with pytest.raises(DataError, match="train2017.zip: is not a whole zip archive.*Download"):
        places(tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_occurs_twice_is_an_error(tmp_path):
    pack(tmp_path / "train2017.zip", [("a", b"1"), (MEMBER, b"1"), (MEMBER, b"2")])
    with pytest.raises(DataError, match=f"train2017.zip: has two members named '{MEMBER}'"):
        places(tmp_path)


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
        found = {str(f).removeprefix(f"{archive}/"): f for f in files_below(place)}
    except DataError:
        return
    for name, file in found.items():
        try:
            content = read_all(file, 2**20)
        except DataError:
            continue
        # Unless the checksum was changed as well, nothing but the true content is returned.
        if name in contents and place.root.getinfo(name).CRC == zlib.crc32(contents[name]):
            assert content == contents[name]


# --- COCO-Stuff ----------------------------------------------------------------------------------


def stuff(raw, out):
    prepare_coco_stuff(raw, out, name="cs", variant="stuff15")
    load_prepared(out, verify=True)
    names = ("images.bin", "labels.bin", "index.csv", "meta.json")
    return {name: (out / name).read_bytes() for name in names}


@pytest.fixture
def tree(tmp_path):
    write_stuff(tmp_path / "tree")
    return tmp_path / "tree"


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


def test_archives_give_the_same_bytes_as_folders(tmp_path, tree):
    expected = stuff(tree, tmp_path / "out")
    packed = pack_coco(tree, tmp_path / "packed")
    assert stuff(packed, tmp_path / "out") == expected
    # One folder down, and the lists in a folder of their own.
    apart = pack_coco(tree, tmp_path / "apart", lists=False)
    assert stuff([tree / "curated", tmp_path / "apart"], tmp_path / "out") == expected
    apart.rename(tmp_path / "downloads")
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "downloads").rename(top / "downloads")
    assert stuff([top, str(tree / "curated")], tmp_path / "out") == expected


@pytest.mark.parametrize("packed", ["images", "maps"])
def test_archives_and_folders_mix(tmp_path, tree, packed):
    expected = stuff(tree, tmp_path / "out")
    pack_coco(tree, tree, images=packed == "images", maps=packed == "maps", lists=False)
    shutil.rmtree(tree / {"images": "images", "maps": "stuffthingmaps"}[packed])
    assert stuff(tree, tmp_path / "out") == expected


def test_one_split_packed_and_one_not(tmp_path, tree):
    expected = stuff(tree, tmp_path / "out")
    pack_coco(tree, tree, maps=False, lists=False)
    shutil.rmtree(tree / "images/val2017")
    (tree / "train2017.zip").unlink()
    (tree / "images/val2017").mkdir()  # an empty folder hides no archive
    assert stuff(tree, tmp_path / "out") == expected


def test_pictures_are_not_taken_for_maps(tmp_path, tree):
    packed = pack_coco(tree, tmp_path / "packed", maps=False)
    found = places(packed)
    assert str(image_folder(found, "train2017")) == f"{packed}/train2017.zip/train2017/"
    with pytest.raises(DataError, match="no label maps in .*stuffthingmaps_trainval2017.zip"):
        map_folder(found, "train2017")


def test_a_tree_goes_before_an_archive(tmp_path, tree):
    packed = pack_coco(tree, tmp_path / "packed")
    set_field(packed / "train2017.zip", "train2017/000000000002.jpg", "crc", 1)
    raw = [tree / "curated", packed / "train2017.zip", packed / "val2017.zip", tree]
    out = tmp_path / "out"
    prepare_coco_stuff(raw, out, name="cs", variant="stuff15", on_bad_input="skip")
    assert load_prepared(out).meta.n_skipped == 0
