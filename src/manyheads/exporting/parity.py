"""How far the answers of an export are from those of its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from manyheads.errors import IntegrityError

if TYPE_CHECKING:
    from manyheads.heads import Head, Outputs

Answers = Mapping[str, npt.NDArray[Any]]

TOLERANCE = 1e-3
"""Largest difference of a number, in the label's unit, from the model in float32."""

RELATIVE_TOLERANCE = 1e-5
"""The same as a share of the number, for numbers above 100: float32 has seven digits."""


class Difference(NamedTuple):
    """How the answers to one head differ from expected answers.

    Attributes:
        changed_classes: Number of samples with another class, or None if the head has no classes.
        largest: Largest difference of a number; numbers are values in the label's unit, probabilities, and others.
        mean: Mean difference of the values, or of the probabilities.
        problem: What is over the tolerance, with the sample, or an empty text.
    """

    changed_classes: int | None
    largest: float
    mean: float
    problem: str

    def summary(self) -> dict[str, Any]:
        """Return the numbers by name, for the description of an export."""
        counted = {} if self.changed_classes is None else {"changed_classes": self.changed_classes}
        return {**counted, "largest_difference": self.largest, "mean_difference": self.mean}


class Parity(NamedTuple):
    """How an export differs from its model.

    Attributes:
        samples: Number of samples that were compared.
        from_model: Differences from the model in float32, by head.
        from_predict: Differences from what ``predict`` answers on this machine, by head; None unless it computes in
            bfloat16.
    """

    samples: int
    from_model: Mapping[str, Difference]
    from_predict: Mapping[str, Difference] | None


def expected_answers(head: Head, outputs: Outputs, names: list[str]) -> dict[str, npt.NDArray[np.float64]]:
    """Return what an exact export answers, see ``Head.answers``, from a head's outputs in NumPy.

    Args:
        head: The head.
        outputs: From a ``Predictor``, shape (n, units).
        names: Names of the answers, ``Head.output_names``.

    Returns:
        For each name shape (n, units).
    """
    main = head.probabilities(outputs) if head.class_names else head.values(outputs)
    expected = {head.name: np.asarray(main, dtype=np.float64).reshape(len(outputs), -1)}
    start = head.output_units[""]
    for name in names[1:]:
        units = head.output_units[name.removeprefix(head.name)]
        expected[name] = outputs[:, start : start + units].astype(np.float64)
        start += units
    return expected


def difference(head: Head, expected: Answers, answers: Answers, samples: list[str]) -> Difference:
    """Compare the answers to one head with expected answers.

    Args:
        head: The head.
        expected: From ``expected_answers``.
        answers: The answers by name.
        samples: Name of each sample.
    """
    for name, values in expected.items():
        if answers[name].shape != values.shape:
            raise IntegrityError(f"the answer {name} has shape {answers[name].shape} instead of {values.shape}")
    problems, largest = [], 0.0
    changed = None
    if head.class_names:
        classes, wanted = (np.asarray(each[head.name]).argmax(axis=1) for each in (answers, expected))
        differ = np.flatnonzero(classes != wanted)
        changed = len(differ)
        if changed:
            names = head.class_names
            problems.append(
                f"{samples[differ[0]]} is {names[classes[differ[0]]]} instead of {names[wanted[differ[0]]]}"
            )
    for name, values in expected.items():
        distances = np.abs(answers[name] - values)
        largest = max(largest, float(np.nan_to_num(distances, nan=np.inf).max()))
        # Negated, so that NaN is over the tolerance.
        over = ~(distances <= np.maximum(TOLERANCE, RELATIVE_TOLERANCE * np.abs(values)))
        if over.any():
            worst = np.unravel_index(np.nan_to_num(np.where(over, distances, 0), nan=np.inf).argmax(), over.shape)
            shown = f"{answers[name][worst]:.6g} instead of {values[worst]:.6g}"
            problems.append(f"{name} of {samples[worst[0]]} is {shown}")
    mean = float(np.abs(answers[head.name] - expected[head.name]).mean())
    return Difference(changed, largest, mean, "; ".join(problems))


def differences(
    heads: Mapping[str, Head], outputs: Mapping[str, Outputs], answers: Answers, samples: list[str]
) -> dict[str, Difference]:
    """Compare the answers to all heads with the outputs of a ``Predictor``.

    Args:
        heads: The heads by name.
        outputs: Each head's outputs side by side, shape (n, units).
        answers: The answers by name, shape (n, units).
        samples: Name of each sample.
    """
    return {
        name: difference(head, expected_answers(head, outputs[name], head.output_names(answers)), answers, samples)
        for name, head in heads.items()
    }


def require_within_tolerance(differences: Mapping[str, Difference]) -> None:
    """Raise an error if a class changes, or a number differs by more than the tolerance.

    Raises:
        IntegrityError: The message names heads, samples and differences.
    """
    if problems := [f"{name}: {each.problem}" for name, each in differences.items() if each.problem]:
        raise IntegrityError(
            f"the export does not answer as the model does, so it is not kept ({'. '.join(problems)}; no class may "
            f"change, no number by more than {TOLERANCE:g}): try another format or other versions of the converter"
        )
