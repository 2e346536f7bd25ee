"""What CONTRIBUTING.md and docs/todo.md tell people to do: files, places in them, and commands."""

from __future__ import annotations

import re

import pytest
import yaml
from helpers import ROOT
from test_commands import commands

from infoseg.cli import _parser
from infoseg.params import compose, load_params

PAGES = ("CONTRIBUTING.md", "docs/todo.md")


def test_todo_trains_what_the_paper_profile_has():
    params = load_params(ROOT, "paper")
    named = {"$row": "jsd_hard", "$seed": "1"}
    for program, *words in commands("docs/todo.md"):
        if program != "infoseg" or words[0] == "bench":
            continue
        options = _parser().parse_args([named.get(word, word) for word in words])
        if hasattr(options, "method"):
            assert options.dataset in params.datasets
            assert params.method(options.method, options.dataset)


def test_todo_counts_are_those_of_the_paper_profile():
    text = (ROOT / "docs" / "todo.md").read_text(encoding="utf-8")
    params = load_params(ROOT, "paper")
    runs, ablations = params.runs(), params.ablations()
    table2 = [run for run in ablations if run.method in params.profile.table2.variants]

    def steps(chosen) -> int:
        settings = (params.method(run.method, run.dataset) for run in chosen)
        return sum(one.optimiser.steps for one in settings if hasattr(one, "optimiser"))

    own = [run for run in runs if run.method == "infoseg"]
    trained = sum(hasattr(params.method(run.method, run.dataset), "optimiser") for run in runs)
    assert f"| {len(own)} | {len(own)} | {steps(own):,} |" in text
    assert f"| {len(runs)} | {trained} | {steps(runs) / 1e6:.1f} million |" in text
    assert f"| {len(table2)} | {len(table2)} | {steps(table2):,} |" in text
    rest = len(ablations) - len(table2)
    assert f"| {rest} | {rest} | {(steps(ablations) - steps(table2)) / 1e6:.2f} million |" in text
    without = [run for run in runs if not run.dataset.startswith("potsdam")]
    assert f"{len(without)} of\nthe {len(runs)} trainings" in text


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_file_that_is_named_or_linked_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (folder / target).exists(), target
    made_up = {"infoseg/methods/rows.py", "infoseg/data/bright.py", "conf/method/rows.yaml"}
    for path in re.findall(r"`((?:infoseg|conf|notebooks|tests)/[\w./]+)`", text):
        assert path in made_up or (ROOT / path).exists(), path


def test_the_places_where_something_is_added_are_there():
    for file, places in {
        "infoseg/data/prepare.py": ["class Reader"],
        "tests/helpers.py": ["SETTINGS: dict"],
        "conf/config.yaml": ["defaults:\n", "  - method@methods.kmeans: kmeans\n"],
        "infoseg/provenance.py": ["RUN_CODE = ("],
    }.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        for place in places:
            assert place in text, f"{file}: {place}"


def test_the_ablation_shown_is_a_valid_line_of_the_variants():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [line] = re.findall(r"```yaml\n(  tau_10: .*?)```", text, re.DOTALL)
    variants = (ROOT / "conf" / "variants.yaml").read_text(encoding="utf-8")
    place = variants.index("  tau_04:")
    found = yaml.safe_load(variants[:place] + line + variants[place:])["variants"]
    assert found["tau_10"]["changes"] == {"objective": {"tau": 1.0}}
    assert "tau_10" not in compose(ROOT / "conf", "demo")["variants"]
