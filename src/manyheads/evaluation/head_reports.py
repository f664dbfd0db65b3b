"""Reports of one head on the test subset, as text for people and as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from manyheads.evaluation.groups import comparable_metrics
from manyheads.heads import Head, Labels, Outputs
from manyheads.heads.metrics import Metric

STRATUM_WIDTH = 12
SUPPORT_WIDTH = 9

DIGITS = 3
"""Digits after the point of every metric in a text report."""

TOTAL = "all"
"""Name of the row for all samples."""


class HeadReport(NamedTuple):
    """A head's test report.

    Attributes:
        text: For people; it ends with a line break.
        data: For programs, in JSON's types: metrics by class or by stratum. A head with classes also has ``classes``
            and ``confusion``, the counts with one row a labelled class and one column a predicted class.
    """

    text: str
    data: dict[str, Any]


def head_report(head: Head, labels: Labels, outputs: Outputs) -> HeadReport:
    """Return the test report of a head of any kind.

    Args:
        head: The head.
        labels: Labels, shape (n,) or (n, width); none is missing.
        outputs: The head's outputs, shape (n, units).
    """
    if head.class_names:
        return _report_of_classes(head, labels, outputs)
    return _report_of_strata(head, labels, outputs)


def _report_of_classes(head: Head, labels: Labels, outputs: Outputs) -> HeadReport:
    """Return scikit-learn's classification report and the confusion matrix."""
    from sklearn.metrics import classification_report, confusion_matrix

    classes, predicted = head.class_names, head.values(outputs)
    options = {"labels": list(range(len(classes))), "target_names": list(classes), "zero_division": 0.0}
    text = classification_report(labels, predicted, **options)
    data = classification_report(labels, predicted, output_dict=True, **options)
    matrix = confusion_matrix(labels, predicted, labels=options["labels"])
    width = max(8, *(len(name) + 1 for name in classes))
    lines = [" " * width + "".join(f"{name:>{width}}" for name in classes)]
    lines += [
        f"{name:>{width}}" + "".join(f"{n:{width}d}" for n in row) for name, row in zip(classes, matrix, strict=True)
    ]
    text += "\nconfusion matrix (rows as labelled, columns as predicted)\n" + "\n".join(lines) + "\n"
    return HeadReport(text, {**data, "confusion": matrix.tolist(), "classes": list(classes)})


def _report_of_strata(head: Head, labels: Labels, outputs: Outputs) -> HeadReport:
    """Return the metrics and the number of samples, for each stratum of the label that has samples and for all samples.

    The data has every metric in each row. In the text, a stratum has the comparable metrics alone: within a narrow
    stratum the labels vary little, so that R² is far below 0 even for a good model.
    """
    strata = head.strata(labels)
    rows = {name: strata == i for i, name in enumerate(head.stratum_names)}
    rows[TOTAL] = np.ones(len(labels), dtype=bool)
    data = {
        name: head.evaluate(labels[chosen], outputs[chosen]) | {"support": int(chosen.sum())}
        for name, chosen in rows.items()
        if chosen.any()
    }
    shown = [head.metric(name) for name in head.compute_metrics(head.contributions(labels, outputs).sum(axis=0))]
    comparable = comparable_metrics(head)
    widths = {metric.name: max(9, len(metric.name) + 1) for metric in shown}
    unit = head.label_unit
    header = f"{unit or 'label':>{STRATUM_WIDTH}}" + "".join(
        f"{metric.name:>{widths[metric.name]}}" for metric in shown
    )
    lines = [f"{header}{'support':>{SUPPORT_WIDTH}}"]
    for name, values in data.items():
        cells = "".join(
            f"{_cell(metric, values) if name == TOTAL or metric.name in comparable else '':>{widths[metric.name]}}"
            for metric in shown
        )
        lines.append(f"{name:>{STRATUM_WIDTH}}{cells}{values['support']:{SUPPORT_WIDTH}d}")
    lines += ["", "-: not defined for these samples"] if any("-" in line.split() for line in lines) else []
    lines += [f"\nerrors in {unit}"] if unit else []
    return HeadReport("\n".join(lines) + "\n", data)


def _cell(metric: Metric, values: Mapping[str, float]) -> str:
    return f"{values[metric.name]:.{DIGITS}f}" if metric.name in values else "-"
