"""Stages side by side: nothing before what it reads, nothing twice, nothing after a failure."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoseg.schedule import Failure, Schedule, chains

INPUTS = {"street": "photos", "street_2": "photos", "sea": "boats"}
RUNS = ("street-infoseg-0", "street-kmeans-0", "street_2-infoseg-0", "sea-kmeans-0", "sea-iic-1")
STAGES = (
    *(f"data@{source}" for source in ("photos", "boats")),
    *(f"prepare@{dataset}" for dataset in INPUTS),
    *(f"{stage}@{run}" for run in RUNS for stage in ("train", "evaluate")),
    "table1",
)
CHAINS = chains(STAGES, INPUTS)
BEFORE = {chain.name: chain.before for chain in CHAINS}


def begun(schedule: Schedule, jobs: int = 2, fails: str = "") -> list[str]:
    """Names of chains in the order they are begun and ended in: +NAME, -NAME."""
    told, lock = [], threading.Lock()

    def do(chain):
        with lock:
            told.append(f"+{chain.name}")
        time.sleep(0.001)
        with lock:
            told.append(f"-{chain.name}")
        return Failure(chain.name, "failed") if chain.name == fails else None

    schedule.run(do, jobs)
    return told


def all_changed(stages):
    return set(stages or STAGES)


def test_a_chain_is_a_stage_what_follows_it_and_what_it_needs():
    found = {chain.name: (chain.stages[1:], chain.before) for chain in CHAINS}
    assert found["data@photos"] == ((), None)
    assert found["prepare@street"] == ((), "data@photos")
    assert found["train@sea-kmeans-0"] == (("evaluate@sea-kmeans-0",), "prepare@sea")
    assert found["train@street_2-infoseg-0"][1] == "prepare@street_2"
    assert "table1" not in found and "evaluate@sea-iic-1" not in found


def test_what_takes_seconds_comes_last():
    assert [chain.name for chain in CHAINS][-2:] == ["train@street-kmeans-0", "train@sea-kmeans-0"]


def test_everything_is_counted():
    assert str(Schedule(CHAINS, all_changed)) == "sources: 2, data sets: 3, trainings: 5"
    assert str(Schedule(CHAINS, lambda stages: set())) == ""


@given(
    changed=st.sets(st.sampled_from(STAGES)),
    later=st.sets(st.sampled_from(STAGES)),
    jobs=st.integers(1, 4),
    fails=st.sampled_from(("", *BEFORE)),
)
def test_nothing_is_begun_before_what_it_reads_has_ended(changed, later, jobs, fails):
    asked = []

    def tell(stages):
        asked.extend(stages)
        return (later | changed) & set(stages) if stages else changed

    schedule = Schedule(CHAINS, tell)
    told = begun(schedule, jobs, fails)
    done = [name[1:] for name in told if name[0] == "+"]
    assert len(done) == len(set(done)) and len(asked) == len(set(asked))
    place = {name: i for i, name in enumerate(told)}
    for name in done:
        before = BEFORE[name]
        if before in done:
            assert place[f"-{before}"] < place[f"+{name}"]
            assert before != fails
    # What was out of date is done, but for what a failure keeps from beginning.
    lost = set(schedule.failures)
    for chain in CHAINS:
        if set(chain.stages) & changed:
            assert chain.name in set(done) | lost
        if chain.before in lost and (set(chain.stages) & changed or chain.name in lost):
            assert chain.name not in done
    assert all(name == fails or BEFORE[name] in lost for name in lost)
    assert fails in lost or fails not in done


def test_a_failure_stops_what_depends_on_it_alone():
    schedule = Schedule(CHAINS, all_changed)
    told = begun(schedule, fails="prepare@street")
    lost = {"prepare@street", "train@street-infoseg-0", "train@street-kmeans-0"}
    assert set(schedule.failures) == lost
    told_of = schedule.failures["train@street-infoseg-0"].account
    assert told_of == "not begun, since prepare@street failed"
    assert {f"-{name}" for name in BEFORE.keys() - lost} < set(told)


def test_one_source_is_not_waited_for_by_the_other():
    finished = threading.Event()

    def do(chain):
        if chain.name == "data@photos":
            assert finished.wait(30)  # for the other source's trainings
        if chain.name == "train@sea-iic-1":
            finished.set()

    Schedule(CHAINS, all_changed).run(do, 2)


def test_data_made_again_as_it_was_begins_no_training():
    asked = []

    def tell(stages):
        asked.append(list(stages))
        return {"data@boats"} if not stages else set()

    assert begun(Schedule(CHAINS, tell)) == ["+data@boats", "-data@boats"]
    trainings = {
        stage for chain in CHAINS if chain.before == "prepare@sea" for stage in chain.stages
    }
    assert asked[:2] == [[], ["prepare@sea"]]
    assert set(asked[2]) == trainings and len(asked) == 3


def test_an_interruption_begins_nothing_more():
    def do(chain):
        raise KeyboardInterrupt

    schedule = Schedule(CHAINS, all_changed)
    with pytest.raises(KeyboardInterrupt):
        schedule.run(do, 2)
