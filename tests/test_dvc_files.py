"""What a kill leaves of DVC's own files is mended, and nothing whole is touched."""

import copy
import subprocess

import pytest
import yaml

from infoseg import dvc_files
from infoseg.errors import InfosegError

STAGE = {
    "cmd": "python -m infoseg.notebooks run a b",
    "deps": [{"path": "a", "hash": "md5", "md5": "0" * 32, "size": 3}],
    "params": {"params.yaml": {"training": {"threads": 1}}},
    "outs": [{"path": "b", "hash": "md5", "md5": "1" * 32, "size": 4}],
}
STAGES = {f"train@{i}": copy.deepcopy(STAGE) for i in range(5)}
LOCK = yaml.safe_dump({"schema": "2.0", "stages": STAGES}, sort_keys=False)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / "dvc.lock").write_text(LOCK)
    return tmp_path


def commit(folder) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "dvc.lock"], [*who, "commit", "-qm", "m"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def test_whole_files_stay_as_they_are(repository, capsys):
    (repository / ".dvc/tmp/rwlock").write_text("{}")
    dvc_files.mend()
    assert (repository / "dvc.lock").read_text() == LOCK
    assert (repository / ".dvc/tmp/rwlock").exists()
    assert capsys.readouterr().err == ""
    (repository / "dvc.lock").unlink()
    dvc_files.mend()
    assert not (repository / "dvc.lock").exists()


@pytest.mark.parametrize("cut", range(0, len(LOCK), 7))
def test_a_lock_file_cut_anywhere_is_whole_or_replaced(repository, cut, capsys):
    commit(repository)
    half = LOCK[:cut]
    (repository / "dvc.lock").write_text(half)
    dvc_files.mend()
    after = (repository / "dvc.lock").read_text()
    if after == half:  # a shorter one that DVC reads: it knows fewer stages
        found = yaml.safe_load(half)
        assert found["schema"] == "2.0"
        assert all("cmd" in stage for stage in (found.get("stages") or {}).values())
    else:
        assert after == LOCK
        assert (repository / "build/dvc.lock.damaged").read_text() == half
        assert "the last commit's is used" in capsys.readouterr().err


def test_without_a_commit_the_lock_file_is_begun_again(repository):
    (repository / "dvc.lock").write_text(LOCK[:-30] + "{")
    dvc_files.mend()
    assert not (repository / "dvc.lock").exists()
    assert (repository / "build/dvc.lock.damaged").exists()


def test_an_unmerged_lock_file_is_the_users_to_merge(repository):
    text = LOCK + "<<<<<<< HEAD\n=======\n>>>>>>> other\n"
    (repository / "dvc.lock").write_text(text)
    with pytest.raises(InfosegError, match="conflict marks: take either side"):
        dvc_files.mend()
    assert (repository / "dvc.lock").read_text() == text


def test_half_of_dvcs_list_of_locks_is_removed(repository, capsys):
    (repository / ".dvc/tmp/rwlock").write_text('{"read": {"a": [{"pid": 1')
    dvc_files.mend()
    assert not (repository / ".dvc/tmp/rwlock").exists()
    assert "was not whole and is removed" in capsys.readouterr().err


def test_the_lock_file_is_sorted_by_the_pipeline_and_else_the_same(repository):
    stages = ["train@3", "train@0", "train@1", "train@2", "train@4"]
    dvc_files.sort_lock(stages[:3])
    found = (repository / "dvc.lock").read_text()
    assert yaml.safe_load(found) == yaml.safe_load(LOCK)
    assert list(yaml.safe_load(found)["stages"]) == stages
    assert sorted(found) == sorted(LOCK)
    (repository / "dvc.lock").write_text("schema: '2.0'\n")
    dvc_files.sort_lock(stages)
    assert (repository / "dvc.lock").read_text() == "schema: '2.0'\n"
