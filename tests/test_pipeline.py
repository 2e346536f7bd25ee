"""The pipeline itself, on a few pictures, in a copy of the repository of its own."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import yaml
from clones import Clone, compare, contents, small
from filelock import FileLock
from helpers import changed
from PIL import Image

from infoseg import pipeline
from infoseg.settings import compose

INFOSEG, KMEANS = "train@coco_stuff3-infoseg", "train@coco_stuff3-kmeans"
SINGLE = "ablate@coco_stuff3-single"
#: Stages that a commit's dvc.lock knows.
EARLY = ("strip", "code", "data@coco")


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    made = Clone(tmp_path_factory.mktemp("clone"), small())
    made.first = made.make()
    made.files = contents(made.path)
    text = made.lock.read_text()
    lock = yaml.safe_load(text)
    lock["stages"] = {name: lock["stages"][name] for name in EARLY}
    made.lock.write_text(yaml.safe_dump(lock, sort_keys=False))
    made.commit()
    made.lock.write_text(text)
    return made


def stale(clone: Clone) -> set[str]:
    """Stages that have to run again, but for those that only wait for them."""
    return set(json.loads(clone.run("dvc", "status", "--json")))


# The tests with a clone run in order: each leaves its pipeline up to date.


def test_one_command_leads_from_nothing_to_tables_figures_and_report(clone):
    for stage in (*EARLY, KMEANS, INFOSEG, SINGLE, "report"):
        assert re.search(rf"^  {stage} +\d+ s  done$", clone.first, re.M), stage
    results = clone.path / "results/tiny"
    table = pd.read_csv(results / "tables/table1.csv")
    assert table["method"].tolist() == ["kmeans", "infoseg", "one class", "equal stripes"]
    assert table["n_seeds"].tolist() == [1, 2, 1, 1]
    assert table["pa_mean"].between(0, 100).all()
    choices = pd.read_csv(results / "tables/table2b.csv")
    assert choices["variant"].tolist() == ["infoseg", "single"]
    figures = ("figure1", "figure2", "figure4", "seeds", "signals", "confusion")
    names = [f"figures/{name}.{suffix}" for name in figures for suffix in ("png", "svg")]
    names += [f"tables/table{n}.{suffix}" for n in ("1", "2b") for suffix in ("md", "tex")]
    for name in (*names, "report.html", "timing.csv"):
        assert (results / name).stat().st_size > 50, name
    seeds = {path.stem for path in clone.path.glob("runs/tiny/*/infoseg/*.safetensors")}
    assert seeds == {"0", "1"}


def test_a_plain_repro_after_it_does_nothing(clone):
    assert clone.repro() == []
    assert "Data and pipelines are up to date" in clone.said


def test_metrics_and_plots_are_there_for_dvc_to_show(clone):
    [workspace] = json.loads(clone.run("dvc", "metrics", "show", "--json")).values()
    metrics = workspace["data"]["results/tiny/metrics/coco_stuff3.json"]["data"]
    assert metrics["pa"].keys() == {"kmeans", "infoseg"}
    text = clone.run("dvc", "plots", "show", "-o", "build/plots")
    assert (clone.path / "build/plots/index.html").exists(), text


def test_another_setting_makes_its_method_stale_and_no_other(clone):
    tree = clone.params
    tree["methods"]["kmeans"]["pixels_per_image"] += 50
    clone.write_params(tree)
    assert stale(clone) & {INFOSEG, SINGLE, KMEANS} == {KMEANS}
    clone.restore()


def test_comments_docstrings_and_what_jupyter_leaves_retrain_nothing(clone):
    source = clone.path / "infoseg/losses.py"
    source.write_text('"""Anew."""\n\n# Why not?\n' + source.read_text().partition('"""\n')[2])
    path = clone.path / "notebooks/02_train.ipynb"
    book = nbformat.read(path, 4)
    for number, cell in enumerate(book.cells):
        if cell.cell_type == "code":
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="seen")]
    book.metadata["language_info"] = {"name": "python", "version": "3.99"}
    nbformat.write(book, path)
    assert clone.repro() == ["strip", "code"]
    clone.restore()


def test_another_expression_makes_the_cells_stale_that_run_it_and_no_other(clone):
    with (clone.path / "infoseg/methods/infoseg.py").open("a") as file:
        file.write("\nFACTOR = 1 + 1\n")
    assert clone.repro("code") == ["code"]
    assert stale(clone) & {INFOSEG, SINGLE, KMEANS} == {INFOSEG, SINGLE}
    clone.restore()


def test_a_stage_that_fails_stops_what_depends_on_it_and_nothing_else(clone):
    for name, source in (
        # As short as can be; a stage has to write what it says.
        ("04_tables", "from pathlib import Path; Path('results/tiny/tables').mkdir()"),
        ("05_figures", "print('so far'); raise ValueError('wrong on purpose')"),
    ):
        book = nbformat.v4.new_notebook()
        book.cells = [nbformat.v4.new_code_cell(text) for text in ("profile = ''", source)]
        book.cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(book, clone.path / f"notebooks/{name}.ipynb")
    text = clone.make(check=False)
    assert clone.code == 1
    assert re.search(r"^  tables +\d+ s  done$", text, re.M)
    assert re.search(r"^  figures +\d+ s  FAILED; the end of its log:$", text, re.M)
    assert re.search("05_figures.ipynb failed in cell .: ValueError: wrong on purpose", text)
    assert not re.search("^  report ", text, re.M)
    assert "infoseg: failed: figures; `make repro` goes on from here" in text
    assert "Traceback" not in text
    [kept] = re.findall(r"The notebook as far as it came: (\S+)", text)
    assert "so far" in (clone.path / kept).read_text()
    said = clone.run("dvc", "repro", "figures", check=False)
    assert "ValueError: wrong on purpose" in said and "failed to reproduce 'figures'" in said
    assert clone.code != 0 and "Traceback" not in said


def test_two_at_once_are_one_too_many(clone):
    with FileLock(clone.path / "build/logs/repro.lock"):
        said = clone.make(check=False)
    assert clone.code == 1
    assert said == "infoseg: another `make repro` is at work in this folder: wait for it\n"


LOST = "infoseg: dvc.lock is not whole: .*`git checkout dvc.lock`.*\n"


@pytest.mark.slow
def test_pictures_that_lie_elsewhere_are_watched(tmp_path):
    pictures, stages = tmp_path / "my pictures", ["data@pictures", "prepare@pictures"]
    pictures.mkdir()

    def draw(name: str, colour: int) -> None:
        Image.new("RGB", (110, 100), (colour, 80, 40)).save(pictures / name)

    for number in range(3):
        draw(f"{number}.png", number)
    tree = changed(compose("folder"), "sources.pictures.path", str(pictures))
    clone = Clone(tmp_path / "clone", changed(tree, "profile.sources.pictures", str(pictures)))
    assert clone.repro(stages[1]) == ["strip", "code", *stages]
    draw("3.png", 3)
    assert clone.repro(stages[1]) == stages
    meta = clone.path / "prepared/folder/pictures/meta.json"
    assert json.loads(meta.read_text())["n_images"] == 4
    draw("0.png", 90)
    assert clone.repro(stages[1]) == stages and clone.repro(stages[1]) == []


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        # As it is for a moment whenever DVC writes it.
        ("dvc.lock", lambda text: "", LOST),
        ("dvc.lock", lambda text: text[: text.rindex("size:") + 5], LOST),
        ("dvc.lock", lambda text: f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> theirs\n", LOST),
        (".dvc/tmp/rwlock", lambda text: '{"read": ', "infoseg: DVC .*rwlock.*: delete it, .*\n"),
    ],
)
def test_a_file_of_dvcs_that_is_damaged_is_named(clone, file, damage, message):
    clone.restore()
    text = (clone.path / file).read_text()
    (clone.path / file).write_text(damage(text))
    said = clone.make(check=False)
    assert clone.code == 1 and re.fullmatch(message, said)
    (clone.path / file).write_text(text)


@pytest.mark.slow
def test_a_half_written_lock_file_costs_nothing_that_was_done(clone):
    clone.restore()
    clone.lock.write_text("stages: {")
    for name in ("runs", "results", "build/scratch"):
        clone.run("rm", "-r", name)
    clone.run("git", "checkout", "dvc.lock")
    assert len(yaml.safe_load(clone.lock.read_text())["stages"]) == len(EARLY)
    # Tables, figures and report are in git; DVC keeps none of those.
    assert clone.repro() == ["tables", "figures", "report"]
    assert contents(clone.path) == clone.files


@pytest.mark.slow
def test_plain_dvc_in_another_folder_makes_the_same_bytes(clone, tmp_path):
    clone.restore()
    other = Clone(tmp_path, small(), of=clone.path)
    assert {INFOSEG, KMEANS, SINGLE} < set(other.repro())
    count, different = compare(clone.path, other.path)
    assert count > 60
    assert different == []


# ---- without DVC ---------------------------------------------------------------------------------


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Has `repro` run stages that do nothing; returns where each ran, in order, and how many did
    side by side."""

    def run(reads: dict[str, set[str]], jobs: int | None = None, failing="", interrupted=""):
        ran, busy, most, lock = {}, [], [0], threading.Lock()

        def stage(words, env, **_):
            with lock:
                busy.append(env.get("CUDA_VISIBLE_DEVICES"))
                ran[words[-1]] = busy[-1]
                most[0] = max(most[0], len(busy))
            if words[-1] == interrupted:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            with lock:
                busy.remove(ran[words[-1]])
            assert reads[words[-1]] <= ran.keys()
            return SimpleNamespace(returncode=words[-1] == failing)

        monkeypatch.setattr(subprocess, "run", stage)
        monkeypatch.setattr(pipeline, "out_of_date", lambda: reads)
        monkeypatch.setattr(pipeline, "load_params", lambda root: None)
        code = pipeline.main(["repro", *(["--jobs", str(jobs)] if jobs else [])])
        return code, ran, most[0]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return run


def test_every_stage_has_a_gpu_of_those_it_may_use(stages, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    code, ran, most = stages({name: set() for name in "abcdef"})
    assert code == 0 and most == 2
    assert sorted(ran.values()) == ["3"] * 3 + ["5"] * 3
    code, ran, most = stages({name: set() for name in "abcd"}, jobs=4)
    assert most == 4 and sorted(ran.values()) == ["3", "3", "5", "5"]


def test_without_a_gpu_stages_see_what_the_pipeline_sees(stages):
    code, ran, most = stages({name: set() for name in "abcdef"}, jobs=3)
    assert code == 0 and most == 3
    assert set(ran.values()) == {""}


def test_a_stage_waits_for_what_it_reads_and_not_for_its_failure(stages, capsys):
    reads = {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"a"}, "e": {"d"}}
    code, ran, _ = stages(reads, jobs=2)
    assert code == 0 and ran.keys() == reads.keys()
    code, ran, _ = stages(reads, jobs=2, failing="b")
    assert code == 1 and ran.keys() == reads.keys() - {"c"}
    assert "infoseg: failed: b; `make repro` goes on" in capsys.readouterr().err


def test_ctrl_c_starts_nothing_more(stages, capsys):
    code, ran, _ = stages({name: set() for name in "abcdef"}, jobs=1, interrupted="b")
    assert code == 130
    assert list(ran) == ["a", "b"]
    assert "infoseg: interrupted; run it again to go on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("methods.infoseg.optimiser.learning_rte", 1, "unknown key"),
        # Such a name would be run: DVC puts it into commands that a shell reads.
        ("profile.name", "x; touch seen; ", ""),
        ("profile.datasets", ["coco_stuff3; touch seen"], ""),
    ],
)
def test_settings_are_read_before_dvc_sees_them(tmp_path, monkeypatch, capsys, key, value, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed(small(), key, value)))
    monkeypatch.setattr(pipeline, "out_of_date", lambda: pytest.fail("DVC is asked"))
    assert pipeline.main(["repro"]) == 1
    assert f"{key}: {message}" in capsys.readouterr().err


def test_jobs_are_a_number_or_auto(capsys):
    for jobs in ("0", "-1", "two"):
        with pytest.raises(SystemExit):
            pipeline.main(["repro", "--jobs", jobs])
        assert "is not a number, at least 1, or auto" in capsys.readouterr().err
