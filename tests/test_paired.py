import numpy as np
import pandas as pd
import pytest

from manyheads.errors import DataError
from manyheads.evaluation.paired import pair
from manyheads.heads import Categorical, Regression

HEADS = {"age": Regression(unit="years", minimum=0, maximum=99), "race": Categorical(classes=("a", "b"))}
N = 1200


def table(error, share_right, seed, difficulty):
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(20, 80, N)
    race = np.random.default_rng(1).integers(0, 2, N)
    right = difficulty + generator.normal(0, 0.1, N) < np.quantile(difficulty, share_right)
    return pd.DataFrame(
        {
            "path": [f"{i}.jpg" for i in range(N)],
            "group": [f"{i}" for i in range(N)],
            "age_label": labels,
            "age": labels + difficulty * error + generator.normal(0, 0.5, N),
            "race_label": np.array(["a", "b"])[race],
            "race": np.array(["a", "b"])[np.where(right, race, 1 - race)],
        }
    )


@pytest.fixture
def difficulty():
    return np.abs(np.random.default_rng(2).normal(0, 1, N))


def test_a_small_difference_is_seen_because_samples_are_paired(difficulty):
    compared = pair(HEADS, table(6.0, 0.8, 3, difficulty), table(5.6, 0.8, 4, difficulty))
    found = {(row.head, row.figure): row for row in compared.differences}
    mae = found["age", "mae"]
    assert mae.better is True
    assert mae.difference.high < 0
    assert mae.first.low < mae.second.high  # by themselves, the two intervals overlap
    assert found["race", "accuracy"].better is None
    assert found["age", "bias"].better is None


def test_mcnemar_counts_what_one_alone_has_right(difficulty):
    first, second = table(5, 0.7, 3, difficulty), table(5, 0.9, 4, difficulty)
    (found,) = pair(HEADS, first, second).disagreements
    ours, theirs = (each["race"] == each["race_label"] for each in (first, second))
    assert (found.only_first, found.only_second) == ((ours & ~theirs).sum(), (theirs & ~ours).sum())
    assert found.p_value < 1e-6
    (same,) = pair(HEADS, first, first).disagreements
    assert (same.only_first, same.only_second, same.p_value) == (0, 0, 1.0)


def test_the_order_of_the_rows_does_not_matter(difficulty):
    first, second = table(5, 0.7, 3, difficulty), table(5, 0.9, 4, difficulty)
    assert pair(HEADS, first, second) == pair(HEADS, first.sample(frac=1, random_state=0), second)


def test_what_does_not_compare_is_refused(difficulty):
    first, second = table(5, 0.7, 3, difficulty), table(5, 0.9, 4, difficulty)
    with pytest.raises(DataError, match="different splits: 1 test samples of the first are not of the second"):
        pair(HEADS, first, second.iloc[1:])
    with pytest.raises(DataError, match="different labels of age"):
        pair(HEADS, first, second.assign(age_label=second["age_label"] + 1))
    with pytest.raises(DataError, match="second has no predictions of race"):
        pair(HEADS, first, second.drop(columns="race_label"))
