import numpy as np
import pytest
from scipy.stats import norm

from builders import objective_for
from manyheads.errors import ConfigError
from manyheads.heads import MISSING, Box, Categorical, LabelStatistics, Regression, Vector
from manyheads.modeling import build
from manyheads.modeling.objective import MIXUP, objective_of
from manyheads.runtime import tensorflow

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=116),
    "race": Categorical(name="race", classes=("a", "b", "c")),
}
LOSSES = {"age": "mse", "race": "categorical_crossentropy"}
STATISTICS = {"age": LabelStatistics(40.0, 20.0), "race": LabelStatistics(shares=(0.5, 0.3, 0.2))}
WEIGHTS = {"age": 4.0, "race": 0.5}


@pytest.fixture(scope="module", autouse=True)
def _keras():
    tensorflow.require_tensorflow()


def network(losses=LOSSES):
    """Return a network without normalization or dropout, which is the same function in training and prediction."""
    import keras

    keras.utils.set_random_seed(0)
    features = keras.Input((6,), name="features")
    outputs = {}
    for name, head in HEADS.items():
        outputs |= head.outputs(features, losses[name], STATISTICS[name])
    return keras.Model(features, outputs)


def objective(weighting="fixed", losses=LOSSES, rate=0.1):
    import keras

    return build.compile_model(
        network(losses),
        objective_for(HEADS, losses, STATISTICS, WEIGHTS),
        keras.optimizers.SGD(rate),
        weighting=weighting,
    )


def samples(n=10):
    generator = np.random.default_rng(0)
    labels = {"age": generator.integers(0, 100, n), "race": generator.integers(0, 3, n)}
    features = generator.normal(size=(n, 6)).astype(np.float32)
    return features, labels, {name: head.targets(labels[name]) for name, head in HEADS.items()}


def test_fixed_weights_make_a_weighted_sum_that_counts_every_sample_once():
    trained, (features, labels, targets) = objective(), samples()
    logs = trained.evaluate([features], targets, batch_size=4, verbose=0, return_dict=True)
    outputs = trained.predict([features], verbose=0)
    squared = np.mean(((outputs["age"][:, 0] - labels["age"]) / 20) ** 2)
    crossentropy = -np.mean(np.log(outputs["race"][np.arange(10), labels["race"]]))
    assert set(logs) == {"loss", "age_loss", "age_mae", "race_loss", "race_accuracy"}
    assert logs["age_loss"] == pytest.approx(squared, rel=1e-5)
    assert logs["race_loss"] == pytest.approx(crossentropy, rel=1e-5)
    assert logs["loss"] == pytest.approx(4 * squared + crossentropy / 2, rel=1e-5)
    assert trained.log_variances == {}


def test_a_step_moves_learned_weights_as_the_formula_says():
    trained, (features, _, targets) = objective("learned"), samples()
    before = {name: float(variable.numpy()) for name, variable in trained.log_variances.items()}
    assert before == pytest.approx({"age": -np.log(4), "race": -np.log(0.5)})
    losses = trained.evaluate([features], targets, verbose=0, return_dict=True)
    expected = sum(np.exp(-s) * losses[f"{name}_loss"] + s / 2 for name, s in before.items())
    assert losses["loss"] == pytest.approx(expected, rel=1e-5)
    trained.fit([features], targets, batch_size=10, verbose=0)
    for name, s in before.items():
        gradient = -np.exp(-s) * losses[f"{name}_loss"] + 1 / 2
        assert float(trained.log_variances[name].numpy()) == pytest.approx(s - 0.1 * gradient, rel=1e-5)


def test_learned_weights_move_the_network_as_if_they_were_fixed():
    fixed, learned, (features, _, targets) = objective(), objective("learned"), samples()
    for trained in (fixed, learned):
        trained.fit([features], targets, batch_size=10, verbose=0)
    for ours, theirs in zip(fixed.get_layer("race").weights, learned.get_layer("race").weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


def test_learned_weights_are_variables_of_the_model_that_training_keeps():
    trained = objective("learned")
    own = {id(variable) for variable in trained.log_variances.values()}
    assert own <= {id(variable) for variable in trained.variables}
    assert own <= {id(variable) for variable in trained.trainable_variables}
    assert len(trained.variables) == len(network().variables) + 2


def test_the_loss_of_mean_and_variance_is_the_gaussian_log_likelihood():
    losses = LOSSES | {"age": "gaussian"}
    trained, (features, labels, targets) = objective(losses=losses), samples()
    trained.get_layer("age_bounded").set_weights([np.random.default_rng(1).normal(0, 0.1, (6, 1)), np.array([0.02])])
    logs = trained.evaluate([features], targets, verbose=0, return_dict=True)
    outputs = trained.predict([features], verbose=0)
    mean, deviation = outputs["age"][:, 0], np.exp(outputs["age_log_variance"][:, 0] / 2)
    assert np.ptp(deviation) > 1
    likelihood = norm.logpdf((labels["age"] - 40) / 20, (mean - 40) / 20, deviation / 20)
    assert logs["age_loss"] == pytest.approx(-np.mean(likelihood) - np.log(2 * np.pi) / 2, rel=1e-4)
    before = trained.get_layer("age_bounded").get_weights()[0]
    trained.fit([features], targets, verbose=0)
    assert np.any(trained.get_layer("age_bounded").get_weights()[0] != before)


def test_a_soft_label_is_the_crossentropy_with_a_gaussian_and_the_error_of_the_mean():
    losses = LOSSES | {"age": "soft_label"}
    trained, (features, labels, targets) = objective(losses=losses), samples()
    outputs = trained.predict([features], verbose=0)
    line, shares = np.arange(117), outputs["age_distribution"]
    spread = norm.pdf(line, labels["age"][:, None], 2.0)
    spread /= spread.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["age"][:, 0], shares @ line, rtol=1e-4)
    expected = -np.mean(np.sum(spread * np.log(shares), axis=1)) + np.mean(np.abs(shares @ line - labels["age"])) / 20
    assert trained.losses_of(targets, outputs)["age"] == pytest.approx(expected, rel=1e-4)
    assert trained.evaluate([features], targets, verbose=0, return_dict=True)["age_loss"] == pytest.approx(
        expected, rel=1e-4
    )


def test_the_ranked_probability_score_compares_cumulated_distributions():
    losses = LOSSES | {"age": "ranked_probability"}
    trained, (features, labels, targets) = objective(losses=losses), samples()
    outputs = trained.predict([features], verbose=0)
    cumulated = np.cumsum(outputs["age_distribution"], axis=1)
    reached = np.arange(117) >= labels["age"][:, None]
    expected = np.mean(np.sum((cumulated - reached) ** 2, axis=1)) / 20
    assert trained.losses_of(targets, outputs)["age"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["soft_label", "ranked_probability"])
def test_the_mean_of_a_distribution_is_not_trained(loss):
    trained, (features, _, targets) = objective(losses=LOSSES | {"age": loss}), samples()
    before = trained.losses_of(targets, trained.predict([features], verbose=0))["age"]
    trained.fit([features], targets, epochs=20, verbose=0)
    np.testing.assert_array_equal(trained.get_layer("age").get_weights()[0][:, 0], np.arange(117))
    assert trained.losses_of(targets, trained.predict([features], verbose=0))["age"] < 0.9 * before


def test_adjusted_logits_raise_scarce_classes():
    losses, shares = LOSSES | {"race": "logit_adjusted"}, (0.9, 0.1, 0.0)
    loss = HEADS["race"].loss("logit_adjusted", LabelStatistics(shares=shares))
    probabilities = np.array([[0.5, 0.3, 0.2]], dtype=np.float32)
    for label in range(3):
        targets = {"race": np.eye(3, dtype=np.float32)[[label]]}
        weighted = probabilities[0] * np.sqrt(np.maximum(shares, 1e-6))
        expected = -np.log(weighted[label] / weighted.sum())
        assert float(loss(targets, {"race": probabilities})) == pytest.approx(expected, rel=1e-3)
    trained, (features, _, targets) = objective(losses=losses), samples()
    assert np.isfinite(trained.losses_of(targets, trained.predict([features], verbose=0))["race"])
    assert HEADS["race"].statistics("standard", np.array([0, 0, 1, 0])).shares == (0.75, 0.25, 0.0)


@pytest.mark.parametrize("weighting", ["fixed", "learned"])
def test_losses_of_whole_subsets_are_those_that_keras_logs(weighting):
    trained, (features, _, targets) = objective(weighting), samples()
    logs = trained.evaluate([features], targets, batch_size=4, verbose=0, return_dict=True)
    losses = trained.losses_of(targets, trained.predict([features], verbose=0))
    assert losses == pytest.approx({"age": logs["age_loss"], "race": logs["race_loss"], "loss": logs["loss"]}, rel=1e-5)


@pytest.mark.parametrize("weighting", ["fixed", "learned"])
def test_the_network_inside_is_a_plain_model(weighting):
    import keras

    inside = network()
    trained = build.compile_model(
        inside, objective_for(HEADS, LOSSES, STATISTICS, WEIGHTS), keras.optimizers.SGD(0.1), weighting=weighting
    )
    trained.fit(*samples()[::2], verbose=0)
    assert type(inside).__module__.startswith("keras.")
    assert "manyheads" not in inside.to_json()
    features = samples()[0]
    for name, values in inside.predict(features, verbose=0).items():
        np.testing.assert_array_equal(values, trained.predict([features], verbose=0)[name])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss=learned", "loss.weights.race=0"], "weights.race is 0: a learned weight starts above 0"),
        (["loss=gaussian_age", "loss.weighting=learned"], "functions.age is 'gaussian', which may fall below 0"),
        (["loss=balanced", "loss.functions.race=gaussian"], "loss.functions.race is 'gaussian'; this head takes"),
        (
            [
                "+data.heads.age_log_variance=${data.heads.age}",
                "+loss.functions.age_log_variance=mse",
                "+loss.weights.age_log_variance=1",
            ],
            "age_log_variance has the name of an output of age",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(overrides, message, make_config):
    with pytest.raises(ConfigError, match=message) as raised:
        make_config(*overrides)
    assert len(str(raised.value).splitlines()) == 1


OBJECTS = {
    "class": Categorical(name="class", classes=("nothing", "disc", "square")),
    "box": Box(name="box", of="class"),
}


def detector(form, incomplete=("box",)):
    import keras

    keras.utils.set_random_seed(0)
    features = keras.Input((6,), name="features")
    losses = {"class": "categorical_crossentropy", "box": "localisation"}
    statistics = {
        "class": LabelStatistics(shares=(0.4, 0.3, 0.3)),
        "box": LabelStatistics(centers=(0.5,) * 4, spreads=(0.2,) * 4),
    }
    objective = objective_for(OBJECTS, losses, statistics, {"class": 1.0, "box": 3.0}, incomplete)
    outputs = {}
    for each in objective:
        outputs |= each.outputs(features)
    return build.compile_model(keras.Model(features, outputs), objective, keras.optimizers.SGD(0.1), form=form)


def pictures(n=12):
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 3, n)
    boxes = generator.uniform(0.1, 0.5, (n, 4))
    boxes[classes == 0] = np.nan
    targets = {"class": OBJECTS["class"].targets(classes), "box": OBJECTS["box"].targets(boxes)}
    return generator.normal(size=(n, 6)).astype(np.float32), classes, boxes, targets


def gradients(trained, features, targets):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = trained([features], training=True)
        loss = trained.compute_loss(y=targets, y_pred=outputs)
    weights = [weight.value for weight in trained.trainable_weights]
    found = tape.gradient(loss, weights, unconnected_gradients="zero")
    return float(loss), [gradient.numpy() for gradient in found]


@pytest.mark.parametrize("form", ["added_loss", "combined_output"])
def test_a_loss_of_two_outputs_is_the_same_in_every_form(form):
    features, _, _, targets = pictures()
    loss, expected = gradients(detector("training_step"), features, targets)
    other, found = gradients(detector(form), features, targets)
    assert other == pytest.approx(loss, rel=1e-6)
    assert len(found) == len(expected) == 4
    for one, two in zip(expected, found, strict=True):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("form", ["training_step", "added_loss", "combined_output"])
def test_the_loss_of_a_mixed_batch_is_the_mean_of_the_losses_in_both_orders(form):
    features, _, _, targets = pictures()
    own, _ = gradients(detector(form), features, targets)
    other, _ = gradients(detector(form), features, {name: values[::-1] for name, values in targets.items()})
    mixed, _ = gradients(detector(form), features, targets | {MIXUP: np.full((12, 1), 0.7, np.float32)})
    assert mixed == pytest.approx(0.7 * own + 0.3 * other, rel=1e-5)
    assert abs(own - other) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("form", ["training_step", "added_loss", "combined_output"])
def test_every_form_trains(form):
    features, _, _, targets = pictures(60)
    trained = detector(form)
    losses = trained.fit([features], targets, epochs=20, batch_size=20, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_localisation_counts_where_there_is_an_object_as_much_as_the_other_output_is_sure_of_it():
    features, classes, boxes, targets = pictures()
    trained = detector("training_step")
    outputs = {name: values.numpy() for name, values in trained([features]).items()}
    error = np.abs(outputs["box"] - boxes) / 0.2
    huber = np.where(error <= 1, error**2 / 2, error - 0.5).mean(axis=1)[classes > 0]
    sure = (1 - outputs["class"][:, 0])[classes > 0]
    assert trained.losses_of(targets, outputs)["box"] == pytest.approx((huber * sure).sum() / sure.sum(), rel=1e-5)
    logs = trained.evaluate([features], targets, batch_size=12, verbose=0, return_dict=True)
    assert logs["box_loss"] == pytest.approx((huber * sure).sum() / sure.sum(), rel=1e-5)


def test_missing_labels_are_left_out_and_the_other_head_learns_from_all():
    features, classes, _, targets = pictures()
    loss, found = gradients(detector("training_step"), features, targets)
    # The same as a sum of two losses: the class from all samples, the box from those that have one.
    outputs = {name: values.numpy() for name, values in detector("training_step")([features]).items()}
    crossentropy = -np.log(outputs["class"][np.arange(12), classes]).mean()
    assert loss == pytest.approx(
        crossentropy + 3 * detector("training_step").losses_of(targets, outputs)["box"], rel=1e-5
    )
    assert all(np.isfinite(gradient).all() for gradient in found)


def test_a_batch_without_any_label_of_a_head_moves_the_others_alone():
    features, classes, boxes, _ = pictures()
    nothing = {"class": OBJECTS["class"].targets(classes), "box": OBJECTS["box"].targets(np.full_like(boxes, np.nan))}
    loss, found = gradients(detector("training_step"), features, nothing)
    assert np.isfinite(loss)
    paths = [weight.path for weight in detector("training_step").trainable_weights]
    moved = {path: float(np.abs(gradient).max()) for path, gradient in zip(paths, found, strict=True)}
    assert {path.split("/")[0] for path, most in moved.items() if most} == {"class"}
    assert RACE.targets(np.array([1, MISSING])).tolist()[0] == [0, 1, 0]
    assert np.isnan(RACE.targets(np.array([1, MISSING]))[1]).all()


RACE = HEADS["race"]
TABLE = {
    "one": Vector(name="one", unit="units", width=1, minimum=-10, maximum=10),
    "two": Vector(name="two", unit="units", width=2, minimum=-10, maximum=10),
}


@pytest.mark.parametrize("functions", ["mae", ["mae", "mse"], {"one": "mse", "two": "mae"}])
def test_the_sum_is_what_arithmetic_says_for_one_function_a_list_and_names(functions, make_config):
    import json

    import keras

    config = make_config(
        "experiment=numbers", f"loss.functions={json.dumps(functions)}".replace('"', ""), "loss.weights.two=2"
    )
    by_name = config.loss.functions
    generator = np.random.default_rng(0)
    features = generator.normal(size=(9, 3)).astype(np.float32)
    truth = {"one": generator.normal(size=(9, 1)), "two": generator.normal(size=(9, 2))}
    objective = objective_of(TABLE, by_name, config.loss.weights, config.loss.scale, truth)
    inputs = keras.Input((3,), name="features")
    outputs = {}
    for each in objective:
        outputs |= each.outputs(inputs)
    trained = build.compile_model(keras.Model(inputs, outputs), objective, keras.optimizers.SGD(0.1))
    targets = {name: head.targets(truth[name]) for name, head in TABLE.items()}
    logs = trained.evaluate([features], targets, verbose=0, return_dict=True)
    predicted = trained.predict([features], verbose=0)
    expected = 0.0
    for name, weight in (("one", 1), ("two", 2)):
        error = predicted[name] - truth[name]
        expected += weight * float(np.mean(np.abs(error) if by_name[name] == "mae" else error**2))
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
