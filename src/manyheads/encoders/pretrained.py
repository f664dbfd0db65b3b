"""Encoders of ``keras.applications``, with weights learned elsewhere."""

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
    """A network of ``keras.applications`` whose weights were learned elsewhere, trained on with all its layers.

    Those listed take plain 0-255 images, for they scale them themselves, and consist of Keras's own layers.

    Attributes:
        backbone: Name of the function in ``keras.applications``.
        weights: ``imagenet`` (downloaded once, and kept in ``~/.keras/models``), ``random``, or the path of a weights
            file of the backbone without its top.
        dropout: Share of the features dropped before the heads.
    """

    encoder: Literal["pretrained"] = "pretrained"
    backbone: Literal["EfficientNetV2B0", "MobileNetV3Large", "MobileNetV3Small"]
    weights: str = Field(min_length=1)
    dropout: float = Field(ge=0, lt=1)

    def image_features(
        self, images: keras.KerasTensor, heads: Sequence[str], precision: str, *, folded: bool
    ) -> dict[str, keras.KerasTensor]:
        """Return the same pooled features for every head; see ``Encoder.features``.

        Raises:
            ConfigError: The weights file is missing, or is not that of the backbone.
            MachineError: The weights cannot be downloaded.
        """
        import keras

        # For inference the weights are copied from the trained network.
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
            except Exception as error:  # Keras raises a bare Exception when a download fails
                reason = " ".join(str(error).split())
                raise MachineError(
                    f"the weights of {self.backbone} cannot be downloaded ({reason}): fetch the file where there is a "
                    "network and set model.weights to its path, or model.weights=random"
                ) from error
        if not Path(weights).is_file():
            raise ConfigError(f"model.weights={weights} is no file: give a weights file, imagenet or random")
        try:
            return make(weights=weights, **options)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"model.weights={weights} does not fit {self.backbone}: {reason}") from error
