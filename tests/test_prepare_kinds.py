"""Every kind of data set that settings may name has a reader that takes its settings."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from infoseg.data import prepare as module
from infoseg.data.ingest import Options
from infoseg.settings import KINDS, DatasetParams

REQUIRED = {"title": "T", "source": "s", "clusters": 2, "over_clustering": True}


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_gets_exactly_the_settings_of_its_kind(kind, monkeypatch):
    model, reader = KINDS[kind], module.readers()[kind]
    variants = model.model_fields.get("variant")
    variant = {"variant": get_args(variants.annotation)[0]} if variants else {}
    dataset = model.model_validate(REQUIRED | {"kind": kind} | variant)
    calls = []

    @functools.wraps(reader)
    def read(*folders, **settings):
        calls.append((folders, settings))

    monkeypatch.setattr(module, "readers", lambda: {kind: read})
    module.prepare(dataset, [Path("raw")], Path("out"), "name")
    [(folders, settings)] = calls
    assert folders == ([Path("raw")], Path("out"))
    own = model.model_fields.keys() - DatasetParams.model_fields.keys() - {"kind"}
    names = own | {"superpixels", "on_bad_input"} | ({"crop"} if kind == "potsdam" else set())
    expected = {"name": "name", "progress": True, "threads": module.available_cores()}
    assert settings == expected | {name: getattr(dataset, name) for name in names}
    taken = inspect.signature(reader).parameters.keys() | Options.__annotations__.keys()
    assert settings.keys() <= taken


def test_what_only_looks_at_data_loads_no_decoder():
    code = "import sys, infoseg.data.prepare; print({'cv2', 'PIL', 'pycocotools'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
