"""A training that was stopped goes on to the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from helpers import (
    CPU,
    OPTIMISER,
    TRAINED,
    build,
    data_info,
    one_data_set,
    random_images,
    training,
    write_prepared,
)

from infoseg.data.batches import DeviceData
from infoseg.evaluation import evaluate
from infoseg.machine import reproducible
from infoseg.methods.base import Method
from infoseg.runs import SCRATCH, Project
from infoseg.settings import SuperpixelSettings, parse_params
from infoseg.training import Checkpoint, Trained, train

STEPS = 12


class PowerCut(BaseException):
    """What no code catches."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    settings = SuperpixelSettings(pixels_per_region=60, compactness=10.0, smoothing=0.0)
    path = tmp_path_factory.mktemp("data") / "p"
    return write_prepared(path, *random_images(13, 32), superpixels=settings)


def run(
    prepared, kind: str, path: Path | None = None, cut: int | None = None, **optimiser
) -> tuple[Method, Trained]:
    """Train a method with checkpoints at `path`; the power goes at the start of step `cut`."""
    with reproducible(training(), 0):
        method = build(kind, data_info(), 0, optimiser=OPTIMISER | {"steps": STEPS} | optimiser)
        data = DeviceData(prepared, 32, CPU, method.sees)
        begin = method.begin_step

        def begin_step(step: int) -> None:
            if step == cut:
                raise PowerCut
            begin(step)

        method.begin_step = begin_step
        trained = train(
            method,
            data,
            training(evaluations=3, log_every=5),
            0,
            lambda: evaluate(method, data, 4, ["a", "b", "c"]),
            kind,
            Checkpoint(path, 0) if path else None,
        )
    return method, trained


def cut_off(prepared, kind: str, path: Path, *cuts: int, **optimiser) -> None:
    for cut in cuts:
        with pytest.raises(PowerCut):
            run(prepared, kind, path, cut, **optimiser)


def same(one: tuple[Method, Trained], two: tuple[Method, Trained]) -> bool:
    """Whether two trainings left the same bytes."""
    left, right = one[0].state_dict(), two[0].state_dict()
    return repr(one[1].history) == repr(two[1].history) and all(
        left[name].numpy().tobytes() == right[name].numpy().tobytes() for name in left | right
    )


# ---- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRAINED)
def test_every_method_goes_on_to_the_same_bytes(prepared, tmp_path, kind):
    whole = run(prepared, kind)
    cut_off(prepared, kind, tmp_path / "c", 3, 8, 12)  # within epochs of three batches
    resumed = run(prepared, kind, tmp_path / "c")
    assert resumed[1].resumed_at == [2, 7, 11] and whole[1].resumed_at == []
    assert same(resumed, whole)


def test_an_average_and_a_schedule_go_on_too(prepared, tmp_path):
    how = {"average": 0.9, "schedule": "cosine"}
    whole = run(prepared, "infoseg", **how)
    cut_off(prepared, "infoseg", tmp_path / "c", 6, **how)
    assert same(run(prepared, "infoseg", tmp_path / "c", **how), whole)
    assert not same(run(prepared, "infoseg"), whole)


# ---- files ---------------------------------------------------------------------------------------


class Code:
    def __reduce__(self):
        return os.system, ("false",)


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "code"])
def test_a_damaged_checkpoint_is_named_and_the_training_begins_anew(
    prepared, tmp_path, capsys, damage
):
    path = tmp_path / "c"
    whole = run(prepared, "infoseg")
    cut_off(prepared, "infoseg", path, 6)
    content = path.read_bytes()
    if damage == "code":  # it holds data alone
        torch.save({"optimisation": Code()}, path)
    else:
        path.write_bytes({"truncated": content[:-100], "empty": b""}.get(damage, b"x" * 5000))
    again = run(prepared, "infoseg", path)
    assert f"checkpoint {path} is not used" in capsys.readouterr().err
    assert again[1].resumed_at == [] and same(again, whole)
    assert len(path.read_bytes()) == pytest.approx(len(content), rel=0.2)  # a whole one, since


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(
    prepared, tmp_path, monkeypatch, capsys
):
    def full(state, file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert same(run(prepared, "infoseg", tmp_path / "c"), run(prepared, "infoseg"))
    assert "no checkpoint, training goes on: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_there_is_one_and_it_is_written_by_the_clock_and_cleared(tmp_path):
    kept = Checkpoint(tmp_path / "c", 0)
    assert kept.read() is None
    for step in (1, 2):
        assert kept.due()
        kept.write({"step": step})
    assert [path.name for path in tmp_path.iterdir()] == ["c"] and kept.read() == {"step": 2}
    assert not Checkpoint(tmp_path / "c", 3600).due() and not Checkpoint(tmp_path / "c", None).due()
    for name in (".c.123.tmp", "d"):  # of a process that was killed, of another run
        (tmp_path / name).touch()
    kept.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


# ---- processes -----------------------------------------------------------------------------------

RUN = "coco_stuff3-infoseg-0"
OUTPUTS = ("0.safetensors", "history.csv", "run.json")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder the command line works in, with prepared data and a run that was not stopped."""
    folder = tmp_path_factory.mktemp("home")
    tree = one_data_set(pictures=2)
    tree["sources"]["coco"] |= {"stuff_images": 24, "person_images": 2}
    tree["methods"]["infoseg"]["optimiser"]["steps"] = 60
    tree["execution"]["checkpoint_seconds"] = 0.05
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    project = Project(folder, parse_params(tree, "test"), folder, make_missing=True)
    project.train("coco_stuff3", "infoseg", [0]).rename(folder / "whole")
    return folder


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_gone_on_with(home, tmp_path, how):
    def start() -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "infoseg", "train", "coco_stuff3", "infoseg", "--seed=0"],
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {SCRATCH: str(tmp_path)},
        )

    process, until = start(), time.monotonic() + 120
    while not list(tmp_path.glob(f"{RUN}-*.ckpt")):
        assert process.poll() is None and time.monotonic() < until, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(how)
    _, error = process.communicate(timeout=60)
    assert "Traceback" not in error
    assert process.returncode == {signal.SIGINT: 130}.get(how, -how)
    made = home / "runs/tiny/coco_stuff3/infoseg"
    assert not (made / "0.safetensors").exists()

    again = start()
    _, error = again.communicate(timeout=120)
    assert again.returncode == 0, error
    timing = json.loads((home / f"build/timing/tiny/{RUN}.json").read_text())
    [step] = timing["resumed_at"]
    assert 0 < step < 60 and f"{RUN}: goes on from step {step} of 60" in error
    assert sorted(path.name for path in made.iterdir()) == sorted(OUTPUTS)
    for name in OUTPUTS:
        assert (made / name).read_bytes() == (home / "whole" / name).read_bytes()
    assert not list(tmp_path.glob("*.ckpt*"))
    shutil.rmtree(made)
