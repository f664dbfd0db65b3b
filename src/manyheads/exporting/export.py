"""Export of a saved model: written, run, compared with the model, described, and kept if both agree."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from manyheads.errors import ConfigError, IntegrityError
from manyheads.exporting import parity
from manyheads.exporting.formats import DESCRIPTION, FORMATS, Arrays, Run
from manyheads.exporting.parity import Difference
from manyheads.modeling.inference import PREDICTION_BATCH, Predictor
from manyheads.modeling.saving import ModelCard, SavedModel
from manyheads.runtime.files import atomic_write
from manyheads.runtime.hardware import fastest_precision
from manyheads.runtime.tensorflow import buffered_output

if TYPE_CHECKING:
    import keras

    from manyheads.data.subsets import Subset
    from manyheads.datasets import Documentation
    from manyheads.heads import Outputs

SAMPLES = 256
"""Number of samples that an export is compared on."""


class Export(NamedTuple):
    """What an export was found to be.

    Attributes:
        differences: From the model in float32, by head.
        of_predict: Differences of the export from what ``predict`` answers on this machine, by head, if it computes in
            bfloat16; otherwise None.
        samples: Number of samples that were compared.
    """

    differences: Mapping[str, Difference]
    of_predict: Mapping[str, Difference] | None
    samples: int


def answering_network(saved: SavedModel) -> keras.Model:
    """Return a model as it is exported: from packed inputs to the answers of all heads; see ``Head.answers``.

    A text has the length that it is packed with, because answers depend on the padding.
    """
    import keras

    inputs = [keras.Input(kind.shape, dtype=kind.dtype, name=name) for name, kind in saved.card.inputs.items()]
    given = inputs if len(inputs) > 1 else inputs[0]
    outputs = saved.keras_model(given)
    answers: dict[str, keras.KerasTensor] = {}
    for head in saved.card.heads.values():
        answers |= head.answers({name: outputs[name] for name in head.output_names(outputs)})
    return keras.Model(given, answers)


def export(saved: SavedModel, format_name: str, target: Path, subset: Subset, documentation: Documentation) -> Export:
    """Export a model into a folder, which is written as a whole or not at all.

    Args:
        saved: The model.
        format_name: One of ``FORMATS``.
        target: The folder; an earlier export of the same format is replaced.
        subset: Samples to compare on; ``SAMPLES`` of them are taken, evenly from first to last.
        documentation: Of the data of the training.

    Raises:
        ConfigError: The target is something else, or the model cannot be written or run in this format.
        IntegrityError: The export is over the tolerance.
        MachineError: The folder cannot be written, or a package is missing.
    """
    form = FORMATS[format_name]
    form.require_packages()
    require_replaceable(target, format_name)
    chosen = subset.take(np.linspace(0, len(subset) - 1, min(SAMPLES, len(subset))).astype(np.int64))
    inputs = {name: values[chosen.rows] for name, values in subset.inputs.items()}
    network = answering_network(saved)
    with atomic_write(target) as folder:
        folder.mkdir()
        try:
            with buffered_output():
                form.write(network, folder)
                answers = _in_batches(form.open(folder), inputs)
        except OSError:
            raise  # for atomic_write
        except Exception as error:  # converters and runtimes raise all types
            raise ConfigError(f"this model cannot be exported to {format_name}: {_reason(error)}") from error
        if set(answers) != set(network.output):
            raise IntegrityError(f"the export answers {', '.join(answers)} instead of {', '.join(network.output)}")
        expected = Predictor(saved.keras_model, saved.card.heads, "float32", saved.card.inputs)(inputs)
        found = compare(saved.card, expected, answers, chosen.paths)
        parity.require_within_tolerance(found.differences)
        if saved.card.precision == fastest_precision() == "mixed_bfloat16":
            of_predict = saved.predictor()(inputs)
            found = found._replace(of_predict=compare(saved.card, of_predict, answers, chosen.paths).differences)
        description = json.dumps(described(saved.card, format_name, network, found, documentation), indent=2)
        form.describe(folder, description)
        (folder / DESCRIPTION).write_text(description + "\n", encoding="utf-8")
    return found


def require_replaceable(target: Path, format_name: str) -> None:
    """Raise an error if a path is taken by anything but an export of this format or an empty folder.

    Raises:
        ConfigError: It is.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        replaceable = json.loads((target / DESCRIPTION).read_text(encoding="utf-8"))["format"] == format_name
    except (OSError, ValueError, KeyError, TypeError):
        replaceable = False
    if not replaceable:
        raise ConfigError(f"{target} exists and is no export to {format_name}: name another folder with --output")


def _in_batches(run: Run, inputs: Arrays) -> Arrays:
    """Return the answers to all samples; the first batch is a single sample, to try that the batch axis is free."""
    n = len(next(iter(inputs.values())))
    ends = [0, *range(1, n, PREDICTION_BATCH), n]
    batches = [
        run({name: values[start:end] for name, values in inputs.items()}) for start, end in itertools.pairwise(ends)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _reason(error: Exception) -> str:
    """Return in a line why a model could not be written or run; the operation, if the runtime names it."""
    if operation := re.search(r"Node number \d+ \((\w+)\) failed", str(error)):
        flex = operation[1].startswith("Flex")
        cause = "which is TensorFlow's and runs only with the Flex delegate" if flex else "which the runtime cannot run"
        return f"it needs the operation {operation[1]}, {cause}; try {' or '.join(set(FORMATS) - {'litert'})}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def compare(card: ModelCard, outputs: Mapping[str, Outputs], answers: Arrays, samples: list[str]) -> Export:
    """Compare answers with the outputs of a ``Predictor``.

    Args:
        card: The description of the model.
        outputs: Each head's outputs side by side.
        answers: The answers by name, shape (n, units).
        samples: Name of each sample.
    """
    differences = {}
    for name, head in card.heads.items():
        expected = parity.expected_answers(head, outputs[name], head.output_names(answers))
        differences[name] = parity.difference(head, expected, answers, samples)
    return Export(differences, None, len(samples))


def described(
    card: ModelCard, format_name: str, network: keras.Model, found: Export, documentation: Documentation
) -> dict[str, Any]:
    """Return the description of an export as a JSON value, for people and programs without this package."""
    inputs = {
        name: {"dtype": kind.dtype, "shape": [None, *kind.shape], "instructions": kind.instructions}
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
        "from_the_model_in_float32": {name: each.summary() for name, each in found.differences.items()},
    }
    if found.of_predict:
        measured["from_predict_in_bfloat16"] = {name: each.summary() for name, each in found.of_predict.items()}
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
            "tensorflow": importlib.import_module("tensorflow").__version__,
        },
    }
