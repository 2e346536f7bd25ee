"""The report page and its tables: whole by itself, escaped, the same bytes every time."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoseg.errors import DataError
from infoseg.files import find_root
from infoseg.reporting.claims import FAILS, HOLDS, NOT_RUN, OPEN, Claim
from infoseg.reporting.deviations import HEADING
from infoseg.reporting.embed import embed
from infoseg.reporting.markup import Block, Grid, cell, html
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
        deviations=[Deviation("Steps", "not stated", "fixed by `optimiser.steps`", "budget")],
    )


def tags(text: str) -> list[tuple[str, str]]:
    """Every opening tag and its attributes, as written; the tags are balanced."""
    found, inside = [], []
    for closing, name, attributes in re.findall(r"<(/?)([a-z]\w*)([^>]*)>", text):
        if closing:
            assert inside.pop() == name
        else:
            found.append((name, attributes))
            inside += [name] * (name not in ("meta", "img"))
    assert not inside
    return found


def words(text: str) -> str:
    return " ".join(unescape(re.sub(r"(?s)<style>.*?</style>|<[^>]*>", " ", text)).split())


def test_it_stands_by_itself(content):
    text = render_report(content)
    names, attributes = zip(*tags(text), strict=True)
    assert set(names).isdisjoint({"script", "link", "iframe", "object", "svg"})
    assert not re.search(r"https?://|@import|url\(", text)
    for one in attributes:
        assert not re.search(r"\son\w+=", one)
        assert not re.search(r'\s(src|srcset|data|poster)="(?!data:)', one)
    everywhere = " ".join(attributes)
    ids = re.findall(r'\bid="([^"]*)"', everywhere)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'\blabelledby="([^"]*)"', everywhere)) <= set(ids)
    links = re.findall(r'\bhref="([^"]*)"', everywhere)
    within = [link[1:] for link in links if link.startswith("#")]
    assert len(within) == 6 and set(within) <= set(ids)
    outside = [link for link in links if not link.startswith("#")]
    assert outside == ["timing.csv"]
    shown = re.findall(r'alt="([^"]*)"', everywhere)
    assert shown == ["Pictures in columns.", "Four panels.", "Bars."]
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_everything_that_was_given_is_told(content):
    told = words(render_report(content))
    for said in (
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
    ):
        assert said in told, said


def test_numbers_that_are_not_the_papers_are_never_shown_as_if(content):
    def warning(**changes) -> str:
        told = words(render_report(replace(content, **changes)))
        return told.split("On this page")[0] if "cannot be compared" in told else ""

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
            deviations=[Deviation(bad, bad, bad, bad)],
        )
    )
    assert {name for name, _ in tags(text)}.isdisjoint({"b", "i"})
    assert '<b>"bold"</b> & <i>code</i>' in words(text)  # backticks became code
    assert bad in [unescape(alt) for alt in re.findall(r'alt="([^"]*)"', text)]


def test_empty_sections_are_left_out(content):
    bare = render_report(ReportContent("T", "demo", "d", "rendered scenes", True, timing=""))
    assert [name for name, _ in tags(bare)].count("h2") == 1 and "<a " not in bare
    quiet = render_report(replace(content, signs=[("coco-iic-0", [])]))
    assert "No run shows one" in words(quiet)


def test_it_has_the_same_bytes_twice_and_names_no_place(content, tmp_path):
    first = write_report(content, tmp_path / "a" / "report.html").read_bytes()
    second = write_report(content, tmp_path / "b" / "report.html").read_bytes()
    assert first == second and b"\r" not in first
    assert str(tmp_path).encode() not in first


@pytest.mark.parametrize("link", ["/tmp/a.csv", "file:///a.csv", "//host/a", "https://a.b/c"])
def test_the_link_is_to_a_file_beside_the_page_only(content, link):
    with pytest.raises(ValueError, match="relative"):
        replace(content, timing=link)


def test_a_figure_without_words_is_refused(content):
    with pytest.raises(ValueError, match="alternative text"):
        replace(content, figures=[ReportFigure("F", content.figures[0].path, " ")])


TABLE = Grid(
    ["Method", "COCO", "Potsdam"],
    [
        Block([("K-Means", [cell(52.43, 0.09), cell(35.1)]), ("InfoSeg", [cell(70), cell(57.3)])]),
        Block([("One class", [cell(41.5), cell(37.3)])], italic=True),
        Block([("InfoSeg", [cell(73.8, bold=True), cell(float("nan"))])], heading="Printed"),
    ],
    "Accuracy on test data.",
    ["First note.", "Second note."],
)


def test_every_number_stands_below_its_column_and_beside_its_row():
    text = html(TABLE)
    names = [name for name, _ in tags(text)]
    assert names.count("table") == 1 and names.count("tbody") == 3 and names.count("p") == 2
    rows = [re.findall(r"<t[hd].*?</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", text)]
    assert [[words(one) for one in row] for row in rows] == [
        TABLE.columns,
        ["K-Means", "52.4 ± 0.1", "35.1"],
        ["InfoSeg", "70.0", "57.3"],
        ["One class", "41.5", "37.3"],
        ["Printed"],
        ["InfoSeg", "73.8", "–"],
    ]
    assert re.findall(r'scope="(\w+)"', text) == ["col"] * 3 + ["row"] * 3 + ["rowgroup", "row"]
    assert 'colspan="3"' in rows[4][0] and "<strong>73.8</strong>" in text
    # A spread keeps its room in every row of its column, and in that column alone.
    assert text.count('class="spread"') == 4


def test_titles_and_notes_of_a_table_are_escaped():
    bad = '<script>alert("1")</script> & "quoted"'
    text = html(Grid([bad, bad], [Block([(bad, [cell(1.0)])], heading=bad)], bad, [bad]))
    assert "script" not in [name for name, _ in tags(text)]
    assert words(text).count(bad) == 6 and bad in unescape(tags(text)[0][1])


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
