"""Questions of a study: the file `conf/study.yaml`, and the settings its candidates have."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from infoseg.errors import ParamsError
from infoseg.params import Name, Params, Positive, Strict, explain, merge, parse_params

#: The parameter file, in the repository.
FILE = Path("conf/study.yaml")


class Round(Strict):
    """steps: of every training, or null for a method that is not optimised. keep: so many
    candidates go on to the next round, or are concluded with. datasets: those of the question, or
    others."""

    steps: Positive | None
    seeds: list[int]
    keep: Positive
    datasets: list[str] | None = None


class Question(Strict):
    """title: as the notebook has it. method: what is changed, a key of `methods`. datasets: what
    candidates are judged on, equally. changes: to `base`, for all candidates. candidates: changes
    to that, by name; a key `training` changes how runs are trained. grid: instead of candidates,
    values of some settings, by their dotted keys; every combination becomes a candidate, named
    try01, try02 and so on. report: whether PA on the other half is written, too."""

    title: str
    method: str
    datasets: list[str]
    changes: dict[str, Any]
    candidates: dict[str, dict[str, Any]] = {}
    grid: dict[str, list[Any]] = {}
    rounds: list[Round]
    report: bool

    @model_validator(mode="after")
    def _grid_is_spread_out(self) -> Question:
        if bool(self.candidates) == bool(self.grid):
            raise ValueError("set either candidates or grid")
        if self.grid:
            for number, values in enumerate(itertools.product(*self.grid.values()), 1):
                change: dict[str, Any] = {}
                for key, value in zip(self.grid, values, strict=True):
                    change = merge(change, _nested(key.split("."), value))
                self.candidates[f"try{number:02}"] = change
        return self


def _nested(keys: list[str], value: Any) -> Any:
    return {keys[0]: _nested(keys[1:], value)} if keys else value


class Study(Strict):
    """base: changes to the profile's InfoSeg that all questions share. equal_tries: questions that
    must have as many candidates as each other, so that no method is favoured."""

    base: dict[str, Any]
    equal_tries: list[str] = []
    questions: dict[Name, Question]

    @model_validator(mode="after")
    def _tries_are_equal(self) -> Study:
        unknown = set(self.equal_tries) - set(self.questions)
        if unknown:
            raise ValueError(f"equal_tries: '{min(unknown)}' is not among questions")
        counts = {name: len(self.questions[name].candidates) for name in self.equal_tries}
        if len(set(counts.values())) > 1:
            raise ValueError(f"equal_tries: not the same number of tries for all: {counts}")
        return self

    @model_validator(mode="after")
    def _candidates_differ(self) -> Study:
        for name, question in self.questions.items():
            seen: dict[str, str] = {}
            for candidate in question.candidates:
                told = json.dumps(change_of(self, question, candidate), sort_keys=True)
                other = seen.setdefault(told, candidate)
                if other != candidate:
                    raise ValueError(f"questions.{name}: '{candidate}' and '{other}' are the same")
        return self


def load_study(path: Path) -> Study:
    """Read the parameter file. Raises ParamsError naming the key at fault."""
    try:
        return Study.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ParamsError(f"{path} cannot be read as a study: {error}") from None
    except ValidationError as error:
        raise ParamsError(explain(error, "", str(path))) from None


def with_candidate(
    params: Params, study: Study, name: str, candidate: str, steps: int | None
) -> tuple[Params, str]:
    """The settings with one candidate as a further method, and the name of that method.

    The name is a digest of what the candidate changes, so that questions that share a candidate
    (the settings that each of them starts from) share its runs.
    """
    question = study.questions[name]
    raw = params.model_dump()
    change = change_of(study, question, candidate)
    if steps:
        change = merge(change, {"optimiser": {"steps": steps}})
    told = json.dumps([question.method, change], sort_keys=True)
    method = f"study.{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    raw["training"] = merge(raw["training"], change.pop("training", {}))
    base = raw["methods"][question.method]
    # After the settings that data sets have of their own.
    own = {"per_dataset": dict.fromkeys(params.datasets, change)}
    kind = {"kind": change.get("kind", base["kind"])}
    raw["methods"][method] = merge(base, kind | own)
    return parse_params(raw, f"study, {name}, {candidate}"), method


def change_of(study: Study, question: Question, candidate: str) -> dict[str, Any]:
    """What a candidate changes in the profile's settings of its method, `base` included."""
    change = merge(question.changes, question.candidates[candidate])
    return merge(study.base, change) if question.method == "infoseg" else change
