"""Official files: the table, finding them in every layout, verifying, fetching, in a project."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from http_server import FileServer, make_zip

from infoseg.cli import main
from infoseg.data import official
from infoseg.data.official import SourceFile, find_files, load_table
from infoseg.data.scenes import write_coco
from infoseg.files import DataError
from infoseg.runs import Project
from infoseg.settings import CocoScenesSource, compose, parse_params

COCO = ["train2017.zip", "val2017.zip", "annotations_trainval2017.zip"]
MAPS = "stuffthingmaps_trainval2017.zip"
LISTS = [spec.name for spec in load_table()["curated"]]
POTSDAM = ["4_Ortho_RGBIR.zip", "5_Labels_for_participants.zip"]
TILE, LABEL = "top_potsdam_2_10_RGBIR.tif", "top_potsdam_2_10_label.tif"


MEMBERS = {
    "train2017.zip": ["train2017/1.jpg"],
    "val2017.zip": ["val2017/2.jpg"],
    "annotations_trainval2017.zip": ["annotations/instances_train2017.json"],
    MAPS: ["train2017/1.png", "val2017/2.png"],
    "4_Ortho_RGBIR.zip": [TILE],
    "5_Labels_for_participants.zip": [LABEL],
    "5_Labels_all.zip": [LABEL],
}
#: Small files in place of the official ones.
CONTENT = {name: make_zip(dict.fromkeys(members, b"x")) for name, members in MEMBERS.items()}
CONTENT |= {name: name.encode() * 9 for name in LISTS}


class Disk:
    """A raw folder and a downloads folder, and a table of small files at one server."""

    def __init__(self, folder: Path, server: FileServer) -> None:
        self.raw, self.downloads, self.server = folder / "raw", folder / "downloads", server
        self.raw.mkdir()

    def small(self, spec: SourceFile) -> SourceFile:
        content = CONTENT[spec.name]
        facts = {"bytes": spec.bytes and len(content)}
        for name in ("sha256", "md5"):
            facts[name] = getattr(spec, name) and hashlib.new(name, content).hexdigest()
        urls = [self.server.put(spec.name, content)] if spec.urls else []
        return spec.model_copy(update=facts | {"urls": urls})

    def put(self, folder: str, *names: str) -> None:
        """Write the small official files, and for other names any content."""
        for name in names:
            file = self.raw.parent / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(CONTENT.get(name) or f"of {name}".encode())

    def find(self, group: str, fetch: bool = False) -> dict[str, tuple[str, str]]:
        """Return name to kind and path of the files that are found."""
        files = find_files(group, self.raw, self.downloads, fetch=fetch, progress=False)
        top = self.raw.parent
        return {r["file"]: (r["kind"], path.relative_to(top).as_posix()) for path, r in files}

    def fails(self, group: str, *words: str, fetch: bool = False) -> str:
        with pytest.raises(DataError) as caught:
            self.find(group, fetch)
        message = str(caught.value)
        assert [word for word in words if word not in message] == []
        return message


@pytest.fixture
def disk(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with FileServer() as server:
        disk = Disk(tmp_path, server)
        table = {group: [*map(disk.small, specs)] for group, specs in load_table().items()}
        monkeypatch.setattr(official, "load_table", lambda: table)
        yield disk


@pytest.mark.parametrize("spec", sum(load_table().values(), ()), ids=lambda spec: spec.name)
def test_every_file_of_the_table_can_be_verified_and_its_addresses_are_plain(spec):
    assert [bool(known) for known in (spec.sha256, spec.md5, spec.contains)].count(True) == 1
    assert re.fullmatch("[0-9a-f]{64}|[0-9a-f]{32}|None", str(spec.sha256 or spec.md5))
    assert spec.bytes or spec.contains or not spec.urls  # what a download is resumed by
    assert ".." not in spec.name and not Path(spec.name).is_absolute()
    for url in map(urlsplit, spec.urls):
        assert url.scheme in ("http", "https") and url.hostname
        assert not (url.query or url.username), "an error names the address"


# ---- finding -------------------------------------------------------------------------------------


JSONS = [f"annotations/instances_{split}2017.json" for split in ("train", "val")]
LAYOUTS = [
    ("coco", "raw", ["images/train2017/1.jpg", "images/val2017/2.JPG", *JSONS]),
    ("coco", "raw/any", ["train2017/1.jpg", "val2017/2.JPG", *JSONS]),
    ("potsdam", "raw", [f"4_Ortho_RGBIR/{TILE}", f"5_Labels_for_participants/{LABEL}"]),
    ("potsdam", "raw/Potsdam", [f"4_Ortho_RGBIR/deeper/{TILE.upper()}F", f"5_Labels/{LABEL}f"]),
    ("potsdam", "raw", [f"somewhere/else/{TILE}", f"somewhere/{LABEL}"]),
]


@pytest.mark.parametrize(("group", "folder", "names"), LAYOUTS)
def test_what_is_unpacked_is_found_in_every_layout(disk, group, folder, names):
    disk.put(folder, *names)
    assert set(disk.find(group).values()) == {("tree", folder)}
    assert not disk.downloads.exists()


@pytest.mark.parametrize("maps", ["stuffthingmaps/", "annotations/", "../cocostuff/annotations/"])
@pytest.mark.parametrize("lists", [".", "curated"])
def test_cocostuff_needs_coco_and_the_lists(disk, maps, lists):
    disk.put("raw/coco", *COCO, f"{maps}train2017/1.png", f"{maps}val2017/2.png")
    disk.put(f"raw/{lists}", *LISTS)
    files = disk.find("cocostuff")
    assert list(files) == [*COCO, *LISTS, MAPS]
    assert files[MAPS] == ("tree", "raw/cocostuff" if maps.startswith("..") else "raw/coco")
    # A preparation is given the folder that curated/ lies in.
    assert {files[name] for name in LISTS} == {("archive", Path("raw", lists).as_posix())}


def test_a_folder_without_pictures_is_none(disk):
    disk.put("raw", *COCO[1:], "train2017/a.txt", "train2017/._1.jpg")
    disk.fails("coco", "train2017.zip: not there")


def test_the_later_labels_serve_where_the_participants_are_not_there(disk):
    disk.put("raw", POTSDAM[0], "5_Labels_all.zip")
    assert disk.find("potsdam")["5_Labels_all.zip"] == ("archive", "raw/5_Labels_all.zip")
    disk.put("raw", f"any/{LABEL}")
    assert disk.find("potsdam")[POTSDAM[1]] == ("tree", "raw")
    disk.put("downloads/potsdam", POTSDAM[1])
    (disk.raw / "any" / LABEL).unlink()
    assert "5_Labels_all.zip" not in disk.find("potsdam")


def test_the_users_folder_goes_before_the_downloads_and_both_are_used(disk):
    disk.put("raw", "train2017/1.jpg")
    disk.put("raw/any", COCO[1])
    disk.put("downloads/coco", *COCO)
    archives = [f"raw/any/{COCO[1]}", f"downloads/coco/{COCO[2]}"]
    expected = [("tree", "raw"), *(("archive", path) for path in archives)]
    assert list(disk.find("coco").values()) == expected


@pytest.mark.parametrize("place", ["raw", "downloads/coco"])
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b"x" + b[1:]], ids=["cut", "other"])
@pytest.mark.parametrize("name", COCO)
def test_an_archive_that_is_not_the_published_one_is_an_error(disk, place, name, change):
    disk.put(place, *COCO)
    disk.find("coco")
    file, damaged = disk.raw.parent / place / name, change(CONTENT[name])
    file.write_bytes(damaged)
    os.utime(file, ns=(0, 1))  # the hash that was stored is of another time
    disk.fails("coco", str(file), "instead of", "replace it", fetch=True)
    assert file.read_bytes() == damaged and not disk.server.requests


def test_an_archive_is_read_once_unless_it_changes(disk, monkeypatch):
    disk.put("raw", *COCO, *LISTS, MAPS)
    expected, cache = disk.find("cocostuff"), disk.downloads / "verified.json"
    stored = cache.read_text()
    for text in ("{", "[1]"):  # damaged: read again
        cache.write_text(text)
        assert disk.find("cocostuff") == expected and len(cache.read_text()) >= len(stored)
    monkeypatch.setattr(official, "_digest", None)
    monkeypatch.setattr(official, "_check_zip", None)
    assert disk.find("cocostuff") == expected


def test_what_is_missing_is_downloaded_but_not_into_the_users_folder(disk):
    disk.put("raw", "train2017.zip")
    files = disk.find("cocostuff", fetch=True)
    assert files["train2017.zip"] == ("archive", "raw/train2017.zip")
    assert files["val2017.zip"] == ("archive", "downloads/coco/val2017.zip")
    assert {files[name] for name in LISTS} == {("archive", "downloads/curated")}
    assert sorted(path for path, *_ in disk.server.requests) == sorted([*COCO[1:], *LISTS, MAPS])
    disk.server.requests.clear()
    assert disk.find("cocostuff") == disk.find("cocostuff", fetch=True) == files
    assert not disk.server.requests
    assert [file.name for file in disk.raw.iterdir()] == ["train2017.zip"]


def test_nothing_is_downloaded_unasked(disk):
    message = disk.fails("coco", *COCO, "not there", "cocodataset.org", "let the data stage")
    assert f"Put what is missing into {disk.downloads / 'coco'} or {disk.raw}" in message
    assert not disk.server.requests and not disk.downloads.exists()
    disk.raw.rmdir()
    disk.fails("coco", "raw folder not found", str(disk.raw), fetch=True)


@pytest.mark.parametrize("fetch", [True, False])
@pytest.mark.parametrize("present", [[], POTSDAM[:1]])
def test_potsdam_has_to_be_asked_for(disk, fetch, present):
    disk.put("raw", *present)
    message = disk.fails("potsdam", POTSDAM[1], "isprs.org", "Potsdam.zip", "unpack", fetch=fetch)
    assert (POTSDAM[0] in message) == (not present) and "let the data" not in message
    assert str(disk.downloads / "potsdam") in message


# ---- in a project --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """COCO unpacked: eight pictures with their annotations, without COCO-Stuff's label maps."""
    folder = tmp_path_factory.mktemp("mine") / "raw"
    scenes = {"stuff_images": 0, "person_images": 8, "val_share": 0.25}
    write_coco(folder / "coco", CocoScenesSource(kind="coco_scenes", **scenes))
    shutil.rmtree(folder / "coco/stuffthingmaps")
    shutil.rmtree(folder / "coco/curated")
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Make the paper's project in a folder of its own, without the network."""
    monkeypatch.delattr(requests.Session, "request")
    monkeypatch.delenv("INFOSEG_RAW", raising=False)

    def make(raw: Path | None) -> Project:
        tree = compose("paper")
        for source in tree["sources"].values():
            source["raw"] = raw and str(raw)
        tree["datasets"]["coco_persons"] |= {"images": None, "min_side": 0, "superpixels": None}
        tree["profile"]["methods"] = ["kmeans"]
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        return Project(tmp_path, parse_params(tree, "test"), tmp_path, make_missing=True)

    return make


def test_unpacked_files_are_used_in_place_and_stated_alike(raw, project, tmp_path, monkeypatch):
    made = project(None)
    monkeypatch.setenv("INFOSEG_RAW", str(raw))
    before = sorted(raw.rglob("*"))
    made.make_raw("coco")
    assert sorted(raw.rglob("*")) == before
    stated = (tmp_path / "raw/paper/coco/files.csv").read_text()
    assert stated.splitlines()[0] == "file,kind,bytes,files" and str(tmp_path) not in stated
    names = [line.split(",")[0] for line in stated.splitlines()[1:]]
    assert names == [spec.name for spec in load_table()["coco"]]
    assert 1 <= len(made.prepare("coco_persons")) <= 8


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("train2017.zip,tree", "train2017.zip,archive", "kind tree.* but was kind archive"),
        (",6\n", ",7\n", "train2017.zip is now .*files 6, but was .*files 7"),
        ("file,kind", "name,kind", "has no column file"),
    ],
)
def test_files_that_are_not_those_of_files_csv_are_refused(raw, project, old, new, words):
    made = project(raw)
    stated = made.make_raw("coco") / "files.csv"
    made.raw_places("coco")
    stated.write_text(stated.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=rf"files\.csv: .*{words}.*[Rr]un data@coco again"):
        made.raw_places("coco")


def test_preparing_downloads_nothing(project, tmp_path):
    """Rendering what is missing is expected of the command line; 20 GB over the network are not."""
    with pytest.raises(DataError, match=r"train2017\.zip, .*let the data stage download"):
        project(None).prepare("coco_persons")
    assert not (tmp_path / "raw").exists()


def test_the_command_line_checks_and_fetches(raw, project, tmp_path, monkeypatch, capsys):
    project(raw)
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "potsdam", "coco"]) == 1  # and goes on after the first
    said = capsys.readouterr()
    assert "potsdam: " in said.err and "coco: " in said.out
    assert main(["data"]) == 1
    text = capsys.readouterr().out
    assert "coco: there, " in text and "coco_persons: not prepared" in text
    assert "potsdam: missing, " in text and "4_Ortho_RGBIR.zip" in text
    assert "`infoseg data fetch cocostuff --profile paper`" in text
