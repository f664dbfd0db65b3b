"""The Optuna study of a search, which any number of processes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import filelock
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class SharedStudy:
    """The settings that were tried, and their objectives; the trial store has everything else about a trial.

    Optuna's state ``FAIL`` means a failure, or a process that died or was stopped. User attributes of a trial:
    ``trial_id``, its id in the store; ``again``, the number of the trial that it repeats; ``error``, why its settings
    make no valid configuration.

    Attributes:
        folder: Folder of the search.
        optuna_study: Optuna's study.
        lock: Lock of the search. A process holds it while it makes a decision for all processes.
    """

    folder: Path
    optuna_study: optuna.Study
    lock: filelock.BaseFileLock

    def ask(self, searched: Mapping[str, BaseDistribution], seed: int) -> optuna.Trial:
        """Return the next trial. The lock must be held.

        Args:
            searched: Distribution of each setting.
            seed: Seed of the choices. They do not depend on how often the search was interrupted.
        """
        from optuna.samplers import TPESampler

        number = len(self.counted())
        sampler_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        self.optuna_study.sampler = TPESampler(seed=sampler_seed)
        return self.optuna_study.ask(dict(searched))

    def tell(self, trial: optuna.Trial, metrics: Sequence[float]) -> None:
        """Mark a trial as finished, with its objectives, one a head."""
        self.optuna_study.tell(trial, metrics)

    def tell_failed(self, trial: optuna.Trial) -> None:
        """Mark a trial as failed."""
        from optuna.trial import TrialState

        self.optuna_study.tell(trial, state=TrialState.FAIL)

    def tell_pruned(self, trial: optuna.Trial) -> None:
        """Mark a trial as stopped before its end."""
        from optuna.trial import TrialState

        self.optuna_study.tell(trial, state=TrialState.PRUNED)

    def counted(self) -> list[FrozenTrial]:
        """Return the trials that run or have ended, without those that another trial repeats."""
        from optuna.trial import TrialState

        trials = self.optuna_study.get_trials(deepcopy=False)
        repeated = {trial.user_attrs.get("again") for trial in trials}
        return [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in repeated]

    def failed(self) -> list[FrozenTrial]:
        """Return the counted trials that failed."""
        from optuna.trial import TrialState

        return [trial for trial in self.counted() if trial.state == TrialState.FAIL]

    def running(self) -> list[FrozenTrial]:
        """Return the running trials."""
        from optuna.trial import TrialState

        return self.optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def trial_ids(self) -> list[str]:
        """Return the ids in the store of all trials, each once, in the order of the study."""
        trials = self.optuna_study.get_trials(deepcopy=False)
        return list(dict.fromkeys(trial.user_attrs["trial_id"] for trial in trials if "trial_id" in trial.user_attrs))

    def was_pruned(self, trial_id: str) -> bool:
        """Return whether a trial with this id in the store was stopped before its end."""
        from optuna.trial import TrialState

        pruned = self.optuna_study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
        return any(trial.user_attrs["trial_id"] == trial_id for trial in pruned)

    def enqueue_again(self, trials: Sequence[FrozenTrial]) -> None:
        """Enqueue the settings of trials again; a stopped training continues after its last epoch."""
        for trial in trials:
            self.optuna_study.enqueue_trial(trial.params, {"again": trial.number})

    def enqueue_dead(self) -> None:
        """Mark trials whose process died as failed, and enqueue their settings again. The lock must be held."""
        import filelock
        from optuna.trial import TrialState

        for trial in self.running():
            try:
                with self.running_lock(trial.number, timeout=0):
                    self.optuna_study.tell(trial.number, state=TrialState.FAIL)
                    self.enqueue_again([trial])
            except filelock.Timeout:
                continue

    @contextmanager
    def running_lock(self, number: int, timeout: float = -1) -> Iterator[None]:
        """Hold the lock that shows that a trial's process is alive.

        Args:
            number: Number of the trial in the study.
            timeout: Seconds to wait for it; below 0, there is no limit.

        Raises:
            filelock.Timeout: Another process holds it.
        """
        import filelock

        folder = self.folder / "locks"
        folder.mkdir(exist_ok=True)
        with filelock.FileLock(folder / f"{number}.lock", timeout=timeout):
            yield


def open_study(folder: Path, objectives: int, lock: filelock.BaseFileLock) -> SharedStudy:
    """Return the study of a search, new or known; it maximises all objectives. The lock must be held.

    Args:
        folder: Folder of the search; the study is kept in its ``journal.log``.
        objectives: Number of objectives.
        lock: Lock of the search.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=folder.name, directions=["maximize"] * objectives, load_if_exists=True,
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
    )  # fmt: skip
    return SharedStudy(folder, study, lock)
