"""The description of an export: all that somebody needs who has the file alone."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING, Any

from manyheads.exporting import parity
from manyheads.exporting.formats import FORMATS

if TYPE_CHECKING:
    import keras

    from manyheads.datasets import Documentation
    from manyheads.exporting.parity import Parity
    from manyheads.modeling.saving import ModelCard


def described(
    card: ModelCard, format_name: str, network: keras.Model, found: Parity, documentation: Documentation
) -> dict[str, Any]:
    """Return the description of an export as a JSON value, for people and programs without this package."""
    import tensorflow as tf

    inputs = {
        name: {
            "dtype": kind.dtype,
            "shape": [None, *kind.shape],
            "instructions": kind.instructions,
            "settings": kind.model_dump(mode="json"),
            "columns": card.columns.get(name, name),
        }
        for name, kind in card.inputs.items()
    }
    heads = {}
    for name, head in card.heads.items():
        answers = {
            answer: {
                "shape": list(network.output[answer].shape),
                "meaning": head.answer_meanings[answer.removeprefix(name)],
            }
            for answer in head.output_names(network.output)
        }
        labels = {"classes": list(head.class_names)} if head.class_names else {"unit": head.label_unit}
        heads[name] = {**labels, "answers": answers}
    measured = {
        "samples": f"{found.samples} of the validation subset",
        "tolerance": f"no class may change, no number by more than {parity.TOLERANCE:g} or, above 100, by more than "
        f"{parity.RELATIVE_TOLERANCE:g} of it",
        "from_the_model_in_float32": {name: each.summary() for name, each in found.from_model.items()},
    }
    if found.from_predict:
        measured["from_predict_in_bfloat16"] = {name: each.summary() for name, each in found.from_predict.items()}
    packages = ("manyheads", "keras", *(name.replace("_", "-") for name in FORMATS[format_name].packages))
    return {
        "format": format_name,
        "data": card.data,
        "terms": documentation.terms,
        "out_of_scope": documentation.out_of_scope,
        "model_digest": card.digest,
        "inputs": inputs,
        "heads": heads,
        "parity": measured,
        "versions": {
            "python": sys.version.split()[0],
            **{name: importlib.metadata.version(name) for name in packages},
            "tensorflow": tf.__version__,
        },
    }
