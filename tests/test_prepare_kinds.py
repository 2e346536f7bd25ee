"""Every kind of data set that settings may name has a reader that takes its settings."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from infoseg.data.prepare import READERS, available_cores, prepare
from infoseg.settings import KINDS, DatasetParams

SETTINGS = {
    "title": "T",
    "source": "s",
    "over_clustering": True,
    "clusters": 4,
    "crop": 64,
    "pad": True,
    "superpixels": {"pixels_per_region": 40, "compactness": 10, "smoothing": 0},
    "on_bad_input": "skip",
    "variant": "potsdam3",
    "grid": 5,
    "colour_tolerance": 7,
    "scale": 0.5,
    "unlabelled": "sky",
    "shorter_side": 70,
    "min_person_share": 0.2,
    "max_person_share": 0.9,
    "min_side": 11,
    "crowd": "person",
    "images": 99,
    "labels": "labels3",
    "channels": 4,
}


def test_every_kind_has_a_reader():
    assert READERS.keys() == KINDS.keys()
    for kind, model in KINDS.items():
        assert get_args(model.model_fields["kind"].annotation) == (kind,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_gets_exactly_the_settings_of_its_kind(kind, monkeypatch):
    model, reader = KINDS[kind], READERS[kind]
    given = {name: SETTINGS[name] for name in model.model_fields if name != "kind"}
    if kind == "coco_stuff":
        given["variant"] = "stuff3"
    dataset = model.model_validate(given | {"kind": kind})
    calls = []

    def read(*folders, **settings):
        # What the real reader would not take is an error here as well.
        inspect.signature(reader.read).bind(*folders, **settings)
        calls.append((folders, settings))

    monkeypatch.setitem(READERS, kind, replace(reader, read=read))
    prepare(dataset, [Path("raw")], Path("out"), "name")
    [(folders, settings)] = calls
    assert folders == ([Path("raw")], Path("out"))
    own = model.model_fields.keys() - DatasetParams.model_fields.keys() - {"kind"}
    expected = own | {"superpixels", "on_bad_input"} | ({"crop"} if kind == "potsdam" else set())
    assert settings == {name: getattr(dataset, name) for name in expected} | {
        "name": "name",
        "progress": True,
        "threads": available_cores(),
    }
