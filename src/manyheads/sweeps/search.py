"""Search: Optuna chooses trials towards the front of all heads' skill scores, instead of a grid written by hand.

Any number of processes work on a search: what they decide together they decide under one lock, from what is on disk.
So the same command goes on where a search was stopped, and in a second terminal it takes a share of the work.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from manyheads.config.composition import compose, composition_error
from manyheads.config.loading import did_you_mean, known_keys
from manyheads.config.schema import Config
from manyheads.errors import ConfigError, ManyheadsError, TrainingStopped
from manyheads.evaluation.comparison import short_names
from manyheads.paths import Paths
from manyheads.runtime import signals
from manyheads.runtime.credentials import masked
from manyheads.sweeps.trials import TrialState, TrialStore, parent_spec, remember_parent
from manyheads.tracking import runs
from manyheads.tracking.dvc import require_data_as_locked, require_settings_as_locked
from manyheads.training import fingerprint
from manyheads.training.checkpoint import Row

if TYPE_CHECKING:
    import filelock
    import optuna
    from hydra.core.override_parser.types import Override
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import FrozenTrial

    Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
logger = logging.getLogger(__name__)


WEIGHTS = (0.1, 10.0)
"""Between these every head's weight is searched if nothing else is asked for."""


DIGITS = 3
"""So many digits of a number are trained with: more say nothing, and would be typed when a trial is promoted."""


ENOUGH = 4
"""So many trials must be finished before one is held against them."""


def run(root: Path, overrides: Sequence[str], trials: int, command: str) -> None:
    """Train trials until there are enough of them, in all processes together, and compare them.

    Args:
        root: The project's root folder.
        overrides: Hydra overrides: those of one value are fixed, the others are searched.
        trials: How many trials the search has in all.
        command: What was typed.

    Raises:
        ManyheadsError: No trial could be trained at all, and none was; or some failed.
    """
    space = parse(root, overrides)
    examples = [composed(root, space.overrides(values)) for values in space.examples()]
    require_data_as_locked(examples[0], root)
    search = start(root, space, examples, trials, command)
    try:
        while search.train_one():
            pass
    finally:
        search.end()
    if failed := search.failed():
        names = "; ".join(f"{search.name(trial)} ({search.why(trial)})" for trial in failed[:3])
        raise ManyheadsError(f"{len(failed)} of {trials} trials failed: {names}; the same command tries them again")


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        fixed: Hydra overrides of all trials.
        searched: Distribution of each setting, by what stands before the ``=`` of its override.
    """

    fixed: tuple[str, ...]
    searched: Mapping[str, Distribution]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the Hydra overrides of a trial."""
        return [*self.fixed, *(f"{key}={written(value)}" for key, value in values.items())]

    def examples(self) -> list[dict[str, Any]]:
        """Return a few trials that have, between them, each choice, both ends of each interval and a value inside."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        values: dict[str, list[Any]] = {}
        for key, each in self.searched.items():
            values[key] = list(each.choices) if isinstance(each, CategoricalDistribution) else [each.low, each.high]
            if isinstance(each, FloatDistribution) and not each.step:
                # A setting that takes whole numbers alone shows there.
                values[key].append(each.low + (each.high - each.low) / np.e)
        count = max(map(len, values.values()))
        return [{key: each[i % len(each)] for key, each in values.items()} for i in range(count)]


def written(value: object) -> str:
    """Return a value as it stands in an override: a fraction with three significant digits."""
    return f"{float(f'{value:.{DIGITS}g}'):g}" if isinstance(value, float) else str(value)


def parse(root: Path, overrides: Sequence[str]) -> Space:
    """Return what overrides ask for: with no list among them, the weight of each head that is not given.

    Args:
        root: The project's root folder.
        overrides: Words of Hydra's override grammar.

    Raises:
        ConfigError: An override is not understood, its setting is unknown, or nothing is left to search.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from optuna.distributions import FloatDistribution

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise composition_error(error) from error
    if hydra := next((each.input_line for each in parsed if each.is_hydra_override()), None):
        raise ConfigError(f"{hydra}: Hydra launches no search; in a second terminal the same command shares the work")
    searched: dict[str, Distribution] = {
        str(each.input_line).partition("=")[0]: _distribution(each) for each in parsed if each.is_sweep_override()
    }
    fixed = {each.key_or_group: str(each.input_line) for each in parsed if not each.is_sweep_override()}
    base = composed(root, list(fixed.values()))
    known = list(runs.flattened(base.model_dump()))
    for key in searched:
        # Hydra would not tell which head it may have meant.
        if "." in key and not key.startswith("+") and not any(f"{name}.".startswith(f"{key}.") for name in known):
            raise ConfigError(f"unknown setting {key!r}{did_you_mean(key, [*known, *known_keys()])}")
    if not searched:
        free = [key for key in (f"loss.weights.{head}" for head in base.loss.weights) if key not in fixed]
        searched = {key: FloatDistribution(*WEIGHTS, log=True) for key in free}
    if not searched:
        raise ConfigError("every setting has one value: give one an interval or a list, as --help shows")
    # Sorted, so that the same words in another order are the same search.
    return Space(tuple(fixed.values()), dict(sorted(searched.items())))


def _distribution(override: Override) -> Distribution:
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    if not isinstance(sweep, ChoiceSweep | IntervalSweep | RangeSweep):
        raise ConfigError(f"{override.input_line}: write the options out, such as loss=balanced,learned")
    meaningful = set() if isinstance(sweep, ChoiceSweep) else {"log"}
    if unknown := sorted(sweep.tags - meaningful):
        raise ConfigError(f"{override.input_line}: the tag {unknown[0]!r} has no meaning here")
    log = "log" in sweep.tags
    try:
        if isinstance(sweep, ChoiceSweep):
            return CategoricalDistribution(sorted(set(override.sweep_string_iterator())))
        if isinstance(sweep, IntervalSweep):
            ends: tuple[Any, Any] = (sweep.start, sweep.end)
            whole = all(isinstance(end, int) for end in ends)
            return IntDistribution(*ends, log=log) if whole else FloatDistribution(*ends, log=log)
        values: list[Any] = list(override.sweep_iterator())
        if not values:
            raise ValueError("there is nothing in this range")
        if all(isinstance(value, int) for value in values):
            return IntDistribution(min(values), max(values), log=log, step=abs(int(sweep.step)))
        # Hydra adds up in binary, and ends at 0.30000000000000004.
        low, high = (float(written(end)) for end in (min(values), max(values)))
        return FloatDistribution(low, high, log=log, step=abs(float(sweep.step)))
    except ValueError as error:
        raise ConfigError(f"{override.input_line}: {error}") from error


def composed(root: Path, overrides: Sequence[str]) -> Config:
    """Return the configuration of overrides, which must fit the packed data."""
    config = compose(root, overrides)
    require_settings_as_locked(config, root)
    return config


def hopeless(row: Row, others: Sequence[Row], heads: Sequence[str]) -> bool:
    """Return whether a trial is to be stopped: at least half of the others were better for every head by then.

    With one head this is the median rule of Golovin et al., "Google Vizier", 2017, on the figures of one epoch. With
    several, a trial that may yet be on the front goes on. Optuna has no such rule: its pruners refuse several heads.

    Args:
        row: Figures of the trial's last epoch, such as ``val/age/skill``.
        others: Figures of the finished trials at the same epoch.
        heads: Names of the heads.
    """
    better = sum(all(other[f"val/{head}/skill"] > row[f"val/{head}/skill"] for head in heads) for other in others)
    return len(others) >= ENOUGH and 2 * better >= len(others)


def start(root: Path, space: Space, examples: Sequence[Config], trials: int, command: str) -> Search:
    """Open the folder, the study and the MLflow run of a search, new or known.

    A search is known by what is searched and by the identity of example trainings, in which its fixed settings, the
    data and the code are.
    """
    import filelock
    import optuna
    from optuna.distributions import distribution_to_json
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known_by = [fingerprint.digest(config, Paths(root)) for config in examples]
    known_by += [f"{key} {distribution_to_json(each)}" for key, each in space.searched.items()]
    folder = Paths(root).searches / f"search-{hashlib.sha256(json.dumps(known_by).encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    heads = tuple(examples[0].data.heads)
    lock = filelock.FileLock(folder / ".lock")
    with lock:
        place = parent_spec(root, folder, "search", command, examples[0])
        parent = runs.open_shared_run(examples[0].tracking, root, place)
        remember_parent(folder, parent)
        study = optuna.create_study(
            study_name=folder.name, directions=["maximize"] * len(heads), load_if_exists=True,
            storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        )  # fmt: skip
        group = TrialStore(root, folder, "search", parent)
        search = Search(group, space, study, lock, trials, command, heads, examples[0].seed)
        search.mark_dead_trials_killed()
        search.try_again(search.failed())
        spent = len(search.spent())
    logger.info("search %s: %d trials, %d of them known from before (%s)", folder.name, trials, spent, folder)
    return search


@dataclass
class Search:
    """One process's hold on a search.

    Optuna keeps which parameters were tried and how good they were, the group's folder all the rest. What Optuna
    calls failed is either a failure or was left by a process that died; a trial that stands in for another one has
    its number in the attribute ``again``.

    Attributes:
        group: The trials as points.
        space: What is searched.
        study: Optuna's record of it.
        lock: Held by the process that decides something for all.
        total: How many trials there are to be.
        command: What was typed.
        heads: Names of the heads, whose skill scores are the objectives, in this order.
        seed: Seed of the choices; they do not depend on how often a search was stopped.
        started: When this process joined.
    """

    group: TrialStore
    space: Space
    study: optuna.Study
    lock: filelock.BaseFileLock
    total: int
    command: str
    heads: tuple[str, ...]
    seed: int
    started: datetime = field(default_factory=datetime.now)

    def train_one(self) -> bool:
        """Train the next trial, if there is to be one more; how it ended is in its folder and in the study."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        signals.raise_if_interrupted()
        with ExitStack() as alive:
            with self.lock:
                self.mark_dead_trials_killed()
                spent = len(self.spent())
                if spent >= self.total:
                    return False
                self.study.sampler = TPESampler(seed=_seed(self.seed, spent))
                trial = self.study.ask(dict(self.space.searched))
                alive.enter_context(self._sign_of_life(trial.number))
                runs.set_status(self.group.root, self.group.parent, "RUNNING")
                overrides = self.space.overrides(trial.params)
                logger.info("trial %d of %d: %s", spent + 1, self.total, self.name(trial))
                try:
                    config = composed(self.group.root, overrides)
                except ConfigError as error:  # settings that are possible each, but not together
                    logger.error("%s", error)
                    trial.set_user_attr("error", masked(str(error)))
                    self.study.tell(trial, state=TrialState.FAIL)
                    return True
                identity = self.group.plan(config, self.name(trial), overrides)
                trial.set_user_attr("point", identity)
            self._train(trial, identity, config)
        return True

    def _train(self, trial: optuna.Trial, identity: str, config: Config) -> None:
        from optuna.trial import TrialState

        stopped = (each for each in self.study.get_trials(deepcopy=False) if each.state == TrialState.PRUNED)
        if identity in {each.user_attrs["point"] for each in stopped}:
            self.study.tell(trial, state=TrialState.PRUNED)
            logger.info("the same was stopped before")
            return
        try:
            record = self.group.run(identity, config, functools.partial(self._stop_if_hopeless, config.train.epochs))
        except TrainingStopped as reason:
            self.study.tell(trial, state=TrialState.PRUNED)
            logger.info("stopped: %s%s", reason, self._left())
            return
        if record.status == "FINISHED":
            self.study.tell(trial, [record.figures[f"best/val/{head}/skill"] for head in self.heads])
            logger.info("done in %.0f s, score %.3f%s", record.seconds, record.figures["best/val/score"], self._left())
        else:
            self.study.tell(trial, state=TrialState.FAIL)
            logger.warning("%s after %.0f s%s", record.status, record.seconds, self._left())

    def _stop_if_hopeless(self, epochs: int, epoch: int, row: Row) -> None:
        # The first epochs say little, and after the last there is nothing to save.
        if epochs <= 3 * epoch and epoch < epochs:
            others = self._finished_at(epoch)
            if hopeless(row, others, self.heads):
                raise TrainingStopped(
                    f"after epoch {epoch} of {epochs} at least half of the {len(others)} finished trials were better "
                    "for every head"
                )

    def _finished_at(self, epoch: int) -> list[Row]:
        finished = [key for key, record in self.group.records().items() if record.status == "FINISHED"]
        histories = [_history(self.group.place(key).history) for key in finished]
        return [history[epoch - 1] for history in histories if len(history) >= epoch]

    def _left(self) -> str:
        ended = [trial.datetime_complete for trial in self.spent() if trial.datetime_complete]
        done = max(1, sum(moment >= self.started for moment in ended))
        minutes = (datetime.now() - self.started).total_seconds() / done * (self.total - len(ended)) / 60
        return f"; about {minutes:.0f} min left" if minutes >= 1 else ""

    def spent(self) -> list[FrozenTrial]:
        """Return the trials that count: those that run or have ended, unless another one stands in for them."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        replaced = {trial.user_attrs.get("again") for trial in trials}
        return [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in replaced]

    def failed(self) -> list[FrozenTrial]:
        """Return the trials that count and failed."""
        from optuna.trial import TrialState

        return [trial for trial in self.spent() if trial.state == TrialState.FAIL]

    def mark_dead_trials_killed(self) -> None:
        """Find trials whose process died, or was stopped, and let their parameters come first. The lock is held."""
        import filelock
        from optuna.trial import TrialState

        self.group.mark_dead_trials_killed()
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            try:
                with self._sign_of_life(trial.number, timeout=0):
                    self.study.tell(trial.number, state=TrialState.FAIL)
                    self.try_again([trial])
            except filelock.Timeout:
                continue

    def try_again(self, trials: Sequence[FrozenTrial]) -> None:
        """Let the parameters of trials come first; a training that was stopped goes on at its last epoch."""
        for trial in trials:
            self.study.enqueue_trial(trial.params, {"again": trial.number})

    @contextmanager
    def _sign_of_life(self, number: int, timeout: float = -1) -> Iterator[None]:
        import filelock

        folder = self.group.folder / "trials"
        folder.mkdir(exist_ok=True)
        with filelock.FileLock(folder / f"{number}.lock", timeout=timeout):
            yield

    def end(self) -> None:
        """Compare all trials. Where no other process works on, the MLflow run ends, too."""
        from optuna.trial import TrialState

        with self.lock:
            self.mark_dead_trials_killed()
            trials = self.study.get_trials(deepcopy=False)
            points = {trial.user_attrs["point"]: None for trial in trials if "point" in trial.user_attrs}
            for identity in points:
                record = self.group.read(identity)
                if record.status == "FINISHED" and not record.recorded:
                    self.group.record_in_mlflow_again(composed(self.group.root, record.overrides), identity)
            compared = self.group.answer(points, self.command)
            spent = self.spent()
            if not any(trial.state == TrialState.RUNNING for trial in spent):
                whole = "FAILED" if self.failed() else "FINISHED"
                status = whole if len(spent) >= self.total else "KILLED"
                runs.set_status(self.group.root, self.group.parent, status)
        self.group.show(compared)

    def name(self, trial: optuna.Trial | FrozenTrial) -> str:
        """Return what a trial differs in, such as ``age=0.3 race=1.24``."""
        short = short_names(self.space.searched)
        return " ".join(f"{short[key]}={written(value)}" for key, value in trial.params.items())

    def why(self, trial: FrozenTrial) -> str:
        """Return why a trial failed."""
        if "point" not in trial.user_attrs:
            return str(trial.user_attrs.get("error", "not recorded"))
        record: TrialState = self.group.read(trial.user_attrs["point"])
        return record.error or record.status


@functools.cache
def _history(path: Path) -> list[Row]:
    columns = pd.read_csv(path).to_dict("list")
    return [{str(name): float(values[i]) for name, values in columns.items()} for i in range(len(columns["epoch"]))]


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
