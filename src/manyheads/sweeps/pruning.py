"""Pruning: when a trial of a search is stopped before its end."""

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
    """Return whether a trial is to be stopped: at least half of the others were better for every head by then.

    With one head this is the median rule of Golovin et al., "Google Vizier", 2017, on the metrics of one epoch. With
    several, a trial that may yet be on the front continues. Optuna has no such rule: its pruners take one objective.

    Args:
        row: Metrics of the trial's last epoch, such as ``val/age/skill``.
        others: Metrics of the finished trials at the same epoch.
        heads: Names of the heads.
    """
    better = sum(all(other[f"val/{head}/skill"] > row[f"val/{head}/skill"] for head in heads) for other in others)
    return len(others) >= MINIMUM_FINISHED and 2 * better >= len(others)


class StopIfHopeless(TrainingCallback):
    """Ends a trial's training after an epoch at which it is hopeless beside the finished trials.

    The first third of the epochs says little, and after the last there is nothing to save.
    """

    def __init__(self, store: TrialStore, heads: Sequence[str], epochs: int) -> None:
        self.store = store
        self.heads = heads
        self.epochs = epochs

    def on_epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Compare the epoch's metrics.

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
