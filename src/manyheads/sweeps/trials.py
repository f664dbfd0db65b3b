"""The points of a sweep or a search: each is a training in a folder of its own that knows how it ended.

The folder is the truth, MLflow its record: a point that finished is never trained again, whatever became of the
process that started it, of the others, or of the store. A point's name on disk is the identity of its training.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from manyheads.config.schema import Config
from manyheads.errors import ManyheadsError, TrainingStopped
from manyheads.evaluation.comparison import Comparison, Trial, compare
from manyheads.heads import Metric
from manyheads.paths import Paths
from manyheads.reporting import comparison
from manyheads.runtime.credentials import log_to_stderr, masked
from manyheads.runtime.files import write_text
from manyheads.runtime.hardware import available_cores
from manyheads.tracking import git, runs
from manyheads.training import fingerprint
from manyheads.training.callbacks import Training, TrainingCallback
from manyheads.training.tracked import main_metrics, record_again, train_and_record

logger = logging.getLogger(__name__)

ATTEMPTS = 2
"""So often a point is started whose process dies: what kills it once may have been meant for another."""

Status = Literal["PLANNED", "RUNNING", "FINISHED", "FAILED", "KILLED"]


class TrialState(BaseModel):
    """How far a point is, kept as ``point.json`` in its folder.

    Attributes:
        name: What differs from the other points.
        overrides: Hydra overrides that make its configuration.
        settings: Its configuration, flat, as MLflow has it.
        split: Digest of the split that it is judged on.
        main_metrics: Each head's main metric.
        status: MLflow's words, and ``PLANNED``. Of a process that died it is still ``RUNNING``.
        attempts: How often it was started.
        figures: What the training returned.
        run_id: Its MLflow run, or an empty text if there is no record.
        recorded: Whether MLflow took everything that a finished training has to say.
        error: Why it failed.
        seconds: How long the last attempt took.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    overrides: tuple[str, ...]
    settings: dict[str, str]
    split: str
    main_metrics: dict[str, Metric] = {}
    status: Status = "PLANNED"
    attempts: int = 0
    figures: dict[str, float] = {}
    run_id: str = ""
    recorded: bool = False
    error: str = ""
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether it is neither waiting nor running."""
        return self.status not in ("PLANNED", "RUNNING")

    def as_trial(self) -> Trial:
        """Return what a comparison needs to know of it."""
        return Trial(
            name=self.name,
            status=self.status,
            settings=self.settings,
            metrics=self.figures,
            split=self.split,
            run_id=self.run_id,
            error=self.error,
            overrides=self.overrides,
            main_metrics=self.main_metrics,
        )


@dataclass(frozen=True)
class TrialStore:
    """The points of one sweep or search.

    Attributes:
        root: The project's root folder.
        folder: Where the points lie.
        kind: ``sweep`` or ``search``: the tag that the runs have.
        parent: MLflow run of the whole, or an empty text if there is no record.
    """

    root: Path
    folder: Path
    kind: Literal["sweep", "search"]
    parent: str = ""

    def place(self, identity: str) -> Paths:
        """Return where a point's files lie."""
        return Paths(self.folder / "points" / identity)

    def identity(self, config: Config) -> str:
        """Return the identity of a point: that of its training."""
        return fingerprint.digest(config, Paths(self.root))

    def plan(self, config: Config, name: str, overrides: Sequence[str]) -> str:
        """Make a point known, or find it again, and return its identity."""
        inputs = Paths(self.root)
        identity = self.identity(config)
        if not _file(self.place(identity)).exists():
            settings = {key: str(value) for key, value in runs.flattened(config.model_dump()).items()}
            split = fingerprint.split_digest(inputs)
            record = TrialState(name=name, overrides=tuple(overrides), settings=settings, split=split)
            self.write(identity, record.model_copy(update={"main_metrics": main_metrics(config)}))
        return identity

    def read(self, identity: str) -> TrialState:
        """Return what is known of a point."""
        return TrialState.model_validate_json(_file(self.place(identity)).read_text(encoding="utf-8"))

    def write(self, identity: str, record: TrialState) -> None:
        """Keep what is known of a point."""
        write_text(_file(self.place(identity)), record.model_dump_json(indent=2) + "\n")

    def records(self) -> dict[str, TrialState]:
        """Return all points by identity, in the order of their names on disk."""
        found = sorted(path.parent.name for path in self.folder.glob("points/*/point.json"))
        return {identity: self.read(identity) for identity in found}

    def run(
        self,
        identity: str,
        config: Config,
        callbacks: Sequence[TrainingCallback] = (),
    ) -> TrialState:
        """Train a point unless it is finished; what goes wrong is in the record that is returned.

        Another process that trains the same point is waited for.
        """
        import filelock

        outputs = self.place(identity)
        with filelock.FileLock(_lock(outputs)):
            record = self.read(identity)
            # A launcher may start a point whose process died again by itself, and again.
            died_too_often = record.status == "RUNNING" and record.attempts >= ATTEMPTS
            if record.status == "FINISHED" or died_too_often:
                return record
            record = record.model_copy(update={"status": "RUNNING", "attempts": record.attempts + 1, "error": ""})
            self.write(identity, record)
            start = time.monotonic()

            class RememberRun(TrainingCallback):
                def on_start(_, training: Training) -> None:  # noqa: N805
                    record.run_id = training.progress.run_id
                    self.write(identity, record)

            place = runs.RunSpec(record.name, self._tags(identity, record), self.parent, record.run_id)
            try:
                trained = train_and_record(config, Paths(self.root), outputs, place, [RememberRun(), *callbacks])
            except (KeyboardInterrupt, TrainingStopped) as reason:
                record.status, record.error = "KILLED", str(reason)
                raise
            except Exception as error:
                record.status, record.error = "FAILED", masked(" ".join(str(error).split())) or type(error).__name__
                logger.error("%s", record.error, exc_info=None if isinstance(error, ManyheadsError) else error)
            else:
                record.status, record.figures, record.recorded = "FINISHED", trained.metrics, bool(trained.run_id)
            finally:
                record.seconds = round(time.monotonic() - start, 1)
                self.write(identity, record)
        return record

    def _tags(self, identity: str, record: TrialState) -> dict[str, str]:
        return {self.kind: self.folder.name, "point": identity, "overrides": runs.as_json_list(record.overrides)}

    def mark_dead_trials_killed(self) -> None:
        """Mark points whose process died as killed, here and in MLflow, where they would run for ever."""
        import filelock

        for identity, record in self.records().items():
            if record.status != "RUNNING":
                continue
            try:
                with filelock.FileLock(_lock(self.place(identity)), timeout=0):
                    record = self.read(identity)  # it may have ended since
                    if record.status == "RUNNING":
                        record.status, record.error = "KILLED", "its process died"
                        self.write(identity, record)
                        runs.end_dead_run(self.root, record.run_id, "KILLED")
            except filelock.Timeout:
                continue

    def record_in_mlflow_again(self, config: Config, identity: str) -> None:
        """Give MLflow a finished point that it did not take when it was trained."""
        record = self.read(identity)
        if record.status == "FINISHED" and not record.recorded:
            place = runs.RunSpec(record.name, self._tags(identity, record), self.parent, record.run_id)
            run_id = record_again(config, Paths(self.root), self.place(identity), place, record.figures)
            record.run_id, record.recorded = run_id or record.run_id, bool(run_id)
            self.write(identity, record)

    def answer(self, identities: Iterable[str], command: str) -> Comparison:
        """Compare points, write the page and the CSV, and give them to the parent run.

        Args:
            identities: The points, in the order in which they are listed.
            command: What was typed.
        """
        compared = compare([self.read(identity).as_trial() for identity in identities])
        comparison.write(self.folder, compared, self._about(command))
        files = [self.folder / comparison.PAGE, self.folder / comparison.TABLE]
        runs.attach(self.root, self.parent, files, "comparison")
        return compared

    def show(self, compared: Comparison) -> None:
        """Print a comparison; the reader may have gone, so this comes when everything else is in order."""
        from rich.console import Console

        comparison.show(compared, Console(highlight=False))
        logger.info("page: %s", self.folder / comparison.PAGE)

    def _about(self, command: str) -> dict[str, str]:
        provenance = git.provenance(self.root)
        edited = ", edited" if provenance.get("git.dirty") == "true" else ""
        return {
            "command": command,
            self.kind: self.folder.name,
            "MLflow run": self.parent or "none: the store did not take it",
            "git commit": provenance.get("git.commit", "none") + edited,
            "machine": f"{available_cores()} cores, {platform.machine()}, Python {platform.python_version()}",
        }


def parent_spec(
    root: Path, folder: Path, kind: Literal["sweep", "search"], command: str, config: Config
) -> runs.RunSpec:
    """Return name, tags and, if it is known, the id of the MLflow run of a whole sweep or search.

    Args:
        root: The project's root folder.
        folder: Where the points lie.
        kind: What it is.
        command: What was typed.
        config: One of its configurations.
    """
    tags = {
        **git.provenance(root),
        kind: folder.name,
        "command": command,
        "split": fingerprint.split_digest(Paths(root)),
        "data": config.data.name,
    }
    known = _parent(folder).read_text(encoding="utf-8").strip() if _parent(folder).exists() else ""
    return runs.RunSpec(folder.name, tags, run_id=known)


def remember_parent(folder: Path, run_id: str) -> None:
    """Keep the id of the MLflow run of the whole, if there is one, for the next time."""
    if run_id:
        write_text(_parent(folder), f"{run_id}\n")


def _parent(folder: Path) -> Path:
    return folder / "run_id"


def _file(point: Paths) -> Path:
    return point.root / "point.json"


def _lock(point: Paths) -> Path:
    return point.root / ".lock"


def log_with_trial_name(name: str, launched_by: int) -> None:
    """Prefix the log with the point's name where another process than the launching one runs it.

    Such processes share a terminal, which can have one progress bar at most.
    """
    if os.getpid() != launched_by:
        os.environ["TERM"] = "dumb"
        log_to_stderr(f"[{name.replace('%', '%%')}] %(message)s")
