"""The report page: stands by itself, says what it must, and never changes of itself."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import Page
from PIL import Image

from infoseg.errors import DataError
from infoseg.files import find_root
from infoseg.reporting.claims import FAILS, HOLDS, NOT_RUN, OPEN, Claim
from infoseg.reporting.deviations import HEADING
from infoseg.reporting.embed import embed
from infoseg.reporting.made import summarise_provenance
from infoseg.reporting.markup import Block, Grid, cell
from infoseg.reporting.report import (
    Deviation,
    ReportContent,
    ReportFigure,
    ReportTable,
    read_deviations,
    render_report,
    write_report,
)

SVG = (
    '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt">'
    '<style>*{fill: red}</style><g id="figure_1"/></svg>\n'
)
GRID = Grid(["Method", "COCO"], [Block([("InfoSeg", [cell(52.4, 2.3)])])], "On test data.", ["n"])


@pytest.fixture
def content(tmp_path: Path) -> ReportContent:
    (tmp_path / "one.svg").write_text(SVG)
    (tmp_path / "two.svg").write_text(SVG)
    Image.fromarray(np.zeros((30, 150, 3), np.uint8)).save(tmp_path / "three.png", dpi=(150, 150))
    return ReportContent(
        title="InfoSeg, reproduced",
        profile="demo",
        description="rendered scenes, on a CPU",
        data="rendered scenes of 64 pixels a side",
        is_demo=True,
        tables=[ReportTable("Table 1", GRID, "Read it so."), ReportTable("Table 2", GRID)],
        figures=[
            ReportFigure("Figure 4", tmp_path / "one.svg", "Pictures in columns.", "By rule."),
            ReportFigure("Figure 1", tmp_path / "two.svg", "Four panels."),
            ReportFigure("Bars", tmp_path / "three.png", "Bars."),
        ],
        claims=[
            Claim("Soft is better.", "Table 2", "Soft 3.0 against hard 2.0.", HOLDS),
            Claim("JSD is better.", "Table 2", "JSD 1.0 against DV 2.0.", FAILS),
            Claim("It is best.", "Table 1", "One seed.", OPEN),
            Claim("C helps.", "4.2", "No run here bears on it.", NOT_RUN),
        ],
        signs=[("coco-iic-0", []), ("coco-infoseg-0", ["uses 1 of 3 clusters"])],
        provenance=[
            {"run": "coco-iic-0", "commit": "abc", "threads": 1},
            {"run": "coco-infoseg-0", "commit": "abc", "threads": 1},
        ],
        deviations=[Deviation("Steps", "not stated", "fixed by `optimiser.steps`", "budget")],
        notebooks=[("Table 1", "../../runs/demo/04_table1.ipynb")],
    )


# ---- the page ------------------------------------------------------------------------------------


def test_it_parses_and_its_ids_and_links_fit_together(content):
    page = Page(render_report(content))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in page.all("a")]
    within = [link[1:] for link in links if link.startswith("#")]
    assert len(within) == 8 and set(within) <= set(ids)
    outside = [link for link in links if not link.startswith("#")]
    assert outside == ["timing.csv", "../../runs/demo/04_table1.ipynb"]
    labels = [attributes.get("aria-labelledby") for _, attributes in page.tags]
    assert {label for label in labels if label} <= set(ids)


def test_it_loads_nothing_and_runs_nothing(content):
    text = render_report(content)
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "svg"})
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "srcset", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), tag
    assert not re.search(r"https?://|@import|url\(", text)


def test_headings_are_in_order_and_pictures_have_words(content):
    page = Page(render_report(content))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert [picture["alt"] for picture in page.all("img")] == [
        "Pictures in columns.",
        "Four panels.",
        "Bars.",
    ]
    assert page.all("html") == [{"lang": "en"}]


def test_sections_stand_in_the_readers_order(content):
    headings = Page(render_report(content)).text("h2")
    assert headings == [
        "On this page",
        "Table 1",
        "Table 2",
        "The paper's claims, and what was found",
        "Figures",
        "Failure signs",
        "What differs from the paper, and why",
        "What ran where",
        "Executed notebooks",
    ]


def test_who_has_only_the_page_knows_what_on_what_how_sure_and_what_differs(content):
    words = Page(render_report(content)).words
    for said in (
        "independent reproduction of InfoSeg",
        "from 2 runs",
        "The data: rendered scenes of 64 pixels a side.",
        "of the paper's 4 claims below, 1 held, 1 did not hold, 1 could not be decided",
        "52.4 ± 2.3",
        "Soft 3.0 against hard 2.0.",
        "uses 1 of 3 clusters",
        "1 of 2 runs show none",
        "not stated",
        "optimiser.steps",
        "budget",
        "abc all 2 runs",
    ):
        assert said in words, said


def test_numbers_that_are_not_the_papers_are_never_shown_as_if(content):
    def warning(**changes) -> str:
        page = Page(render_report(replace(content, **changes)))
        before = page.words.split("On this page")[0]
        return before if page.words.count("cannot be compared") else ""

    assert "Demo numbers." in warning()
    assert "Not the paper's data." in warning(is_demo=False)
    assert warning(is_demo=False, papers_data=True) == ""
    with pytest.raises(ValueError, match="demo data"):
        replace(content, papers_data=True)


def test_whatever_is_said_is_escaped(content):
    bad = '<b>"bold"</b> & `<i>code</i>`'
    grid = replace(GRID, caption=bad)
    text = render_report(
        replace(
            content,
            title=bad,
            description=bad,
            data=bad,
            tables=[ReportTable(bad, grid, bad)],
            figures=[ReportFigure(bad, content.figures[0].path, bad, bad)],
            claims=[Claim(bad, bad, bad, HOLDS)],
            signs=[(bad, [bad])],
            provenance=[{"run": bad, "commit": bad}],
            deviations=[Deviation(bad, bad, bad, bad)],
            notebooks=[(bad, "a.ipynb")],
        )
    )
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"b", "i"})
    assert '<b>"bold"</b> & <i>code</i>' in page.words  # backticks became code
    assert page.all("img")[0]["alt"] == bad


def test_empty_sections_are_left_out(content):
    bare = ReportContent("T", "demo", "d", "rendered scenes", True)
    page = Page(render_report(bare))
    assert page.text("h2") == ["On this page"] and page.text("a") == []
    quiet = Page(render_report(replace(content, signs=[("coco-iic-0", [])])))
    assert "No run shows one" in quiet.words


def test_it_has_the_same_bytes_twice_and_names_no_place(content, tmp_path):
    first = write_report(content, tmp_path / "a" / "report.html").read_bytes()
    second = write_report(content, tmp_path / "b" / "report.html").read_bytes()
    assert first == second and b"\r" not in first
    assert str(tmp_path).encode() not in first


@pytest.mark.parametrize("link", ["/tmp/a.ipynb", "file:///a.ipynb", "//host/a", "https://a.b/c"])
def test_links_are_to_files_beside_the_page_only(content, link):
    with pytest.raises(ValueError, match="relative"):
        replace(content, notebooks=[("n", link)])


def test_a_figure_without_words_is_refused(content):
    with pytest.raises(ValueError, match="alternative text"):
        replace(content, figures=[ReportFigure("F", content.figures[0].path, " ")])


# ---- figures -------------------------------------------------------------------------------------


def test_figures_are_embedded_whole_at_the_size_they_were_drawn_for(content):
    svg, png = embed(content.figures[0].path), embed(content.figures[2].path)
    kind, _, data = svg.uri.partition(",")
    assert kind == "data:image/svg+xml;base64" and base64.b64decode(data).decode() == SVG
    assert (svg.width, svg.height) == (96, 48)  # 72 pt are an inch
    assert png.uri.startswith("data:image/png;base64,")
    assert (png.width, png.height) == (96, 19)  # 150 pixels at 150 dpi


def test_an_svg_without_a_size_has_that_of_its_view_box(tmp_path):
    path = tmp_path / "a.svg"
    path.write_text('<svg viewBox="0 0 300 200" width="100%"></svg>')
    assert (embed(path).width, embed(path).height) == (300, 200)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.svg", None, "not found"),
        ("a.jpg", b"", "svg or .png"),
        ("a.png", b"no picture", "not a readable figure"),
        ("a.svg", b"<html></html>", "no <svg>"),
        ("a.svg", b"<svg></svg>", "viewBox"),
        ("a.svg", b"\xff\xfe", "not a readable figure"),
    ],
)
def test_a_figure_that_cannot_be_read_is_named(tmp_path, name, data, words):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=words) as caught:
        embed(path)
    assert caught.value.file == path


# ---- what ran where ------------------------------------------------------------------------------


def test_what_all_runs_share_is_said_once():
    rows = [{"run": f"a-m-{i}", "torch": "2.6", "threads": 1, "cuda": None} for i in range(63)]
    made = summarise_provenance(rows)
    assert [row.runs for row in made] == ["all 63 runs"] * 3
    assert [(row.what, row.value) for row in made] == [
        ("PyTorch", "2.6"),
        ("Threads", "1"),
        ("cuda", "unknown"),
    ]


def test_exceptions_are_listed_and_what_goes_by_data_set_is_said_by_it():
    rows = [
        {"run": f"{d}-{m}-{s}", "data_sha256": d.upper(), "precision": m, "sources_changed": False}
        for d in ("coco", "potsdam")
        for m in ("iic", "infoseg")
        for s in (0, 1)
    ]
    rows[3]["sources_changed"] = True
    made = {(row.what, row.value): row.runs for row in summarise_provenance(rows)}
    assert made == {
        ("Prepared images (SHA-256)", "COCO"): "data set coco",
        ("", "POTSDAM"): "data set potsdam",
        ("precision".capitalize(), "iic"): "method iic",
        ("", "infoseg"): "method infoseg",
        ("Sources changed since that commit", "no"): "7 of 8 runs",
        ("", "yes"): "coco-infoseg-1",
    }


# ---- deviations ----------------------------------------------------------------------------------


def test_the_repositorys_own_tables_are_found():
    rows = read_deviations(find_root(Path(__file__).parent) / "docs/deviations.md")
    assert len(rows) > 15
    assert all(all(row) for row in rows)
    assert any("Eq. 8" in row.what for row in rows)


PAGE = f"""# Title

| what | paper | here | why |
|---|---|---|---|
| not | this | one | here |

## {HEADING}

Words.

| what | paper | here | why |
|:---|---|---|---|
| steps | none | 10 \\| 20 in [`losses.py`](infoseg/losses.py) | speed |

More words.

| what | paper | here | why |
|---|---|---|---|
| tau | 0.8 | **0.5** | speed |

## Next

| what | paper | here | why |
|---|---|---|---|
| nor | this | one | here |
"""


def test_every_table_below_the_heading_is_read_and_none_else(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    assert read_deviations(path) == [
        Deviation("Steps", "none", "10 | 20 in `losses.py`", "speed"),
        Deviation("Tau", "0.8", "0.5", "speed"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (HEADING, "Another heading", "has no heading"),
        ("| what | paper | here | why |\n|:---", "| what | colour | here | why |\n|:---", "colour"),
        ("| **0.5** |", "| 0.5 | 0.6 |", "row of 5 cells: tau"),
    ],
)
def test_a_table_that_cannot_be_read_whole_is_an_error(tmp_path, old, new, words):
    path = tmp_path / "page.md"
    path.write_text(PAGE.replace(old, new))
    with pytest.raises(DataError, match=words):
        read_deviations(path)
    path.write_text(f"## {HEADING}\n\nNo table.\n")
    with pytest.raises(DataError, match="no table"):
        read_deviations(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_deviations(tmp_path / "absent.md")
