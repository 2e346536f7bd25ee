"""dvc.lock written entry by entry has the bytes DVC's own way gives it."""

import copy
import random

import pytest
from dvc import dvcfile
from dvc.utils.serialize import dumps_yaml, modify_yaml, parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from infoseg.lock_entries import HEAD, Entries, by_entries, is_plain, split
from tests.helpers import ROOT

LOCK = (ROOT / "dvc.lock").read_text(encoding="utf-8")


def record(path, stages) -> None:
    """As `Lockfile.dump_stages`, by whichever `modify_yaml` DVC has at the time."""
    with dvcfile.modify_yaml(str(path)) as data:
        if not data:
            data.update({"schema": "2.0"})
        data["stages"] = data.get("stages", {})
        for name, entry in stages.items():
            assert isinstance(data["stages"].get(name, {}), dict)
            data["stages"].update({name: entry})


def both(tmp_path, text, stages) -> tuple[str, str]:
    """What DVC and what entries make of a lock file."""
    for name in ("theirs", "ours"):
        if text is not None:
            (tmp_path / name).write_text(text, encoding="utf-8")
    record(tmp_path / "theirs", copy.deepcopy(stages))
    with by_entries():
        record(tmp_path / "ours", copy.deepcopy(stages))
    return (tmp_path / "theirs").read_text(), (tmp_path / "ours").read_text()


def test_the_pipelines_own_lock_file(tmp_path):
    stages = parse_yaml(LOCK, "dvc.lock")["stages"]
    changed = {name: stages[name] for name in random.Random(0).sample(sorted(stages), 3)}
    for entry in changed.values():
        entry["outs"][0]["md5"] = "0" * 32
    new = {"train@new-infoseg-0": stages["report"]}
    theirs, ours = both(tmp_path, LOCK, {**changed, **new})
    assert theirs == ours != LOCK
    assert f"{HEAD}{Entries(LOCK.removeprefix(HEAD))}" == LOCK


#: Of few digits: DVC's own way rounds the last of seventeen.
NUMBERS = st.integers() | st.integers(-(10**4), 10**4).map(lambda number: number / 1000)
#: Without control characters: DVC's own way writes some differently when it has read them.
PRINTED = st.characters(exclude_categories=["C", "Zl", "Zp"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(PRINTED),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(PRINTED, max_size=150), inner, max_size=3)
    ),
    max_leaves=8,
)
ENTRIES = st.dictionaries(st.text(PRINTED, max_size=9), VALUES, min_size=1, max_size=3)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,9}(@[a-z0-9_-]{1,9})?", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(
    lock=st.dictionaries(NAMES, ENTRIES, min_size=1, max_size=4),
    stages=st.dictionaries(NAMES, ENTRIES, min_size=1, max_size=3),
)
def test_any_entries(tmp_path_factory, lock, stages):
    text = dumps_yaml({"schema": "2.0", "stages": lock})
    theirs, ours = both(tmp_path_factory.mktemp("lock"), text, stages)
    assert theirs == ours


def test_without_a_lock_file(tmp_path):
    theirs, ours = both(tmp_path, None, {"strip": {"cmd": "true"}})
    assert theirs == ours == f"{HEAD}  strip:\n    cmd: 'true'\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema: '2.0'\n",
        "schema: '2.0'\nstages: {}\n",
        f"# ours\n{HEAD}  a:\n    cmd: b\n",
        f"{HEAD}# a comment\n  a:\n    cmd: b\n",
        f"{HEAD}  'a':\n    cmd: b\n",
        f"{HEAD}  a:\n    cmd: b",
        f"{HEAD}  a:\n    cmd: b\ndatasets: []\n",
    ],
)
def test_another_form_is_left_to_dvc(tmp_path, text):
    assert not is_plain(text)
    theirs, ours = both(tmp_path, text, {"c": {"cmd": "d"}})
    assert theirs == ours


def test_what_is_compared_is_what_was_recorded():
    entries = Entries("  a:\n    cmd: b\n    deps:\n    - path: c\n")
    assert entries.get("a") == {"cmd": "b", "deps": [{"path": "c"}]}
    assert entries.get("b", {}) == {}


def test_a_write_that_fails_leaves_the_file(tmp_path, monkeypatch):
    (tmp_path / "dvc.lock").write_text(f"{HEAD}  a:\n    cmd: b\n")
    with by_entries(), pytest.raises(ZeroDivisionError), dvcfile.modify_yaml(tmp_path / "dvc.lock"):
        raise ZeroDivisionError
    assert (tmp_path / "dvc.lock").read_text() == f"{HEAD}  a:\n    cmd: b\n"
    assert dvcfile.modify_yaml is modify_yaml


@given(st.text(alphabet="ab: \n"))
def test_entries_join_to_what_they_were(text):
    body = "  a:\n" + text
    assert "".join(split(body)) == body
