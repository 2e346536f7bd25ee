"""Tables, claims, figures, the report: rules of the cells, the same bytes, no address outside."""

from __future__ import annotations

import json
import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from skimage.color import deltaE_ciede2000, rgb2lab

from infoseg.diagnostics import FORMAT, LOOKS, summarise
from infoseg.files import DataError, InfosegError, TrainingError, write_json
from infoseg.pipeline import execute, main, page, with_results
from infoseg.results import figures, palette, tables
from infoseg.runs import Project
from infoseg.settings import TABLE2, compose, parse_params

#: The mean of nothing, for one, is none.
pytestmark = pytest.mark.filterwarnings("error:.*(empty slice|invalid value)")

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


def test_every_cell_of_the_papers_tables():
    head, *lines = [line.split() for line in PRINTED_1.strip().splitlines()]
    cells = {
        (method.replace("Random-CNN", "Random CNN"), dataset): math.nan if v == "-" else float(v)
        for method, *values in lines
        for dataset, v in zip(head[1:], values, strict=True)
    }
    assert len(cells) == 40
    pd.testing.assert_series_equal(
        tables.published(1).sort_index(),
        pd.Series(cells, name="paper_pa").rename_axis(["row", "column"]).sort_index(),
    )
    assert tables.published(2).to_dict() == PRINTED_2


# ---- a profile whose evaluations are noise -------------------------------------------------------

DATASET = "coco_stuff3"
METHODS = ["kmeans", "infoseg", "infoseg_rematched"]
CLASSES = ["sky", "plant", "ground"]


class Evaluated(Project):
    """A profile on one data set, neither data nor weights: evaluations are made up of noise.

    diverged: methods of which all seeds did, or pairs of a method and a seed. changes: to the
    ablations.
    """

    def __init__(self, folder, diverged=(), reported="all", **changes):
        tree = compose("tiny", [f"methods.infoseg.per_dataset.{DATASET}.seeds=[0,1,2]"])
        tree["profile"] |= {"datasets": [DATASET], "methods": METHODS, "reported": reported}
        tree["profile"]["ablations"] |= {"content": {}} | changes
        super().__init__(folder, parse_params(tree, "test"), ROOT)
        self.diverged = set(diverged)

    def load(self, dataset):
        return SimpleNamespace(meta=SimpleNamespace(classes=CLASSES, class_pixels=[5, 3, 2]))

    def made_beside(self, dataset, file):
        counts = np.random.default_rng(9).integers(1, 9, (8, 3, 3))
        trivial = summarise(counts, list("abcdefgh"), CLASSES)
        looks = dict.fromkeys(LOOKS, 50.0)
        rows = [{"method": "kmeans", "seed": s, "left_out": 40.0 + 2 * s} | looks for s in (0, 1)]
        rows.append({"method": "equal stripes"} | looks | {"upside_down": 30.0})
        content = {"trivial.json": dict.fromkeys(tables.TRIVIAL, trivial), "content.json": rows}
        write_json(self.folder / file, content[file])
        return self.folder / file

    def evaluation(self, run):
        settings = self.params.method(run.method, run.dataset)
        diverged = self.diverged & {run.method, (run.method, run.seed)}
        facts = {
            "format": FORMAT,
            **run.model_dump(),
            "dataset_title": self.params.datasets[run.dataset].title,
            "method_title": settings.title,
            "paper_row": settings.paper_row,
            "made_with": self.decides(run),
            "diverged": f"{run.key}: the loss became nan at step 9" if diverged else "",
            "notes": [],
        }
        if diverged:
            return facts
        last = self.last(run.seed)
        return facts | {"uses_mask": run.method == "kmeans", "start": None, "last": last} | {
            "best": last
        }  # fmt: skip

    def last(self, seed: int) -> dict:
        counts = np.random.default_rng(seed).integers(1, 9, (8, 3, 3))
        return summarise(counts, list("abcdefgh"), CLASSES) | {"assignment_entropy": 0.5}

    def tables(self, monkeypatch) -> dict[str, pd.DataFrame]:
        """What notebook 4 writes."""
        monkeypatch.setattr(Project, "open", lambda *arguments: self)
        execute(ROOT / "notebooks/04_tables.ipynb", {})
        return {path.stem: pd.read_csv(path) for path in self.results.glob("tables/*.csv")}


def test_table_1_has_mean_and_sample_deviation_over_seeds(tmp_path, monkeypatch):
    project = Evaluated(tmp_path)
    table = project.tables(monkeypatch)["table1"].set_index("method")
    assert list(table.index) == [*METHODS, *tables.TRIVIAL]
    lasts = [project.last(seed) for seed in (0, 1, 2)]
    names = {"pa": "pa_mean", "miou": "miou_mean", "many_to_one_pa": "many_to_one_mean"}
    for name, column in names.items():
        expected = np.mean([last[name] for last in lasts])
        assert table.loc["infoseg", column] == pytest.approx(expected, abs=1e-4)
    pa = [last["pa"] for last in lasts]
    assert table.loc["infoseg", "pa_std"] == pytest.approx(np.std(pa, ddof=1), abs=1e-4)
    assert table.loc["infoseg", "paper_pa"] == 73.8  # COCO-Stuff-3's
    difference = table.loc["infoseg", "pa_mean"] - 73.8
    assert table.loc["infoseg", "difference"] == pytest.approx(difference, abs=1e-3)
    sky = np.mean([last["iou"]["sky"] for last in lasts])
    assert table.loc["infoseg", "iou"].startswith(f"sky {sky:.1f}; plant ")
    assert math.isnan(table.loc["kmeans", "pa_std"])
    assert table["n_seeds"].tolist() == [1, 3, 3, 1, 1]
    assert table["seeds"].astype(str).tolist()[1] == "0 1 2"
    text = (project.results / "tables/table1.md").read_text()
    assert "| K-Means†" in text and "| *One class everywhere*" in text
    assert text.count("|:---") == 1 and f"± {np.std(pa, ddof=1):.1f} |" in text
    assert text.count("(n = 1)") == 1  # K-Means


def test_table_1_of_half_the_pictures(tmp_path, monkeypatch):
    project = Evaluated(tmp_path, reported="half")
    table = project.tables(monkeypatch)["table1"].set_index("method")
    halves = [project.last(seed)["halves"]["reported"]["pa"] for seed in (0, 1, 2)]
    assert table.loc["infoseg", "pa_mean"] == pytest.approx(np.mean(halves), abs=1e-4)
    every = [project.last(seed)["pa"] for seed in (0, 1, 2)]
    assert table.loc["infoseg", "pa_all_mean"] == pytest.approx(np.mean(every), abs=1e-4)


def test_table_2_is_the_papers_and_table_2b_has_the_others_with_all_their_seeds(
    tmp_path, monkeypatch
):
    variants = ["single", *TABLE2, "log_sum_exp"]
    written = Evaluated(tmp_path, variants=variants, table1_rows={}).tables(monkeypatch)
    frame = written["table2"]
    assert list(map(tuple, frame[["measure", "assignment"]].values)) == list(PRINTED_2)
    assert frame["paper_pa"].tolist() == list(PRINTED_2.values())
    assert frame["n_seeds"].tolist() == [3] * 5
    shown = written["table2b"][["variant", "n_seeds", "is_default"]].values.tolist()
    assert shown == [
        ["infoseg", 3, True],
        ["single", 1, False],
        ["infoseg", 3, True],
        ["log_sum_exp", 1, False],
    ]


def test_a_row_of_table_1_stands_in_table_2b_where_the_profile_has_it(tmp_path, monkeypatch):
    rows = {"infoseg_rematched": "S(x′)", "iic": "Loss"}
    written = Evaluated(tmp_path, variants=[], table1_rows=rows).tables(monkeypatch)
    assert written["table2b"]["variant"].tolist() == ["infoseg", "infoseg_rematched"]
    assert "table2" not in written


def test_seeds_that_diverged_are_marked_and_in_no_mean(tmp_path, monkeypatch):
    project = Evaluated(tmp_path, [("infoseg", 1), "kmeans", "dv_hard", "single"])
    written = project.tables(monkeypatch)
    mean = np.mean([project.last(seed)["pa"] for seed in (0, 2)])
    row = written["table2"]["measure"] + written["table2"]["assignment"]
    for frame, key, of, none in (
        (written["table1"], "method", "infoseg", ("kmeans", 1)),
        (written["table2"].assign(row=row), "row", "JSDSoft Assignment", ("DVHard Assignment", 3)),
        (written["table2b"], "variant", "infoseg", ("single", 1)),
    ):
        rows = frame.drop_duplicates(key).set_index(key)[["pa_mean", "n_seeds", "diverged"]]
        assert rows.loc[of].tolist() == [pytest.approx(mean, abs=1e-4), 2, 1]
        assert math.isnan(rows.loc[none[0], "pa_mean"])
        assert rows.loc[none[0]].tolist()[1:] == [0, none[1]]
    for name in ("table1", "table2", "table2b"):
        text = (project.results / f"tables/{name}.md").read_text()
        assert "–‡" in text and re.search(rf"{mean:.1f}(\*\*)?‡", text)
        assert tables.DIVERGED_NOTE in text
        assert r"--\ddag{}" in (project.results / f"tables/{name}.tex").read_text()


def test_a_method_of_which_every_seed_diverged_is_compared_with_nothing(tmp_path, monkeypatch):
    project = Evaluated(tmp_path, ["infoseg"])
    judged = project.tables(monkeypatch)["claims"]
    assert not judged["finding"].str.contains("nan|InfoSeg –").any()
    with pytest.raises(TrainingError, match="every seed of infoseg diverged on coco_stuff3"):
        project.first_run(DATASET, "infoseg")


def test_content_or_place_has_a_row_per_method_with_the_mean_of_its_seeds(tmp_path, monkeypatch):
    project = Evaluated(tmp_path, variants=["kmeans_half"], content={"kmeans": "kmeans_half"})
    frame = project.tables(monkeypatch)["content"].set_index("method")
    assert frame.loc["kmeans", ["n_seeds", "left_out_mean"]].tolist() == [2, 41.0]
    assert frame.loc["kmeans", "left_out_std"] == pytest.approx(2**0.5, abs=1e-4)
    assert frame.loc["equal stripes", "upside_down_mean"] == 30.0
    text = (project.results / "tables/content.md").read_text()
    assert re.search(r"\| K-Means +\| +41\.0 ± 1\.4 \|( +50\.0 ± 0\.0 \|){5}", text)


def test_tables_have_the_same_bytes_twice(tmp_path, monkeypatch):
    contents = []
    for folder in ("one", "two"):
        project = Evaluated(tmp_path / folder)
        project.tables(monkeypatch)
        files = sorted((project.results / "tables").iterdir())
        contents.append({file.name: file.read_bytes() for file in files})
    assert contents[0] == contents[1] and len(contents[0]) >= 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": FORMAT - 1}, r"format 6, not 7.*evaluate@coco_stuff3"),
        ({"paper_row": "Infoseg"}, r"no row 'Infoseg'.*InMARS"),
    ],
)
def test_an_evaluation_that_cannot_be_a_row_is_named(tmp_path, monkeypatch, change, words):
    original = Evaluated.evaluation
    monkeypatch.setattr(Evaluated, "evaluation", lambda *args: original(*args) | change)
    with pytest.raises(DataError, match=words):
        tables.read_runs(Evaluated(tmp_path))


# ---- cells ---------------------------------------------------------------------------------------


def frame(*rows: tuple) -> pd.DataFrame:
    """A table on one data set: method, PA, deviation, seeds, diverged; the same as mIoU."""
    table = pd.DataFrame(rows, columns=["method", "pa_mean", "pa_std", "n_seeds", "diverged"])
    return table.assign(dataset="d", miou_mean=table["pa_mean"], miou_std=table["pa_std"])


STRIPES = ("equal stripes", 50.0, math.nan, 1, 0)


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        # The best, above the stripes by more than its spread; ties after rounding are both bold.
        ([("a", 60.04, 2.0, 3, 0), ("b", 60.0, 3.0, 3, 0)], ["**60.0** ± 2.0", "**60.0** ± 3.0"]),
        ([("a", 60.0, 2.0, 3, 0), ("b", 59.9, 3.0, 3, 0)], ["**60.0** ± 2.0", "59.9 ± 3.0"]),
        # Within its spread of the stripes, and a single seed: not bold.
        ([("a", 60.0, 11.0, 3, 0), ("b", 40.0, 3.0, 3, 0)], ["60.0 ± 11.0", "40.0 ± 3.0"]),
        ([("a", 90.0, math.nan, 1, 2), ("b", 40.0, 3, 3, 0)], ["90.0‡ (n = 1)", "40.0 ± 3.0"]),
        ([("a", math.nan, math.nan, 0, 3), ("b", 60.0, 3, 3, 0)], ["–‡ (n = 0)", "**60.0** ± 3.0"]),
    ],
)
def test_bold_by_the_rule_and_seeds_where_they_are_others(rows, shown):
    # Of two counts that are as common, the larger one is the usual.
    cells = tables.cells(frame(*rows, STRIPES))
    assert cells["PA"].tolist() == [*shown, "50.0"]
    assert cells["mIoU"].tolist() == [*(re.sub(r" \(.*", "", text) for text in shown), "50.0"]


def test_titles_are_escaped_in_every_form(tmp_path):
    titles = pd.Index(["a|b_c*", "50% & <i>"], name="Method")
    shown = pd.DataFrame({"PA": ["**1.0** ± 0.1", "2.0‡"]}, index=titles)
    text = tables.write(tmp_path, "t", shown.reset_index(), shown, "On test data.", ["A note."])
    assert r"a\|b\_c\*" in text and r"50% & \<i\>" in text and text.endswith("A note.\n")
    latex = (tmp_path / "t.tex").read_text()
    assert r"a|b\_c* & \textbf{1.0} $\pm$ 0.1" in latex and r"50\% \& <i> & 2.0\ddag{}" in latex


# ---- pictures ------------------------------------------------------------------------------------


def pictures(title="Outdoor", n=3, **changes) -> figures.Pictures:
    rng = np.random.default_rng(0)
    values = {
        "title": title,
        "images": rng.integers(0, 256, (n, 8, 8, 4), dtype=np.uint8),
        "predictions": {"K-Means": rng.integers(0, 3, (n, 8, 8)), "InfoSeg": np.ones((n, 8, 8))},
        "annotations": np.full((n, 8, 8), 2),
        "classes": CLASSES,
    }
    values["predictions"]["InfoSeg"] = np.full((n, 8, 8), 254)
    values["annotations"][:, 0] = 255
    return figures.Pictures(**values | changes)


def test_rows_are_image_predictions_annotation_black_where_nobody_annotated():
    shown = pictures()
    rows = shown.rows()
    assert list(rows) == ["Image", "K-Means", "InfoSeg", "Annotation"]
    assert np.array_equal(rows["Image"], shown.images[..., :3])
    for row in list(rows)[1:]:
        assert not rows[row][:, 0].any()
    assert (rows["InfoSeg"][:, 1:] == palette.GREY).all()
    expected = palette.class_colours(3)[shown.predictions["K-Means"][:, 1:]]
    assert np.array_equal(rows["K-Means"][:, 1:], expected)


@pytest.mark.parametrize(
    "change", [{"annotations": np.full((3, 8, 8), 3)}, {"annotations": np.zeros((3, 8, 7), int)}]
)
def test_maps_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match="Outdoor, "):
        pictures(**change).rows()


def test_data_sets_stand_side_by_side_up_to_eight_pictures():
    one = figures.draw_pictures([pictures(n=6), pictures("Coast", n=2)])
    two = figures.draw_pictures([pictures(n=6), pictures("Coast", n=3)])
    assert len(one.axes) == 8 * 4 and len(two.axes) == 9 * 4
    assert two.get_size_inches()[1] == pytest.approx(2 * one.get_size_inches()[1])
    letters = [ax.get_xlabel() for ax in one.axes if ax.get_xlabel()]
    assert letters == [f"({letter})" for letter in "abcdefgh"]
    assert [ax.get_title("left") for ax in one.axes if ax.get_title("left")] == ["Outdoor", "Coast"]


def test_figures_have_the_same_bytes_twice_and_their_alt_text(tmp_path):
    for suffix in ("png", "svg"):
        paths = [
            figures.save_figure(figures.draw_pictures([pictures()]), tmp_path / name, "Pictures.")
            for name in (f"a.{suffix}", f"b.{suffix}")
        ]
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert b"Pictures." in paths[0].read_bytes()
    for name, words in (("a.pdf", "Pictures."), ("a.png", " ")):
        with pytest.raises(ValueError, match="have a description"):
            figures.save_figure(figures.draw_pictures([pictures()]), tmp_path / name, words)


def test_every_class_has_a_colour_that_can_be_told_from_the_others():
    colours = np.concatenate([palette.class_colours(27), [palette.GREY, palette.BLACK]])
    lab = rgb2lab(colours[None] / 255.0)[0]
    far = deltaE_ciede2000(lab[:, None], lab[None])
    assert far[~np.eye(len(lab), dtype=bool)].min() > 8
    with pytest.raises(ValueError, match="up to 27"):
        palette.class_colours(28)
    assert palette.colourise(np.array([[0, 254, 255]])).tolist() == [
        [colours[0].tolist(), list(palette.GREY), [0, 0, 0]]
    ]
    with pytest.raises(ValueError, match="label 30"):
        palette.colourise(np.array([[30]]))


# ---- the page ------------------------------------------------------------------------------------


def test_the_page_stands_by_itself(tmp_path):
    """Of the committed report: what is embedded has an alt text, no link leads anywhere."""
    text = (ROOT / "results/demo/report.html").read_text()
    assert not re.search(r"https?://|@import|url\(|<(script|link|iframe|object)\b", text)
    assert not re.search(r'\s(src|srcset|data|poster)="(?!data:image)', text)
    assert "<a " not in text and "\r" not in text
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) >= 6
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
    headings = re.findall(r"<h(\d)[^>]*>", text)
    assert headings[0] == "1" and headings.count("1") == 1 and set(headings) == {"1", "2"}
    for folded in ("What the paper prints", "What differs from the paper", "Not run here"):
        assert f"<summary>{folded}" in text
    assert "CC BY-SA 4.0" in text  # of the photographs


def test_a_page_has_the_same_bytes_twice_and_names_no_place(tmp_path):
    source = tmp_path / "a.ipynb"
    cells = [
        ("markdown", "# Title\n\nWords."),
        ("code", "from IPython.display import Markdown\ndisplay(Markdown('**bold** <b>'))"),
    ]
    cells = [
        {"cell_type": kind, "source": text, "metadata": {}, "id": kind}
        | ({"outputs": [], "execution_count": None} if kind == "code" else {})
        for kind, text in cells
    ]
    source.write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    for name in ("a.html", "b.html"):
        page(execute(source, {}), tmp_path / name)
    text = (tmp_path / "a.html").read_text()
    assert text == (tmp_path / "b.html").read_text()
    assert "<title>Title</title>" in text and "<strong>bold</strong>" in text
    assert "IPython" not in text and str(tmp_path) not in text


# ---- README --------------------------------------------------------------------------------------

MARKED = "# Title\n\n<!-- results:demo -->{}<!-- /results -->\n\nMore.\n"


def test_the_readme_has_the_committed_tables_between_its_marks(tmp_path, capsys):
    path, folder = tmp_path / "README.md", tmp_path / "results/demo/tables"
    path.write_text(MARKED.format("\nold\n"))
    assert main(["check", str(path)]) == 1 and "table1.md is not there" in capsys.readouterr().err
    folder.mkdir(parents=True)
    (folder / "table1.md").write_text("of table1\n")
    assert main(["check", str(path)]) == 1 and "README.md" in capsys.readouterr().out
    assert main(["clean", str(path)]) == 0 and main(["check", str(path)]) == 0
    assert path.read_text() == MARKED.format("\n\nof table1\n\n")
    path.write_text("# Title\n<!-- results:demo -->\n")
    with pytest.raises(InfosegError, match="has no place for results"):
        with_results(path)
    shutil.rmtree(folder)
