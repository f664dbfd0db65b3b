"""Views: addresses that open the MLflow UI with its columns, order and charts chosen.

The UI keeps a saved view as a tag of the experiment, and opens it by the tag's name in the address. Such a tag is
written here as the UI itself writes it: JSON with a name and a state, and the state is compressed (``ExperimentView``
and ``savedViewEnvelope`` in the UI's source). The menu *Views* of the UI lists it, too.
"""

from __future__ import annotations

import base64
import json
import re
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from manyheads.tracking.store import store_lock, tracking_uri

PORT = 5000
"""Port of the local UI by default."""

SCORE = "best/val/score"
TAG = "mlflow.sharedViewState."
# Widths of columns in pixels: score, heads and weights of three heads fit a page of 1600 pixels.
WIDTH_OF_NAMES, PADDING, WIDTH_OF_LETTER, WIDEST = 240, 24, 6, 130

DEFLATE = "deflate;"
"""Start of a compressed state in a saved view."""


class View(NamedTuple):
    """A view of an experiment's runs.

    Attributes:
        key: Name of the view in addresses; a view with the same key is replaced.
        name: Name of the view in the UI's menu.
        query: Filter on the runs, in MLflow's language.
        metrics: Metrics to show beside the score, as columns and in charts.
        params: Parameters to show, as columns and in charts.
        columns: Further metrics to show as columns.
    """

    key: str
    name: str
    query: str
    metrics: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def ui_address(root: Path, port: int = PORT) -> str:
    """Return the address of the MLflow UI: that of the tracking server, without credentials, or a local one."""
    parts = urlsplit(tracking_uri(root))
    if parts.scheme not in ("http", "https"):
        return f"http://127.0.0.1:{port}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def opening(root: Path, address: str) -> str:
    """Return a line for the terminal with an address in the UI; a local UI is started first."""
    remote = tracking_uri(root).startswith(("http://", "https://"))
    return f"in MLflow: {address}" + ("" if remote else " (first: make ui)")


def absolute(root: Path, page: str, experiment_id: str) -> str:
    """Return the whole address of a page of the UI, or an empty text if the experiment's id is one."""
    return f"{ui_address(root)}{page}" if experiment_id else ""


def key_by_score(data: str) -> str:
    """Return the key of the view of all runs of a dataset by score."""
    return f"by-score-{re.sub('[^a-zA-Z0-9_-]+', '-', data)}"


def save(client: Any, root: Path, experiment_id: str, view: View) -> None:
    """Save a view, unless the experiment has it.

    Args:
        client: An MLflow client.
        root: The project's root folder.
        experiment_id: Id of the experiment.
        view: The view.
    """
    state = json.dumps(_state(view), sort_keys=True)
    # MLflow adds a tag if it is new: two processes would both add it, and one would fail.
    with store_lock(root):
        known = client.get_experiment(experiment_id).tags.get(f"{TAG}{view.key}", "")
        if known and state_of(known) == json.loads(state):
            return
        packed = base64.b64encode(zlib.compress(state.encode(), 9)).decode()
        now = int(time.time() * 1000)
        value = json.dumps({"name": view.name, "createdAt": now, "updatedAt": now, "state": f"{DEFLATE}{packed}"})
        client.set_experiment_tag(experiment_id, f"{TAG}{view.key}", value)


def state_of(tag: str) -> Any:
    """Return the state of the UI that a saved view keeps, or None if the tag's value is no saved view."""
    try:
        return json.loads(zlib.decompress(base64.b64decode(json.loads(tag)["state"].removeprefix(DEFLATE))))
    except (ValueError, KeyError, TypeError, zlib.error):
        return None


def page_of_view(experiment_id: str, key: str, *, charts: bool = False) -> str:
    """Return the address of a saved view, relative to ``ui_address``: a table, or charts beside a short list."""
    query = {"viewStateShareKey": key, "compareRunsMode": "CHART" if charts else "TABLE"}
    return f"/#/experiments/{experiment_id}/runs?{urlencode({**query, **_MODEL_TRAINING})}"


def page_of_runs(experiment_id: str) -> str:
    """Return the address of all runs of an experiment without a view, relative to ``ui_address``."""
    return f"/#/experiments/{experiment_id}/runs?{urlencode(_MODEL_TRAINING)}"


def page_of_run(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Return the address of a run's page, or of one of its artifacts, relative to ``ui_address``."""
    path = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"/#/experiments/{experiment_id}/runs/{run_id}{path}?{urlencode(_MODEL_TRAINING)}"


def page_of_model(experiment_id: str, model_id: str) -> str:
    """Return the address of the page of a run's model, relative to ``ui_address``."""
    return f"/#/experiments/{experiment_id}/models/{model_id}?{urlencode(_MODEL_TRAINING)}"


def page_side_by_side(experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the address of the page that compares runs setting by setting, relative to ``ui_address``."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment_id]))
    return f"/#/compare-runs?runs={runs}&experiments={experiments}&{urlencode(_MODEL_TRAINING)}"


def page_of_version(name: str, number: str) -> str:
    """Return the address of the page of a version of a registered model, relative to ``ui_address``."""
    return f"/#/models/{quote(name)}/versions/{number}?{urlencode(_MODEL_TRAINING)}"


# Without it, the UI shows the pages of language models.
_MODEL_TRAINING = {"workflowType": "machine_learning"}


def _state(view: View) -> dict[str, Any]:
    def column(kind: str, name: str) -> str:
        return f"{kind}.`{name}`"

    shown = [column("metrics", name) for name in (SCORE, *view.metrics, *view.columns)]
    shown += [column("params", name) for name in view.params]
    widths = {column("attributes", "Run Name"): WIDTH_OF_NAMES}
    widths |= {name: min(WIDEST, PADDING + WIDTH_OF_LETTER * len(name.split("`")[1])) for name in shown}
    return {
        "searchFilter": view.query,
        "orderByKey": column("metrics", SCORE),
        "orderByAsc": False,
        "selectedColumns": [*shown, column("attributes", "Duration")],
        "columnOrder": [*widths],
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": _charts(view),
        "compareRunSections": [_section("comparison", "Comparison")],
        "isAccordionReordered": True,
    }


def _section(uuid: str, name: str) -> dict[str, Any]:
    return {
        "uuid": uuid, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False,
        "columns": 2, "cardHeight": 360,
    }  # fmt: skip


def _charts(view: View) -> list[dict[str, Any]]:
    common: dict[str, Any] = {
        "metricSectionId": "comparison",
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 10,
    }
    coordinates: dict[str, Any] = {
        "uuid": "coordinates", "type": "PARALLEL", "showAllRuns": True,
        "selectedParams": list(view.params), "selectedMetrics": [*view.metrics, SCORE],
    }  # fmt: skip
    bars: list[dict[str, Any]] = [
        {"uuid": re.sub(r"\W", "-", name), "type": "BAR", "metricKey": name} for name in (SCORE, *view.metrics)
    ]
    return [{**common, **chart} for chart in (coordinates, *bars)]
