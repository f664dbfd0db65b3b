import logging

import numpy as np
import pytest

from builders import objective_for
from manyheads.data.subsets import Subset
from manyheads.errors import IntegrityError, MachineError, ManyheadsError
from manyheads.heads import Categorical, LabelStatistics, Regression
from manyheads.inputs import ImageInput
from manyheads.modeling import inference
from manyheads.modeling.build import build_network, compile_model
from manyheads.modeling.objective import MIXUP
from manyheads.runtime import tensorflow
from manyheads.training import checkpoint, loop, optimizers
from manyheads.training.batches import Feed

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=116),
    "race": Categorical(name="race", classes=("a", "b", "c")),
}
LOSSES = {"age": "mae", "race": "categorical_crossentropy"}
STATISTICS = {"age": LabelStatistics(50.0, 30.0), "race": LabelStatistics(0.0, 1.0)}
OBJECTIVE = objective_for(HEADS, LOSSES, STATISTICS, {"age": 1.0, "race": 2.0})
SIZE = 16
KINDS = {"image": ImageInput(image_size=SIZE, duplicate_correlation=1)}


def subset(n, seed):
    generator = np.random.default_rng(seed)
    labels = {"age": generator.integers(0, 100, n), "race": generator.integers(0, 3, n)}
    images = np.zeros((n, SIZE, SIZE, 3))
    images[np.arange(n), :, :, labels["race"]] = 80
    images += labels["age"][:, None, None, None]
    names = [f"{i}" for i in range(n)]
    return Subset({"image": images.astype(np.uint8)}, np.arange(n), names, labels, names, KINDS)


TRAIN, VALIDATION = subset(130, 1), subset(50, 2)


@pytest.fixture
def train_config(tiny_config):
    return tiny_config("train.epochs=3", "train.augment=1", "train.deterministic=true").train


def network(config, weighting="fixed", size=SIZE):
    import keras
    import tensorflow as tf

    from manyheads.encoders import CompactEncoder

    keras.utils.set_random_seed(3)
    tf.config.experimental.enable_op_determinism()
    encoder = CompactEncoder(stem=(8,), widths=(8, 16), blocks=(1, 1), dropout=0.3)
    built = build_network(encoder, OBJECTIVE, {"image": ImageInput(image_size=size, duplicate_correlation=1)})
    optimizer = optimizers.optimizer_for(config, len(TRAIN) // config.batch_size)
    return compile_model(built, OBJECTIVE, optimizer, weighting=weighting)


@pytest.fixture(scope="module", autouse=True)
def _keras():
    tensorflow.require_tensorflow()


def fit(built, config, path, on_epoch=lambda epoch, row: None, train=TRAIN):
    progress = checkpoint.resume(path, built, {"train.epochs": str(config.epochs)})
    return loop.fit(built, train, VALIDATION, config, 5, path, progress, on_epoch)


@pytest.mark.slow
def test_what_can_be_classified_is_learned(train_config, tmp_path):
    progress = fit(network(train_config), train_config, tmp_path / "checkpoint.npz")
    best = progress.history[progress.best_epoch - 1]
    assert best["val/race/accuracy"] > 0.95
    assert best["val/score"] == max(row["val/score"] for row in progress.history)
    assert set(best) >= {
        "train/loss",
        "val/loss",
        "train/age/loss",
        "val/age/mae",
        "val/race/loss",
        "train/learning_rate",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weighting", "settings"),
    [("fixed", {}), ("learned", {}), ("fixed", {"optimizer": "sgd", "mixup": 0.2, "cutmix": 0.5})],
    ids=["fixed", "learned", "mixed"],
)
def test_an_interrupted_training_ends_with_the_same_weights(weighting, settings, train_config, tmp_path):
    train_config = train_config.model_copy(update=settings)
    whole = network(train_config, weighting)
    expected = fit(whole, train_config, tmp_path / "whole.npz")

    def interrupt(epoch, row):
        if epoch == 2:
            raise KeyboardInterrupt

    first = network(train_config, weighting)
    with pytest.raises(KeyboardInterrupt):
        fit(first, train_config, tmp_path / "checkpoint.npz", interrupt)
    second = network(train_config, weighting)
    progress = fit(second, train_config, tmp_path / "checkpoint.npz")
    for row, other in zip(progress.history, expected.history, strict=True):
        assert row | {"train/seconds": 0} == other | {"train/seconds": 0}
    for ours, theirs in zip(second.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.slow
def test_several_trainings_in_a_process_are_traced_without_a_warning(tiny_config, tmp_path, caplog, monkeypatch):
    """TensorFlow warns when it traces one function five times within few calls."""
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)
    config = tiny_config("train.epochs=1", "train.batch_size=16", "train.deterministic=true").train
    for number in range(5):
        built = network(config)
        fit(built, config, tmp_path / f"{number}.npz", train=TRAIN.take(np.arange(64)))
        inference.Predictor(built, HEADS)(VALIDATION.inputs)
    assert "retracing" not in caplog.text


@pytest.mark.slow
def test_the_model_keeps_the_weights_of_its_best_epoch(train_config, tmp_path):
    built = network(train_config)
    progress = fit(built, train_config, tmp_path / "checkpoint.npz")
    outputs = inference.Predictor(built, HEADS)(VALIDATION.inputs)
    best = progress.history[progress.best_epoch - 1]
    for name, head in HEADS.items():
        for metric, value in head.evaluate(VALIDATION.labels[name], outputs[name]).items():
            assert value == pytest.approx(best[f"val/{name}/{metric}"], rel=1e-4)


@pytest.mark.slow
def test_learned_weights_are_in_the_history_and_kept_with_the_best_epoch(train_config, tmp_path):
    built = network(train_config, "learned")
    progress = fit(built, train_config, tmp_path / "checkpoint.npz")
    last, best = progress.history[-1], progress.history[progress.best_epoch - 1]
    assert last["train/race/weight"] == pytest.approx(np.exp(-last["train/race/log_variance"]))
    assert last["train/race/log_variance"] != pytest.approx(-np.log(2), abs=1e-3)
    for name, log_variance in built.log_variances.items():
        assert float(log_variance.numpy()) == best[f"train/{name}/log_variance"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_only_kernels_decay(optimizer, train_config):
    built = network(train_config.model_copy(update={"optimizer": optimizer}), "learned")
    variables = built.trainable_variables
    before = [variable.numpy() for variable in variables]
    built.optimizer.build(variables)
    built.optimizer.apply([np.zeros_like(value) for value in before], variables)
    decayed = [v.name for v, value in zip(variables, before, strict=True) if np.any(v.numpy() != value)]
    assert set(decayed) == {"kernel"}


def feed(subset, **options):
    return Feed(subset, HEADS, 32, 5, **{"training": True, "augment": 0.0} | options)


def test_the_validation_score_leaves_no_sample_out():
    batches = feed(VALIDATION, training=False).epoch(1)
    assert [len(inputs["image"]) for inputs, _ in batches] == [32, 18]


def test_epochs_differ_in_order_and_a_seed_repeats_it():
    fed = feed(TRAIN)
    orders = [np.concatenate([targets["age"].numpy() for _, targets in fed.epoch(i)]) for i in (1, 2, 1)]
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])
    assert [len(orders[0]), fed.steps] == [128, 4]


def test_images_stay_with_their_labels():
    for inputs, targets in feed(TRAIN).epoch(1):
        images = inputs["image"]
        np.testing.assert_array_equal(images.numpy().min(axis=(1, 2, 3)), targets["age"].numpy()[:, 0])
        np.testing.assert_array_equal(images.numpy()[:, 0, 0].argmax(axis=1), targets["race"].numpy().argmax(axis=1))


def test_the_augmentation_of_a_sample_depends_on_seed_and_epoch_alone():
    def looks(batch_size, epoch):
        fed = Feed(TRAIN, HEADS, batch_size, 5, training=True, augment=1.0)
        shown = np.concatenate([inputs["image"].numpy() for inputs, _ in fed.epoch(epoch)])
        return dict(zip(fed.order, shown, strict=False))

    one, other, next_epoch = looks(10, 1), looks(65, 1), looks(65, 2)
    assert len(one) == len(other) == 130
    assert all(np.array_equal(one[sample], other[sample]) for sample in one)
    assert not all(np.array_equal(one[sample], next_epoch[sample]) for sample in one)


def test_the_feed_is_not_autotuned():
    """tf.data's tuner sleeps longer each time, and the end of an epoch waits until it wakes."""
    assert feed(TRAIN).epoch(1).options().autotune.enabled is False


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_head(train_config, tmp_path):
    built = network(train_config)
    layer = built.get_layer("age_standardised")
    layer.set_weights([weight * np.nan for weight in layer.get_weights()])
    with pytest.raises(ManyheadsError, match=r"diverged in epoch 1: train/age/loss.*lower train\.learning_rate"):
        fit(built, train_config, tmp_path / "checkpoint.npz")


def test_a_damaged_checkpoint_is_named(train_config, tmp_path):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(IntegrityError, match=r"checkpoint\.npz is damaged.*delete it"):
        checkpoint.resume(path, network(train_config), {})


@pytest.mark.slow
def test_the_checkpoint_of_another_training_is_refused_by_name(train_config, tmp_path):
    path = tmp_path / "checkpoint.npz"
    fit(network(train_config), train_config, path)
    with pytest.raises(
        IntegrityError, match=r"checkpoint\.npz is of another training: train\.epochs is 3 there, 4 here"
    ):
        checkpoint.resume(path, network(train_config), {"train.epochs": "4"})
    with pytest.raises(IntegrityError, match="the split differs"):
        checkpoint.resume(path, network(train_config), {"train.epochs": "3", "the split": "1" * 64})


def test_two_processes_do_not_write_one_checkpoint(tmp_path):
    with checkpoint.training_lock(tmp_path / "checkpoint.npz"), pytest.raises(MachineError, match="another process"):  # noqa: SIM117
        with checkpoint.training_lock(tmp_path / "checkpoint.npz"):
            pass


@pytest.mark.parametrize("schedule", ["cosine", "inverse_time", "constant"])
def test_learning_rate_schedules(schedule, tiny_config):
    config = tiny_config(f"train.schedule={schedule}", "train.learning_rate=0.01", "train.epochs=10").train
    rates = [_rate(optimizers.optimizer_for(config, 20), step) for step in (0, 10, 20, 110, 200)]
    if schedule == "cosine":
        assert rates[0] == pytest.approx(1e-4)
        assert rates[2] == pytest.approx(0.01, rel=1e-3)
        assert rates[3] == pytest.approx(0.005, rel=1e-2)
        assert rates[4] == pytest.approx(0, abs=1e-6)
    elif schedule == "inverse_time":
        assert rates == pytest.approx([0.01 / (1 + 0.01 / 10 * step) for step in (0, 10, 20, 110, 200)])
    else:
        assert rates == pytest.approx([0.01] * 5)


def _rate(optimizer, step):
    optimizer.iterations.assign(step)
    return float(optimizer.learning_rate)


def test_a_mixed_batch_is_the_mean_of_both_orders_and_so_is_its_loss():
    feed = Feed(TRAIN, HEADS, 32, 5, training=True, augment=0.0, mixup=0.4)
    plain = Feed(TRAIN, HEADS, 32, 5, training=True, augment=0.0)
    for (mixed, targets), (inputs, labels) in zip(feed.epoch(1), plain.epoch(1), strict=True):
        share = targets.pop(MIXUP).numpy()
        assert 0.5 <= share[0, 0] < 1
        np.testing.assert_array_equal(share, np.full((32, 1), share[0, 0]))
        for name, values in labels.items():
            np.testing.assert_array_equal(targets[name], values)
        (name,) = inputs
        values = inputs[name].numpy().astype(np.float64)
        expected = share[0, 0] * values + (1 - share[0, 0]) * values[::-1]
        np.testing.assert_allclose(mixed[name], expected, atol=0.51)
    shares = {float(targets[MIXUP][0, 0]) for _, targets in feed.epoch(2)}
    assert len(shares) == feed.steps


def test_a_batch_of_cutmix_has_a_square_of_the_reversed_batch_whose_area_is_its_share_of_the_loss():
    feed = Feed(TRAIN, HEADS, 32, 5, training=True, augment=0.0, cutmix=1.0)
    plain = Feed(TRAIN, HEADS, 32, 5, training=True, augment=0.0)
    areas = set()
    for (cut, targets), (inputs, labels) in zip(feed.epoch(1), plain.epoch(1), strict=True):
        share = float(targets.pop(MIXUP)[0, 0])
        for name, values in labels.items():
            np.testing.assert_array_equal(targets[name], values)
        images, whole = cut["image"].numpy(), inputs["image"].numpy()
        pasted = (images != whole).any(axis=(0, 3))
        np.testing.assert_array_equal(images[:, pasted], whole[::-1][:, pasted])
        rows, columns = (np.flatnonzero(pasted.any(axis=axis)) for axis in (1, 0))
        assert pasted.sum() == len(rows) * len(columns)  # one rectangle
        assert len(rows) == pytest.approx(SIZE * np.sqrt(1 - share), abs=1)
        assert len(columns) == pytest.approx(SIZE * np.sqrt(1 - share), abs=1)
        assert 0.5 <= share < 1
        areas.add(share)
    assert len(areas) == feed.steps


def test_cutmix_takes_its_share_of_the_batches_and_mixup_the_others():
    feed = Feed(TRAIN, HEADS, 2, 5, training=True, augment=0.0, mixup=0.2, cutmix=0.25)
    shares, cut = [], 0
    for number in range(1, 5):
        feed.epoch(number)
        cut += len(feed.places)
        shares += [share for step, share in enumerate(feed.shares) if step not in feed.places]
    assert cut == pytest.approx(0.25 * 4 * feed.steps, rel=0.3)
    assert np.mean(np.less(shares, 0.999)) > 0.5
    without = Feed(TRAIN, HEADS, 2, 5, training=True, augment=0.0, mixup=0.2)
    without.epoch(1)
    assert without.places == {}
