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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from manyheads.tracking.store import attempt, open_experiment, tracking_uri

PORT = 5000
"""Port of the local UI by default."""

SCORE = "best/val/score"
TAG = "mlflow.sharedViewState."
LONGEST_TAG = 5000
"""Maximum number of characters of an experiment's tag in MLflow."""


class View(NamedTuple):
    """A view of an experiment's runs.

    Attributes:
        key: Name of the view in addresses; a view with the same key is replaced.
        name: Name of the view in the UI's menu.
        query: Filter on the runs, in MLflow's language.
        metrics: Metrics to show beside the score, as columns and in charts.
        params: Parameters to show, as columns and in charts.
        tags: Tags to show as columns.
    """

    key: str
    name: str
    query: str
    metrics: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def ui_address(root: Path, port: int = PORT) -> str:
    """Return the address of the MLflow UI: that of the tracking server, without credentials, or a local one."""
    parts = urlsplit(tracking_uri(root))
    if parts.scheme not in ("http", "https"):
        return f"http://127.0.0.1:{port}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def save(root: Path, experiment: str, view: View) -> str:
    """Save a view and return its address in the UI, relative to ``ui_address``; an empty text if there is none.

    Args:
        root: The project's root folder.
        experiment: Name of the MLflow experiment.
        view: The view.
    """
    ids: list[str] = []

    def action() -> None:
        client, experiment_id = open_experiment(experiment, root)
        client.set_experiment_tag(experiment_id, f"{TAG}{view.key}", _envelope(view))
        ids.append(experiment_id)

    return page_of_view(ids[0], view.key) if attempt(f"the view {view.name!r}", action) else ""


def page_of_view(experiment_id: str, key: str, *, charts: bool = False) -> str:
    """Return the address of a saved view, relative to ``ui_address``: a table, or charts beside a short list."""
    query = {"viewStateShareKey": key, "compareRunsMode": "CHART" if charts else "TABLE"}
    return f"/#/experiments/{experiment_id}/runs?{urlencode({**query, **_MODEL_TRAINING})}"


def page_of_run(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Return the address of a run's page, or of one of its artifacts, relative to ``ui_address``."""
    path = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"/#/experiments/{experiment_id}/runs/{run_id}{path}?{urlencode(_MODEL_TRAINING)}"


def page_side_by_side(experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the address of the page that compares runs setting by setting, relative to ``ui_address``."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment_id]))
    return f"/#/compare-runs?runs={runs}&experiments={experiments}&{urlencode(_MODEL_TRAINING)}"


# Without it, the UI shows the pages of language models.
_MODEL_TRAINING = {"workflowType": "machine_learning"}


def _envelope(view: View) -> str:
    now = int(time.time() * 1000)
    packed = base64.b64encode(zlib.compress(json.dumps(_state(view)).encode(), 9)).decode()
    return json.dumps({"name": view.name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def _state(view: View) -> dict[str, Any]:
    def column(kind: str, name: str) -> str:
        return f"{kind}.`{name}`"

    shown = [column("metrics", name) for name in (SCORE, *view.metrics)]
    shown += [column("params", name) for name in view.params]
    shown += [column("tags", name) for name in view.tags]
    return {
        "searchFilter": view.query,
        "orderByKey": column("metrics", SCORE),
        "orderByAsc": False,
        "selectedColumns": [*shown, column("attributes", "Duration")],
        "columnWidths": {column("attributes", "Run Name"): 330},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": _charts(view),
        "compareRunSections": [_section("comparison", "Comparison")],
        "isAccordionReordered": True,
    }


def _section(uuid: str, name: str) -> Mapping[str, Any]:
    return {
        "uuid": uuid, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False,
        "columns": 2, "cardHeight": 360,
    }  # fmt: skip


def _charts(view: View) -> list[Mapping[str, Any]]:
    common = {"metricSectionId": "comparison", "deleted": False, "isGenerated": False, "runsCountToCompare": 10}
    coordinates = {
        "uuid": "coordinates", "type": "PARALLEL", "showAllRuns": True,
        "selectedParams": list(view.params), "selectedMetrics": [*view.metrics, SCORE],
    }  # fmt: skip
    bars = [{"uuid": re.sub(r"\W", "-", name), "type": "BAR", "metricKey": name} for name in (SCORE, *view.metrics)]
    return [common | chart for chart in (coordinates, *bars)]
