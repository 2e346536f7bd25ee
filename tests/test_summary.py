"""From evaluations to a profile's tables, claims and report: which runs count, which diverged."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from infoseg.diagnostics import FORMAT, LOOKS, summarise
from infoseg.errors import DataError, TrainingError
from infoseg.files import write_json
from infoseg.illustrations import ILLUSTRATIONS, _seeds
from infoseg.reporting.claims import claims
from infoseg.reporting.content import content_table, write_content
from infoseg.reporting.markup import DIVERGED_NOTE
from infoseg.reporting.tables import TRIVIAL
from infoseg.results import table1, table1_frame, table2, table2_frame, table2b
from infoseg.runs import Project
from infoseg.settings import TABLE2, Run, compose, parse_params
from infoseg.summary import main, readme, report

DATASET = "coco_stuff3"
#: The mean of nothing, for one, is none.
pytestmark = pytest.mark.filterwarnings("error:.*(empty slice|invalid value)")


class Pictures(list):
    meta = SimpleNamespace(classes=["sky", "plant", "ground"], class_pixels=[5, 3, 2])


class Evaluated(Project):
    """A profile on one data set, neither data nor weights: evaluations are made up of noise.

    diverged: methods of which all seeds did, or pairs of a method and a seed. changes: to the
    ablations.
    """

    def __init__(self, folder, diverged=(), profile="tiny", **changes):
        tree = compose(profile, [f"methods.infoseg.per_dataset.{DATASET}.seeds=[0,1,2]"])
        methods = ["kmeans", "infoseg", "infoseg_rematched"]
        tree["profile"] |= {"datasets": [DATASET], "methods": methods}
        tree["profile"]["ablations"] |= {"content": {}} | changes
        super().__init__(folder, parse_params(tree, "test"), ROOT)
        self.diverged = set(diverged)

    def load(self, dataset):
        return Pictures(range(8))

    def made_beside(self, dataset, file):
        counts = np.random.default_rng(9).integers(1, 9, (8, 3, 3))
        trivial = summarise(counts, list("abcdefgh"), Pictures.meta.classes)
        write_json(self.folder / file, dict.fromkeys(TRIVIAL, trivial))
        return self.folder / file

    def evaluation(self, run):
        settings = self.params.method(run.method, run.dataset)
        diverged = self.diverged & {run.method, (run.method, run.seed)}
        told = {
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
            return told
        counts = np.random.default_rng(run.seed).integers(1, 9, (8, 3, 3))
        last = summarise(counts, list("abcdefgh"), Pictures.meta.classes)
        last |= {"assignment_entropy": 0.5}
        return told | {"uses_mask": False, "start": None, "last": last, "best": last}

    def mean(self, *seeds: int) -> float:
        """PA of these seeds of whatever method, in the mean."""
        runs = [Run(dataset=DATASET, method="iic", seed=seed) for seed in seeds]
        return float(np.mean([self.evaluation(run)["last"]["pa"] for run in runs]))

    def report(self) -> str:
        for name, *_ in ILLUSTRATIONS:
            figure = self.results / "figures" / f"{name}.png"
            figure.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9)).save(figure)
            figure.with_suffix(".svg").write_text('<svg viewBox="0 0 9 9"/>')
        return report(self).read_text()


def test_table_2_is_the_papers_and_table_2b_has_the_others_with_all_their_seeds(tmp_path):
    variants = ["single", *TABLE2[::-1], "log_sum_exp"]
    project = Evaluated(tmp_path, variants=variants, table1_rows={})
    frame = table2(project)
    assert frame[["measure", "assignment"]].values.tolist() == [
        ["IIC-MI", "-"],
        ["DV", "Hard Assignment"],
        ["DV", "Soft Assignment"],
        ["JSD", "Hard Assignment"],
        ["JSD", "Soft Assignment"],
    ]
    assert frame["n_seeds"].tolist() == [3] * 5
    assert frame["pa_mean"].tolist() == pytest.approx([project.mean(0, 1, 2)] * 5)
    shown = table2b(project)[["variant", "n_seeds"]].values.tolist()
    assert shown == [["infoseg", 3], ["single", 1], ["infoseg", 3], ["log_sum_exp", 1]]


def test_a_row_of_table_1_stands_in_table_2b_where_the_profile_has_it(tmp_path):
    rows = {"infoseg_rematched": "S(x′)", "iic": "Loss"}
    project = Evaluated(tmp_path, variants=[], table1_rows=rows)
    assert table2b(project)["variant"].tolist() == ["infoseg", "infoseg_rematched"]
    assert table2(project).empty


def test_seeds_that_diverged_are_marked_and_in_no_mean(tmp_path):
    project = Evaluated(tmp_path, [("infoseg", 1), "kmeans", "dv_hard", "single"])
    columns = ["pa_mean", "n_seeds", "diverged"]
    infoseg, nothing = (pytest.approx(project.mean(0, 2)), 2, 1), pytest.approx(np.nan, nan_ok=True)
    for frame, key, of, none in (
        (table1(project), "method", "infoseg", ("kmeans", 1)),
        (table2(project).assign(row=["iic", "dv", "", "", "jsd"]), "row", "jsd", ("dv", 3)),
        (table2b(project), "variant", "infoseg", ("single", 1)),
    ):
        rows = frame.drop_duplicates(key).set_index(key)[columns]
        assert tuple(rows.loc[of]) == infoseg
        assert tuple(rows.loc[none[0]]) == (nothing, 0, none[1])
    for name in ("table1", "table2", "table2b"):
        text = (project.results / f"tables/{name}.md").read_text()
        assert "| –‡ |" in text and f"{project.mean(0, 2):.1f}‡" in text and DIVERGED_NOTE in text
        assert r"--\textsuperscript{\ddag}" in (project.results / f"tables/{name}.tex").read_text()
    page = project.report()
    assert "–‡" in page and "coco_stuff3-infoseg-1: the loss became nan at step 9" in page
    assert project.first_run(DATASET, "infoseg").seed == 0
    [strip] = _seeds(project).axes
    titles = [label.get_text() for label in strip.get_yticklabels()]
    methods = ("infoseg", "infoseg_rematched")
    assert titles == [project.params.method(method, DATASET).title for method in methods]
    assert sum(len(dots.get_offsets()) for dots in strip.collections) == 2 + 3


def test_a_method_of_which_every_seed_diverged_is_compared_with_nothing(tmp_path):
    project = Evaluated(tmp_path, ["infoseg"])
    assert "nan percent" not in project.report()
    found = claims(table1_frame(project), table2_frame(project))
    assert not [claim for claim in found if "InfoSeg –" in claim.finding]
    with pytest.raises(TrainingError, match="every seed of infoseg diverged on coco_stuff3"):
        project.first_run(DATASET, "infoseg")


@pytest.mark.parametrize("profile", ["tiny", "paper"])
def test_the_report_warns_of_numbers_that_are_not_of_the_papers_data(tmp_path, profile):
    page = Evaluated(tmp_path, profile=profile, variants=[]).report()
    assert ("cannot be compared" in page) == (profile == "tiny")


def test_content_or_place_has_a_row_per_method_with_the_mean_of_its_seeds(tmp_path):
    looks = dict.fromkeys(LOOKS, 50.0)
    rows = [{"method": "kmeans", "left_out": value} | looks for value in (40.0, 42.0)]
    rows.append({"method": "equal stripes"} | looks | {"upside_down": 30.0})
    frame = content_table(rows, {"kmeans": "K-Means", "equal stripes": "Stripes"})
    text = write_content(frame, tmp_path, "Caption")[1].read_text()
    assert "| K-Means | " + "50.0 ± 0.0 | " * 5 + "41.0 ± 1.4 |" in text
    assert "| Stripes | 50.0 | 30.0 | 50.0 | 50.0 | 50.0 | – |" in text


MARKED = "# Title\n\n<!-- results:demo -->{}<!-- /results -->\n\nMore.\n"


def test_the_readme_has_the_committed_tables_between_its_marks(tmp_path):
    for name in ("table1", "table2", "content", "table2b"):
        (tmp_path / "results/demo/tables").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"results/demo/tables/{name}.md").write_text(f"of {name}\n")
    expected = MARKED.format("\n\nof table1\n\nof table2\n\nof content\n\n")
    for before in ("\n", "\nold\n\nnumbers\n"):
        (tmp_path / "README.md").write_text(MARKED.format(before))
        assert readme(tmp_path) == expected
    (tmp_path / "README.md").write_text(expected)
    assert readme(tmp_path) == expected
    for marks in ("", "<!-- results:demo -->\n", "<!-- /results -->"):
        (tmp_path / "README.md").write_text(f"# Title\n{marks}")
        with pytest.raises(DataError, match="has no place for results") as caught:
            readme(tmp_path)
        assert caught.value.file == tmp_path / "README.md"


def test_lint_names_other_results_and_missing_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()
    (tmp_path / "README.md").write_text(MARKED.format("\n"))
    assert "tables/table1.md: not found" in main(["check"])
    (tmp_path / "results/demo/tables").mkdir(parents=True)
    for name in ("table1", "table2"):
        (tmp_path / f"results/demo/tables/{name}.md").write_text(f"of {name}\n")
    assert "README.md has other results" in main(["check"])
    assert main([]) is None and main(["check"]) is None
    assert "of table2" in (tmp_path / "README.md").read_text()
