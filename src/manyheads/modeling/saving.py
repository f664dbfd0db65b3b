"""Saving and loading of a model: files with a common digest, without foreign code."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from manyheads.errors import IntegrityError, ManyheadsError
from manyheads.heads import Heads
from manyheads.inputs import AnyInput
from manyheads.modeling.build import mismatch
from manyheads.modeling.inference import Predictor
from manyheads.modeling.novelty import Directions, Reference
from manyheads.runtime import tensorflow
from manyheads.runtime.exhaustion import raise_if_exhausted
from manyheads.runtime.files import sha256_of
from manyheads.runtime.hardware import Precision

if TYPE_CHECKING:
    import keras

DIRECTIONS = "directions.npy"

FOREIGN_LAYERS = {
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),  # run what is not Keras
    *("StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"),  # may read any file of the machine
}
"""Keras's own layers that a model of this project never has."""


class ModelCard(BaseModel):
    """The description of a saved model's inputs and outputs, in the file ``model.json`` beside it.

    Attributes:
        data: Name of the dataset of the training.
        inputs: The inputs by name.
        columns: The columns of a table for inputs that have other names, ``data.columns``.
        heads: The heads by name.
        precision: Dtype policy of the training; the saved weights and layers are float32.
        reference: What new samples are compared with, or None for a model that does not say it.
        digest: SHA-256 of the files, without the digest itself; ``save`` sets it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    inputs: dict[str, AnyInput]
    columns: dict[str, str | tuple[str, ...]] = {}
    heads: Heads
    precision: Precision = "float32"
    reference: Reference | None = None
    digest: str = ""


class SavedModel(NamedTuple):
    """A loaded model, its card, and the directions of its features in training, if it has them; see ``novelty``."""

    keras_model: keras.Model
    card: ModelCard
    directions: Directions | None = None

    def predictor(self) -> Predictor:
        """Return the model as a function of arrays."""
        return Predictor(self.keras_model, self.card.heads, self.card.precision, self.card.inputs)


def save(folder: Path, model: keras.Model, card: ModelCard, directions: Directions | None = None) -> None:
    """Write ``model.keras``, ``model.json`` and ``directions.npy``, with a digest of all, into an existing folder.

    The same model and card give the same bytes, so that DVC recognizes an equal model.

    Args:
        folder: The folder.
        model: The network for inference.
        card: The description of the model.
        directions: The directions of the model's features in training; without them there is no ``directions.npy``.
    """
    path = folder / "model.keras"
    model.save(path)
    _without_dates(path)
    if directions is not None:
        np.save(folder / DIRECTIONS, directions, allow_pickle=False)
    values = json.loads(card.model_dump_json(exclude={"digest"}))
    values["digest"] = _digest(values, path)
    (folder / "model.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _without_dates(path: Path) -> None:
    """Rewrite a saved model without the time of saving, in its metadata and in the dates of the zip members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(members["metadata.json"])
    del metadata["date_saved"]
    members["metadata.json"] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)


def _digest(values: Mapping[str, Any], path: Path) -> str:
    """Return the SHA-256 of a card, without its digest, of the model file, and of the directions if there are any."""
    card = json.dumps({key: value for key, value in values.items() if key != "digest"}, sort_keys=True)
    files = [path, *filter(Path.exists, [path.with_name(DIRECTIONS)])]
    return hashlib.sha256("\n".join([card, *map(sha256_of, files)]).encode()).hexdigest()


def read_card(folder: Path, extensions: Sequence[str] = ()) -> ModelCard:
    """Read the card of a saved model and verify its files, without TensorFlow.

    Args:
        folder: A folder from ``save``.
        extensions: Packages that a user's own heads and inputs may be imported from.

    Raises:
        IntegrityError: A file is missing or damaged, the files belong to different models, or the network has layers
            from outside Keras.
        MachineError: A file cannot be read.
    """
    path = folder / "model.keras"
    try:
        values = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("digest") != _digest(values, path):
            raise IntegrityError(
                f"{folder}: model.json and model.keras are not of one model, or one of them was changed: train it again"
            )
        card = ModelCard.model_validate(values, context={"extensions": extensions})
        with zipfile.ZipFile(path) as archive:
            _refuse_foreign_classes(json.loads(archive.read("config.json")), path)
    except FileNotFoundError as error:
        raise IntegrityError(f"{error.filename} is missing: train a model first, with `make repro`") from None
    except ManyheadsError:
        raise
    except Exception as error:  # a damaged zip and its JSON raise a dozen types
        raise_if_exhausted(path, error)
        raise IntegrityError(f"{folder} holds no complete model ({_first_line(error)}): train it again") from error
    return card


def load(folder: Path, extensions: Sequence[str] = ()) -> SavedModel:
    """Load a saved model without running code from its files.

    Args:
        folder: A folder from ``save``.
        extensions: Packages that a user's own heads and inputs may be imported from.

    Raises:
        IntegrityError: As in ``read_card``, or the card does not match the network.
    """
    card = read_card(folder, extensions)
    path = folder / "model.keras"
    tensorflow.require_tensorflow()
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises a dozen types for damaged files
        raise_if_exhausted(path, error)
        raise IntegrityError(f"{path} cannot be loaded ({_first_line(error)}): train it again") from error
    if wrong := mismatch(model, card.inputs, card.heads.values()):
        raise IntegrityError(f"{folder / 'model.json'} does not match {path.name}: {wrong}; train it again")
    directions = None
    if (file := folder / DIRECTIONS).exists():
        try:
            directions = np.load(file, allow_pickle=False)
        except Exception as error:  # as above
            raise IntegrityError(f"{file} cannot be loaded ({_first_line(error)}): train it again") from error
    return SavedModel(model, card, directions)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"model.json: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def _refuse_foreign_classes(node: Any, path: Path) -> None:
    # Keras's safe mode rejects Lambda layers alone.
    if isinstance(node, Mapping):
        if "class_name" in node and "module" in node:
            module, name = node["module"], node["class_name"]
            foreign = module is not None and module != "keras" and not str(module).startswith("keras.")
            if foreign or name in FOREIGN_LAYERS:
                raise IntegrityError(
                    f"{path} holds {module}.{name}, which is not a plain Keras layer: load only models of this project"
                )
        for child in node.values():
            _refuse_foreign_classes(child, path)
    elif isinstance(node, list):
        for child in node:
            _refuse_foreign_classes(child, path)
