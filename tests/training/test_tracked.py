"""Which metrics MLflow gets: few enough for a person to read."""

import pytest

from builders import named
from manyheads.evaluation.summary import flat_metrics
from manyheads.heads import Categorical
from manyheads.training.tracked import epoch_metrics, result_metrics


def everything(heads):
    """Return the metrics of an epoch, of a training and of an evaluation in which every head has every metric."""
    row = {"train/loss": 1.0, "val/loss": 1.0, "val/score": 0.5, "train/learning_rate": 0.1, "train/seconds": 2.0}
    for name, head in heads.items():
        for metric in (*(each.name for each in head.metrics), "loss", "skill", "log_variance", "weight"):
            row |= {f"train/{name}/{metric}": 0.1, f"val/{name}/{metric}": 0.2}
    trained = {f"{which}/{name}": value for which in ("best", "last") for name, value in row.items() if "val/" in name}
    trained |= {"best/epoch": 1, "wall_seconds": 9.0}
    trained |= {f"val_baseline/{name}/{head.main_metric}": 0.1 for name, head in heads.items()}
    measured = {name: {metric.name: 0.3 for metric in head.metrics} for name, head in heads.items()}
    return row, trained, {"n": 9, "score": 1.0, **measured, "baseline": measured}


def recorded(heads):
    row, trained, tested = everything(heads)
    return {**epoch_metrics([row], heads)[0], **result_metrics(trained, heads), **flat_metrics(heads, tested)}


@pytest.mark.parametrize("choice", [[], ["data=utkface"], ["experiment=objects"], ["experiment=posts"]])
def test_a_run_has_about_sixty_metrics_at_most(make_config, choice):
    assert len(recorded(make_config(*choice).data.heads)) <= 60


def test_more_classes_are_not_more_metrics():
    few, many = (
        named({"kind": Categorical(classes=tuple(f"c{number}" for number in range(n)))}) for n in (2, 300)
    )  # fmt: skip
    assert len(recorded(few)) == len(recorded(many)) < 30


def test_the_first_metric_is_one_that_no_weight_changes(make_config):
    heads = make_config().data.heads
    row, _, _ = everything(heads)
    rows = epoch_metrics([row, {**row, "val/score": 0.4}, {**row, "val/score": 0.7}], heads)
    assert [next(iter(each)) for each in rows] == ["best/val/score"] * 3
    assert [each["best/val/score"] for each in rows] == [0.5, 0.5, 0.7]
    assert [each["val/score"] for each in rows] == [0.5, 0.4, 0.7]


def test_comparisons_find_what_they_read(make_config):
    heads = make_config().data.heads
    found = recorded(heads)
    for name, head in heads.items():
        for metric in (head.main_metric, "skill"):
            assert {f"best/val/{name}/{metric}", f"val/{name}/{metric}"} <= set(found)
    assert {"best/val/score", "val/score", "best/epoch", "wall_seconds", "test/score"} <= set(found)
