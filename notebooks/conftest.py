"""The tests run the notebooks with less work than a reader wants to see.

nbval sets no parameters as papermill does; here they are set in the cell tagged `parameters`.
"""

import re

#: By notebook: the parameters that are other ones under test.
SHORT = {
    "00_paper.ipynb": {"steps": 10},
    # The output that is compared is the demo's.
    "01_prepare.ipynb": {"profile": '"demo"', "dataset": '"outdoor"'},
}


def pytest_collection_modifyitems(items):
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is None or "parameters" not in cell.metadata.get("tags", []):
            continue
        for name, value in SHORT.get(item.path.name, {}).items():
            cell.source, found = re.subn(
                rf"^{name} = .*$", f"{name} = {value}", cell.source, flags=re.MULTILINE
            )
            assert found == 1, f"{item.path.name} has no parameter {name}"
