"""Notebooks as build products: the same bytes whatever was displayed or timed in them."""

import nbformat
import pytest

from infoseg.errors import InfosegError
from infoseg.notebooks import CHECKED, KERNEL, main, run, scrub, strip, tidy


def notebook(path, *sources, tags=()):
    book = nbformat.v4.new_notebook(metadata=KERNEL)
    book.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    book.cells[0].metadata["tags"] = ["parameters", *tags]
    nbformat.write(book, path)
    return path


def displayed(path, text):
    """As JupyterLab leaves a notebook behind after it was run."""
    book = nbformat.read(path, 4)
    for number, cell in enumerate(book.cells):
        cell.execution_count = number + 7
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        cell.metadata["execution"] = {"iopub.execute_input": text}
        cell.id = f"random-{text}-{number}"
    book.metadata["kernelspec"] = {"name": "mine", "display_name": text}
    nbformat.write(book, path)


def test_stripping_gives_the_same_bytes_before_and_after_running(tmp_path):
    book = notebook(tmp_path / "a.ipynb", "x = 1", "print(x)")
    strip(book, tmp_path / "before.ipynb")
    displayed(book, "monday")
    strip(book, tmp_path / "after.ipynb")
    assert (tmp_path / "before.ipynb").read_bytes() == (tmp_path / "after.ipynb").read_bytes()


def test_stripping_keeps_what_a_change_of_source_changes(tmp_path):
    strip(notebook(tmp_path / "a.ipynb", "x = 1"), tmp_path / "a")
    strip(notebook(tmp_path / "b.ipynb", "x = 2"), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_scrubbing_removes_progress_and_keeps_results(tmp_path):
    book = notebook(tmp_path / "a.ipynb", "x")
    displayed(book, "result")
    loaded = nbformat.read(book, 4)
    progress = nbformat.v4.new_output("stream", name="stderr", text="50 %, 3 s left")
    loaded.cells[0].outputs.append(progress)
    nbformat.write(loaded, book)
    scrub(book)
    [output] = nbformat.read(book, 4).cells[0].outputs
    assert output["text"] == "result"


def test_check_complains_of_outputs_and_clean_removes_them(tmp_path, capsys):
    book = notebook(tmp_path / "a.ipynb", "x = 1")
    displayed(book, "noise")
    assert main(["check", str(book)]) == 1
    assert "a.ipynb" in capsys.readouterr().out
    assert main(["clean", str(book)]) == 0
    assert main(["check", str(book)]) == 0


def test_outputs_that_nbval_compares_stay(tmp_path):
    book = notebook(tmp_path / "a.ipynb", "x", tags=[CHECKED])
    displayed(book, "42")
    tidy(book, write=True)
    [output] = nbformat.read(book, 4).cells[0].outputs
    assert output["text"] == "42"


def test_executing_twice_gives_the_same_bytes_and_passes_parameters(tmp_path, capfd):
    book = notebook(
        tmp_path / "a.ipynb",
        'profile = "tiny"\nn = 1',
        "import sys, time\nprint(repr(profile), n + 1)\nprint(time.time(), file=sys.stderr)",
    )
    # What a kill leaves of this notebook is gone afterwards, and of another one it is not.
    for left in ("one.running.ipynb", "one.ipynb", "three.running.ipynb"):
        (tmp_path / f".{left}.12613.tmp").touch()
    for target in ("one", "two"):
        run(book, tmp_path / f"{target}.ipynb", {"n": "41"})
    assert [path.name for path in tmp_path.glob(".*")] == [".three.running.ipynb.12613.tmp"]
    assert (tmp_path / "one.ipynb").read_bytes() == (tmp_path / "two.ipynb").read_bytes()
    assert "'' 42" in (tmp_path / "one.ipynb").read_text()


def test_an_unknown_parameter_is_an_error_before_anything_runs(tmp_path):
    book = notebook(tmp_path / "a.ipynb", "seed = 1")
    with pytest.raises(InfosegError, match="no parameter 'sed'"):
        run(book, tmp_path / "out.ipynb", {"sed": "2"})


def test_a_failing_notebook_leaves_nothing_under_the_final_name(tmp_path, capfd):
    book = notebook(tmp_path / "a.ipynb", 'profile = ""', "raise ValueError('too bad')")
    with pytest.raises(InfosegError, match="too bad"):
        run(book, tmp_path / "out.ipynb", {})
    assert not (tmp_path / "out.ipynb").exists()
    assert (tmp_path / "out.running.ipynb").exists()


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(InfosegError, match="gone.ipynb"):
        strip(tmp_path / "gone.ipynb", tmp_path / "out")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(InfosegError, match=r"text\.ipynb is not a notebook"):
        strip(tmp_path / "text.ipynb", tmp_path / "out")
