"""Faults of the machine: a full disk, too little memory, too few open files, clocks, terminals, missing programs."""

import errno
import itertools
import os
import pty
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import sqlalchemy

from conftest import TINY, make_sweep_project
from manyheads.__main__ import main
from manyheads.data.arrays import open_packed
from manyheads.data.tables import write_table
from manyheads.errors import DataError, MachineError
from manyheads.modeling import saving
from manyheads.runtime.files import write_text
from manyheads.runtime.locks import exclusive_lock
from manyheads.stages import pack
from manyheads.sweeps.train_trial import time_left_text
from manyheads.tracking import git, runs
from manyheads.tracking.git_registry import GitRegistry
from manyheads.tracking.store import is_missing, reason_of, tracking_uri
from manyheads.training import checkpoint
from manyheads.training.checkpoint import Progress, save_checkpoint

ROOT = Path(__file__).parents[2]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def project(tmp_path, migrated_store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_sweep_project(tmp_path, migrated_store)


@pytest.fixture
def store(tmp_path, migrated_store):
    """Return a folder with an empty store of MLflow."""
    shutil.copy(migrated_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def command(capsys, monkeypatch):
    """Return a function that runs a command in this process and returns its status and the lines of its errors."""
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", sys.argv)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        return end.value.code, capsys.readouterr().err.splitlines()

    yield run
    for number, handler in handlers:
        signal.signal(number, handler)


@contextmanager
def limited(what, limit):
    """Lower a limit of this process in the body."""
    before = resource.getrlimit(what)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(what, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)
        signal.signal(signal.SIGXFSZ, handler)


def raising(error):
    def raise_it(*_, **__):
        raise error

    return raise_it


def run_states(folder):
    with sqlite3.connect(folder / "mlflow.db") as connection:
        return dict(connection.execute("select name, status from runs").fetchall())


class Network:
    """The variables of a model, which a checkpoint has."""

    def __init__(self, size):
        self.variables = [types.SimpleNamespace(numpy=lambda: np.ones(size, dtype=np.float32))]
        self.optimizer = types.SimpleNamespace(variables=[])


def test_row_57_the_checkpoint_before_stays_on_a_full_disk(tmp_path):
    path = tmp_path / "resume/a.npz"
    save_checkpoint(path, Network(100), Progress(run_id="first"))
    with (
        limited(resource.RLIMIT_FSIZE, 10_000),
        pytest.raises(MachineError, match=r"cannot write .*a\.npz: File too large; nothing was changed: free the disk"),
    ):
        save_checkpoint(path, Network(100_000), Progress(run_id="second"))
    assert checkpoint.recorded_run(path) == "first"
    assert list(path.parent.iterdir()) == [path]


def test_row_57_a_full_disk_costs_the_record_of_a_training_and_no_more(store, caplog):
    def allow_no_page(connection, _):
        connection.execute("pragma max_page_count = 1")  # SQLite takes the number of pages that are there

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", allow_no_page)
    try:
        with runs.run("manyheads", store, runs.RunSpec("full")) as run:
            for epoch in range(200):
                run.metrics({f"val/{number}": 1.0 for number in range(20)}, step=epoch)
            run.text("x", "a.txt")
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", allow_no_page)
    (warning,) = [record.message for record in caplog.records]
    assert "(sqlite3.OperationalError) database or disk is full" in warning


def test_row_57_an_artifact_on_a_full_disk_is_one_warning(store, monkeypatch, caplog):
    with runs.run("manyheads", store, runs.RunSpec("a")) as run:
        monkeypatch.setattr("shutil.copyfileobj", raising(FULL))
        run.text("x", "a.txt")
        run.text("x", "b.txt")
    (warning,) = [record.message for record in caplog.records]
    assert "did not take artifact a.txt ([Errno 28] No space left on device)" in warning


def test_row_57_the_next_run_ends_the_one_whose_end_was_not_taken(store, monkeypatch, caplog):
    with runs.run("manyheads", store, runs.RunSpec("full")), monkeypatch.context() as broken:
        broken.setattr("mlflow.MlflowClient.log_batch", raising(FULL))
        end = mlflow.end_run

        def end_without_record(status):
            with monkeypatch.context() as full:
                full.setattr("mlflow.MlflowClient.set_terminated", raising(FULL))
                end(status)

        monkeypatch.setattr("mlflow.end_run", end_without_record)
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "warning: MLflow did not take the end of the run"
    ]
    monkeypatch.setattr("mlflow.end_run", end)
    assert run_states(store) == {"full": "RUNNING"}
    with runs.run("manyheads", store, runs.RunSpec("next")):
        pass
    assert run_states(store) == {"full": "KILLED", "next": "FINISHED"}


def test_row_57_a_lock_on_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.write_text", raising(FULL))
    for _ in range(2):  # the first attempt does not keep the lock
        with (
            pytest.raises(MachineError, match=r"cannot write .*a\.lock: No space left on device: free the disk"),
            exclusive_lock(tmp_path / "a.lock", "writes"),
        ):
            pass


def test_row_57_a_table_on_a_full_disk_leaves_the_one_before(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path, pd.DataFrame({"a": [1]}))
    with limited(resource.RLIMIT_FSIZE, 1000), pytest.raises(MachineError, match="nothing was changed: free the disk"):
        write_table(path, pd.DataFrame({"a": range(100_000)}))
    assert path.read_text() == "a\n1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_row_57_the_reason_is_that_of_the_database_not_of_its_session():
    error = Exception(
        "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block)\n"
        "(sqlite3.OperationalError) attempt to write a readonly database"
    )
    assert reason_of(error) == "(sqlite3.OperationalError) attempt to write a readonly database"
    assert reason_of(Exception("")) == "Exception"


def test_row_58_too_few_open_files_are_one_line_with_the_remedy(tmp_path):
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    with (
        limited(resource.RLIMIT_NOFILE, free),
        pytest.raises(MachineError, match=r"Too many open files; nothing was changed: .*`ulimit -n 4096`"),
    ):
        write_text(tmp_path / "table.csv", "x")


def test_row_58_a_disk_that_is_read_only_is_one_line(project, command, monkeypatch):
    monkeypatch.setattr("pathlib.Path.mkdir", raising(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    code, lines = command("pack")
    assert code == 5
    (line,) = lines
    assert line.endswith("pack.lock: Read-only file system: mount it for writing, or name another place")


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_row_58_a_good_file_that_cannot_be_read_is_not_called_damaged(number, tmp_path, monkeypatch, tiny_config):
    path = tmp_path / "a.npz"
    save_checkpoint(path, Network(10), Progress())
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.keras").touch()
    monkeypatch.setattr("numpy.load", raising(OSError(number, os.strerror(number))))
    monkeypatch.setattr("pathlib.Path.read_text", raising(OSError(number, os.strerror(number))))
    for read in (
        lambda: checkpoint.recorded_run(path),
        lambda: open_packed(path, tiny_config().inputs["image"]),
        lambda: saving.read_card(tmp_path),
    ):
        with pytest.raises(MachineError, match=f"cannot read .*: {os.strerror(number)}: "):
            read()
    assert path.exists()


def test_row_59_too_little_memory_is_one_line_with_the_remedy(project, command, monkeypatch):
    monkeypatch.setattr(pack, "run", raising(MemoryError("Unable to allocate 9.00 GiB for an array\nwith shape (1,)")))
    code, lines = command("pack")
    assert code == 5
    (line,) = lines
    assert line.startswith("error: out of memory (Unable to allocate 9.00 GiB for an array): free memory, or lower ")
    assert "train.batch_size" in line
    assert "image_size" in line


@pytest.mark.slow
def test_row_59_a_training_out_of_memory_continues_after_its_last_epoch(project, command, monkeypatch):
    import tensorflow as tf

    from manyheads.modeling.multi_head import MultiHeadModel

    fit, epochs = MultiHeadModel.fit, itertools.count(1)

    def fit_once(*arguments, **options):
        if next(epochs) == 2:
            raise tf.errors.ResourceExhaustedError(
                None, None, "Graph execution error\nOOM when allocating tensor [9]\nat"
            )
        return fit(*arguments, **options)

    monkeypatch.setattr(MultiHeadModel, "fit", fit_once)
    arguments = ["train", *TINY, "model.widths=[8]", "model.blocks=[1]", "train.epochs=2"]
    code, lines = command(*arguments)
    assert code == 5
    assert lines[-1].startswith(
        "error: out of memory (OOM when allocating tensor [9]): free memory, or lower train.batch"
    )
    assert not project.model.exists()
    code, lines = command(*arguments)
    assert code == 0
    assert any(line.startswith("continuing after epoch 1") for line in lines)
    assert len(pd.read_csv(project.history)) == 2
    assert set(run_states(project.root).values()) == {"FINISHED"}


def test_row_60_a_second_pack_says_who_runs_the_first(project, command):
    with exclusive_lock(project.root / ".cache/pack.lock", "packs"):
        code, (line,) = command("pack")
    assert code == 5
    assert f"another process writes what `pack` writes in this project (process {os.getpid()} on " in line
    assert "wait for it, or stop it" in line


def test_row_61_a_lock_that_names_a_living_process_but_is_not_held_is_free(tmp_path):
    path = tmp_path / "a.lock"
    path.write_text(f"process {os.getppid()} on this machine, since 2020-01-01 00:00:00: python -m manyheads pack\n")
    with exclusive_lock(path, "writes"):
        assert f"process {os.getpid()} " in path.read_text()


def test_row_67_a_clock_that_goes_back_gives_no_negative_times_and_no_name_twice(store, monkeypatch):
    clock = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    monkeypatch.delenv("TZ", raising=False)
    for _ in range(2):
        with runs.run("manyheads", store, runs.RunSpec("a")) as run:
            run.metrics({"val/score": 1.0}, step=1)
    assert run_states(store) == {"a": "FINISHED", "a (2)": "FINISHED"}
    with sqlite3.connect(store / "mlflow.db") as connection:
        assert connection.execute("select count(*) from runs where end_time < start_time").fetchone() == (0,)
    assert time_left_text(2_000_000_000.0, 1, 5) == ""


def test_row_107_a_python_without_the_packages_is_one_line():
    done = subprocess.run(
        [sys.executable, "-S", "-m", "manyheads", "results"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 5
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "lacks the package" in line
    assert "`make install`" in line


@pytest.mark.parametrize("path", ["", "/usr/bin:/bin"], ids=["without git", "without a repository"])
def test_row_108_git_is_not_needed(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.provenance(tmp_path) == {}
    assert git.commit_of(tmp_path, "HEAD") == ""
    assert git.text_at(tmp_path, "HEAD", "dvc.lock") is None


def test_row_109_a_closed_terminal_interrupts_as_ctrl_c_does():
    code = (
        "import signal, time; from manyheads import __main__ as command\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # nohup ignores it
        "def wait(*_): print('ready', flush=True); time.sleep(60)\n"
        "command._run = wait; command.main(['train'])"
    )
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=end, stdout=end, stderr=end, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(end)
    while b"ready" not in os.read(terminal, 1000):
        pass
    os.close(terminal)
    assert process.wait(60) == 130


def test_row_109_nohup_keeps_a_command_alive():
    code = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from manyheads.runtime.signals import install_handlers, raise_if_interrupted\n"
        "install_handlers(); os.kill(os.getpid(), signal.SIGHUP); raise_if_interrupted()"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["100%20 of it", "who?=me", 'it\'s "ü" #1'])
def test_row_110_the_record_of_a_project_lies_in_it_whatever_its_name(name, tmp_path, migrated_store):
    root = tmp_path / name
    root.mkdir()
    assert is_missing(tracking_uri(root))
    shutil.copy(migrated_store, root / "mlflow.db")
    assert not is_missing(tracking_uri(root))
    with runs.run("manyheads", root, runs.RunSpec("a")) as run:
        run.text("x", "a.txt")
    assert run_states(root) == {"a": "FINISHED"}
    assert list(root.glob("mlruns/*/artifacts/a.txt"))
    # MLflow makes a folder of the name in its address, beside the project and empty.
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and root not in path.parents]


def test_row_111_a_working_directory_that_was_deleted_is_one_line(tmp_path, monkeypatch, command):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert command("results") == (5, ["error: the working directory was deleted: cd into a folder that is there"])


def test_row_112_a_clone_of_another_user_points_to_what_git_says(tmp_path, monkeypatch):
    for arguments in (["init", "-q"], ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "x"]):
        subprocess.run(["git", *arguments, *["--allow-empty"][: "commit" in arguments]], cwd=tmp_path, check=True)
    assert git.commit_of(tmp_path, "HEAD")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # a switch of git's own tests
    assert git.provenance(tmp_path) == {}
    with pytest.raises(DataError, match="see what `git status` says, or register without --git"):
        GitRegistry(tmp_path, "model").find(None)
