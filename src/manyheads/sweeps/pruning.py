"""Pruning: when a trial of a search is stopped before its end."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from manyheads.errors import TrainingStopped
from manyheads.sweeps.trials import TrialStore

MINIMUM_FINISHED = 4
"""Minimum number of finished trials before a trial is compared with them."""


def is_hopeless(row: Mapping[str, float], others: Sequence[Mapping[str, float]], heads: Sequence[str]) -> bool:
    """Return whether a trial is to be stopped: at least half of the others were better for every head by then.

    With one head this is the median rule of Golovin et al., "Google Vizier", 2017, on the metrics of one epoch. With
    several, a trial that may yet be on the front continues. Optuna has no such rule: its pruners take one objective.

    Args:
        row: Metrics of the trial's last epoch, such as ``val/age/gain``.
        others: Metrics of the finished trials at the same epoch.
        heads: Names of the heads.
    """
    better = sum(all(other[f"val/{head}/gain"] > row[f"val/{head}/gain"] for head in heads) for other in others)
    return len(others) >= MINIMUM_FINISHED and 2 * better >= len(others)


def stop_if_hopeless(
    store: TrialStore, heads: Sequence[str], epochs: int, epoch: int, row: Mapping[str, float]
) -> None:
    """End a trial's training after an epoch if it is hopeless beside the finished trials.

    Args:
        store: The trials of the search.
        heads: Names of the heads.
        epochs: How many epochs the training has.
        epoch: The epoch that has ended, from 1.
        row: Its metrics.

    Raises:
        TrainingStopped: The trial is hopeless.
    """
    # The first third of the epochs says little, and after the last there is nothing to save.
    if epochs / 3 <= epoch < epochs:
        others = _finished_at(store, epoch)
        if is_hopeless(row, others, heads):
            raise TrainingStopped(
                f"after epoch {epoch} of {epochs} at least half of the {len(others)} finished trials were better "
                "for every head"
            )


def _finished_at(store: TrialStore, epoch: int) -> list[dict[str, float]]:
    finished = [trial_id for trial_id, state in store.states().items() if state.status == "FINISHED"]
    histories = [_history(store.paths(trial_id).history) for trial_id in finished]
    return [history[epoch - 1] for history in histories if len(history) >= epoch]


@functools.cache
def _history(path: Path) -> list[dict[str, float]]:
    columns = pd.read_csv(path).to_dict("list")
    return [{str(name): float(values[i]) for name, values in columns.items()} for i in range(len(columns["epoch"]))]
