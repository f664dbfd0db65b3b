"""Search: Optuna chooses the trials, towards the Pareto front of the heads' skill scores.

Any number of processes can work on a search. Their decisions are made under one lock, from files on disk. The same
command therefore continues a stopped search, and in a second terminal it shares the work.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from manyheads.config.schema import Config
from manyheads.errors import ConfigError, ManyheadsError, TrainingStopped
from manyheads.paths import Paths
from manyheads.runtime import signals
from manyheads.runtime.credentials import masked
from manyheads.sweeps.opening import make_folder, open_store
from manyheads.sweeps.pruning import StopIfHopeless
from manyheads.sweeps.results import compare_trials, show
from manyheads.sweeps.space import Space, compose_as_locked, parse
from manyheads.sweeps.study import SharedStudy, open_study
from manyheads.sweeps.train_trial import (
    log_end,
    mark_dead_trials_killed,
    record_in_mlflow_again,
    time_left_text,
    train_trial,
)
from manyheads.sweeps.trials import TrialStore
from manyheads.tracking import by_id
from manyheads.tracking.dvc import require_data_as_locked
from manyheads.training import fingerprint

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)


def run(root: Path, overrides: Sequence[str], trials: int, command: str) -> None:
    """Train trials until the search has enough, in all processes together, and compare them.

    Args:
        root: The project's root folder.
        overrides: Hydra overrides. Settings with one value are fixed, the others are searched.
        trials: Total number of trials.
        command: The shell command.

    Raises:
        ManyheadsError: A configuration or the data is wrong, and nothing was trained; or some trials failed.
    """
    space = parse(root, overrides)
    examples = [compose_as_locked(root, space.overrides(values)) for values in space.examples()]
    require_data_as_locked(examples[0].model_dump(mode="json"), root)
    search = open_search(root, space, examples, trials, command)
    try:
        while search.train_next():
            pass
    finally:
        search.end()
    if failed := search.study.failed():
        names = "; ".join(f"{space.name(trial.params)} ({search.why_failed(trial)})" for trial in failed[:3])
        raise ManyheadsError(f"{len(failed)} of {trials} trials failed: {names}; the same command tries them again")


def open_search(root: Path, space: Space, examples: Sequence[Config], trials: int, command: str) -> Search:
    """Open the folder, the study and the MLflow run of a search, new or known.

    Its space and the fingerprints of example trainings identify a search. The fingerprints cover the fixed settings,
    the data and the code.

    Args:
        root: The project's root folder.
        space: The search space.
        examples: Configurations of a few trials.
        trials: Total number of trials.
        command: The shell command.
    """
    import filelock

    identity = [*(fingerprint.digest(config, Paths(root)) for config in examples), *space.identity()]
    folder = make_folder(Paths(root).searches, "search", identity)
    config = examples[0]
    heads = tuple(config.data.heads)
    with filelock.FileLock(folder / ".lock") as lock:
        open_run = functools.partial(by_id.open_shared_run, config.tracking.experiment, root)
        store = open_store(root, folder, "search", command, config, open_run)
        search = Search(store, space, open_study(folder, len(heads), lock), trials, command, heads, config.seed)
        search.mark_dead_trials_killed()
        search.study.enqueue_again(search.study.failed())
        counted = len(search.study.counted())
    logger.info("search %s: %d trials, %d of them known from before (%s)", folder.name, trials, counted, folder)
    return search


@dataclass(frozen=True)
class Search:
    """One process's share of a search.

    Attributes:
        store: The trials.
        space: The search space.
        study: The settings that were tried, and their skill scores.
        total: Total number of trials.
        command: The shell command.
        heads: Names of the heads; their skill scores are the objectives, in this order.
        seed: Seed of Optuna's choices.
        started: When this process joined, in seconds since the epoch.
    """

    store: TrialStore
    space: Space
    study: SharedStudy
    total: int
    command: str
    heads: tuple[str, ...]
    seed: int
    started: float = field(default_factory=time.time)

    def train_next(self) -> bool:
        """Train the next trial and return True, or return False if there are enough trials.

        The trial store and the study have its result.
        """
        signals.raise_if_interrupted()
        with ExitStack() as alive:
            with self.study.lock:
                self.mark_dead_trials_killed()
                counted = len(self.study.counted())
                if counted >= self.total:
                    return False
                trial = self.study.ask(self.space.searched, self.seed)
                alive.enter_context(self.study.running_lock(trial.number))
                by_id.set_status(self.store.root, self.store.parent, "RUNNING")
                name, overrides = self.space.name(trial.params), self.space.overrides(trial.params)
                logger.info("trial %d of %d: %s", counted + 1, self.total, name)
                try:
                    config = compose_as_locked(self.store.root, overrides)
                except ConfigError as error:  # each setting is valid, but their combination is not
                    logger.error("%s", error)
                    trial.set_user_attr("error", masked(str(error)))
                    self.study.tell_failed(trial)
                    return True
                trial_id = self.store.plan(config, name, overrides)
                trial.set_user_attr("trial_id", trial_id)
            self._train(trial, trial_id, config)
        return True

    def _train(self, trial: optuna.Trial, trial_id: str, config: Config) -> None:
        if self.study.was_pruned(trial_id):
            self.study.tell_pruned(trial)
            logger.info("stopped: an earlier trial with the same configuration was stopped")
            return
        pruning = StopIfHopeless(self.store, self.heads, config.train.epochs)
        try:
            state = train_trial(self.store, trial_id, config, [pruning])
        except TrainingStopped as reason:
            self.study.tell_pruned(trial)
            logger.info("stopped: %s%s", reason, self._time_left())
            return
        if state.status == "FINISHED":
            self.study.tell(trial, [state.metrics[f"best/val/{head}/skill"] for head in self.heads])
        else:
            self.study.tell_failed(trial)
        log_end(state, self._time_left())

    def _time_left(self) -> str:
        ended = [trial.datetime_complete for trial in self.study.counted() if trial.datetime_complete]
        done = sum(moment.timestamp() >= self.started for moment in ended)
        return time_left_text(self.started, done, self.total - len(ended))

    def mark_dead_trials_killed(self) -> None:
        """Set trials whose process died to ``KILLED`` and enqueue their settings; the study's lock must be held."""
        mark_dead_trials_killed(self.store)
        self.study.enqueue_dead()

    def end(self) -> None:
        """Compare all trials, and end the MLflow run if no other process works on the search."""
        with self.study.lock:
            self.mark_dead_trials_killed()
            trial_ids = self.study.trial_ids()
            for trial_id in trial_ids:
                state = self.store.read(trial_id)
                if state.status == "FINISHED" and not state.recorded:
                    config = compose_as_locked(self.store.root, state.overrides)
                    record_in_mlflow_again(self.store, trial_id, config)
            compared = compare_trials(self.store, trial_ids, self.command)
            if not self.study.running():
                enough = len(self.study.counted()) >= self.total
                ended = "FAILED" if self.study.failed() else "FINISHED"
                by_id.set_status(self.store.root, self.store.parent, ended if enough else "KILLED")
        show(self.store, compared)

    def why_failed(self, trial: FrozenTrial) -> str:
        """Return why a trial failed."""
        if "trial_id" not in trial.user_attrs:
            return str(trial.user_attrs.get("error", "not recorded"))
        state = self.store.read(trial.user_attrs["trial_id"])
        return state.error or state.status
