"""Cells of Table 1, the steps joined up, and what they say when something is wrong."""

from __future__ import annotations

import ast
import json
import math
import re
import shutil
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers import ROOT, changed, one_data_set
from PIL import Image

from infoseg import machine, runs
from infoseg.cli import main
from infoseg.data.batches import DeviceData
from infoseg.data.store import halves
from infoseg.diagnostics import read_examples
from infoseg.files import DataError, InfosegError, ParamsError, TrainingError, find_root
from infoseg.machine import TRAINING_CODE, code_hashes
from infoseg.methods.infoseg import InfoSeg
from infoseg.methods.registry import METHODS
from infoseg.pipeline import execute
from infoseg.runs import SCRATCH, Project
from infoseg.settings import Run, parse_params
from infoseg.views import Sees
from infoseg.weights import read_card

DATASET = "coco_stuff3"
RUN = Run(dataset=DATASET, method="infoseg", seed=0)
KMEANS = Run(dataset=DATASET, method="kmeans", seed=0)
CELL = f"runs/tiny/{DATASET}/infoseg"


@pytest.fixture(scope="module")
def tree() -> dict:
    """The tiny profile, smaller still."""
    made = one_data_set(pictures=2)
    made["sources"]["coco"] |= {"stuff_images": 24, "person_images": 2}
    made["methods"]["infoseg"]["optimiser"] |= {"steps": 8, "batch": 4}
    made["methods"]["infoseg"]["per_dataset"][DATASET]["seeds"] = [0, 1]
    made["profile"]["figure4"]["methods"] = ["kmeans", "infoseg"]
    made["profile"]["ablations"]["variants"] += ["kmeans_half"]
    made["profile"]["ablations"]["content"] = {"kmeans": "kmeans_half"}
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory, tree) -> Path:
    """A repository with settings and one prepared data set; the first tests add runs to it."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("docs", "notebooks"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    project(folder, tree, make_missing=True).prepare(DATASET)
    return folder


def project(home: Path, tree: dict, make_missing: bool = False) -> Project:
    return Project(home, parse_params(tree, "test"), home, make_missing)


SEEDS = f"methods.infoseg.per_dataset.{DATASET}.seeds"
TAU = "methods.infoseg.objective.tau"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def metrics(home: Path) -> dict[str, float]:
    return json.loads((home / f"results/tiny/metrics/{DATASET}.json").read_text())["pa"]


# ---- the steps -----------------------------------------------------------------------------------
# These tests run in order: each uses what the one before has made.


def test_the_command_line_prepares_trains_and_evaluates(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert main(["prepare"]) == 0
    assert f"{DATASET}: " in capsys.readouterr().out
    assert main(["train", DATASET, "infoseg", "--seed", "1"]) == 0
    assert names(home / CELL) == {"1.safetensors", "history.csv", "run.json"}
    assert capsys.readouterr().out.strip() == str(home / CELL)
    assert main(["train", DATASET, "infoseg"]) == 0
    assert names(home / CELL) == {"0.safetensors", "1.safetensors", "history.csv", "run.json"}
    assert not (home / "runs/tiny/evaluations").exists(), "training evaluates no run"
    capsys.readouterr()
    assert main(["evaluate", DATASET, "infoseg"]) == 0
    assert not (home / "results").exists(), "one evaluation makes no table"
    said = capsys.readouterr().out
    assert "seed 0, step 8: PA" in said and "seed 1, step 8: PA" in said
    assert "(at the start " in said and "chosen with labels" in said
    assert names(home / f"runs/tiny/evaluations/{DATASET}") == {
        f"infoseg-{seed}.{suffix}" for seed in (0, 1) for suffix in ("json", "npz")
    } | {"trivial.json"}


def test_the_cells_files_say_what_ran_where_and_how(home, tree):
    state = json.loads((home / CELL / "run.json").read_text())
    assert (state["seeds"], state["diverged"]) == ([0, 1], {})
    assert {"infoseg.training", "infoseg.methods.infoseg", "python"} <= set(state["code"])
    assert state["machine"]["versions"]["torch"] == version("torch")
    assert state["machine"]["deterministic"] and state["machine"]["device"]
    assert set(state["data"]) == {"images.bin", "labels.bin", "regions.bin", "index.csv"}
    history = pd.read_csv(home / CELL / "history.csv")
    assert history["seed"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert history["step"].tolist() == [0, 4, 5, 8] * 2
    history = project(home, tree).history(RUN)
    assert history["pa"].notna().tolist() == [True, True, False, True]
    assert history["loss"].notna().tolist() == [False, False, True, True]
    timing = json.loads((home / f"build/timing/tiny/{RUN.key}.json").read_text())
    assert timing["seconds"] > 0 and timing["peak_memory_bytes"] > 0 and timing["resumed_at"] == []


def test_a_report_makes_what_is_missing_and_then_nothing(home, monkeypatch, capfd):
    monkeypatch.chdir(home)
    assert main(["report"]) == 0
    assert "InfoSeg" in capfd.readouterr().out
    results = home / "results/tiny"
    timing = (results / "timing.csv").read_text()
    assert all(f"{DATASET}-{name}-0" in timing for name in ("kmeans", "iic_mi", "single"))
    page = (results / "report.html").read_text()
    assert "IIC-MI" in page and "clusters per class = 0" in page
    assert "Left out of training" in page and "Equal horizontal stripes" in page
    before = (home / f"runs/tiny/{DATASET}/kmeans/0.safetensors").stat().st_mtime_ns
    assert main(["report"]) == 0
    assert (home / f"runs/tiny/{DATASET}/kmeans/0.safetensors").stat().st_mtime_ns == before


def test_a_data_set_is_copied_to_the_device_once_for_all_methods_and_seeds(home, tree, monkeypatch):
    made = []

    class Counted(DeviceData):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr("infoseg.runs.DeviceData", Counted)
    opened = project(home, tree)
    kmeans, infoseg = (opened.model(run) for run in (KMEANS, RUN))
    first, second = (opened.crops(DATASET, model) for model in (kmeans, infoseg))
    assert len(made) == 1 and first.pixels is second.pixels
    assert first.sees.mask and not second.sees.mask
    regions = opened.crops(DATASET, SimpleNamespace(sees=Sees(regions=True)))
    again = opened.crops(DATASET, infoseg)
    assert len(made) == 2 and again.pixels is regions.pixels
    assert regions.region_count > 0 and again.region_count == 0 and not again.sees.regions


def test_the_metrics_of_a_data_set_are_the_means_of_its_methods(home, tree):
    evaluations = project(home, tree).evaluate_all(DATASET)
    assert len(evaluations) == 7  # K-Means and half of it, InfoSeg and IIC-MI twice, one cluster
    pa = {(e["method"], e["seed"]): e["last"]["pa"] for e in evaluations}
    infoseg = round((pa["infoseg", 0] + pa["infoseg", 1]) / 2, 2)
    assert metrics(home) == {"kmeans": round(pa["kmeans", 0], 2), "infoseg": infoseg}


def test_the_figure_shows_matched_predictions_of_the_same_pictures(home, tree):
    made = project(home, tree)
    ours = made.examples(RUN)
    theirs = made.examples(KMEANS)
    assert np.array_equal(ours.images, theirs.images)
    assert set(np.unique(ours.predictions)) <= {0, 1, 2}
    clusters = made.clusters(RUN)  # what there is before an evaluation
    assert np.array_equal(clusters.images, ours.images)
    files = (made.beside(DATASET, f"figure4-{method}.npz") for method in ("kmeans", "infoseg"))
    first, last = (read_examples(file, "evaluate") for file in files)
    assert np.array_equal(first.images, last.images)
    right, pixels = last.predictions == last.annotations, last.annotations != 255
    assert (np.diff(right.sum((1, 2)) / pixels.sum((1, 2))) <= 0).all()  # the best first


def test_what_is_trained_on_one_half_is_reported_on_the_other(home, tree):
    made = project(home, tree)
    index, trivial = made.load(DATASET).index, made.trivial(DATASET)
    chosen = np.flatnonzero(halves(index["id"], index["group"]))
    assert made.cell(DATASET, "kmeans_half").data.trained.tolist() == chosen.tolist()
    runs = (KMEANS, KMEANS.model_copy(update={"method": "kmeans_half"}))
    last = [made.evaluation(run)["last"]["halves"]["reported"]["pa"] for run in runs]
    content = pd.read_csv(home / "results/tiny/tables/content.csv")
    kmeans, stripes = content[["as_it_is_mean", "left_out_mean"]].values.tolist()
    assert kmeans == pytest.approx(last, abs=1e-4) and math.isnan(stripes[1])
    assert made.stripes_pa(DATASET) == trivial["equal stripes"]["pa"]
    assert trivial["one class"]["pa"] == trivial["equal stripes"]["constant_pa"]


def test_a_report_without_its_figures_names_the_stages(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "results/tiny/figures/seeds.png").unlink()
    with pytest.raises(DataError, match=r"seeds\.png.*stage figures"):
        execute(ROOT / "notebooks/06_report.ipynb", {"profile": "", "folder": "."})


def test_a_run_is_exported_and_segments_alone(home, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(home)
    written = tmp_path / "alone.safetensors"
    assert main(["export", RUN.key, "--to", str(written)]) == 0
    card = tmp_path / "alone.safetensors.md"
    assert capsys.readouterr().out.split() == [str(written), str(card)]
    assert "Pixel accuracy of these weights" in card.read_text()
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert main(["segment", "a.png", "out", "--weights", "alone.safetensors"]) == 0
    monkeypatch.chdir(home)
    assert main(["export", f"{DATASET}-infoseg-9"]) == 1
    said = capsys.readouterr().err
    assert "There are: " in said and RUN.key in said


def test_an_evaluation_of_other_data_is_not_current(home, tree):
    made = project(home, tree)
    path = made.prepared(DATASET) / "meta.json"
    text = path.read_text()
    assert made.is_current(RUN)
    path.write_text(re.sub(r'("labels.bin".*?"sha256": ")\w', r"\1x", text, flags=re.DOTALL))
    assert path.read_text() != text and not made.is_current(RUN)
    path.write_text(text)


# ---- cells ---------------------------------------------------------------------------------------


@pytest.fixture
def place(home, tmp_path, monkeypatch) -> Path:
    """A folder with prepared data, settings and a scratch of its own, and no runs."""
    shutil.copytree(home / "prepared", tmp_path / "prepared")
    shutil.copy(home / "params.yaml", tmp_path)
    monkeypatch.setenv(SCRATCH, str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(monkeypatch) -> list[int]:
    """Seeds that are being trained, in order."""
    seeds, original = [], runs.train

    def spy(method, data, params, seed, *rest):
        seeds.append(seed)
        return original(method, data, params, seed, *rest)

    monkeypatch.setattr(runs, "train", spy)
    return seeds


def unfinished(place: Path, tree: dict) -> list[int]:
    return project(place, tree).cell(DATASET, "infoseg").unfinished()


def test_what_is_finished_is_never_trained_again(place, tree, trained):
    assert unfinished(place, tree) == [0, 1]
    folder = project(place, tree).train(DATASET, "infoseg")
    whole = contents(folder)
    assert trained == [0, 1] and unfinished(place, tree) == []
    prints = [read_card(folder / f"{seed}.safetensors").fingerprint for seed in (0, 1)]
    kept = {f"{DATASET}-infoseg-{seed}-{prints[seed]}.safetensors" for seed in (0, 1)}
    assert names(place / "scratch") == kept
    # DVC deletes what a stage made before it runs it: all comes back from scratch. Nor is scratch
    # needed where the folder is whole.
    for removed in (folder, place / "scratch"):
        shutil.rmtree(removed)
        assert unfinished(place, tree) == []
        assert contents(project(place, tree).train(DATASET, "infoseg")) == whole
    # One more seed is one more training.
    more = changed(tree, SEEDS, [0, 1, 2])
    assert unfinished(place, more) == [2]
    project(place, more).train(DATASET, "infoseg")
    assert trained == [0, 1, 2]
    assert all(contents(folder)[f"{s}.safetensors"] == whole[f"{s}.safetensors"] for s in (0, 1))
    assert set(pd.read_csv(folder / "history.csv")["seed"]) == {0, 1, 2}
    # A damaged file is trained again, to the same bytes.
    (folder / "1.safetensors").write_bytes(whole["1.safetensors"][:-5])
    (folder / "2.safetensors").unlink()
    shutil.rmtree(place / "scratch")
    assert unfinished(place, tree) == [1]
    assert contents(project(place, tree).train(DATASET, "infoseg")) == whole


def test_what_else_lies_in_a_cells_folder_stays(place, tree, trained):
    folder = project(place, tree).train(DATASET, "infoseg")
    (folder / "best.safetensors").write_text("mine")
    (folder / "0 (copy).safetensors").mkdir()
    (folder / "history.csv").write_text("step\n")
    project(place, tree).train(DATASET, "infoseg")
    assert (folder / "best.safetensors").read_text() == "mine"
    assert (folder / "0 (copy).safetensors").is_dir()
    (folder / "history.csv").write_text("step\n")
    with pytest.raises(DataError, match=r"history\.csv: is no history of a training"):
        project(place, tree).history(RUN)


def test_a_training_that_could_not_be_kept_is_not_begun(place, tree, trained, monkeypatch):
    (place / "afile").write_text("")
    monkeypatch.setenv("INFOSEG_SCRATCH", str(place / "afile"))
    with pytest.raises(InfosegError, match="afile"):
        project(place, tree).train(DATASET, "infoseg")


def test_weights_of_other_settings_leave_the_cell_and_come_back_with_theirs(place, tree, trained):
    folder = project(place, tree).train(DATASET, "infoseg")
    whole, changes = contents(folder), changed(tree, TAU, 1.6)
    assert unfinished(place, changes) == [0, 1]
    project(place, changes).train(DATASET, "infoseg", [1])
    assert names(folder) == {"1.safetensors", "history.csv", "run.json"}
    assert json.loads((folder / "run.json").read_text())["seeds"] == [1]
    assert contents(project(place, tree).train(DATASET, "infoseg")) == whole
    assert trained == [0, 1, 1]


def test_a_seed_beside_those_of_the_settings_is_a_run_like_any_other(place, capsys):
    assert main(["train", DATASET, "infoseg", "--seed=7"]) == 0
    assert main(["evaluate", DATASET, "infoseg", "--seed=7"]) == 0
    assert "seed 7, step 8: PA" in (said := capsys.readouterr().out) and "at the start" in said
    assert names(place / CELL) == {"7.safetensors", "history.csv", "run.json"}


def fingerprint(place: Path, tree: dict, seed: int = 0) -> str:
    return project(place, tree).cell(DATASET, "infoseg").fingerprint(seed)


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        (TAU, 1.6, False),
        (f"datasets.{DATASET}.crop", 48, False),
        ("training.threads", 2, False),
        ("training.evaluations", 1, False),
        (SEEDS, [0, 1, 2], True),
        ("methods.kmeans.passes", 3, True),
        ("execution.checkpoint_seconds", 7, True),
        ("profile.description", "another", True),
    ],
)
def test_a_fingerprint_is_of_all_that_decides_the_bytes(home, tree, key, value, same):
    before = fingerprint(home, tree)
    assert (fingerprint(home, changed(tree, key, value)) == before) == same


@pytest.mark.parametrize(
    ("module", "name", "replacement"),
    [
        (machine, "code_hashes", lambda modules: {"infoseg.training": "0"}),
        (machine, "facts", lambda params, device: {"python": "4.0"}),
        (runs, "data_hashes", lambda meta: {"images.bin": "0"}),
    ],
)
def test_other_code_another_machine_and_other_data_have_another(
    home, tree, monkeypatch, module, name, replacement
):
    before = fingerprint(home, tree)
    assert fingerprint(home, tree) == before != fingerprint(home, tree, seed=1)
    monkeypatch.setattr(module, name, replacement)
    assert fingerprint(home, tree) != before


def test_a_seed_that_diverges_is_reported_and_costs_the_others_nothing(
    place, tree, monkeypatch, capsys, trained
):
    original = InfoSeg.loss

    def loss(self, views, generator):
        factor = math.nan if generator.initial_seed() == 0 else 1
        return original(self, views, generator) * factor

    monkeypatch.setattr(InfoSeg, "loss", loss)
    assert main(["train", DATASET, "infoseg"]) == 1
    assert trained == [0, 1]
    words = "infoseg-0: the loss became nan at step 1 (it never was finite)"
    assert words in capsys.readouterr().err
    state = json.loads((place / CELL / "run.json").read_text())
    assert state["seeds"] == [0, 1] and list(state["diverged"]) == ["0"]
    assert words in state["diverged"]["0"]
    history = pd.read_csv(place / CELL / "history.csv")
    assert history["seed"].value_counts().to_dict() == {0: 3, 1: 4}  # until it was noticed
    made = project(place, tree)
    with pytest.raises(TrainingError, match="the loss became nan"):
        made.model(RUN)
    # It is finished, as far as it goes.
    made.train(DATASET, "infoseg")
    assert trained == [0, 1]
    assert main(["evaluate", DATASET, "infoseg"]) == 0
    said = capsys.readouterr().out
    assert words in said and "seed 1, step 8: PA" in said
    bad, good = (
        json.loads(made.evaluation_path(made.cell(DATASET, "infoseg").run(seed)).read_text())
        for seed in (0, 1)
    )
    assert words in bad["diverged"] and "last" not in bad
    assert good["diverged"] == "" and good["last"]["pa"] > 0
    only = changed(tree, "profile.methods", ["infoseg"])
    only["profile"]["ablations"] |= {"variants": [], "content": {}}
    only["profile"]["figure4"]["methods"] = ["infoseg"]
    project(place, only).evaluate_all(DATASET)
    assert metrics(place) == {"infoseg": round(good["last"]["pa"], 2)}


# ---- which code decides the numbers --------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A copy of the package that code is hashed of."""
    copy = tmp_path / "infoseg"
    shutil.copytree(ROOT / "infoseg", copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    monkeypatch.setattr(machine, "PACKAGE", copy)
    machine._parsed.cache_clear()
    yield copy
    machine._parsed.cache_clear()


def hashed() -> dict[str, dict[str, str]]:
    """Hashes of the code of each kind of method."""
    machine._parsed.cache_clear()
    return {
        kind: code_hashes([method.__module__, *TRAINING_CODE]) for kind, method in METHODS.items()
    }


def moved(before, after) -> set[str]:
    """Modules whose hashes differ."""
    pairs = [(before[kind], after[kind]) for kind in before]
    return {m for old, new in pairs for m in old | new if old.get(m) != new.get(m)}


def test_comments_docstrings_and_layout_count_for_nothing(package):
    before = hashed()
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                if ast.get_docstring(node) is not None:
                    node.body[0].value.value = "Other words."
        path.write_text("# A comment.\n" + ast.unparse(tree))
    assert moved(before, hashed()) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "kinds"),
    [
        ("methods/iic.py", "turn % 2", "turn % 3", {"iic"}),
        ("methods/infoseg.py", "class InfoSeg(", "class InfoSeg_(", {"infoseg", "iic_mi"}),
        ("training.py", '"eps": 1e-8', '"eps": 1e-7', set(METHODS)),
        ("evaluation.py", "USED = 0.01", "USED = 0.02", set(METHODS)),
        ("settings.py", "tau: PositiveFloat = 0.8", "tau: PositiveFloat = 0.9", set()),
        ("files.py", "import csv\n", "import csv, math\n", set()),
        ("methods/registry.py", "METHODS: dict", "ALL = 1\nMETHODS: dict", set()),
        ("results/tables.py", "import numpy", "import math, numpy", set()),
    ],
)
def test_a_change_counts_for_the_methods_that_import_it(package, file, old, new, kinds):
    before, text = hashed(), (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    after = hashed()
    module = "infoseg." + file.removesuffix(".py").replace("/", ".")
    assert moved(before, after) == ({module} if kinds else set())
    assert {kind for kind in before if before[kind] != after[kind]} == kinds


def test_a_new_method_hashes_all_that_it_imports_and_changes_no_others(package):
    before = hashed()
    (package / "methods/mine.py").write_text("from infoseg.methods.iic import IIC\nMINE = IIC\n")
    registry = package / "methods/registry.py"
    registry.write_text(registry.read_text().replace('"ac": AC,', '"ac": AC, "mine": IIC,'))
    assert moved(before, hashed()) == set()
    assert set(before["iic"]) < set(code_hashes(["infoseg.methods.mine", *TRAINING_CODE]))
    modules = {"methods.iic_mi", "methods.infoseg", "losses", "training", "views", "data.store"}
    assert {f"infoseg.{name}" for name in modules} <= set(before["iic_mi"])


# ---- what is wrong -------------------------------------------------------------------------------


def test_without_inputs_the_stage_to_run_is_named(tmp_path, tree):
    made = project(tmp_path, tree)
    for stage, step in (
        ("data@coco", partial(made.prepare, DATASET)),
        (f"prepare@{DATASET}", partial(made.train, DATASET, "infoseg")),
        (f"train@{DATASET}-infoseg, evaluate@{DATASET}", partial(made.evaluation, RUN)),
        (f"evaluate@{DATASET}", partial(made.examples, RUN)),
        (f"train@{DATASET}-infoseg", partial(made.history, RUN)),
    ):
        with pytest.raises(DataError, match=stage):
            step()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"scale": 0.5}, DataError, rf"another scale.*prepare@{DATASET}"),
        ({"crop": 400}, ParamsError, rf"datasets\.{DATASET}\.crop is 400"),
        ({"crop": 80, "pad": False}, ParamsError, "smallest image"),
    ],
)
def test_prepared_data_that_do_not_fit_the_settings_are_not_used(home, tree, change, error, words):
    other = changed(tree, f"datasets.{DATASET}", tree["datasets"][DATASET] | change)
    with pytest.raises(error, match=words):
        project(home, other).load(DATASET)


def test_without_evaluations_in_training_the_last_weights_alone_are_evaluated(place, tree):
    quick = project(place, changed(tree, "training.evaluations", 0), make_missing=True)
    evaluation = quick.evaluate(DATASET, "infoseg", 0)
    assert evaluation["start"] is None and evaluation["last"]["step"] == 8
    assert evaluation["best"] == {"step": 8, "pa": evaluation["last"]["pa"]}


def test_a_truncated_array_and_a_half_written_evaluation_are_named(place, tree):
    made = project(place, tree)
    path = made.evaluation_path(RUN)
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 1, "last"')
    with pytest.raises(DataError, match=rf"{DATASET}/infoseg-0\.json"):
        made.evaluation(RUN)
    images = place / f"prepared/tiny/{DATASET}/images.bin"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"images\.bin.*bytes instead of"):
        made.train(DATASET, "infoseg")
    assert not (place / CELL).exists()


def test_local_files_are_listed_and_not_copied_and_named_where_missing(tmp_path, tree):
    mine = tmp_path / "mine"
    tree["profile"]["sources"]["coco"] = str(mine)
    made = project(tmp_path, changed(tree, "sources.coco", {"kind": "local", "path": str(mine)}))
    with pytest.raises(DataError, match="mine"):
        made.make_raw("coco")
    mine.mkdir()
    (mine / "a.jpg").write_bytes(b"x" * 10)
    assert made.make_raw("coco") == mine
    [stated] = (tmp_path / "raw/tiny/coco").iterdir()
    assert "a.jpg,10," in stated.read_text()
    among = {"kind": "local", "path": str(tmp_path / "raw" / "tiny" / "coco")}
    tree["profile"]["sources"]["coco"] = among["path"]
    with pytest.raises(ParamsError, match="deletes at will"):
        project(tmp_path, changed(tree, "sources.coco", among)).raw("coco")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train", "coco_stuf3", "infoseg"], "coco_stuf3"),
        (["train", DATASET, "infosegg"], "infosegg"),
        (["train", DATASET, "infoseg", "--profile", "papr"], "papr"),
        (["params", "--profile", "tiny", "-S", "training.thread=2"], "training.thread"),
        (["train", DATASET, "infoseg", "-S", "training.device=cuda:99"], "training.device"),
    ],
)
def test_a_typo_on_the_command_line_is_named_without_a_traceback(
    home, monkeypatch, capsys, words, named
):
    monkeypatch.chdir(home)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("infoseg: ") and named in error


def test_outside_the_repository_the_command_line_says_so_and_help_explains_commands(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InfosegError, match="not inside the repository"):
        find_root()
    for command in ("prepare", "train", "evaluate", "export", "segment"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert len(capsys.readouterr().out.splitlines()) > 8
