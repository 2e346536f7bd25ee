"""What ran where, said once for all runs: provenance rows in, few lines out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

TITLES = {
    "commit": "Commit",
    "sources_changed": "Sources changed since that commit",
    "code_sha256": "Code (SHA-256)",
    "data_sha256": "Prepared images (SHA-256)",
    "device": "Device",
    "python": "Python",
    "torch": "PyTorch",
    "threads": "Threads",
    "precision": "Precision",
}


class Made(NamedTuple):
    """One value and the runs it holds for, both as text; `what` is empty after the first value."""

    what: str
    value: str
    runs: str


def summarise_provenance(rows: Sequence[Mapping[str, Any]]) -> list[Made]:
    """Every column of the rows (`flat_provenance` and `run`) once.

    A value all runs share is said once. Values that go by data set, or by method, are said by it;
    otherwise the commonest value comes first and the runs that differ are listed with theirs.
    """
    columns = dict.fromkeys(name for row in rows for name in row if name != "run")
    found: list[Made] = []
    for column in columns:
        values = {str(row["run"]): _text(row.get(column)) for row in rows}
        for i, (value, runs) in enumerate(_by_value(values)):
            found.append(Made("" if i else TITLES.get(column, column), value, runs))
    return found


def _text(value: Any) -> str:
    if value is None or value == "" or value != value:  # NaN differs from itself
        return "unknown"
    text = str(value)
    return {"True": "yes", "False": "no"}.get(text, text)


def _by_value(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """values by run → pairs of a value and the runs it holds for."""
    counts = Counter(values.values())
    if len(counts) == 1:
        number = f"all {len(values)} runs" if len(values) > 1 else "the only run"
        return [(next(iter(counts)), number)]
    for place, kind in ((0, "data set"), (1, "method")):  # of `<data set>-<method>-<seed>`
        groups: dict[str, set[str]] = {}
        for run, value in values.items():
            parts = run.split("-")
            groups.setdefault(parts[place] if len(parts) > place else run, set()).add(value)
        if len(groups) < len(values) and all(len(found) == 1 for found in groups.values()):
            names: dict[str, list[str]] = {}
            for name, found in groups.items():
                names.setdefault(found.pop(), []).append(name)
            return [
                (value, f"{kind}{'s' * (len(group) > 1)} {', '.join(group)}")
                for value, group in names.items()
            ]
    # Ties go to the value met first, so that the text does not depend on hashing.
    usual = counts.most_common(1)[0][0]
    others = [value for value in counts if value != usual]
    lines = [(usual, f"{counts[usual]} of {len(values)} runs")]
    lines += [(v, ", ".join(run for run, value in values.items() if value == v)) for v in others]
    return lines
