import itertools
import math

import mlflow
import pytest

from conftest import make_tiny_project
from manyheads.errors import ManyheadsError, TrainingStopped
from manyheads.paths import Paths
from manyheads.tracking.runs import RunSpec
from manyheads.training import checkpoint, loop
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
    gains = [trained.figures[f"best/val/{head}/gain"] for head in ("age", "race", "gender")]
    assert trained.figures["best/val/score"] == pytest.approx(math.fsum(gains))
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


GENERATIONS = ("train.generations=2", "train.deterministic=true", "train.augment=1", "train.averaging=0.9")


@pytest.fixture(scope="module")
def two_generations(tmp_path_factory, migrated_store, tiny_config):
    project = make_tiny_project(tmp_path_factory.mktemp("generations"), migrated_store)
    trained = train(tiny_config(*GENERATIONS), project, project)
    return project.history.read_text(), without_times(trained.figures)


def without_times(figures):
    return {name: value for name, value in figures.items() if "seconds" not in name}


def test_a_generation_learns_from_the_one_before(two_generations, tiny_project, tiny_config):
    alone = train(tiny_config(*GENERATIONS[1:]), tiny_project, tiny_project)
    history, figures = two_generations
    assert figures["generation_1/best/val/score"] == pytest.approx(alone.figures["best/val/score"])
    assert len(history.splitlines()) == 1 + 3
    assert history != tiny_project.history.read_text()


@pytest.mark.parametrize("saved", [2, 4, 5], ids=["in the first", "between them", "in the second"])
def test_generations_that_are_interrupted_go_on_to_the_same_network(
    saved, two_generations, tiny_project, tiny_config, monkeypatch
):
    states = itertools.count(1)

    def stopped(*args):
        save(*args)
        if next(states) == saved:
            raise KeyboardInterrupt

    save = checkpoint.save_checkpoint
    monkeypatch.setattr(loop, "save_checkpoint", stopped)
    config = tiny_config(*GENERATIONS)
    with pytest.raises(KeyboardInterrupt):
        train(config, tiny_project, tiny_project)
    trained = train(config, tiny_project, tiny_project)
    assert next(states) == 3 + 1 + 3 + 1  # no epoch twice
    assert (tiny_project.history.read_text(), without_times(trained.figures)) == two_generations
    assert len(runs(tiny_project)) == 1
