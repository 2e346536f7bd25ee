"""`make` on machines and in folders as users have them."""

import json
import shutil
import subprocess

import pytest
from helpers import ROOT
from test_notebooks import notebook

from infoseg.pipeline import run


@pytest.fixture
def checkout(tmp_path):
    """A folder in which make finds what it needs to decide what to do."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").mkdir()
    (folder / ".venv/.ready").write_text(f"{folder}\n")
    return folder


def make(folder, *words, **variables):
    command = ["make", *words, *(f"{name}={value}" for name, value in variables.items())]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_moved_checkout_is_set_up_anew_and_an_unmoved_one_is_not(checkout):
    assert "venv --clear" not in make(checkout, "-n", "setup").stdout
    moved = checkout.rename(checkout.with_name("moved"))
    assert "venv --clear" in make(moved, "-n", "setup").stdout


def test_a_downloaded_zip_becomes_a_repository(checkout):
    assert make(checkout, "git").returncode == 0 and (checkout / ".git").is_dir()


def test_a_folder_that_git_does_not_trust_is_named_before_anything_is_installed(checkout):
    (checkout / ".git").write_text("gitdir: /nowhere\n")
    done = make(checkout, "repro")
    assert done.returncode and "/nowhere" in done.stderr and "installing" not in done.stdout


def test_a_colon_in_the_path_is_refused(checkout):
    done = make(checkout.rename(checkout.with_name("a:b")), "setup")
    assert done.returncode and "a:b: a colon in the path" in done.stderr


def test_a_user_without_a_name_has_one(checkout):
    with (checkout / "Makefile").open("a") as file:
        file.write("\nwho:\n\t@echo $$LOGNAME $$PYTHONUTF8\n")
    words = ["env", "-i", "PATH=/nowhere", shutil.which("make"), "SHELL=/bin/sh", "who"]
    done = subprocess.run(words, cwd=checkout, capture_output=True, text=True)
    assert done.stdout == "user 1\n"


def test_the_kernel_is_this_interpreters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kernel = tmp_path / "kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = ["/bin/false", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    run(notebook(tmp_path / "a.ipynb", "x = 6", "print(x * 7)"), tmp_path / "b.ipynb", {})
    assert '"42\\n"' in (tmp_path / "b.ipynb").read_text()
