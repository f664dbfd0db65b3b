import pytest

from manyheads.heads import Box, Categorical, Regression, Vector
from manyheads.heads.metrics import Metric
from manyheads.reporting.labels import DIGITS, WORDINGS, Wording, wording

HEADS = [
    Regression(unit="years", minimum=0, maximum=9, tolerance=3),
    Categorical(classes=("a b", "c")),
    Vector(unit="m", width=2, minimum=0, maximum=9),
    Box(of="a"),
]


def test_a_metric_says_its_own_wording_or_takes_that_of_the_table():
    assert wording(Metric(name="mae")) == WORDINGS["mae"]
    own = Metric(name="mae", label="miss", digits=5)
    assert wording(own) == Wording("miss", "miss", 5)
    assert wording(Metric(name="unheard")) == Wording("unheard", "unheard", DIGITS)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
def test_every_built_in_metric_has_a_wording(head):
    assert all(metric.label or metric.name in WORDINGS for metric in head.metrics)


def test_the_metrics_of_the_evaluation_have_a_wording():
    assert {"ece", "nll", "brier", "ratio"} <= WORDINGS.keys()


def test_classes_and_tolerances_are_named_as_the_configuration_names_them():
    labels = {metric.name: wording(metric).label for head in HEADS for metric in head.metrics}
    assert labels["f1_a_b"] == "F1 of a b"
    assert labels["within_3"] == "share within 3"
