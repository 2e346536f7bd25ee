"""Settings: what is wrong is named by its key, what differs by data set is merged."""

from __future__ import annotations

import copy
import operator
from functools import reduce
from typing import Any

import pytest
from helpers import EXECUTION, TRAINING, method_settings

from infoseg.errors import ParamsError
from infoseg.params import load_params, parse_params

RAW: dict[str, Any] = {
    "profile": {
        "name": "test",
        "description": "a test",
        "sources": ["coco", "mine"],
        "datasets": ["stuff3", "pictures"],
        "inputs": {"stuff3": "coco", "pictures": "mine"},
        "persons_rule": [],
        "methods": ["kmeans", "infoseg"],
        "seeds": [0],
        "repeats": {"datasets": ["stuff3"], "methods": ["infoseg"], "seeds": [1, 2]},
        "figure4": {"methods": ["infoseg"], "panels": {"stuff3": 2}},
        "figures": {"dataset": "stuff3", "confusion": "stuff3"},
        "table2": {"dataset": "stuff3", "variants": ["hard"], "seeds": [0, 1]},
        "table2b": {
            "dataset": "stuff3",
            "variants": ["soft_tau"],
            "seeds": [0],
            "table1_rows": {"kmeans": "What else"},
        },
    },
    "sources": {
        "coco": {
            "kind": "coco_scenes",
            "seed": 0,
            "stuff_images": 4,
            "person_images": 4,
            "val_share": 0.1,
            "long_side": 64,
            "short_side": 48,
        },
        "mine": {"kind": "local", "path": "~/pictures"},
    },
    "datasets": {
        "stuff3": {
            "kind": "coco_stuff",
            "title": "COCO-Stuff-3",
            "source": "coco",
            "variant": "stuff3",
            "clusters": 3,
            "over_clustering": False,
            "crop": 64,
            "pad": True,
            "superpixels": None,
            "scale": 0.33,
            "unlabelled": "ignore",
            "on_bad_input": "error",
        },
        "pictures": {
            "kind": "folder",
            "channels": 3,
            "title": "Pictures",
            "source": "mine",
            "labels": None,
            "clusters": 4,
            "over_clustering": False,
            "crop": 96,
            "pad": True,
            "superpixels": None,
            "shorter_side": None,
            "on_bad_input": "skip",
        },
    },
    "training": TRAINING,
    "execution": EXECUTION,
    "methods": {"kmeans": method_settings("kmeans"), "infoseg": method_settings("infoseg")},
    "variants": {
        "hard": {"question": "Assignment", "changes": {"objective": {"assignment": "hard"}}},
        "soft_tau": {"question": "Tau", "changes": {"objective": {"tau": 0.1}}},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """RAW with one dotted key set; `...` removes it."""
    raw = copy.deepcopy(RAW)
    *parents, last = path.split(".")
    parent = reduce(operator.getitem, parents, raw)
    if value is ...:
        del parent[last]
    else:
        parent[last] = value
    return raw


def complaint(path: str, value: Any) -> str:
    with pytest.raises(ParamsError) as caught:
        parse_params(changed(path, value), "params.yaml")
    return str(caught.value)


def test_the_settings_of_these_tests_are_valid():
    params = parse_params(RAW, "params.yaml")
    assert params.datasets["stuff3"].classes == 3
    assert params.datasets["pictures"].classes is None
    assert params.method("infoseg", "stuff3").objective.tau == 0.8


UNKNOWN = """
colour profile.colour profile.repeats.colour sources.coco.colour datasets.stuff3.colour
datasets.pictures.scale training.colour methods.kmeans.colour methods.infoseg.objective.colour
methods.infoseg.network.colour methods.infoseg.optimiser.weight_decay
"""
NEEDED = """
training profile.repeats sources.coco.seed datasets.stuff3.crop training.threads
methods.kmeans.passes methods.infoseg.objective methods.infoseg.objective.tau
"""


@pytest.mark.parametrize("path", UNKNOWN.split())
def test_an_unknown_key_is_named(path):
    assert f"{path}: unknown key" in complaint(path, 1)


@pytest.mark.parametrize("path", NEEDED.split())
def test_a_missing_key_is_named(path):
    assert f"{path}: missing" in complaint(path, ...)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("profile.name", "No Spaces"),
        ("profile.seeds", "zero"),
        ("sources.coco.val_share", 1.5),
        ("datasets.stuff3.clusters", "three"),
        ("datasets.stuff3.crop", 31),
        ("datasets.pictures.crop", 16),
        ("datasets.stuff3.scale", 0),
        ("datasets.stuff3.unlabelled", "grass"),
        ("profile.figure4.panels", {"stuff3": 0}),
        ("profile.figure4.panels", {}),
        ("datasets.stuff3.on_bad_input", "ignore"),
        ("training.device", "tpu"),
        ("training.threads", 0),
        ("training.evaluations", -1),
        ("methods.kmeans.passes", "many"),
        ("methods.infoseg.objective.marginal", "shuffled"),
        ("methods.infoseg.objective.tau", 0),
        ("methods.infoseg.objective.score_factor", 0),
        ("methods.infoseg.network.block_a", "resnet"),
        ("methods.infoseg.network.features", 0),
        ("methods.infoseg.network.width", -1),
        ("methods.infoseg.optimiser.batch", 1),
        ("methods.infoseg.optimiser.learning_rate", 0),
        ("methods.infoseg.per_dataset", ["stuff3"]),
        ("methods.infoseg.per_dataset", {"stuff3": 3}),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_named(path, value):
    assert f"  {path}" in complaint(path, value)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("methods.kmeans", [3, "kmeans", None, ["kmeans"]]),
        ("methods.kmeans.kind", [3, None, ["kmeans"], {"kmeans": 1}]),
    ],
)
def test_a_method_that_is_no_mapping_or_of_no_kind_is_named(path, values):
    for value in values:
        assert "methods.kmeans: kind" in complaint(path, value)


def test_every_data_sets_raw_files_are_made_by_a_stage():
    message = complaint("profile.sources", ["coco"])
    assert "profile.inputs.pictures: 'mine' is not in profile.sources" in message
    message = complaint("profile.inputs", {"stuff3": "coco"})
    assert "profile.inputs: 'pictures' of profile.datasets is missing" in message
    message = complaint("profile.inputs.pictures", "coco")
    assert "profile.inputs.pictures: 'coco' is not datasets.pictures.source" in message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("profile.sources", ["flickr"]),
        ("profile.datasets", ["flickr"]),
        ("profile.inputs", {"flickr": "coco"}),
        ("profile.persons_rule", ["flickr"]),
        ("profile.methods", ["flickr"]),
        ("profile.figure4.methods", ["flickr"]),
        ("profile.figure4.panels", {"flickr": 1}),
        ("profile.table2.dataset", "flickr"),
        ("profile.table2.variants", ["flickr"]),
        ("profile.table2b.dataset", "flickr"),
        ("profile.table2b.variants", ["flickr"]),
        ("profile.table2b.table1_rows", {"flickr": "What"}),
        ("profile.figures.dataset", "flickr"),
        ("profile.figures.confusion", "flickr"),
        ("profile.repeats.datasets", ["flickr"]),
        ("profile.repeats.methods", ["flickr"]),
        ("datasets.stuff3.source", "flickr"),
    ],
)
def test_a_reference_to_nothing_is_named(path, value):
    message = complaint(path, value)
    assert f"{path}: 'flickr' is not" in message


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("methods.kmeans.kind", "methods.kmeans"),
        ("datasets.stuff3.kind", "datasets.stuff3"),
        ("sources.coco.kind", "sources.coco"),
    ],
)
@pytest.mark.parametrize("value", ["flickr", ...])
def test_an_unknown_or_missing_kind_is_named(path, key, value):
    message = complaint(path, value)
    assert f"{key}: " in message
    assert "kind" in message


def test_clusters_must_equal_the_classes_unless_over_clustering_is_asked_for():
    message = complaint("datasets.stuff3.clusters", 5)
    assert "datasets.stuff3: clusters is 5 but the data have 3 classes" in message
    assert "over_clustering" in message
    raw = changed("datasets.stuff3.clusters", 5)
    raw["datasets"]["stuff3"]["over_clustering"] = True
    assert parse_params(raw, "params.yaml").datasets["stuff3"].clusters == 5
    # A folder's classes are not known before it is read.
    raw = changed("datasets.pictures.clusters", 9)
    assert parse_params(raw, "params.yaml").datasets["pictures"].clusters == 9


def test_log_sum_exp_has_no_gradient_through_v_to_cut():
    objective = RAW["methods"]["infoseg"]["objective"] | {
        "marginal": "log_sum_exp",
        "gradient_through_v": False,
    }
    message = complaint("methods.infoseg.objective", objective)
    assert "methods.infoseg: objective.gradient_through_v: log_sum_exp" in message
    parse_params(
        changed("methods.infoseg.objective", objective | {"gradient_through_v": True}), "here"
    )


def test_settings_of_a_data_set_replace_single_keys_of_the_method():
    changes = {"stuff3": {"objective": {"tau": 0.2}, "optimiser": {"batch": 6}, "title": "T"}}
    params = parse_params(changed("methods.infoseg.per_dataset", changes), "params.yaml")
    there, elsewhere = params.method("infoseg", "stuff3"), params.method("infoseg", "pictures")
    assert (there.objective.tau, elsewhere.objective.tau) == (0.2, 0.8)
    assert (there.optimiser.batch, elsewhere.optimiser.batch) == (6, 4)
    assert (there.title, elsewhere.title) == ("T", "infoseg")
    assert there.objective.model_copy(update={"tau": 0.8}) == elsewhere.objective
    assert there.network == elsewhere.network


def test_settings_of_an_unknown_data_set_are_an_error():
    message = complaint("methods.infoseg.per_dataset", {"flickr": {"title": "T"}})
    assert "methods.infoseg.per_dataset: unknown data set flickr" in message


def test_an_unknown_key_in_the_settings_of_a_data_set_is_named_with_the_data_set():
    message = complaint("methods.infoseg.per_dataset", {"stuff3": {"objective": {"taus": 1}}})
    assert "methods.infoseg.objective.taus: unknown key" in message
    assert "for stuff3" in message


def test_a_method_that_is_not_there_is_an_error():
    with pytest.raises(ParamsError, match="'doersch' is not among"):
        parse_params(RAW, "params.yaml").method("doersch", "stuff3")


def test_all_errors_are_reported_at_once_with_the_file():
    raw = changed("datasets.stuff3.crop", 8)
    raw["training"]["threads"] = -1
    with pytest.raises(ParamsError) as caught:
        parse_params(raw, "somewhere.yaml")
    message = str(caught.value)
    assert "somewhere.yaml" in message
    assert "datasets.stuff3.crop" in message
    assert "training.threads" in message


@pytest.mark.parametrize("raw", [None, [], "text", 3])
def test_a_file_that_is_no_mapping_is_an_error(raw):
    with pytest.raises(ParamsError, match="params.yaml: expected a mapping"):
        parse_params(raw, "params.yaml")


def test_settings_cannot_be_changed_after_loading():
    params = parse_params(RAW, "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.training.threads = 4


def test_runs_are_every_data_set_and_method_and_seed_and_the_repeats():
    keys = [run.key for run in parse_params(RAW, "params.yaml").runs()]
    assert keys == [
        "stuff3-kmeans-0",
        "stuff3-infoseg-0",
        "stuff3-infoseg-1",
        "stuff3-infoseg-2",
        "pictures-kmeans-0",
        "pictures-infoseg-0",
    ]


def test_repeats_of_a_seed_that_runs_anyway_are_an_error():
    message = complaint("profile.repeats.seeds", [0, 1])
    assert "profile: repeats.seeds: 0 is among seeds already" in message


def test_a_missing_or_unreadable_file_is_an_error_naming_it(tmp_path):
    with pytest.raises(ParamsError, match="params.yaml is missing"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_text("profile: [unclosed")
    with pytest.raises(ParamsError, match="params.yaml is not valid YAML"):
        load_params(tmp_path)
    with pytest.raises(ParamsError, match="profile: 'nowhere' is not among"):
        load_params(tmp_path, profile="nowhere")


def test_overrides_replace_single_keys_of_the_file(tmp_path):
    import yaml

    (tmp_path / "params.yaml").write_text(yaml.safe_dump(RAW))
    params = load_params(tmp_path, overrides=["methods.infoseg.objective.tau=0.3"])
    assert params.method("infoseg", "stuff3").objective.tau == 0.3
    assert params.method("infoseg", "stuff3").objective.measure == "jsd"
    with pytest.raises(ParamsError, match=r"methods\.infoseg\.objective\.taus: unknown key"):
        load_params(tmp_path, overrides=["methods.infoseg.objective.taus=0.3"])


# ---- variants ------------------------------------------------------------------------------------


def test_a_variant_is_infoseg_with_its_changes_on_every_data_set():
    raw = changed("methods.infoseg.per_dataset", {"pictures": {"optimiser": {"steps": 77}}})
    params = parse_params(raw, "params.yaml")
    for dataset, steps in (("stuff3", 10), ("pictures", 77)):
        default, hard = (params.method(name, dataset) for name in ("infoseg", "hard"))
        assert (hard.optimiser.steps, hard.objective.assignment) == (steps, "hard")
        assert hard.paper_row is None and hard.title == "InfoSeg, hard"
        same = {"title": "", "paper_row": None, "per_dataset": {}, "objective": None}
        assert hard.model_dump() | same == default.model_dump() | same


def test_a_variant_wins_over_what_the_data_set_changes():
    raw = changed("methods.infoseg.per_dataset", {"stuff3": {"objective": {"tau": 5.0}}})
    assert parse_params(raw, "params.yaml").method("soft_tau", "stuff3").objective.tau == 0.1


def test_ablations_are_the_variants_of_both_tables_once():
    raw = changed("profile.table2b.variants", ["soft_tau", "hard"])
    runs = [run.key for run in parse_params(raw, "params.yaml").ablations()]
    assert runs == ["stuff3-hard-0", "stuff3-hard-1", "stuff3-soft_tau-0"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("variants.hard.changes", {"objective": {"asignment": "hard"}}, "hard.objective.asignment"),
        ("variants.hard.changes", {"objective": {"assignment": "soft"}}, "changes nothing"),
        ("variants.hard.changes", {"kind": "nothing"}, "kind 'nothing'"),
        ("variants.kmeans", {"question": "x", "changes": {}}, "name of a method"),
    ],
)
def test_a_variant_that_makes_no_sense_is_named(path, value, words):
    assert words in complaint(path, value)
