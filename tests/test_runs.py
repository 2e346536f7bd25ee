"""Cells of Table 1, the steps joined up, and what they say when something is wrong."""

from __future__ import annotations

import ast
import json
import math
import shutil
from functools import partial
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
from infoseg.settings import Run, load_params, parse_params
from infoseg.views import Sees
from infoseg.weights import read_card

DATASET = "coco_stuff3"
RUN = Run(dataset=DATASET, method="infoseg", seed=0)
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
    told = json.loads((home / CELL / "run.json").read_text())
    assert (told["seeds"], told["diverged"]) == ([0, 1], {})
    assert {"infoseg.training", "infoseg.methods.infoseg", "python"} <= set(told["code"])
    assert told["machine"]["versions"]["torch"] == torch.__version__
    assert told["machine"]["deterministic"] and told["machine"]["device"]
    assert set(told["data"]) == {"images.bin", "labels.bin", "regions.bin", "index.csv"}
    history = pd.read_csv(home / CELL / "history.csv")
    assert history["seed"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert history["step"].tolist() == [0, 4, 5, 8] * 2
    one = project(home, tree).history(RUN)
    assert one["pa"].notna().tolist() == [True, True, False, True]
    assert one["loss"].notna().tolist() == [False, False, True, True]
    timing = json.loads((home / f"build/timing/tiny/{RUN.key}.json").read_text())
    names = "seconds cpu_seconds images_per_second peak_memory_bytes resumed_at"
    assert set(timing) == set(names.split())


def test_all_makes_what_is_missing_and_then_nothing(home, monkeypatch, capfd):
    monkeypatch.chdir(home)
    assert main(["all", "--jobs", "2"]) == 0
    assert "InfoSeg" in capfd.readouterr().out
    results = home / "results/tiny"
    timing = (results / "timing.csv").read_text()
    assert all(f"{DATASET}-{name}-0" in timing for name in ("kmeans", "iic_mi", "single"))
    page = (results / "report.html").read_text()
    assert "IIC-MI" in page and "clusters per class = 0" in page
    assert "Left out of training" in page and "Equal horizontal stripes" in page
    before = (home / f"runs/tiny/{DATASET}/kmeans/0.safetensors").stat().st_mtime_ns
    assert main(["all"]) == 0
    assert (home / f"runs/tiny/{DATASET}/kmeans/0.safetensors").stat().st_mtime_ns == before


def test_a_data_set_is_copied_to_the_device_once_for_all_methods_and_seeds(home, tree, monkeypatch):
    made = []

    class Counted(DeviceData):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr("infoseg.runs.DeviceData", Counted)
    opened = project(home, tree)
    models = {
        m: opened.model(Run(dataset=DATASET, method=m, seed=0)) for m in ("kmeans", "infoseg")
    }
    first, second = (opened.crops(DATASET, model) for model in models.values())
    assert len(made) == 1 and first.pixels is second.pixels
    assert first.sees.mask and not second.sees.mask
    regions = opened.crops(DATASET, SimpleNamespace(sees=Sees(regions=True)))
    again = opened.crops(DATASET, models["infoseg"])
    assert len(made) == 2 and again.pixels is regions.pixels
    assert regions.region_count > 0 and again.region_count == 0 and not again.sees.regions


def test_the_metrics_of_a_data_set_are_the_means_of_its_methods(home, tree):
    found = project(home, tree).evaluate_all(DATASET)
    assert len(found) == 7  # K-Means and half of it, InfoSeg and IIC-MI twice, one cluster
    pa = {(one["method"], one["seed"]): one["last"]["pa"] for one in found}
    metrics = json.loads((home / f"results/tiny/metrics/{DATASET}.json").read_text())
    means = {
        "kmeans": round(pa["kmeans", 0], 2),
        "infoseg": round((pa["infoseg", 0] + pa["infoseg", 1]) / 2, 2),
    }
    assert metrics == {"pa": means}


@pytest.mark.parametrize("profile", ["demo", "paper", "photographs"])
def test_metrics_are_few_enough_to_be_looked_at(profile):
    assert 1 <= len(load_params(ROOT, profile).profile.methods) <= 12


def test_the_figure_shows_matched_predictions_of_the_same_pictures(home, tree):
    made = project(home, tree)
    ours = made.examples(RUN)
    theirs = made.examples(RUN.model_copy(update={"method": "kmeans"}))
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
    runs = (RUN.model_copy(update={"method": name}) for name in ("kmeans", "kmeans_half"))
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
    assert made.is_current(RUN)
    path = made.prepared(DATASET) / "meta.json"
    text = path.read_text()
    meta = json.loads(text)
    meta["files"]["labels.bin"]["sha256"] = "0" * 64
    path.write_text(json.dumps(meta))
    assert not made.is_current(RUN)
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
    assert names(place / "scratch") == {
        f"{DATASET}-infoseg-{s}-{read_card(folder / f'{s}.safetensors').fingerprint}.safetensors"
        for s in (0, 1)
    }
    # DVC deletes what a stage made before it runs it: all comes back from scratch.
    shutil.rmtree(folder)
    assert unfinished(place, tree) == []
    assert contents(project(place, tree).train(DATASET, "infoseg")) == whole
    # The folder is enough, too.
    shutil.rmtree(place / "scratch")
    assert contents(project(place, tree).train(DATASET, "infoseg")) == whole
    assert trained == [0, 1]
    # One more seed is one more training.
    more = changed(tree, SEEDS, [0, 1, 2])
    assert unfinished(place, more) == [2]
    project(place, more).train(DATASET, "infoseg")
    assert trained == [0, 1, 2]
    assert {k: v for k, v in contents(folder).items() if k in whole and k[0] in "01"} == {
        k: v for k, v in whole.items() if k[0] in "01"
    }
    assert set(pd.read_csv(folder / "history.csv")["seed"]) == {0, 1, 2}
    # A damaged file is trained again, to the same bytes.
    (folder / "1.safetensors").write_bytes(whole["1.safetensors"][:-5])
    (folder / "2.safetensors").unlink()
    shutil.rmtree(place / "scratch")
    assert unfinished(place, tree) == [1]
    assert contents(project(place, tree).train(DATASET, "infoseg")) == whole


def test_weights_of_other_settings_leave_the_cell_and_come_back_with_theirs(place, tree, trained):
    folder = project(place, tree).train(DATASET, "infoseg")
    whole, other = contents(folder), changed(tree, TAU, 1.6)
    assert unfinished(place, other) == [0, 1]
    project(place, other).train(DATASET, "infoseg", [1])
    assert names(folder) == {"1.safetensors", "history.csv", "run.json"}
    assert json.loads((folder / "run.json").read_text())["seeds"] == [1]
    assert contents(project(place, tree).train(DATASET, "infoseg")) == whole
    assert trained == [0, 1, 1]


def test_a_seed_beside_those_of_the_settings_is_a_run_like_any_other(place, tree, capsys):
    assert main(["train", DATASET, "infoseg", "--seed=7"]) == 0
    assert main(["evaluate", DATASET, "infoseg", "--seed=7"]) == 0
    assert "seed 7, step 8: PA" in (said := capsys.readouterr().out) and "at the start" in said
    assert names(place / CELL) == {"7.safetensors", "history.csv", "run.json"}


def fingerprint(place: Path, tree: dict, seed: int = 0, method: str = "infoseg") -> str:
    return project(place, tree).cell(DATASET, method).fingerprint(seed)


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        (TAU, 1.6, False),
        ("methods.infoseg.optimiser.learning_rate", 2e-3, False),
        (f"datasets.{DATASET}.crop", 48, False),
        ("training.threads", 2, False),
        ("training.evaluations", 1, False),
        (SEEDS, [0, 1, 2], True),
        (f"methods.infoseg.per_dataset.{DATASET}.objective", {}, True),
        ("methods.kmeans.passes", 3, True),
        ("execution.checkpoint_seconds", 7, True),
        ("profile.description", "another", True),
    ],
)
def test_a_fingerprint_is_of_all_that_decides_the_bytes(home, tree, key, value, same):
    before = fingerprint(home, tree)
    assert (fingerprint(home, changed(tree, key, value)) == before) == same


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("code_hashes", lambda modules: {"infoseg.training": "0"}),
        ("facts", lambda params, device: {"python": "4.0"}),
        ("data_hashes", lambda meta: {"images.bin": "0"}),
    ],
)
def test_other_code_another_machine_and_other_data_have_another(
    home, tree, monkeypatch, name, replacement
):
    before = fingerprint(home, tree)
    assert fingerprint(home, tree) == before != fingerprint(home, tree, seed=1)
    monkeypatch.setattr(runs if name == "data_hashes" else machine, name, replacement)
    assert fingerprint(home, tree) != before


def test_a_seed_that_diverges_is_told_and_costs_the_others_nothing(
    place, tree, monkeypatch, capsys, trained
):
    original = InfoSeg.loss

    def loss(self, views, generator):
        found = original(self, views, generator)
        return found * math.nan if generator.initial_seed() == 0 else found

    monkeypatch.setattr(InfoSeg, "loss", loss)
    assert main(["train", DATASET, "infoseg"]) == 1
    assert trained == [0, 1]
    words = "infoseg-0: the loss became nan at step 1 (it never was finite)"
    assert words in capsys.readouterr().err
    told = json.loads((place / CELL / "run.json").read_text())
    assert told["seeds"] == [0, 1] and list(told["diverged"]) == ["0"]
    assert words in told["diverged"]["0"]
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
    metrics = json.loads((place / f"results/tiny/metrics/{DATASET}.json").read_text())
    assert metrics == {"pa": {"infoseg": round(good["last"]["pa"], 2)}}


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


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


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
        (
            "clustering_losses.py",
            "def iic_loss(",
            "def iic_loss_(",
            {"iic", "iic_mi", "ac", "inmars"},
        ),
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
    before = hashed()
    text = (package / file).read_text()
    (package / file).write_text(text.replace(old, new))
    after = hashed()
    module = "infoseg." + file.removesuffix(".py").replace("/", ".")
    assert text != (package / file).read_text()
    assert moved(before, after) == ({module} if kinds else set())
    assert {kind for kind in before if before[kind] != after[kind]} == kinds


def test_every_module_that_is_imported_is_hashed_but_those_that_decide_no_number(package):
    found = hashed()["iic_mi"]
    assert {"infoseg.methods.iic_mi", "infoseg.methods.infoseg", "infoseg.losses"} <= set(found)
    assert {"infoseg.training", "infoseg.views", "infoseg.data.store", "infoseg.trunk"} <= set(
        found
    )
    assert not {"infoseg.settings", "infoseg.files"} & set(found)
    assert not [name for name in found if name.endswith((".registry", ".iic", ".ac", "runs"))]


def test_a_new_method_changes_no_others_hashes(package):
    before = hashed()
    (package / "methods/mine.py").write_text("from infoseg.methods.iic import IIC\nMINE = IIC\n")
    edit(package / "methods/registry.py", '    "ac": AC,\n', '    "ac": AC,\n    "mine": IIC,\n')
    assert moved(before, hashed()) == set()
    assert set(before["iic"]) < set(code_hashes(["infoseg.methods.mine", *TRAINING_CODE]))


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
    found = quick.evaluate(DATASET, "infoseg", 0)
    assert found["start"] is None and found["last"]["step"] == 8
    assert found["best"] == {"step": 8, "pa": found["last"]["pa"]}


def test_a_truncated_array_is_never_trained_on(place, tree):
    images = place / f"prepared/tiny/{DATASET}/images.bin"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"images\.bin.*truncated"):
        project(place, tree).train(DATASET, "infoseg")
    assert not (place / "runs").exists()


def test_a_half_written_evaluation_is_named(place, tree):
    made = project(place, tree)
    path = made.evaluation_path(RUN)
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 1, "last"')
    with pytest.raises(DataError, match=rf"{DATASET}/infoseg-0\.json"):
        made.evaluation(RUN)


def test_files_of_ones_own_among_the_pipelines_outputs_are_refused(tmp_path, tree):
    local = {"kind": "local", "path": str(tmp_path / "raw" / "tiny" / "coco")}
    made = project(tmp_path, changed(tree, "sources.coco", local))
    with pytest.raises(ParamsError, match="deletes at will"):
        made.raw("coco")


def test_local_files_are_listed_and_not_copied_and_named_where_missing(tmp_path, tree):
    mine = tmp_path / "mine"
    made = project(tmp_path, changed(tree, "sources.coco", {"kind": "local", "path": str(mine)}))
    with pytest.raises(DataError, match="mine"):
        made.make_raw("coco")
    mine.mkdir()
    (mine / "a.jpg").write_bytes(b"x" * 10)
    assert made.make_raw("coco") == mine
    [stated] = (tmp_path / "raw/tiny/coco").iterdir()
    assert "a.jpg,10," in stated.read_text()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["train", "coco_stuf3", "infoseg"], "coco_stuf3"),
        (["train", DATASET, "infosegg"], "infosegg"),
        (["train", DATASET, "infoseg", "--profile", "papr"], "papr"),
        (["params", "-S", "training.thread=2"], "training.thread"),
        (["params", "--profile", "tiny", "-S", "training.thread=2"], "training.thread"),
        (["params", "-S", "training.threads=two"], "training.threads"),
        (["train", DATASET, "infoseg", "-S", "training.device=cuda"], "training.device"),
    ],
)
def test_a_typo_on_the_command_line_is_named_without_a_traceback(
    home, monkeypatch, capsys, words, named
):
    if "training.device=cuda" in words and torch.cuda.is_available():
        words = [*words[:-1], "training.device=cuda:99"]
    monkeypatch.chdir(home)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("infoseg: ") and named in error


def test_outside_the_repository_the_command_line_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InfosegError, match="not inside the repository"):
        find_root()


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate", "all", "segment"])
def test_help_explains_every_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 8
