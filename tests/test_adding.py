"""docs/adding.md: its patches are applied to a copy of the repository, and what is new is run."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
from clones import ROOT, Clone
from PIL import Image

from infoseg.params import compose

TEXT = (ROOT / "docs/adding.md").read_text(encoding="utf-8")
PATCHES = dict(re.findall(r"^## An? (\w+).*?^```diff\n(.*?)^```", TEXT, re.M | re.S))


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    """A copy of the repository with all three patches, and settings of the tiny profile."""
    made = Clone(tmp_path_factory.mktemp("adding"), compose(ROOT / "conf", "tiny"))
    for name, patch in PATCHES.items():
        (made.path / f"{name}.patch").write_text(patch, encoding="utf-8")
        made.run("git", "apply", f"{name}.patch")
    infoseg(made, "prepare", "coco_stuff3", "--profile", "tiny")
    return made


def infoseg(clone: Clone, *words: str) -> str:
    # From the copy's own package, which is the first on the path of `-m`.
    return clone.run(sys.executable, "-m", "infoseg", *words)


def test_there_is_a_patch_for_each():
    assert set(PATCHES) == {"method", "data", "ablation"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brightness", "tau_32"])
def test_a_new_method_or_ablation_is_trained_and_evaluated(clone, name):
    infoseg(clone, "train", "coco_stuff3", name, "--profile", "tiny")
    assert "PA" in infoseg(clone, "evaluate", "coco_stuff3", name, "--profile", "tiny")


@pytest.mark.slow
def test_the_pipeline_has_stages_for_what_is_new(clone):
    settings = infoseg(clone, "params", "--profile", "tiny")
    (clone.path / "params.yaml").write_text(settings)
    stages = clone.run("dvc", "stage", "list", "--name-only").split()
    assert {"train@coco_stuff3-brightness-0", "explore@coco_stuff3-tau_32-0"} < set(stages)


@pytest.mark.slow
def test_a_new_data_set_goes_all_the_way_to_its_table(clone):
    draw = np.random.default_rng(0)
    (clone.path / "cats").mkdir()
    for i in range(10):
        mask = np.zeros((40, 48), np.uint8)
        mask[:, : 20 + i] = 255
        picture = np.where(mask[..., None], 180, 60) + draw.integers(0, 40, (40, 48, 3))
        Image.fromarray(picture.astype(np.uint8)).save(clone.path / f"cats/{i}.jpg")
        Image.fromarray(mask).save(clone.path / f"cats/{i}.png")
    short = ["-S", "methods.infoseg.optimiser.steps=5", "-S", "methods.infoseg.optimiser.batch=4"]
    infoseg(clone, "all", "--profile", "mine", "--jobs", "1", *short)
    table = (clone.path / "results/mine/table1.md").read_text()
    assert "Cats" in table and "Brightness" in table
    # Bright objects on dark ground.
    found = clone.path / "runs/mine/evaluations/cats-brightness-0.json"
    assert json.loads(found.read_text())["last"]["pa"] > 95
