import numpy as np
import pytest

from manyheads.evaluation.bootstrap import Bootstrap
from manyheads.evaluation.groups import by_group, standardised
from manyheads.heads import Categorical, Regression

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=99, bins=(30, 60)),
    "race": Categorical(name="race", classes=("a", "b", "c")),
    "gender": Categorical(name="gender", classes=("male", "female")),
}
N = 3000


def sample(seed=0):
    generator = np.random.default_rng(seed)
    labels = {
        "age": generator.integers(0, 100, N),
        "race": generator.integers(0, 3, N),
        "gender": generator.integers(0, 2, N),
    }
    outputs = {
        "age": (labels["age"] + generator.normal(0, 5, N)).astype(np.float32)[:, None],
        "race": np.eye(3, dtype=np.float32)[labels["race"]],
        "gender": np.eye(2, dtype=np.float32)[labels["gender"]],
    }
    return generator, labels, outputs


def grouped(labels, outputs):
    cells, spreads = by_group(HEADS, labels, outputs, Bootstrap([f"{i}" for i in range(len(labels["age"]))]))
    return {(cell.attributes, cell.group, cell.head): cell for cell in cells}, {
        (spread.attributes, spread.head): spread for spread in spreads
    }


def test_every_group_and_pair_is_there_with_its_size():
    _, labels, outputs = sample()
    cells, _ = grouped(labels, outputs)
    assert len(cells) == 3 * (3 + 3 + 2 + 3 * 3 + 3 * 2 + 3 * 2)
    cell = cells[("race", "gender"), ("b", "female"), "age"]
    rows = (labels["race"] == 1) & (labels["gender"] == 1)
    assert cell.n == rows.sum()
    error = outputs["age"][rows, 0] - labels["age"][rows]
    assert cell.metrics["mae"].value == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert cell.metrics["bias"].value == pytest.approx(error.mean(), rel=1e-5)
    assert cell.metrics["mae"].low < cell.metrics["mae"].value < cell.metrics["mae"].high


def test_a_planted_bias_in_one_group_is_the_worst_group_with_a_gap_that_is_no_noise():
    generator, labels, outputs = sample()
    hurt = (labels["race"] == 2) & (labels["gender"] == 0)
    wrong = hurt & (generator.random(N) < 0.4)
    outputs["gender"][wrong] = outputs["gender"][wrong][:, ::-1]
    outputs["age"][hurt] -= 8
    cells, spreads = grouped(labels, outputs)
    spread = spreads[("race", "gender"), "gender"]
    assert spread.worst == ("c", "male")
    assert spread.gap.high < -0.3
    assert spread.ratio.value == pytest.approx(0.6, abs=0.07)
    assert spreads[("race", "gender"), "age"].worst == ("c", "male")
    assert cells[("race", "gender"), ("c", "male"), "age"].metrics["bias"].high < -6
    assert abs(cells[("race", "gender"), ("a", "male"), "age"].metrics["bias"].value) < 1


def test_small_groups_are_marked_and_are_neither_best_nor_worst():
    _, labels, outputs = sample()
    labels["race"] = np.where(np.arange(N) == 5, 2, labels["race"] % 2)
    outputs["race"] = np.eye(3, dtype=np.float32)[labels["race"]]
    outputs["age"][5] += 50
    cells, spreads = grouped(labels, outputs)
    assert cells[("race",), ("c",), "age"].n == 1
    assert cells[("race",), ("c",), "age"].metrics["mae"].low is None
    assert {spreads[("race",), "age"].best, spreads[("race",), "age"].worst} == {("a",), ("b",)}


def test_a_gap_that_is_only_one_of_ages_vanishes_when_ages_are_alike():
    """Errors grow with age, and b is older than a. At the same age the model is equally good for both."""
    generator = np.random.default_rng(0)
    race = generator.integers(0, 2, N)
    old = generator.random(N) < np.where(race == 1, 0.8, 0.2)
    labels = {"age": np.where(old, 80, 10), "race": race, "gender": generator.integers(0, 2, N)}
    error = generator.normal(0, np.where(old, 10, 2))
    outputs = {
        "age": (labels["age"] + error).astype(np.float32)[:, None],
        "race": np.eye(3, dtype=np.float32)[race],
        "gender": np.eye(2, dtype=np.float32)[labels["gender"]],
    }
    rows = standardised(HEADS, labels, outputs, Bootstrap([f"{i}" for i in range(N)]))
    found = {row.group: row for row in rows if row.attribute == "race"}
    assert found["b"].raw.low > 1.5 * found["a"].raw.high
    assert found["b"].standardised.low < found["a"].standardised.high
    assert found["a"].standardised.low < found["b"].standardised.high
    assert found["a"].covered == 1.0
    assert "c" not in found
