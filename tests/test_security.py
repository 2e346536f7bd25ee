"""What the package never does with other people's files, and where it may use the network.

Names that lead out of their folder are tested where they are read: members of archives in
test_archives, id lists in test_damage, annotations in test_coco, the table of official files in
test_official. Nothing is downloaded unasked: test_official.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
import xml.dom.minidom
from pathlib import Path

import nbformat
import numpy as np
import pytest
import tifffile
import torch
import yaml
from helpers import ROOT, one_data_set, prepare_raw, write_prepared
from PIL import Image
from safetensors.torch import save_file
from test_segmentation import weights

from infoseg.data.pictures import MOST_PIXELS, read_picture
from infoseg.data.store import load_prepared
from infoseg.diagnostics import read_examples
from infoseg.files import DataError, ParamsError
from infoseg.pipeline import KERNEL, run
from infoseg.results.figures import Pictures, draw_pictures, save_figure
from infoseg.settings import compose, load_params, parse_params
from infoseg.weights import load_weights

# ---- what the source may hold --------------------------------------------------------------------

FORBIDDEN = """
eval("1")
exec("1")
import pickle
from pickle import loads
import os; os.system("ls")
from os import system; system("ls")
import subprocess; subprocess.run("ls", shell=True)
import yaml; yaml.load("", Loader=yaml.Loader)
import pandas; pandas.read_pickle("a")
import jinja2; jinja2.Environment()
def later(): import urllib.request
from urllib import request
import socket
import requests
""".split("\n")[1:-1]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_the_linter_finds_code_made_of_data_and_the_network(text):
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "concise"]
    command += ["--stdin-filename", "infoseg/x.py", "-"]
    done = subprocess.run(command, input=text, cwd=ROOT, text=True, capture_output=True)
    assert re.search(r": (S\d+|TID251) ", done.stdout), done.stdout


# ---- notebooks' parameters -----------------------------------------------------------------------

HOSTILE = {
    "quotes": "'\"; import os; os.mkdir('ran') #",
    "triple": '"""\nimport os; os.mkdir("ran")\n"""',
    "lines": "x\"\nimport os; os.mkdir('ran')\r\n\u2028os.mkdir('ran')",
    "backslash": "\\\"; __import__('os').mkdir('ran'); \"\\",
    "braces": "{profile.__class__} {{1}} ${HOME} $(mkdir ran) `mkdir ran` %run",
    "line_magic": "!mkdir ran",
    "unicode": "ä \u202e \U0001f600 \x00 \x1b",
}


def test_a_parameter_is_never_run(tmp_path, monkeypatch, capfd):
    """Whatever a value holds, the notebook gets it as it is, and nothing else happens."""
    monkeypatch.chdir(tmp_path)
    book = nbformat.v4.new_notebook(metadata=KERNEL)
    names = ", ".join(f"{name}={name}" for name in HOSTILE)
    book.cells = [
        nbformat.v4.new_code_cell("\n".join(f"{name} = ''" for name in ("profile", *HOSTILE))),
        nbformat.v4.new_code_cell(f"import json; print(json.dumps(dict({names})))"),
    ]
    book.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(book, tmp_path / "a.ipynb")
    run(tmp_path / "a.ipynb", tmp_path / "out.ipynb", HOSTILE)
    [output] = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs
    assert json.loads(output.text) == HOSTILE
    assert {path.name for path in tmp_path.iterdir()} == {"a.ipynb", "build", "out.ipynb"}


# ---- the network, and other programs -------------------------------------------------------------

WATCHED = """
import socket, sys, torch  # whose CUDA build asks ldconfig for libraries

seen = []

def watch(event, arguments):
    if event.startswith("socket.") or event in ("os.system", "os.exec", "os.posix_spawn"):
        seen.append([event, str(arguments)])
    elif event == "subprocess.Popen":
        seen.append([event, [str(word) for word in arguments[1]]])

sys.addaudithook(watch)
from infoseg.cli import main

for words in (["prepare"], ["train", "coco_stuff3", "infoseg"],
              ["evaluate", "coco_stuff3", "infoseg"], ["report"]):
    assert main(words) == 0, words
steps = list(seen)
socket.socket(socket.AF_INET).close()  # what the hook would have seen
import json
print(json.dumps({"steps": steps, "control": seen[len(steps):]}))
"""


def test_no_step_opens_a_socket_or_starts_a_program(tmp_path):
    tree = one_data_set(pictures=2)
    tree["profile"]["methods"] = ["infoseg"]
    tree["profile"]["ablations"]["variants"] = []
    tree["sources"]["coco"] |= {"stuff_images": 12, "person_images": 1}
    tree["methods"]["infoseg"]["optimiser"] |= {"steps": 4, "batch": 4}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    for folder in ("docs", "notebooks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (tmp_path / "results/tiny/report.html").exists()
    assert {event for event, _ in found["control"]} >= {"socket.__new__"}
    assert found["steps"] == []


def test_dvcs_shared_cache_is_the_users_alone(tmp_path):
    # DVC unpickles what lies there.
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    show = 'show: ; @stat -c "%a %n" "$$DVC_SITE_CACHE_DIR"'
    environment = {k: v for k, v in os.environ.items() if k != "DVC_SITE_CACHE_DIR"}
    done = subprocess.run(
        ["make", "--no-print-directory", "--eval", show, "show"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["700", str(tmp_path.resolve() / ".dvc/tmp/site")], done.stderr


# ---- weights and arrays that are more than numbers -----------------------------------------------


class Payload:
    """What a pickle can do: make a folder when it is read."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_pickle_is_not_read_whatever_it_is_called(tmp_path):
    ran = tmp_path / "ran"
    torch.save({"weights": Payload(ran)}, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(pickle.dumps(Payload(ran)))
    for name in ("a", "b"):
        with pytest.raises(DataError, match=rf"{name}\.safetensors: cannot be read as weights"):
            load_weights(tmp_path / f"{name}.safetensors", torch.device("cpu"))
    objects = np.array([Payload(ran)], dtype=object)
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(file, maps=objects, weights=objects, images=objects)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Payload(ran)))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(DataError, match=f"{name}: cannot be read"):
            read_examples(tmp_path / name, "evaluate@x")
    assert not ran.exists()
    pickle.loads(pickle.dumps(Payload(ran)))
    assert ran.exists(), "the payload does what it is there for"


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more"])
def test_arrays_that_are_not_whole_are_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz: cannot be read.*evaluate@x"):
        read_examples(tmp_path / "a.npz", "evaluate@x")


def _widen(card):
    card["settings"]["network"]["width"] = 1e5


WEIGHTS = {
    "a network of terabytes": _widen,
    "clusters": lambda card: card.update(clusters=10**9),
    "other clusters": lambda card: card.update(clusters=2),
    "a kind that is no word": lambda card: card["settings"].update(kind=[]),
    "a mean of no channel": lambda card: card.update(mean=[]),
    "channels": lambda card: card.update(channels=-1),
}


@pytest.mark.parametrize("change", WEIGHTS.values(), ids=WEIGHTS.keys())
def test_weights_that_say_something_else_of_themselves_are_refused(tmp_path, change):
    file, method = weights(tmp_path, "infoseg")
    assert load_weights(file, torch.device("cpu"))[1].clusters == 3
    with tmp_path.joinpath("w.safetensors").open("rb") as stream:
        head = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    card = json.loads(head["__metadata__"]["infoseg"])
    change(card)
    save_file(method.state_dict(), file, {"infoseg": json.dumps(card)})
    with pytest.raises(DataError, match=r"w\.safetensors: cannot be read as weights"):
        load_weights(file, torch.device("cpu"))


# ---- pictures ------------------------------------------------------------------------------------


def test_a_picture_is_never_handed_to_another_program(tmp_path):
    # Pillow has Ghostscript draw it, whatever its name ends in.
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    assert Image.open(io.BytesIO(eps)).format == "EPS"
    (tmp_path / "a.jpg").write_bytes(eps)
    with pytest.raises(DataError, match=r"a\.jpg: is not a picture in a format that is read here"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "PPM", "WEBP", "JPEG2000"])
def test_other_formats_under_a_pictures_name_are_read(tmp_path, kind):
    Image.new("RGB", (16, 8), (10, 200, 30)).save(tmp_path / "a.jpg", format=kind)
    assert read_picture(tmp_path / "a.jpg").shape == (8, 16, 3)


def test_a_tiff_that_unpacks_to_too_much_is_refused(tmp_path):
    side = int(MOST_PIXELS**0.5) + 16  # six tiles of 4096 along each side
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        tiles = iter([b""] * 36)
        writer.write(
            tiles, shape=(side, side, 4), dtype=np.uint8, tile=(4096, 4096), compression="zlib",
            photometric="rgb", extrasamples=["unspecified"],
        )  # fmt: skip
    assert (tmp_path / "a.tif").stat().st_size < 2**16
    with pytest.raises(DataError, match=r"a\.tif: is 23,016 x 23,016 pixels.*Cut it"):
        read_picture(tmp_path / "a.tif", 4)


# ---- names and texts from files ------------------------------------------------------------------


def test_files_of_a_prepared_data_set_are_its_own(tmp_path):
    image = np.zeros((32, 32, 3), np.uint8)
    write_prepared(tmp_path / "set", [image], [image[..., 0]])
    file = tmp_path / "set/meta.json"
    meta = json.loads(file.read_text())
    (tmp_path / "secret.bin").write_bytes(b"1")
    meta["files"]["../secret.bin"] = meta["files"]["images.bin"]
    file.write_text(json.dumps(meta))
    with pytest.raises(
        DataError, match=r"meta\.json: .*files\.\.\./secret\.bin.*Input should be 'images.bin'"
    ):
        load_prepared(tmp_path / "set")


@pytest.mark.parametrize(
    "content",
    [
        '{"labels": {"classes": ["sky", "a\\u001b[2Jb"]}}',
        '{"labels": {"classes": ["sky", "two\\nlines"]}}',
        '{"labels": ' * 20_000,
        "[" * 200_000,
        " " * (2**24 + 1),
    ],
    ids=["control", "two lines", "deep", "deeper", "large"],
)
def test_a_dataset_json_that_is_no_description_is_named(tmp_path, content):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / folder / "a.png")
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=r"dataset\.json: (does not describe|has \d+ bytes)"):
        prepare_raw("folder", tmp_path, tmp_path / "out", labels="labels")
    assert not (tmp_path / "out").exists()


NAMES = ["<script>alert(1)</script>", "$\\frac{$", "]]> --> &amp; \\input{a}", "_hidden", "100 %"]


def test_names_of_classes_are_drawn_as_they_are(tmp_path):
    maps = np.arange(len(NAMES)).repeat(2).reshape(1, -1, 2)
    shown = Pictures(NAMES[0], np.zeros((*maps.shape, 3), np.uint8), {NAMES[1]: maps}, maps, NAMES)
    page = save_figure(draw_pictures([shown]), tmp_path / "a.svg", NAMES[2])
    found = xml.dom.minidom.parse(str(page))
    assert not found.getElementsByTagName("script")
    assert "$\\frac{$" in " ".join(re.findall("<!-- (.*?) -->", page.read_text()))


def test_keys_that_files_are_named_by_are_names():
    tree = one_data_set(pictures=2)
    names = ["../up", "a/b", ".hidden", "-S", "a;b", "a b", "$(a)", "", "a\n"]
    for section in ("sources", "datasets", "methods", "variants"):
        tree[section] |= dict.fromkeys(names, next(iter(tree[section].values())))
    with pytest.raises(ParamsError) as error:
        parse_params(tree, "test")
    for section in ("sources", "datasets", "methods", "variants"):
        for name in names:
            assert f"  {section}.{name}: {name!r} cannot be a name" in str(error.value)


@pytest.mark.parametrize("name", ["../up", "tiny/", "../profile/tiny", "tiny,demo", "."])
def test_a_profile_is_one_of_those_in_its_folder(tmp_path, name):
    with pytest.raises(ParamsError, match=r"is not among .*'tiny'"):
        compose(name)


def test_settings_are_never_run(tmp_path):
    (tmp_path / "params.yaml").write_text("profile: !!python/object/apply:os.mkdir [ran]\n")
    with pytest.raises(ParamsError, match="is not valid YAML"):
        load_params(tmp_path)
    assert not Path("ran").exists()


def test_titles_are_one_line():
    tree = one_data_set(pictures=2)
    tree["datasets"]["coco_stuff3"]["title"] = "a\n# b"
    with pytest.raises(ParamsError, match=r"datasets\.coco_stuff3\.title: .*not one line"):
        parse_params(tree, "test")


def test_an_error_cannot_steer_the_terminal():
    member = Path("x.zip/a\x1b[2J\x07.jpg")
    said = str(DataError("is \x9b damaged", file=member, advice="Line\nbreaks stay"))
    assert "\\x1b[2J\\x07.jpg" in said and "\\x9b" in said and said.isascii()
    assert not {c for c in said if ord(c) < 32} - {"\n"}
