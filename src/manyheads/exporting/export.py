"""Export of a saved model: written, run, compared with the model, described, and kept if both agree."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from manyheads.errors import ConfigError, IntegrityError
from manyheads.exporting import parity
from manyheads.exporting.description import described
from manyheads.exporting.formats import DESCRIPTION, FORMATS, Arrays, Run
from manyheads.exporting.parity import Parity
from manyheads.modeling.inference import PREDICTION_BATCH, Predictor
from manyheads.modeling.saving import SavedModel
from manyheads.runtime.files import atomic_write
from manyheads.runtime.hardware import fastest_precision
from manyheads.runtime.tensorflow import buffered_output

if TYPE_CHECKING:
    import keras

    from manyheads.data.subsets import Subset
    from manyheads.datasets import Documentation

SAMPLES = 256
"""Number of samples that an export is compared on."""


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


def export(
    load: Callable[[], SavedModel], format_name: str, target: Path, subset: Subset, documentation: Documentation
) -> Parity:
    """Export a model into a folder, which is written as a whole or not at all.

    Args:
        load: Returns the model; it is called after the target is checked.
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
    saved = load()
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
            others = " or ".join(name for name in FORMATS if name != format_name)
            raise ConfigError(
                f"this model cannot be exported to {format_name}: {_reason(error)}; try {others}"
            ) from error
        if set(answers) != set(network.output):
            raise IntegrityError(f"the export answers {', '.join(answers)} instead of {', '.join(network.output)}")
        expected = Predictor(saved.keras_model, saved.card.heads, "float32", saved.card.inputs)(inputs)
        differences = parity.differences(saved.card.heads, expected, answers, chosen.paths)
        parity.require_within_tolerance(differences)
        of_predict = None
        if saved.card.precision == fastest_precision() == "mixed_bfloat16":
            of_predict = parity.differences(saved.card.heads, saved.predictor()(inputs), answers, chosen.paths)
        found = Parity(len(chosen), differences, of_predict)
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
        return f"it needs the operation {operation[1]}, {cause}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
