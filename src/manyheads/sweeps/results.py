"""Results of a sweep or search: the comparison of its trials on a page, in a table, in MLflow and on the terminal."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable

from manyheads.evaluation.comparison import Comparison, compare
from manyheads.reporting import comparison
from manyheads.runtime.hardware import available_cores
from manyheads.sweeps.trials import TrialStore
from manyheads.tracking import git
from manyheads.tracking.by_id import attach

logger = logging.getLogger(__name__)


def compare_trials(store: TrialStore, trial_ids: Iterable[str], command: str) -> Comparison:
    """Compare trials, write the page and the table, and attach both to the MLflow run of the sweep or search.

    Args:
        store: The trials.
        trial_ids: Ids of the trials to compare, in the order of the comparison.
        command: The shell command.
    """
    compared = compare([store.read(trial_id).as_trial() for trial_id in trial_ids])
    comparison.write(store.folder, compared, _about(store, command))
    files = [store.folder / comparison.PAGE, store.folder / comparison.TABLE]
    attach(store.root, store.parent, files, "comparison")
    return compared


def show(store: TrialStore, compared: Comparison) -> None:
    """Print a comparison.

    Call it last: printing fails if the reader of the output has gone.
    """
    from rich.console import Console

    comparison.show(compared, Console(highlight=False))
    logger.info("page: %s", store.folder / comparison.PAGE)


def _about(store: TrialStore, command: str) -> dict[str, str]:
    provenance = git.provenance(store.root)
    edited = ", edited" if provenance.get("git.dirty") == "true" else ""
    return {
        "command": command,
        store.kind: store.folder.name,
        "MLflow run": store.parent or "none: MLflow did not take it",
        "git commit": provenance.get("git.commit", "none") + edited,
        "machine": f"{available_cores()} cores, {platform.machine()}, Python {platform.python_version()}",
    }
