"""Tables and figures: the paper's numbers as printed, exact cells, the same bytes twice."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from infoseg.diagnostics import FORMAT, summarise
from infoseg.errors import DataError
from infoseg.reporting import figures, palette, panels, published, tables
from infoseg.reporting.markup import escape_latex, latex, markdown
from infoseg.settings import Run

# Tables 1 and 2 as they stand in the paper's text.
PRINTED_1 = """
Method       COCO-Persons COCO-Stuff COCO-Stuff-3 Potsdam Potsdam-3
Random-CNN   52.3 19.4 37.3 28.3 38.2
K-Means      54.3 14.1 52.2 35.3 45.7
Doersch      55.6 23.1 47.5 37.2 49.6
Isola        57.5 24.3 54.0 44.9 63.9
IIC          57.1 27.7 72.3 45.4 65.1
AC           -    30.8 72.9 49.3 66.5
InMARS       -    31.0 73.1 47.3 70.1
InfoSeg      69.6 38.8 73.8 57.3 71.6
"""
PRINTED_2 = {
    ("IIC-MI", "-"): 60.2,
    ("DV", "Hard Assignment"): 53.9,
    ("DV", "Soft Assignment"): 55.1,
    ("JSD", "Hard Assignment"): 67.3,
    ("JSD", "Soft Assignment"): 73.8,
}
NUMBERS = ("PA", "mIoU")
CAPTION = "Rendered scenes (profile demo), 100% made up: not the paper's data"


# ---- published numbers ---------------------------------------------------------------------------


def test_every_cell_of_the_papers_tables():
    head, *lines = [line.split() for line in PRINTED_1.strip().splitlines()]
    cells = 0
    for method, *values in lines:
        for dataset, value in zip(head[1:], values, strict=True):
            expected = None if value == "-" else float(value)
            row = method.replace("Random-CNN", "Random CNN")
            assert published.published(row, dataset) == expected, (method, dataset)
            cells += 1
    assert cells == 40
    for (measure, assignment), value in PRINTED_2.items():
        assert published.published_table2(measure, assignment) == value
    assert published.published_table2("DV", "-") is None


def test_published_knows_no_other_data_set_but_rejects_other_rows():
    assert published.published("InfoSeg", "My holiday pictures") is None
    with pytest.raises(DataError, match=r"no row 'Infoseg'.*InMARS"):
        published.published("Infoseg", "Potsdam")


def table1_markdown(frame: pd.DataFrame, caption: str, papers_data: bool = False) -> str:
    return markdown(tables.table1_grid(frame, caption, papers_data))


def table1_latex(frame: pd.DataFrame, caption: str) -> str:
    return latex(tables.table1_grid(frame, caption), "tab:table1")


# ---- table 1 -------------------------------------------------------------------------------------


def part(pa: float, miou: float = 40.0, usage=(0.6, 0.395, 0.005), **changes) -> dict:
    whole = {
        "pa": pa,
        "miou": miou,
        "permutation_gap": 3.0,
        "within_image_chance": 50.0,
        "many_to_one_pa": pa + 2,
        "constant_pa": 41.0,
        "cluster_usage": list(usage),
        "clusters_used": sum(share > 0.01 for share in usage),
        "iou": {"a": pa, "b": 2.0, "c": None},
        "groups": [[pa, 100]],
    }
    half = whole | {"pa": pa - 1, "miou": miou - 1, "iou": {"a": pa - 1}, "groups": [[pa - 1, 50]]}
    return whole | {"halves": {"chosen": {"pa": pa + 1}, "reported": half}} | changes


TRIVIAL = {"one class": part(41.0, 20.0), "equal stripes": part(35.0, 25.0)}


def evaluation(dataset="stuff3", method="infoseg", seed=0, pa=70.0, **changes) -> dict:
    titles = {"stuff3": "COCO-Stuff-3", "persons": "COCO-Persons", "mine": "My_100% & more"}
    rows = {"infoseg": "InfoSeg", "iic": "IIC", "ac": "AC", "paired": "InfoSeg", "new": None}
    return {
        "format": FORMAT,
        "dataset": dataset,
        "method": method,
        "seed": seed,
        "dataset_title": titles[dataset],
        "method_title": {"paired": "InfoSeg (Eq. 8 as written)", "new": "New|one"}.get(
            method, rows[method]
        ),
        "paper_row": rows[method],
        "uses_mask": method == "iic",
        "notes": ["a reconstruction"] if dataset == "persons" else [],
        "start": part(pa - 20) if method == "infoseg" else None,
        "last": part(pa),
        "best": part(pa + 5),
        "diverged": "",
    } | changes


@pytest.fixture
def evaluations() -> list[dict]:
    # Not in the order of the table, so that order has to come from the arguments.
    return [
        evaluation("persons", "iic", 0, 55.0),
        evaluation("stuff3", "infoseg", 2, 76.0),
        evaluation("stuff3", "infoseg", 0, 70.0),
        evaluation("stuff3", "infoseg", 1, 73.0),
        evaluation("stuff3", "iic", 0, 60.04),
        evaluation("persons", "infoseg", 0, 55.02),
        evaluation("persons", "ac", 0, 51.0),
        evaluation("stuff3", "ac", 0, 50.0),
    ]


@pytest.fixture
def frame(evaluations) -> pd.DataFrame:
    trivial = dict.fromkeys(["persons", "stuff3"], TRIVIAL)
    return tables.table1(evaluations, list(trivial), ["iic", "ac", "infoseg"], trivial=trivial)


def test_table1_has_the_given_order_and_columns(frame):
    rows = ("iic", "ac", "infoseg", *tables.TRIVIAL)
    pairs = [(d, m) for d in ("persons", "stuff3") for m in rows]
    assert list(zip(frame["dataset"], frame["method"], strict=True)) == pairs
    contract = "dataset,method,pa_mean,pa_std,miou_mean,miou_std,n_seeds,iou,paper_pa"
    assert list(frame.columns[:9]) == contract.split(",")


def test_table1_takes_mean_and_sample_std_over_seeds(frame):
    row = frame.set_index(["dataset", "method"]).loc[("stuff3", "infoseg")]
    assert row["pa_mean"] == pytest.approx(73.0)
    assert row["pa_std"] == pytest.approx(3.0)  # the population's would be 2.449
    assert row["miou_std"] == 0
    assert row["pa_start_mean"] == pytest.approx(53.0)
    assert row["pa_best_mean"] == pytest.approx(78.0)
    assert row["pa_chosen_mean"] == pytest.approx(74.0)
    assert row["pa_reported_mean"] == pytest.approx(72.0)
    assert row["pa_all_mean"] == pytest.approx(73.0)
    assert row["iou"] == "a 73.0; b 2.0; c –" and row["groups"].tolist() == [[73, 100]]
    assert (row["n_seeds"], row["seeds"], row["paper_pa"]) == (3, "0 1 2", 73.8)
    assert row["clusters_used_mean"] == 2  # the third holds half a percent
    assert (row["permutation_gap_mean"], row["constant_pa"]) == (3.0, 41.0)


def test_table1_of_half_the_pictures(evaluations):
    frame = tables.table1(evaluations, ["stuff3"], ["infoseg"], None, {"stuff3": TRIVIAL}, "half")
    columns = ["pa_mean", "pa_std", "pa_all_mean", "miou_mean", "iou"]
    ours, _, stripes = frame[columns].values.tolist()
    assert (ours, stripes[0]) == ([72, 3, 73, 39, "a 72.0"], 34)
    assert frame["groups"][0].tolist() == [[72, 50]]


def test_table1_leaves_unknown_numbers_empty(frame):
    at = frame.set_index(["dataset", "method"])
    assert np.isnan(at.loc[("persons", "iic"), "pa_std"])  # one seed
    assert np.isnan(at.loc[("persons", "ac"), "paper_pa"])  # the paper's dash
    assert np.isnan(at.loc[("persons", "ac"), "pa_start_mean"])  # nothing was trained
    assert (frame["uses_mask"] == (frame["method"] == "iic")).all()


def test_missing_run_names_the_stages_to_run(evaluations):
    runs = [Run(dataset="stuff3", method="infoseg", seed=s) for s in (0, 1, 2, 7)]
    with pytest.raises(DataError, match="of stuff3-infoseg-7. .*evaluate@stuff3`") as info:
        tables.table1(evaluations, ["stuff3"], ["infoseg"], runs)
    assert "infoseg-0" not in str(info.value)
    # Without a list of runs, a row nobody evaluated is missing all the same.
    with pytest.raises(DataError, match="of stuff3-paired-0. .*evaluate@stuff3`"):
        tables.table1(evaluations, ["stuff3"], ["infoseg", "paired"])


def test_only_the_wanted_runs_count(evaluations):
    runs = [Run(dataset="stuff3", method="infoseg", seed=s) for s in (0, 1)]
    frame = tables.table1(evaluations, ["stuff3"], ["infoseg"], runs)
    assert (frame.loc[0, "pa_mean"], frame.loc[0, "n_seeds"]) == (pytest.approx(71.5), 2)


def test_repeated_or_foreign_evaluations_are_errors(evaluations):
    with pytest.raises(DataError, match="two evaluations of persons-iic-0"):
        tables.table1([*evaluations, evaluations[0]], ["persons"], ["iic"])
    with pytest.raises(DataError, match="format 1.*evaluate@persons`"):
        tables.table1([evaluations[0] | {"format": 1}], ["persons"], ["iic"])


def parsed(text: str) -> list[dict[str, list[str]]]:
    """The tables of a Markdown text: row title → cells, header under ''."""
    found: list[dict[str, list[str]]] = []
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if len(lines) > 2 and lines[0].startswith("|"):
            cells = [
                [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
                for line in lines
                if not line.startswith("|:")
            ]
            found.append({c[0]: c[1:] for c in cells[1:]} | {"": cells[0][1:]})
    return found


def test_markdown_reads_back(frame):
    heads = [f"{name}, {what}" for name in ("COCO-Persons", "COCO-Stuff-3") for what in NUMBERS]
    ours, paper = parsed(table1_markdown(frame, CAPTION))
    assert ours == {
        "": heads,
        "IIC†": ["55.0", "40.0", "60.0", "40.0"],
        "AC": ["51.0", "40.0", "50.0", "40.0"],
        "InfoSeg": ["55.0", "40.0", "**73.0** ± 3.0", "**40.0** ± 0.0"],
        "*One class everywhere*": ["41.0", "20.0"] * 2,
        "*Equal horizontal stripes*": ["35.0", "25.0"] * 2,
    }
    assert paper == {
        "": heads,
        "IIC": ["57.1", "–", "72.3", "–"],
        "AC": ["–", "–", "72.9", "–"],
        "InfoSeg": ["69.6", "–", "73.8", "–"],
    }


@pytest.mark.parametrize(
    ("iic", "infoseg", "floor", "bold"),
    [
        ((68, 70, 72), (70, 73, 76), 69.9, [False, True]),
        ((68, 70, 72), (70, 73, 76), 70.1, [False, False]),
        ((70, 72, 74), (64, 72.02, 80), 69.9, [True, False]),  # equal as printed
        ((60,), (90,), 41.0, [False, False]),  # one seed has no spread
    ],
)
def test_bold_is_the_best_above_trivial_answers_by_more_than_its_spread(iic, infoseg, floor, bold):
    runs = [evaluation("mine", "iic", i, pa) for i, pa in enumerate(iic)]
    runs += [evaluation("mine", "infoseg", i, pa) for i, pa in enumerate(infoseg)]
    trivial = {"mine": {"one class": part(30.0), "equal stripes": part(floor)}}
    frame = tables.table1(runs, ["mine"], ["iic", "infoseg"], trivial=trivial)
    rows = tables.table1_grid(frame, CAPTION).blocks[0].rows
    assert [[cell.bold for cell in cells] for _, cells in rows] == [[b, False] for b in bold]


def test_the_papers_numbers_stand_apart_and_the_caption_on_top(frame):
    text = table1_markdown(frame, CAPTION)
    assert text.startswith(f"**{CAPTION}**\n")
    before, after = text.split(tables.PUBLISHED_HEADING)
    assert "73.8" in after and "73.8" not in before
    assert "n = 1 seed per cell; n = 3 for InfoSeg on COCO-Stuff-3; mean ±" in after
    assert "† sees which pixels are annotated" in after
    assert "COCO-Persons: a reconstruction." in after
    for blank in ("", "  "):
        with pytest.raises(ValueError, match="caption"):
            table1_markdown(frame, blank)


def test_the_difference_to_the_paper_stands_below_the_papers_own_data_alone(frame):
    assert "Ours less" not in table1_markdown(frame, CAPTION)
    *_, paper, difference = parsed(table1_markdown(frame, CAPTION, papers_data=True))
    assert paper["InfoSeg"] == ["69.6", "–", "73.8", "–"]
    assert difference["InfoSeg"] == ["-14.6", "–", "-0.8", "–"]
    assert difference["AC"] == ["–", "–", "-22.9", "–"]


def test_no_block_of_the_paper_for_data_it_does_not_have():
    frame = tables.table1([evaluation("mine", "infoseg")], ["mine"], ["infoseg"])
    for text in (table1_markdown(frame, CAPTION), table1_latex(frame, CAPTION)):
        assert "Printed by" not in text
        assert "±" not in text and r"\pm" not in text  # one seed has no spread


def test_one_paper_row_for_two_readings_of_it():
    both = [evaluation(method=m, pa=p) for m, p in (("paired", 40.0), ("infoseg", 70.0))]
    frame = tables.table1(both, ["stuff3"], ["paired", "infoseg"])
    _, paper = parsed(table1_markdown(frame, CAPTION))
    assert paper == {"": ["COCO-Stuff-3, PA", "COCO-Stuff-3, mIoU"], "InfoSeg": ["73.8", "–"]}


def test_latex_is_well_formed(evaluations):
    hostile = [*evaluations, evaluation("mine", "iic"), evaluation("mine", "ac")]
    hostile += [evaluation("mine", "infoseg")]
    trivial = dict.fromkeys(["persons", "stuff3", "mine"], TRIVIAL)
    frame = tables.table1(hostile, list(trivial), ["iic", "ac", "infoseg"], trivial=trivial)
    text = table1_latex(frame, CAPTION)
    bare = re.sub(r"\\[{}&%#_$]", "", text)  # escaped characters are no syntax
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    begins = re.findall(r"\\begin\{(\w+)\}", text)
    assert begins == re.findall(r"\\end\{(\w+)\}", text)[::-1] == ["table", "tabular"]
    rows = [line for line in bare.splitlines() if line.endswith(r"\\")]
    spanning = [line for line in rows if "multicolumn" in line]
    assert len(spanning) == 1 and not any("&" in line for line in spanning)
    plain = [line for line in rows if line not in spanning]
    assert [line.count("&") for line in plain] == [6] * (1 + 3 + 2 + 3)
    assert r"My\_100\% \& more" in text
    assert r"InfoSeg & 55.0 & 40.0 & \textbf{73.0} $\pm$ 3.0 & \textbf{40.0} $\pm$ 0.0 &" in text
    assert r"IIC\textsuperscript{\dag} & " in text
    assert r"AC & -- & -- & 72.9 & -- & -- & -- \\" in text
    assert all("%" not in line for line in bare.splitlines()[1:])


def test_escaping():
    assert escape_latex(r"a_b & 5% \x {y} ~^#$") == (
        r"a\_b \& 5\% \textbackslash{}x \{y\} \textasciitilde{}\textasciicircum{}\#\$"
    )
    frame = tables.table1([evaluation("mine", "new")], ["mine"], ["new"])
    [ours] = parsed(table1_markdown(frame, CAPTION))
    assert ours[r"New\|one"] == ["70.0", "40.0"]
    assert ours[""] == [rf"My\_100% & more, {name}" for name in NUMBERS]


def test_files_are_rounded_whole_and_the_same_twice(evaluations, tmp_path):
    evaluations[4]["last"]["pa"] = 200 / 3
    arguments = (["persons", "stuff3"], ["iic", "ac", "infoseg"])
    first = tables.write_table1(tables.table1(evaluations, *arguments), tmp_path / "a", CAPTION)
    again = tables.table1(evaluations[::-1], *arguments)  # order of files must not matter
    second = tables.write_table1(again, tmp_path / "b", CAPTION)
    assert [p.name for p in first] == ["table1.csv", "table1.md", "table1.tex"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(p.name for p in first)
    text = first[0].read_bytes().decode()
    assert "\r" not in text and "groups" not in text
    rows = {(r["dataset"], r["method"]): r for r in csv.DictReader(io.StringIO(text))}
    assert rows["stuff3", "iic"]["pa_mean"] == "66.6667"
    assert rows["stuff3", "iic"]["pa_std"] == rows["persons", "ac"]["paper_pa"] == ""
    assert rows["stuff3", "infoseg"]["n_seeds"] == "3"


# ---- palette -------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)


def least_distance(n: int, matrix: np.ndarray) -> float:
    """Smallest CIEDE2000 among the first n colours, black and grey, as an eye sees them."""
    rgb = np.vstack([palette.class_colours(n), [palette.BLACK, palette.GREY]]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ matrix.T, 0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(back[None])[0]
    i, j = np.triu_indices(len(lab), 1)
    return float(deltaE_ciede2000(lab[i], lab[j]).min())


@pytest.mark.parametrize(("n", "normal", "colour_blind"), [(8, 20, 10), (15, 15, 10), (27, 12, 7)])
def test_colours_can_be_told_apart(n, normal, colour_blind):
    assert least_distance(n, np.eye(3)) > normal
    assert least_distance(n, DEUTERANOPIA) > colour_blind


def test_colourise():
    labels = np.array([[0, 1], [palette.UNMATCHED, palette.IGNORED]], dtype=np.uint8)
    painted = palette.colourise(labels)
    assert painted.dtype == np.uint8 and painted.shape == (2, 2, 3)
    colours = palette.class_colours(2)
    expected = [[colours[0], colours[1]], [palette.GREY, (0, 0, 0)]]
    assert (painted == np.array(expected)).all()
    assert (palette.colourise(labels.astype(np.int64)) == painted).all()


@pytest.mark.parametrize("value", [27, 253, 256, -1])
def test_colourise_refuses_what_is_no_label(value):
    with pytest.raises(ValueError, match=f"label {value} "):
        palette.colourise(np.full((2, 2), value))
    with pytest.raises(ValueError, match="for 28"):
        palette.class_colours(28)


def test_index_png_looks_like_colourise(tmp_path):
    labels = np.array([[0, 5, 26], [254, 255, 1]], dtype=np.uint8)
    image = Image.fromarray(labels)
    image.putpalette(palette.png_palette())
    image.save(tmp_path / "labels.png")
    saved = Image.open(tmp_path / "labels.png")
    assert (np.asarray(saved) == labels).all()
    assert (np.asarray(saved.convert("RGB")) == palette.colourise(labels)).all()


def test_legend_has_the_colours_of_the_map():
    handles = palette.legend_handles(["a", "b"], unmatched=True, ignored=True)
    assert [h.get_label() for h in handles] == ["a", "b", "no class", "not annotated"]
    shown = np.array([np.round(np.array(h.get_facecolor()[:3]) * 255) for h in handles])
    assert (shown == palette.colourise(np.array([[0, 1, 254, 255]]))[0]).all()


# ---- figures -------------------------------------------------------------------------------------


def panel(classes=3, channels=3, title="COCO-Stuff-3", letter="a", rows=("Prediction",), side=24):
    rng = np.random.default_rng(classes)
    image = rng.integers(0, 256, (side, side, channels), dtype=np.uint8)
    annotation = rng.integers(0, classes, (side, side))
    annotation[:3] = palette.IGNORED
    predictions = {row: rng.integers(0, classes, (side, side)) for row in rows}
    names = [f"class {i}" for i in range(classes)]
    return figures.Panel(title, letter, image, predictions, annotation, names)


def pictures(figure) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes]


@pytest.mark.parametrize(("classes", "channels"), [(1, 3), (2, 4), (15, 3)])
def test_figure4_rows_and_masking(classes, channels):
    drawn = panel(classes, channels)
    image, prediction, annotation = pictures(figures.draw_panels([drawn]))
    assert (image == drawn.image[..., :3]).all()
    assert (annotation == palette.colourise(drawn.annotation)).all()
    assert (prediction[:3] == 0).all()  # the prediction there is a class, the annotation is not
    expected = palette.colourise(drawn.predictions["Prediction"])
    assert (prediction[3:] == expected[3:]).all()


def test_figure4_groups_bands_and_letters():
    letters = "abcdefghijkl"
    many = [panel(3, 3, f"set {i // 5}", letters[i], side=8) for i in range(12)]
    figure = figures.draw_panels(many)
    texts = [t.get_text() for t in figure.texts]
    assert [t for t in texts if t.startswith("(")] == [f"({x})" for x in letters]
    assert [t for t in texts if t.startswith("set")] == ["set 0", "set 1", "set 2"]
    assert texts.count("Annotation") == 2  # five and five are too many for one band of eight
    assert len(figure.legends) == 3 and len(figure.axes) == 36


def test_comparison_of_methods_and_its_errors():
    rows = ("K-Means", "InfoSeg")
    figure = figures.draw_panels([panel(rows=rows), panel(letter="b", rows=rows)])
    titles = [t.get_text() for t in figure.texts if t.get_rotation() == 90]
    assert titles == ["Image", "K-Means", "InfoSeg", "Annotation"]
    with pytest.raises(ValueError, match=r"panel \(b\) of COCO-Stuff-3 has the rows"):
        figures.draw_panels([panel(rows=rows), panel(letter="b")])
    with pytest.raises(ValueError, match="at least one"):
        figures.draw_panels([])
    good = panel()
    with pytest.raises(ValueError, match=r"annotation is \(2, 2\)"):
        figures.Panel("x", "a", good.image, {}, np.zeros((2, 2), int), good.classes)
    with pytest.raises(ValueError, match="Prediction has id 2"):
        figures.Panel("x", "a", good.image, good.predictions, good.annotation, ["a", "b"])


def test_unmatched_clusters_are_grey_and_in_the_legend():
    drawn = panel()
    drawn.predictions["Prediction"][5:] = palette.UNMATCHED
    figure = figures.draw_panels([drawn])
    assert (pictures(figure)[1][5:] == palette.GREY).all()
    assert "no class" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_figure4_files_are_small_and_the_same_twice(tmp_path):
    shown = [panel(15, 3, letter=x, side=64) for x in "ab"]
    first = figures.figure4(shown, tmp_path / "figure4")
    second = figures.figure4(shown, tmp_path / "again")
    assert [p.name for p in first] == ["figure4.png", "figure4.svg"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert len(list(tmp_path.iterdir())) == 4
    svg = first[1].read_text()
    assert svg.count("<image") == 6
    assert "<dc:date>" not in svg and "Rows: Image, Prediction, Annotation" in svg


def test_svg_of_noise_is_reduced_below_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(panels, "SVG_LIMIT", 60_000)
    _, svg = figures.figure4([panel(15, 3, letter=x, side=96) for x in "a"], tmp_path / "f")
    assert svg.stat().st_size < 60_000
    assert 'width="96' not in svg.read_text()


def test_training_curve_with_and_without_loss():
    history = pd.DataFrame(
        {"step": [1, 2, 3, 4], "loss": [1.0, 0.8, None, 0.5], "pa": [None, 70.0, 80.0, 60.0]}
    )
    loss, accuracy = figures.training_curve(history).axes
    assert list(loss.lines[0].get_ydata()) == [1.0, 0.8, 0.5]
    assert list(accuracy.lines[0].get_xdata()) == [2, 3, 4]
    assert [t.get_text() for t in accuracy.texts] == ["best 80.0 (step 3)"]
    fitted = pd.DataFrame({"step": [0], "loss": [None], "pa": [52.0]})
    (alone,) = figures.training_curve(fitted).axes
    assert [t.get_text() for t in alone.texts] == ["best 52.0 (step 0)"]
    with pytest.raises(ValueError, match="neither"):
        figures.training_curve(fitted.assign(pa=None))


def heatmap_values(figure) -> np.ndarray:
    mesh = figure.axes[0].collections[0]
    return np.ma.filled(mesh.get_array().astype(float), np.nan)


def test_confusion_rows_are_classes_and_sum_to_100():
    confusion = [[1, 30, 0], [8, 10, 0], [1, 0, 0], [0, 60, 0]]
    match = {"0": None, "1": "a", "2": None, "3": "b"}
    figure = figures.confusion_heatmap(
        {"iou": {"a": 1.0, "b": 1.0, "c": None}, "match": match, "confusion": confusion}
    )
    values = heatmap_values(figure).reshape(3, 5)
    assert values[:2] == pytest.approx(np.array([[80, 0, 0, 10, 10], [10, 60, 0, 30, 0]]))
    assert np.isnan(values[2]).all()  # c is not annotated anywhere
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    labels = [t.get_text() for t in ax.get_xticklabels()]
    assert labels == ["a", "b", "c", "cluster 0", "cluster 2"]
    assert "80" in [t.get_text() for t in ax.texts]


@pytest.mark.parametrize("classes", [1, 8, 9, 15])
def test_charts_run_for_any_number_of_classes(classes, tmp_path):
    names = [f"class {i}" for i in range(classes)]
    counts = 1 + np.random.default_rng(0).integers(0, 9, (4, classes, classes))
    summary = summarise(counts, list("abcd"), names)
    figure = figures.confusion_heatmap(summary)
    assert bool(figure.axes[0].texts) == (classes <= figures.ANNOTATE_UP_TO)
    shares = figures.class_shares(summary["confusion"][0], names, 100)
    bars = [bar.get_width() for bar in shares.axes[0].patches]
    assert len(bars) == classes and sum(bars) == pytest.approx(100)
    assert figures.save_figure(shares, tmp_path / "shares.png").stat().st_size > 0


def test_class_shares_needs_an_annotation():
    with pytest.raises(ValueError, match="no pixel"):
        figures.class_shares([0, 0], ["a", "b"])


def test_chart_svg_has_the_same_bytes_twice(tmp_path):
    def chart():
        return figures.class_shares([3, 1], ["a", "b"], 100)

    paths = [figures.save_figure(chart(), tmp_path / name, "Shares") for name in ("a.svg", "b.svg")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert "Shares" in paths[0].read_text()
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        figures.save_figure(chart(), tmp_path / "a.pdf")
