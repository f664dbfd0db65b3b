import re

import numpy as np
import pytest

from conftest import compose
from manyheads.errors import ConfigError
from manyheads.evaluation.promotion import Evaluated, judge
from manyheads.reporting import promotion
from stored_models import predictions

CONFIG = compose()
HEADS = CONFIG.data.heads


def evaluated(error, share_right, seed, n=400, heads=HEADS):
    return Evaluated(heads, predictions(CONFIG, error, share_right, n, seed))


CHAMPION = evaluated(6, 0.8, 1)


@pytest.mark.parametrize(
    ("candidate", "required", "promoted", "reason"),
    [
        (evaluated(3, 0.8, 2), "", True, r"better in age mean absolute error by [\d.]+ \(.*\), and no main metric is"),
        (evaluated(3, 0.95, 2), "gender", True, "better in age .*, race .*, gender .*, and no main metric"),
        (evaluated(3, 0.8, 2), "gender", False, "not better in gender, which is required, though better in age"),
        (evaluated(9, 0.95, 2), "", False, "worse in age .* though better in race .*, gender"),
        (evaluated(9, 0.95, 2), "race", False, "worse in age"),
        (evaluated(6, 0.8, 2), "", False, "not better in any head"),
        (evaluated(6, 0.8, 2), "age", False, "not better in age"),
        (evaluated(3, 0.95, 2, n=399), "", False, "not comparable: .* 1 test samples only in the first"),
    ],
)  # fmt: skip
def test_a_model_is_promoted_only_if_one_metric_is_better_and_none_is_worse(candidate, required, promoted, reason):
    judgement = judge(CHAMPION, candidate, required)
    assert judgement.promoted is promoted
    assert re.match(reason, promotion.reason(judgement))
    record = promotion.record(judgement, HEADS)
    assert list(record) == [f"gate.{head}" for head in HEADS]
    assert ("McNemar" in record["gate.race"]) == (judgement.compared is not None)


def test_only_the_main_metric_of_each_head_counts():
    judgement = judge(CHAMPION, evaluated(3, 0.95, 2))
    assert [(row.head, row.metric.name) for row in judgement.compared.differences] == [
        (name, head.main_metric) for name, head in HEADS.items()
    ]


def test_models_of_other_heads_are_not_compared():
    fewer = {name: head for name, head in HEADS.items() if name != "age"}
    assert "has the heads age, race, gender" in judge(CHAMPION, evaluated(3, 0.9, 2, heads=fewer)).obstacle
    renamed = HEADS | {"race": HEADS["race"].model_copy(update={"classes": ("v", "w", "x", "y", "z")})}
    assert "head race" in judge(CHAMPION, evaluated(3, 0.9, 2, heads=renamed)).obstacle
    with pytest.raises(ConfigError, match=r"--require gendre.*did you mean 'gender'"):
        judge(CHAMPION, CHAMPION, "gendre")


def test_a_model_is_no_better_than_itself():
    judgement = judge(CHAMPION, CHAMPION)
    assert not judgement.promoted
    assert all(np.isclose(row.difference.value, 0) for row in judgement.compared.differences)
