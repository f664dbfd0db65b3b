"""An input of four dimensions that is no image, and must not be treated as one."""

from typing import ClassVar, Literal

import numpy as np
import pytest

from conftest import compose
from manyheads.config.schema import Config
from manyheads.data.subsets import Subset
from manyheads.encoders import Encoder
from manyheads.inputs import Encoded, ImageInput, Input
from manyheads.modeling import build
from manyheads.runtime import tensorflow
from manyheads.training.batches import Feed

SIZE = 16


class Spectrogram(Input):
    kind: Literal["spectrogram"] = "spectrogram"

    @property
    def shape(self):
        return (SIZE, SIZE, 3)

    @property
    def dtype(self):
        return "uint8"

    def encode(self, data):
        return Encoded(np.frombuffer(data, np.uint8).reshape(self.shape))

    def tensor(self, name):
        import keras

        return keras.Input(self.shape, dtype="uint8", name=name)


class Louder(Spectrogram):
    """A spectrogram that is augmented in its own way, and has no mirror image."""

    AUGMENTATION_DRAWS: ClassVar[int] = 1

    def augment(self, values, draws, strength):
        return values + np.uint8(1)


KINDS = {"sound": Spectrogram(), "image": ImageInput(image_size=SIZE, duplicate_correlation=1)}


def subset(kinds, n=40):
    inputs = {
        name: np.random.default_rng(0).integers(0, 200, (n, *kind.shape), dtype=np.uint8)
        for name, kind in kinds.items()
    }
    names = [f"{i}" for i in range(n)]
    return Subset(inputs, np.arange(n), names, {}, names, kinds)


def fed(kinds):
    one = subset(kinds)
    feed = Feed(one, {}, 40, seed=3, training=True, augment=1.0)
    ((batch, _),) = feed.epoch(1)
    return one, feed, {name: values.numpy() for name, values in batch.items()}


def test_it_is_not_augmented_and_the_image_beside_it_is_as_it_is_alone():
    one, feed, batch = fed(KINDS)
    np.testing.assert_array_equal(batch["sound"], one.inputs["sound"][feed.order])
    assert np.any(batch["image"] != one.inputs["image"][feed.order])
    _, _, alone = fed({"image": KINDS["image"]})
    np.testing.assert_array_equal(batch["image"], alone["image"])


def test_augmentation_of_its_own_is_taken():
    one, feed, batch = fed({"sound": Louder()})
    np.testing.assert_array_equal(batch["sound"], one.inputs["sound"][feed.order] + 1)


def test_it_is_not_mirrored_beside_an_image():
    tensorflow.require_tensorflow()
    import keras

    tensors = {name: kind.tensor(name) for name, kind in KINDS.items()}
    # The first column of each input: what mirroring changes.
    firsts = {
        f"of_{name}": keras.layers.Flatten(dtype="float32")(keras.ops.cast(tensor[:, :, 0], "float32"))
        for name, tensor in tensors.items()
    }
    network = build.averaged_over_flip(keras.Model(list(tensors.values()), firsts), KINDS)
    inputs = subset(KINDS, 2).inputs
    outputs = network(list(inputs.values()))
    sound, image = (values.astype(np.float32) for values in inputs.values())
    np.testing.assert_array_equal(outputs["of_sound"], sound[:, :, 0].reshape(2, -1))
    np.testing.assert_array_equal(outputs["of_image"], ((image[:, :, 0] + image[:, :, -1]) / 2).reshape(2, -1))


def test_it_has_no_thumbnails_no_near_duplicates_and_no_feature_maps():
    sound, values = KINDS["sound"], np.zeros((2, SIZE, SIZE, 3), np.uint8)
    assert sound.thumbnails(values) is None
    assert sound.fingerprint(values[0]) is None
    assert not sound.is_feature_map(sound.tensor("sound"))
    assert KINDS["image"].is_feature_map(KINDS["image"].tensor("image"))
    assert [each[:3] for each in KINDS["image"].thumbnails(values)] == [b"\xff\xd8\xff"] * 2


class AnyInputs(Encoder):
    encoder: Literal["any"] = "any"

    def conflict_with(self, inputs):
        return None

    def features(self, inputs, tensors, heads, precision, *, folded):
        raise NotImplementedError


def config_of(kind, **train):
    """Return the validated configuration of a model of numbers with another kind of input."""
    values = compose("experiment=numbers").model_dump()
    del values["inputs"], values["model"]
    whole = values | {"inputs": {"sound": kind}, "model": AnyInputs(), "train": values["train"] | train}
    return Config.model_validate(whole)


@pytest.mark.parametrize(("kind", "key", "value"), [
    (Spectrogram(), "augment", 0.5),
    (Spectrogram(), "flip_tta", True),
    (Louder(), "flip_tta", True),
])  # fmt: skip
def test_settings_that_would_do_nothing_are_refused(kind, key, value):
    config_of(kind)
    with pytest.raises(ValueError, match=f"train.{key} does nothing to the inputs sound: turn it off"):
        config_of(kind, **{key: value})


def test_an_input_that_can_be_augmented_may_be():
    assert config_of(Louder(), augment=0.5).train.augment == 0.5
