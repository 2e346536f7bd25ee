"""Every command that the pages tell people to type is one: names, options, settings, stages.

Most are run by other tests besides (the pipeline's, the newcomers', the sweeps', the browser's);
this one reads them as their programs would, so that none outlives what it names.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from functools import cache

import pytest
from clones import ROOT
from dvc.cli import parser as dvc_parser

from benchmarks import __main__ as benchmarks
from infoseg.cli import _parser
from infoseg.params import load_params

PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "benchmarks").glob("*.md")),
        *sorted((ROOT / "results").glob("*/README.md")),
    )
]
#: Programs of others, and the shell's own words.
OTHERS = {
    "git", "cd", "mkdir", "export", "apt-get", "pip-audit", "pre-commit", ".", "for", "do", "done",
    "true",
}  # fmt: skip
#: Profiles and methods that pages make up to show how they are added.
MADE_UP = {"mine", "bright", "rows"}


def commands(page: str) -> list[list[str]]:
    """The commands of a page's `sh` blocks, as words, without comments and assignments, and every
    `infoseg …` of its sentences that is whole."""
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = [" ".join(one.split()) for one in re.findall(r"`(infoseg [^`|…>]+ [^`|…>]+)`", prose)]
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        block = re.sub(r'python -c ".*?"$', "true", block, flags=re.DOTALL | re.MULTILINE)
        lines += block.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|"):
                found.append(words)
                words = []
            elif words or not re.fullmatch(r"\w+=.*", word):
                words.append(word)
    return [words for words in found if words]


@cache
def stages() -> set[str]:
    """Of the demo, which has every kind of stage."""
    lock = (ROOT / "dvc.lock").read_text(encoding="utf-8")
    return set(re.findall(r"^  (\S+):$", lock, re.MULTILINE))


def check(words: list[str]) -> None:
    program, *rest = words[: words.index(">")] if ">" in words else words
    if program == "infoseg":
        if rest[:1] == ["bench"]:
            benchmarks.parser().parse_args(rest[1:])
            return
        rest = [rest[0], *("1" if word.startswith("$") else word for word in rest[1:])]
        options = _parser().parse_args(rest)
        profile = getattr(options, "profile", None)
        if profile and profile not in MADE_UP:
            load_params(ROOT, profile, getattr(options, "overrides", []))
    elif program == "make":
        targets = [word for word in rest if "=" not in word]
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for target in targets:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    elif program == "dvc":
        options = dvc_parser.get_main_parser().parse_args(rest)
        for target in getattr(options, "targets", None) or []:
            assert any(
                stage in (target, f"{target}@{stage.partition('@')[2]}") for stage in stages()
            )
    elif program == "python":
        assert rest[0] == "-m" or (ROOT / rest[0]).is_file(), words
        assert rest[0] != "-m" or importlib.util.find_spec(rest[1]), words
    elif program == "pytest":
        assert all((ROOT / word).exists() for word in rest if not word.startswith("-")), words
    elif "/" in program and not program.startswith("/"):
        assert (ROOT / program).is_file(), program
    else:
        assert program in OTHERS, words


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one(page):
    found = commands(page)
    assert len(found) >= {"CONTRIBUTING.md": 5, "docs/todo.md": 5}.get(page, 0)
    for words in found:
        check(words)


def test_commands_are_found():
    found = commands("README.md")
    assert ["make", "repro"] in found and ["make", "test"] in found
    assert ["infoseg", "train", "--images", "~/holiday", "--classes", "4"] in found
    assert len(found) >= 10


@pytest.mark.parametrize(
    "wrong",
    [
        "infoseg trian coco_stuff3 infoseg",
        "infoseg train coco_stuff3 infoseg --profill paper",
        "infoseg train coco_stuff3 infoseg --profile peper",
        "make repo",
        "dvc rerpo",
        "dvc repro train@coco_stuff3-infosegg-0",
        "python -m infoseg.nothing",
        "pytest tests/test_nothing.py",
        "cluster/nothing.sh",
        "rm -rf",
    ],
)
def test_a_command_that_is_none_is_found(wrong):
    with pytest.raises((SystemExit, Exception)):
        check(shlex.split(wrong))
