"""Training of one trial, with its state on disk and in MLflow."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence

from manyheads.config.schema import Config
from manyheads.errors import ManyheadsError, TrainingStopped
from manyheads.evaluation.comparison import OF_LAUNCH, promotion
from manyheads.paths import Paths
from manyheads.runtime.credentials import masked
from manyheads.sweeps.trials import TrialState, TrialStore
from manyheads.tracking.open_runs import end_dead_run
from manyheads.tracking.runs import RunSpec
from manyheads.training.callbacks import TrainingCallback
from manyheads.training.tracked import record_again, train_and_record

logger = logging.getLogger(__name__)

ATTEMPTS = 2
"""Maximum number of attempts for a trial whose process died; another trial may have caused the first death."""


def train_trial(
    store: TrialStore,
    trial_id: str,
    config: Config,
    callbacks: Sequence[TrainingCallback] = (),
) -> TrialState:
    """Train a trial unless it is finished, and return its state; an error is kept in the state and not raised.

    If another process trains the same trial, this one waits for it.

    Args:
        store: The trials.
        trial_id: Id of the trial; the store has it.
        config: Its configuration.
        callbacks: Callbacks of the training; ``TrainingStopped`` ends it.

    Raises:
        KeyboardInterrupt: The process was interrupted; the trial's status is ``KILLED``.
        TrainingStopped: A callback ended the training; the trial's status is ``KILLED``.
    """
    with store.lock(trial_id):
        state = store.read(trial_id)
        # Some launchers restart a trial without end when its process dies.
        died_too_often = state.status == "RUNNING" and state.attempts >= ATTEMPTS
        if state.status == "FINISHED" or died_too_often:
            return state
        state = state.model_copy(update={"status": "RUNNING", "attempts": state.attempts + 1, "error": ""})
        store.write(trial_id, state)
        start = time.monotonic()

        all_callbacks = (_RememberRun(store, trial_id, state), *callbacks)
        spec = _run_spec(store, trial_id, state)
        try:
            trained = train_and_record(config, Paths(store.root), store.paths(trial_id), spec, all_callbacks)
        except (KeyboardInterrupt, TrainingStopped) as reason:
            state.status, state.error = "KILLED", str(reason)
            raise
        except Exception as error:
            state.status, state.error = "FAILED", masked(" ".join(str(error).split())) or type(error).__name__
            logger.error("%s", state.error, exc_info=None if isinstance(error, ManyheadsError) else error)
        else:
            state.status, state.metrics, state.recorded = "FINISHED", trained.metrics, bool(trained.run_id)
        finally:
            state.seconds = round(time.monotonic() - start, 1)
            store.write(trial_id, state)
    return state


class _RememberRun(TrainingCallback):
    """Keeps the id of the MLflow run in the trial's state, so that a stopped trial continues in it."""

    def __init__(self, store: TrialStore, trial_id: str, state: TrialState) -> None:
        self.store = store
        self.trial_id = trial_id
        self.state = state

    def on_record(self, run_id: str) -> None:
        """Write the id of the run that was opened."""
        self.state.run_id = run_id
        self.store.write(self.trial_id, self.state)


def record_in_mlflow_again(store: TrialStore, trial_id: str, config: Config) -> None:
    """Record a finished trial in MLflow if MLflow did not take it when it was trained."""
    state = store.read(trial_id)
    if state.status == "FINISHED" and not state.recorded:
        spec = _run_spec(store, trial_id, state)
        run_id = record_again(config, Paths(store.root), store.paths(trial_id), spec, state.metrics)
        state.run_id, state.recorded = run_id or state.run_id, bool(run_id)
        store.write(trial_id, state)


def _run_spec(store: TrialStore, trial_id: str, state: TrialState) -> RunSpec:
    tags = {
        store.kind: store.folder.name,
        "trial": trial_id,
        "overrides": json.dumps(state.overrides),
        "differs": json.dumps([override for override in state.overrides if not OF_LAUNCH.match(override)]),
        "promote": promotion(state.overrides),
    }
    return RunSpec(state.name, tags, store.parent, state.run_id)


def mark_dead_trials_killed(store: TrialStore) -> None:
    """Set trials whose process died to ``KILLED``, in the trial store and in MLflow."""
    import filelock

    for trial_id, found in store.states().items():
        if found.status != "RUNNING":
            continue
        try:
            with store.lock(trial_id, timeout=0):
                state = store.read(trial_id)  # it may have ended in the meantime
                if state.status == "RUNNING":
                    state.status, state.error = "KILLED", "its process died"
                    store.write(trial_id, state)
                    end_dead_run(store.root, state.run_id, "KILLED")
        except filelock.Timeout:
            continue


def log_end(state: TrialState, time_left: str) -> None:
    """Log how a trial ended.

    Args:
        state: The trial's state.
        time_left: Estimate of the time left, from ``time_left_text``.
    """
    if state.status == "FINISHED":
        logger.info("done in %.0f s, score %.3f%s", state.seconds, state.metrics["best/val/score"], time_left)
    else:
        logger.warning("%s after %.0f s%s", state.status, state.seconds, time_left)


def time_left_text(started: float, done: int, waiting: int) -> str:
    """Return an estimate of the time left, such as ``; about 5 min left``, or an empty text below one minute.

    Args:
        started: Start of the first ended trial, in seconds since the epoch.
        done: Number of trials that have ended since; 0 counts as 1.
        waiting: Number of trials that have not ended.
    """
    minutes = (time.time() - started) / max(1, done) * waiting / 60
    return f"; about {minutes:.0f} min left" if minutes >= 1 else ""
