"""What has to stay in step: settings, environments, the pipeline's dependencies, notebooks."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from infoseg.methods import METHODS
from infoseg.notebooks import tidy
from infoseg.params import compose, load_params
from infoseg.provenance import RUN_CODE, write_run_code

ROOT = Path(__file__).parent.parent
PROFILES = sorted(path.stem for path in (ROOT / "conf" / "profile").glob("*.yaml"))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_names() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    return {canonical(re.match(r"[\w.-]+", text)[0]) for text in texts}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().split()
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def test_params_yaml_is_the_composed_demo_profile():
    composed = compose(ROOT / "conf", "demo")
    assert yaml.safe_load((ROOT / "params.yaml").read_text()) == composed, (
        "compose it again: infoseg params --profile demo > params.yaml"
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid(profile, monkeypatch):
    monkeypatch.delenv("INFOSEG_RAW", raising=False)
    params = load_params(ROOT, profile)
    assert params.profile.name == profile
    assert params.runs()


def test_every_kind_of_method_is_configured():
    tree = compose(ROOT / "conf", "demo")
    kinds = {settings["kind"] for settings in tree["methods"].values()}
    # IIC-MI is a variant of InfoSeg and no row of Table 1.
    changed = {variant["changes"].get("kind") for variant in tree["variants"].values()}
    assert kinds | changed - {None} == set(METHODS)


def test_the_lock_file_pins_every_requirement_and_no_local_build():
    versions = locked()
    assert requirement_names() <= set(versions)
    assert not [name for name, version in versions.items() if "+" in version]


def test_environment_yml_is_in_step_with_the_lock_file():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip[-1] == "-e ."
    pinned = {canonical(n): v for n, v in (text.split("==") for text in pip[:-1])}
    versions = locked()
    assert pinned == {name: versions[name] for name in requirement_names()}


def test_every_run_depends_on_the_code_that_provenance_hashes(tmp_path):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    code = {f"infoseg/{entry}" for entry in RUN_CODE}
    assert code == {dependency.rstrip("/") for dependency in stages["code"]["deps"]}
    [listed] = stages["code"]["outs"]
    for name in ("train", "evaluate", "repeat", "evaluate_repeat", "ablate", "evaluate_ablate"):
        assert listed in stages[name]["deps"], name
    write_run_code(tmp_path / "code.csv")
    lines = (tmp_path / "code.csv").read_text().splitlines()
    digest = hashlib.sha256((ROOT / "infoseg/losses.py").read_bytes()).hexdigest()
    assert f"losses.py,{digest}" in lines
    assert any(line.startswith("methods/infoseg.py,") for line in lines)


def test_every_executed_notebook_has_the_parameters_its_stage_gives_it():
    import papermill

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    given = {}
    for stage in stages.values():
        command = stage.get("do", stage)["cmd"]
        found = re.match(r"python -m infoseg.notebooks run build/(\w+).ipynb \S+ ?(.*)", command)
        if found:
            given[found[1]] = {pair.split("=")[0] for pair in found[2].split()}
    assert given
    for name, parameters in given.items():
        known = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{name}.ipynb"))
        assert set(known) == parameters | {"profile"}, name


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_carry_no_outputs_but_compared_ones(path):
    assert tidy(path, write=False), f"python -m infoseg.notebooks clean {path.name}"
