"""The pipeline itself, on a few pictures, in a copy of the repository of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from helpers import one_data_set

ROOT = Path(__file__).parent.parent
TABLES = ("table1", "table2", "table2b")
INFOSEG, KMEANS = "coco_stuff3-infoseg-0", "coco_stuff3-kmeans-0"


class Clone:
    """A copy of the working tree that DVC can work in."""

    def __init__(self, path: Path):
        self.path = path
        tracked = self.run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).split("\n")
        for name in filter(None, tracked):
            if (ROOT / name).is_file() and not name.startswith("results/"):
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name)
        (path / "dvc.lock").unlink(missing_ok=True)
        tree = one_data_set(pictures=3)
        self.write_params(tree)
        self.run("git", "init", "-q")

    def run(self, *words: str, check: bool = True, cwd: Path | None = None) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            words,
            cwd=cwd or self.path,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.code, self.output = done.returncode, done.stdout
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def repro(self, *words: str, check: bool = True) -> list[str]:
        """Run `dvc repro`; returns the stages whose command ran, or came from the run cache."""
        text = self.run("dvc", "repro", *words, check=check)
        return [
            line.split("'")[1]
            for line in text.splitlines()
            if line.startswith(("Running stage", "Stage '")) and "didn't change" not in line
        ]

    def write_params(self, tree: dict) -> None:
        (self.path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    @property
    def params(self) -> dict:
        return yaml.safe_load((self.path / "params.yaml").read_text())

    @property
    def lock(self) -> str:
        return (self.path / "dvc.lock").read_text()


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    made = Clone(tmp_path_factory.mktemp("clone"))
    made.first = made.run(sys.executable, "-m", "infoseg.pipeline", "--jobs", "2")
    return made


# The tests below run in order: each leaves the clone's pipeline up to date.


def test_one_command_leads_from_nothing_to_table_and_figure(clone):
    assert re.search(rf"train@{INFOSEG} +done", clone.first)
    assert (clone.path / "results/tiny/timing.csv").exists()
    table = pd.read_csv(clone.path / "results/tiny/table1.csv")
    assert list(table["method"]) == ["kmeans", "infoseg"]
    assert table["pa_mean"].between(0, 100).all()
    stems = ("figure1", "figure2", "figure3", "figure4", "seeds", "signals", "confusion", "classes")
    names = [f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")]
    names += [f"{table}.{suffix}" for table in TABLES for suffix in ("csv", "md", "tex")]
    for name in (*names, "report.html"):
        assert (clone.path / "results/tiny" / name).stat().st_size > 100, name
    assert list(pd.read_csv(clone.path / "results/tiny/table2.csv")["measure"]) == ["IIC-MI", "JSD"]
    choices = pd.read_csv(clone.path / "results/tiny/table2b.csv")
    assert list(choices["variant"]) == ["infoseg", "single"]


def test_a_plain_repro_after_it_does_nothing(clone):
    assert clone.repro() == []


def test_metrics_and_plots_are_there_for_dvc_to_show(clone):
    shown = json.loads(clone.run("dvc", "metrics", "show", "--json"))
    [found] = shown.values()
    metrics = found["data"][f"runs/tiny/metrics/{INFOSEG}.json"]["data"]
    assert set(metrics) == {"pa", "miou", "permutation_gap", "pa_best", "pa_constant"}
    text = clone.run("dvc", "plots", "show", "-o", "plots")
    assert (clone.path / "plots/index.html").exists(), text


def test_running_a_notebook_in_jupyterlab_retrains_nothing(clone):
    path = clone.path / "notebooks/02_train.ipynb"
    book = nbformat.read(path, 4)
    code = next(cell for cell in book.cells if cell.cell_type == "code")
    code.execution_count = 3
    code.outputs = [nbformat.v4.new_output("stream", name="stdout", text="seen")]
    book.metadata["language_info"] = {"name": "python", "version": "3.99"}
    nbformat.write(book, path)
    before = (clone.path / f"runs/tiny/{INFOSEG}/weights.safetensors").stat().st_mtime_ns
    assert clone.repro() == ["strip@02_train"]
    after = (clone.path / f"runs/tiny/{INFOSEG}/weights.safetensors").stat().st_mtime_ns
    assert before == after


def test_making_a_run_again_gives_the_same_bytes(clone):
    before = clone.lock
    assert clone.repro("-f", "-s", f"train@{INFOSEG}", f"evaluate@{INFOSEG}") == [
        f"train@{INFOSEG}",
        f"evaluate@{INFOSEG}",
    ]
    assert clone.lock == before


def test_tables_figures_and_report_made_again_have_the_same_bytes(clone):
    # The first ones came from forks of one process, these from processes of their own.
    results = clone.path / "results/tiny"
    names = sorted(path.name for path in results.iterdir() if path.name != "timing.csv")
    before, lock = {name: (results / name).read_bytes() for name in names}, clone.lock
    stages = ["table1", "table2", "figure4", "figures", "report"]
    assert clone.repro("-f", "-s", *stages) == stages
    assert [name for name in names if (results / name).read_bytes() != before[name]] == []
    assert clone.lock == lock


def test_a_methods_parameter_reruns_that_method_alone_and_jobs_do_it_side_by_side(clone):
    tree = clone.params
    tree["methods"]["kmeans"]["pixels_per_image"] += 50
    clone.write_params(tree)
    before = yaml.safe_load(clone.lock)["stages"]
    text = clone.run(sys.executable, "-m", "infoseg.pipeline", "--jobs", "2")
    assert "trainings: 1, 2 side by side" in text
    after = yaml.safe_load(clone.lock)["stages"]
    changed = {name for name in after if after[name] != before[name]}
    rendered = {"table1", "table2", "figure4", "figures", "report"}
    assert changed - rendered == {f"train@{KMEANS}", f"evaluate@{KMEANS}"}
    assert clone.repro() == []


def test_a_failing_run_names_its_stage_and_shows_the_end_of_its_log(clone):
    good = clone.params
    tree = clone.params
    tree["methods"]["infoseg"]["optimiser"]["batch"] = 4000
    clone.write_params(tree)
    text = clone.run(sys.executable, "-m", "infoseg.pipeline", "--jobs", "2", check=False)
    assert clone.code != 0
    assert f"train@{INFOSEG} failed" in text and "optimiser.batch is 4000" in text
    clone.write_params(good)
    clone.run("dvc", "checkout", check=False)
    clone.repro()


def test_a_typo_in_the_settings_stops_everything_and_names_the_key(clone):
    tree = clone.params
    tree["methods"]["infoseg"]["optimiser"]["learning_rte"] = 1
    good = clone.params
    clone.write_params(tree)
    text = clone.run("dvc", "repro", check=False)
    assert clone.code != 0
    assert "methods.infoseg.optimiser.learning_rte: unknown key" in text
    clone.write_params(good)
    clone.run("dvc", "checkout", check=False)
    assert clone.repro() == []
