import numpy as np
import pandas as pd
import pytest

from manyheads.data.tables import read_predictions
from manyheads.errors import DataError
from manyheads.evaluation.paired import pair
from manyheads.evaluation.prediction_table import prediction_table
from manyheads.evaluation.summary import Predicted
from manyheads.heads import HEADS as HEADS_BY_KIND
from manyheads.heads import MISSING, Binary, Box, Categorical, Regression, Vector

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=99),
    "race": Categorical(name="race", classes=("a", "b")),
}
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
    found = {(row.head, row.metric.name): row for row in compared.differences}
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
    with pytest.raises(DataError, match="different splits: 1 test samples only in the first"):
        pair(HEADS, first, second.iloc[1:])
    with pytest.raises(DataError, match="different labels of age"):
        pair(HEADS, first, second.assign(age_label=second["age_label"] + 1))
    with pytest.raises(DataError, match="second run has no predictions of race"):
        pair(HEADS, first, second.drop(columns="race_label"))


def everything(seed=0, n=40):
    """Return heads of every kind, and a table of predictions as evaluate writes it; some labels are missing."""
    generator = np.random.default_rng(seed)
    heads = {
        "age": Regression(name="age", unit="years", minimum=0, maximum=99),
        "race": Categorical(name="race", classes=("None", "1", "True")),
        "gender": Binary(name="gender", classes=("f", "m")),
        "position": Vector(name="position", unit="m", width=2, minimum=-9, maximum=9),
        "height": Vector(name="height", unit="m", minimum=-9, maximum=9),
        "box": Box(name="box", of="race"),
    }
    labels = {
        "age": generator.integers(0, 99, n),
        "race": generator.integers(0, 3, n),
        "gender": generator.integers(0, 2, n),
        "position": generator.uniform(-9, 9, (n, 2)),
        "height": generator.uniform(-9, 9, (n, 1)),
        "box": generator.uniform(0.1, 0.4, (n, 4)),
    }
    outputs = {
        "age": generator.uniform(0, 99, (n, 1)),
        "race": generator.dirichlet((1, 1, 1), n),
        "gender": generator.uniform(0, 1, (n, 1)),
        "position": generator.uniform(-9, 9, (n, 2)),
        "height": generator.uniform(-9, 9, (n, 1)),
        "box": generator.uniform(0.1, 0.4, (n, 4)),
    }
    for i, values in enumerate(labels.values()):
        values[i] = MISSING if np.issubdtype(values.dtype, np.integer) else np.nan
    assert {type(head) for head in heads.values()} == set(HEADS_BY_KIND.values())
    names = [f"{i}.jpg" for i in range(n)]
    predicted = Predicted(labels, {k: v.astype(np.float32) for k, v in outputs.items()}, names)
    return heads, prediction_table(heads, names, predicted)


def test_a_head_names_every_column_that_it_writes():
    heads, table = everything()
    for name, head in heads.items():
        labels = head.label_columns
        named = {*labels, *head.extra_columns, *(f"{label}_label" for label in labels)}
        assert named & set(table) >= {*labels, *(f"{label}_label" for label in labels)}
        value, *further = head.output_units.values()
        for units in (value, *(value + more for more in further)):
            written = head.prediction_columns(np.full((3, units), 0.2, dtype=np.float32))
            assert set(written) <= named, name


@pytest.mark.parametrize("missing", [True, False])
def test_every_kind_of_head_compares_with_itself(missing, tmp_path):
    heads, table = everything()
    table = table if missing else table.iloc[len(heads) :]
    table.to_csv(tmp_path / "predictions.csv", index=False)
    read = read_predictions(tmp_path / "predictions.csv", heads)
    compared = pair(heads, read, read)
    assert {row.head for row in compared.differences} == set(heads)
    assert not [row for row in compared.differences if row.better is not None]
    assert all(row.difference.value in (0, None) for row in compared.differences)
    assert all(row.metric in heads[row.head].metrics for row in compared.differences)
    assert [(test.only_first, test.only_second) for test in compared.disagreements] == [(0, 0), (0, 0)]
    accuracy = next(row for row in compared.differences if row.metric.name == "accuracy")
    known = read[read["race_label"].notna()]
    assert accuracy.first.value == pytest.approx((known["race"] == known["race_label"]).mean())


@pytest.mark.parametrize(
    ("column", "head"), [("age", "age"), ("position_1", "position"), ("height", "height"), ("box_left", "box")]
)
def test_a_label_of_any_kind_that_differs_or_is_missing_in_one_table_is_refused(column, head, tmp_path):
    heads, table = everything()
    table.to_csv(tmp_path / "predictions.csv", index=False)
    table = read_predictions(tmp_path / "predictions.csv", heads)
    label = f"{column}_label"
    for value in (0.25, np.nan):
        other = table.copy()
        other.loc[20, label] = 1 if head == "age" and value == 0.25 else value
        with pytest.raises(DataError, match=f"different labels of {head}"):
            pair(heads, table, other)


def test_predictions_of_other_classes_are_refused(difficulty):
    first = table(5, 0.7, 3, difficulty)
    with pytest.raises(
        DataError, match="the second run's predictions of race do not fit the head: 'c' is none of a, b"
    ):
        pair(HEADS, first, first.assign(race="c"))
