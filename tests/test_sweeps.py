"""The recipe of docs/cluster.md, on a few pictures, in a copy of the repository of its own."""

import json
import re
import shlex
import time

import pytest
from clones import Clone
from helpers import one_data_set

#: The recipe's settings, and what makes the runs small.
COMMON = """
-S profile=tiny -S profile.datasets=[coco_stuff3] -S profile.methods=[infoseg]
-S profile.ablations.variants=[]
"""
SMALL = """
-S sources.coco.stuff_images=12 -S sources.coco.person_images=1
-S methods.infoseg.optimiser.steps=4 -S training.evaluations=1
"""
TAU = "methods.infoseg.objective.tau"
SEEDS = "methods.infoseg.per_dataset.coco_stuff3.seeds"
METRICS = "results/tiny/metrics/coco_stuff3.json"


@pytest.fixture
def clone(tmp_path):
    made = Clone(tmp_path, one_data_set(pictures=2))
    yield made
    made.run("dvc", "queue", "stop", "--kill", check=False)


def run(clone: Clone, words: str) -> str:
    return clone.run("dvc", "exp", "run", *shlex.split(words + COMMON + SMALL))


def wait(clone: Clone, seconds: float) -> str:
    """Until nothing is queued or runs; returns how the experiments ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = clone.run("dvc", "queue", "status")
        if not any(word in status for word in ("Queued", "Running")):
            return status
        time.sleep(3)
    raise AssertionError(status)


@pytest.mark.slow
def test_tau_is_swept_by_two_workers_and_the_data_are_prepared_once(clone):
    once = run(clone, "--temp prepare@coco_stuff3")
    assert "Running stage 'prepare@coco_stuff3'" in once
    run(clone, f"--queue -S {TAU}=0.4,0.8 -S {SEEDS}=[1,2] evaluate@coco_stuff3")
    assert clone.run("dvc", "queue", "status").count("Queued") == 2
    assert "Started '2'" in clone.run("dvc", "queue", "start", "-j", "2")
    assert wait(clone, 600).count("Success") == 2
    assert clone.run("git", "status", "--porcelain", "-uno") == "", "the workspace is as it was"

    shown = json.loads(clone.run("dvc", "exp", "show", "--json"))
    trained = {}
    for experiment in next(base["experiments"] for base in shown if base["experiments"]):
        result = experiment["revs"][0]["data"]
        metrics = result["metrics"][METRICS].get("data")
        if not metrics:
            continue  # it prepared the data
        log = clone.run("dvc", "queue", "logs", experiment["name"])
        ran = set(re.findall("^Running stage '(.+)':$", log, re.M))
        # The first of them also copies the notebooks: seconds.
        assert ran - {"strip", "code"} == {"train@coco_stuff3-infoseg", "evaluate@coco_stuff3"}
        assert 0 <= metrics["pa"]["infoseg"] <= 100
        objective = result["params"]["params.yaml"]["data"]["methods"]["infoseg"]["objective"]
        trained[objective["tau"]] = result["outs"]["runs/tiny/coco_stuff3/infoseg"]["hash"]
    assert trained.keys() == {0.4, 0.8} and len(set(trained.values())) == 2
