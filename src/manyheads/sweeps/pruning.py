"""Pruning: the rule by which a search stops a trial before its last epoch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from manyheads.errors import TrainingStopped
from manyheads.sweeps.trials import TrialStore
from manyheads.training.callbacks import TrainingCallback

MINIMUM_FINISHED = 4
"""Minimum number of finished trials before a trial is compared with them."""


def is_hopeless(row: Mapping[str, float], others: Sequence[Mapping[str, float]], heads: Sequence[str]) -> bool:
    """Return whether at least half of the other trials were better for every head at the same epoch.

    With one head, this is the median stopping rule of Golovin et al. (Google Vizier, KDD 2017) on the metrics of one
    epoch. With several heads, a trial that may still reach the Pareto front continues. Optuna's pruners support one
    objective only.

    Args:
        row: Metrics of the trial's last epoch, such as ``val/age/skill``.
        others: Metrics of the finished trials at the same epoch.
        heads: Names of the heads.

    Example:
        >>> others = [{"val/age/skill": skill} for skill in (0.3, 0.4, 0.5, 0.6)]
        >>> is_hopeless({"val/age/skill": 0.45}, others, ["age"]), is_hopeless({"val/age/skill": 0.55}, others, ["age"])
        (True, False)
    """
    better = sum(all(other[f"val/{head}/skill"] > row[f"val/{head}/skill"] for head in heads) for other in others)
    return len(others) >= MINIMUM_FINISHED and 2 * better >= len(others)


class StopIfHopeless(TrainingCallback):
    """Stops a training after an epoch at which ``is_hopeless`` holds against the finished trials.

    The first third of the epochs is not compared, because early metrics are a poor guide to final ones. Neither is the
    last epoch, after which a stop would save nothing.
    """

    def __init__(self, store: TrialStore, heads: Sequence[str], epochs: int) -> None:
        self.store = store
        self.heads = heads
        self.epochs = epochs

    def on_epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Compare the epoch's metrics with those of the finished trials.

        Raises:
            TrainingStopped: The trial is hopeless.
        """
        if self.epochs / 3 <= epoch < self.epochs:
            others = _finished_at(self.store, epoch)
            if is_hopeless(row, others, self.heads):
                raise TrainingStopped(
                    f"after epoch {epoch} of {self.epochs} at least half of the {len(others)} finished trials were "
                    "better for every head"
                )


def _finished_at(store: TrialStore, epoch: int) -> list[dict[str, float]]:
    finished = [trial_id for trial_id, state in store.states().items() if state.status == "FINISHED"]
    histories = [_history(store.paths(trial_id).history) for trial_id in finished]
    return [history[epoch - 1] for history in histories if len(history) >= epoch]


@functools.cache
def _history(path: Path) -> list[dict[str, float]]:
    columns = pd.read_csv(path).to_dict("list")
    return [{str(name): float(values[i]) for name, values in columns.items()} for i in range(len(columns["epoch"]))]
