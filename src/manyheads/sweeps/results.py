"""Results of a sweep or search: the comparison of its trials on a page, in a table, in MLflow and on the terminal."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable
from typing import NamedTuple

from manyheads.evaluation.comparison import Comparison, compare
from manyheads.reporting import comparison
from manyheads.runtime import printing
from manyheads.runtime.hardware import available_cores
from manyheads.sweeps.publishing import RunPage, publish, query_of_children, view_of
from manyheads.sweeps.trials import TrialStore
from manyheads.tracking import git, views
from manyheads.tracking.by_id import experiment_of

logger = logging.getLogger(__name__)


class Compared(NamedTuple):
    """A comparison, and its address in the MLflow UI or an empty text."""

    comparison: Comparison
    address: str


def compare_trials(store: TrialStore, trial_ids: Iterable[str], command: str) -> Compared:
    """Compare trials, write the page and the table, and publish them in the MLflow run of the sweep or search.

    Args:
        store: The trials.
        trial_ids: Ids of the trials to compare, in the order of the comparison.
        command: The shell command.
    """
    compared = compare([store.read(trial_id).as_trial() for trial_id in trial_ids])
    view = view_of(compared, store.folder.name, f"{store.kind} {store.folder.name}", query_of_children(store.parent))
    experiment_id = experiment_of(store.root, store.parent)
    address = views.absolute(store.root, views.page_of_view(experiment_id, view.key, charts=True), experiment_id)
    comparison.write(store.folder, compared, _about(store, command), address)
    if experiment_id:
        files = [store.folder / comparison.PAGE, store.folder / comparison.TABLE]
        publish(store.root, RunPage(experiment_id, store.parent), compared, view, files)
    return Compared(compared, address)


def show(store: TrialStore, compared: Compared) -> None:
    """Print a comparison.

    Call it last: printing fails if the reader of the output has gone.
    """
    comparison.show(compared.comparison, printing.console(highlight=False))
    logger.info("page: %s", store.folder / comparison.PAGE)
    if compared.address:
        logger.info("%s", views.opening(store.root, compared.address))


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
