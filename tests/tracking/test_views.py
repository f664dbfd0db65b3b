import json
from urllib.parse import parse_qs, unquote, urlsplit

import mlflow
import pytest

from manyheads.tracking import store, views

VIEW = views.View(
    "by-score-posts", "posts by score", "tags.data = 'posts'", ("best/val/topic/accuracy",), ("loss.weights.topic",),
    ("test/score",),
)  # fmt: skip


@pytest.fixture
def root(tmp_path, migrated_store):
    (tmp_path / "mlflow.db").write_bytes(migrated_store.read_bytes())
    return tmp_path


def test_a_saved_view_is_a_tag_with_columns_order_and_charts(root):
    client, experiment = store.open_experiment("posts", root)
    views.save(client, root, experiment, VIEW)
    tags = client.get_experiment(experiment).tags
    state = views.state_of(tags["mlflow.sharedViewState.by-score-posts"])
    assert json.loads(tags["mlflow.sharedViewState.by-score-posts"])["name"] == "posts by score"
    assert state["searchFilter"] == "tags.data = 'posts'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/val/score`", False)
    assert state["selectedColumns"] == [
        "metrics.`best/val/score`", "metrics.`best/val/topic/accuracy`", "metrics.`test/score`",
        "params.`loss.weights.topic`", "attributes.`Duration`",
    ]  # fmt: skip
    (coordinates,) = [chart for chart in state["compareRunCharts"] if chart["type"] == "PARALLEL"]
    assert coordinates["selectedParams"] == ["loss.weights.topic"]
    assert coordinates["selectedMetrics"] == ["best/val/topic/accuracy", "best/val/score"]


def test_a_view_is_written_once_and_again_if_it_changes(root):
    client, experiment = store.open_experiment("posts", root)

    def saved(view):
        views.save(client, root, experiment, view)
        return client.get_experiment(experiment).tags["mlflow.sharedViewState.by-score-posts"]

    first = saved(VIEW)
    assert saved(VIEW) == first
    assert views.state_of(saved(VIEW._replace(params=()))) != views.state_of(first)


def test_a_view_of_many_runs_and_heads_fits_a_tag(root):
    client, experiment = store.open_experiment("posts", root)
    runs = ", ".join(repr(f"{number:032x}"[::-1]) for number in range(2**120, 2**120 + 100))
    metrics = tuple(f"best/val/head{number}/accuracy" for number in range(20))
    views.save(client, root, experiment, VIEW._replace(query=f"attributes.run_id IN ({runs})", metrics=metrics))
    state = views.state_of(client.get_experiment(experiment).tags["mlflow.sharedViewState.by-score-posts"])
    assert state["searchFilter"].count("'") == 200


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:////tmp/mlflow.db", "http://127.0.0.1:5001"),
        ("postgresql://ann:secret@db/runs", "http://127.0.0.1:5001"),
        ("https://ann:secret@tracking.example/mlflow/", "https://tracking.example/mlflow"),
        ("http://login1:5000", "http://login1:5000"),
    ],
)
def test_the_address_is_that_of_the_server_without_credentials_or_a_local_one(tmp_path, monkeypatch, uri, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert views.ui_address(tmp_path, 5001) == address


def test_pages_open_under_model_training():
    for page in (views.page_of_view("1", "k", charts=True), views.page_of_run("1", "r", "a b.html"),
                 views.page_side_by_side("1", ["r", "s"]), views.page_of_runs("1")):  # fmt: skip
        query = parse_qs(urlsplit(urlsplit(page).fragment).query)
        assert query["workflowType"] == ["machine_learning"]
    assert json.loads(parse_qs(urlsplit(urlsplit(views.page_side_by_side("1", ["r", "s"])).fragment).query)["runs"][0])
    assert unquote(views.page_of_run("1", "r", "a b.html")).startswith("/#/experiments/1/runs/r/artifacts/a b.html?")


def test_the_view_is_written_by_each_client_of_a_server_alike(root):
    """The state that the UI reads is zlib's format in base64, whatever the order of the keys."""
    client, experiment = store.open_experiment("posts", root)
    views.save(client, root, experiment, VIEW)
    other = mlflow.MlflowClient(store.tracking_uri(root))
    assert views.state_of(other.get_experiment(experiment).tags["mlflow.sharedViewState.by-score-posts"])
    assert views.state_of("no json") is None
