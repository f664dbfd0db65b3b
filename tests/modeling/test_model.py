import json
import subprocess
import time
import zipfile

import numpy as np
import pytest
from pydantic import ValidationError

import stand_in_weights
from builders import objective_for
from manyheads.encoders import ArticleEncoder, CompactEncoder, DetectorEncoder, PretrainedEncoder, published
from manyheads.encoders.backbones import block_of
from manyheads.errors import ConfigError, IntegrityError, MachineError
from manyheads.heads import Categorical, LabelStatistics, Regression, Vector
from manyheads.inputs import ImageInput
from manyheads.inputs.numbers import NumbersInput
from manyheads.modeling import inference, saving
from manyheads.modeling.build import averaged_over_flip, build_network, compile_model
from manyheads.modeling.objective import objective_of
from manyheads.runtime import tensorflow

HEADS = {
    "age": Regression(name="age", unit="years", minimum=0, maximum=116),
    "race": Categorical(name="race", classes=("white", "black", "asian", "indian", "others")),
    "gender": Categorical(name="gender", classes=("male", "female")),
}
LOSSES = {"age": "mse", "race": "categorical_crossentropy", "gender": "binary_crossentropy"}
STATISTICS = {
    "age": LabelStatistics(0.0, 116.0),
    "race": LabelStatistics(0.0, 1.0),
    "gender": LabelStatistics(0.0, 1.0),
}
WEIGHTS = {"age": 4.0, "race": 1.5, "gender": 0.1}
COMPACT = CompactEncoder(stem=(8,), widths=(8, 16), blocks=(1, 2), dropout=0.1)


@pytest.fixture(scope="module", autouse=True)
def _keras():
    tensorflow.require_tensorflow()


def images_of(side):
    return {"image": ImageInput(image_size=side, duplicate_correlation=1)}


def network_of(encoder=COMPACT, size=16, **options):
    return build_network(encoder, objective_for(HEADS, LOSSES, STATISTICS), images_of(size), **options)


def compiled(encoder=COMPACT, size=16, **options):
    import keras

    network = network_of(encoder, size, **options)
    return compile_model(network, objective_for(HEADS, LOSSES, STATISTICS, WEIGHTS), keras.optimizers.Adam(0.01))


def batch(n=8, size=16):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (n, size, size, 3), dtype=np.uint8)
    labels = {
        "age": generator.integers(0, 116, n),
        "race": generator.integers(0, 5, n),
        "gender": generator.integers(0, 2, n),
    }
    return images, labels, {name: head.targets(labels[name]) for name, head in HEADS.items()}


def test_the_article_has_as_many_parameters_as_its_code():
    """Counted layer by layer from the article's listing, at 198 pixels."""

    def branch(units):
        convolutions = (9 * 3 * 16 + 16) + (9 * 16 * 32 + 32) + (9 * 32 * 32 + 32)
        normalizations = 4 * (16 + 32 + 32 + 128)
        return convolutions + normalizations + (16 * 16 * 32 * 128 + 128) + (128 * units + units)

    assert network_of(ArticleEncoder(), 198).count_params() == branch(1) + branch(5) + branch(2) == 3_192_648


def test_the_compact_encoder_shares_its_trunk():
    network = network_of(CompactEncoder(stem=(32, 64), widths=(64, 128, 256), blocks=(1, 1, 1), dropout=0.2), 96)
    assert 1_200_000 < network.count_params() < 1_300_000
    dense = [layer for layer in network.layers if type(layer).__name__ == "Dense"]
    assert len({id(layer.input) for layer in dense}) == 1
    assert len(dense) == 3


@pytest.mark.parametrize("encoder", [COMPACT, ArticleEncoder()], ids=["compact", "article"])
def test_outputs_go_by_the_heads_names(encoder):
    outputs = inference.Predictor(network_of(encoder, 32), HEADS)({"image": np.zeros((3, 32, 32, 3), dtype=np.uint8)})
    assert {name: values.shape for name, values in outputs.items()} == {"age": (3, 1), "race": (3, 5), "gender": (3, 2)}
    assert all(values.dtype == np.float32 for values in outputs.values())
    assert outputs["race"].sum(axis=1) == pytest.approx(1)


def test_the_loss_is_the_weighted_sum_of_the_heads_losses():
    import keras

    network, (images, labels, targets) = compiled(), batch()
    logs = network.evaluate(images, targets, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(sum(WEIGHTS[name] * logs[f"{name}_loss"] for name in HEADS), rel=1e-5)
    outputs = inference.Predictor(network, HEADS)({"image": images})
    years = outputs["age"][:, 0]
    assert logs["age_loss"] == pytest.approx(np.mean(((labels["age"] - years) / 116) ** 2), rel=1e-5)
    assert logs["age_mae"] == pytest.approx(np.mean(np.abs(labels["age"] - years)), rel=1e-5)
    crossentropy = keras.losses.BinaryCrossentropy()(targets["gender"], outputs["gender"])
    assert logs["gender_loss"] == pytest.approx(float(crossentropy), rel=1e-4)


@pytest.mark.parametrize("weights", [{"zage": 4.0, "race": 1.5, "gender": 0.1}, {"race": 1.0, "gender": 1.0}])
def test_weights_that_name_no_head_are_refused_before_keras_takes_them_by_position(weights):
    labels = {name: np.arange(2) for name in HEADS}
    with pytest.raises(ConfigError, match="the heads are age, gender, race"):
        objective_of(HEADS, LOSSES, weights, "standard", labels)


def test_an_image_too_small_for_the_network_is_named():
    encoder = DetectorEncoder(filters=(8, 8, 8), pool=3, dense=dict.fromkeys(HEADS, 4))
    with pytest.raises(ConfigError, match=r"image \(16, 16, 3\)\) do not fit"):
        network_of(encoder)


@pytest.mark.parametrize("encoder", [COMPACT, ArticleEncoder()], ids=["compact", "article"])
def test_folding_changes_no_prediction(encoder):
    size, generator = 32, np.random.default_rng(1)
    trained, (images, _, _) = network_of(encoder, size), batch(8, size)
    for variable in trained.variables:
        if variable.dtype == "float32":
            variable.assign(variable + generator.uniform(0.01, 0.3, variable.shape))
    folded = network_of(encoder, size, folded=True)
    inference.fold(trained, folded)
    before, after = (
        inference.Predictor(trained, HEADS)({"image": images}),
        inference.Predictor(folded, HEADS)({"image": images}),
    )
    for name in HEADS:
        np.testing.assert_allclose(before[name], after[name], rtol=1e-3, atol=1e-4)


def test_the_folded_model_is_made_of_kerass_own_layers_alone():
    folded = network_of(folded=True)
    assert {type(layer).__module__.split(".")[0] for layer in folded.layers} == {"keras"}
    assert not [layer for layer in folded.layers if "Normalization" in type(layer).__name__]


@pytest.mark.slow
def test_a_saved_model_predicts_the_same_elsewhere(tmp_path, warm_python):
    losses = LOSSES | {"age": "gaussian"}
    network, (images, _, _) = (
        build_network(COMPACT, objective_for(HEADS, losses, STATISTICS), images_of(16), folded=True),
        batch(),
    )
    saving.save(tmp_path, network, saving.ModelCard(data="utkface", inputs=images_of(16), heads=HEADS))
    loaded = saving.load(tmp_path)
    assert loaded.card.heads == HEADS
    for name, values in loaded.predictor()({"image": images}).items():
        np.testing.assert_array_equal(values, inference.Predictor(network, HEADS)({"image": images})[name])
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, keras, numpy as np; m = keras.saving.load_model('model.keras', compile=False);"
        "print(sorted(m.predict(np.load('images.npy'), verbose=0)), 'manyheads' in sys.modules)"
    )
    done = subprocess.run([warm_python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['age', 'age_log_variance', 'gender', 'race'] False"


def test_outputs_of_no_head_are_refused(tmp_path):
    heads = HEADS | {"height": Regression(name="height", unit="cm", minimum=0, maximum=250)}
    card = saving.ModelCard(data="utkface", inputs=images_of(16), heads=heads)
    saving.save(tmp_path, network_of(folded=True), card)
    with pytest.raises(IntegrityError, match=r"height needs an output height float32 \(1,\), the network has none"):
        saving.load(tmp_path)
    losses = LOSSES | {"age": "gaussian"}
    few = {name: HEADS[name] for name in ("race", "gender")}
    network = build_network(COMPACT, objective_for(HEADS, losses, STATISTICS), images_of(16), folded=True)
    saving.save(tmp_path, network, saving.ModelCard(data="utkface", inputs=images_of(16), heads=few))
    with pytest.raises(IntegrityError, match="age_log_variance"):
        saving.load(tmp_path)


def saved(folder, network=None, **changes):
    """Save a network with a card that may not fit it."""
    card = {"data": "utkface", "inputs": images_of(16), "heads": HEADS} | changes
    saving.save(folder, network or network_of(folded=True), saving.ModelCard(**card))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"heads": HEADS | {"race": Categorical(name="race", classes=("white", "black", "asian", "indian"))}},
            r"race needs an output race float32 \(4,\), the network has float32 \(5,\)",
        ),
        ({"heads": {name: HEADS[name] for name in ("age", "race")}}, "outputs gender that belong to no head"),
        (
            {"heads": HEADS | {"age": Vector(name="age", unit="y", width=2, minimum=0, maximum=116)}},
            r"age needs .* \(2,\)",
        ),
        ({"inputs": images_of(32)}, r"takes image uint8 \(16, 16, 3\), the inputs are image uint8 \(32, 32, 3\)"),
        ({"inputs": {"face": images_of(16)["image"]}}, "the inputs are face uint8"),
        ({"inputs": {"image": NumbersInput(width=3)}}, r"the inputs are image float32 \(3,\)"),
    ],
)
def test_a_card_that_is_not_of_its_network_is_refused_in_a_line(changes, said, tmp_path):
    saved(tmp_path, **changes)
    with pytest.raises(IntegrityError, match=said) as caught:
        saving.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_head_that_builds_other_outputs_than_it_says_is_refused_before_it_is_trained(monkeypatch):
    monkeypatch.setattr(Categorical, "output_units", {"": 7})
    with pytest.raises(ConfigError, match=r"race needs an output race float32 \(7,\), the network has float32 \(5,\)"):
        network_of()


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card["heads"]["race"].update(classes=["white", "black", "asian", "indian"]),
        lambda card: card["heads"]["race"]["classes"].reverse(),
        lambda card: card["heads"]["age"].update(maximum=50),
        lambda card: card["inputs"]["image"].update(image_size=32),
        lambda card: card.pop("digest"),
        lambda card: card.update(digest="0" * 64),
    ],
)
def test_a_card_that_was_changed_is_refused(change, tmp_path):
    saved(tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    change(card)
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(IntegrityError, match="not of one model, or one of them was changed"):
        saving.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{" * 200_000, "\xff\xfe"], ids=["empty", "list", "null", "deep", "bytes"]
)
def test_a_card_that_is_none_is_refused_in_a_line(text, tmp_path):
    saved(tmp_path)
    (tmp_path / "model.json").write_text(text, encoding="latin-1")
    with pytest.raises(IntegrityError) as caught:
        saving.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_one_changed_bit_of_the_weights_is_noticed(tmp_path):
    saved(tmp_path)
    whole = bytearray((tmp_path / "model.keras").read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "model.keras").write_bytes(bytes(whole))
    with pytest.raises(IntegrityError, match="not of one model"):
        saving.load(tmp_path)


def test_the_same_model_is_saved_as_the_same_bytes(tmp_path, monkeypatch):
    network = averaged_over_flip(network_of(folded=True), images_of(16))
    folders = [tmp_path / name for name in ("now", "later")]
    for folder in folders:
        folder.mkdir()
        saved(folder, network)
        time.sleep(2.1)  # the times in a zip are rounded to two seconds
    for name in ("model.keras", "model.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_flip_tta_predicts_the_same_for_an_image_and_its_mirror_image(tmp_path):
    network, (images, _, _) = network_of(folded=True), batch()
    saved(tmp_path, averaged_over_flip(network, images_of(16)))
    predictor = saving.load(tmp_path).predictor()
    straight, mirrored = (predictor({"image": each}) for each in (images, np.ascontiguousarray(images[:, :, ::-1])))
    single = inference.Predictor(network, HEADS)({"image": images})
    for name in HEADS:
        np.testing.assert_allclose(straight[name], mirrored[name], rtol=1e-5)
        assert np.any(np.abs(straight[name] - single[name]) > 1e-6)


@pytest.mark.parametrize("flipped", [False, True])
def test_what_was_trained_in_bfloat16_is_predicted_so_where_that_is_fast(flipped, monkeypatch):
    import keras

    keras.utils.set_random_seed(0)
    network = network_of(folded=True)
    network = averaged_over_flip(network, images_of(16)) if flipped else network
    images = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
    monkeypatch.setattr(inference, "fastest_precision", lambda: "float32")
    exact = inference.Predictor(network, HEADS, "mixed_bfloat16", images_of(16))({"image": images})
    monkeypatch.setattr(inference, "fastest_precision", lambda: "mixed_bfloat16")
    close = inference.Predictor(network, HEADS, "mixed_bfloat16", images_of(16))({"image": images})
    plain = inference.Predictor(network, HEADS)({"image": images})
    for name in HEADS:
        np.testing.assert_array_equal(plain[name], exact[name])
        # Three digits of 116 years, or of a share.
        np.testing.assert_allclose(close[name], exact[name], rtol=0.05, atol=1.0 if name == "age" else 0.05)
        assert np.any(close[name] != exact[name])


def test_a_predictor_takes_batches_of_every_length():
    predictor = inference.Predictor(network_of(folded=True), HEADS)
    images = np.random.default_rng(0).integers(0, 255, (inference.PREDICTION_BATCH + 3, 16, 16, 3), dtype=np.uint8)
    whole = predictor({"image": images})
    assert all(len(values) == len(images) for values in whole.values())
    np.testing.assert_allclose(predictor({"image": images[-3:]})["race"], whole["race"][-3:], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobilenet", "efficientnet_lite0"])
def test_a_pretrained_encoder_is_trained_on_and_saved_as_plain_layers(backbone, tmp_path):
    encoder = PretrainedEncoder(backbone=backbone, weights="random", frozen_blocks=0, hidden=8, dropout=0.1)
    model, (images, _, targets) = compiled(encoder, 32), batch(8, 32)
    before = [weights.numpy() for weights in model.trainable_variables]
    model.fit(images, targets, epochs=1, verbose=0)
    after = [weights.numpy() for weights in model.trainable_variables]
    assert all(np.any(old != new) for old, new in zip(before, after, strict=True) if old.ndim > 1)
    folded = network_of(encoder, 32, folded=True)
    inference.fold(model, folded)
    saving.save(tmp_path, folded, saving.ModelCard(data="utkface", inputs=images_of(32), heads=HEADS))
    for name, values in saving.load(tmp_path).predictor()({"image": images}).items():
        np.testing.assert_allclose(
            values, inference.Predictor(model, HEADS)({"image": images})[name], rtol=1e-4, atol=1e-5
        )


def face(**settings):
    return PretrainedEncoder(
        **{"backbone": "mobilenet", "weights": "face", "frozen_blocks": "all", "hidden": 8, "dropout": 0, **settings}
    )


def test_published_weights_are_those_of_the_network_and_blocks_below_a_number_are_frozen(tmp_path, monkeypatch):
    weights = stand_in_weights.install(monkeypatch, tmp_path)
    for frozen, learning in (("all", set()), (0, {0, 1, 2}), (2, {2})):
        network = network_of(face(frozen_blocks=frozen))
        for name, values in weights.items():
            layer, kind = name.split("/")
            np.testing.assert_array_equal(getattr(network.get_layer(layer), kind), values)
        found = {block_of(layer.name) for layer in network.layers if layer.trainable and layer.weights}
        assert found - {-1} == learning
        assert network.get_layer("hidden").trainable


def test_published_weights_that_cannot_be_had_end_in_one_line(tmp_path, monkeypatch):
    stand_in_weights.install(monkeypatch, tmp_path)
    path = tmp_path / "face.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(
        IntegrityError, match=r"face\.npz is damaged: `python -m manyheads weights face` writes it again$"
    ):
        network_of(face())
    path.write_bytes(whole)
    monkeypatch.setitem(published.PUBLISHED, "face", published.PUBLISHED["face"]._replace(digest="0" * 64))
    with pytest.raises(IntegrityError, match=r"face\.npz holds other weights than face has: `python -m manyheads"):
        network_of(face())
    path.unlink()
    with pytest.raises(MachineError, match=r"face\.npz is missing: `python -m manyheads weights face` fetches"):
        network_of(face())
    assert network_of(face(), folded=True).count_params()  # a network for inference gets the weights of the trained one


def test_settings_of_a_pretrained_network_that_do_not_fit_are_refused():
    for settings, said in (
        ({"backbone": "efficientnet_lite0"}, "weights is face; efficientnet_lite0 takes imagenet or random"),
        ({"weights": "imagenet"}, "weights is imagenet; mobilenet takes face or random"),
        ({"weights": "random"}, "frozen_blocks would keep random weights"),
        ({"weights": "random", "frozen_blocks": 2}, "frozen_blocks would keep random weights"),
        ({"frozen_blocks": "some"}, "frozen_blocks"),
        ({"frozen_blocks": -1}, "frozen_blocks"),
        ({"dropout": 1}, "dropout"),
        ({"weights": "own.h5"}, "weights"),
    ):
        with pytest.raises(ValidationError, match=said):
            face(**settings)
    assert face().origin_of_weights.keys() == {"Origin", "Learned from", "Terms"}
    assert not face(weights="random", frozen_blocks=0).origin_of_weights


def test_a_variance_is_a_second_column_and_starts_at_the_spread_of_the_labels():
    statistics = STATISTICS | {"age": LabelStatistics(33.0, 20.0)}
    network = build_network(COMPACT, objective_for(HEADS, LOSSES | {"age": "gaussian"}, statistics), images_of(16))
    images, _, _ = batch()
    outputs = inference.Predictor(network, HEADS)({"image": images})
    assert {name: values.shape for name, values in outputs.items()} == {"age": (8, 2), "race": (8, 5), "gender": (8, 2)}
    np.testing.assert_allclose(np.exp(outputs["age"][:, 1] / 2), 20.0, rtol=1e-5)
    layer = network.get_layer("age_bounded")
    for extreme, spread in ((1e6, 2000.0), (-1e6, 0.2)):
        layer.set_weights([layer.get_weights()[0], np.array([extreme])])
        bounded = inference.Predictor(network, HEADS)({"image": images})["age"][:, 1]
        np.testing.assert_allclose(np.exp(bounded / 2), spread, rtol=1e-4)


def _poison(path, change):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    card = path.with_name("model.json")
    values = json.loads(card.read_text())
    values["digest"] = saving._digest(values, path)  # as an attacker would
    card.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("module", "class_name"),
    [("os", "system"), ("kerasx.y", "Dense"), *(("keras.layers", name) for name in sorted(saving.FOREIGN_LAYERS))],
)
def test_a_model_with_foreign_code_is_not_loaded(module, class_name, tmp_path):
    saving.save(tmp_path, network_of(folded=True), saving.ModelCard(data="utkface", inputs=images_of(16), heads=HEADS))
    _poison(
        tmp_path / "model.keras",
        lambda config: config["config"]["layers"][1].update(module=module, class_name=class_name),
    )
    with pytest.raises(IntegrityError, match=class_name):
        saving.load(tmp_path)


@pytest.mark.parametrize("damage", ["bit", "layers", "deep", "cut"])
def test_a_damaged_model_whose_digest_fits_is_refused_in_a_line(damage, tmp_path):
    saving.save(tmp_path, network_of(folded=True), saving.ModelCard(data="utkface", inputs=images_of(16), heads=HEADS))
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if damage == "layers":
        config = json.loads(members["config.json"])
        del config["config"]["layers"][-2:]
        members["config.json"] = json.dumps(config).encode()
    elif damage == "deep":
        members["config.json"] = b"[" * 200_000
    elif damage == "cut":
        members["model.weights.h5"] = members["model.weights.h5"][:2000]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    if damage == "bit":
        whole = bytearray(path.read_bytes())
        whole[whole.index(b"HDF") + 2000] ^= 1
        path.write_bytes(bytes(whole))
    card = path.with_name("model.json")
    values = json.loads(card.read_text())
    values["digest"] = saving._digest(values, path)  # as an attacker would
    card.write_text(json.dumps(values))
    with pytest.raises(IntegrityError, match=r"cannot be loaded|holds no complete model") as caught:
        saving.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_models_are_named(tmp_path):
    with pytest.raises(IntegrityError, match="train a model first"):
        saving.load(tmp_path)
    saving.save(tmp_path, network_of(folded=True), saving.ModelCard(data="utkface", inputs=images_of(16), heads=HEADS))
    whole = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="train it again"):
        saving.load(tmp_path)
