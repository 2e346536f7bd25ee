"""COCO-Persons: the scan of rules by the number of images they keep, and preparing by one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_coco_instances import person, write_instances

from infoseg.data.coco import prepare_coco_persons, scan_coco_persons
from infoseg.data.persons_rule import (
    CROWDS,
    Rule,
    images_kept,
    nearest_rule,
    nearest_share,
    scan_rules,
    shares_kept,
    write_rules,
)
from infoseg.data.store import load_prepared
from infoseg.errors import DataError
from infoseg.reporting.persons_rule_chart import images_by_share

SPLITS = ("train2017", "val2017")


def table_of(n, seed=0):
    """As `scan_coco_persons` returns it."""
    random = np.random.default_rng(seed)
    people = random.beta(0.7, 4, n) * (random.random(n) < 0.95)
    crowds = random.beta(1, 3, n) * (random.random(n) < 0.1)
    sizes = np.array([(480, 640), (427, 640), (333, 500), (640, 360)])[random.integers(0, 4, n)]
    return pd.DataFrame(
        {
            "split": np.where(random.random(n) < 0.9, *SPLITS),
            "id": random.permutation(n) + 1,
            "height": sizes[:, 0],
            "width": sizes[:, 1],
            "person_share": people,
            "crowd_share": crowds,
            "either_share": np.minimum(1, people + crowds / 2),
        }
    )


def count_by_hand(table, splits, crowd, min_side, minimum):
    count = 0
    for row in table.itertuples():
        share = row.either_share if crowd == "person" else row.person_share
        count += (
            row.split in splits
            and min(row.height, row.width) >= min_side
            and not (crowd == "exclude" and row.crowd_share > 0)
            and share > 0
            and share >= minimum
        )
    return count


def test_every_row_counts_what_its_rule_keeps_and_no_threshold_is_nearer():
    table = table_of(400)
    rules = scan_rules(table, 60, sides=(0, 400), decimals=2)
    assert len(rules) == 3 * 3 * 2
    for row in rules.itertuples():
        rule = row.splits.split("+"), row.crowd, row.min_side
        by_hand = [count_by_hand(table, *rule, step / 100) for step in range(101)]
        step = round(row.min_person_share * 100)
        assert row.images == by_hand[step]
        assert row.distance == min(abs(n - 60) for n in by_hand) == abs(row.images - 60)
        assert row.images_below == by_hand[max(step - 1, 0)]
        assert row.images_above == by_hand[step + 1]
        assert row.near == sum(abs(n - 60) <= 0.6 for n in by_hand)
    assert rules["distance"].is_monotonic_increasing


def test_how_sharp_a_rule_is():
    table = table_of(4).iloc[[0] * 1000].reset_index(drop=True)
    table[["split", "height", "width", "crowd_share"]] = "val2017", 480, 640, 0
    table["person_share"] = np.arange(1, 1001) / 1000  # one image for every 0.001
    [row] = scan_rules(table, 900, sides=[0], crowds=["ignore"], split_sets=[SPLITS]).itertuples()
    assert (row.min_person_share, row.images, row.distance) == (0.101, 900, 0)
    assert (row.images_below, row.images_above) == (900, 899)
    assert row.change == 10  # of 1000 images, in 0.01 of the share
    assert row.near == 190  # 891 to 909 images, each for ten steps of 0.0001


def test_a_share_on_the_threshold_is_kept():
    shares = np.array([0.1, 0.2, 0.2, 0.7])
    assert images_kept(shares, np.array([0, 0.2, 0.2001, 0.7, 0.71])).tolist() == [4, 3, 1, 1, 0]


def test_of_thresholds_as_near_the_roundest_is_taken():
    shares = np.sort(np.append(np.full(5, 0.7), [0.1234, 0.1987, 0.2]))
    assert nearest_share(shares, 5) == (0.3, 5)
    assert nearest_share(shares, 6) == (0.2, 6)
    assert nearest_share(shares, 7) == (0.13, 7)
    assert nearest_share(shares, 100) == (0.0, 8)  # more than there are
    assert nearest_share(shares, 0) == (1.0, 0)  # 0.8 is not as round
    assert nearest_share(shares, 8, at_least=0.12345) == (0.12345, 7)  # never below what is set
    assert nearest_share(np.array([]), 5) == (0.0, 0)


def test_of_rules_as_near_the_simplest_is_taken():
    table = table_of(300).assign(crowd_share=0.0, split="val2017", height=480, width=640)
    table["either_share"] = table["person_share"]
    chosen = nearest_rule(scan_rules(table, 50).sample(frac=1, random_state=0))
    assert (chosen.splits, chosen.crowd, chosen.min_side) == (SPLITS, "ignore", 0)
    assert chosen.images == 50


def test_a_rule_selects_as_many_images_as_it_says():
    table = table_of(500)
    for crowd in CROWDS:
        rules = scan_rules(table, 80, sides=[400], crowds=[crowd])
        rule = nearest_rule(rules)
        assert rule.crowd == crowd and rule.min_side == 400
        assert len(rule.select(table)) == rule.images > 70


def test_shares_obey_the_largest_share():
    table = table_of(100)
    assert shares_kept(table, max_person_share=0.3).max() <= 0.3


def test_ids_and_rules_are_written_as_text(tmp_path):
    table = table_of(200)
    rules = scan_rules(table, 30)
    ids, listed = write_rules(tmp_path / "out", table, rules)
    lines = ids.read_text().splitlines()
    chosen = nearest_rule(rules).select(table)
    assert lines == [f"{s}/{i:012d}" for s, i in zip(chosen["split"], chosen["id"], strict=True)]
    assert len(lines) == rules["images"][0]
    pd.testing.assert_frame_equal(pd.read_csv(listed), rules)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {ids.name, listed.name}


def test_the_chart_has_a_line_per_side_and_a_facet_per_handling_of_crowds():
    table = table_of(300)
    figure = images_by_share(table, 50, sides=(0, 400))
    assert len(figure.axes) == 3
    for ax, crowd in zip(figure.axes, CROWDS, strict=True):
        first = ax.lines[0].get_ydata()
        assert first[0] == count_by_hand(table, SPLITS, crowd, 0, 0.0)
        assert first[100] == count_by_hand(table, SPLITS, crowd, 0, 0.1)
    with pytest.raises(ValueError, match="no image"):
        images_by_share(table.iloc[:0], 50)


@pytest.fixture
def raw(tmp_path):
    """Ten images of 100 x 10 px; the person of image i covers i tenths."""
    write_instances(tmp_path / "raw", {i: [person(0, 0, 10 * i, 10)] for i in range(1, 11)})
    return tmp_path / "raw"


def prepared(raw, **rules):
    settings = {"name": "p", "splits": ["val2017"], "scale": 1.0} | rules
    prepare_coco_persons(raw, raw.parent / "out", **settings)
    return load_prepared(raw.parent / "out")


def test_the_share_is_chosen_so_that_the_images_aimed_at_remain(raw):
    result = prepared(raw, images=4)
    assert [int(i) for i in result.index["id"]] == [7, 8, 9, 10]
    parameters = result.meta.parameters
    assert parameters["images"] == 4 and parameters["min_person_share"] == 0.0
    assert parameters["chosen"] == {"min_person_share": 0.7, "images": 4}
    assert "reconstruction" in result.meta.notes[0]
    assert "min_person_share 0.7 was chosen because 4 images" in result.meta.notes[1]


def test_choosing_gives_the_bytes_of_the_share_that_was_chosen(raw):
    files = prepared(raw, images=4).meta.files
    assert prepared(raw, min_person_share=0.7).meta.files == files


def test_the_other_settings_stay_when_the_share_is_chosen(raw):
    def ids(**rules):
        return [int(i) for i in prepared(raw, **rules).index["id"]]

    assert ids(images=3, max_person_share=0.6) == [4, 5, 6]
    assert ids(images=30) == list(range(1, 11))
    assert ids(images=9, min_person_share=0.45) == [5, 6, 7, 8, 9, 10]
    assert "chosen" not in prepared(raw).meta.parameters
    with pytest.raises(ValueError, match="images"):
        ids(images=0)


def test_a_broken_annotation_does_not_count_when_it_is_skipped(tmp_path):
    people = {i: [person(0, 0, 10 * i, 10)] for i in range(1, 11)}
    people[9] = [person(0, 0, 104, 10)]
    write_instances(tmp_path / "raw", people)
    with pytest.raises(DataError, match="annotation 9"):
        prepared(tmp_path / "raw", images=4)
    with pytest.raises(DataError, match="annotation 9"):
        scan_coco_persons(tmp_path / "raw", ["val2017"])
    result = prepared(tmp_path / "raw", images=4, on_bad_input="skip")
    assert [int(i) for i in result.index["id"]] == [6, 7, 8, 10]
    assert result.meta.n_skipped == 1
    assert len(scan_coco_persons(tmp_path / "raw", ["val2017"], on_bad_input="skip")) == 9


def test_the_scan_gives_the_rule_that_preparing_finds(raw):
    table = scan_coco_persons(raw, ["val2017"])
    rule = nearest_rule(scan_rules(table, 4))
    assert rule == Rule(SPLITS, "ignore", 0, 0.7, 4)
    chosen = prepared(raw, images=4)
    assert [int(i) for i in chosen.index["id"]] == rule.select(table)["id"].tolist()
