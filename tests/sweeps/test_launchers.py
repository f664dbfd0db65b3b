"""Sweeps in several processes: one MLflow server over HTTP, and a process that is killed."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import mlflow
import psutil
import pytest

from conftest import TINY, compose, make_tiny_project, write_lock
from manyheads.modeling import saving
from manyheads.paths import Paths
from manyheads.reporting import comparison
from manyheads.sweeps import launching
from manyheads.sweeps.trials import TrialState, TrialStore
from manyheads.tracking.logged_model import FOLDER
from manyheads.tracking.runs import RunSpec
from manyheads.tracking.runs import run as record
from mlflow_servers import PATIENCE, mlflow_server, wait_for

ROOT = Path(__file__).parents[2]
EPOCHS = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return the address of a tracking server whose store does not exist before it starts."""
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, folder / "mlflow.db") as address:
        yield address


def start(python: str, layout: Paths, server: str, log: Path, *arguments: str) -> subprocess.Popen:
    """Start a sweep that logs to a file; a process that a launcher leaves running would keep a pipe open."""
    command = [python, "-m", "manyheads", "train", "-m", *TINY, f"train.epochs={EPOCHS}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_TRACKING_URI": server}
    with log.open("w") as output:
        return subprocess.Popen(command, cwd=layout.root, env=environment, stdout=output, stderr=subprocess.STDOUT)


def states(layout: Paths) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in layout.sweeps.glob("*/trials/*/trial.json")]
    return {state["name"]: state for state in found}


def trainer(layout: Paths) -> psutil.Process | None:
    """Return a process that holds the lock of a training and has written a checkpoint of it."""
    locks = {str(path.with_suffix(".lock")) for path in layout.resume.glob("*.npz")}
    for process in psutil.process_iter():
        try:
            if locks & {file.path for file in process.open_files()}:
                return process
        except psutil.Error:
            continue
    return None


def test_trials_that_died_are_launched_one_by_one_if_the_launcher_kills_other_workers(tmp_path):
    store = TrialStore(tmp_path, tmp_path, "sweep")
    for trial_id, attempts in (("a", 1), ("b", 1), ("c", 0), ("d", 0)):
        store.write(trial_id, TrialState(name=trial_id, overrides=(), settings={}, split="", attempts=attempts))
    joblib = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"}
    assert launching.next_batch(store, ["a", "b", "c", "d"], joblib) == ["c", "d"]
    assert launching.next_batch(store, ["a", "b"], joblib) == ["a"]
    submitit = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"}
    assert launching.next_batch(store, ["a", "b", "c", "d"], submitit) == ["a", "b", "c", "d"]


def test_a_worker_gets_the_address_of_the_store_and_the_number_of_threads(monkeypatch):
    for name in launching.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    launcher = {"_target_": "hydra_plugins.hydra_submitit_launcher.x", "cpus_per_task": 6}
    with launching.thread_limits(launcher, 3) as environment:
        assert environment == dict.fromkeys(launching.THREADS, "6") | {"MLFLOW_TRACKING_URI": "http://tracking:5000"}
    assert not set(launching.THREADS) & set(os.environ)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with launching.thread_limits(launcher, 3) as environment:
        assert environment["OMP_NUM_THREADS"] == "2"


def model_of(run, server, folder):
    """Fetch the model of a run from the server, and return the folder of the saved model."""
    (output,) = run.outputs.model_outputs
    location = mlflow.MlflowClient(server).get_logged_model(output.model_id).artifact_location
    return Path(mlflow.artifacts.download_artifacts(location, dst_path=folder, tracking_uri=server)) / FOLDER


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("plug_in", "launcher"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
        ("hydra_ray_launcher", ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]),
    ],
    ids=["joblib", "submitit", "ray"],
)
def test_trials_in_processes_of_their_own(
    tmp_path, migrated_store, server, plug_in, launcher, warm_python, monkeypatch
):
    """A process is killed: its trials continue after their last epoch, in one run each, and train no epoch twice."""
    if importlib.util.find_spec(f"hydra_plugins.{plug_in}") is None:
        pytest.skip(f"{plug_in} is not installed: see docs/parallel.md")
    layout = make_tiny_project(tmp_path, migrated_store)
    for name in ("conf", "src"):
        if not (tmp_path / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    write_lock(layout, compose(*TINY))
    command = ["train.learning_rate=0.01,0.02", f"tracking.experiment={plug_in}", *launcher]

    log = tmp_path / "log"
    first = start(warm_python, layout, server, log, *command)
    victim = wait_for(lambda: trainer(layout), "a training")
    threads = victim.environ().get("TF_NUM_INTRAOP_THREADS")
    victim.kill()
    assert first.wait(PATIENCE) == 0, log.read_text()
    assert threads == "1"
    after = states(layout)
    assert [state["status"] for state in after.values()] == ["FINISHED"] * 2
    assert 2 in [state["attempts"] for state in after.values()]

    client = mlflow.MlflowClient(server)
    runs = client.search_runs([client.get_experiment_by_name(plug_in).experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert sorted(run.info.run_name for run in children) == sorted(after)
    for run in children:
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val/score")]
        assert sorted(steps) == list(range(1, EPOCHS + 1)), run.info.run_name
        assert saving.read_card(model_of(run, server, tmp_path / run.info.run_id)).digest[:16] == run.data.tags["model"]
    assert {Path(each.path).name for each in client.list_artifacts(parent.info.run_id, "comparison")} == {
        "comparison.html", comparison.TABLE,
    }  # fmt: skip

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with record(plug_in, layout.root, RunSpec(run_id=children[0].info.run_id)) as opened:
        opened.add_to_model({"model_card.md": "of https://ann:hunter22@store.example"}, "A card.")
    card = model_of(children[0], server, tmp_path / "with a card") / "model_card.md"
    assert card.read_text() == "of https://***@store.example"

    again = start(warm_python, layout, server, log, *command)
    assert again.wait(PATIENCE) == 0, log.read_text()
    assert "2 of them finished before" in log.read_text()
    assert states(layout) == after
