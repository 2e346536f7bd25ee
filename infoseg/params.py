"""Every setting, typed: `params.yaml` (composed from `conf/`) in, validated models out.

No model here has a default: a number stands in `conf/` and nowhere else. Unknown keys, missing
keys, wrong types and settings that contradict each other raise `ParamsError` naming the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from infoseg.errors import ParamsError
from infoseg.params_data import (
    CocoPersonsParams,
    CocoScenesSource,
    CocoStuffParams,
    Dataset,
    FolderParams,
    LocalSource,
    Name,
    OfficialSource,
    Positive,
    PositiveFloat,
    PotsdamParams,
    PotsdamScenesSource,
    Share,
    Source,
    Strict,
)
from infoseg.params_runs import (
    ExecutionParams,
    MethodSettings,
    OptimiserSettings,
    ProfileParams,
    Run,
    TrainingParams,
    Variant,
)

__all__ = [
    "CocoPersonsParams",
    "CocoScenesSource",
    "CocoStuffParams",
    "Dataset",
    "ExecutionParams",
    "FolderParams",
    "LocalSource",
    "MethodSettings",
    "OfficialSource",
    "OptimiserSettings",
    "Params",
    "Positive",
    "PositiveFloat",
    "PotsdamParams",
    "PotsdamScenesSource",
    "Run",
    "Share",
    "Source",
    "Strict",
    "TrainingParams",
    "compose",
    "explain",
    "load_params",
    "parse_params",
]


class Params(Strict):
    profile: ProfileParams
    sources: dict[Name, Source]
    datasets: dict[Name, Dataset]
    training: TrainingParams
    execution: ExecutionParams
    methods: dict[Name, Any]
    variants: dict[Name, Variant]

    @model_validator(mode="after")
    def _references_exist(self) -> Params:
        profile = self.profile
        for place, names, known in (
            ("profile.sources", profile.sources, self.sources),
            ("profile.datasets", profile.datasets, self.datasets),
            ("profile.inputs", list(profile.inputs), self.datasets),
            ("profile.persons_rule", profile.persons_rule, profile.inputs),
            ("profile.methods", profile.methods, self.methods),
            ("profile.figure4.methods", profile.figure4.methods, self.methods),
            ("profile.figure4.panels", list(profile.figure4.panels), self.datasets),
            ("profile.figures.dataset", [profile.figures.dataset], self.datasets),
            ("profile.figures.confusion", [profile.figures.confusion], self.datasets),
            ("profile.table2.dataset", [profile.table2.dataset], self.datasets),
            ("profile.table2.variants", profile.table2.variants, self.variants),
            ("profile.table2b.dataset", [profile.table2b.dataset], self.datasets),
            ("profile.table2b.variants", profile.table2b.variants, self.variants),
            ("profile.table2b.table1_rows", list(profile.table2b.table1_rows), self.methods),
            ("profile.repeats.datasets", profile.repeats.datasets, self.datasets),
            ("profile.repeats.methods", profile.repeats.methods, self.methods),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"{place}: '{name}' is not among {sorted(known)}")
        both = set(self.variants) & set(self.methods)
        if both:
            raise ValueError(f"variants: '{min(both)}' is the name of a method, too")
        for name, dataset in self.datasets.items():
            if dataset.source not in self.sources:
                raise ValueError(f"datasets.{name}.source: '{dataset.source}' is not in sources")
        if missing := set(profile.datasets) - profile.inputs.keys():
            raise ValueError(f"profile.inputs: '{min(missing)}' of profile.datasets is missing")
        for name, source in profile.inputs.items():
            if source != self.datasets[name].source:
                raise ValueError(
                    f"profile.inputs.{name}: '{source}' is not datasets.{name}.source, "
                    f"'{self.datasets[name].source}'"
                )
            if source not in profile.sources:
                raise ValueError(f"profile.inputs.{name}: '{source}' is not in profile.sources")
        return self

    def runs(self) -> list[Run]:
        """All runs of the profile, data set by data set."""
        profile, repeats = self.profile, self.profile.repeats
        runs = [
            Run(dataset=d, method=m, seed=s)
            for d in profile.datasets
            for m in profile.methods
            for s in [
                *profile.seeds,
                *(repeats.seeds if d in repeats.datasets and m in repeats.methods else ()),
            ]
        ]
        return list({run.key: run for run in runs}.values())

    def ablations(self) -> list[Run]:
        """The runs of Tables 2 and 2b that are not runs of Table 1."""
        profile = self.profile
        runs = [
            Run(dataset=table.dataset, method=variant, seed=seed)
            for table in (profile.table2, profile.table2b)
            for variant in table.variants
            for seed in table.seeds
        ]
        return list({run.key: run for run in runs}.values())

    @property
    def papers_data(self) -> bool:
        """Whether the numbers are of the paper's own data sets."""
        sets = [self.datasets[name] for name in self.profile.datasets]
        return not any(isinstance(s, FolderParams) for s in sets) and all(
            isinstance(self.sources[s.source], LocalSource | OfficialSource) for s in sets
        )

    def method(self, name: str, dataset: str) -> MethodSettings:
        """Settings of a method or a variant for one data set. Raises ParamsError naming an unknown
        key."""
        if name not in self.methods and name not in self.variants:
            raise ParamsError(f"methods: '{name}' is not among {sorted(self.methods)}")
        place = f"methods.{name}" if name in self.methods else f"variants.{name}"
        try:
            if name in self.methods:
                return _method_settings(self.methods[name], dataset)
            return self._variant_settings(name, dataset)
        except ValidationError as error:
            raise ParamsError(explain(error, place, "for " + dataset)) from None
        except ValueError as error:
            raise ParamsError(f"{place}: {error}") from None

    def _variant_settings(self, name: str, dataset: str) -> MethodSettings:
        default = _method_settings(self.methods["infoseg"], dataset).model_dump()
        changed = merge(default, self.variants[name].changes)
        own = {"title": f"InfoSeg, {name}", "paper_row": None}
        settings = _method_settings(changed | own, dataset)
        if settings.model_dump() | own == default | own:
            raise ValueError(f"changes nothing of methods.infoseg on {dataset}: leave it out")
        return settings


def _method_settings(raw: dict[str, Any], dataset: str) -> MethodSettings:
    from infoseg.methods import METHODS  # deferred: methods import this module

    kind = raw.get("kind") if isinstance(raw, dict) else raw
    if not isinstance(raw, dict) or not isinstance(kind, str) or kind not in METHODS:
        raise ValueError(f"kind '{kind}' is not among {sorted(METHODS)}")
    changes = raw.get("per_dataset")
    changes = changes.get(dataset) if isinstance(changes, dict) else None
    # What is not a mapping is left for validation to complain about.
    merged = merge(raw, changes) if isinstance(changes, dict) else raw
    settings = METHODS[kind].Settings.model_validate(merged)
    # A run has nothing to do with what other data sets change, and stays current when they do.
    return settings.model_copy(update={"per_dataset": {}})


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


# ---- reading -------------------------------------------------------------------------------------


def parse_params(raw: Any, origin: str) -> Params:
    """Validate a parameter tree. origin: the file or profile, named in every error."""
    if not isinstance(raw, dict):
        raise ParamsError(f"{origin}: expected a mapping of sections, found {type(raw).__name__}")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(explain(error, "", origin)) from None
    for name, settings in params.methods.items():
        changes = settings.get("per_dataset") if isinstance(settings, dict) else None
        unknown = set(changes if isinstance(changes, dict) else ()) - set(params.datasets)
        if unknown:
            raise ParamsError(f"methods.{name}.per_dataset: unknown data set {sorted(unknown)[0]}")
        for dataset in params.datasets:
            params.method(name, dataset)
    for run in params.ablations():
        params.method(run.method, run.dataset)
    return params


def load_params(
    root: Path, profile: str | None = None, overrides: Sequence[str] = (), file: str = "params.yaml"
) -> Params:
    """The settings of the project at `root`.

    profile: compose `conf/` for this profile, as `dvc exp run -S profile=…` does; None reads
    `file`, the composed parameters. overrides: `key.path=value`, Hydra's syntax.
    Raises ParamsError naming the key at fault.
    """
    if profile is not None:
        return parse_params(compose(root / "conf", profile, overrides), f"conf/, profile={profile}")
    path = root / file
    if not path.exists():
        raise ParamsError(f"{path} is missing: run this in the repository, or choose a --profile")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    # ValueError: no UTF-8, a date or a number that is none.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    return parse_params(_overridden(raw, overrides, path) if overrides else raw, str(path))


def _overridden(raw: Any, overrides: Sequence[str], path: Path) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(raw, dict):
        raise ParamsError(f"{path} holds no settings")
    try:
        merged = OmegaConf.merge(raw, OmegaConf.from_dotlist(list(overrides)))
        return OmegaConf.to_container(merged, resolve=True)
    except (
        OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, KeyError,
        RecursionError, OverflowError,
    ) as error:  # fmt: skip
        raise ParamsError(f"{' '.join(overrides)}: cannot be set in {path}: {error}") from None


def compose(conf: Path, profile: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose `conf/config.yaml` with a profile by Hydra: what DVC writes into params.yaml."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = sorted(path.stem for path in (conf / "profile").glob("*.yaml"))
    if profile not in known:  # a path to another folder's file is none, either
        raise ParamsError(f"profile: '{profile}' is not among {known} in {conf / 'profile'}")
    try:
        with initialize_config_dir(str(conf.resolve()), version_base=None):
            config = hydra_compose("config", overrides=[f"profile={profile}", *overrides])
        tree = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ParamsError(f"conf/, profile={profile}: {error}") from None
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def explain(error: ValidationError, prefix: str, origin: str) -> str:
    """Pydantic's findings as one line each, `key: what is wrong`."""
    lines = []
    for finding in error.errors():
        # Discriminated unions put their tag into the path; it is not a key of the file.
        parts = [str(part) for part in finding["loc"]]
        kinds = {"coco_scenes", "potsdam_scenes", "local", "official"}
        parts = [part for i, part in enumerate(parts) if not (i == 2 and part in kinds)]
        parts = [part for part in parts if part != "[key]"]  # pydantic's word for a bad one
        key = ".".join(([prefix] if prefix else []) + parts)
        message = finding["msg"].removeprefix("Value error, ")
        if finding["type"] == "extra_forbidden":
            message = "unknown key (a typo, or a key of another version)"
        elif finding["type"] == "missing":
            message = "missing"
        lines.append(f"  {key}: {message}" if key else f"  {message}")
    return f"bad parameters ({origin}):\n" + "\n".join(lines)
