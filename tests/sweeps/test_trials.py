import logging
import os

import mlflow
import pytest

from manyheads.errors import ManyheadsError, TrainingStopped
from manyheads.sweeps.launching import log_with_trial_name
from manyheads.sweeps.train_trial import ATTEMPTS, mark_dead_trials_killed, record_in_mlflow_again, train_trial
from manyheads.sweeps.trials import TrialStore
from manyheads.tracking import runs
from manyheads.training.tracked import Trained

METRICS = {"best/val/score": 1.5}


@pytest.fixture
def store(tiny_project):
    return TrialStore(tiny_project.root, tiny_project.sweeps / "weights-0123", "sweep")


@pytest.fixture
def simulated(monkeypatch):
    """Replace the training by a function."""

    def put(behaviour):
        def train_and_record(config, project, outputs, spec, callbacks):
            for callback in callbacks:
                callback.on_record("a" * 32)
            return Trained("a" * 32, behaviour())

        monkeypatch.setattr("manyheads.sweeps.train_trial.train_and_record", train_and_record)

    return put


def test_a_trial_that_is_planned_again_keeps_what_is_known(store, tiny_config, simulated):
    simulated(lambda: METRICS)
    config = tiny_config("loss.weights.age=4")
    trial_id = store.plan(config, "age=4", ["loss.weights.age=4"])
    train_trial(store, trial_id, config)
    assert store.plan(config, "another name", []) == trial_id
    state = store.read(trial_id)
    assert (state.name, state.status, state.metrics) == ("age=4", "FINISHED", METRICS)
    assert state.settings["loss.weights.age"] == "4.0"
    assert store.states() == {trial_id: state}
    trial = state.as_trial()
    assert (trial.status, trial.overrides, trial.run_id) == ("FINISHED", ("loss.weights.age=4",), "a" * 32)


def test_a_finished_trial_is_not_trained_again(store, tiny_config, simulated):
    simulated(lambda: METRICS)
    trial_id = store.plan(tiny_config(), "one", [])
    train_trial(store, trial_id, tiny_config())

    def again():
        raise AssertionError

    simulated(again)
    assert train_trial(store, trial_id, tiny_config()).attempts == 1


def test_a_trial_that_died_too_often_is_left(store, tiny_config, simulated):
    def die():
        raise AssertionError

    simulated(die)
    trial_id = store.plan(tiny_config(), "one", [])
    for attempts, status in ((ATTEMPTS, "RUNNING"), (1, "FAILED")):
        store.write(trial_id, store.read(trial_id).model_copy(update={"status": "RUNNING", "attempts": attempts}))
        assert train_trial(store, trial_id, tiny_config()).status == status


@pytest.mark.parametrize(
    ("error", "lines"), [(ManyheadsError("training diverged:\n lower it"), 1), (ValueError("what is this"), 5)]
)
def test_what_fails_is_in_the_state_and_raises_nothing(store, tiny_config, simulated, error, lines, caplog):
    def fail():
        raise error

    simulated(fail)
    trial_id = store.plan(tiny_config(), "one", [])
    state = train_trial(store, trial_id, tiny_config())
    assert state == store.read(trial_id)
    assert state.status == "FAILED"
    assert state.error == " ".join(str(error).split())
    # A bug keeps its traceback, an error that a person can mend is a line.
    (entry,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert (entry.exc_info is not None) == (lines > 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TrainingStopped("worse than the others")])
def test_what_stops_a_trial_on_purpose_is_raised(store, tiny_config, simulated, error):
    def stop():
        raise error

    simulated(stop)
    trial_id = store.plan(tiny_config(), "one", [])
    with pytest.raises(type(error)):
        train_trial(store, trial_id, tiny_config())
    assert store.read(trial_id).status == "KILLED"
    assert store.read(trial_id).error == str(error)


def test_a_trial_whose_process_died_is_killed_here_and_in_mlflow(store, tiny_config):
    config = tiny_config()
    with runs.run(config.tracking.experiment, store.root, runs.RunSpec("one")) as run:
        run_id = run.run_id
    client = mlflow.MlflowClient(f"sqlite:///{store.root}/mlflow.db")
    client.update_run(run_id, status="RUNNING")
    trial_id = store.plan(config, "one", [])
    running = store.read(trial_id).model_copy(update={"status": "RUNNING", "run_id": run_id})
    store.write(trial_id, running)
    with store.lock(trial_id):
        mark_dead_trials_killed(store)  # its process lives
    assert store.read(trial_id).status == "RUNNING"
    mark_dead_trials_killed(store)
    assert store.read(trial_id).status == "KILLED"
    assert client.get_run(run_id).info.status == "KILLED"


@pytest.mark.slow
def test_a_run_whose_store_was_lost_at_the_end_is_completed(store, tiny_config):
    config = tiny_config("train.epochs=1")
    trial_id = store.plan(config, "one", [])
    run_id = train_trial(store, trial_id, config).run_id
    client = mlflow.MlflowClient(f"sqlite:///{store.root}/mlflow.db")
    client.update_run(run_id, status="RUNNING")
    client.log_metric(run_id, "best/val/age/mae", -1.0)
    store.write(trial_id, store.read(trial_id).model_copy(update={"recorded": False}))
    record_in_mlflow_again(store, trial_id, config)
    state = store.read(trial_id)
    (run,) = client.search_runs([client.get_run(run_id).info.experiment_id])
    assert (state.recorded, state.run_id, run.info.run_id, run.info.status) == (True, run_id, run_id, "FINISHED")
    for name in ("best/val/score", "best/val/age/mae"):
        assert run.data.metrics[name] == state.metrics[name]


def test_the_log_of_another_process_names_its_trial(monkeypatch, capsys):
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    monkeypatch.setenv("TERM", "xterm")
    try:
        log_with_trial_name("age=4", os.getpid())
        assert root.handlers == before
        log_with_trial_name("age=4", os.getpid() + 1)
        logging.getLogger("manyheads").warning("done")
        assert capsys.readouterr().err == "[age=4] done\n"
    finally:
        root.handlers[:] = before
        root.setLevel(level)
