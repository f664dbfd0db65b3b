"""The model: built from an encoder and heads, compiled, folded for inference, saved and loaded.

Targets, losses, weights and metrics all go by the heads' names, and so do outputs, of which a head may have more than
one. Outputs are in the label's own unit, images are plain uint8 and texts token ids, so that whoever loads a saved
model needs little beside it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from manyheads.encoders.base import Encoder
from manyheads.errors import ConfigError, IntegrityError, MachineError
from manyheads.heads import AnyHead, Head, LabelStatistics, Outputs
from manyheads.inputs import AnyInput, Input
from manyheads.machine import Precision, fastest_precision

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from manyheads.objective import MultiHead

PREDICTION_BATCH = 256
IMAGES = 4  # dimensions of a batch of images


class ModelCard(BaseModel):
    """What is needed to feed a saved model and to read its outputs, kept beside it as ``model.json``.

    Attributes:
        data: Name of the dataset it was trained on.
        inputs: What it takes, by name.
        heads: Its heads.
        mirrored: Whether its predictions are means over an image and its mirror image.
        precision: Dtype policy that it was trained with; its weights are float32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    inputs: dict[str, AnyInput]
    heads: dict[str, AnyHead]
    mirrored: bool = False
    precision: Precision = "float32"


class SavedModel(NamedTuple):
    """A loaded model and its card."""

    keras_model: keras.Model
    card: ModelCard

    def predictor(self) -> Predictor:
        """Return the model as a function of arrays."""
        return Predictor(self.keras_model, self.card.heads, mirrored=self.card.mirrored, precision=self.card.precision)


def require_tensorflow() -> None:
    """Import Keras on TensorFlow without TensorFlow's announcements.

    Raises:
        MachineError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with _hushed():
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
    except ImportError as error:
        raise MachineError(
            f"TensorFlow is not installed ({error}): `make install`, or pip install 'manyheads[cpu]' (or [gpu])"
        ) from error


@contextmanager
def _hushed() -> Iterator[None]:
    """Hold back what is written to standard error below Python, and show it only if the body fails.

    TensorFlow's libraries log to it while they are loaded, before any setting of theirs counts.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(0)
            os.write(kept, written.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def build(
    encoder: Encoder,
    heads: Mapping[str, Head],
    losses: Mapping[str, str],
    statistics: Mapping[str, LabelStatistics],
    inputs: Mapping[str, Input],
    precision: str = "float32",
    *,
    folded: bool = False,
) -> keras.Model:
    """Build a functional model from the inputs to a dictionary of the heads' outputs.

    Args:
        encoder: Makes each head's features.
        heads: The heads by name.
        losses: Name of each head's loss; a head's activation follows it.
        statistics: LabelStatistics of each head's labels.
        inputs: What the model takes, by name.
        precision: Dtype policy of the hidden layers.
        folded: Build for inference; see ``Encoder.features``.

    Returns:
        A model that is not compiled. It takes its inputs by name, or in their order as a list, or the only one as it
        is; outputs go by name, as ``Head.outputs`` gives them, shape (batch, units), float32.

    Raises:
        ConfigError: The encoder cannot be built for inputs of this shape.
    """
    import keras

    tensors = {name: kind.tensor(name) for name, kind in inputs.items()}
    try:
        features = encoder.features(inputs, tensors, list(heads), precision, folded=folded)
    except ValueError as error:
        shapes = ", ".join(f"{name} {kind.shape}" for name, kind in inputs.items())
        raise ConfigError(f"pack ({shapes}) does not fit this model: {str(error).splitlines()[0]}") from error
    outputs: dict[str, keras.KerasTensor] = {}
    for name, head in heads.items():
        outputs |= head.outputs(features[name], name, losses[name], statistics[name])
    only, *more = tensors.values()
    # A dictionary of inputs would be taken apart in the order of the alphabet, and so would lists of arrays be.
    return keras.Model([only, *more] if more else only, outputs, name="manyheads")


def compile_heads(
    model: keras.Model,
    heads: Mapping[str, Head],
    losses: Mapping[str, str],
    weights: Mapping[str, float],
    statistics: Mapping[str, LabelStatistics],
    optimizer: keras.optimizers.Optimizer,
    weighting: Literal["fixed", "learned"] = "fixed",
    averaging: float = 0.0,
    incomplete: Collection[str] = (),
    form: str = "training_step",
) -> MultiHead:
    """Return ``model`` with its objective, compiled for training.

    Args:
        model: Built by ``build``; the result shares its layers.
        heads: The heads by name.
        losses: Name of each head's loss.
        weights: Weight of each head's loss, or where it starts if it is learned.
        statistics: LabelStatistics of each head's labels.
        optimizer: Changes the weights of the layers, and the learned weights of the losses.
        weighting: See ``MultiHead``.
        averaging: See ``MultiHead``.
        incomplete: See ``MultiHead``.
        form: How the objective reaches Keras, one of ``objective.FORMS``; it is the same in all of them.

    Raises:
        ConfigError: Losses, weights or outputs are those of other heads.
    """
    for what, mapping in (("losses", losses), ("weights", weights)):
        if set(mapping) != set(heads):
            raise ConfigError(f"{what} are for {', '.join(sorted(mapping))}; the heads are {', '.join(sorted(heads))}")
    from manyheads.objective import FORMS

    compiled = FORMS[form](
        model,
        {name: head.term(name, losses[name], statistics[name]) for name, head in heads.items()},
        weights,
        {name: head.training_metrics(name) for name, head in heads.items()},
        learned=weighting == "learned",
        averaging=averaging,
        incomplete=incomplete,
    )
    compiled.compile(optimizer=optimizer)
    # TensorFlow traces a step that makes variables twice, and tracing takes seconds.
    optimizer.build(compiled.trainable_variables)
    return compiled


def fold(trained: keras.Model, folded: keras.Model) -> None:
    """Copy the weights of ``trained`` into ``folded``, the same network built for inference.

    A convolution ``x_conv`` of the folded model takes in the ``x_norm`` that followed it:
    kernel * gamma / sqrt(variance + epsilon), and beta - mean * gamma / sqrt(variance + epsilon) as its bias. All
    other layers take their weights over as they are.
    """
    layers = {layer.name: layer for layer in trained.layers}
    for layer in folded.layers:
        if not layer.weights:
            continue
        norm = layers.get(layer.name.removesuffix("_conv") + "_norm")
        if len(layer.weights) == len(layers[layer.name].weights):
            layer.set_weights(layers[layer.name].get_weights())
        elif norm is not None:
            from manyheads.encoders.normalisation import EPSILON

            (kernel,) = layers[layer.name].get_weights()
            gamma, beta, mean, variance = (
                np.asarray(weight) for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
            )
            factor = gamma / np.sqrt(variance + EPSILON)
            layer.set_weights([kernel * factor, beta - mean * factor])


def save(folder: Path, model: keras.Model, card: ModelCard) -> None:
    """Write ``model.keras`` and ``model.json`` into an existing folder."""
    model.save(folder / "model.keras")
    (folder / "model.json").write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load(folder: Path, extensions: Sequence[str] = ()) -> SavedModel:
    """Load a saved model without running any code that it brings.

    Args:
        folder: What ``save`` filled.
        extensions: Packages that heads and inputs of a user's own may be imported from.

    Raises:
        IntegrityError: A file is missing or damaged, or the model holds anything but Keras's own layers.
    """
    path = folder / "model.keras"
    try:
        card = ModelCard.model_validate_json(
            (folder / "model.json").read_text(encoding="utf-8"), context={"extensions": extensions}
        )
        with zipfile.ZipFile(path) as archive:
            _refuse_foreign_classes(json.loads(archive.read("config.json")), path)
    except FileNotFoundError as error:
        raise IntegrityError(f"{error.filename} is missing: train a model first, with `make repro`") from None
    except (ValidationError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise IntegrityError(f"{folder} holds no whole model ({str(error).splitlines()[0]}): train it anew") from error
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise IntegrityError(f"{path} cannot be loaded ({str(error).splitlines()[0]}): train it anew") from error
    known = {output for name, head in card.heads.items() for output in head.output_names(name, model.output)}
    if set(model.output) != known:
        raise IntegrityError(f"{path} has outputs {sorted(model.output)}, model.json has heads {sorted(card.heads)}")
    return SavedModel(model, card)


def _refuse_foreign_classes(node: Any, path: Path) -> None:
    # Keras's safe mode refuses Lambda layers; this refuses everything that would be imported from outside Keras, and
    # the layer that runs a TensorFlow graph from a folder.
    if isinstance(node, Mapping):
        if "class_name" in node and "module" in node:
            module, name = node["module"], node["class_name"]
            foreign = module is not None and module != "keras" and not str(module).startswith("keras.")
            if foreign or name in ("Lambda", "TFSMLayer"):
                raise IntegrityError(
                    f"{path} holds {module}.{name}, which is not a plain Keras layer: it is not loaded"
                )
        for child in node.values():
            _refuse_foreign_classes(child, path)
    elif isinstance(node, list):
        for child in node:
            _refuse_foreign_classes(child, path)


def _in_bfloat16(network: keras.Model) -> keras.Model:
    """Return a copy of a network whose layers on images compute in bfloat16, as they do in such a training.

    Weights, pooled features and outputs are float32 there, too.
    """
    import keras

    def copied(layer: keras.Layer) -> keras.Layer:
        settings = layer.get_config()
        if len(layer.output.shape) == IMAGES:
            settings["dtype"] = "mixed_bfloat16"
        return type(layer).from_config(settings)

    copy = keras.models.clone_model(network, clone_function=copied)
    copy.set_weights(network.get_weights())
    return copy


class Predictor:
    """A model as a function of arrays, traced once for batches of every length."""

    def __init__(
        self,
        model: keras.Model,
        heads: Mapping[str, Head],
        *,
        mirrored: bool = False,
        precision: Precision = "float32",
    ) -> None:
        """Prepare a model.

        Args:
            model: From ``build`` or ``load``.
            heads: Its heads by name.
            mirrored: Give the mean over each image and its mirror image, in twice the time.
            precision: With ``mixed_bfloat16`` layers on images compute in bfloat16 where the processor does that fast,
                in a third of the time: outputs differ in the third digit, as they do in such a training.
        """
        import tensorflow as tf

        self.heads = dict(heads)
        if precision == fastest_precision() == "mixed_bfloat16":
            model = _in_bfloat16(model)

        def fed(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            in_order = [inputs[tensor.name] for tensor in model.inputs]
            named: dict[str, tf.Tensor] = model(in_order if len(in_order) > 1 else in_order[0], training=False)
            return named

        def outputs(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            straight = fed(inputs)
            if not mirrored:
                return straight
            mirror = fed({name: x[:, :, ::-1] if x.shape.rank == IMAGES else x for name, x in inputs.items()})
            return {name: (values + mirror[name]) / 2 for name, values in straight.items()}

        signature = {tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs}
        self._outputs = tf.function(outputs, input_signature=[signature])

    def __call__(
        self, inputs: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.integer[Any]] | None = None
    ) -> dict[str, Outputs]:
        """Return each head's outputs side by side, shape (n, units), float32.

        Args:
            inputs: Each input's samples, shape (n, ...); a memory map is read batch by batch.
            rows: Which of the samples, and in which order; all by default.
        """
        collected: dict[str, list[Outputs]] = {name: [] for name in self.heads}
        rows = np.arange(len(next(iter(inputs.values())))) if rows is None else rows
        for start in range(0, len(rows), PREDICTION_BATCH):
            chosen = rows[start : start + PREDICTION_BATCH]
            batch = self._outputs({name: values[chosen] for name, values in inputs.items()})
            values = {name: output.numpy() for name, output in batch.items()}
            for name, head in self.heads.items():
                collected[name].append(side_by_side(head, name, values))
        return {name: np.concatenate(parts) for name, parts in collected.items()}


def side_by_side(head: Head, name: str, outputs: Mapping[str, npt.NDArray[Any]]) -> Outputs:
    """Return those of a model's outputs that are a head's as columns, shape (n, units), float32."""
    return np.concatenate([outputs[output] for output in head.output_names(name, outputs)], axis=1, dtype=np.float32)
