"""Arithmetic of benchmarks on numbers that a person can check."""

import numpy as np
import pytest

from conftest import ROOT
from manyheads.heads import Categorical, Regression


@pytest.fixture
def label_ranking(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import label_ranking

    return label_ranking


GROUPS = np.array(["a", "b", "a", "c", "c", "c", "b", "d", "d"])
LABELS = np.array([0, 1, 2, 1, 1, 0, 1, 2, 2])  # a: 0 and 2; b: 1 twice; c: 1, 1 and 0; d: 2 twice


def test_copies_with_different_labels_are_conflicts(label_ranking):
    assert label_ranking.conflicting(GROUPS, LABELS).tolist() == [1, 0, 1, 1, 1, 1, 0, 0, 0]
    assert label_ranking.difference(GROUPS, LABELS).tolist() == [2, 0, 2, 1, 1, 1, 0, 0, 0]


def test_the_majority_is_known_where_most_copies_agree(label_ranking):
    (majority,) = label_ranking.majorities(GROUPS, LABELS)
    assert (majority[0].tolist(), majority[1]) == ([3, 4, 5], 1)
    disagreement = np.array([0, 0, 0, 0.2, 0.1, 0.9, 0, 0, 0])
    assert label_ranking.minority_first(LABELS, [majority], disagreement) == 1
    assert label_ranking.minority_first(LABELS, [majority], 1 - disagreement) == 0


def test_the_first_labels_are_those_of_the_largest_disagreement(label_ranking):
    conflict, disagreement = np.array([True, False, True, False]), np.array([0.9, 0.1, 0.5, 0.7])
    assert label_ranking.among_first(conflict, 1, disagreement) == 1
    assert label_ranking.among_first(conflict, 2, disagreement) == 0.5
    assert label_ranking.among_first(conflict, 3, disagreement) == pytest.approx(2 / 3)


def test_a_model_that_knows_the_labels_is_far_from_chance(label_ranking, monkeypatch):
    monkeypatch.setattr(label_ranking, "RANDOM_ORDERS", 100)
    monkeypatch.setattr(label_ranking, "SHUFFLES", 5)
    random = np.random.default_rng(0)
    groups, truth = np.repeat(np.arange(200), 2), np.repeat(random.integers(0, 3, 200), 2)
    labels = np.where(np.arange(400) % 10 == 0, (truth + 1) % 3, truth)  # the first label of each fifth photograph
    race = Categorical(name="race", classes=("x", "y", "z"))
    rows = {row[1]: row for row in label_ranking.measured(race, groups, labels, 0.1 + 0.7 * np.eye(3)[truth])}
    _, _, model, by_chance, of_others = rows["known conflicts among the first 25"]
    assert (model, by_chance[:4]) == ("1.00", "0.20")
    assert float(of_others) < 0.4
    age = Regression(name="age", unit="years", minimum=0, maximum=99)
    apart = random.integers(0, 30, 200)
    years = np.repeat(random.integers(20, 60, 200), 2) + np.stack([apart, -apart], axis=1).ravel() // 2
    (row,) = label_ranking.measured(age, groups, years, np.repeat(years.reshape(-1, 2).mean(axis=1), 2)[:, None])
    assert float(row[2]) > 0.9
    assert abs(float(row[4])) < 0.5
