"""Sweeps: Hydra's multirun of the training, resumable, compared, and recorded under one MLflow run.

Hydra composes the trials and launches them, in this process or by a launcher plug-in. This module is its sweeper. It
raises configuration errors before the first trial trains, leaves out finished trials, and recommends a trial at the
end. The set of trials identifies a sweep, so the same command continues it.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from manyheads.config.composition import adding_heads, composition_error
from manyheads.config.loading import load
from manyheads.config.schema import Config
from manyheads.errors import ConfigError, ManyheadsError
from manyheads.evaluation.settings import short_names
from manyheads.paths import Paths
from manyheads.runtime.locks import exclusive_lock
from manyheads.sweeps.launching import train_unfinished
from manyheads.sweeps.opening import make_folder, open_store
from manyheads.sweeps.results import compare_trials, show
from manyheads.sweeps.train_trial import mark_dead_trials_killed, record_in_mlflow_again
from manyheads.sweeps.trials import TrialState, TrialStore
from manyheads.tracking import runs
from manyheads.tracking.dvc import require_data_as_locked, require_settings_as_locked
from manyheads.training import fingerprint

logger = logging.getLogger(__name__)

# Overrides that choose this sweeper on Hydra's command line.
SETTINGS = ("hydra/sweeper=trials",)


@dataclass(frozen=True)
class PlannedTrial:
    """A trial before it is trained.

    Attributes:
        name: What differs from the other trials, such as ``age=0.3 race=1``.
        overrides: Hydra overrides that make its configuration.
        config: Its configuration.
    """

    name: str
    overrides: tuple[str, ...]
    config: Config


def run(context: Any, settings: Any, overrides: Sequence[str], typed: Sequence[str]) -> None:
    """Train the unfinished trials, compare all trials, and raise an error if one did not finish.

    Args:
        context: Hydra's context.
        settings: Hydra's composition of the settings that all trials share.
        overrides: Overrides with lists, such as ``loss.weights.age=1,2``.
        typed: The overrides from the command line, without those from a file.

    Raises:
        ManyheadsError: A configuration or the data is wrong, and nothing was trained; or some trials did not finish.
    """
    for noisy in ("hydra", "hydra_plugins"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    root = Path.cwd()
    planned = plan(context, settings, overrides)
    require_data_as_locked(planned[0].config.model_dump(mode="json"), root)
    for trial in planned:
        require_settings_as_locked(trial.config.model_dump(mode="json"), root)
    with ExitStack() as at_the_end, sweep_lock(root), _opened(planned, root, typed) as store:
        trials = {store.plan(trial.config, trial.name, trial.overrides): trial for trial in planned}
        mark_dead_trials_killed(store)
        _log_known_trials(store, list(trials))
        try:
            train_unfinished(context, settings, store, {key: trial.overrides for key, trial in trials.items()})
        finally:
            mark_dead_trials_killed(store)
            for trial_id, trial in trials.items():
                record_in_mlflow_again(store, trial_id, trial.config)
            at_the_end.callback(show, store, compare_trials(store, trials, command_for(typed)))
        _raise_if_unfinished([store.read(trial_id) for trial_id in trials])


def plan(context: Any, settings: Any, overrides: Sequence[str]) -> list[PlannedTrial]:
    """Compose the configurations of all trials before any trial trains.

    Trials with the same configuration count as one.

    Args:
        context: Hydra's context.
        settings: Hydra's composition of the settings that all trials share.
        overrides: Overrides with lists.

    Raises:
        ConfigError: An override is an interval, or a trial's configuration is invalid.
    """
    parsed = OverridesParser.create(config_loader=context.config_loader).parse_overrides(list(overrides))
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line}: a sweep takes lists and ranges; use `search` for intervals")
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    trials: dict[str, PlannedTrial] = {}
    for name, combination in zip(names_of(combinations), combinations, strict=True):
        try:
            composed, taken = adding_heads(
                combination, lambda each: context.config_loader.load_sweep_config(settings, each)
            )
        except HydraException as error:
            known = runs.flattened({key: settings[key] for key in settings if key != "hydra"})
            raise composition_error(error, list(known)) from error
        config = load(composed, f"the trial {name}")
        key = config.model_dump_json()
        if key in trials:
            logger.info("%s has the same configuration as %s: it is trained once", name, trials[key].name)
        else:
            trials[key] = PlannedTrial(name, tuple(taken), config)
    return list(trials.values())


def names_of(combinations: Sequence[Sequence[str]]) -> list[str]:
    """Return a short name for each list of overrides: the settings that differ, and their values.

    Args:
        combinations: Overrides of each trial.

    Example:
        >>> names_of([["loss.weights.age=0.3", "seed=1"], ["loss.weights.age=1", "seed=1"]])
        ['age=0.3', 'age=1']
    """
    parsed = [dict(override.partition("=")[::2] for override in overrides) for overrides in combinations]
    keys = [key for key in parsed[0] if len({values.get(key) for values in parsed}) > 1] or list(parsed[0])
    short = short_names(keys)
    return [" ".join(f"{short[key]}={values[key]}" for key in keys) or "as composed" for values in parsed]


def sweep_lock(root: Path) -> AbstractContextManager[None]:
    """Hold the lock of sweeps in this checkout. Two sweeps at once would share the cores, and both would be slower.

    Raises:
        MachineError: Another sweep runs.
    """
    return exclusive_lock(root / ".cache/sweep.lock", "sweeps in this checkout")


@contextmanager
def _opened(planned: Sequence[PlannedTrial], root: Path, typed: Sequence[str]) -> Iterator[TrialStore]:
    """Open the sweep's folder and its MLflow run, new or known; the run ends with the status of the body."""
    identity = sorted(fingerprint.digest(trial.config, Paths(root)) for trial in planned)
    config = planned[0].config
    folder = make_folder(Paths(root).sweeps, _name(typed), identity)
    with ExitStack() as opened:

        def open_run(spec: runs.RunSpec) -> str:
            return opened.enter_context(runs.run(config.tracking.experiment, root, spec)).run_id

        yield open_store(root, folder, "sweep", command_for(typed), config, open_run)


def _name(typed: Sequence[str]) -> str:
    named = [word.partition("=")[2] for word in typed if word.lstrip("+").startswith("sweep=")]
    return named[0] if named else "sweep"


def command_for(typed: Sequence[str]) -> str:
    """Return the shell command of a sweep with these overrides."""
    return shlex.join(["python", "-m", "manyheads", "train", "-m", *typed])


def _log_known_trials(store: TrialStore, trial_ids: Sequence[str]) -> None:
    finished = sum(store.read(trial_id).status == "FINISHED" for trial_id in trial_ids)
    known = f", {finished} of them finished before" if finished else ""
    logger.info("sweep %s: %d trials%s (%s)", store.folder.name, len(trial_ids), known, store.folder)


def _raise_if_unfinished(states: Sequence[TrialState]) -> None:
    unfinished = [state for state in states if state.status != "FINISHED"]
    if unfinished:
        names = "; ".join(f"{state.name} ({state.error or state.status})" for state in unfinished[:3])
        raise ManyheadsError(
            f"{len(unfinished)} of {len(states)} trials did not finish: {names}; the same command tries them again"
        )
