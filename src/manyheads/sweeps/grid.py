"""Sweeps: Hydra's multirun of the training, made resumable, compared, and recorded under one MLflow run.

Hydra composes the trials and launches them, in this process or by a launcher plug-in. This module is its sweeper: it
raises errors before the first trial trains, leaves out trials that are finished, and says at the end which trial to
take. A sweep is known by its set of trials, so the same command continues it.
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

from manyheads.config.composition import composition_error
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

# What chooses the sweeper on Hydra's command line.
SETTINGS = ("hydra/sweeper=trials",)


@dataclass(frozen=True)
class PlannedTrial:
    """A trial before it is trained.

    Attributes:
        name: What differs from the other trials, such as ``age=0.3 race=1``.
        overrides: Hydra overrides that make it.
        config: Its configuration.
    """

    name: str
    overrides: tuple[str, ...]
    config: Config


def run(context: Any, settings: Any, overrides: Sequence[str], typed: Sequence[str]) -> None:
    """Train the trials that are not finished, compare them all, and raise an error if one did not finish.

    Args:
        context: Hydra's context.
        settings: Hydra's composition of what all trials share.
        overrides: Overrides with lists, such as ``loss.weights.age=1,2``.
        typed: Those of them that were typed, and do not come from a file.

    Raises:
        ManyheadsError: A trial cannot be trained at all, and none was; or some did not finish.
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
    """Compose all trials, so that a mistake in the last one is found before the first one trains.

    Trials that have the same configuration are one.

    Args:
        context: Hydra's context.
        settings: Hydra's composition of what all trials share.
        overrides: Overrides with lists.

    Raises:
        ConfigError: An override is an interval, or a trial's configuration is wrong.
    """
    parsed = OverridesParser.create(config_loader=context.config_loader).parse_overrides(list(overrides))
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line}: a sweep takes lists and ranges; intervals are for `search`")
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    trials: dict[str, PlannedTrial] = {}
    for name, combination in zip(names_of(combinations), combinations, strict=True):
        try:
            composed = context.config_loader.load_sweep_config(settings, list(combination))
        except HydraException as error:
            known = runs.flattened({key: settings[key] for key in settings if key != "hydra"})
            raise composition_error(error, list(known)) from error
        config = load(composed, f"the trial {name}")
        key = config.model_dump_json()
        if key in trials:
            logger.info("%s is the same as %s: it is trained once", name, trials[key].name)
        else:
            trials[key] = PlannedTrial(name, tuple(combination), config)
    return list(trials.values())


def names_of(combinations: Sequence[Sequence[str]]) -> list[str]:
    """Return what differs between lists of overrides, in short: ``age=0.3 race=1`` for loss weights.

    Args:
        combinations: Overrides of each trial, such as ``loss.weights.age=0.3``.
    """
    parsed = [dict(override.partition("=")[::2] for override in overrides) for overrides in combinations]
    keys = [key for key in parsed[0] if len({values.get(key) for values in parsed}) > 1] or list(parsed[0])
    short = short_names(keys)
    return [" ".join(f"{short[key]}={values[key]}" for key in keys) or "as composed" for values in parsed]


def sweep_lock(root: Path) -> AbstractContextManager[None]:
    """Hold the lock of sweeps in this checkout: two would share the cores, and both take longer.

    Raises:
        MachineError: Another sweep runs.
    """
    return exclusive_lock(root / ".cache/sweep.lock", "sweeps in this checkout")


@contextmanager
def _opened(planned: Sequence[PlannedTrial], root: Path, typed: Sequence[str]) -> Iterator[TrialStore]:
    """Open the sweep's folder and its MLflow run, new or known; the run ends as the body does."""
    known_by = sorted(fingerprint.digest(trial.config, Paths(root)) for trial in planned)
    config = planned[0].config
    folder = make_folder(Paths(root).sweeps, _name(typed), known_by)
    with ExitStack() as opened:

        def open_run(spec: runs.RunSpec) -> str:
            return opened.enter_context(runs.run(config.tracking.experiment, root, spec)).run_id

        yield open_store(root, folder, "sweep", command_for(typed), config, open_run)


def _name(typed: Sequence[str]) -> str:
    named = [word.partition("=")[2] for word in typed if word.lstrip("+").startswith("sweep=")]
    return named[0] if named else "sweep"


def command_for(typed: Sequence[str]) -> str:
    """Return what to type for a sweep with these overrides."""
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
