"""Tries: the same number for every method, judged on one half, what is changed changed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from infoseg.cli import main
from infoseg.errors import ParamsError
from infoseg.params import compose, parse_params
from infoseg.project import Project
from infoseg.tries import load_tries, run_tries, with_tries

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def params():
    made = compose(ROOT / "conf", "tiny")
    made["sources"]["coco"] |= {"stuff_images": 16, "person_images": 2}
    made["methods"]["infoseg"]["optimiser"] |= {"steps": 2, "batch": 2}
    made["methods"]["kmeans"]["per_dataset"] = {"coco_stuff3": {"passes": 3}}
    return parse_params(made, "test")


def written(path: Path, tries) -> Path:
    path.write_text(yaml.safe_dump(tries))
    return path


def test_unequal_numbers_of_tries_are_refused(tmp_path, params):
    tries = {"coco_stuff3": {"kmeans": [{}, {"standardise": True}], "infoseg": [{}]}}
    with pytest.raises(ParamsError, match="not the same number.*'infoseg': 1, 'kmeans': 2"):
        load_tries(written(tmp_path / "t.yaml", tries), params)


@pytest.mark.parametrize(
    ("tries", "named"),
    [
        ({"nowhere": {"kmeans": [{}]}}, "nowhere"),
        ({"coco_stuff3": {"kmean": [{}]}}, "kmean"),
        ({"coco_stuff3": {"kmeans": {"standardise": True}}}, "list of changed settings"),
        (["coco_stuff3"], "list of changed settings"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, params, tries, named):
    with pytest.raises(ParamsError, match=named):
        load_tries(written(tmp_path / "t.yaml", tries), params)


def test_a_missing_file_and_a_typo_in_a_setting_are_named(tmp_path, params):
    with pytest.raises(ParamsError, match=r"gone\.yaml"):
        load_tries(tmp_path / "gone.yaml", params)
    with pytest.raises(ParamsError, match="standardize"):
        with_tries(params, {"coco_stuff3": {"kmeans": [{"standardize": True}]}})


def test_a_try_comes_after_the_data_sets_own_settings_and_touches_nothing_else(params):
    tries = {"coco_stuff3": {"kmeans": [{}, {"passes": 7}]}}
    made, runs = with_tries(params, tries)
    assert [run.key for run in runs] == [
        "coco_stuff3-kmeans-try1-0",
        "coco_stuff3-kmeans-try2-0",
    ]
    found = [made.method(run.method, run.dataset).passes for run in runs]
    assert found == [3, 7]
    assert made.method("kmeans", "coco_stuff3").passes == 3
    assert made.method("kmeans-try2", "potsdam").passes == params.method("kmeans", "potsdam").passes


def test_tries_are_judged_on_the_choosing_half_alone(tmp_path, params):
    (tmp_path / "params.yaml").write_text("")
    tries = {"coco_stuff3": {"kmeans": [{}, {"standardise": True}], "random_cnn": [{}, {}]}}
    project = Project(tmp_path, params, ROOT, make_missing=True)
    frame = run_tries(project, written(tmp_path / "t.yaml", tries), jobs=1)
    on_disk = pd.read_csv(project.results / "tries.csv")
    assert list(on_disk.columns) == ["dataset", "method", "try", "changed", "pa_chosen", "taken"]
    assert on_disk.groupby("method")["taken"].sum().to_dict() == {"kmeans": 1, "random_cnn": 1}
    assert (
        frame.loc[frame["taken"], "pa_chosen"].tolist()
        == frame.groupby("method", sort=False)["pa_chosen"].max().tolist()
    )
    made, runs = with_tries(params, tries)
    again = Project(tmp_path, made, ROOT)
    for run, pa in zip(runs, frame["pa_chosen"], strict=True):
        assert again.evaluation(run)["last"]["halves"]["chosen"]["pa"] == pa


def test_the_command_line_names_a_bad_file(tmp_path, capsys):
    path = written(tmp_path / "t.yaml", {"coco_stuff3": {"kmeans": [{}], "infoseg": []}})
    assert main(["tries", str(path), "--profile", "tiny"]) == 1
    assert "not the same number" in capsys.readouterr().err
