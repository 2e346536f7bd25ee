"""The recipe of docs/sweeps.md, on a few pictures, in a copy of the repository of its own."""

import io
import shlex
import time

import pandas as pd
import pytest
import yaml
from clones import Clone

#: The recipe's settings, and what makes the runs small.
COMMON = """
-S profile=tiny -S profile.datasets=[coco_stuff3] -S profile.methods=[infoseg]
-S profile.repeats.seeds=[]
"""
SMALL = """
-S sources.coco.stuff_images=12 -S sources.coco.person_images=1
-S methods.infoseg.optimiser.steps=4 -S training.evaluations=1
"""
#: The swept values of tau, by seed.
SWEPT = {0: (0.4, 0.8), 1: (0.4,)}


@pytest.fixture
def clone(tmp_path):
    made = Clone(tmp_path)
    made.run("git", "config", "user.name", "test")
    made.run("git", "config", "user.email", "test@example.org")
    made.run("git", "add", "-A")
    made.run("git", "commit", "-q", "-m", "as it is")
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
def test_seeds_and_tau_are_swept_by_two_workers_and_the_data_are_prepared_once(clone):
    once = run(clone, "--temp prepare@coco_stuff3")
    assert "Running stage 'prepare@coco_stuff3'" in once
    for seed, values in SWEPT.items():
        tau = ",".join(map(str, values))
        run(
            clone,
            f"--queue -S methods.infoseg.objective.tau={tau} -S profile.seeds=[{seed}] evaluate",
        )
    assert clone.run("dvc", "queue", "status").count("Queued") == 3
    assert "Started '2'" in clone.run("dvc", "queue", "start", "-j", "2")
    assert wait(clone, 600).count("Success") == 3
    assert clone.run("git", "status", "--porcelain", "-uno") == "", "the workspace is as it was"

    rows = pd.read_csv(io.StringIO(clone.run("dvc", "exp", "show", "--csv")), na_values="!")
    rows = rows[rows["State"] == "Success"]
    tau = "methods.infoseg.objective.tau"
    trained = {}
    for _, row in rows.iterrows():
        log = clone.run("dvc", "queue", "logs", row["Experiment"])
        ran = {line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage")}
        [seed] = yaml.safe_load(row["profile.seeds"])
        key = f"coco_stuff3-infoseg-{seed}"
        # The first of them also copies the notebooks: seconds.
        assert {stage for stage in ran if not stage.startswith(("strip@", "code"))} == {
            f"train@{key}",
            f"evaluate@{key}",
        }
        assert 0 <= row[f"runs/tiny/metrics/{key}.json:pa"] <= 100
        lock = yaml.safe_load(clone.run("git", "show", f"{row['rev']}:dvc.lock"))["stages"]
        outs = {out["path"]: out["md5"] for out in lock[f"train@{key}"]["outs"]}
        trained[seed, row[tau]] = outs[f"runs/tiny/{key}/weights.safetensors"]
    assert trained.keys() == {(seed, value) for seed, values in SWEPT.items() for value in values}
    assert len(set(trained.values())) == 3

    clone.run("dvc", "exp", "remove", "-A")
    clone.run("dvc", "queue", "remove", "--all")
    assert clone.run("git", "for-each-ref", "refs/exps", "--format=%(refname)").split() in (
        [],
        ["refs/exps/exec/EXEC_BASELINE"],
    )
