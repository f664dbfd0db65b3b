"""The model: built from an encoder and heads, compiled, folded for inference, saved and loaded.

Targets, losses, weights and metrics all go by the heads' names, and so do outputs, of which a head may have more than
one. Outputs are in the label's own unit, images are plain uint8 and texts token ids, so that whoever loads a saved
model needs little beside it.
"""

from __future__ import annotations

import hashlib
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
from manyheads.files import sha256_of
from manyheads.heads import AnyHead, Head, LabelStatistics, Outputs
from manyheads.inputs import AnyInput, Input
from manyheads.machine import Precision, fastest_precision

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from manyheads.objective import MultiHead

PREDICTION_BATCH = 64
"""Samples that are predicted together. Always so many, for in batches of other sizes the processor's kernels add up in
another order, and a photograph would get other last digits alone than among others."""
IMAGES = 4  # dimensions of a batch of images


class ModelCard(BaseModel):
    """What is needed to feed a saved model and to read its outputs, kept beside it as ``model.json``.

    Attributes:
        data: Name of the dataset it was trained on.
        inputs: What it takes, by name.
        heads: Its heads.
        precision: Dtype policy that it was trained with; the saved weights and layers are float32.
        digest: SHA-256 of the two files, this one without the digest; ``save`` sets it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    inputs: dict[str, AnyInput]
    heads: dict[str, AnyHead]
    precision: Precision = "float32"
    digest: str = ""


class SavedModel(NamedTuple):
    """A loaded model and its card."""

    keras_model: keras.Model
    card: ModelCard

    def predictor(self) -> Predictor:
        """Return the model as a function of arrays."""
        return Predictor(self.keras_model, self.card.heads, self.card.precision)


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
    tensors = {name: kind.tensor(name) for name, kind in inputs.items()}
    try:
        features = encoder.features(inputs, tensors, list(heads), precision, folded=folded)
    except ValueError as error:
        shapes = ", ".join(f"{name} {kind.shape}" for name, kind in inputs.items())
        raise ConfigError(f"pack ({shapes}) does not fit this model: {str(error).splitlines()[0]}") from error
    outputs: dict[str, keras.KerasTensor] = {}
    for name, head in heads.items():
        outputs |= head.outputs(features[name], name, losses[name], statistics[name])
    network = _functional(list(tensors.values()), outputs, "manyheads")
    if misfit := _misfit(network, inputs, heads):
        raise ConfigError(f"the model's layers are not what its heads and inputs say: {misfit}")
    return network


def _functional(inputs: Sequence[keras.KerasTensor], outputs: dict[str, keras.KerasTensor], name: str) -> keras.Model:
    import keras

    # A dictionary of inputs would be taken apart in the order of the alphabet, and so would lists of arrays be.
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=name)


def averaged_over_flip(network: keras.Model) -> keras.Model:
    """Return a network whose outputs are the means over each image and its mirror image, left for right.

    Args:
        network: From ``build`` or ``load``; the result shares its layers. Inputs that are no images stay as they are.

    Returns:
        A model with the same inputs and outputs. The mirror image is an operation of its graph, so that every program
        that loads the saved model gets the same outputs; it takes twice the time.
    """
    import keras

    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in network.inputs]
    flipped = [keras.ops.flip(tensor, axis=2) if len(tensor.shape) == IMAGES else tensor for tensor in inputs]
    straight, mirrored = (network(each if len(each) > 1 else each[0]) for each in (inputs, flipped))
    outputs = {
        name: keras.layers.Average(dtype="float32", name=name)([straight[name], mirrored[name]]) for name in straight
    }
    return _functional(inputs, outputs, f"{network.name}_averaged_over_flip")


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
    """Write ``model.keras`` and ``model.json``, bound to each other by a digest, into an existing folder.

    The same model and card give the same bytes, so that DVC takes a model that was trained again for what it is.
    """
    path = folder / "model.keras"
    model.save(path)
    _without_dates(path)
    values = json.loads(card.model_dump_json(exclude={"digest"}))
    values["digest"] = _digest(values, path)
    (folder / "model.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _without_dates(path: Path) -> None:
    """Rewrite a saved model without the time at which it was saved, which stands in it twice."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    del metadata["date_saved"]
    members["metadata.json"] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)


def _digest(values: Mapping[str, Any], path: Path) -> str:
    """Return the SHA-256 of a card, its digest left out, and of the file of its model."""
    card = json.dumps({key: value for key, value in values.items() if key != "digest"}, sort_keys=True)
    return hashlib.sha256(f"{card}\n{sha256_of(path)}".encode()).hexdigest()


def load(folder: Path, extensions: Sequence[str] = ()) -> SavedModel:
    """Load a saved model without running any code that it brings.

    Args:
        folder: What ``save`` filled.
        extensions: Packages that heads and inputs of a user's own may be imported from.

    Raises:
        IntegrityError: A file is missing or damaged, the two are not of one model, the card does not say what the
            network is, or the network holds anything but Keras's own layers.
    """
    path = folder / "model.keras"
    try:
        values = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("digest") != _digest(values, path):
            raise IntegrityError(
                f"{folder}: model.json and model.keras are not of one model, or one of them was changed: train it anew"
            )
        card = ModelCard.model_validate(values, context={"extensions": extensions})
        with zipfile.ZipFile(path) as archive:
            _refuse_foreign_classes(json.loads(archive.read("config.json")), path)
    except FileNotFoundError as error:
        raise IntegrityError(f"{error.filename} is missing: train a model first, with `make repro`") from None
    except (ValidationError, zipfile.BadZipFile, KeyError, ValueError, RecursionError, OSError) as error:
        raise IntegrityError(f"{folder} holds no whole model ({_first_line(error)}): train it anew") from error
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise IntegrityError(f"{path} cannot be loaded ({_first_line(error)}): train it anew") from error
    if misfit := _misfit(model, card.inputs, card.heads):
        raise IntegrityError(f"{folder / 'model.json'} does not say what {path.name} is: {misfit}; train it anew")
    return SavedModel(model, card)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"model.json: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def _misfit(model: keras.Model, inputs: Mapping[str, Input], heads: Mapping[str, Head]) -> str:
    """Return what of a network's inputs and outputs is not what is said of them, or an empty text."""
    taken = [f"{tensor.name} {tensor.dtype} {tuple(tensor.shape[1:])}" for tensor in model.inputs]
    said = [kind.tensor(name) for name, kind in inputs.items()]
    expected = [f"{tensor.name} {tensor.dtype} {tuple(tensor.shape[1:])}" for tensor in said]
    if taken != expected:
        return f"the network takes {', '.join(taken)}, the inputs are {', '.join(expected)}"
    outputs = model.output if isinstance(model.output, Mapping) else {}
    units = {name: f"{output.dtype} {tuple(output.shape[1:])}" for name, output in outputs.items()}
    known: set[str] = set()
    for name, head in heads.items():
        names = head.output_names(name, outputs)
        known.update(names)
        for output in names:
            wanted = f"float32 ({head.output_units[output.removeprefix(name)]},)"
            if units.get(output) != wanted:
                return f"the head {name} needs an output {output} {wanted}, the network has {units.get(output, 'none')}"
    if further := sorted(set(outputs) - known):
        return f"the network has outputs {', '.join(further)} that are of no head"
    return ""


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

    def copied(operation: keras.Operation) -> keras.Operation:
        settings = operation.get_config()
        if isinstance(operation, keras.Layer) and len(operation.output.shape) == IMAGES:
            settings["dtype"] = "mixed_bfloat16"
        return type(operation).from_config(settings)

    copy = keras.models.clone_model(network, clone_function=copied, recursive=True)
    copy.set_weights(network.get_weights())
    return copy


class Predictor:
    """A model as a function of arrays, in batches of one size."""

    def __init__(
        self,
        model: keras.Model,
        heads: Mapping[str, Head],
        precision: Precision = "float32",
    ) -> None:
        """Prepare a model.

        Args:
            model: From ``build`` or ``load``.
            heads: Its heads by name.
            precision: With ``mixed_bfloat16`` layers on images compute in bfloat16 where the processor does that fast,
                in a third of the time: outputs differ in the third digit, as they do in such a training.
        """
        import tensorflow as tf

        self.heads = dict(heads)
        if precision == fastest_precision() == "mixed_bfloat16":
            model = _in_bfloat16(model)

        def outputs(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            in_order = [inputs[tensor.name] for tensor in model.inputs]
            named: dict[str, tf.Tensor] = model(in_order if len(in_order) > 1 else in_order[0], training=False)
            return named

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
            filled = np.resize(chosen, PREDICTION_BATCH)  # a short one with its own samples, again
            batch = self._outputs({name: values[filled] for name, values in inputs.items()})
            values = {name: output.numpy()[: len(chosen)] for name, output in batch.items()}
            for name, head in self.heads.items():
                collected[name].append(side_by_side(head, name, values))
        return {name: np.concatenate(parts) for name, parts in collected.items()}


def side_by_side(head: Head, name: str, outputs: Mapping[str, npt.NDArray[Any]]) -> Outputs:
    """Return those of a model's outputs that are a head's as columns, shape (n, units), float32."""
    return np.concatenate([outputs[output] for output in head.output_names(name, outputs)], axis=1, dtype=np.float32)
