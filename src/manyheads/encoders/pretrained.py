"""Pretrained networks of ``keras.applications`` as encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from manyheads.encoders.base import ImageEncoder
from manyheads.errors import ConfigError, MachineError

if TYPE_CHECKING:
    import keras


class PretrainedEncoder(ImageEncoder):
    """A pretrained network of ``keras.applications``; all its layers are fine-tuned.

    The listed networks take images with values from 0 to 255, which they scale themselves, and consist of Keras layers.

    Attributes:
        backbone: Name of the function in ``keras.applications``.
        weights: ``imagenet`` (downloaded once to ``~/.keras/models``), ``random``, or the path of a weights file of the
            backbone without its top.
        dropout: Share of the features dropped before the heads.
    """

    encoder: Literal["pretrained"] = "pretrained"
    backbone: Literal["EfficientNetV2B0", "MobileNetV3Large", "MobileNetV3Small"]
    weights: str = Field(min_length=1)
    dropout: float = Field(ge=0, lt=1)

    def image_features(
        self, images: keras.KerasTensor, heads: Sequence[str], precision: str, *, folded: bool
    ) -> dict[str, keras.KerasTensor]:
        """Return the same pooled features for every head; see ``ImageEncoder.image_features``.

        Raises:
            ConfigError: The weights file is missing or does not fit the backbone.
            MachineError: The weights cannot be downloaded.
        """
        import keras

        # An inference network gets its weights from the trained network.
        weights = "random" if folded else self.weights
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(precision)
        try:
            backbone = self._backbone(images, weights)
        finally:
            keras.config.set_dtype_policy(policy)
        x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pooled")(backbone.output)
        x = keras.layers.Dropout(self.dropout, dtype="float32", name="dropout")(x)
        return dict.fromkeys(heads, x)

    def _backbone(self, images: keras.KerasTensor, weights: str) -> keras.Model:
        import keras

        make = getattr(keras.applications, self.backbone)
        options = {"include_top": False, "input_tensor": images}
        if weights == "random":
            return make(weights=None, **options)
        if weights == "imagenet":
            try:
                return make(weights="imagenet", **options)
            except Exception as error:  # Keras raises Exception itself when a download fails
                reason = " ".join(str(error).split())
                raise MachineError(
                    f"the weights of {self.backbone} cannot be downloaded ({reason}): fetch the file where there is a "
                    "network and set model.weights to its path, or model.weights=random"
                ) from error
        if not Path(weights).is_file():
            raise ConfigError(f"model.weights={weights} is not a file: give a weights file, imagenet or random")
        try:
            return make(weights=weights, **options)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"model.weights={weights} does not fit {self.backbone}: {reason}") from error
