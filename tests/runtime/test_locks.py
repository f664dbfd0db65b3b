import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TINY, make_sweep_project
from manyheads.errors import MachineError
from manyheads.runtime.locks import exclusive_lock
from mlflow_servers import wait_for


def test_the_error_names_the_process_that_holds_the_lock(tmp_path):
    path = tmp_path / "folder/a.lock"
    with exclusive_lock(path, "draws"), pytest.raises(MachineError) as caught, exclusive_lock(path, "draws"):
        pass
    assert f"another process draws (process {os.getpid()} on " in str(caught.value)
    assert Path(sys.orig_argv[0]).name in str(caught.value)
    with exclusive_lock(path, "draws"):
        pass


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    code = (
        "import pathlib, sys, time; from manyheads.runtime.locks import exclusive_lock\n"
        "with exclusive_lock(pathlib.Path(sys.argv[1]), 'waits'): print('held', flush=True); time.sleep(600)"
    )
    path = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(MachineError, match=f"process {process.pid} "), exclusive_lock(path, "waits"):
            pass
        process.kill()
    with exclusive_lock(path, "waits"):
        pass


def test_a_lock_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(MachineError, match=r"cannot write .*file/a\.lock: "),
        exclusive_lock(tmp_path / "file/a.lock", "x"),
    ):
        pass


@pytest.mark.slow
def test_two_different_trainings_in_one_project_are_not_trained_at_once(tmp_path, migrated_store, warm_python):
    project = make_sweep_project(tmp_path, migrated_store)
    command = [warm_python, "-m", "manyheads", "train", *TINY]
    first = subprocess.Popen([*command, "train.epochs=5000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: list(project.resume.glob("*.npz")), "the first epoch")
        second = subprocess.run([*command, "seed=2"], cwd=tmp_path, capture_output=True, text=True)
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate()
    assert second.returncode == 5
    assert len(second.stderr.strip().splitlines()) == 1
    assert "another process writes what `train` writes in this project (process " in second.stderr
    assert "train.epochs=5000" in second.stderr
    assert not project.model.exists()
    assert subprocess.run([*command, "seed=2", "train.epochs=1"], cwd=tmp_path, capture_output=True).returncode == 0
