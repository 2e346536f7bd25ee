"""The table of official files, finding them in every layout, and the manifest of what was found."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
import yaml
from http_server import Reply, file_server

from infoseg.data import sources as module
from infoseg.data.coco import IIC_LISTS
from infoseg.data.sources import (
    TABLE,
    Found,
    Sources,
    check_manifest,
    load_sources,
    manifest,
    resolve,
)
from infoseg.errors import DataError
from infoseg.files import write_csv

COCO = ("train2017.zip", "val2017.zip", "annotations_trainval2017.zip")
POTSDAM = ("4_Ortho_RGBIR.zip", "5_Labels_for_participants.zip")
SPLITS = ("train2017", "val2017")
LISTS = [
    f"curated/{split}/{name}"
    for name in ("Coco164kFull_Stuff_Coarse_7.txt", "Coco164kFew_Stuff_6.txt")
    for split in SPLITS
]
ISPRS = "https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/2d-sem-label-potsdam.aspx"
TILE, LABEL = "top_potsdam_2_10_RGBIR.tif", "top_potsdam_2_10_label.tif"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


def make_zip(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, f"content of {name}" * 50)
    return out.getvalue()


CONTENT = {
    "train2017.zip": make_zip("train2017/1.jpg"),
    "val2017.zip": make_zip("val2017/2.jpg"),
    "annotations_trainval2017.zip": make_zip("annotations/instances_train2017.json"),
    "stuffthingmaps_trainval2017.zip": make_zip("train2017/1.png", "val2017/2.png"),
    "4_Ortho_RGBIR.zip": make_zip(TILE),
    "5_Labels_for_participants.zip": make_zip(LABEL),
    "5_Labels_all.zip": make_zip(LABEL, "top_potsdam_2_13_label.tif"),
} | {name: name.encode() * 9 for name in LISTS}
"""Small files in place of the official ones."""


@functools.cache
def table_as_text() -> str:
    return json.dumps(yaml.safe_load(TABLE.read_text()))


def table() -> dict:
    """The table, to be changed."""
    return json.loads(table_as_text())


def small(server=None) -> Sources:
    """The table with the facts of the small files, all of them at a server if there is one."""
    tree = table()
    for group in tree["groups"].values():
        for file in group["files"]:
            content = CONTENT[file["name"]]
            for key, value in {
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "md5": hashlib.md5(content).hexdigest(),
            }.items():
                if file.get(key):
                    file[key] = value
            if server and file["urls"]:
                file["urls"] = [{"url": server.put(file["name"], content)}]
    return Sources.model_validate(tree)


def put(folder: Path, *names: str) -> None:
    """Write the small official files, and for other names any content."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(CONTENT.get(file.name) or CONTENT.get(name) or f"of {name}".encode())


class Disk:
    def __init__(self, folder: Path) -> None:
        self.raw, self.downloads = folder / "raw", folder / "downloads"
        self.raw.mkdir()

    def resolve(self, group: str, *, raw: bool = True, download: bool = False, server=None):
        return resolve(
            group,
            self.raw if raw else None,
            self.downloads,
            download=download,
            progress=False,
            sources=small(server),
        )

    def kinds(self, group: str, **more) -> dict[str, tuple[str, str]]:
        """Name to kind and path, as far as it lies below raw or downloads."""
        found = self.resolve(group, **more)
        return {f.name: (f.kind, f.path.relative_to(self.raw.parent).as_posix()) for f in found}

    def fails(self, group: str, *words: str, **more) -> str:
        with pytest.raises(DataError) as caught:
            self.resolve(group, **more)
        for word in words:
            assert word in str(caught.value)
        return str(caught.value)


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


# ---- the table -----------------------------------------------------------------------------------


def test_the_tables_files_can_be_verified_and_iics_lists_are_those_the_readers_know():
    groups = load_sources().groups
    assert load_sources().with_needs("cocostuff") == ["coco", "curated", "cocostuff"]
    for name, group in groups.items():
        for file in group.files:
            assert file.sha256 or file.md5 or file.contains
            assert bool(file.urls) == (name != "potsdam")
    assert {file.sha256 for file in groups["curated"].files} == set(IIC_LISTS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", "69a8"),
        ("md5", "CCED6F7F71B7629DDF16F17BBCFAB6B2"),
        ("bytes", 0),
        ("name", "../train2017.zip"),
        ("name", "/train2017.zip"),
        ("urls", [{"url": "file:///train2017.zip"}]),
        ("size", 5),
    ],
)
def test_a_table_with_a_mistake_is_refused(tmp_path, key, value):
    tree = table()
    tree["groups"]["coco"]["files"][0][key] = value
    file = tmp_path / "sources.yaml"
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(DataError, match="no table of sources") as caught:
        load_sources(file)
    assert key in str(caught.value) or "leads out" in str(caught.value)


def test_a_group_that_needs_what_is_not_there_is_refused():
    tree = table()
    tree["groups"]["coco"]["needs"] = ["cococo"]
    with pytest.raises(ValueError, match="no group cococo"):
        Sources.model_validate(tree)


# ---- finding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", "coco", "anything"])
def test_archives_are_used_in_place(disk, folder):
    put(disk.raw / folder, *COCO)
    at = Path("raw", folder).as_posix()
    assert disk.kinds("coco") == {name: ("archive", f"{at}/{name}") for name in COCO}
    assert [one.digests.bytes for one in disk.resolve("coco")] == [len(CONTENT[n]) for n in COCO]


@pytest.mark.parametrize("folder", [".", "coco"])
@pytest.mark.parametrize("images", ["images/", ""])
def test_unpacked_coco_in_both_layouts(disk, folder, images):
    put(
        disk.raw / folder, f"{images}train2017/1.jpg", f"{images}val2017/2.jpg",
        "annotations/instances_train2017.json", "annotations/instances_val2017.json",
    )  # fmt: skip
    at = Path("raw", folder).as_posix()
    assert disk.kinds("coco") == {name: ("tree", at) for name in COCO}
    assert not disk.downloads.exists()


@pytest.mark.parametrize("maps", ["stuffthingmaps/", "annotations/", "../cocostuff/annotations/"])
@pytest.mark.parametrize("lists", [".", "curated", "coco"])
def test_cocostuff_needs_coco_and_the_lists(disk, maps, lists):
    put(disk.raw / "coco", *COCO, f"{maps}train2017/1.png", f"{maps}val2017/2.png")
    put(disk.raw / lists, *LISTS)
    found = disk.kinds("cocostuff")
    assert list(found) == [*COCO, *LISTS, "stuffthingmaps_trainval2017.zip"]
    at = "raw/cocostuff" if maps.startswith("..") else "raw/coco"
    assert found["stuffthingmaps_trainval2017.zip"] == ("tree", at)
    # A preparation is given the folder that curated/ lies in.
    assert {found[name] for name in LISTS} == {("archive", Path("raw", lists).as_posix())}


@pytest.mark.parametrize("present", ["train2017", "images/train2017", "train2017/._1.jpg"])
def test_a_folder_without_pictures_is_none(disk, present):
    put(disk.raw, *COCO[1:])
    if present.endswith(".jpg"):
        put(disk.raw, present)
    else:
        (disk.raw / present).mkdir(parents=True)
    disk.fails("coco", "train2017.zip (", "not there")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("4_Ortho_RGBIR", "5_Labels_for_participants"),
        ("potsdam/4_Ortho_RGBIR", "potsdam/5_Labels_all"),
        ("Potsdam/4_Ortho_RGBIR/4_Ortho_RGBIR", "Potsdam/5_Labels_for_participants"),
        ("somewhere/else", "somewhere"),
    ],
)
@pytest.mark.parametrize("ending", ["", "f"])
def test_unpacked_potsdam_anywhere_below(disk, images, labels, ending):
    put(disk.raw, f"{images}/{TILE.upper()}{ending.upper()}", f"{labels}/{LABEL}{ending}")
    top = images.split("/")[0]
    at = f"raw/{top}" if top.lower() == "potsdam" else "raw"
    assert disk.kinds("potsdam") == {name: ("tree", at) for name in POTSDAM}


def test_the_users_folder_goes_before_the_downloads_and_both_are_used(disk):
    put(disk.raw, "train2017/1.jpg", "val2017.zip")
    put(disk.downloads / "coco", *COCO)
    assert disk.kinds("coco") == {
        "train2017.zip": ("tree", "raw"),
        "val2017.zip": ("archive", "raw/val2017.zip"),
        COCO[2]: ("archive", f"downloads/coco/{COCO[2]}"),
    }


def test_an_unknown_group_and_a_raw_folder_that_is_not_there(disk):
    disk.fails("cityscapes", "'cityscapes'", "potsdam")
    disk.raw.rmdir()
    disk.fails("coco", "raw folder not found", str(disk.raw))


# ---- verification in place -----------------------------------------------------------------------


def test_an_archive_of_another_size_is_an_error_that_leaves_it_alone(disk, monkeypatch):
    put(disk.raw, *COCO)
    monkeypatch.setattr(module, "hash_file", None)  # nor is it read first
    cut = CONTENT["train2017.zip"][:-1]
    (disk.raw / "train2017.zip").write_bytes(cut)
    disk.fails("coco", str(disk.raw / "train2017.zip"), f"{len(cut)} bytes", download=True)
    assert (disk.raw / "train2017.zip").read_bytes() == cut


@pytest.mark.parametrize("name", [*COCO, POTSDAM[0]])
def test_an_archive_of_another_content_is_an_error(disk, name):
    put(disk.raw, *COCO, *POTSDAM)
    content = bytearray(CONTENT[name])
    content[40] ^= 1
    (disk.raw / name).write_bytes(content)
    disk.fails("coco" if name in COCO else "potsdam", str(disk.raw / name), "instead of")
    assert (disk.raw / name).read_bytes() == content


def test_an_archive_is_hashed_once_unless_it_changes(disk, monkeypatch):
    put(disk.raw, *COCO)
    hashed = []

    def hash_file(file, **more):
        hashed.append(file.name)
        return original(file, **more)

    original = module.hash_file
    monkeypatch.setattr(module, "hash_file", hash_file)
    first, second = disk.resolve("coco"), disk.resolve("coco")
    assert first == second and sorted(hashed) == sorted(COCO)
    file = disk.raw / "val2017.zip"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    disk.resolve("coco")
    assert hashed[3:] == ["val2017.zip"]
    # The record is only a help: without it, or with a damaged one, everything is read again.
    for text in ("{", "[]", '{"x": 1}', json.dumps({str(file.resolve()): {"bytes": 1}})):
        (disk.downloads / "verified.json").write_text(text)
        assert disk.resolve("coco") == first
    # Nor does it let a change of the same size and time go unnoticed by the table's hash.
    record = json.loads((disk.downloads / "verified.json").read_text())
    record[str(file.resolve())]["md5"] = "0" * 32
    (disk.downloads / "verified.json").write_text(json.dumps(record))
    disk.fails("coco", "MD5")


def test_an_archive_that_cannot_be_read(disk, monkeypatch):
    put(disk.raw, *COCO)

    def hash_file(file, **_):
        raise OSError(5, "Input/output error", str(file))

    monkeypatch.setattr(module, "hash_file", hash_file)
    disk.fails("coco", str(disk.raw / "train2017.zip"), "cannot be read (Input/output error)")


def test_an_archive_of_unknown_hash_is_pinned_where_it_lies(disk):
    name = "stuffthingmaps_trainval2017.zip"
    put(disk.raw, *COCO, *LISTS, name)
    disk.resolve("cocostuff")
    pinned = json.loads((disk.downloads / "sources.lock").read_text())
    assert pinned[name]["sha256"] == hashlib.sha256(CONTENT[name]).hexdigest()
    (disk.raw / name).write_bytes(make_zip("train2017/3.png", "val2017/2.png"))
    disk.fails("cocostuff", str(disk.downloads / "sources.lock"))
    (disk.downloads / "sources.lock").unlink()
    (disk.raw / name).write_bytes(make_zip("train2017/3.png"))
    disk.fails("cocostuff", "no member like *val2017/*.png")
    assert not (disk.downloads / "sources.lock").exists()


# ---- downloading ---------------------------------------------------------------------------------


def test_what_is_missing_is_downloaded_but_not_into_the_users_folder(disk):
    put(disk.raw, "train2017.zip")
    before = sorted(disk.raw.rglob("*"))
    with file_server() as server:
        found = disk.kinds("cocostuff", download=True, server=server)
        assert found["train2017.zip"] == ("archive", "raw/train2017.zip")
        assert found["val2017.zip"] == ("archive", "downloads/coco/val2017.zip")
        assert {found[name] for name in LISTS} == {("archive", "downloads/curated")}
        assert sorted({asked.path for asked in server.asked}) == sorted(
            [*COCO[1:], *LISTS, "stuffthingmaps_trainval2017.zip"]
        )
        asked = len(server.asked)
        assert disk.kinds("cocostuff", download=True, server=server) == found
        assert len(server.asked) == asked
    assert disk.kinds("cocostuff") == found  # nor is the network needed any more
    assert sorted(disk.raw.rglob("*")) == before
    for name in LISTS:
        assert (disk.downloads / "curated" / name).read_bytes() == CONTENT[name]


def test_a_damaged_download_is_fetched_again_only_where_that_is_allowed(disk):
    put(disk.downloads / "coco", *COCO)
    file = disk.downloads / "coco" / "val2017.zip"
    file.write_bytes(b"damaged")
    disk.fails("coco", str(file), "7 bytes instead of")
    with file_server() as server:
        disk.resolve("coco", download=True, server=server)
        assert len(server.asked) == 1
    assert file.read_bytes() == CONTENT["val2017.zip"]
    [aside] = file.parent.glob("*.bad-*")
    assert aside.read_bytes() == b"damaged"


def test_nothing_is_downloaded_unless_asked_for(disk):
    with file_server() as server:
        text = disk.fails("coco", *COCO, "not there", "cocodataset.org", server=server)
        assert not server.asked
    assert str(disk.downloads / "coco") in text and str(disk.raw) in text
    assert not disk.downloads.exists()


def test_a_failed_download_says_so(disk):
    with file_server() as server:
        sources = small(server)
        server.usual["val2017.zip"] = Reply(404)
        with pytest.raises(DataError, match="404") as caught:
            resolve("coco", None, disk.downloads, download=True, progress=False, sources=sources)
    assert str(disk.downloads / "coco" / "val2017.zip") in str(caught.value)


# ---- Potsdam -------------------------------------------------------------------------------------


@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize("raw", [True, False])
def test_potsdam_has_to_be_asked_for(disk, download, raw):
    text = disk.fails("potsdam", *POTSDAM, ISPRS, "Potsdam.zip", download=download, raw=raw)
    assert str(disk.downloads / "potsdam") in text
    assert (str(disk.raw) in text) == raw


def test_only_the_missing_one_of_the_two_zips_is_named(disk):
    put(disk.raw, POTSDAM[0])
    assert POTSDAM[0] not in disk.fails("potsdam", f"{POTSDAM[1]}: not there", "Put it ")


def outer_zip(file: Path, *names: str, folder: str = "Potsdam/") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("1_DSM.zip", "../escape.txt", *names):
            archive.writestr(folder + name, CONTENT.get(name, b"more"))


@pytest.mark.parametrize("folder", [".", "potsdam", "isprs"])
@pytest.mark.parametrize("inside", ["Potsdam/", "", "a/b/"])
def test_both_zips_are_taken_out_of_the_one_that_is_handed_out(disk, folder, inside):
    outer_zip(disk.raw / folder / "Potsdam.zip", *POTSDAM, "5_Labels_all.zip", folder=inside)
    before = sorted(disk.raw.rglob("*"))
    expected = {name: ("archive", f"downloads/potsdam/{name}") for name in POTSDAM}
    assert disk.kinds("potsdam") == expected
    written = {file.name for file in disk.downloads.rglob("*") if file.is_file()}
    assert written == {*POTSDAM, "verified.json", "sources.lock"}
    for name in POTSDAM:
        assert (disk.downloads / "potsdam" / name).read_bytes() == CONTENT[name]
    assert sorted(disk.raw.rglob("*")) == before
    (disk.raw / folder / "Potsdam.zip").write_bytes(b"")  # not looked into any more
    assert disk.kinds("potsdam") == expected


def test_zips_that_are_there_are_not_taken_out_again(disk):
    put(disk.raw, POTSDAM[0])
    outer_zip(disk.downloads / "potsdam" / "Potsdam.zip", *POTSDAM)
    assert disk.kinds("potsdam") == {
        POTSDAM[0]: ("archive", f"raw/{POTSDAM[0]}"),
        POTSDAM[1]: ("archive", f"downloads/potsdam/{POTSDAM[1]}"),
    }


def test_the_later_labels_serve_where_the_participants_are_not_there(disk):
    put(disk.raw, POTSDAM[0], "5_Labels_all.zip")
    assert disk.kinds("potsdam")["5_Labels_all.zip"] == ("archive", "raw/5_Labels_all.zip")
    outer_zip(disk.raw / "Potsdam.zip", POTSDAM[1])
    assert "5_Labels_all.zip" not in disk.kinds("potsdam")
    shutil.rmtree(disk.downloads)
    outer_zip(disk.raw / "Potsdam.zip", "5_Labels_all.zip")
    (disk.raw / "5_Labels_all.zip").unlink()
    at = ("archive", "downloads/potsdam/5_Labels_all.zip")
    assert disk.kinds("potsdam")["5_Labels_all.zip"] == at


def test_an_outer_zip_without_the_right_zips(disk):
    file = disk.raw / "Potsdam.zip"
    outer_zip(file)
    disk.fails("potsdam", POTSDAM[0], "not there")
    file.write_bytes(b"no zip")
    disk.fails("potsdam", str(file), "cannot be unpacked")
    outer_zip(file, *POTSDAM, f"again/{POTSDAM[0]}")
    disk.fails("potsdam", str(file), f"two members named {POTSDAM[0]}")
    # Another content than the published one; then a damaged member.
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(POTSDAM[0], CONTENT[POTSDAM[1]])
    disk.fails("potsdam", str(file), "another file", "MD5")
    outer_zip(file, *POTSDAM)
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(f"Potsdam/{POTSDAM[0]}")
    content = bytearray(file.read_bytes())
    content[info.header_offset + 80] ^= 255
    file.write_bytes(content)
    disk.fails("potsdam", str(file), "cannot be unpacked")
    assert not [f for f in disk.downloads.rglob("*") if f.is_file()]


def test_taking_out_needs_space(disk, monkeypatch):
    outer_zip(disk.raw / "Potsdam.zip", *POTSDAM)
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10))
    disk.fails("potsdam", "needs", "10.0B left")
    assert not [f for f in disk.downloads.rglob("*") if f.is_file()]


# ---- the manifest --------------------------------------------------------------------------------


@pytest.fixture
def mixed(disk):
    """Archives and a tree of two files."""
    put(disk.raw, *COCO[1:], "train2017/1.jpg", "train2017/2.jpg", "train2017/readme.txt")
    return disk


def test_the_manifest_says_what_was_found_and_nothing_of_the_machine(mixed, tmp_path):
    rows = manifest(mixed.resolve("coco"))
    assert rows[0] == {"file": "train2017.zip", "kind": "tree", "bytes": 36, "files": 2}
    content = CONTENT["val2017.zip"]
    assert rows[1] == {
        "file": "val2017.zip",
        "kind": "archive",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (tmp_path / "x").mkdir()
    moved = Disk(tmp_path / "x")
    put(moved.raw / "coco", *COCO[1:], "images/train2017/1.jpg", "images/train2017/2.jpg")
    for file in (moved.raw / "coco/images/train2017").iterdir():
        file.write_bytes((mixed.raw / "train2017" / file.name).read_bytes())
    assert manifest(moved.resolve("coco")) == rows
    assert str(tmp_path) not in json.dumps(rows)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_manifest_holds_until_something_changes(mixed, tmp_path, as_file):
    rows = manifest(mixed.resolve("coco"))
    stated = tmp_path / "files.csv"
    write_csv(stated, rows)

    def check(found: list[Found]) -> None:
        check_manifest(stated if as_file else rows, found, stage="data@coco")

    check(mixed.resolve("coco"))
    put(mixed.raw, "train2017/3.jpg")
    with pytest.raises(DataError, match=r"train2017.zip is .*files 3.* but .*files 2") as caught:
        check(mixed.resolve("coco"))
    assert "data@coco" in caught.value.advice
    (mixed.raw / "train2017/3.jpg").unlink()
    put(mixed.raw, "train2017.zip")
    with pytest.raises(DataError, match="kind archive.* but kind tree"):
        check(mixed.resolve("coco"))
    (mixed.raw / "train2017.zip").unlink()
    found = mixed.resolve("coco")
    with pytest.raises(DataError, match="val2017.zip is missing"):
        check([one for one in found if one.name != "val2017.zip"])
    check(found)


def test_no_manifest(mixed, tmp_path):
    found = mixed.resolve("coco")
    with pytest.raises(DataError, match="not found"):
        check_manifest(tmp_path / "files.csv", found)
    with (tmp_path / "files.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["a", "b"], [1, 2]])
    with pytest.raises(DataError, match="no manifest"):
        check_manifest(tmp_path / "files.csv", found)
