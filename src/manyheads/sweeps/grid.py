"""Sweeps: Hydra's multirun of the training, made resumable, compared, and recorded under one MLflow run.

Hydra composes the points and launches them, in this process or by a launcher plug-in. This module is its sweeper: it
refuses what cannot work before the first point trains, leaves out points that are finished, and answers at the end
which point to take. A sweep is known by its set of points, so the same command_of goes on where it was stopped.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException

from manyheads.config.composition import composition_error
from manyheads.config.loading import load
from manyheads.config.schema import Config
from manyheads.errors import ConfigError, MachineError, ManyheadsError
from manyheads.evaluation.comparison import short_names
from manyheads.paths import Paths
from manyheads.runtime import signals
from manyheads.runtime.hardware import available_cores
from manyheads.runtime.locks import exclusive_lock
from manyheads.sweeps.trials import ATTEMPTS, TrialState, TrialStore, log_with_trial_name, parent_spec, remember_parent
from manyheads.tracking import runs
from manyheads.tracking.dvc import require_data_as_locked, require_settings_as_locked
from manyheads.training import fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedTrial:
    """A point before it is trained.

    Attributes:
        name: What differs from the other points, such as ``age=0.3 race=1``.
        overrides: Hydra overrides that make it.
        config: Its configuration.
    """

    name: str
    overrides: tuple[str, ...]
    config: Config


@dataclass(frozen=True)
class Launch:
    """What a process that trains a point is told beside the point's configuration.

    Attributes:
        group: The sweep.
        order: Identities of all points, in the order of the sweep.
        waiting: How many of them this launch is to train.
        started: When it began, in seconds since the epoch.
        process: The launching process.
        environment: What a process on another machine may not inherit: where the record is, and how many threads.
    """

    group: TrialStore
    order: tuple[str, ...]
    waiting: int
    started: float
    process: int
    environment: Mapping[str, str]


THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")

# What chooses the sweeper on Hydra's command_of line.
SETTINGS = ("hydra/sweeper=points",)


def run(context: Any, settings: Any, overrides: Sequence[str], typed: Sequence[str]) -> None:
    """Train the points that are not finished, compare them all, and fail if one did.

    Args:
        context: Hydra's context.
        settings: Hydra's composition of what all points share.
        overrides: Overrides with lists, such as ``loss.weights.age=1,2``.
        typed: Those of them that were typed, and do not come from a file.

    Raises:
        ManyheadsError: A point cannot be trained at all, and nothing was; or some did not finish.
    """
    for noisy in ("hydra", "hydra_plugins"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    root = Path.cwd()
    points = plan(context, settings, overrides)
    require_data_as_locked(points[0].config, root)
    for point in points:
        require_settings_as_locked(point.config, root)
    with ExitStack() as at_the_end, sweep_lock(root), _recorded(points, root, typed) as group:
        identities = {group.plan(point.config, point.name, point.overrides): point for point in points}
        group.mark_dead_trials_killed()
        _say_what_is_known(group, identities)
        try:
            _train(context, settings, group, identities)
        finally:
            group.mark_dead_trials_killed()
            for digest, point in identities.items():
                group.record_in_mlflow_again(point.config, digest)
            at_the_end.callback(group.show, group.answer(identities, command_of(typed)))
        _refuse_unfinished([group.read(digest) for digest in identities])


def plan(context: Any, settings: Any, overrides: Sequence[str]) -> list[PlannedTrial]:
    """Compose all points, so that the last one's mistake is found before the first one trains."""
    parsed = OverridesParser.create(config_loader=context.config_loader).parse_overrides(list(overrides))
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line}: a sweep takes lists and ranges; intervals are for `search`")
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    points: dict[str, PlannedTrial] = {}
    for name, combination in zip(names_of(combinations), combinations, strict=True):
        try:
            composed = context.config_loader.load_sweep_config(settings, list(combination))
        except HydraException as error:
            known = runs.flattened({key: settings[key] for key in settings if key != "hydra"})
            raise composition_error(error, list(known)) from error
        config = load(composed, f"the point {name}")
        key = config.model_dump_json()
        if key in points:
            logger.info("%s is the same as %s: it is trained once", name, points[key].name)
        else:
            points[key] = PlannedTrial(name, tuple(combination), config)
    return list(points.values())


def _train(context: Any, settings: Any, group: TrialStore, identities: Mapping[str, PlannedTrial]) -> None:
    unfinished = {key: point for key, point in identities.items() if group.read(key).status != "FINISHED"}
    for key in unfinished:
        group.write(key, group.read(key).model_copy(update={"attempts": 0}))
    while unfinished:
        batch = _batch(group, list(unfinished), settings.hydra.launcher)
        try:
            with _threads(settings.hydra.launcher, len(batch)) as environment:
                launch = Launch(group, tuple(identities), len(batch), time.time(), os.getpid(), environment)
                launcher = Plugins.instance().instantiate_launcher(
                    hydra_context=context,
                    task_function=functools.partial(train_trial, launch=launch),
                    config=settings,
                )
                launcher.launch([list(unfinished[key].overrides) for key in batch], initial_job_idx=0)
        except Exception as error:
            # A launcher gives up when a process of its dies, also on points that had nothing to do with it.
            group.mark_dead_trials_killed()
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if not any(group.read(key).attempts for key in unfinished):
                raise MachineError(f"the launcher started no point ({reason}): see hydra/launcher") from error
            logger.warning("warning: a process that trained a point died (%s)", reason)
        unfinished = {key: point for key, point in unfinished.items() if _is_to_be_tried_again(group, key)}


def _batch(group: TrialStore, unfinished: list[str], launcher: Mapping[str, Any]) -> list[str]:
    """Return the points to launch together.

    When a process dies, joblib kills its neighbours, too. Those that had started go on one by one after the others:
    which of them died by itself is not known, and it must not take the others along twice.
    """
    if "joblib" not in str(launcher.get("_target_", "")):
        return unfinished
    return [key for key in unfinished if not group.read(key).attempts] or unfinished[:1]


def _is_to_be_tried_again(group: TrialStore, identity: str) -> bool:
    record = group.read(identity)
    if record.status == "KILLED" and record.attempts >= ATTEMPTS:
        error = f"its process died {record.attempts} times, perhaps for want of memory"
        group.write(identity, record.model_copy(update={"status": "FAILED", "error": error}))
        return False
    return record.status in ("PLANNED", "KILLED", "RUNNING")


def train_trial(values: Any, launch: Launch) -> None:
    """Train one point, wherever a launcher runs it. Nothing is raised: how it ended is in its folder."""
    signals.raise_if_interrupted()
    for name, value in launch.environment.items():
        os.environ.setdefault(name, value)
    config = load(values)
    group = launch.group
    os.chdir(group.root)
    digest = group.identity(config)
    record = group.read(digest)
    log_with_trial_name(record.name, launch.process)
    if record.status == "FINISHED":
        return
    logger.info("point %d of %d: %s", launch.order.index(digest) + 1, len(launch.order), record.name)
    record = group.run(digest, config)
    _say_how_it_ended(record, launch)


def _ended_since(group: TrialStore, moment: float) -> int:
    ended = [group.place(key).root / "point.json" for key, record in group.records().items() if record.ended]
    return sum(path.stat().st_mtime >= moment for path in ended)


def _say_how_it_ended(record: TrialState, launch: Launch) -> None:
    done = max(1, _ended_since(launch.group, launch.started))
    minutes = (time.time() - launch.started) / done * (launch.waiting - done) / 60
    left = f"; about {minutes:.0f} min left" if minutes >= 1 else ""
    if record.status == "FINISHED":
        logger.info("done in %.0f s, score %.3f%s", record.seconds, record.figures["best/val/score"], left)
    else:
        logger.warning("%s after %.0f s%s", record.status, record.seconds, left)


def names_of(combinations: Sequence[Sequence[str]]) -> list[str]:
    """Return what differs between lists of overrides, shortly: ``age=0.3 race=1`` for loss weights.

    Args:
        combinations: Overrides of each point, such as ``loss.weights.age=0.3``.
    """
    parsed = [dict(override.partition("=")[::2] for override in overrides) for overrides in combinations]
    keys = [key for key in parsed[0] if len({values.get(key) for values in parsed}) > 1] or list(parsed[0])
    short = short_names(keys)
    return [" ".join(f"{short[key]}={values[key]}" for key in keys) or "as composed" for values in parsed]


def _name(typed: Sequence[str]) -> str:
    named = [word.partition("=")[2] for word in typed if word.lstrip("+").startswith("sweep=")]
    return named[0] if named else "sweep"


def sweep_lock(root: Path) -> AbstractContextManager[None]:
    """Hold the lock of sweeps in this checkout: two would share the cores, and both take longer.

    Raises:
        MachineError: Another sweep runs.
    """
    return exclusive_lock(root / ".cache/sweep.lock", "sweeps in this checkout")


@contextmanager
def _recorded(points: Sequence[PlannedTrial], root: Path, typed: Sequence[str]) -> Iterator[TrialStore]:
    """Open the sweep's folder and its MLflow run, new or known."""
    known_by = sorted(fingerprint.digest(point.config, Paths(root)) for point in points)
    digest = hashlib.sha256(" ".join(known_by).encode()).hexdigest()[:8]
    folder = Paths(root).sweeps / f"{_name(typed)}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    place = parent_spec(root, folder, "sweep", command_of(typed), points[0].config)
    with runs.run(points[0].config.tracking, root, place) as run:
        remember_parent(folder, run.run_id)
        yield TrialStore(root, folder, "sweep", run.run_id)


def command_of(typed: Sequence[str]) -> str:
    """Return what to type for a sweep with these overrides."""
    return shlex.join(["python", "-m", "manyheads", "train", "-m", *typed])


def _say_what_is_known(group: TrialStore, identities: Mapping[str, PlannedTrial]) -> None:
    finished = sum(group.read(digest).status == "FINISHED" for digest in identities)
    known = f", {finished} of them finished before" if finished else ""
    logger.info("sweep %s: %d points%s (%s)", group.folder.name, len(identities), known, group.folder)


def _refuse_unfinished(records: Sequence[TrialState]) -> None:
    bad = [record for record in records if record.status != "FINISHED"]
    if bad:
        names = "; ".join(f"{record.name} ({record.error or record.status})" for record in bad[:3])
        raise ManyheadsError(
            f"{len(bad)} of {len(records)} points did not finish: {names}; the same command_of tries them again"
        )


def cores_per_trial(launcher: Mapping[str, Any], points: int, cores: int) -> int | None:
    """Return how many cores each point gets, or None where it has the machine to itself.

    Args:
        launcher: Hydra's launcher settings.
        points: How many points there are to train.
        cores: How many cores this machine has.
    """
    target = str(launcher.get("_target_", ""))
    if "joblib" in target:
        jobs = int(launcher["n_jobs"])
        workers = min(points, jobs if jobs > 0 else max(1, cores + 1 + jobs))
        return max(1, cores // workers)
    if "submitit" in target:
        return int(launcher.get("cpus_per_task") or 1)
    if "ray" in target:
        return int(launcher["ray"]["remote"].get("num_cpus") or 1)
    return None


@contextmanager
def _threads(launcher: Mapping[str, Any], points: int) -> Iterator[dict[str, str]]:
    """Tell the processes that a launcher starts how many threads TensorFlow may use; a person's own setting stays.

    Yields:
        What such a process is to have in its environment.
    """
    cores = cores_per_trial(launcher, points, available_cores())
    ours = [name for name in THREADS if cores and name not in os.environ]
    os.environ.update({name: str(cores) for name in ours})
    try:
        yield {name: os.environ[name] for name in (*THREADS, "MLFLOW_TRACKING_URI") if name in os.environ}
    finally:
        for name in ours:
            del os.environ[name]
