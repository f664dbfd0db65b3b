"""Queries: the runs of an experiment in the MLflow store, and their files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from manyheads.errors import DataError
from manyheads.runtime.credentials import masked
from manyheads.tracking import views
from manyheads.tracking.store import client_of, is_missing, open_store, reason_of, tracking_uri

SHORTEST_PREFIX = 6
"""Minimum number of characters of a run's id; MLflow's pages show as many."""


class RecordedRun(NamedTuple):
    """One run in the store.

    Attributes:
        run_id: Its id.
        name: Its name.
        status: ``FINISHED``, ``FAILED``, ``KILLED``, ``RUNNING`` or ``SCHEDULED``.
        params: Flat settings, such as ``loss.weights.age``.
        metrics: The last value of each metric.
        tags: Its tags, including MLflow's own.
    """

    run_id: str
    name: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class RecordedTrials(NamedTuple):
    """Trainings to compare, and the sweeps or searches that were asked for.

    Attributes:
        runs: The trainings, by time of their start.
        parents: Run ids of the sweeps and searches.
    """

    runs: tuple[RecordedRun, ...]
    parents: tuple[str, ...]


def recorded_trials(experiment: str, root: Path, run_ids: Sequence[str] = (), query: str = "") -> RecordedTrials:
    """Return the trainings of an experiment in the store.

    Args:
        experiment: Name of the MLflow experiment.
        root: The project's root folder.
        run_ids: Ids of runs, or their first characters, at least 6. The id of a sweep or search selects its trials.
            Without ids, the trials of the newest sweep or search are returned or, with a query, all trainings.
        query: A filter on the trainings, in MLflow's filter language.

    Raises:
        DataError: An id is unknown or ambiguous, or no training is left.
        MachineError: The store cannot be reached.
    """
    found, matching = _runs_by_id(experiment, root, query)
    where = f"the experiment {experiment!r} of {masked(tracking_uri(root))}"
    named_parents = {run.tags["mlflow.parentRunId"] for run in found.values() if "mlflow.parentRunId" in run.tags}
    # A sweep without trials has only its tag, which its trials have, too.
    sweeps = {
        run_id for run_id, run in found.items()
        if run_id in named_parents or ({"sweep", "search"} & set(run.tags) and "trial" not in run.tags)
    }  # fmt: skip
    chosen = [_run_for(prefix, found, where) for prefix in run_ids]
    if not run_ids and not query:
        chosen = [run_id for run_id in found if run_id in named_parents][-1:]
        if not chosen:
            raise DataError(f"{where} has no sweep: start one (`python -m manyheads train -m seed=1,2`) or name runs")
    parents = tuple(run_id for run_id in chosen if run_id in sweeps)
    runs = tuple(
        run for run_id, run in found.items()
        if run_id not in sweeps
        and (not chosen or run_id in chosen or run.tags.get("mlflow.parentRunId") in parents)
        and (matching is None or run_id in matching)
    )  # fmt: skip
    if not runs:
        among = f" among {', '.join(chosen)}" if chosen else ""
        raise DataError(f"{where} has no training{among}{f' for which {query}' if query else ''}: see `make ui`")
    return RecordedTrials(runs, parents)


def _runs_by_id(experiment: str, root: Path, query: str) -> tuple[dict[str, RecordedRun], set[str] | None]:
    """Return all runs by id, the oldest first, and the ids for which the query holds, if there is one."""
    with open_store(root) as client:
        known = client.get_experiment_by_name(experiment)
        if known is None:
            raise DataError(f"{masked(tracking_uri(root))} has no experiment {experiment!r}: train first")
        runs = {
            run.info.run_id: RecordedRun(
                run.info.run_id, run.info.run_name, run.info.status, run.data.params, run.data.metrics, run.data.tags
            )
            for run in _pages(client, known.experiment_id, "")
        }
        if not query:
            return runs, None
        from mlflow.exceptions import MlflowException

        try:
            return runs, {run.info.run_id for run in _pages(client, known.experiment_id, query)}
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise DataError(
                f"MLflow cannot parse the filter {query!r} ({reason_of(error)}): see `compare --help`"
            ) from error


def _pages(client: Any, experiment: str, query: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _run_for(prefix: str, found: Mapping[str, RecordedRun], where: str) -> str:
    if len(prefix) < SHORTEST_PREFIX:
        raise DataError(f"{prefix!r} is too short for a run's id: give at least {SHORTEST_PREFIX} characters of its id")
    if run_id := _id_that_begins(prefix, found):
        return run_id
    raise DataError(f"{where} has no run {prefix!r}: `make ui` shows the ids")


def _id_that_begins(prefix: str, run_ids: Iterable[str]) -> str | None:
    """Return the id that begins with a prefix, or None if the prefix is too short or no id matches.

    Raises:
        DataError: Several ids begin with it.
    """
    matches = [run_id for run_id in run_ids if run_id.startswith(prefix)] if len(prefix) >= SHORTEST_PREFIX else []
    if len(matches) > 1:
        raise DataError(f"{len(matches)} runs begin with {prefix!r}: give more of the id")
    return matches[0] if matches else None


def named_run(experiment: str, root: Path, name: str) -> RecordedRun | None:
    """Return the run that a name means, or None if there is no such run.

    Args:
        experiment: Name of the MLflow experiment.
        root: The project's root folder.
        name: Id of a run, or its first characters, at least 6; or the name of a DVC experiment, of which the newest run
            is returned.

    Raises:
        DataError: There is no record of runs, or the characters are ambiguous.
        MachineError: The store cannot be reached.
    """
    found, _ = _runs_by_id(experiment, root, "")
    if run_id := _id_that_begins(name, found):
        return found[run_id]
    return next((run for run in reversed(found.values()) if run.tags.get("dvc.experiment") == name), None)


def run_of_model(experiment: str, root: Path, model: str) -> RecordedRun | None:
    """Return the newest run with a model, without trials of sweeps and searches, or None if there is none.

    Args:
        experiment: Name of the MLflow experiment.
        root: The project's root folder.
        model: Tag of the saved model.

    Raises:
        DataError: There is no record of runs.
        MachineError: The store cannot be reached.
    """
    found, _ = _runs_by_id(experiment, root, "")
    with_model = (run for run in reversed(found.values()) if run.tags.get("model") == model)
    return next((run for run in with_model if "trial" not in run.tags), None)


def pages_of_model(experiment: str, root: Path, model: str) -> dict[str, str]:
    """Return the UI's pages of the newest run with a model and of the runs of its data by score.

    Args:
        experiment: Name of the MLflow experiment.
        root: The project's root folder.
        model: Tag of the saved model.

    Returns:
        Addresses relative to ``views.ui_address`` by what they show; empty if the store has no such run or cannot be
        reached.
    """
    uri = tracking_uri(root)
    if is_missing(uri):
        return {}
    try:
        client = client_of(uri)
        known = client.get_experiment_by_name(experiment)
        newest = ["attributes.start_time DESC"]
        ids = [known.experiment_id] if known else []
        with_model = client.search_runs(ids, f"tags.model = '{model}'", order_by=newest) if ids else []
        run = next((run for run in with_model if "trial" not in run.data.tags), None)
    except Exception:  # whatever a store, a driver or a server raises
        return {}
    if run is None:
        return {}
    pages = {"this run in MLflow": views.page_of_run(run.info.experiment_id, run.info.run_id)}
    key = views.key_by_score(run.data.tags.get("data", ""))
    if f"{views.TAG}{key}" in known.tags:
        pages["all runs by score"] = views.page_of_view(run.info.experiment_id, key)
    return pages


def page_of_pair(experiment: str, root: Path, names: Sequence[str]) -> str:
    """Return the UI's page with two runs side by side, relative to ``views.ui_address``.

    Args:
        experiment: Name of the MLflow experiment.
        root: The project's root folder.
        names: Ids of runs, their first characters, or names of DVC experiments.

    Returns:
        The address, or an empty text if the store does not have both runs.
    """
    found, _ = _runs_by_id(experiment, root, "")
    named = {run.tags.get("dvc.experiment", ""): run_id for run_id, run in found.items()}
    run_ids = [_id_that_begins(name, found) or named.get(name) for name in names]
    known = [run_id for run_id in run_ids if run_id]
    if len(known) < len(names):
        return ""
    client = client_of(tracking_uri(root))
    return views.page_side_by_side(client.get_run(known[0]).info.experiment_id, known)
