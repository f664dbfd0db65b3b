import json
import os
import subprocess

import pytest

from manyheads.tracking import killed_experiment


@pytest.fixture
def root(tmp_path):
    """Return a repository as a `dvc exp run` leaves it while it runs: on no branch, with a record of its process."""
    git(tmp_path, "init", "--quiet", "--initial-branch=mine")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    git(tmp_path, "add", "params.yaml")
    git(tmp_path, "-c", "user.name=x", "-c", "user.email=x", "commit", "--quiet", "-m", "first")
    git(tmp_path, "checkout", "--quiet", "--detach")
    record = tmp_path / killed_experiment.RECORD
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"pid": dead_process()}))
    return tmp_path


def git(root, *arguments):
    subprocess.run(["git", *arguments], cwd=root, check=True)


def dead_process():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_a_killed_experiment_is_told_with_the_two_commands_that_mend_it(root, caplog):
    killed_experiment.warn(root)
    assert "`git checkout --force mine` and `dvc checkout` bring back what was there before it" in caplog.text
    assert "git stash" not in caplog.text
    caplog.clear()
    git(root, "checkout", "--quiet", "--force", "mine")
    killed_experiment.warn(root)
    assert caplog.text == ""


def test_changes_that_were_not_committed_are_told(root, caplog):
    git(root, "update-ref", killed_experiment.UNCOMMITTED, "HEAD")
    killed_experiment.warn(root)
    short = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True
    ).stdout.strip()
    assert f"what you had not committed is in `git stash apply {short}`" in caplog.text


@pytest.mark.parametrize("state", ["it runs", "a stage of it", "no record", "a damaged record"])
def test_nothing_is_said_of_an_experiment_that_runs_or_that_is_none(state, root, caplog, monkeypatch):
    record = root / killed_experiment.RECORD
    if state == "it runs":
        record.write_text(json.dumps({"pid": os.getpid()}))
    elif state == "a stage of it":
        monkeypatch.setenv("DVC_STAGE", "train")
    elif state == "no record":
        record.unlink()
    else:
        record.write_text("[1]")
    killed_experiment.warn(root)
    assert caplog.text == ""
