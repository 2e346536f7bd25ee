"""Notebooks as build products: the same bytes whatever was displayed or timed in them."""

import nbformat
import pytest

from infoseg.files import InfosegError
from infoseg.pipeline import CHECKED, KERNEL, main, run, scrub, show, strip, tidy


def notebook(path, *sources, tags=()):
    book = nbformat.v4.new_notebook(metadata=KERNEL)
    book.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    book.cells[0].metadata["tags"] = ["parameters", *tags]
    path.parent.mkdir(exist_ok=True)
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


def test_stripping_gives_the_same_bytes_before_and_after_running_and_others_for_other_code(
    tmp_path,
):
    books = [notebook(tmp_path / f"{name}.ipynb", f"x = '{name}'", "print(x)") for name in "ab"]
    strip(books, tmp_path / "before")
    for book in books:
        displayed(book, "monday")
    strip(books, tmp_path / "after")
    before, after = (
        [(tmp_path / when / book.name).read_bytes() for book in books]
        for when in ("before", "after")
    )
    assert before == after
    assert before[0] != before[1]


def test_scrubbing_removes_progress_and_joins_what_was_printed_in_pieces(tmp_path):
    book = notebook(tmp_path / "a.ipynb", "x")
    displayed(book, "re")
    loaded = nbformat.read(book, 4)
    for name, text in (("stderr", "50 %, 3 s left"), ("stdout", "sult")):
        loaded.cells[0].outputs.append(nbformat.v4.new_output("stream", name=name, text=text))
    [output] = scrub(loaded).cells[0].outputs
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


def test_executing_twice_gives_the_same_bytes_and_passes_parameters(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    book = notebook(
        tmp_path / "a.ipynb",
        'profile = "tiny"\nn = 1\nname = "a"',
        "print(repr(profile), n + 1, name * 2)",
        "import sys, time\nprint(time.time(), file=sys.stderr)",
    )
    for target in ("one", "two"):
        run(book, tmp_path / f"{target}.ipynb", {"n": "41", "name": "4b"})
    assert (tmp_path / "one.ipynb").read_bytes() == (tmp_path / "two.ipynb").read_bytes()
    assert "'' 42 4b4b" in (tmp_path / "one.ipynb").read_text()
    assert list((tmp_path / "build/running").iterdir()) == []


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(InfosegError, match="gone.ipynb is not there"):
        strip([tmp_path / "gone.ipynb"], tmp_path / "out")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(InfosegError, match=r"text\.ipynb is not a notebook"):
        strip([tmp_path / "text.ipynb"], tmp_path / "out")


@pytest.mark.parametrize("words", [[], ["strip", "a"], ["run", "a", "b", "c"], ["make"]])
def test_other_words_are_answered_with_those_that_there_are(words, capsys):
    assert main(words) == 2
    assert "python -m infoseg.pipeline repro" in capsys.readouterr().out


def test_outputs_of_an_execution_are_accepted_and_others_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    book = notebook(tmp_path / "a.ipynb", "x = 1", "print(x)")
    run(book, tmp_path / "executed.ipynb", {"x": "7"})
    assert main(["show", str(book), "executed.ipynb"]) == 0
    before = book.read_bytes()
    shown = [output["text"] for cell in nbformat.read(book, 4).cells for output in cell.outputs]
    assert "x = 7" in shown[0] and shown[1] == "7\n"
    assert tidy(book, write=True) and book.read_bytes() == before
    strip([book], tmp_path / "stripped")
    displayed(book, "mine")
    assert not tidy(book, write=True)  # as JupyterLab leaves it: outputs go
    assert book.read_bytes() == (tmp_path / "stripped/a.ipynb").read_bytes()
    notebook(tmp_path / "b.ipynb", "x = 2", "print(x)")
    with pytest.raises(InfosegError, match="other code"):
        show(tmp_path / "b.ipynb", tmp_path / "executed.ipynb")
