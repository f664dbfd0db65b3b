import json

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from manyheads.evaluation.head_reports import head_report
from manyheads.heads import Categorical, Regression, Vector

AGE = Regression(unit="years", minimum=0, maximum=116, bins=(3, 10, 20))
RACE = Categorical(classes=("white", "black", "asian"))


def test_a_report_of_classes_has_precision_recall_and_f1_of_each_and_the_confusion_matrix():
    labels, outputs = np.array([0, 1, 2, 1]), np.eye(3, dtype=np.float32)[[0, 1, 1, 0]]
    report = head_report(RACE, labels, outputs)
    assert report.data["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert report.data["classes"] == ["white", "black", "asian"]
    precision, recall, f1, support = precision_recall_fscore_support(labels, [0, 1, 1, 0], zero_division=0.0)
    for i, name in enumerate(RACE.classes):
        assert report.data[name] == {
            "precision": precision[i], "recall": recall[i], "f1-score": f1[i], "support": support[i],
        }  # fmt: skip
        assert name in report.text
    assert "confusion matrix (rows as labelled, columns as predicted)" in report.text
    assert json.dumps(report.data)


def test_a_report_of_numbers_has_every_metric_over_all_and_the_comparable_ones_in_each_bin():
    labels, outputs = np.array([1, 5, 30]), np.array([[1.0], [6.0], [20.0]], dtype=np.float32)
    report = head_report(AGE, labels, outputs)
    assert {name: row["support"] for name, row in report.data.items()} == {"0-2": 1, "3-9": 1, "20-116": 1, "all": 3}
    assert report.data["all"] == AGE.evaluate(labels, outputs) | {"support": 3}
    assert report.data["20-116"]["mae"] == 10
    lines = report.text.splitlines()
    assert lines[0].split()[:4] == ["years", "mae", "rmse", "r2"]
    assert [len(line.split()) for line in lines[1:5]] == [4, 4, 4, 7]  # a bin has mae, bias and support
    assert lines[4].split()[0] == "all"
    assert "r2" in report.data["all"]
    assert "rmse" in report.data["20-116"]
    assert len({len(line) for line in lines[:5]}) == 1


def test_what_samples_do_not_say_is_marked():
    report = head_report(AGE, np.full(9, 30), np.full((9, 1), 40, dtype=np.float32))
    assert "r2" not in report.data["all"]
    assert "-: not defined for these samples" in report.text


def test_intervals_are_reported_where_there_are_any():
    labels = np.array([30, 50])
    outputs = np.array([[31.0, 2.0], [70.0, 2.0]], dtype=np.float32)
    assert head_report(AGE, labels, outputs).data["all"]["coverage_90"] == 0.5
    assert "coverage_90" not in head_report(AGE, labels, outputs[:, :1]).data["all"]


@pytest.mark.parametrize("width", [1, 3])
def test_a_head_without_strata_has_one_row(width):
    head = Vector(unit="m", width=width, minimum=0, maximum=9)
    labels = np.arange(2 * width, dtype=np.float64).reshape(2, width)
    report = head_report(head, labels, labels.astype(np.float32))
    assert list(report.data) == ["all"]
    assert report.data["all"]["mae"] == 0
