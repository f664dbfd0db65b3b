"""Every system runs through the same stages, learns, and is predicted."""

import base64
import functools
import io
import json
import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest

from manyheads.commands import predict
from manyheads.commands.given import look
from manyheads.config.schema import Config
from manyheads.data.tables import read_predictions
from manyheads.evaluation.paired import pair
from manyheads.modeling import saving
from manyheads.modeling.build import build_network
from manyheads.modeling.objective import objective_of
from manyheads.paths import Paths
from manyheads.runtime import tensorflow
from manyheads.stages import audit, evaluate, pack, parse, report, source, split, train
from model_servers import answer_elsewhere, ask, model_server, python_without_project

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STAGES = (source, parse, pack, split, audit, train, evaluate, report)

# Smaller networks and fewer epochs than the experiments have, and by how much each main metric must beat the baseline.
SYSTEMS = {
    "posts": (
        ["inputs.posts.vocabulary=2000", "inputs.posts.length=120", "model.embedding=64", "model.stacks=[[64],[64,64]]",
         "model.kernel=3", "model.pool=3", "model.dense=64", "train.epochs=12", "train.precision=float32"],
        {"age": -3.0, "income": 0.5, "gender": 0.3},
    ),
    "questions": (["train.epochs=3"], {"answer": 0.4}),
    "objects": (
        ["inputs.image.image_size=48", "model.filters=[16,32]", "model.pool=2", "model.dense={class: 64, box: 128}",
         "train.epochs=10", "train.precision=float32"],
        {"class": 0.2, "box": 0.15},
    ),
    "sample": (
        ["inputs.image.image_size=16", "model.stem=[8]", "model.widths=[8,16]", "model.blocks=[1,1]", "audit.folds=0",
         "train.epochs=4", "train.learning_rate=0.01", "train.flip_tta=true"],
        {"age": -1.0, "race": 0.1},
    ),
    "numbers": (["train.epochs=25"], {"one": -0.7, "two": -0.7}),
}  # fmt: skip


def run(layout, settings):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, layout.root)
    shutil.copytree(ROOT / "conf", layout.root / "conf")
    for stage in STAGES:
        stage.run(settings, layout, layout)
    return json.loads(layout.metrics.read_text())


class System(NamedTuple):
    """A trained system, its metrics, and the table that ``predict`` makes of its raw data."""

    settings: Config
    layout: Paths
    metrics: dict
    table: Path


@pytest.fixture(scope="module")
def system(tmp_path_factory, migrated_store, make_config):
    """Return a function from a name to the system; each is trained once."""

    @functools.cache
    def trained(name):
        layout = Paths(tmp_path_factory.mktemp(name))
        shutil.copy(migrated_store, layout.root / "mlflow.db")
        chosen = [] if name == "sample" else [f"experiment={name}"]
        settings = make_config(*chosen, *SYSTEMS[name][0])
        table = layout.root / "predicted.csv"
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it to the store of the last training
            metrics = run(layout, settings)
            patch.chdir(layout.root)
            predict.main([str(layout.root / settings.data.path), "--output", str(table)])
        return System(settings, layout, metrics, table)

    return trained


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_learns_and_is_reported_and_predicted(name, system):
    settings, layout, metrics, table = system(name)
    for head, margin in SYSTEMS[name][1].items():
        metric = settings.data.heads[head].main_metric
        difference = metrics[head][metric] - metrics["baseline"][head][metric]
        assert difference / margin > 1, (
            f"{head}: {metric} {metrics[head][metric]}, baseline {metrics['baseline'][head][metric]}"
        )
    assert "At a glance" in layout.report.read_text(encoding="utf-8")
    assert not re.search(r"\bnan\b", layout.model_card.read_text(encoding="utf-8"))
    predictions = pd.read_csv(layout.predictions)
    assert len(predictions) == metrics["n"]
    recorded = read_predictions(layout.predictions, settings.data.heads)
    compared = pair(settings.data.heads, recorded, recorded).differences
    for head, expected in ((head, metrics[head]) for head in settings.data.heads):
        shown = {row.metric.name: row.first.value for row in compared if row.head == head}
        assert {metric: shown[metric] for metric in expected} == pytest.approx(expected, abs=0.02)
    assert not [row for row in compared if row.better is not None]

    predicted = pd.read_csv(table).set_index("path").loc[predictions["path"]]
    for head in settings.data.heads.values():
        for column in head.label_columns:
            expected = predictions[column]
            if expected.dtype == float:
                np.testing.assert_allclose(predicted[column].astype(float), expected, atol=0.02)
            else:
                assert (predicted[column].to_numpy() == expected.to_numpy()).mean() > 0.99


def given_values(settings, layout):
    """Return the raw data as ``predict`` finds it, each sample's inputs by name, as cells of a data frame."""
    columns = saving.read_card(layout.model).columns
    members = look([layout.root / settings.data.path], settings.inputs, columns).samples().members
    return [{name: value_of(kind, data[name]) for name, kind in settings.inputs.items()} for _, data in members]


def value_of(kind, data):
    if kind.FILE_SUFFIXES:
        return data
    return float(data) if kind.TOWER == "numbers" else data.decode()


def as_json(frame):
    """Return the rows of a data frame as JSON has them."""
    texts = frame.map(lambda cell: base64.b64encode(cell).decode() if isinstance(cell, bytes) else cell)
    return texts.to_dict("records")


def cells(table):
    """Return a table as texts, as it stands in a CSV."""
    written = io.StringIO(table.to_csv(index=False)) if isinstance(table, pd.DataFrame) else table
    return pd.read_csv(written, dtype=str, keep_default_na=False)


@pytest.mark.timeout(900)
def test_the_model_in_mlflow_answers_as_predict_does_without_the_project_and_over_http(system, tmp_path):
    """Every system, every sample, to the last digit; the servers start side by side."""
    python = python_without_project(tmp_path / "environment")
    addresses, jobs = {}, []
    with ExitStack() as servers:
        for name in SYSTEMS:
            settings, layout, _, _ = system(name)
            store = f"sqlite:///{layout.root}/mlflow.db"
            (model,) = mlflow.MlflowClient(store).search_logged_models(["1"])
            addresses[name] = servers.enter_context(model_server(python, tmp_path, model.model_uri, store))
            frame, answers = tmp_path / f"{name}.pickle", tmp_path / f"{name}.csv"
            pd.to_pickle(pd.DataFrame(given_values(settings, layout)), frame)
            jobs.append((Path(model.artifact_location.removeprefix("file://")), frame, answers))
        imported = answer_elsewhere(python, tmp_path, jobs)
        assert Path(imported).parents[1] == jobs[0][0] / "code"
        for name, (_, frame, answers) in zip(SYSTEMS, jobs, strict=True):
            expected = cells(system(name).table).drop(columns="path")
            pd.testing.assert_frame_equal(cells(answers), expected)
            status, predictions = ask(addresses[name], as_json(pd.read_pickle(frame)))
            assert status == 200, predictions
            pd.testing.assert_frame_equal(cells(pd.DataFrame(predictions, dtype=object)), expected)
            kinds = system(name).settings.inputs
            empty = {column: "" if kind.FILE_SUFFIXES else None for column, kind in kinds.items()}
            status, (refused,) = ask(addresses[name], [empty])
            assert (status, list(refused)) == (200, list(expected))
            assert re.match(r"[A-Z_]+: ", refused["error"])


def test_a_model_takes_its_inputs_by_name_and_in_their_order(make_config):
    tensorflow.require_tensorflow()
    settings = make_config("experiment=questions")
    labels = {"answer": np.arange(18)}
    objective = objective_of(
        settings.data.heads, settings.loss.functions, settings.loss.weights, settings.loss.scale, labels
    )
    network = build_network(settings.model, objective, settings.inputs)
    text, question = np.ones((3, 24), np.int32), np.ones((3, 6), np.int32)
    by_name = network({"question": question, "text": text})["answer"]
    np.testing.assert_array_equal(by_name, network([text, question])["answer"])
    with pytest.raises(ValueError, match="expects 2 named input"):
        network([text])
    with pytest.raises(ValueError, match="Missing data for input"):
        network({"text": text})
