"""A grid as HTML: the same numbers as in Markdown, proper headings, nothing unescaped."""

from __future__ import annotations

from pages import Page

from infoseg.reporting.markup import Block, Grid, cell, html

GRID = Grid(
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
    page = Page(html(GRID))
    scopes = [attributes["scope"] for attributes in page.all("th")]
    assert scopes == ["col"] * 3 + ["row"] * 3 + ["rowgroup"] + ["row"]
    assert page.text("td") == ["52.4", "35.1", "70.0", "57.3", "41.5", "37.3", "–"]
    assert page.text("strong") == ["73.8"] and page.text("em") == ["One class"]
    assert page.all("th")[6]["colspan"] == "3"
    assert len(page.all("tbody")) == 3 and len(page.all("table")) == 1
    assert page.text("p") == ["First note.", "Second note."]


def test_the_caption_names_the_table_and_the_container_that_scrolls():
    page = Page(html(GRID))
    container = page.tags[0][1]
    assert container["aria-label"] == GRID.caption and container["role"] == "region"
    assert container["tabindex"] == "0" and "overflow-x: auto" in container["style"]
    assert [tag for tag, _ in page.tags][1:4] == ["table", "caption", "span"]


def test_a_spread_in_a_column_keeps_its_room_in_every_row_of_that_column_alone():
    page = Page(html(GRID))
    assert html(GRID).count('class="spread"') == 4  # the rows of one column
    assert "± 0.1" in page.text("span")


def test_titles_and_notes_are_escaped():
    bad = '<script>alert("1")</script> & "quoted"'
    grid = Grid([bad, bad], [Block([(bad, [cell(1.0)])], heading=bad)], bad, [bad])
    text = html(grid)
    assert "<script" not in text
    page = Page(text)
    assert page.all("script") == [] and page.words.count(bad) == 6
    assert page.tags[0][1]["aria-label"] == bad


def test_it_is_the_same_text_every_time():
    assert html(GRID) == html(GRID)
