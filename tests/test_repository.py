"""What has to stay in step: settings, environments, the pipeline's dependencies, notebooks."""

import ast
import json
import re
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import distribution

import nbformat
import pytest
import yaml
from helpers import ROOT
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from infoseg.pipeline import tidy, write_code
from infoseg.settings import compose, load_params

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


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
    composed = compose("demo")
    assert yaml.safe_load((ROOT / "params.yaml").read_text()) == composed, (
        "compose it again: infoseg params --profile demo > params.yaml"
    )


def test_the_lock_file_pins_every_requirement_and_no_local_build():
    versions = locked()
    assert requirement_names() <= set(versions)
    assert not [name for name, version in versions.items() if "+" in version]


@pytest.mark.parametrize(("name", "version"), locked().items())
def test_a_pin_is_installed_and_every_supported_python_may_have_it(name, version):
    installed = distribution(name)
    assert Version(installed.version).public == version  # a local build, 2.13.0+cpu, is 2.13.0
    wanted = SpecifierSet(installed.metadata["Requires-Python"] or "")
    # The oldest (Debian 12 has 3.11.2) and the newest; the first of each, as pip compares them.
    assert wanted.contains("3.11.0") and wanted.contains("3.13.0")


def test_environment_yml_is_in_step_with_the_lock_file():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip[-1] == "-e ."
    pinned = {canonical(n): v for n, v in (text.split("==") for text in pip[:-1])}
    versions = locked()
    assert pinned == {name: versions[name] for name in requirement_names()}


def test_every_stage_depends_on_the_code_that_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    write_code(tmp_path)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")}
    params = load_params(ROOT)
    named = {
        "method": [*params.profile.methods, *params.profile.ablations.variants],
        "key": params.profile.inputs,  # of what a stage is made for: a list's items, or its keys
        "item": [*params.profile.sources, *params.profile.persons_rule],
    }
    for name in STAGES.keys() - {"strip", "code"}:
        stage = STAGES[name].get("do", STAGES[name])
        [place] = [dep for dep in stage["deps"] if dep.startswith("build/code/")]
        place = place.removeprefix("build/code/")
        kinds = re.findall(r"\$\{(?:item\.)?(\w+)\}", place) or ["item"]
        for value in named[kinds[0]]:
            if name == "persons_rule" and value not in params.profile.persons_rule:
                continue
            assert re.sub(r"\$\{.*\}", value, place) in written, name
    of_infoseg, of_kmeans = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("infoseg", "kmeans")
    )
    assert {"infoseg.losses", "infoseg.methods.infoseg"} <= of_infoseg["code"].keys()
    assert not {"infoseg.losses", "infoseg.methods.infoseg"} & of_kmeans["code"].keys()


def test_the_notebooks_that_the_pipeline_runs_are_there_with_their_parameters():
    import papermill

    given = {}
    for stage in STAGES.values():
        command = stage.get("do", stage)["cmd"]
        command = command if isinstance(command, str) else command[0]
        if words := re.search(r"infoseg.pipeline run build/(\w+).ipynb \S+ ?(.*)", command):
            given[words[1]] = {pair.split("=")[0] for pair in words[2].split()}
    assert [f"build/{name}.ipynb" for name in sorted(given)] == sorted(STAGES["strip"]["outs"])
    for name, parameters in given.items():
        assert f"notebooks/{name}.ipynb" in STAGES["strip"]["deps"]
        assert f" notebooks/{name}.ipynb " in STAGES["strip"]["cmd"]
        known = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{name}.ipynb"))
        assert set(known) == parameters | {"profile"}, name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_carry_no_outputs_but_compared_ones_and_are_short(path):
    assert tidy(path, write=False), f"python -m infoseg.pipeline clean {path.name}"
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert max(len(cell.source.splitlines()) for cell in cells) <= 25


def imports(path):
    """Names of the modules that a file imports when it runs, at its top or in functions."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not isinstance(node, ast.If)]  # for types alone
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
            yield node.module


def test_imports_go_down_and_the_methods_know_no_files_pipeline_or_notebooks():
    files = [path for path in (ROOT / "infoseg").rglob("*.py") if path.name != "__init__.py"]
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    graph = {name: set(imports(path)) - {name} for name, path in files.items()}
    TopologicalSorter({name: graph[name] & files.keys() for name in files}).prepare()  # no circle
    science = [n for n in files if re.match(r"infoseg\.(methods\.|model$|losses$|views$)", n)]
    assert len(science) > 15
    known = {*science, "infoseg.settings", "infoseg.files"}  # of files.py the errors
    for name in science:
        assert graph[name] & files.keys() <= known, name
        outside = {module.partition(".")[0] for module in graph[name]}
        assert not outside & {"dvc", "papermill", "nbformat", "pathlib", "os", "pandas"}, name
