"""A training that was stopped goes on to the same bytes, and never from another's state."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import (
    CPU,
    OPTIMISER,
    SETTINGS,
    build,
    data_info,
    one_data_set,
    random_images,
    training,
    write_prepared,
)

from infoseg import checkpoints as module
from infoseg.checkpoints import Checkpoints, random_states, restore_random_states
from infoseg.data.store import load_prepared
from infoseg.devices import reproducible
from infoseg.evaluation import evaluate
from infoseg.params import Run, parse_params
from infoseg.params_data import SuperpixelSettings
from infoseg.project import Project
from infoseg.training import Trained, train
from infoseg.views import DeviceData

STEPS = 12
TRAINED = sorted(name for name, settings in SETTINGS.items() if "optimiser" in settings)


class PowerCut(BaseException):
    """What no code catches."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    settings = SuperpixelSettings(pixels_per_region=60, compactness=10.0, smoothing=0.0)
    path = tmp_path_factory.mktemp("data") / "p"
    return write_prepared(path, *random_images(13, 32), superpixels=settings)


def run(prepared, kind: str, folder: Path | None, cut: int | None = None, **changes) -> Trained:
    """Train a method; with `cut`, the power goes at the start of that step."""
    optimiser = OPTIMISER | {"steps": STEPS} | changes
    with reproducible(training(), 0):
        method = build(kind, data_info(), 0, optimiser=optimiser)
        data = DeviceData(prepared, 32, CPU, method.sees)
        begin = method.begin_step

        def begin_step(step: int) -> None:
            if step == cut:
                raise PowerCut
            begin(step)

        method.begin_step = begin_step
        ids = [f"image{i}" for i in range(13)]
        kept = None
        if folder:
            kept = Checkpoints(folder, 0)
            assert kept.open(0)
        try:
            return train(
                method,
                data,
                training(evaluations=3, log_every=5),
                0,
                lambda: evaluate(method, data, 4, ids, ["a", "b", "c"]),
                kind,
                kept,
            )
        finally:
            if kept:
                kept.close()


def same(one: Trained, two: Trained) -> bool:
    """Whether two trainings left the same bytes."""

    def same_state(left, right) -> bool:
        return list(left) == list(right) and all(
            left[name].numpy().tobytes() == right[name].numpy().tobytes() for name in left
        )

    return (
        same_state(one.last, two.last)
        and same_state(one.best, two.best)
        and (one.last_step, one.best_step) == (two.last_step, two.best_step)
        and repr(one.history) == repr(two.history)
    )


# ---- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRAINED)
def test_every_method_goes_on_to_the_same_bytes(prepared, tmp_path, kind):
    whole = run(prepared, kind, None)
    for cut in (3, 8, 12):  # within epochs of three batches, before the last step
        with pytest.raises(PowerCut):
            run(prepared, kind, tmp_path, cut)
    resumed = run(prepared, kind, tmp_path)
    assert resumed.resumed_at == [2, 7, 11]
    assert same(resumed, whole)
    assert resumed.spent_before > 0 and whole.spent_before == 0


def test_an_average_and_a_schedule_go_on_too(prepared, tmp_path):
    how = {"average": 0.9, "schedule": "cosine"}
    whole = run(prepared, "infoseg", None, **how)
    with pytest.raises(PowerCut):
        run(prepared, "infoseg", tmp_path, 6, **how)
    assert same(run(prepared, "infoseg", tmp_path, **how), whole)
    assert not same(run(prepared, "infoseg", None), whole)


def test_what_a_checkpoint_leaves_out_would_be_seen(prepared, tmp_path, monkeypatch):
    # The comparison above is not blind: without the sampler's place the bytes differ.
    whole = run(prepared, "infoseg", None)
    with pytest.raises(PowerCut):
        run(prepared, "infoseg", tmp_path, 6)
    monkeypatch.setattr("infoseg.views.TrainingBatches.restore", lambda self, state: None)
    assert not same(run(prepared, "infoseg", tmp_path), whole)


def test_the_global_generators_go_on(tmp_path):
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    np.random.standard_normal()  # leaves a second number behind

    def draw():
        return random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist()

    kept = Checkpoints(tmp_path / "c", 0)
    kept.open(0)
    kept.save(1, {"random": random_states(CPU)})
    expected = draw()
    draw()
    restore_random_states(kept.latest()["random"], CPU)
    assert draw() == expected


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    kept = Checkpoints(tmp_path / "c", 0)
    assert kept.open(0)
    for step in (1, 2, 3):
        assert kept.save(step, {"step": step, "x": torch.arange(1000)})
    yield kept
    kept.close()


def files(kept: Checkpoints) -> list[str]:
    return sorted(path.name for path in kept.folder.glob("step-*"))


def test_the_newest_and_the_one_before_are_kept(two):
    assert files(two) == ["step-000000002.ckpt", "step-000000003.ckpt"]
    assert two.latest()["step"] == 3


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "foreign"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(two, damage, capsys):
    path = two.folder / "step-000000003.ckpt"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    whole = {"truncated": content[:-100], "empty": b"", "foreign": b"x" * 5000}
    path.write_bytes(whole.get(damage, content))
    assert two.latest()["step"] == 2
    assert "step-000000003.ckpt is not used" in capsys.readouterr().err
    assert files(two) == ["step-000000002.ckpt"]


def test_with_both_damaged_training_starts_again(two):
    for path in two.folder.glob("step-*"):
        path.write_bytes(path.read_bytes()[:40])
    assert two.latest() is None


class Code:
    def __reduce__(self):
        return os.system, ("false",)


def test_a_checkpoint_holds_data_and_no_code(two):
    two.save(4, {"step": Code()})
    # What `weights_only` refuses is a damaged checkpoint like any other.
    assert two.latest()["step"] == 3


def test_a_disk_without_room_costs_the_checkpoint_and_not_the_training(two, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_whole", full)
    assert two.save(4, {"step": 4}) is False
    assert "no checkpoint at step 4, training goes on" in capsys.readouterr().err
    assert two.latest()["step"] == 3


def test_two_processes_do_not_share_checkpoints(two, capsys):
    other = Checkpoints(two.folder, 0)
    assert other.open(patience=0.1) is False
    assert "belong to another process" in capsys.readouterr().err
    assert other.latest() is None and other.save(5, {}) is False and not other.due()
    other.clear()
    assert two.latest()["step"] == 3
    two.close()
    again = Checkpoints(two.folder, 0)
    assert again.open(0) and again.latest()["step"] == 3
    again.clear()
    assert not two.folder.exists()


def test_they_are_due_by_the_clock(two):
    assert two.due()
    rare, never = Checkpoints(two.folder, 3600), Checkpoints(two.folder, None)
    assert not rare.due() and not never.due()


# ---- runs of a project ---------------------------------------------------------------------------

RUN = ("coco_stuff3", "infoseg", 0)
WORDS = ["coco_stuff3", "infoseg", "--seed=0"]
LASTING = {"methods.infoseg.optimiser.steps": 150, "execution.checkpoint_seconds": 0.05}


def setting(tree: dict, key: str, value) -> None:
    *way, last = key.split(".")
    for name in way:
        tree = tree[name]
    tree[last] = value


@pytest.fixture(scope="module")
def tree() -> dict:
    made = one_data_set(pictures=2)
    for key, value in LASTING.items():
        setting(made, key, value)
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory, tree) -> Path:
    """A folder the command line works in, with prepared data and a run that was not stopped."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "conf").mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    Project(folder, parse_params(tree, "test"), folder, make_missing=True).train(*RUN)
    (folder / "runs/tiny/coco_stuff3-infoseg-0").rename(folder / "whole")
    return folder


def start(home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "infoseg", "train", *WORDS],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def checkpoints_of(home: Path) -> list[Path]:
    return sorted(home.glob("build/checkpoints/*/step-*.ckpt"))


def wait_for_checkpoint(home: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + 120
    while not checkpoints_of(home):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "timing.json"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_process_is_gone_on_with(home, how):
    process = start(home)
    wait_for_checkpoint(home, process)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    if how != signal.SIGKILL:
        assert "infoseg-0: stopped at step" in err and "run it again to go on from there" in err
    assert process.returncode == {signal.SIGINT: 130}.get(how, -how)
    assert not (home / "runs/tiny/coco_stuff3-infoseg-0").exists()
    kept = checkpoints_of(home)
    assert kept

    again = start(home)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    step = int(kept[-1].stem.removeprefix("step-"))
    assert f"goes on from step {step} of 150" in err
    made = home / "runs/tiny/coco_stuff3-infoseg-0"
    assert outputs(made) == outputs(home / "whole")
    assert f'"resumed_at": [\n  {step}\n ]' in (made / "timing.json").read_text()
    assert not list(home.glob("build/checkpoints/*"))
    made.rename(home / f"after-{how}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("methods.infoseg.optimiser.learning_rate", 2e-3),
        ("datasets.coco_stuff3.crop", 48),
        ("training.threads", 2),
    ],
)
def test_a_checkpoint_of_other_settings_has_another_name(home, tree, key, value):
    other = yaml.safe_load(yaml.safe_dump(tree))
    setting(other, key, value)
    assert checkpoint_name(home, other) != checkpoint_name(home, tree)


def test_a_checkpoint_of_another_seed_code_version_or_data_has_another_name(
    home, tree, monkeypatch
):
    before = checkpoint_name(home, tree)
    assert checkpoint_name(home, tree, seed=1) != before
    assert checkpoint_name(home, tree, data="0" * 64) != before
    for place, replacement in (
        ("infoseg.provenance.code_hash", lambda: "0" * 64),
        ("infoseg.provenance.importlib.metadata.version", lambda name: "0.0"),
        ("infoseg.project.CHECKPOINT_FORMAT", 0),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, replacement)
            assert checkpoint_name(home, tree) != before
    # The commit alone decides nothing, nor how often checkpoints are kept.
    monkeypatch.setattr("infoseg.provenance.git_state", lambda root: {"commit": "x", "dirty": True})
    rarely = yaml.safe_load(yaml.safe_dump(tree))
    setting(rarely, "execution.checkpoint_seconds", 7)
    assert checkpoint_name(home, rarely) == before


def checkpoint_name(home: Path, tree: dict, seed: int = 0, data: str = "") -> str:
    project = Project(home, parse_params(tree, "test"), home)
    meta = load_prepared(home / "prepared/tiny/coco_stuff3").meta
    if data:
        facts = meta.files["images.bin"].model_copy(update={"sha256": data})
        meta = meta.model_copy(update={"files": meta.files | {"images.bin": facts}})
    run = Run(dataset="coco_stuff3", method="infoseg", seed=seed)
    kept = project._checkpoints(run, project._provenance(run, meta, CPU))
    kept.clear()
    assert kept.folder.parent == home / "build/checkpoints"
    return kept.folder.name
