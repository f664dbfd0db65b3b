"""The trials of a sweep or a search: the state of each, kept in a folder of its own.

The state on disk decides, not the record in MLflow: a finished trial is not trained again, even if its process died
later or MLflow did not take its record. A trial's id is the digest of its training's fingerprint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from manyheads.config.schema import Config
from manyheads.errors import IntegrityError
from manyheads.evaluation.trials import Trial
from manyheads.heads import Metric
from manyheads.paths import Paths
from manyheads.runtime.files import write_text
from manyheads.tracking.runs import flattened
from manyheads.training import fingerprint
from manyheads.training.tracked import main_metrics

if TYPE_CHECKING:
    import filelock

Kind = Literal["sweep", "search"]
Status = Literal["PLANNED", "RUNNING", "FINISHED", "FAILED", "KILLED"]


class TrialState(BaseModel):
    """The state of a trial, kept as ``trial.json`` in its folder.

    Attributes:
        name: What differs from the other trials, such as ``age=0.3 race=1``.
        overrides: Hydra overrides that make its configuration.
        settings: Its configuration as flat settings, such as ``loss.weights.age``.
        split: Digest of the split that it is validated on.
        main_metrics: Each head's main metric.
        status: ``PLANNED``, or MLflow's status. It stays ``RUNNING`` after the trial's process died.
        attempts: Number of times that it was started.
        metrics: Metrics that the training returned, by name.
        run_id: Its MLflow run, or an empty text if there is none.
        recorded: Whether MLflow took the whole record of the finished training.
        error: Why it failed.
        seconds: Duration of the last attempt, in seconds.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    overrides: tuple[str, ...]
    settings: dict[str, str]
    split: str
    main_metrics: dict[str, Metric] = {}
    status: Status = "PLANNED"
    attempts: int = 0
    metrics: dict[str, float] = {}
    run_id: str = ""
    recorded: bool = False
    error: str = ""
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether it is neither waiting nor running."""
        return self.status not in ("PLANNED", "RUNNING")

    def as_trial(self) -> Trial:
        """Return it as a trial of a comparison."""
        return Trial(
            name=self.name,
            status=self.status,
            settings=self.settings,
            metrics=self.metrics,
            split=self.split,
            run_id=self.run_id,
            error=self.error,
            overrides=self.overrides,
            main_metrics=self.main_metrics,
        )


@dataclass(frozen=True)
class TrialStore:
    """The trials of one sweep or search, each in ``trials/<id>/`` below its folder.

    Attributes:
        root: The project's root folder.
        folder: Folder of the sweep or search.
        kind: ``sweep`` or ``search``; its runs have a tag of this name.
        parent: MLflow run of the sweep or search, or an empty text if there is none.
    """

    root: Path
    folder: Path
    kind: Kind
    parent: str = ""

    def trial_id(self, config: Config) -> str:
        """Return the id of the trial with a configuration: the digest of its training's fingerprint."""
        return fingerprint.digest(config, Paths(self.root))

    def plan(self, config: Config, name: str, overrides: Sequence[str]) -> str:
        """Add a trial unless the store has it, and return its id."""
        trial_id = self.trial_id(config)
        if not self._file(trial_id).exists():
            state = TrialState(
                name=name,
                overrides=tuple(overrides),
                settings={key: str(value) for key, value in flattened(config.model_dump()).items()},
                split=fingerprint.split_digest(Paths(self.root)),
                main_metrics=main_metrics(config),
            )
            self.write(trial_id, state)
        return trial_id

    def read(self, trial_id: str) -> TrialState:
        """Return the state of a trial.

        Raises:
            IntegrityError: The file is damaged.
        """
        path = self._file(trial_id)
        try:
            return TrialState.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise IntegrityError(f"{path} is damaged: delete {path.parent}, and the trial is made again") from error

    def write(self, trial_id: str, state: TrialState) -> None:
        """Replace the state of a trial, in an atomic write."""
        write_text(self._file(trial_id), state.model_dump_json(indent=2) + "\n")

    def states(self) -> dict[str, TrialState]:
        """Return the states of all trials by id, sorted by id."""
        trial_ids = sorted(path.parent.name for path in self.folder.glob("trials/*/trial.json"))
        return {trial_id: self.read(trial_id) for trial_id in trial_ids}

    def ended_since(self, moment: float) -> int:
        """Return the number of trials that ended at or after a moment.

        Args:
            moment: Seconds since the epoch.
        """
        ended = [self._file(trial_id) for trial_id, state in self.states().items() if state.ended]
        return sum(path.stat().st_mtime >= moment for path in ended)

    def paths(self, trial_id: str) -> Paths:
        """Return the paths of a trial's model and history."""
        return Paths(self.folder / "trials" / trial_id)

    def lock(self, trial_id: str, timeout: float = -1) -> filelock.BaseFileLock:
        """Return the lock of a trial; the process that trains the trial holds it.

        Args:
            trial_id: Id of the trial.
            timeout: Seconds to wait for the lock before ``filelock.Timeout`` is raised; below 0, there is no limit.
        """
        import filelock

        return filelock.FileLock(self.paths(trial_id).root / ".lock", timeout=timeout)

    def _file(self, trial_id: str) -> Path:
        return self.paths(trial_id).root / "trial.json"
