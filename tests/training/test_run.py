import math

import mlflow
import pytest

from manyheads.errors import ManyheadsError, TrainingStopped
from manyheads.paths import Paths
from manyheads.tracking.runs import RunSpec
from manyheads.training.run import train


def runs(layout):
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    return mlflow.MlflowClient().search_runs(["1"], order_by=["attributes.start_time ASC"])


def test_it_returns_the_figures_that_the_run_has(tiny_project, tiny_config):
    place = RunSpec("age=4", {"point": "0123"})
    trained = train(tiny_config(), tiny_project, tiny_project, place)
    (run,) = runs(tiny_project)
    assert run.info.run_id == trained.run_id
    assert run.info.run_name == "age=4"
    assert run.data.tags["point"] == "0123"
    for name, value in trained.figures.items():
        assert run.data.metrics[name] == pytest.approx(value)
    skills = [trained.figures[f"best/val/{head}/skill"] for head in ("age", "race", "gender")]
    assert trained.figures["best/val/score"] == pytest.approx(math.fsum(skills))
    assert {"last/val/age/mae", "last/val/score", "best/epoch", "wall_seconds"} <= set(trained.figures)


def test_a_training_in_a_used_process_gives_the_figures_of_a_fresh_one(tiny_project, tiny_config):
    config = tiny_config("train.deterministic=true", "model.dropout=0.2", "train.epochs=2")
    figures = []
    for number in range(2):
        outputs = Paths(tiny_project.root / f"{number}")
        train(tiny_config("loss=age_heavy", "seed=9", "train.epochs=1"), tiny_project, outputs)
        trained = train(config, tiny_project, outputs)
        figures.append({name: value for name, value in trained.figures.items() if name != "wall_seconds"})
    assert figures[0] == figures[1]


def test_what_fails_is_in_the_run(tiny_project, tiny_config):
    with pytest.raises(ManyheadsError, match=r"diverged in epoch 1"):
        train(tiny_config("train.learning_rate=1e38"), tiny_project, tiny_project)
    (run,) = runs(tiny_project)
    assert run.info.status == "FAILED"
    assert "training diverged in epoch 1" in run.data.tags["error"]
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/traceback.txt")
    assert text.startswith("Traceback")
    assert "ManyheadsError: training diverged" in text


def test_a_training_that_is_ended_on_purpose_is_no_failure(tiny_project, tiny_config):
    def stop(epoch, row):
        if epoch == 2:
            raise TrainingStopped("worse than the others")

    with pytest.raises(TrainingStopped):
        train(tiny_config(), tiny_project, tiny_project, on_epoch=stop)
    (run,) = runs(tiny_project)
    assert run.info.status == "KILLED"
    assert run.data.tags["error"] == "worse than the others"
    assert "traceback.txt" not in {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert not tiny_project.model.exists()
