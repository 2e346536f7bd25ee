"""The study: candidates are changed settings, rounds halve them, the other half stays unseen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import ROOT

from infoseg import study
from infoseg.cli import main
from infoseg.errors import DataError, ParamsError
from infoseg.params import compose, parse_params
from infoseg.project import Project
from infoseg.reporting.sections import answer_and_show, show_rankings
from infoseg.reporting.study_chart import study_chart
from infoseg.reporting.style import ACCENT, MUTED
from infoseg.selection import write_maps
from infoseg.study import (
    SIGNALS,
    all_answers,
    answer,
    rank_correlations,
    run_question,
    seed_correlations,
)
from infoseg.study_questions import change_of, load_study, with_candidate

BASE = {"optimiser": {"batch": 2}}


def question(**changes):
    return {
        "title": "A question",
        "method": "infoseg",
        "datasets": ["coco_stuff3"],
        "changes": {"objective": {"tau": 0.5}},
        "candidates": {
            "one": {},
            "two": {"objective": {"tau": 0.9}},
            "few": {"training": {"images": 0.5}},
        },
        "rounds": [{"steps": 2, "seeds": [0], "keep": 2}, {"steps": 3, "seeds": [0, 1], "keep": 1}],
        "report": False,
    } | changes


def written(folder: Path, **changes) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"base": BASE, "questions": {"what": question(**changes)}}))
    return path


@pytest.fixture(scope="module")
def params():
    made = compose(ROOT / "conf", "tiny")
    made["sources"]["coco"] |= {"stuff_images": 16, "person_images": 2}
    made["methods"]["infoseg"]["per_dataset"] = {"coco_stuff3": {"optimiser": {"steps": 99}}}
    return parse_params(made, "test")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"candidate": {}}, "questions.what.candidate: unknown key"),
        ({"rounds": [{"steps": 0, "seeds": [0], "keep": 1}]}, "rounds.0.steps"),
        ({"report": None}, "report"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, changes, named):
    with pytest.raises(ParamsError, match=named):
        load_study(written(tmp_path, **changes))


def test_seeds_are_ranked_within_their_setting():
    """Between the settings the signal falls as PA rises; among seeds it rises with it."""
    rows = pd.DataFrame(
        {
            "dataset": "d",
            "question": "q",
            "candidate": ["a"] * 3 + ["b"] * 3 + ["few"],
            "steps": 5,
            "seed": [0, 1, 2, 0, 1, 2, 0],
            "pa_chosen": [30.0, 31, 33, 60, 64, 62, 1],
        }
    )
    for name in (*SIGNALS, "seed_agreement"):
        rows[name] = 0.0
    rows["bound"] = [10.0, 11, 13, 0, 4, 2, 99]
    assert rank_correlations(rows.head(6))["bound"][0] < 0
    found = seed_correlations(rows)
    assert found[["dataset", "runs"]].to_numpy().tolist() == [["d", 6]]
    assert found["bound"][0] == pytest.approx(1)
    assert found["cosine"].isna().all()


def test_a_grid_is_all_combinations_of_its_values(tmp_path):
    grid = {"objective.tau": [0.5, 0.9], "optimiser.batch": [2, 4], "scale": ["unit"]}
    found = load_study(written(tmp_path, candidates={}, grid=grid)).questions["what"].candidates
    assert list(found) == ["try01", "try02", "try03", "try04"]
    assert found["try02"] == {"objective": {"tau": 0.5}, "optimiser": {"batch": 4}, "scale": "unit"}
    spread = [(c["objective"]["tau"], c["optimiser"]["batch"]) for c in found.values()]
    assert spread == [(0.5, 2), (0.5, 4), (0.9, 2), (0.9, 4)]


@pytest.mark.parametrize("changes", [{"candidates": {}}, {"grid": {"scale": ["unit"]}}])
def test_a_question_has_candidates_or_a_grid(tmp_path, changes):
    with pytest.raises(ParamsError, match="either candidates or grid"):
        load_study(written(tmp_path, **changes))


def test_unequal_numbers_of_tries_are_refused(tmp_path):
    two = question(candidates={"one": {}, "two": {"scale": "unit"}})
    asked = {"base": {}, "equal_tries": ["a", "b"], "questions": {"a": question(), "b": two}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(asked))
    with pytest.raises(ParamsError, match="not the same number.*'a': 3, 'b': 2"):
        load_study(path)
    path.write_text(yaml.safe_dump(asked | {"equal_tries": ["a", "c"]}))
    with pytest.raises(ParamsError, match="'c' is not among"):
        load_study(path)
    path.write_text(yaml.safe_dump(asked | {"equal_tries": ["a"]}))
    assert len(load_study(path).questions) == 2


def test_the_compared_methods_have_as_many_tries_as_each_other():
    found = load_study(ROOT / "conf" / "study.yaml")
    methods = {found.questions[name].method for name in found.equal_tries}
    assert methods == {"random_cnn", "kmeans", "doersch", "isola", "iic", "ac", "inmars"}


def test_infoseg_has_had_no_more_settings_than_each_compared_method_has_tries():
    found = load_study(ROOT / "conf" / "study.yaml")
    asked = {
        json.dumps(change_of(found, question, candidate), sort_keys=True)
        for question in found.questions.values()
        if question.method == "infoseg"
        for candidate in question.candidates
    }
    assert len(asked) <= len(found.questions[found.equal_tries[0]].candidates)


def test_a_round_may_have_data_sets_of_its_own_and_another_method_no_signals(tmp_path, params):
    project = Project(tmp_path, params, ROOT, make_missing=True)
    rounds = [
        {"steps": None, "seeds": [0], "keep": 1},
        {"steps": None, "seeds": [1], "keep": 1, "datasets": ["coco_stuff3", "coco_persons"]},
    ]
    candidates = {"one": {}, "two": {"standardise": True}}
    asked = {"method": "kmeans", "changes": {}, "candidates": candidates, "rounds": rounds}
    frame = run_question(project, written(tmp_path, **asked), "what", 1)
    assert frame[frame["round"] == 1]["dataset"].tolist() == ["coco_stuff3"] * 2
    assert frame[frame["round"] == 2]["dataset"].tolist() == ["coco_stuff3", "coco_persons"]
    assert frame[[*SIGNALS]].isna().all(axis=None)
    best = frame.loc[frame[frame["round"] == 1]["pa_chosen"].idxmax(), "candidate"]
    assert set(frame[frame["round"] == 2]["candidate"]) == {best}


def test_missing_files_unknown_questions_and_typos_in_settings_are_named(tmp_path, params):
    with pytest.raises(ParamsError, match=r"gone\.yaml"):
        load_study(tmp_path / "gone.yaml")
    project = Project(tmp_path, params, ROOT, make_missing=True)
    with pytest.raises(ParamsError, match="'whatever' is not among.*what"):
        run_question(project, written(tmp_path), "whatever", 1)
    path = written(tmp_path, candidates={"one": {"objective": {"taw": 1}}})
    with pytest.raises(ParamsError, match="taw"):
        with_candidate(params, load_study(path), "what", "one", 2)


def test_a_candidate_changes_what_it_says_and_the_round_the_steps(tmp_path, params):
    found = load_study(written(tmp_path))
    made, method = with_candidate(params, found, "what", "two", 3)
    settings = made.method(method, "coco_stuff3")
    assert (settings.objective.tau, settings.optimiser.steps, settings.optimiser.batch) == (
        0.9,
        3,
        2,
    )
    one, method = with_candidate(params, found, "what", "one", 3)
    assert one.method(method, "coco_stuff3").objective.tau == 0.5
    assert with_candidate(params, found, "what", "few", 3)[0].training.images == 0.5
    assert one.training.images == 1


def test_questions_share_the_runs_of_the_settings_they_share(tmp_path, params):
    asked = question(changes={}, candidates={"default": {"objective": {"tau": 0.5}}, "few": {}})
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"base": BASE, "questions": {"a": question(), "b": asked}}))
    found = load_study(path)
    names = {
        which: with_candidate(params, found, *which)[1]
        for which in [("a", "one", 2), ("b", "default", 2), ("a", "one", 3), ("b", "few", 2)]
    }
    assert names["a", "one", 2] == names["b", "default", 2]
    assert len(set(names.values())) == 3
    few = with_candidate(params, found, "a", "few", 2)[1]  # differs in training.images alone
    assert few not in names.values()


def test_candidates_that_are_the_same_are_refused(tmp_path):
    same = {"one": {}, "two": {"objective": {"tau": 0.5}}}
    with pytest.raises(ParamsError, match="'two' and 'one' are the same"):
        load_study(written(tmp_path, candidates=same))


def test_the_base_is_infosegs_alone(tmp_path, params):
    path = written(tmp_path, method="kmeans", changes={}, candidates={"raw": {"passes": 2}})
    found, method = with_candidate(params, load_study(path), "what", "raw", None)
    assert found.method(method, "coco_stuff3").passes == 2
    with pytest.raises(ParamsError, match="optimiser"):  # K-Means has none, whose steps to set
        with_candidate(params, load_study(path), "what", "raw", 3)


def test_rounds_keep_the_better_half_and_resume_what_is_there(tmp_path, params):
    project, path = Project(tmp_path, params, ROOT, make_missing=True), written(tmp_path)
    frame = run_question(project, path, "what", 1)
    first, second = frame[frame["round"] == 1], frame[frame["round"] == 2]
    kept = first.sort_values("pa_chosen", ascending=False)["candidate"][:2]
    assert set(first[first["taken"]]["candidate"]) == set(second["candidate"]) == set(kept)
    assert second["seed"].tolist() == [0, 1, 0, 1] and (second["steps"] == 3).all()
    means = second.groupby("candidate")["pa_chosen"].mean()
    assert set(second[second["taken"]]["candidate"]) == {means.idxmax()}
    assert "pa_reported" not in frame
    assert set(SIGNALS) <= set(frame)
    assert frame["bound"].between(-4, 0).all()
    assert first["seed_agreement"].isna().all() and second["seed_agreement"].between(-1, 1).all()
    written_frame = pd.read_csv(project.results / "what.csv")
    assert written_frame["pa_chosen"].tolist() == pytest.approx(frame["pa_chosen"], abs=1e-3)
    changed = written_frame.set_index("candidate")["changed"].groupby(level=0).first()
    assert json.loads(changed["two"]) == {"objective": {"tau": 0.9}}
    weights = sorted(project.runs.glob("*/weights.safetensors"))
    assert len(weights) == 7
    before = [file.stat().st_mtime_ns for file in weights]
    again = run_question(project, path, "what", 1)
    assert [file.stat().st_mtime_ns for file in weights] == before
    pd.testing.assert_frame_equal(frame, again)


def test_a_run_killed_before_its_signals_is_made_again(tmp_path, params, monkeypatch):
    project = Project(tmp_path, params, ROOT, make_missing=True)
    found = load_study(written(tmp_path))
    its, method = with_candidate(params, found, "what", "one", 2)
    its = Project(tmp_path, its, ROOT, make_missing=True)
    run = study.Run(dataset="coco_stuff3", method=method, seed=0)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study, "_take_signals", killed)
        with pytest.raises(KeyboardInterrupt):
            study.judge(its, run)
    assert not its.is_current(run)
    assert study.judge(its, run)["bound"] < 0
    assert project.runs.exists()


def test_signals_of_a_profiles_runs_stand_beside_their_pa(tmp_path, params):
    made = params.model_dump()
    made["profile"] |= {"datasets": ["coco_stuff3"], "methods": ["kmeans", "infoseg"]}
    made["profile"] |= {"seeds": [0, 1]}
    made["profile"]["repeats"] |= {"seeds": [], "datasets": [], "methods": []}
    made["methods"]["infoseg"]["per_dataset"] = {"coco_stuff3": {"optimiser": {"steps": 2}}}
    project = Project(tmp_path, parse_params(made, "test"), ROOT, make_missing=True)
    frame = study.profile_signals(project, 1)
    assert frame[["method", "seed", "steps"]].to_numpy().tolist() == [
        ["infoseg", 0, 2],
        ["infoseg", 1, 2],
    ]
    assert frame["flip_agreement"].between(-1, 1).all()
    assert frame["seed_agreement"].nunique() == 1
    run = study.Run(dataset="coco_stuff3", method="infoseg", seed=1)
    halves = project.evaluation(run)["last"]["halves"]
    assert frame["pa_chosen"][1] == halves["chosen"]["pa"]
    assert frame["pa_reported"][1] == halves["reported"]["pa"]
    assert len(pd.read_csv(project.results / "signals.csv")) == 2


def test_the_command_prints_means_and_a_reporting_question_writes_the_other_half(
    tmp_path, params, monkeypatch, capsys
):
    monkeypatch.setattr(study.Project, "results", property(lambda self: tmp_path / "results"))
    rounds = [{"steps": 2, "seeds": [0], "keep": 1}]
    path = written(tmp_path, report=True, candidates={"one": {}}, rounds=rounds)
    project = Project(tmp_path, params, ROOT, make_missing=True)
    frame = run_question(project, path, "what", 1)
    assert "pa_reported" in frame
    assert main(["study", "nothing", "--file", str(path)]) == 1
    assert "'nothing' is not among" in capsys.readouterr().err


@pytest.mark.parametrize("profile", ["study", "study-demo"])
def test_the_studys_own_questions_can_be_asked(profile):
    params = parse_params(compose(ROOT / "conf", profile), profile)
    found = load_study(ROOT / "conf" / "study.yaml")
    for name in params.profile.study:
        asked = found.questions[name]
        for candidate in asked.candidates:
            made, method = with_candidate(params, found, name, candidate, asked.rounds[0].steps)
            for dataset in asked.datasets:
                made.method(method, dataset)


def test_every_question_belongs_to_a_profile():
    profiles = [
        compose(ROOT / "conf", name)["profile"]["study"] for name in ("study", "study-demo")
    ]
    assert sorted(sum(profiles, [])) == sorted(load_study(ROOT / "conf" / "study.yaml").questions)


def test_the_notebook_shows_every_question_and_no_other():
    cells = json.loads((ROOT / "notebooks" / "08_open_choices.ipynb").read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    shown = [name for call in re.findall(r"show\((.*)\)", source) for name in quoted(call)]
    assert sorted(shown) == sorted(load_study(ROOT / "conf" / "study.yaml").questions)


def quoted(arguments: str) -> list[str]:
    return re.findall(r'"(\w+)"', arguments)


def test_a_signal_that_orders_runs_as_pa_does_correlates_with_it():
    rows = pd.DataFrame({"dataset": "d", "steps": 5, "pa_chosen": [50.0, 60, 40, 70, 65, 30]})
    for name in SIGNALS:
        rows[name] = 0.0
    rows["seed_agreement"] = rows["pa_chosen"]
    rows["bound"] = rows["pa_chosen"] ** 3
    rows["cosine"] = -rows["pa_chosen"]
    rows.loc[0, "local_pa"] = None
    few = rows.assign(steps=9).head(4)
    found = rank_correlations(pd.concat([rows, few, rows.head(2)]))
    assert found[["dataset", "steps", "runs"]].to_numpy().tolist() == [["d", 5, 6]]
    assert found["bound"][0] == pytest.approx(1)
    assert found["seed_agreement"][0] == pytest.approx(1)
    assert found["cosine"][0] == pytest.approx(-1)
    assert found[["flip_agreement", "local_pa"]].isna().all(axis=None)


def test_seeds_are_compared_within_their_setting(tmp_path, params):
    project = Project(tmp_path, params, ROOT)
    labels = np.random.default_rng(0).integers(0, 3, (4, 8, 8)).astype(np.uint8)
    maps = {("one", 0): labels, ("two", 0): 2 - labels, ("one", 1): np.roll(labels, 3, 1)}
    runs = []
    for (method, seed), found in maps.items():
        runs.append(study.Run(dataset="d", method=method, seed=seed))
        write_maps(project.maps_path(runs[-1]), found, "")
    one, alone, other = study.agreements(project, runs)
    assert one == other < 0.5
    assert np.isnan(alone)


def test_a_question_never_asked_is_named_with_the_command_that_asks_it(tmp_path):
    with pytest.raises(DataError, match=r"norm\.csv.*\n?.*infoseg study norm --profile study"):
        answer(tmp_path, "norm")


def table():
    return pd.DataFrame(
        {
            "round": [1, 1, 1, 2],
            "dataset": "street",
            "candidate": ["one", "two", "three", "two"],
            "steps": [2, 2, 2, 4],
            "pa_chosen": [40.0, 50.0, 45.0, 60.0],
            "taken": [False, True, False, True],
        }
    )


def test_the_chart_orders_candidates_by_the_last_round_they_were_in():
    figure = study_chart(table(), "A question")
    [ax] = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["two", "three", "one"]
    dots = {
        (line.get_xdata()[0], line.get_color()) for line in ax.lines if line.get_marker() == "o"
    }
    assert dots == {(40.0, MUTED), (50.0, MUTED), (45.0, MUTED), (60.0, ACCENT)}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["2 steps", "4 steps"]


def shown(tmp_path, monkeypatch, frame) -> list:
    """What a notebook displays of a table of results/study."""
    (tmp_path / "results" / "study").mkdir(parents=True)
    (tmp_path / "conf").mkdir()
    frame.to_csv(tmp_path / "results" / "study" / "what.csv", index=False)
    written(tmp_path / "conf")
    project = SimpleNamespace(root=tmp_path)
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    answer_and_show(project, "", "what")
    return found


def columns(frame) -> pd.DataFrame:
    empty = ["within_image_pa", "within_image_chance", "seed_agreement", "cosine"]
    empty += ["constant_share", "local_pa", "bound"]
    return frame.assign(changed="{}", **dict.fromkeys(empty))


def test_a_notebook_shows_a_questions_means_without_empty_columns(tmp_path, monkeypatch):
    figure, means = shown(tmp_path, monkeypatch, columns(table()))
    assert len(figure.axes) == 1
    assert list(means.columns) == ["pa_chosen"]
    assert len(means) == 4


def test_a_question_without_an_answer_is_named_with_the_command(tmp_path, monkeypatch, capsys):
    shown(tmp_path, monkeypatch, columns(table()))
    (tmp_path / "results" / "study" / "what.csv").unlink()
    answer_and_show(SimpleNamespace(root=tmp_path), "", "what")
    said = capsys.readouterr().out
    assert said.startswith("A question: ") and "infoseg study what --profile study" in said


def test_rankings_are_shown_of_the_answers_the_repository_holds(monkeypatch, capsys):
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    show_rankings(SimpleNamespace(root=ROOT), "")
    among_settings, among_seeds = found
    assert {"dataset", "steps", "runs", "seed_agreement"} <= set(among_settings)
    assert set(among_seeds["dataset"]) >= {"street", "persons", "aerial"}
    show_rankings(SimpleNamespace(root=ROOT), "marginal")
    assert "Not part of this run" in capsys.readouterr().out and len(found) == 2


def test_of_very_many_candidates_those_of_later_rounds_are_shown(tmp_path, monkeypatch, capsys):
    names = [f"try{n:02}" for n in range(20)]
    first = {"round": 1, "steps": 2, "dataset": "d", "seed": 0, "taken": False}
    frame = pd.DataFrame([first | {"candidate": name, "pa_chosen": 30.0} for name in names])
    second = frame.iloc[[3, 7]].assign(round=2, steps=4, taken=[True, False])
    figure, means = shown(tmp_path, monkeypatch, columns(pd.concat([frame, second])))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert sorted(labels) == ["try03", "try07"]
    assert set(means.index.get_level_values("candidate")) == {"try03", "try07"}
    assert "20 settings were tried" in capsys.readouterr().out


def test_without_any_answer_the_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"results/study: holds no answers.*infoseg study"):
        all_answers(tmp_path)


def test_all_answers_are_the_tables_of_all_study_profiles(tmp_path):
    for folder, pa in (("study", 1.0), ("study-demo", 2.0), ("demo", 3.0)):
        (tmp_path / "results" / folder).mkdir(parents=True)
        frame = pd.DataFrame({"question": [folder], "pa_chosen": [pa]})
        frame.to_csv(tmp_path / "results" / folder / f"{folder}.csv", index=False)
    assert all_answers(tmp_path)["pa_chosen"].tolist() == [1.0, 2.0]
    assert answer(tmp_path, "study-demo")["pa_chosen"].tolist() == [2.0]
