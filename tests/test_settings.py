"""Settings: what is wrong is named by its key, what differs by data set is merged."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml
from helpers import ROOT, build, changed, data_info

from infoseg.files import ParamsError
from infoseg.methods.registry import METHODS
from infoseg.settings import CONF, METHOD_SETTINGS, compose, load_params, parse_params

RAW: dict[str, Any] = {
    "profile": {
        "name": "test",
        "description": "a test",
        "sources": {"coco": "scenes.py", "mine": "~/pictures"},
        "datasets": ["stuff3", "pictures"],
        "inputs": {"stuff3": "coco", "pictures": "mine"},
        "methods": ["kmeans", "infoseg"],
        "figure4": {"methods": ["infoseg"], "panels": {"stuff3": 2}},
        "figures": {"dataset": "stuff3", "confusion": "stuff3"},
        "ablations": {
            "dataset": "stuff3",
            "variants": ["hard", "smooth"],
            "table1_rows": {"kmeans": "What else"},
        },
    },
    "sources": {
        "coco": {"kind": "coco_scenes", "stuff_images": 4, "person_images": 4},
        "mine": {"kind": "local", "path": "~/pictures"},
    },
    "datasets": {
        "stuff3": {"kind": "coco_stuff", "title": "Stuff", "source": "coco", "variant": "stuff3"},
        "pictures": {"kind": "folder", "title": "Pictures", "source": "mine", "clusters": 4},
    },
    "methods": {
        "kmeans": {"seeds": [0]},
        "infoseg": {
            "objective": {"tau": 0.5},
            "seeds": [0],
            "per_dataset": {"stuff3": {"seeds": [0, 1, 2]}},
        },
    },
    "variants": {
        "hard": {"question": "S", "changes": {"seeds": [0], "objective": {"assignment": "hard"}}},
        "smooth": {"question": "Tau", "changes": {"objective": {"tau": 0.1}}},
    },
}


def parsed(path: str = "profile.name", value: Any = "test"):
    return parse_params(changed(RAW, path, value), "params.yaml")


def complaint(path: str, value: Any) -> str:
    with pytest.raises(ParamsError) as caught:
        parsed(path, value)
    return str(caught.value)


# ---- what is wrong is named ----------------------------------------------------------------------

UNKNOWN = """
colour profile.colour profile.ablations.colour sources.coco.colour datasets.stuff3.colour
datasets.pictures.scale methods.kmeans.colour methods.infoseg.objective.colour variants.hard.colour
"""
NEEDED = """
profile profile.figures profile.ablations.dataset sources.coco.stuff_images
datasets.stuff3.title datasets.pictures.clusters variants.hard.question
"""
CHANGES = "variants.hard.changes"
LIKE = "methods.mine: like: "
LISTS = "datasets persons_rule methods figure4.methods ablations.variants"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        *((path, 1, f"  {path}: unknown key") for path in UNKNOWN.split()),
        *((path, ..., f"  {path}: missing") for path in NEEDED.split()),
        ("training", {"colour": 1}, "  training.colour: unknown key"),
        (CHANGES, {"flop": 1}, "  variants.hard.flop: unknown key"),
        # Of the wrong type or out of range.
        ("profile.name", "No Spaces", "  profile.name"),
        ("profile.figure4.panels", {}, "  profile.figure4.panels"),
        ("datasets.stuff3.clusters", "three", "  datasets.stuff3.clusters"),
        ("datasets.stuff3.crop", 31, "  datasets.stuff3.crop"),
        ("datasets.stuff3.unlabelled", "grass", "  datasets.stuff3.unlabelled"),
        ("training", {"device": "tpu"}, "  training.device"),
        ("methods.kmeans.passes", "many", "  methods.kmeans.passes"),
        ("methods.kmeans.seeds", [], "  methods.kmeans.seeds"),
        ("methods.infoseg.optimiser", {"batch": 1}, "  methods.infoseg.optimiser.batch"),
        ("methods.infoseg.per_dataset", ["stuff3"], "  methods.infoseg.per_dataset: "),
        ("methods.infoseg.per_dataset", {"stuff3": 3}, "  methods.infoseg.per_dataset.stuff3: "),
        ("methods.doersch", {"patch": 10}, "  methods.doersch.patch: must be odd"),
        # What makes no sense.
        ("methods.kmeans", 3, "  methods.kmeans: Input should be a valid dictionary"),
        ("methods.kmeans.kind", "flickr", "methods.kmeans: kind 'flickr' is not among"),
        ("methods.mine", {}, "methods.mine: kind 'mine' is not among"),
        (
            "methods.infoseg.per_dataset",
            {"stuff3": {"objective": {"taus": 1}}},
            "(for stuff3):\n  methods.infoseg.objective.taus: unknown key",
        ),
        ("methods.kmeans.seeds", [1, 2, 1], "methods.kmeans: seeds: the same seed twice"),
        ("datasets.stuff3.kind", "flickr", "datasets.stuff3: kind 'flickr' is not among"),
        ("datasets.stuff3.kind", ..., "datasets.stuff3: kind"),
        ("sources.coco.kind", "flickr", "sources.coco: "),
        ("sources.coco.kind", ..., "sources.coco: "),
        ("profile.sources.mine", "~/other", "'~/other' is not sources.mine.path"),
        ("profile.sources.mine", ..., "inputs.pictures: 'mine' is not among ['coco']"),
        ("profile.inputs", {"stuff3": "coco"}, "inputs: 'pictures' of profile.datasets is missing"),
        ("profile.inputs.pictures", "coco", "'coco' is not datasets.pictures.source"),
        (
            "methods.infoseg.objective",
            {"marginal": "log_sum_exp", "gradient_through_v": False},
            "methods.infoseg: objective.gradient_through_v: log_sum_exp",
        ),
        ("datasets.stuff3.clusters", 5, "clusters is 5 but the data have 3 classes"),
        (CHANGES, {"objective": {"assignment": "soft"}}, "changes nothing"),
        (CHANGES, {"seeds": [7]}, "changes nothing"),
        (CHANGES, {"seeds": [7, 7], "upsampling": "scores"}, "same seed twice"),
        (CHANGES, {"kind": ["iic"]}, "kind '['iic']' is not among"),
        ("variants.hard.of", "flickr", "variants.hard: of: 'flickr' is not among"),
        ("variants.hard", {"question": "x", "of": "kmeans", "changes": {}}, "of methods.kmeans on"),
        ("variants.kmeans", {"question": "x", "changes": {}}, "the name of a method"),
        ("methods.mine", {"like": "infoseg", "kind": "flickr"}, "mine: kind 'flickr' is not among"),
        ("methods.kmeans.per_dataset", {"stuff3": {"kind": "no"}}, "kmeans: kind 'no' is not"),
        ("methods.mine", {"like": "flickr"}, f"{LIKE}'flickr' is not another method"),
        ("methods.mine", {"like": "mine"}, f"{LIKE}'mine' is not another method"),
        ("methods.infoseg.like", "smooth", "like: 'smooth' is not another method"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(path, value, words):
    assert words in complaint(path, value)


def test_methods_that_are_like_each_other_are_named():
    raw = changed(RAW, "methods.first", {"like": "second"})
    raw["methods"]["second"] = {"like": "first"}
    with pytest.raises(ParamsError, match=r"methods\.first: like: 'first' is not another"):
        parse_params(raw, "params.yaml")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((f"profile.{key}", ["flickr"]) for key in LISTS.split()),
        *((f"profile.{key}", "flickr") for key in ("figures.dataset", "figures.confusion")),
        ("profile.sources", {"flickr": "flickr.py"}),
        ("profile.inputs", {"flickr": "coco"}),
        ("profile.figure4.panels", {"flickr": 1}),
        ("profile.ablations.dataset", "flickr"),
        ("profile.ablations.table1_rows", {"flickr": "What"}),
        ("profile.ablations.content", {"flickr": "hard"}),
        ("profile.ablations.content", {"infoseg": "flickr"}),
        ("datasets.stuff3.source", "flickr"),
        ("methods.infoseg.per_dataset", {"flickr": {}}),
    ],
)
def test_a_reference_to_nothing_is_named(path, value):
    assert f"{path}: 'flickr' is not among" in complaint(path, value)


def test_all_errors_are_reported_at_once_with_the_file():
    raw = changed(RAW, "datasets.stuff3.crop", 8) | {"training": {"threads": -1}}
    with pytest.raises(ParamsError) as caught:
        parse_params(raw, "somewhere.yaml")
    for words in ("somewhere.yaml", "datasets.stuff3.crop", "training.threads"):
        assert words in str(caught.value)
    for nothing in (None, [], "text"):
        with pytest.raises(ParamsError, match=r"params\.yaml: expected a mapping"):
            parse_params(nothing, "params.yaml")


# ---- values --------------------------------------------------------------------------------------


def test_every_method_has_defaults_that_hold():
    assert {kind: method.Settings for kind, method in METHODS.items()} == METHOD_SETTINGS
    for kind, settings in METHOD_SETTINGS.items():
        assert settings().kind == kind
        assert settings.model_validate(settings().model_dump()) == settings()


def test_settings_come_from_defaults_the_method_and_the_data_set_in_turn():
    changes = {"stuff3": {"objective": {"tau": 0.2}, "optimiser": {"batch": 6}, "title": "T"}}
    params = parsed("methods.infoseg.per_dataset", changes)
    there, elsewhere = params.method("infoseg", "stuff3"), params.method("infoseg", "pictures")
    default = METHOD_SETTINGS["infoseg"]()
    assert [s.objective.tau for s in (there, elsewhere, default)] == [0.2, 0.5, 0.8]
    assert [s.optimiser.batch for s in (there, elsewhere, default)] == [6, 64, 64]
    assert [s.title for s in (there, elsewhere)] == ["T", "InfoSeg"]
    assert there.objective.model_copy(update={"tau": 0.8}) == default.objective
    assert there.network == elsewhere.network == default.network
    # A method that stands nowhere has its defaults.
    assert params.method("doersch", "stuff3") == METHOD_SETTINGS["doersch"]()


def test_a_method_like_another_has_its_settings_and_changes_of_its_own():
    mine = {"like": "infoseg", "title": "Mine", "objective": {"marginal": "paired"}}
    params = parsed("methods.mine", mine)
    base = params.method("infoseg", "stuff3")
    objective = base.objective.model_copy(update={"marginal": "paired"})
    update = {"title": "Mine", "objective": objective}
    assert params.method("mine", "stuff3") == base.model_copy(update=update)
    assert base.objective.tau == 0.5 and params.method("mine", "pictures").seeds == [0]


def test_a_variant_is_its_method_with_its_changes_on_every_data_set():
    params = parsed(
        "methods.infoseg.per_dataset",
        {"pictures": {"optimiser": {"steps": 77}}, "stuff3": {"objective": {"tau": 5.0}}},
    )
    for dataset, steps in (("stuff3", 10_000), ("pictures", 77)):
        default, hard = (params.method(name, dataset) for name in ("infoseg", "hard"))
        assert (hard.optimiser.steps, hard.objective.assignment) == (steps, "hard")
        assert hard.paper_row is None and hard.title == "InfoSeg, hard"
        same = {"title": "", "paper_row": None, "objective": None}
        assert hard.numbers() | same == default.numbers() | same
    assert params.method("smooth", "stuff3").objective.tau == 0.1  # over the data set's
    hard = parsed("variants.hard", {"question": "Q", "of": "kmeans", "changes": {"passes": 7}})
    hard = hard.method("hard", "stuff3")
    assert (hard.kind, hard.passes, hard.title) == ("kmeans", 7, "K-Means, hard")


def test_runs_are_every_data_set_and_method_and_each_of_its_seeds():
    params = parsed()
    assert [run.key for run in params.runs()] == [
        *("stuff3-kmeans-0", "stuff3-infoseg-0", "stuff3-infoseg-1", "stuff3-infoseg-2"),
        *("pictures-kmeans-0", "pictures-infoseg-0"),
    ]
    ablations = ["stuff3-hard-0", *(f"stuff3-smooth-{seed}" for seed in (0, 1, 2))]
    assert [run.key for run in params.ablations()] == ablations


def test_clusters_are_the_classes_unless_over_clustering_is_asked_for():
    assert parsed().datasets["stuff3"].clusters == 3
    raw = changed(RAW, "datasets.stuff3.clusters", 5)
    raw["datasets"]["stuff3"]["over_clustering"] = True
    assert parse_params(raw, "params.yaml").datasets["stuff3"].clusters == 5
    # A folder's classes are not known before it is read.
    assert parsed("datasets.pictures.clusters", 9).datasets["pictures"].clusters == 9


@pytest.mark.parametrize("kind", ["random_cnn", "iic", "inmars", "doersch"])
def test_sobel_gradients_are_by_default_for_colours_and_not_for_four_bands(kind):
    assert METHOD_SETTINGS[kind]().sobel is None
    trunks = [build(kind, data_info(3, channels), sobel=None).trunk for channels in (3, 4)]
    assert [trunk.sobel for trunk in trunks] == [True, False]


def test_settings_cannot_be_changed_after_loading_nor_methods_invented():
    with pytest.raises(ValueError, match="frozen"):
        parsed().training.threads = 4
    with pytest.raises(ParamsError, match="'flickr' is not among"):
        parsed().method("flickr", "stuff3")


# ---- files and overrides -------------------------------------------------------------------------


def test_a_missing_or_unreadable_file_is_an_error_naming_it(tmp_path):
    with pytest.raises(ParamsError, match=r"params\.yaml is missing"):
        load_params(tmp_path)
    for content in (b"profile: [unclosed", b"\xff\xfe", b"a: 2026-99-99"):
        (tmp_path / "params.yaml").write_bytes(content)
        with pytest.raises(ParamsError, match=r"params\.yaml is not valid YAML"):
            load_params(tmp_path)
    with pytest.raises(ParamsError, match="profile: 'nowhere' is not among"):
        load_params(tmp_path, profile="nowhere")


def test_overrides_replace_single_keys_of_the_file(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(RAW))
    override = "methods.infoseg.network.width=0.3"  # stands nowhere in the file
    settings = load_params(tmp_path, overrides=[override]).method("infoseg", "stuff3")
    assert (settings.network.width, settings.objective.tau) == (0.3, 0.5)
    with pytest.raises(ParamsError, match=r"methods\.infoseg\.objective\.taus: unknown key"):
        load_params(tmp_path, overrides=["methods.infoseg.objective.taus=0.3"])


@pytest.mark.parametrize("profile", sorted(path.stem for path in CONF.glob("profile/*.yaml")))
def test_every_profile_is_valid_and_takes_overrides_of_keys_it_does_not_name(profile):
    overrides = ["methods.iic.turn=3", "methods.kmeans.seeds=[7,8]", "training.recompute=true"]
    tree = compose(profile, overrides)
    assert "recompute" not in compose(profile)["training"] or profile == "paper"
    params = parse_params(tree, profile)
    assert params.profile.name == profile and 1 <= len(params.profile.methods) <= 12
    dataset = params.profile.datasets[0]
    assert params.method("iic", dataset).turn == 3
    assert params.training.recompute and params.methods["kmeans"].seeds == [7, 8]
    assert len(params.runs()) >= len(params.profile.datasets) * len(params.profile.methods)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("methods.iic.turm=3", "methods.iic.turm: unknown key"),
        ("methods.iic.jitter.colour=3", "methods.iic.jitter.colour: unknown key"),
        ("trainings.threads=3", "trainings: unknown key"),
        ("training.threads=", "training.threads"),
        ("methods.iic", "methods.iic"),
    ],
)
def test_a_typo_in_an_override_of_a_profile_is_named(override, named):
    with pytest.raises(ParamsError, match=named):
        load_params(ROOT, "demo", [override])


def test_settings_do_not_load_torch():
    code = (
        "import sys; from pathlib import Path; from infoseg.settings import load_params\n"
        "load_params(Path(), 'demo'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_profile_can_be_narrowed_to_one_method():
    narrowed = ["profile.methods=[infoseg]", "profile.ablations.variants=[]"]
    params = load_params(ROOT, "demo", narrowed)
    assert {run.method for run in params.runs()} == {"infoseg"} and not params.ablations()
