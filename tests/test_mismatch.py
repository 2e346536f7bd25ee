"""What was made with other settings, data or weights than those of today is refused by name."""

import json
import shutil

import pytest
import yaml
from helpers import changed, one_data_set

from infoseg.cli import main
from infoseg.files import DataError
from infoseg.results.tables import read_runs
from infoseg.runs import Project
from infoseg.settings import Run, parse_params
from infoseg.weights import describe_run

DATASET = "coco_stuff3"
RUN = Run(dataset=DATASET, method="infoseg", seed=0)
TAU = "methods.infoseg.objective.tau=1.6"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository in which seeds 0 and 1 of InfoSeg, and K-Means, are trained and evaluated."""
    home = tmp_path_factory.mktemp("home")
    tree = one_data_set(pictures=2)
    tree["sources"]["coco"] |= {"stuff_images": 24, "person_images": 2}
    tree["methods"]["infoseg"]["optimiser"] |= {"steps": 6, "batch": 4}
    tree["methods"]["infoseg"]["per_dataset"][DATASET]["seeds"] = [0, 1]
    tree["training"] |= {"evaluations": 1}
    (home / "params.yaml").write_text(yaml.safe_dump(tree))
    project = Project(home, parse_params(tree, "test"), home, make_missing=True)
    for run in project.params.runs():
        project.evaluate(**run.model_dump())
    return home, tree


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    shutil.copytree(made[0], tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def project(home, tree) -> Project:
    return Project(home, parse_params(tree, "test"), home)


def weights(home, method: str = "infoseg", seed: int = 0):
    return home / f"runs/tiny/{DATASET}/{method}/{seed}.safetensors"


def evaluation(home, seed: int = 0):
    return home / f"runs/tiny/evaluations/{DATASET}/infoseg-{seed}.json"


def refused(capsys, command=("evaluate", DATASET, "infoseg")) -> str:
    assert main(list(command)) == 1
    message = capsys.readouterr().err
    assert message.startswith("infoseg: ") and "Traceback" not in message
    return message


def test_a_run_with_overrides_has_a_folder_of_its_own(home, capsys):
    before = weights(home).read_bytes()
    assert main(["train", DATASET, "infoseg", "-S", TAU]) == 0
    folder = capsys.readouterr().out.strip()
    assert "/runs/tiny+" in folder and weights(home).read_bytes() == before
    assert main(["evaluate", DATASET, "infoseg", "-S", TAU]) == 0
    files = home.glob("runs/tiny+*/evaluations/*/infoseg-*.json")
    evaluations = [json.loads(path.read_text()) for path in files]
    assert [e["made_with"]["settings"]["objective"]["tau"] for e in evaluations] == [1.6, 1.6]
    assert len(list((home / "prepared").iterdir())) == 1, "tau changes no prepared data"
    assert main(["evaluate", DATASET, "infoseg"]) == 0
    made_with = json.loads(evaluation(home).read_text())["made_with"]
    assert made_with["settings"]["objective"]["tau"] == 0.8


def test_overrides_of_data_leave_the_profiles_prepared_data_alone(home):
    prepared = home / "prepared/tiny" / DATASET / "images.bin"
    before = prepared.read_bytes()
    assert main(["prepare", DATASET, "-S", f"datasets.{DATASET}.scale=0.5"]) == 0
    assert prepared.read_bytes() == before and len(list((home / "prepared").iterdir())) == 2


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("methods.infoseg.objective.tau", 1.6, "settings.objective.tau is 0.8 there and 1.6 now"),
        ("training.log_every", 7, "training.log_every"),
        ("datasets.coco_stuff3.title", "Other", "prepared.title"),
    ],
)
def test_settings_changed_between_training_and_evaluation(home, made, capsys, key, value, named):
    tree = changed(made[1], key, value)
    (home / "params.yaml").write_text(yaml.safe_dump(tree))
    message = refused(capsys)
    assert str(weights(home)) in message and named in message
    with pytest.raises(DataError, match=rf"evaluations/{DATASET}/.*-0\.json: was made with"):
        read_runs(project(home, tree))


@pytest.mark.parametrize(
    ("other", "named"),
    [(("infoseg", 1), "seed is 1 there and 0 now"), (("kmeans", 0), "method is")],
)
def test_weights_of_another_run_copied_in(home, made, capsys, other, named):
    shutil.copyfile(weights(home, *other), weights(home))
    assert named in refused(capsys)
    with pytest.raises(DataError, match="weights is .* there"):  # the evaluation is of the old ones
        read_runs(project(home, made[1]))


def test_other_data_under_the_same_name(home, made, capsys):
    assert main(["prepare", DATASET, "-S", "sources.coco.seed=5"]) == 0
    [other] = (home / "prepared").glob("tiny+*")
    shutil.rmtree(home / "prepared/tiny")
    other.rename(home / "prepared/tiny")
    capsys.readouterr()
    assert "data.images.bin is" in refused(capsys)
    with pytest.raises(DataError, match=r"data\.images\.bin is"):
        read_runs(project(home, made[1]))


def test_an_evaluation_of_another_run_copied_in(home, made):
    shutil.copyfile(evaluation(home, 1), evaluation(home))
    with pytest.raises(DataError, match="seed is 1 there and 0 now"):
        read_runs(project(home, made[1]))


def test_an_export_tells_no_accuracy_of_other_weights(home, made):
    def accuracies() -> set[str]:
        return set(describe_run(project(home, made[1]), RUN).pa)

    assert accuracies() == {"0", "1"}
    content = json.loads(evaluation(home).read_text())
    content["made_with"]["weights"] = "0" * 64
    evaluation(home).write_text(json.dumps(content))
    assert accuracies() == set()
    content["made_with"]["settings"]["objective"]["tau"] = 1.6
    evaluation(home).write_text(json.dumps(content))
    assert accuracies() == set()
