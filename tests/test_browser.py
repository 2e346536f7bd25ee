"""Every notebook in JupyterLab, in a real browser: Run All, wait, no error.

Not part of `make test`: `make test-browser`, with Debian's chromium.
"""

from __future__ import annotations

import json
import shutil

import pytest
from browser import CHROMIUM, Page, jupyterlab
from clones import Clone
from helpers import ROOT, one_data_set

pytestmark = pytest.mark.browser
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))

#: The notebook that is open, its kernel's state and its cells, as JupyterLab holds them.
PANEL = "[...window.jupyterapp.shell.widgets('main')].find(w => w.context)"
READY = f"{PANEL}.context.isReady && {PANEL}.sessionContext.session.kernel.status === 'idle'"
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
CODE = f"{PANEL}.context.model.toJSON().cells.filter(c => c.cell_type === 'code')"
ERRORS = f"{CODE}.flatMap(c => c.outputs).filter(o => o.output_type === 'error')"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    # In a copy: JupyterLab saves what it ran.
    clone = Clone(tmp_path_factory.mktemp("lab"), one_data_set(pictures=2))
    shutil.copytree(ROOT / "results", clone.path / "results")
    with jupyterlab(clone.path, tmp_path_factory.mktemp("scratch")) as address:
        yield address


@pytest.fixture
def page(tmp_path):
    made = Page(tmp_path / "chromium")
    yield made
    made.close()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_all_ends_without_an_error(lab, page, name):
    page.open(f"{lab}/tree/notebooks/{name}?reset")
    page.wait(READY, 90)
    page.ask(f"window.jupyterapp.shell.activateById({PANEL}.id)")
    assert page.ask(f"{PANEL}.sessionContext.kernelDisplayName").startswith("Python 3")
    # True when every cell was run; it stops at the first error.
    done = page.ask(f"Promise.race([{RUN_ALL}, new Promise(r => setTimeout(r, 110000, 'late'))])")
    if done == "late":
        page.wait(f"{CODE}.every(c => c.execution_count)", 200)
    errors = json.loads(page.ask(f"JSON.stringify({ERRORS}.map(e => e.evalue))"))
    assert errors == []
    counts = page.ask(f"{CODE}.filter(c => c.source.length).map(c => c.execution_count)")
    assert counts and None not in counts
