"""Sweeps in several processes: one MLflow server over HTTP, a point that fails, and a process that is killed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import psutil
import pytest

from conftest import TINY, compose, make_tiny_project, write_lock
from manyheads.layout import Layout
from serving import PATIENCE, mlflow_server, wait_for

ROOT = Path(__file__).parents[1]
EPOCHS = 25

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return the address of a tracking server whose store does not exist before it starts."""
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, folder / "mlflow.db") as address:
        yield address


def start(layout: Layout, server: str, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "manyheads", "train", "-m", *TINY, f"train.epochs={EPOCHS}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_TRACKING_URI": server}
    return subprocess.Popen(
        command, cwd=layout.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def records(layout: Layout) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in layout.sweeps.glob("*/points/*/point.json")]
    return {record["name"]: record for record in found}


def trainer(layout: Layout) -> psutil.Process | None:
    """Return a process that has the state of a training open for itself and has written an epoch of it."""
    locks = {str(state.with_suffix(".lock")) for state in layout.resume.glob("*.npz")}
    for process in psutil.process_iter():
        try:
            if locks & {file.path for file in process.open_files()}:
                return process
        except psutil.Error:
            continue
    return None


@pytest.mark.parametrize(
    ("plug_in", "launcher"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
        ("hydra_ray_launcher", ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]),
    ],
    ids=["joblib", "submitit", "ray"],
)
def test_points_in_processes_of_their_own(tmp_path, migrated_store, server, plug_in, launcher):
    """Of three points one diverges and one is killed: two finish, in one run each, under one parent."""
    if importlib.util.find_spec(f"hydra_plugins.{plug_in}") is None:
        pytest.skip(f"{plug_in} is not installed: see docs/parallel.md")
    layout = make_tiny_project(tmp_path, migrated_store)
    for name in ("conf", "src"):
        if not (tmp_path / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    write_lock(layout, compose(*TINY))
    experiment = f"tracking.experiment={plug_in}"
    command = ["train.learning_rate=0.01,0.02,1e38", experiment, *launcher]

    first = start(layout, server, *command)
    victim = wait_for(lambda: trainer(layout), "a training")
    threads = victim.environ().get("TF_NUM_INTRAOP_THREADS")
    victim.kill()
    _, err = first.communicate(timeout=PATIENCE)
    assert first.returncode == 1, err
    assert threads == "1"
    after = records(layout)
    good = ["learning_rate=0.01", "learning_rate=0.02"]
    assert after["learning_rate=1e+38"]["status"] == "FAILED"
    assert "diverged" in after["learning_rate=1e+38"]["error"]
    assert [after[name]["status"] for name in good] == ["FINISHED"] * 2, err
    assert 2 in [after[name]["attempts"] for name in good]

    client = mlflow.MlflowClient(server)
    runs = client.search_runs([client.get_experiment_by_name(plug_in).experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert len(children) == len(runs) - 1 == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert [children[name].info.status for name in good] == ["FINISHED"] * 2
    for name in good:
        steps = [point.step for point in client.get_metric_history(children[name].info.run_id, "val/score")]
        assert sorted(steps) == list(range(1, EPOCHS + 1)), name
    assert {Path(each.path).name for each in client.list_artifacts(parent.info.run_id, "comparison")} == {
        "comparison.html", "points.csv",
    }  # fmt: skip
    assert not (layout.root / "mlflow.db-journal").exists()

    again = start(layout, server, *command)
    _, err = again.communicate(timeout=PATIENCE)
    assert again.returncode == 1, err
    assert "2 of them finished before" in err
    assert {name: records(layout)[name] for name in good} == {name: after[name] for name in good}
