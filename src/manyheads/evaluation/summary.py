"""All that an evaluation says, in one document: ``reports/evaluation.json``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from manyheads.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Bootstrap, Estimate, estimate
from manyheads.evaluation.calibration import Reliability, at_temperature, fit_temperature, reliability
from manyheads.evaluation.groups import SMALL, by_group, group_metrics, standardised
from manyheads.evaluation.selective import selective
from manyheads.heads import Head, Labels, Outputs

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Nominal contents of the central intervals whose real contents are counted."""


class Predicted(NamedTuple):
    """A subset and what the model predicts for it.

    Attributes:
        labels: Each head's labels, shape (n,).
        outputs: Each head's outputs, shape (n, units).
        groups: Each sample's duplicate group.
    """

    labels: Mapping[str, Labels]
    outputs: Mapping[str, Outputs]
    groups: Sequence[str]


def summarise(
    heads: Mapping[str, Head],
    test: Predicted,
    validation: Predicted,
    train_groups: Collection[str],
    baselines: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Return every metric of the test subset with its interval, as plain dictionaries and lists.

    Args:
        heads: The heads by name.
        test: What is judged.
        validation: What temperatures are fitted on.
        train_groups: The duplicate groups that the model learned from.
        baselines: Each head's metrics for the best constant answer, from ``heads.baseline_metrics``.
    """
    bootstrap = Bootstrap(test.groups)
    cells, spreads = by_group(heads, test.labels, test.outputs, bootstrap)
    return {
        "n": len(bootstrap),
        "duplicate_groups": len(set(test.groups)),
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "small": SMALL,
        "heads": {
            name: _head(head, name, test, validation, bootstrap) | {"baseline": dict(baselines[name])}
            for name, head in heads.items()
        },
        "leaked": _leaked(heads, test, {*train_groups, *validation.groups}, bootstrap),
        "groups": [_plain(cell) for cell in cells],
        "spreads": [_plain(spread) for spread in spreads],
        "standardised": [_plain(row) for row in standardised(heads, test.labels, test.outputs, bootstrap)],
    }


def _head(head: Head, name: str, test: Predicted, validation: Predicted, bootstrap: Bootstrap) -> dict[str, Any]:
    labels, outputs = test.labels[name], test.outputs[name]
    known = head.present(labels)
    if not known.all():
        labels, outputs = labels[known], outputs[known]
        bootstrap = Bootstrap([group for group, here in zip(test.groups, known, strict=True) if here])
    contributions = head.contributions(labels, outputs)
    metrics = {name: estimate(values) for name, values in head.compute_metrics(bootstrap.sums(contributions)).items()}
    found: dict[str, Any] = {"main_metric": head.main_metric, "metrics": _plain(metrics)}
    if (confidence := head.confidence(outputs)) is not None:
        found["selective"] = _plain(selective(head, labels, outputs, confidence, bootstrap))
    if head.interval(outputs) is not None:
        found["coverage"] = _coverage(head, labels, outputs, bootstrap)
    if head.class_names:
        predicted = head.probabilities(outputs)
        known = head.present(validation.labels[name])
        temperature = fit_temperature(
            validation.labels[name][known], head.probabilities(validation.outputs[name][known])
        )
        found["calibration"] = {
            "temperature": temperature,
            "before": _reliability(reliability(labels, predicted, bootstrap)),
            "after": _reliability(reliability(labels, at_temperature(predicted, temperature), bootstrap)),
        }
    elif len(head.stratum_names) > 1:
        found["by_predicted"] = _by_predicted(head, labels, outputs, bootstrap)
    return found


def _leaked(heads: Mapping[str, Head], test: Predicted, seen: Collection[str], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return how many test samples have a duplicate outside the test subset, and the main metric of both kinds."""
    rows = np.array([group in seen for group in test.groups])
    if not rows.any():
        return {"n": 0, "heads": {}}
    found = {}
    for name, head in heads.items():
        contributions = head.contributions(test.labels[name], test.outputs[name])
        found[name] = {
            which: _plain(estimate(head.compute_metrics(bootstrap.sums(contributions, chosen))[head.main_metric]))
            for which, chosen in (("seen", rows), ("unseen", ~rows))
        }
    return {"n": int(rows.sum()), "heads": found}


def _reliability(found: Reliability) -> dict[str, Any]:
    return {name: _plain(value) for name, value in found._asdict().items()}


def _by_predicted(head: Head, labels: Labels, outputs: Outputs, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Return the metrics of groups by bin of the prediction: what to expect of an answer, not of a sample."""
    contributions = head.contributions(labels, outputs)
    predicted = head.strata(np.rint(head.values(outputs)).astype(np.int64))
    found = []
    for value, name in enumerate(head.stratum_names):
        rows = predicted == value
        if rows.any():
            metrics = group_metrics(head, bootstrap.sums(contributions, rows))
            shown = {metric: _plain(estimate(values)) for metric, values in metrics.items()}
            found.append({"group": name, "n": int(rows.sum()), "metrics": shown})
    return found


def _coverage(head: Head, labels: Labels, outputs: Outputs, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    found = []
    for level in LEVELS:
        low, high = head.interval(outputs, level) or (labels, labels)
        inside = ((low <= labels) & (labels <= high)).astype(np.float64)
        sums = bootstrap.sums(np.stack([inside, np.ones_like(inside)], axis=1))
        found.append({"level": level, "width": float(np.mean(high - low)), **_plain(estimate(sums[:, 0] / sums[:, 1]))})
    return found


def _plain(value: Any) -> Any:
    """Return named tuples as dictionaries and everything else as JSON knows it."""
    if isinstance(value, Estimate) or (isinstance(value, tuple) and hasattr(value, "_asdict")):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
