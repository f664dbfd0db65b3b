import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from manyheads.tracking import killed_dvc

IDENTITY = {f"GIT_{who}_{what}": f"{who}@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

BACK = ["git checkout --force mine", "dvc checkout --force --allow-missing"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a repository as a `dvc exp run` leaves it while it runs: on no branch, with a record of its process."""
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    git(tmp_path, "init", "--quiet", "--initial-branch=mine")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    git(tmp_path, "add", "params.yaml")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    git(tmp_path, "checkout", "--quiet", "--detach")
    record = tmp_path / killed_dvc.RUNNING
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"pid": dead_process()}))
    return tmp_path


@pytest.fixture
def queueing(root):
    """Return a repository as a `dvc exp run` leaves it while it writes an experiment into its queue."""
    shutil.rmtree((root / killed_dvc.RUNNING).parent)
    record = {"read": {}, "write": {"workspace": {"pid": dead_process(), "cmd": "dvc exp run"}}}
    (root / killed_dvc.LOCKED).write_text(json.dumps(record))
    return root


def git(root, *arguments):
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def dead_process():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def told(root, caplog):
    """Return the commands that are told: those that bring back what was there, and that for uncommitted changes."""
    caplog.clear()
    killed_dvc.warn(root)
    before, _, after = caplog.text.partition("back what was there before it")
    assert ("a `dvc` command was killed" in before) == bool(after)
    return re.findall("`([^`]+)`", before.partition("was killed:")[2]), re.findall("`([^`]+)`", after)


def test_a_killed_experiment_is_told_with_the_two_commands_that_mend_it(root, caplog):
    assert told(root, caplog) == (BACK, [])
    assert (
        "`git checkout --force mine` and `dvc checkout --force --allow-missing` bring back what was there before it"
        in caplog.text
    )
    (root / killed_dvc.RUNNING).write_text("[1]")
    assert told(root, caplog)[0] == BACK
    git(root, "checkout", "--quiet", "--force", "mine")
    assert told(root, caplog) == ([], [])


def test_changes_that_were_not_committed_are_told(root, caplog):
    git(root, "update-ref", killed_dvc.UNCOMMITTED, "HEAD")
    assert told(root, caplog)[1] == [f"git stash apply {git(root, 'rev-parse', '--short', 'HEAD')}"]


def test_what_a_killed_experiment_left_while_it_was_queued_is_told(queueing, caplog):
    (queueing / ".git/index.lock").touch()
    (queueing / ".git/refs/heads/mine.lock").touch()
    git(queueing, "update-ref", killed_dvc.QUEUED, "HEAD")
    mending = [
        "rm -f .git/index.lock .git/refs/heads/mine.lock",
        "git update-ref -d refs/exps/stash",
        *BACK,
    ]
    assert told(queueing, caplog) == (mending, [])
    for command in mending[:3]:
        subprocess.run(command.split(), cwd=queueing, check=True)
    assert told(queueing, caplog) == ([], [])


@pytest.mark.parametrize("whose", ["of the experiment", "older"])
def test_only_the_stash_of_the_experiment_is_told(whose, queueing, caplog, monkeypatch):
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2020-01-01T00:00:00" if whose == "older" else "2040-01-01T00:00:00")
    (queueing / "params.yaml").write_text("seed: 2\n")
    git(queueing, "stash")
    assert told(queueing, caplog)[1] == ([] if whose == "older" else ["git stash pop"])


def test_a_damaged_lock_of_dvc_is_told(queueing, caplog):
    (queueing / killed_dvc.LOCKED).write_text('{"read": {')
    assert told(queueing, caplog)[0][0] == f"rm -f {killed_dvc.LOCKED}"


def test_a_damaged_lock_is_told_where_no_experiment_ever_ran(queueing, caplog):
    git(queueing, "checkout", "--quiet", "mine")
    shutil.rmtree(queueing / ".dvc/tmp/exps")
    (queueing / ".dvc/tmp/rwlock").write_text("")
    assert told(queueing, caplog) == (["rm -f .dvc/tmp/rwlock"], [])


@pytest.mark.slow
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("share", [0, 0.3, 0.6])
def test_a_lock_file_that_is_cut_off_is_told(share, committed, root, caplog):
    """DVC itself says of an empty one that its schema is not met."""
    git(root, "checkout", "--quiet", "mine")
    shutil.rmtree(root / ".dvc")
    (root / "dvc.yaml").write_text("stages: {copy: {cmd: cp params.yaml out, params: [seed], outs: [out]}}")
    dvc = [sys.executable, "-m", "dvc"]
    for command in ("init", "repro"):
        subprocess.run([*dvc, command, "--quiet"], cwd=root, check=True)
    if committed:
        git(root, "add", "dvc.lock")
    lock = root / "dvc.lock"
    whole = lock.read_bytes()
    assert told(root, caplog) == ([], [])
    lock.write_bytes(whole[: int(share * len(whole))].removesuffix(b"\n"))
    (command,), _ = told(root, caplog)
    assert command == ("git checkout dvc.lock" if committed else "rm dvc.lock")
    subprocess.run(command.split(), cwd=root, check=True)
    subprocess.run([*dvc, "repro", "--quiet"], cwd=root, check=True)
    assert lock.read_bytes() == whole


def test_an_experiment_is_told_whose_process_dvc_has_forgotten(queueing, caplog):
    (queueing / killed_dvc.LOCKED).write_text('{"read": {}}')
    assert told(queueing, caplog) == ([], [])
    (queueing / ".git/index.lock").touch()
    assert told(queueing, caplog)[0] == [
        "rm -f .git/index.lock",
        *BACK,
    ]
    (queueing / ".git/index.lock").unlink()
    git(queueing, "commit", "--quiet", "--allow-empty", "-m", "dvc: commit experiment 1234")
    assert told(queueing, caplog)[0] == BACK


def test_a_lock_that_is_left_at_the_very_end_is_told(queueing, caplog):
    (queueing / killed_dvc.LOCKED).unlink()
    git(queueing, "checkout", "--quiet", "mine")
    (queueing / ".git/index.lock").touch()
    assert told(queueing, caplog) == ([], [])  # git itself may run
    git(queueing, "reflog", "expire", "--expire=all", "--all")
    git(queueing, "update-ref", "-m", "dvc: Restore HEAD to 'mine'", "--create-reflog", "HEAD", "HEAD")
    assert told(queueing, caplog)[0] == ["rm -f .git/index.lock"]


def test_the_branch_is_found_behind_several_kills(root, caplog):
    git(root, "commit", "--quiet", "--allow-empty", "-m", "second")
    git(root, "checkout", "--quiet", "--detach", "mine")
    assert told(root, caplog)[0][0] == "git checkout --force mine"


@pytest.mark.parametrize("state", ["it runs", "a stage of it", "no record"])
def test_nothing_is_said_of_an_experiment_that_runs_or_that_is_none(state, root, caplog, monkeypatch):
    record = root / killed_dvc.RUNNING
    if state == "it runs":
        record.write_text(json.dumps({"pid": os.getpid()}))
    elif state == "a stage of it":
        monkeypatch.setenv("DVC_STAGE", "train")
    else:
        shutil.rmtree(record.parent)
    assert told(root, caplog) == ([], [])


KILLED_AT = """
import os, signal, sys
event, name = sys.argv[1:]
def kill(happened, arguments):
    names = [os.fsdecode(each) for each in arguments if isinstance(each, (str, bytes))]
    if happened == event and any(each.endswith(name) for each in names):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
from dvc.cli import main
main(["exp", "run", "--set-param", "seed=3"])
"""
"""A `dvc exp run` that is killed when a file is renamed to, or removed under, a name."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "name"),
    [
        pytest.param("os.remove", "repro.dat", id="queued"),
        pytest.param("os.rename", "EXEC_MERGE", id="before it runs"),
        pytest.param("os.remove", "EXEC_BASELINE", id="has run"),
    ],
)
def test_after_a_kill_the_told_commands_bring_back_branch_and_changes(event, name, tmp_path, caplog, monkeypatch):
    for variable, value in IDENTITY.items():
        monkeypatch.setenv(variable, value)
    git(tmp_path, "init", "--quiet", "--initial-branch=mine")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    (tmp_path / "notes.txt").write_text("committed")
    (tmp_path / "dvc.yaml").write_text("stages: {copy: {cmd: cp params.yaml out, params: [seed], outs: [out]}}")
    dvc = [sys.executable, "-m", "dvc"]
    for command in ("init", "repro"):
        subprocess.run([*dvc, command, "--quiet"], cwd=tmp_path, check=True)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "notes.txt").write_text("not committed")
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, event, name], cwd=tmp_path, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    mending, changes = told(tmp_path, caplog)
    for command in (*mending, *changes):
        subprocess.run(
            [*(dvc if command.startswith("dvc") else []), *command.split()[command.startswith("dvc") :]],
            cwd=tmp_path,
            check=True,
        )
    assert git(tmp_path, "branch", "--show-current") == "mine"
    assert (tmp_path / "notes.txt").read_text() == "not committed"
    assert (tmp_path / "out").read_text() == "seed: 1\n"
    assert git(tmp_path, "for-each-ref", killed_dvc.QUEUED) == ""
    assert told(tmp_path, caplog)[0] == []
