import numpy as np
import pytest
from pydantic import ValidationError

from manyheads.heads import (
    Box,
    Categorical,
    Head,
    LabelStatistics,
    Regression,
    Vector,
    baseline_metrics,
    total_score,
)

AGE = Regression(name="age", unit="years", minimum=0, maximum=116, bins=(3, 10, 20))
RACE = Categorical(name="race", classes=("white", "black", "asian"))


def test_label_space():
    assert AGE.read(0) == (0,)
    assert AGE.read("116") == (116,)
    with pytest.raises(ValueError, match="117 is outside 0-116 years"):
        AGE.read(117)
    assert RACE.read(2) == RACE.read("asian") == RACE.read("2") == (2,)
    with pytest.raises(ValueError, match=r"3 is none of 0-2 \(white, black, asian\)"):
        RACE.read(3)
    assert AGE.read("") == RACE.read(None) == (None,)


def test_edges_belong_to_the_upper_bin():
    assert AGE.strata(np.array([0, 2, 3, 9, 10, 116])).tolist() == [0, 0, 1, 1, 2, 3]


def test_the_article_scales_by_the_maximum_and_others_by_the_training_labels():
    labels = np.array([10, 20, 30])
    assert AGE.statistics("maximum", labels) == LabelStatistics(0.0, 116.0)
    assert AGE.statistics("standard", labels) == LabelStatistics(20.0, pytest.approx(np.std(labels)))
    assert AGE.statistics("standard", np.array([7, 7])).spread == 1.0


def test_regression_metrics_are_in_the_unit_of_the_label():
    labels, outputs = np.array([10, 20, 40]), np.array([[12.0], [14.0], [40.0]], dtype=np.float32)
    metrics = AGE.evaluate(labels, outputs)
    assert metrics["mae"] == pytest.approx(8 / 3)
    assert metrics["rmse"] == pytest.approx(np.sqrt(40 / 3))
    assert metrics["bias"] == pytest.approx(-4 / 3)
    assert metrics["within_5"] == pytest.approx(2 / 3)
    assert metrics["r2"] == pytest.approx(1 - 40 / np.sum((labels - labels.mean()) ** 2))


def test_intervals_of_calibrated_outputs_hold_nine_labels_in_ten():
    generator = np.random.default_rng(0)
    mean, deviation = generator.uniform(20, 80, 4000), generator.uniform(1, 10, 4000)
    labels = np.round(generator.normal(mean, deviation)).astype(np.int64)
    outputs = np.stack([mean, 2 * np.log(deviation)], axis=1).astype(np.float32)
    metrics = AGE.evaluate(labels, outputs)
    assert metrics["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert metrics["interval_width"] == pytest.approx(2 * 1.645 * deviation.mean(), rel=1e-3)
    assert metrics["mae"] == AGE.evaluate(labels, outputs[:, :1])["mae"]


def test_predictions_with_a_variance_have_the_ends_of_an_interval():
    outputs = np.array([[30.0, 2 * np.log(10.0)], [5.0, 2 * np.log(8.0)]], dtype=np.float32)
    columns = AGE.prediction_columns(outputs)
    assert {name: values.tolist() for name, values in columns.items()} == {
        "age": [30.0, 5.0],
        "age_low": [13.55, -8.16],
        "age_high": [46.45, 18.16],
    }
    assert list(AGE.prediction_columns(outputs[:, :1])) == ["age"]
    assert "coverage_90" not in AGE.evaluate(np.array([1, 2]), outputs[:, :1])


def distribution(rows):
    """Return outputs with a distribution: each row maps ages to probabilities."""
    outputs = np.zeros((len(rows), 118), dtype=np.float32)
    for i, row in enumerate(rows):
        for age, share in row.items():
            outputs[i, 1 + age] = share
    outputs[:, 0] = outputs[:, 1:] @ np.arange(117)
    return outputs


def test_a_distribution_gives_its_mean_for_squared_errors_and_its_median_for_absolute_ones():
    outputs = distribution([{20: 0.75, 80: 0.25}, {40: 1.0}])
    labels = np.array([20, 40])
    metrics = AGE.evaluate(labels, outputs)
    assert AGE.values(outputs).tolist() == [35.0, 40.0]
    assert AGE.median(outputs) == pytest.approx([20 - 0.5 + 0.5 / 0.75, 40.0])
    assert metrics["mae"] == pytest.approx((0.5 / 0.75 - 0.5) / 2)
    assert metrics["rmse"] == pytest.approx(15 / np.sqrt(2))
    assert metrics["bias"] == pytest.approx(7.5)


def test_intervals_of_a_distribution_hold_nine_labels_in_ten():
    generator = np.random.default_rng(0)
    centers = generator.integers(30, 80, 3000)
    line = np.arange(117)
    shares = np.exp(-(((line - centers[:, None]) / 6) ** 2) / 2)
    shares /= shares.sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(line, p=row) for row in shares])
    outputs = np.concatenate([shares @ line[:, None], shares], axis=1).astype(np.float32)
    metrics = AGE.evaluate(labels, outputs)
    assert metrics["coverage_90"] == pytest.approx(0.9, abs=0.03)
    assert metrics["interval_width"] == pytest.approx(2 * 1.645 * 6, rel=0.02)
    assert list(AGE.prediction_columns(outputs)) == ["age", "age_median", "age_low", "age_high"]


def test_a_distribution_and_its_gaussian_disagree_with_labels_alike_and_more_if_they_are_surer():
    label_space = np.arange(117)
    means, deviations = np.repeat([40.0, 45.0, 60.0, 75.0], 2), np.tile([3.0, 8.0], 4)
    probability = np.exp(-(((label_space - means[:, None]) / deviations[:, None]) ** 2) / 2)
    distribution = np.column_stack([means, probability / probability.sum(axis=1, keepdims=True)])
    gaussian = np.column_stack([means, 2 * np.log(deviations)])
    labels = np.full(8, 40)
    ours, theirs = (AGE.disagreement(labels, outputs.astype(np.float32)) for outputs in (distribution, gaussian))
    np.testing.assert_allclose(ours, theirs, rtol=0.02)
    sure, unsure = ours[::2], ours[1::2]
    assert (np.diff(sure) > 0).all()
    assert (np.diff(unsure) > 0).all()
    assert (sure[2:] > unsure[2:]).all()
    assert sure[0] < unsure[0] < 1
    np.testing.assert_array_equal(AGE.disagreement(labels, means[:, None].astype(np.float32)), means - 40)


def test_skill_scores_are_zero_for_the_baseline_and_one_for_perfection():
    assert AGE.skill(15.0, 15.0) == 0
    assert AGE.skill(0.0, 15.0) == 1
    assert RACE.skill(0.4, 0.4) == 0
    assert RACE.skill(1.0, 0.4) == 1
    assert RACE.skill(1.0, 1.0) == 0


def test_baselines_are_the_median_and_the_majority():
    assert AGE.baseline_output(np.array([1, 2, 90])).tolist() == [[2.0]]
    assert RACE.baseline_output(np.array([1, 1, 2])).tolist() == [[0.0, 1.0, 0.0]]


def test_predictions_of_a_classification_name_the_class_and_add_up_to_one():
    columns = RACE.prediction_columns(np.array([[0.9, 0.6, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32))
    assert columns["race"].tolist() == ["white", "white"]
    assert columns["race_white"].tolist() == [0.6, 0.3333]
    assert sum(columns[f"race_{name}"][0] for name in RACE.classes) == pytest.approx(1)


def test_classes_that_the_labels_lack_do_not_count_against_the_mean():
    outputs = np.eye(3, dtype=np.float32)[[0, 1]]
    assert RACE.evaluate(np.array([0, 1]), outputs)["macro_f1"] == 1.0


def test_heads_that_make_no_sense_are_refused():
    with pytest.raises(ValidationError, match="must increase"):
        Regression(unit="years", minimum=0, maximum=116, bins=(20, 10))
    with pytest.raises(ValidationError, match="must differ"):
        Categorical(classes=("a", "a"))
    with pytest.raises(ValidationError, match="at least 2"):
        Categorical(classes=("a",))


def test_the_score_is_the_sum_of_the_skill_scores():
    metrics, baselines = {"age": 5.0, "race": 0.8}, {"age": 10.0, "race": 0.6}
    assert total_score({"age": AGE, "race": RACE}, metrics, baselines) == pytest.approx(0.5 + 0.5)
    assert total_score({"age": AGE, "race": RACE}, baselines, baselines) == 0


def test_baselines_are_fitted_on_one_subset_and_evaluated_on_another():
    metrics = baseline_metrics(
        {"age": AGE, "race": RACE},
        {"age": np.array([10, 20, 90]), "race": np.array([0, 0, 1])},
        {"age": np.array([30]), "race": np.array([1])},
    )
    assert metrics["age"]["mae"] == 10
    assert metrics["race"]["accuracy"] == 0


def test_metrics_that_the_labels_do_not_determine_are_left_out():
    head = Categorical(name="head", classes=("a", "b"))
    assert set(head.evaluate(np.zeros(9, np.int64), np.tile(np.float32([[1, 0]]), (9, 1)))) == {
        "accuracy", "macro_f1", "balanced_accuracy", "f1_a",
    }  # fmt: skip
    age = Regression(name="age", unit="years", minimum=0, maximum=99)
    outputs = np.full((9, 1), 40, np.float32)
    assert "r2" not in age.evaluate(np.full(9, 30), outputs)


def test_an_answer_has_the_cells_of_a_table_under_names_that_all_heads_share():
    outputs = np.array([[0.2, 0.5, 0.3, 0.4]], dtype=np.float32)
    age = Regression(name="age", unit="years", minimum=0, maximum=99)
    colour = Categorical(name="colour", classes=("<=50K", ">50K"))
    box = Box(name="box")
    cases = (
        (age, outputs[:, :1], {"value": 0.2, "unit": "years"}),
        (age, np.array([[40, 0]], np.float32), {"value": 40.0, "unit": "years", "low": 38.36, "high": 41.64}),
        (colour, outputs[:, 1:3] * 1.25, {"value": "<=50K", "probability": 0.625,
                                          "probabilities": {"<=50K": 0.625, ">50K": 0.375}}),
        (box, outputs, {"value": {"left": 0.2, "top": 0.5, "width": 0.3, "height": 0.4}, "unit": box.unit}),
        (Vector(name="mass", unit="", minimum=0, maximum=9), outputs[:, :1], {"value": 0.2}),
    )  # fmt: skip
    for head, given, expected in cases:
        cells = {column: values[0] for column, values in head.prediction_columns(given).items()}
        assert head.as_json(cells) == expected
    # A head of one's own may have columns of any name.
    assert Head.as_json(age, {"age": 3, "other": 4}) == {"value": 3, "unit": "years", "other": 4}
