"""The pipeline itself, on a few pictures, in a copy of the repository of its own."""

import json
import re
import sys

import nbformat
import pandas as pd
import pytest
import yaml
from clones import Clone
from kills import compare

TABLES = ("table1", "table2", "table2b")
INFOSEG, KMEANS = "coco_stuff3-infoseg-0", "coco_stuff3-kmeans-0"


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
    stems = ("figure1", "figure2", "figure3", "figure4", "seeds", "signals", "confusion")
    names = [f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")]
    names += [f"{table}.{suffix}" for table in TABLES for suffix in ("csv", "md", "tex")]
    for name in (*names, "report.html"):
        assert (clone.path / "results/tiny" / name).stat().st_size > 100, name
    assert list(pd.read_csv(clone.path / "results/tiny/table2.csv")["measure"]) == ["IIC-MI", "JSD"]
    choices = pd.read_csv(clone.path / "results/tiny/table2b.csv")
    assert list(choices["variant"]) == ["infoseg", "single"]


def test_a_plain_repro_after_it_does_nothing(clone):
    assert clone.repro() == []


def test_another_folder_gives_the_same_bytes_whatever_the_jobs(clone, tmp_path):
    other = Clone(tmp_path)
    other.run(sys.executable, "-m", "infoseg.pipeline", "--jobs", "1")
    count, different = compare(clone.path, other.path)
    assert count > 200
    assert different == []


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


@pytest.mark.slow
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
    tree["methods"]["kmeans"]["pixels_per_image"] += 50
    clone.write_params(tree)
    text = clone.run(sys.executable, "-m", "infoseg.pipeline", "--jobs", "2", check=False)
    assert clone.code != 0
    assert f"train@{INFOSEG} failed" in text and "optimiser.batch is 4000" in text
    # The other run did not stop for it.
    assert re.search(rf"train@{KMEANS} +done", text)
    assert "stages are not done" in text
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


def test_settings_that_a_shell_would_run_are_refused_before_it_sees_them(clone):
    good, tree = clone.params, clone.params
    tree["profile"]["name"] = "x; touch seen; "
    clone.write_params(tree)
    text = clone.run(sys.executable, "-m", "infoseg.pipeline", check=False)
    assert clone.code == 1
    assert "profile.name: " in text
    assert not (clone.path / "seen").exists()
    clone.write_params(good)
