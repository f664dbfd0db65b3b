import logging
import os

import filelock
import mlflow
import pytest

from manyheads.errors import ManyheadsError, TrainingStopped
from manyheads.sweeps import trials
from manyheads.sweeps.trials import TrialStore
from manyheads.tracking import runs
from manyheads.training import run
from manyheads.training.tracked import Trained

FIGURES = {"best/val/score": 1.5}


@pytest.fixture
def group(tiny_project):
    return TrialStore(tiny_project.root, tiny_project.sweeps / "weights-0123", "sweep")


@pytest.fixture
def simulated(monkeypatch):
    """Put a function in the place of the training, which these tests are not about."""

    def put(behaviour):
        def train(config, inputs, outputs, place, on_epoch, on_start):
            on_start("a" * 32)
            return Trained("a" * 32, behaviour())

        monkeypatch.setattr(run, "train", train)

    return put


def test_a_point_that_is_planned_again_keeps_what_is_known(group, tiny_config, simulated):
    simulated(lambda: FIGURES)
    config = tiny_config("loss.weights.age=4")
    identity = group.plan(config, "age=4", ["loss.weights.age=4"])
    group.run(identity, config)
    assert group.plan(config, "another name", []) == identity
    record = group.read(identity)
    assert (record.name, record.status, record.figures) == ("age=4", "FINISHED", FIGURES)
    assert record.settings["loss.weights.age"] == "4.0"
    assert group.records() == {identity: record}
    point = record.as_trial()
    assert (point.status, point.overrides, point.run_id) == ("FINISHED", ("loss.weights.age=4",), "a" * 32)


def test_a_finished_point_is_not_trained_again(group, tiny_config, simulated):
    simulated(lambda: FIGURES)
    identity = group.plan(tiny_config(), "one", [])
    group.run(identity, tiny_config())

    def again():
        raise AssertionError

    simulated(again)
    assert group.run(identity, tiny_config()).attempts == 1


def test_a_point_that_died_too_often_is_left(group, tiny_config, simulated):
    def die():
        raise AssertionError

    simulated(die)
    identity = group.plan(tiny_config(), "one", [])
    for attempts, status in ((trials.ATTEMPTS, "RUNNING"), (1, "FAILED")):
        group.write(identity, group.read(identity).model_copy(update={"status": "RUNNING", "attempts": attempts}))
        assert group.run(identity, tiny_config()).status == status


@pytest.mark.parametrize(
    ("error", "lines"), [(ManyheadsError("training diverged:\n lower it"), 1), (ValueError("what is this"), 5)]
)
def test_what_fails_is_in_the_record_and_raises_nothing(group, tiny_config, simulated, error, lines, caplog):
    def fail():
        raise error

    simulated(fail)
    identity = group.plan(tiny_config(), "one", [])
    record = group.run(identity, tiny_config())
    assert record == group.read(identity)
    assert record.status == "FAILED"
    assert record.error == " ".join(str(error).split())
    # A bug keeps its traceback, an error that a person can mend is a line.
    (entry,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert (entry.exc_info is not None) == (lines > 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TrainingStopped("worse than the others")])
def test_what_stops_a_point_on_purpose_goes_on_upwards(group, tiny_config, simulated, error):
    def stop():
        raise error

    simulated(stop)
    identity = group.plan(tiny_config(), "one", [])
    with pytest.raises(type(error)):
        group.run(identity, tiny_config())
    assert group.read(identity).status == "KILLED"
    assert group.read(identity).error == str(error)


def test_a_point_whose_process_died_is_buried_here_and_in_mlflow(group, tiny_config):
    config = tiny_config()
    with runs.run(config.tracking, group.root, runs.RunSpec("one")) as run:
        run_id = run.run_id
    client = mlflow.MlflowClient(f"sqlite:///{group.root}/mlflow.db")
    client.update_run(run_id, status="RUNNING")
    identity = group.plan(config, "one", [])
    running = group.read(identity).model_copy(update={"status": "RUNNING", "run_id": run_id})
    group.write(identity, running)
    with filelock.FileLock(trials._lock(group.place(identity))):
        group.mark_dead_trials_killed()  # its process lives
    assert group.read(identity).status == "RUNNING"
    group.mark_dead_trials_killed()
    assert group.read(identity).status == "KILLED"
    assert client.get_run(run_id).info.status == "KILLED"


def test_a_run_that_lost_its_store_at_the_end_is_completed_and_not_made_twice(group, tiny_config):
    config = tiny_config("train.epochs=1")
    identity = group.plan(config, "one", [])
    run_id = group.run(identity, config).run_id
    client = mlflow.MlflowClient(f"sqlite:///{group.root}/mlflow.db")
    client.update_run(run_id, status="RUNNING")
    client.log_metric(run_id, "best/val/score", -1.0)
    group.write(identity, group.read(identity).model_copy(update={"recorded": False}))
    group.record_in_mlflow_again(config, identity)
    record = group.read(identity)
    (run,) = client.search_runs([client.get_run(run_id).info.experiment_id])
    assert (record.recorded, record.run_id, run.info.run_id, run.info.status) == (True, run_id, run_id, "FINISHED")
    assert run.data.metrics["best/val/score"] == record.figures["best/val/score"]


def test_the_log_of_another_process_names_its_point(monkeypatch, capsys):
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    monkeypatch.setenv("TERM", "xterm")
    try:
        trials.log_with_trial_name("age=4", os.getpid())
        assert root.handlers == before
        trials.log_with_trial_name("age=4", os.getpid() + 1)
        logging.getLogger("manyheads").warning("done")
        assert capsys.readouterr().err == "[age=4] done\n"
    finally:
        root.handlers[:] = before
        root.setLevel(level)
