"""Every kind of data set that settings may name has a reader that takes its settings."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import get_args

import pytest

from infoseg.data.ingest import Options
from infoseg.data.prepare import READERS, available_cores, prepare
from infoseg.settings import KINDS, DatasetParams

REQUIRED = {"title": "T", "source": "s", "clusters": 2, "over_clustering": True}


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_gets_exactly_the_settings_of_its_kind(kind, monkeypatch):
    model, reader = KINDS[kind], READERS[kind]
    assert get_args(model.model_fields["kind"].annotation) == (kind,)
    variants = model.model_fields.get("variant")
    variant = {"variant": get_args(variants.annotation)[0]} if variants else {}
    dataset = model.model_validate(REQUIRED | {"kind": kind} | variant)
    calls = []

    @functools.wraps(reader)
    def read(*folders, **settings):
        calls.append((folders, settings))

    monkeypatch.setitem(READERS, kind, read)
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
    taken = inspect.signature(reader).parameters.keys() | Options.__annotations__.keys()
    assert settings.keys() <= taken


def test_every_kind_has_a_reader():
    assert READERS.keys() == KINDS.keys()
