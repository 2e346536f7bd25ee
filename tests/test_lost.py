"""What would be lost, left out or understood otherwise without a word, and what ends in a line."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image
from test_own_pictures import pictures

import infoseg
from infoseg.cli import main
from infoseg.data.pictures import label_values, passed_over
from infoseg.data.prepare import _suffix
from infoseg.files import DataError, ParamsError

ONCE = ("--classes", "2", "--steps", "1", "--restarts", "1")


@pytest.fixture
def place(tmp_path, monkeypatch):
    pictures(tmp_path / "pics", 2)
    (tmp_path / "labels").mkdir()
    for file in (tmp_path / "pics").iterdir():
        size = Image.open(file).size
        Image.new("L", size).save(tmp_path / "labels" / f"{file.stem}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *words, status=1):
    """Run a command; returns the line that it ends with."""
    assert main(list(map(str, words))) == status
    said = capsys.readouterr()
    return (said.err if status else said.out).replace("\r", "\n").splitlines()[-1]


def train(*words):
    return ("train", "--images", "pics", *ONCE, "--out", "out", *words)


# ---- lost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.safetensors.md"])
def test_a_training_writes_over_no_foreign_file(place, capsys, name):
    (place / "out").mkdir()
    (place / "out" / name).write_text("mine")
    assert str(place / "out") in run(capsys, *train())
    assert (place / "out" / name).read_text() == "mine"


def test_a_training_writes_over_its_own_output_and_not_over_a_corrected_page(place, capsys):
    for _ in range(2):
        run(capsys, *train(), status=0)
    for name in ("index.html", "p0.png", "Thumbs.db"):
        file = place / "out/segmented" / name
        before = file.read_bytes() if file.exists() else None
        file.write_bytes(b"corrected")
        weights = (place / "out/weights.safetensors").stat().st_mtime_ns
        assert f"{name}: is not as `infoseg segment` wrote it" in run(capsys, *train())
        assert (place / "out/weights.safetensors").stat().st_mtime_ns == weights, "before training"
        file.write_bytes(before) if before else file.unlink()
    card = place / "out/weights.safetensors.md"
    card.write_text("mine")
    assert "weights.safetensors.md: is not as an export wrote it" in run(capsys, *train())
    (place / "more").mkdir()
    pictures(place / "more/pics", 2)
    assert "other pictures" in run(capsys, *train("--images", "more/pics"))


def test_run_lengths_that_were_corrected_stay(place, capsys):
    for _ in range(2):
        run(capsys, "segment", "pics", "maps", "--json", status=0)
        (place / "maps/.DS_Store").touch()  # of whoever has looked at it
    (place / "maps/coco.json").write_text("corrected")
    assert "coco.json: is not as" in run(capsys, "segment", "pics", "maps")
    assert (place / "maps/coco.json").read_text() == "corrected"


def test_exports_and_saved_weights_write_over_exports_alone(place):
    model = infoseg.load()
    for _ in range(2):
        model.save("a.safetensors")
    (place / "b.safetensors").write_text("mine")
    (place / "c.safetensors.md").write_text("mine")
    for name in "bc":
        with pytest.raises(DataError, match="would be lost"):
            model.save(f"{name}.safetensors")


def test_weights_are_as_readable_as_other_files(place):
    before = os.umask(0o077)
    infoseg.load().save("a.safetensors")
    os.umask(before)
    assert (place / "a.safetensors").stat().st_mode & 0o777 == 0o600


# ---- left out or understood otherwise ------------------------------------------------------------


def test_what_is_no_file_is_counted(place):
    (place / "pics/gone.jpg").symlink_to("nowhere")
    os.mkfifo(place / "pics/pipe.png")
    assert "2 (gone.jpg, pipe.png)" in passed_over(place / "pics")


@pytest.mark.parametrize(
    ("values", "named", "fine"),
    [((0, 128, 255), False, False), ((0, 128, 255), True, True), (range(256), False, False),
     ((0, 20, 255), False, True), ((*range(182), 255), False, True), ((7, 33, 255), False, True),
     ((20, 220), False, True), ((*range(0, 182, 7), 255), False, True)],
)  # fmt: skip
def test_masks_of_greys_are_told_from_class_numbers(tmp_path, values, named, fine):
    Image.fromarray(np.array([values], np.uint8)).save(tmp_path / "a.png")
    if fine:
        assert label_values(tmp_path.iterdir(), named) == {*values} - {255}
    else:
        with pytest.raises(DataError, match="masks"):
            label_values(tmp_path.iterdir(), named)


@pytest.mark.parametrize(
    ("word", "option"),
    [("datasets.pictures.clusters=3", "--classes"), ("methods.infoseg.seeds=[7]", "--seed"),
     ("sources.pictures.path=x", "--images"), ("methods.infoseg.optimiser.steps=9", "--steps")],
)  # fmt: skip
def test_what_an_option_says_is_not_said_by_a_setting_too(place, capsys, word, option):
    assert f"{word}: {option}" in run(capsys, *train("-S", word))


def test_of_a_setting_that_is_given_twice_the_last_one_counts():
    first, second = "datasets.a.crop=64", "datasets.a.crop=32"
    assert _suffix([first, second]) == _suffix([second]) != _suffix([second, first])
    assert _suffix([first, "x=1"]) == _suffix(["x=1", first])


def test_labels_in_the_present_folder_have_their_names(place, capsys, monkeypatch):
    (place / "dataset.json").write_text('{"labels": {"classes": {"0": "sea"}}}')
    monkeypatch.chdir(place / "labels")
    run(capsys, "segment", "../pics", "../maps", "--labels", ".", status=0)
    assert '"sea"' in (place / "maps/signals.json").read_text()


@pytest.mark.parametrize("side", [0, -5, float("nan")])
def test_a_shorter_side_of_0_is_the_pictures_own(place, side):
    model = infoseg.load()
    model.shorter_side = side
    if side == 0:
        assert (model.segment("pics/p0.png") == model.segment("pics/p0.png")).all()
        own, model.shorter_side = model.segment("pics/p0.png"), None
        assert (own == model.segment("pics/p0.png")).all()
    else:
        with pytest.raises(ParamsError, match="shorter_side"):
            model.segment("pics/p0.png")


# ---- one line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [("--images", ""), ("--seed", "-1"), ("--seed", 2**32), ("--restarts", 10**30),
     ("--steps", "x"), ("--out", "")],
)  # fmt: skip
def test_options_are_looked_at_before_anything_is_done(place, capsys, words):
    with pytest.raises(SystemExit):
        main(list(map(str, train(*words))))
    assert f"argument {words[0]}: " in capsys.readouterr().err
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("segment", "pics", "pics/p0.png"), "p0.png"),
        (("segment", "~no-such/x", "maps"), "~no-such/x"),
        (("train", "--images", "pics", "--classes", "2", "--minutes", "1e308"), "--minutes"),
        (train("--from", ""), "no such file"),
        (train("-S", "~datasets.pictures"), "datasets"),
        (train("-S", "training.threads=99999999999999"), "training.threads"),
        (("list", "--profile", "tiny", "-S", "profile.datasets=[]"), "profile.datasets"),
    ],
)
def test_what_cannot_be_meant_ends_in_a_line(place, capsys, words, problem):
    assert problem in (line := run(capsys, *words)) and line.startswith(("infoseg: ", "  "))


@pytest.mark.parametrize("how", [">&-", "2>&-", ">&- 2>&-", "> /dev/full"])
def test_streams_that_are_closed_or_full_cost_no_work(place, how):
    command = f'"{sys.executable}" -m infoseg segment pics maps {how}'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-c", command], cwd=place, env=environment, timeout=300)
    assert (place / "maps/index.html").exists()


def test_any_alphabet_in_any_encoding(place):
    command = [sys.executable, "-m", "infoseg", "segment", "pics", "文"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "look at \\u6587/index.html" in done.stdout
