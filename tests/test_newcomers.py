"""What may go wrong at first: each is done, what is said held against docs/troubleshooting.md."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from clones import ROOT
from disks import disk_over
from PIL import Image
from promises import faults

from infoseg.cli import main
from infoseg.errors import InfosegError
from infoseg.project import Project


def run(*words: object, cwd: Path, check: bool = False, **variables: str) -> str:
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (done.returncode == 0) == check, done.stdout
    return done.stdout


@pytest.fixture
def infoseg(monkeypatch, capsys):
    """infoseg(*words, cwd): what a command says in a folder; check: it has to succeed."""

    def command(*words: object, cwd: Path, check: bool = False) -> str:
        monkeypatch.chdir(cwd)
        assert (main(list(map(str, words))) == 0) == check
        said = capsys.readouterr()
        return said.out + said.err

    return command


@pytest.fixture
def pictures(tmp_path) -> Path:
    draw, folder = np.random.default_rng(0), tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        picture = draw.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def bare(tmp_path) -> Path:
    """What `make` needs of a checkout, and no environment."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@faults("Python is too old")
def test_an_old_python(bare, tmp_path, told):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")  # what the check of its version ends with
    old.chmod(0o755)
    told("Python is too old", run("make", "test", f"PYTHON={old}", cwd=bare))


@faults("packages cannot be had")
def test_packages_that_cannot_be_had(bare, told):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    nowhere |= {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    nowhere |= {"PIP_CONFIG_FILE": os.devnull}
    told("packages cannot be had", run("make", "test", cwd=bare, **nowhere))
    assert not (bare / ".venv/.ready").exists()  # begun again next time


@faults("a command in another folder", "a notebook from another folder")
def test_another_folder(infoseg, tmp_path, told):
    told("a command in another folder", infoseg("prepare", cwd=tmp_path))
    with pytest.raises(InfosegError) as caught:
        Project.open("tiny")  # the first code of a notebook
    told("a notebook from another folder", f"{caught.typename}: {caught.value}")


@pytest.mark.parametrize(
    ("fault", "folder", "classes"),
    [("a folder that is not there", "elsewhere", 3), ("one class", "pictures", 1)],
)
@faults("a folder that is not there", "one class")
def test_what_cannot_be_meant(infoseg, pictures, told, fault, folder, classes):
    words = ["--images", folder, "--classes", classes]
    told(fault, infoseg("train", *words, cwd=pictures.parent))


@faults("labels of another size")
def test_labels_of_another_size(infoseg, pictures, tmp_path, told):
    labels = tmp_path / "labels"
    labels.mkdir()
    for file in pictures.iterdir():
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(labels / file.name)
    output = infoseg("segment", pictures, tmp_path / "out", "--labels", labels, cwd=tmp_path)
    told("labels of another size", output)


@faults("three pictures")
def test_three_pictures_are_trained_on_with_a_warning(infoseg, pictures, tmp_path, told):
    words = ["--images", pictures, "--classes", 2, "--steps", 2, "--out", tmp_path / "out"]
    told("three pictures", infoseg("train", *words, cwd=tmp_path, check=True))
    assert (tmp_path / "out/weights.safetensors").exists()


@faults("a full disk")
def test_no_room(infoseg, pictures, tmp_path, told):
    folder = tmp_path / "disk"
    folder.mkdir()
    with disk_over(folder, "1m") as disk:
        disk.fill()
        told("a full disk", infoseg("segment", pictures, folder / "out", cwd=tmp_path))


def test_a_cmyk_picture_needs_no_message(infoseg, pictures, tmp_path):
    draw = np.random.default_rng(1)
    Image.fromarray(draw.integers(0, 256, (48, 64, 4), dtype=np.uint8), "CMYK").save(
        pictures / "print.jpg"
    )
    output = infoseg("segment", pictures, tmp_path / "out", cwd=tmp_path, check=True)
    assert "4 pictures segmented" in output and (tmp_path / "out/print_overlay.png").exists()
