import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from conftest import TINY, make_sweep_project
from manyheads.__main__ import main
from manyheads.paths import Paths
from manyheads.reporting import comparison
from manyheads.sweeps import grid
from manyheads.sweeps.launching import cores_per_trial

ROOT = Path(__file__).parents[2]
QUICK = [*TINY, "train.epochs=1"]


@pytest.fixture
def project(tmp_path, migrated_store, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_sweep_project(tmp_path, migrated_store)


def train(*arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    argv = sys.argv
    try:
        main(["train", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
    return 0


def runs(layout: Paths) -> tuple[list, list]:
    """Return the parents and the children of the store."""
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    found = mlflow.MlflowClient().search_runs(["1"], order_by=["attributes.start_time ASC"])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in children], children


def states(layout: Paths) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in layout.sweeps.glob("*/trials/*/trial.json")]
    return {state["name"]: state for state in found}


FOUR = ["-m", *QUICK, "loss.weights.age=0.5,2", "seed=1,2"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, migrated_store):
    folder = tmp_path_factory.mktemp("swept")
    layout = make_sweep_project(folder, migrated_store)
    before = Path.cwd()
    os.chdir(folder)
    try:
        code = train(*FOUR)
    finally:
        os.chdir(before)
    return layout, code


@pytest.mark.slow
def test_a_sweep_is_a_parent_with_a_child_for_each_trial(swept):
    layout, code = swept
    assert code == 0
    (parent,), children = runs(layout)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["command"].startswith("python -m manyheads train -m ")
    assert sorted(child.info.run_name for child in children) == [
        "age=0.5 seed=1", "age=0.5 seed=2", "age=2 seed=1", "age=2 seed=2",
    ]  # fmt: skip
    for child in children:
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert {child.data.params["loss.weights.age"] for child in children} == {"0.5", "2.0"}
    assert len({frozenset(child.data.metrics) for child in children}) == 1
    assert {"best/val/age/mae", "val/age/mae", "best/val/score"} <= set(children[0].data.metrics)


@pytest.mark.slow
def test_the_answer_is_beside_the_trials_and_on_the_parent(swept):
    layout, _ = swept
    (parent,), children = runs(layout)
    (folder,) = layout.sweeps.iterdir()
    table = pd.read_csv(folder / comparison.TABLE)
    assert sorted(table["run_id"]) == sorted(child.info.run_id for child in children)
    assert "dvc exp run -S" in (folder / "comparison.html").read_text()
    logged = mlflow.MlflowClient().list_artifacts(parent.info.run_id, "comparison")
    assert {Path(each.path).name for each in logged} == {"comparison.html", comparison.TABLE}


@pytest.mark.slow
def test_the_parent_has_winner_score_noise_and_front_of_its_trials(swept):
    layout, _ = swept
    (parent,), children = runs(layout)
    metrics, tags = parent.data.metrics, parent.data.tags
    by_weight = defaultdict(list)
    for child in children:
        by_weight[child.data.params["loss.weights.age"]].append(child.data.metrics["best/val/score"])
    assert metrics["best/val/score"] == pytest.approx(max(map(np.mean, by_weight.values())))
    assert metrics["noise/score"] == pytest.approx(
        np.sqrt(np.mean([np.var(two, ddof=1) for two in by_weight.values()]))
    )
    assert (metrics["trials"], metrics["finished"], metrics["candidates"]) == (4, 4, 2)
    winner = next(child for child in children if child.info.run_id == tags["winner.run_id"])
    assert tags["winner"] in winner.info.run_name == tags["winner.run_name"]
    assert f"age={winner.data.params['loss.weights.age']}" in tags["winner.weights"]
    assert tags["winner"] in tags["front"].split("; ")
    assert tags["promote"].startswith("dvc exp run -S ")
    described = tags["mlflow.note.content"]
    assert tags["promote"] in described
    assert f"runs/{winner.info.run_id}" in described
    assert f"{metrics['best/val/score']:.3f}" in described


@pytest.mark.slow
def test_a_trial_is_described_with_its_command(swept):
    layout, _ = swept
    _, children = runs(layout)
    for child in children:
        described = child.data.tags["mlflow.note.content"]
        command = described.partition("**Promote it:** `")[2].partition("`")[0]
        age, seed = child.data.params["loss.weights.age"], child.data.params["seed"]
        assert f"-S loss.weights.age={float(age):g} -S seed={seed}" in command
        assert f"{child.data.metrics['best/val/age/mae']:.3f}" in described
        assert f"{child.data.metrics['val_baseline/age/mae']:.3f}" in described


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_answers(swept, monkeypatch, capsys):
    layout, _ = swept
    monkeypatch.chdir(layout.root)
    before = states(layout)
    assert train(*FOUR) == 0
    assert states(layout) == before
    parents, children = runs(layout)
    assert (len(parents), len(children)) == (1, 4)
    assert "dvc exp run -S" in capsys.readouterr().out


@pytest.mark.slow
def test_a_trial_that_fails_stops_no_other(project, capsys):
    command = ["-m", *QUICK, "train.learning_rate=0.01,1e38"]
    assert train(*command) == 1
    message = capsys.readouterr().err
    assert "1 of 2 trials did not finish: learning_rate=1e+38 (training diverged in epoch 1" in message
    (parent,), children = runs(project)
    assert parent.info.status == "FAILED"
    by_status = {child.info.status: child for child in children}
    assert set(by_status) == {"FINISHED", "FAILED"}
    failed = by_status["FAILED"]
    text = mlflow.artifacts.load_text(f"{failed.info.artifact_uri}/traceback.txt")
    assert "training diverged" in text
    assert train(*command) == 1
    _, again = runs(project)
    assert {child.info.run_id for child in again} == {child.info.run_id for child in children}
    assert states(project)["learning_rate=0.01"]["attempts"] == 1


@pytest.mark.slow
def test_trials_that_are_the_same_are_trained_once(project):
    assert train("-m", *QUICK, "loss.weights.age=1,1.0") == 0
    _, children = runs(project)
    assert len(children) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["loss.weights.agee=1,2"], 2, "unknown setting 'loss.weights.agee' - did you mean 'loss.weights.age'?"),
        (["+loss.weights.nose=1,2"], 2, "the heads are age, gender and race"),
        (["loss.weights.age=1,x"], 2, "the trial age=x: 'loss.weights.age': input should be a valid number"),
        (["loss.weights.age=interval(1,2)"], 2, "use `search` for intervals"),
        (
            ["inputs.image.image_size=16,32"],
            4,
            "made with inputs.image.image_size=16, but this configuration has inputs.image.image_size=32",
        ),
        (["data.heads.age.tolerance=3", "seed=1,2"], 4, "dvc repro split"),
    ],
)
def test_bad_settings_are_refused_before_the_first_trial(project, capsys, arguments, code, message):
    assert train("-m", *QUICK, *arguments) == code
    assert message in capsys.readouterr().err
    assert runs(project) == ([], [])
    assert not project.sweeps.exists()


def test_a_split_that_is_not_the_locked_one_is_refused(project, capsys):
    project.splits.write_text(project.splits.read_text().replace("train", "validation", 1))
    assert train("-m", *QUICK, "seed=1,2") == 4
    assert "data/splits.csv differs from dvc.lock: run `dvc repro split`" in capsys.readouterr().err


def test_a_second_sweep_in_one_checkout_is_refused(project, capsys):
    with grid.sweep_lock(project.root):
        assert train("-m", *QUICK, "seed=1,2") == 5
    assert "another process sweeps in this checkout (process" in capsys.readouterr().err
    assert runs(project) == ([], [])


def when_finished(layout: Paths, count: int, action) -> None:
    """Do something as soon as so many trials are finished."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if sum(state["status"] == "FINISHED" for state in states(layout).values()) >= count:
            action()
            return
        time.sleep(0.05)
    raise AssertionError("no trial finished")


@pytest.mark.slow
def test_runs_are_recorded_later_if_the_store_disappears(project, migrated_store, capsys):
    store = project.root / "mlflow.db"
    breaker = threading.Thread(target=when_finished, args=(project, 1, lambda: store.write_bytes(b"no database")))
    breaker.start()
    command = ["-m", *QUICK, "seed=1,2,3"]
    assert train(*command) == 0
    breaker.join()
    captured = capsys.readouterr()
    assert "MLflow did not take" in captured.err
    assert "dvc exp run" in captured.out
    assert {state["status"] for state in states(project).values()} == {"FINISHED"}
    shutil.copy(migrated_store, store)
    assert train(*command) == 0
    _, children = runs(project)
    recorded = {child.info.run_name: child for child in children}
    assert "seed=3" in recorded
    assert recorded["seed=3"].data.metrics["best/val/score"] == pytest.approx(
        states(project)["seed=3"]["metrics"]["best/val/score"]
    )
    assert all(state["attempts"] == 1 for state in states(project).values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_and_interrupted_it_finishes_only_the_rest(project, warm_python):
    command = [warm_python, "-m", "manyheads", "train", "-m", *QUICK, "seed=1,2,3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}

    def start():
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first = start()
    when_finished(project, 1, lambda: first.send_signal(signal.SIGKILL))
    first.communicate()
    second = start()
    when_finished(project, 2, lambda: second.send_signal(signal.SIGINT))
    out, err = second.communicate(timeout=240)
    assert second.returncode == 130, err
    assert "dvc exp run -S" in out
    assert "1 of them finished before" in err
    third = start()
    _, err = third.communicate(timeout=240)
    assert third.returncode == 0, err
    assert "2 of them finished before" in err
    (parent,), children = runs(project)
    assert parent.info.status == "FINISHED"
    assert sorted((child.info.run_name, child.info.status) for child in children) == [
        (f"seed={seed}", "FINISHED") for seed in (1, 2, 3)
    ]


def test_names_say_what_differs():
    shared = "train.epochs=3"
    assert grid.names_of([[shared, "loss.weights.age=1"], [shared, "loss.weights.age=2"]]) == ["age=1", "age=2"]
    assert grid.names_of([["loss=a", "seed=1"], ["loss=a", "seed=2"], ["loss=b", "seed=1"]]) == [
        "loss=a seed=1", "loss=a seed=2", "loss=b seed=1",
    ]  # fmt: skip
    assert grid.names_of([["a.x=1", "b.x=1"], ["a.x=2", "b.x=2"]]) == ["a.x=1 b.x=1", "a.x=2 b.x=2"]
    assert grid.names_of([["seed=4"]]) == ["seed=4"]
    assert grid.names_of([[]]) == ["as composed"]


@pytest.mark.parametrize(
    ("launcher", "trials", "cores", "each"),
    [
        ({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}, 6, 8, None),
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.x", "n_jobs": -1}, 6, 2, 1),
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.x", "n_jobs": 2}, 6, 8, 4),
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.x", "n_jobs": -1}, 2, 8, 4),
        ({"_target_": "hydra_plugins.hydra_submitit_launcher.x", "cpus_per_task": 6}, 6, 2, 6),
        ({"_target_": "hydra_plugins.hydra_submitit_launcher.x", "cpus_per_task": None}, 6, 2, 1),
        ({"_target_": "hydra_plugins.hydra_ray_launcher.x", "ray": {"remote": {"num_cpus": 3}}}, 6, 2, 3),
    ],
)
def test_each_trial_gets_its_share_of_the_cores(launcher, trials, cores, each):
    assert cores_per_trial(launcher, trials, cores) == each
