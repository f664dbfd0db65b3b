"""Stores and servers of MLflow that are locked, of another version or something else, and what a record tells."""

import contextlib
import http.server
import logging
import platform
import sqlite3
import subprocess
import threading
from pathlib import Path

import mlflow
import pytest

from conftest import TINY, compose
from manyheads.errors import MachineError
from manyheads.stages import evaluate, report, train
from manyheads.tracking import git, runs, store
from manyheads.tracking.runs import RunSpec

SECRET = "hunter2"


def recorded(root):
    """Record a run and return whether the store has it."""
    with runs.run("faces", root, RunSpec("a run")) as run:
        run.params({"epochs": 3})
        run.metrics({"val/score": 1.0})
    return bool(run.run_id)


def assert_one_warning(caplog, *reasons):
    (warning,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert "MLflow did not take a run" in warning
    assert SECRET not in warning
    assert all(reason in warning for reason in reasons)


@pytest.mark.parametrize("state", ["locked for a moment", "locked", "schema"])
def test_row_63_a_store_that_is_locked_or_of_another_schema(state, tiny_project, caplog):
    root = tiny_project.root
    connection = sqlite3.connect(root / "mlflow.db", check_same_thread=False, isolation_level=None)
    with contextlib.closing(connection) as other:
        if state == "schema":
            other.execute("update alembic_version set version_num = 'bd07f7e963c5'")
        else:
            other.execute("begin exclusive")
        if state == "locked for a moment":
            timer = threading.Timer(2, other.rollback)
            timer.start()
            assert recorded(root)
            timer.join()
            return
        assert not recorded(root)
        said = "mlflow db upgrade" if state == "schema" else "database is locked"
        assert_one_warning(caplog, said)
        with pytest.raises(MachineError, match=said) as caught, store.open_store(root):
            pass
    assert "\n" not in str(caught.value)


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers each question with a page, or with an error."""

    status = 200

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"<html>\nplease log in</html>")

    do_POST = do_GET  # noqa: N815 - the name is that of the base class

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status", [200, 403, 500, 503])
def test_row_64_a_server_that_answers_with_an_error_or_a_page(status, tmp_path, caplog, monkeypatch, capfd):
    handler = type("Handler", (Answer,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:{SECRET}@127.0.0.1:{server.server_port}")
        assert not recorded(tmp_path)
        server.shutdown()
    assert_one_warning(caplog, "http://***@127.0.0.1")
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_row_86_what_is_shared_holds_no_path_of_this_machine(tiny_project, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    layout, config = tiny_project, compose(*TINY, "train.epochs=1")
    for stage in (train, evaluate, report):
        stage.run(config, layout, layout)
    root = layout.root
    files = [
        path for folder in ("models", "reports", "mlruns") for path in (root / folder).rglob("*") if path.is_file()
    ]
    assert len(files) > 30
    # MLflow itself writes the address of the store into the description of a logged model.
    shared = {path: path.read_bytes() for path in files if path.name != "MLmodel"}
    for private in (str(root), f"{Path.home()}/", f"/{platform.node()}/", SECRET):
        assert [str(path) for path, content in shared.items() if private.encode() in content] == []
    (run,) = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db").search_runs(["1"])
    assert SECRET not in str(run.data.tags)


def test_row_88_a_shallow_and_a_detached_clone_are_recorded(tmp_path):
    def run(*command):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command], cwd=tmp_path, check=True
        )

    run("init", "-q", "main")
    for name in ("one", "two"):
        (tmp_path / "main/file").write_text(name)
        run("-C", "main", "add", "file")
        run("-C", "main", "commit", "-q", "-m", name)
    run("clone", "-q", "--depth", "1", f"file://{tmp_path}/main", "shallow")
    run("clone", "-q", "main", "detached")
    run("-C", "detached", "checkout", "-q", "HEAD~1")
    head = git.provenance(tmp_path / "main")
    assert git.provenance(tmp_path / "shallow") == head
    old = git.provenance(tmp_path / "detached")
    assert old["git.dirty"] == "false"
    assert old["git.commit"] != head["git.commit"]
