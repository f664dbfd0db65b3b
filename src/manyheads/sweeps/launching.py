"""Launching: trials trained by Hydra's launchers, in this process, in several, or on a cluster."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra.core.plugins import Plugins

from manyheads.config.loading import load
from manyheads.errors import MachineError
from manyheads.runtime import signals
from manyheads.runtime.credentials import log_to_stderr
from manyheads.runtime.hardware import available_cores
from manyheads.sweeps.train_trial import ATTEMPTS, log_end, mark_dead_trials_killed, time_left_text, train_trial
from manyheads.sweeps.trials import TrialStore

logger = logging.getLogger(__name__)

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Launch:
    """What a launched process needs beside the trial's configuration.

    Attributes:
        store: The trials of the sweep.
        order: Ids of all trials, in the order of the sweep.
        count: Number of trials that this launch trains.
        started: Start of the launch, in seconds since the epoch.
        process: Id of the launching process.
        environment: Variables that a process on another machine may lack: MLflow's address and the number of threads.
    """

    store: TrialStore
    order: tuple[str, ...]
    count: int
    started: float
    process: int
    environment: Mapping[str, str]


def train_unfinished(context: Any, settings: Any, store: TrialStore, overrides: Mapping[str, Sequence[str]]) -> None:
    """Train all unfinished trials; a trial whose process died is launched again.

    Args:
        context: Hydra's context.
        settings: Hydra's composition of the settings that all trials share, including the launcher.
        store: The trials.
        overrides: Each trial's Hydra overrides by the trial's id, in the order of the sweep.

    Raises:
        MachineError: The launcher started no trial.
    """
    unfinished = [trial_id for trial_id in overrides if store.read(trial_id).status != "FINISHED"]
    for trial_id in unfinished:
        store.write(trial_id, store.read(trial_id).model_copy(update={"attempts": 0}))
    while unfinished:
        batch = next_batch(store, unfinished, settings.hydra.launcher)
        try:
            with thread_limits(settings.hydra.launcher, len(batch)) as environment:
                launch = Launch(store, tuple(overrides), len(batch), time.time(), os.getpid(), environment)
                launcher = Plugins.instance().instantiate_launcher(
                    hydra_context=context,
                    task_function=functools.partial(train_launched, launch=launch),
                    config=settings,
                )
                launcher.launch([list(overrides[trial_id]) for trial_id in batch], initial_job_idx=0)
        except Exception as error:
            # When one process dies, a launcher also gives up the trials of the other processes.
            mark_dead_trials_killed(store)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if not any(store.read(trial_id).attempts for trial_id in unfinished):
                raise MachineError(f"the launcher started no trial ({reason}): check hydra/launcher") from error
            logger.warning("warning: a process that trained a trial died (%s)", reason)
        unfinished = [trial_id for trial_id in unfinished if _needs_another_attempt(store, trial_id)]


def next_batch(store: TrialStore, unfinished: list[str], launcher: Mapping[str, Any]) -> list[str]:
    """Return the trials to launch together.

    When a process dies, joblib also kills the other processes, so it is not known which trial failed. Trials that had
    started are therefore launched one by one after the others: if a process dies again, only its own trial is lost.
    """
    if "joblib" not in str(launcher.get("_target_", "")):
        return unfinished
    return [trial_id for trial_id in unfinished if not store.read(trial_id).attempts] or unfinished[:1]


def _needs_another_attempt(store: TrialStore, trial_id: str) -> bool:
    state = store.read(trial_id)
    if state.status == "KILLED" and state.attempts >= ATTEMPTS:
        error = f"its process died {state.attempts} times, perhaps out of memory"
        store.write(trial_id, state.model_copy(update={"status": "FAILED", "error": error}))
        return False
    return state.status in ("PLANNED", "KILLED", "RUNNING")


def train_launched(values: Any, launch: Launch) -> None:
    """Train one trial in a launched process. An error of the training is kept in the trial's state and not raised.

    Args:
        values: The trial's configuration, composed by Hydra.
        launch: What else the process needs.
    """
    signals.raise_if_interrupted()
    for name, value in launch.environment.items():
        os.environ.setdefault(name, value)
    config = load(values)
    store = launch.store
    os.chdir(store.root)
    trial_id = store.trial_id(config)
    state = store.read(trial_id)
    log_with_trial_name(state.name, launch.process)
    if state.status == "FINISHED":
        return
    logger.info("trial %d of %d: %s", launch.order.index(trial_id) + 1, len(launch.order), state.name)
    state = train_trial(store, trial_id, config)
    done = store.ended_since(launch.started)
    log_end(state, time_left_text(launch.started, done, launch.count - done))


def log_with_trial_name(name: str, launched_by: int) -> None:
    """Prefix the log with the trial's name, unless the launching process trains the trial itself.

    Several processes share one terminal, so progress bars are turned off.
    """
    if os.getpid() != launched_by:
        os.environ["TERM"] = "dumb"
        log_to_stderr(f"[{name.replace('%', '%%')}] %(message)s")


def cores_per_trial(launcher: Mapping[str, Any], trials: int, cores: int) -> int | None:
    """Return the number of cores for each trial, or None if a trial may use the whole machine.

    Args:
        launcher: Hydra's launcher settings.
        trials: Number of trials to train.
        cores: Number of cores of this machine.

    Example:
        >>> joblib = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": -1}
        >>> cores_per_trial(joblib, trials=4, cores=16)
        4
    """
    target = str(launcher.get("_target_", ""))
    if "joblib" in target:
        jobs = int(launcher["n_jobs"])
        workers = min(trials, jobs if jobs > 0 else max(1, cores + 1 + jobs))
        return max(1, cores // workers)
    if "submitit" in target:
        return int(launcher.get("cpus_per_task") or 1)
    if "ray" in target:
        return int(launcher["ray"]["remote"].get("num_cpus") or 1)
    return None


@contextmanager
def thread_limits(launcher: Mapping[str, Any], trials: int) -> Iterator[dict[str, str]]:
    """Limit the threads of TensorFlow in launched processes; variables that the user has set are kept.

    Args:
        launcher: Hydra's launcher settings.
        trials: Number of trials to train.

    Yields:
        The environment variables for launched processes: these limits, and MLflow's address if it is set.
    """
    cores = cores_per_trial(launcher, trials, available_cores())
    limited = [name for name in THREADS if cores and name not in os.environ]
    os.environ.update({name: str(cores) for name in limited})
    try:
        yield {name: os.environ[name] for name in (*THREADS, "MLFLOW_TRACKING_URI") if name in os.environ}
    finally:
        for name in limited:
            del os.environ[name]
