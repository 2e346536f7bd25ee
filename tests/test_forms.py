"""Label maps and pictures in the forms in which people have them."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from filelock import FileLock
from helpers import ROOT
from PIL import Image
from test_own_pictures import pictures

from infoseg.cli import main
from infoseg.data.pictures import label_values, picture_size, read_labels, read_picture
from infoseg.data.prepare import ProjectData
from infoseg.files import DataError
from infoseg.settings import load_params

LABELS = np.arange(64, dtype=np.uint8).reshape(8, 8) % 4


def grey_png(file, values, bits):
    """A greyscale PNG of 1, 2 or 4 bits, which Pillow does not write."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    width = (np.arange(8)[:, None] >> np.arange(bits)[::-1]) & 1
    packed = np.packbits(width[values].reshape(len(values), -1), axis=1)
    header = struct.pack(">IIBBBBB", *values.shape[::-1], bits, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_greys_of_few_bits_are_class_numbers_as_stored(tmp_path, bits):
    values = LABELS % 2**bits
    grey_png(tmp_path / "a.png", values, bits)
    assert (read_labels(tmp_path / "a.png") == values).all()


def test_a_jpeg_is_no_label_map_whatever_its_name(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(DataError, match="is a JPEG"):
        read_labels(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "classes"), [((0, 1), {0, 1}), ((0, 1, 255), {0, 1}), ((0,), {0}), ((255,), set())]
)
def test_values_of_label_maps(tmp_path, values, classes):
    for n, value in enumerate(values):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / f"{n}.png")
    assert label_values(tmp_path.iterdir()) == classes


@pytest.mark.parametrize("command", ["segment", "train"])
def test_masks_of_0_and_255_are_refused_before_anything_is_done(tmp_path, capsys, command):
    folder, labels = pictures(tmp_path / "pictures", 2), tmp_path / "labels"
    labels.mkdir()
    for file in folder.iterdir():
        height, width = picture_size(file)
        mask = np.tile((np.arange(width) % 2 * 255).astype(np.uint8), (height, 1))
        Image.fromarray(mask).save(labels / f"{file.stem}.png")
    words = {"segment": ["segment", folder, tmp_path / "out"]}
    words["train"] = ["train", "--images", folder, "--classes", 2, "--out", tmp_path / "out"]
    assert main([str(word) for word in (*words[command], "--labels", labels)]) == 1
    assert "holds 0 and 255 alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [(3, 1, b"\6\0\0\0"), (1, 1, b"\6\0\0\0"), (2, 2, b"6\0\0\0"), (7, 1, b"\6\0\0\0"),
     (9, 1, b"\6\0\0\0")],
    ids=["short", "byte", "text", "undefined", "signed"],
)  # fmt: skip
def test_an_orientation_of_another_type_turns_the_picture(tmp_path, kind, count, value):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8] = 255
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHI", 0x0112, kind, count) + value
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif + b"\0\0\0\0")
    assert picture_size(tmp_path / "a.jpg") == (32, 16)
    turned = read_picture(tmp_path / "a.jpg")
    assert turned.shape == (32, 16, 3) and turned[:, 9:].min() > 200 and turned[:, :7].max() < 50


def test_a_tiff_that_libtiff_gives_as_black_is_refused(tmp_path):
    tags = [(256, 1), (257, 1), (258, 8), (259, 50001), (262, 1), (273, 8), (277, 1), (279, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    content = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DataError, match="compressed as WebP"):
        read_picture(tmp_path / "a.tif")


def test_what_pillow_reads_is_segmented_and_the_rest_is_named(tmp_path, capsys):
    folder = pictures(tmp_path / "pictures", 1)
    for ending in ("bmp", "webp", "gif", "avif"):
        Image.open(folder / "p0.png").convert("RGB").save(folder / f"{ending}.{ending}")
    (folder / "phone.HEIC").write_bytes(b"x")
    (folder / "more").mkdir()
    assert main(["segment", str(folder), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "2 (more, phone.HEIC)" in said and "5 pictures segmented" in said


def test_a_training_whose_output_nobody_reads_on_keeps_its_weights(tmp_path):
    folder = pictures(tmp_path / "pictures", 2)
    words = ["train", "--images", folder, "--classes", "2", "--steps", "1", "--restarts", "1"]
    command = [sys.executable, "-m", "infoseg", *map(str, words), "--out", str(tmp_path / "out")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    running.stdout.close()
    _, errors = running.communicate(timeout=300)
    assert running.returncode in (0, 141), errors.decode()
    assert (tmp_path / "out/weights.safetensors").exists()
    assert (tmp_path / "out/segmented/index.html").exists()


@pytest.mark.parametrize("option", ["--device=mps", "--shorter-side=-5", "--shorter-side=x"])
def test_an_option_that_makes_no_sense_is_named(tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        main(["segment", str(tmp_path), str(tmp_path / "out"), option])
    assert f"argument {option.partition('=')[0]}: " in capsys.readouterr().err


def test_two_folders_of_one_name_do_not_share_their_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["--classes", "2", "--steps", "1", "--restarts", "1"]
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        pictures(tmp_path / name / "holiday", 2)
    assert main(["train", "--images=~/x/holiday", *words]) == 0
    before = (tmp_path / "infoseg-runs/holiday/weights.safetensors").read_bytes()
    assert main(["train", "--images=y/holiday", *words]) == 1
    assert "other pictures" in (said := capsys.readouterr().err) and "--out" in said
    assert (tmp_path / "infoseg-runs/holiday/weights.safetensors").read_bytes() == before
    assert main(["train", "--images=x/holiday", *words]) == 0


def test_a_second_training_into_the_same_folder_is_refused(tmp_path, capsys):
    folder, out = pictures(tmp_path / "pictures", 2), tmp_path / "out"
    words = ["train", "--images", folder, "--classes", 2, "--steps", 1, "--restarts", 1]
    out.mkdir()
    with FileLock(out / ".lock"):
        assert main([str(word) for word in (*words, "--out", out)]) == 1
    assert "another training writes there" in capsys.readouterr().err
    assert main([str(word) for word in (*words, "--out", out)]) == 0


def test_names_that_cannot_be_used_are_left_out_and_all_others_are_not(tmp_path, capsysbinary):
    folder, out = pictures(tmp_path / "pictures", 2), tmp_path / "out"
    names = [b"new\nline", "\u2028".encode(), b"<b>'\"&${HOME}#%", b"a" * 243]
    for name in (*names, b"caf\xe9", b"b" * 244):
        shutil.copy(folder / "p0.png", folder / os.fsdecode(name + b".png"))
    for _ in "again":  # what was written is known, too
        assert main(["segment", str(folder), str(out)]) == 1
        said = capsysbinary.readouterr()
        assert b"6 pictures segmented" in said.out
        assert b"name that is not UTF-8" in said.err and b"too long a name" in said.err
    assert {os.fsencode(file.stem) for file in out.glob("*[!y].png")} >= {*names}


def test_pictures_that_changed_after_they_were_prepared_are_prepared_again(tmp_path, monkeypatch):
    monkeypatch.setenv("INFOSEG_PICTURES", str(pictures(tmp_path / "pictures", 3, (99, 120))))

    def names():
        params = load_params(ROOT, "folder")
        project = ProjectData(tmp_path / "project", params, ROOT, make_missing=True)
        return list(project.load("pictures").index["id"])

    assert names() == names() == ["p0", "p1", "p2"]
    (tmp_path / "pictures/p1.png").rename(tmp_path / "pictures/other.png")
    assert names() == ["other", "p0", "p2"]
    monkeypatch.setenv("INFOSEG_PICTURES", str(pictures(tmp_path / "more", 4, (99, 120))))
    assert names() == ["p0", "p1", "p2", "p3"]


def test_a_channel_that_is_the_same_everywhere_trains(tmp_path, capsys):
    for n in range(2):
        red = np.zeros((40, 50, 3), np.uint8)
        red[..., 0] = np.arange(50) * (n + 3)
        (tmp_path / "red").mkdir(exist_ok=True)
        Image.fromarray(red).save(tmp_path / f"red/{n}.png")
    words = ["train", "--images", tmp_path / "red", "--classes", 2, "--steps", 2, "--restarts", 1]
    words += ["--out", tmp_path / "out", "-S", "methods.infoseg.network.standardise=dataset"]
    assert main(list(map(str, words))) == 0
    history = (tmp_path / "out/runs/folder/pictures/infoseg/history.csv").read_text()
    assert (
        "nan" not in history
        and not json.loads((tmp_path / "out/runs/folder/pictures/infoseg/run.json").read_text())[
            "diverged"
        ]
    )
