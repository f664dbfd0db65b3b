"""Every system runs through the same stages, learns, and is predicted."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from manyheads.commands import predict
from manyheads.data.tables import read_predictions
from manyheads.evaluation.paired import pair
from manyheads.modeling.build import build_network
from manyheads.modeling.objective import objective_of
from manyheads.paths import Paths
from manyheads.runtime import tensorflow
from manyheads.stages import audit, evaluate, pack, parse, report, source, split, train

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
    "numbers": (["train.epochs=25"], {"one": -0.7, "two": -0.7}),
}  # fmt: skip


def run(layout, settings):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, layout.root)
    shutil.copytree(ROOT / "conf", layout.root / "conf")
    for stage in STAGES:
        stage.run(settings, layout, layout)
    return json.loads(layout.metrics.read_text())


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_learns_and_is_reported_and_predicted(name, tmp_path, migrated_store, make_config, monkeypatch):
    overrides, margins = SYSTEMS[name]
    settings, layout = make_config(f"experiment={name}", *overrides), Paths(tmp_path)
    shutil.copy(migrated_store, tmp_path / "mlflow.db")
    metrics = run(layout, settings)
    for head, margin in margins.items():
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

    target = tmp_path / "predicted.csv"
    monkeypatch.chdir(tmp_path)
    predict.main([str(tmp_path / settings.data.path), "--output", str(target)])
    predicted = pd.read_csv(target).set_index("path").loc[predictions["path"]]
    for head in settings.data.heads.values():
        for column in head.label_columns:
            expected = predictions[column]
            if expected.dtype == float:
                np.testing.assert_allclose(predicted[column].astype(float), expected, atol=0.02)
            else:
                assert (predicted[column].to_numpy() == expected.to_numpy()).mean() > 0.99


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
