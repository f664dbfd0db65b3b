import logging

import numpy as np
import pytest

from manyheads.data.subsets import Subset
from manyheads.errors import ManyheadsError
from manyheads.heads import MISSING, Categorical, Regression
from manyheads.training.overfitting import BY_HEART, STEPS, one_batch, require_by_heart, turn_off_dropout
from manyheads.training.tracked import train_and_record

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=116),
    "race": Categorical(name="race", classes=("a", "b", "c")),
}


def subset(ages, races):
    n = len(ages)
    names = [str(i) for i in range(n)]
    labels = {"age": np.array(ages), "race": np.array(races)}
    return Subset({}, np.arange(n), names, labels, names, {})


def epoch(age, race):
    rows = {"age": (age, 0.1, "mae", 1.0), "race": (race, 0.0, "accuracy", 1.0)}
    return {"val/score": age + race} | {
        f"val/{head}/{name}": value
        for head, (skill, loss, main, number) in rows.items()
        for name, value in (("skill", skill), ("loss", loss), (main, number))
    }


def test_the_batch_has_samples_whose_labels_are_all_known():
    ages = [MISSING if i % 2 else i for i in range(20)]
    once, repeated = one_batch(subset(ages, [i % 3 for i in range(20)]), HEADS, 8, seed=1)
    assert len(once) == 8
    assert HEADS["age"].present(once.labels["age"]).all()
    assert len(repeated) == 8 * STEPS
    assert set(repeated.paths) == set(once.paths)


def test_the_heads_that_do_not_get_there_are_named():
    batch = subset([1, 2, 3], [0, 1, 2])
    require_by_heart(HEADS, batch, [epoch(BY_HEART, BY_HEART)])
    history = [epoch(0.1, 1.0), epoch(BY_HEART - 0.01, 1.0), epoch(0.2, 0.2)]
    with pytest.raises(
        ManyheadsError, match=r"one batch of 3 samples: age \(loss 0\.1, mae 1, skill.* 0\.940\)"
    ) as error:
        require_by_heart(HEADS, batch, history)
    assert "race (" not in str(error.value)


def test_an_epoch_in_which_all_heads_get_there_counts_more_than_a_higher_score():
    require_by_heart(HEADS, subset([1, 2, 3], [0, 1, 2]), [epoch(BY_HEART, BY_HEART), epoch(BY_HEART - 0.01, 1.0)])


def test_a_head_whose_labels_are_all_equal_shows_nothing(caplog):
    with caplog.at_level(logging.INFO):
        require_by_heart(HEADS, subset([1, 2, 3], [1, 1, 1]), [epoch(1.0, 0.0)])
    assert "labels of the batch are all equal, which shows nothing: race (" in caplog.text


@pytest.mark.slow
def test_dropout_is_off_in_nested_models_too():
    import keras

    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.9)])
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dropout(0.9)])
    turn_off_dropout(model)
    ones = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(model(ones, training=True), ones)


@pytest.mark.slow
def test_a_network_that_fits_learns_a_batch_by_heart_and_a_head_that_learns_nothing_is_named(tiny_project, tiny_config):
    overrides = ["debug=overfit", "train.epochs=30", "model.dropout=0.5", "model.widths=[16,64]", "model.blocks=[1,1]"]
    trained = train_and_record(tiny_config(*overrides), tiny_project, tiny_project)
    assert min(trained.metrics[f"last/val/{head}/skill"] for head in ("age", "race", "gender")) >= BY_HEART
    with pytest.raises(ManyheadsError, match=r"by heart on one batch of 32 samples: .*race \("):
        train_and_record(tiny_config(*overrides, "loss.weights.race=0", "train.epochs=2"), tiny_project, tiny_project)
