"""The trials of a comparison: which of them can be compared, and which settings differ among them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from manyheads.errors import DataError
from manyheads.evaluation.settings import natural_order
from manyheads.heads.metrics import Metric

Values = Mapping[str, float]

SCORE = "score"

# Settings that shape no metric: the number of parameters follows from others, the experiment only names where runs are.
IRRELEVANT = {"parameters", "tracking.experiment"}


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        name: What differs from the other trials, such as ``age=0.3 race=1``.
        status: MLflow's status: ``FINISHED``, ``FAILED``, ``KILLED`` or ``RUNNING``.
        settings: Flat settings, such as ``loss.weights.age``: ``0.3``.
        metrics: ``best/val/…`` and ``last/val/…``, ``best/epoch``, ``wall_seconds``.
        split: Digest of the split that it was evaluated on.
        run_id: Its MLflow run.
        error: Why it failed, in one line.
        overrides: Hydra overrides that make its configuration.
        experiment: Name of its DVC experiment, or an empty text.
        main_metrics: Each head's main metric; empty for a run that was recorded without them.
    """

    name: str
    status: str
    settings: Mapping[str, str]
    metrics: Values
    split: str = ""
    run_id: str = ""
    error: str = ""
    overrides: tuple[str, ...] = ()
    experiment: str = ""
    main_metrics: Mapping[str, Metric] = field(default_factory=dict)

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads that have a validation skill score, sorted."""
        found = (re.fullmatch(r"best/val/([^/]+)/skill", name) for name in self.metrics)
        return tuple(sorted(match[1] for match in found if match))


def reason_left_out(trial: Trial) -> str:
    """Return why a trial is not compared, or an empty text if it is."""
    if trial.status != "FINISHED":
        return trial.error or {"KILLED": "stopped before its end", "RUNNING": "still runs"}.get(trial.status, "failed")
    scores = [trial.metrics.get("best/val/score", math.nan)]
    scores += [trial.metrics[f"best/val/{head}/skill"] for head in trial.heads]
    if len(scores) == 1 or not all(map(math.isfinite, scores)):
        return "finished, but its record has no finite best/val/score and skill scores: train it again"
    return ""


def check_comparable(finished: Sequence[Trial]) -> None:
    """Raise an error unless all trials have the same split and the same heads.

    Raises:
        DataError: They differ; the message names up to three of the trials.
    """
    for what, of_trial, remedy in (
        ("were evaluated on different splits", lambda trial: trial.split, "compare runs of one split"),
        ("have different heads", lambda trial: ", ".join(trial.heads), "compare runs of one dataset"),
    ):
        examples: dict[str, Trial] = {}
        for trial in finished:
            examples.setdefault(of_trial(trial), trial)
        if len(examples) > 1:
            named = "; ".join(
                f"{trial.name}{f' (run {trial.run_id[:8]})' if trial.run_id else ''}: {value or 'none recorded'}"
                for value, trial in list(examples.items())[:3]
            )
            raise DataError(f"these runs {what} ({named}): {remedy}, by their ids or with --filter")


def common_main_metrics(finished: Sequence[Trial], heads: Sequence[str]) -> dict[str, Metric]:
    """Return each head's main metric, without the heads whose main metric is not the same in every trial."""
    found = {}
    for head in heads:
        metrics = [trial.main_metrics.get(head) for trial in finished]
        first = metrics[0]
        same = first and {metric.name if metric else "" for metric in metrics} == {first.name}
        if first and same and all(f"best/val/{head}/{first.name}" in trial.metrics for trial in finished):
            found[head] = first
    return found


def varied_settings(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Return the settings that differ among trials, without the seed, in natural order."""
    # A training that failed early has no recorded settings.
    known = [trial.settings for trial in trials if trial.settings]
    keys = {key for settings in known for key in settings} - IRRELEVANT - {"seed"}
    varied = {key for key in keys if len({settings.get(key, "") for settings in known}) > 1}
    # A loss's name only labels the other settings of the loss.
    if any(key.startswith("loss.") for key in varied - {"loss.name"}):
        varied.discard("loss.name")
    return tuple(sorted(varied, key=natural_order))
