import math

import mlflow
import pytest

from manyheads.errors import ManyheadsError, TrainingStopped
from manyheads.paths import Paths
from manyheads.tracking.runs import RunSpec
from manyheads.training.callbacks import TrainingCallback
from manyheads.training.tracked import train_and_record

pytestmark = pytest.mark.slow


def runs(layout):
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    return mlflow.MlflowClient().search_runs(["1"], order_by=["attributes.start_time ASC"])


def test_it_returns_the_metrics_that_the_run_has(tiny_project, tiny_config):
    spec = RunSpec("age=4", {"trial": "0123"})
    trained = train_and_record(tiny_config(), tiny_project, tiny_project, spec)
    (run,) = runs(tiny_project)
    assert run.info.run_id == trained.run_id
    assert run.info.run_name == "age=4"
    assert run.data.tags["trial"] == "0123"
    for name, value in trained.metrics.items():
        if name in run.data.metrics:
            assert run.data.metrics[name] == pytest.approx(value)
        if name.startswith("last/") and name.removeprefix("last/") in run.data.metrics:
            assert run.data.metrics[name.removeprefix("last/")] == pytest.approx(value)
    assert {"best/val/age/mae", "best/val/score", "val_baseline/race/accuracy", "wall_seconds"} <= set(run.data.metrics)
    skills = [trained.metrics[f"best/val/{head}/skill"] for head in ("age", "race", "gender")]
    assert trained.metrics["best/val/score"] == pytest.approx(math.fsum(skills))
    assert {"last/val/age/mae", "last/val/score", "best/epoch", "wall_seconds"} <= set(trained.metrics)


def test_a_training_in_a_used_process_gives_the_metrics_of_a_fresh_one(tiny_project, tiny_config):
    config = tiny_config("train.deterministic=true", "model.dropout=0.2", "train.epochs=2")
    metrics = []
    for number in range(2):
        outputs = Paths(tiny_project.root / f"{number}")
        train_and_record(tiny_config("loss=age_heavy", "seed=9", "train.epochs=1"), tiny_project, outputs)
        trained = train_and_record(config, tiny_project, outputs)
        metrics.append({name: value for name, value in trained.metrics.items() if name != "wall_seconds"})
    assert metrics[0] == metrics[1]


def test_what_fails_is_in_the_run(tiny_project, tiny_config):
    with pytest.raises(ManyheadsError, match=r"diverged in epoch 1"):
        train_and_record(tiny_config("train.learning_rate=1e38"), tiny_project, tiny_project)
    (run,) = runs(tiny_project)
    assert run.info.status == "FAILED"
    assert "training diverged in epoch 1" in run.data.tags["error"]
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/traceback.txt")
    assert text.startswith("Traceback")
    assert "ManyheadsError: training diverged" in text


def test_a_training_that_is_ended_on_purpose_is_no_failure(tiny_project, tiny_config):
    class Stop(TrainingCallback):
        def on_epoch(self, epoch, row):
            if epoch == 2:
                raise TrainingStopped("worse than the others")

    with pytest.raises(TrainingStopped):
        train_and_record(tiny_config(), tiny_project, tiny_project, callbacks=[Stop()])
    (run,) = runs(tiny_project)
    assert run.info.status == "KILLED"
    assert run.data.tags["error"] == "worse than the others"
    assert "traceback.txt" not in {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert not tiny_project.model.exists()
