import json

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    recall_score,
    root_mean_squared_error,
)

from manyheads.evaluation.summary import Predicted, summarise
from manyheads.heads import Categorical, Regression, baseline_metrics

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=99, bins=(30, 60)),
    "race": Categorical(name="race", classes=("a", "b", "c", "d")),
}


def predicted(n, seed, classes=3):
    generator = np.random.default_rng(seed)
    labels = {"age": generator.integers(0, 100, n), "race": generator.integers(0, classes, n)}
    shares = generator.dirichlet(np.ones(4), n) + 1.5 * np.eye(4)[labels["race"]]
    outputs = {
        "age": np.stack([labels["age"] + generator.normal(0, 6, n), np.full(n, 2 * np.log(6))], axis=1),
        "race": shares / shares.sum(axis=1, keepdims=True),
    }
    floats = {name: values.astype(np.float32) for name, values in outputs.items()}
    return Predicted(labels, floats, [f"{i}" for i in range(n)])


@pytest.fixture(scope="module")
def summary():
    test, validation = predicted(800, 1), predicted(400, 2)
    return test, summarise(HEADS, test, validation, [], baseline_metrics(HEADS, validation.labels, test.labels))


def test_metrics_are_those_of_scikit_learn(summary):
    test, found = summary
    metrics = {
        name: {metric: value["value"] for metric, value in head["metrics"].items()}
        for name, head in found["heads"].items()
    }
    labels, outputs = test.labels["age"], test.outputs["age"][:, 0]
    assert metrics["age"]["mae"] == pytest.approx(mean_absolute_error(labels, outputs))
    assert metrics["age"]["rmse"] == pytest.approx(root_mean_squared_error(labels, outputs))
    assert metrics["age"]["r2"] == pytest.approx(r2_score(labels, outputs))
    labels, values = test.labels["race"], test.outputs["race"].argmax(axis=1)
    present = {"labels": [0, 1, 2], "average": "macro"}
    assert metrics["race"]["accuracy"] == pytest.approx(accuracy_score(labels, values))
    assert metrics["race"]["macro_f1"] == pytest.approx(f1_score(labels, values, **present))
    assert metrics["race"]["balanced_accuracy"] == pytest.approx(recall_score(labels, values, **present))
    for i, name in enumerate("abc"):
        assert metrics["race"][f"f1_{name}"] == pytest.approx(f1_score(labels, values, labels=[i], average="macro"))


def test_a_class_that_the_test_subset_lacks_has_no_value_and_the_file_is_plain_json(summary):
    _, found = summary
    assert found["heads"]["race"]["metrics"]["f1_d"] == {"value": None, "low": None, "high": None}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_intervals_hold_what_they_promise(summary):
    _, found = summary
    for row in found["heads"]["age"]["coverage"]:
        assert row["low"] - 0.02 <= row["level"] <= row["high"] + 0.02
    assert [row["level"] for row in found["heads"]["age"]["coverage"]] == [0.5, 0.8, 0.9, 0.95]


def test_constant_predictions_have_metrics_like_others():
    n = 100
    test = predicted(n, 1)
    outputs = {"age": np.full((n, 1), 40, np.float32), "race": np.tile([[1, 0, 0, 0]], (n, 1)).astype(np.float32)}
    baselines = baseline_metrics(HEADS, test.labels, test.labels)
    found = summarise(HEADS, test._replace(outputs=outputs), test._replace(outputs=outputs), [], baselines)
    assert "coverage" not in found["heads"]["age"]
    assert found["heads"]["race"]["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(test.labels["race"] == 0))
    assert json.dumps(found, allow_nan=False)


def test_leaked_samples_are_counted_and_evaluated_apart():
    test, validation = predicted(600, 1), predicted(300, 2)._replace(groups=[f"v{i}" for i in range(300)])
    leaked = [f"{i}" for i in range(150)]
    outputs = {name: values.copy() for name, values in test.outputs.items()}
    outputs["age"][:150, 0] = test.labels["age"][:150]
    outputs["race"][150::2] = np.eye(4)[(test.labels["race"][150::2] + 1) % 3]
    baselines = baseline_metrics(HEADS, test.labels, test.labels)
    found = summarise(HEADS, test._replace(outputs=outputs), validation, leaked, baselines)["leaked"]
    assert found["n"] == 150
    assert found["heads"]["age"]["seen"]["value"] == 0
    assert found["heads"]["race"]["seen"]["value"] == 1
    assert found["heads"]["race"]["seen"]["low"] > found["heads"]["race"]["unseen"]["high"]
    assert found["heads"]["age"]["unseen"]["value"] == pytest.approx(
        mean_absolute_error(test.labels["age"][150:], test.outputs["age"][150:, 0])
    )
    clean = summarise(HEADS, test, validation, [], baselines)["leaked"]
    assert clean == {"n": 0, "heads": {}}
