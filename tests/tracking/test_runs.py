import json
import logging
import signal
import socket
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from manyheads.runtime import signals
from manyheads.tracking import git, runs, store
from manyheads.tracking.dvc import locked_digest
from manyheads.tracking.runs import RunSpec

EXPERIMENT = "faces"


@pytest.fixture
def root(tmp_path, migrated_store):
    (tmp_path / "mlflow.db").write_bytes(migrated_store.read_bytes())
    return tmp_path


def only_run(root):
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("faces").experiment_id])
    return run


def test_the_store_lies_beside_the_main_projects_pipeline(root, monkeypatch):
    assert store.tracking_uri(root) == f"sqlite:///{root}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", str(root / "main"))
    assert store.tracking_uri(root / "copy") == f"sqlite:///{root}/main/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert store.tracking_uri(root) == "http://tracking.example:5000"


def test_settings_become_flat_parameters(root):
    with runs.run(EXPERIMENT, root, RunSpec("a run", {"loss": "balanced"})) as run:
        run.params({"loss": {"weights": {"age": 4.0}}, "model": {"widths": (8, 16)}})
        run.metrics({"val/age/mae": 5.5}, step=1)
    stored = only_run(root)
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"loss.weights.age": "4.0", "model.widths": "8,16"}
    assert stored.data.metrics == {"val/age/mae": 5.5}
    assert stored.data.tags["loss"] == "balanced"


def test_the_run_of_a_killed_process_is_ended_by_the_next_one_and_that_of_a_living_process_is_not(root):
    code = """
import os, signal, sys
from pathlib import Path
from manyheads.tracking import runs
with runs.run("faces", Path(sys.argv[1]), runs.RunSpec(sys.argv[2])):
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("open", flush=True)
    sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(root)]
    assert subprocess.run([*command, "killed"], check=False).returncode == -signal.SIGKILL
    with subprocess.Popen([*command, "living"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdout.readline() == "open\n"
        with runs.run(EXPERIMENT, root, RunSpec("next")):
            pass
        assert statuses(root) == {"killed": "KILLED", "living": "RUNNING", "next": "FINISHED"}
        living.communicate("go on\n", timeout=60)
    assert statuses(root) == {"killed": "KILLED", "living": "FINISHED", "next": "FINISHED"}
    assert list((root / ".cache/runs").iterdir()) == []


@pytest.mark.timeout(40)
@pytest.mark.parametrize("answers", [False, True], ids=["nobody listens", "it never answers"])
def test_a_server_that_does_not_answer_costs_one_warning_without_its_password(
    answers, root, monkeypatch, caplog, capfd
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not answers:
            server.close()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
        monkeypatch.setitem(store.FIRST_CONTACT, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with runs.run(EXPERIMENT, root, RunSpec("a run")) as run:
            run.params({"epochs": 3})
            run.metrics({"val/score": 1.0})
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"http://***@127.0.0.1:{port}" in warning.getMessage()
    assert "secret" not in caplog.text + "".join(capfd.readouterr())


def statuses(root):
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("faces").experiment_id])
    return {run.info.run_name: run.info.status for run in found}


def test_a_known_parameter_stays_when_a_run_continues(root):
    with runs.run(EXPERIMENT, root, RunSpec("a run")) as run:
        run.params({"epochs": 3})
        run_id = run.run_id
    with runs.run(EXPERIMENT, root, RunSpec("again", run_id=run_id)) as run:
        run.params({"epochs": 4, "more": 1})
        assert run.run_id == run_id
    assert only_run(root).data.params == {"epochs": "3", "more": "1"}


@pytest.mark.parametrize(("raised", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_ends_as_its_body_does(root, raised, status):
    with pytest.raises(raised), runs.run(EXPERIMENT, root, RunSpec("a run")):
        raise raised
    assert only_run(root).info.status == status


def test_no_two_runs_have_the_same_name(root):
    for _ in range(3):
        with runs.run(EXPERIMENT, root, RunSpec("loss='a' lr=1_0")):
            pass
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    client = mlflow.MlflowClient()
    found = client.search_runs([client.get_experiment_by_name("faces").experiment_id])
    assert {run.info.run_name for run in found} == {
        "loss='a' lr=1_0", "loss='a' lr=1_0 (2)", "loss='a' lr=1_0 (3)",
    }  # fmt: skip


def test_a_name_says_what_differs_and_the_experiment(monkeypatch):
    assert runs.spec_of_differences([]).name == "default"
    assert runs.spec_of_differences(["a.x=1", "b.x=2", "c.y.z=3"]).name == "a.x=1 b.x=2 z=3"
    assert runs.spec_of_differences([f"a.b{number}=1" for number in range(6)]).name == "b0=1 b1=1 b2=1 b3=1 +2"
    monkeypatch.setenv("DVC_EXP_NAME", "bold-hare")
    spec = runs.spec_of_differences(["loss=age_heavy"])
    assert spec.name == "loss=age_heavy · bold-hare"
    assert json.loads(spec.tags["differs"]) == ["loss=age_heavy"]


def test_a_description_and_the_settings_hold_no_credentials(root):
    settings = {"data": {"path": "https://ann:hunter22@store.example/faces.zip"}}
    spec = RunSpec("a run", {"differs": json.dumps([f"data.path={settings['data']['path']}"]), "data": "faces"})
    with runs.run(EXPERIMENT, root, spec) as run:
        run.settings(settings)
        run.metrics({"best/val/score": 1.0})
        run.describe()
    stored = only_run(root)
    described = stored.data.tags["mlflow.note.content"]
    assert "data.path=https://***@store.example/faces.zip" in described
    assert "hunter22" not in str(stored.data.tags)
    assert "hunter22" not in mlflow.artifacts.load_text(f"{stored.info.artifact_uri}/params.yaml")


def test_artifacts_lie_in_the_main_project_whatever_the_working_directory(root, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    (root / "plots").mkdir()
    (root / "plots/a.txt").write_text("a")
    with runs.run(EXPERIMENT, root, RunSpec("a run")) as run:
        run.files(root / "plots", "plots")
    assert list((root / "mlruns").rglob("plots/a.txt"))


def test_the_dataset_has_dvcs_digest(root):
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  source:\n    cmd: x\n    outs:\n    - path: data/raw/a.zip\n      md5: 0123abcd\n"
    )
    assert locked_digest(root, "data/raw/a.zip") == "0123abcd"
    assert locked_digest(root, "data/raw/b.zip") == ""
    assert locked_digest(root / "nowhere", "data/raw/a.zip") == ""
    with runs.run(EXPERIMENT, root, RunSpec("a run")) as run:
        run.dataset(pd.DataFrame({"age": [1, 2]}), "sample", "data/raw/a.zip", "training")
    (entry,) = only_run(root).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("sample", "0123abcd")


def test_a_store_that_breaks_in_the_middle_is_one_warning(root, caplog):
    with runs.run(EXPERIMENT, root, RunSpec("a run")) as run:
        run.metrics({"a": 1.0})
        (root / "mlflow.db").write_bytes(b"this is no database")
        for step in range(3):
            run.metrics({"a": 2.0}, step=step)
        run.files(root / "mlflow.db")
    assert len([entry for entry in caplog.records if "MLflow did not take" in entry.message]) == 1
    assert run.run_id == ""


def test_an_interruption_that_a_driver_makes_an_error_of_ends_the_run(root, monkeypatch):
    monkeypatch.setattr(signals, "_received", True)

    def interrupted(*_, **__):
        raise RuntimeError("interrupted")

    with pytest.raises(KeyboardInterrupt), runs.run(EXPERIMENT, root, RunSpec("a run")) as run:
        monkeypatch.setattr(mlflow, "log_metrics", interrupted)
        run.metrics({"val/loss": 1.0}, step=1)
    assert only_run(root).info.status == "KILLED"


def test_provenance_names_commit_and_experiment(tmp_path, monkeypatch):
    assert git.provenance(tmp_path) == {}
    for command in (
        ["init", "-q"],
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setenv("DVC_EXP_NAME", "brave-test")
    tags = git.provenance(tmp_path)
    assert len(tags["git.commit"]) == 40
    assert tags["git.dirty"] == "false"
    assert tags["dvc.experiment"] == "brave-test"
    (tmp_path / "new").write_text("")
    assert git.provenance(tmp_path)["git.dirty"] == "true"


@pytest.mark.slow
def test_processes_that_open_a_fresh_store_at_once_do_not_break_it(tmp_path, warm_python):
    code = (
        "import sys; from pathlib import Path\n"
        "from manyheads.tracking import runs\n"
        "with runs.run('faces', Path.cwd(), runs.RunSpec(sys.argv[1])) as run:\n"
        "    run.metrics({'a': 1.0})\n"
        "sys.exit(not run.run_id)"
    )
    started = [subprocess.Popen([warm_python, "-c", code, str(i)], cwd=tmp_path) for i in range(4)]
    assert [process.wait() for process in started] == [0, 0, 0, 0]
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    assert len(mlflow.MlflowClient().search_runs(["1"])) == 4
    assert Path(tmp_path, ".cache").is_dir()
