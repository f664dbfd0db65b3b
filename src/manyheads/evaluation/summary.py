"""Summaries of an evaluation: the contents of ``reports/evaluation.json`` and ``reports/metrics.json``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from manyheads.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Bootstrap, Estimate, estimate
from manyheads.evaluation.calibration import Reliability, at_temperature, fit_temperature, reliability
from manyheads.evaluation.groups import SMALL, by_group, group_metrics, standardised
from manyheads.evaluation.selective import selective
from manyheads.heads import Head, Labels, Outputs, total_score

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Nominal levels of the central intervals whose coverage is measured."""


class Predicted(NamedTuple):
    """A subset and the model's predictions for it.

    Attributes:
        labels: Each head's labels, shape (n,) or (n, width).
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
    """Return every metric of the test subset with its interval, in JSON's types.

    Args:
        heads: The heads by name.
        test: The test subset.
        validation: The validation subset; temperatures are fitted on it.
        train_groups: Duplicate groups of the train subset.
        baselines: Each head's baseline metrics, from ``heads.baseline_metrics``.
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
    """Return the number of test samples with a duplicate outside the test subset, and main metrics with and without."""
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
    """Return the comparable metrics by bin of the prediction: the error to expect of a given prediction."""
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
    """Return a value in JSON's types, named tuples as dictionaries."""
    if isinstance(value, Estimate) or (isinstance(value, tuple) and hasattr(value, "_asdict")):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def metric_summary(
    heads: Mapping[str, Head],
    measured: Mapping[str, Mapping[str, float]],
    baselines: Mapping[str, Mapping[str, float]],
    n: int,
) -> dict[str, Any]:
    """Return the content of ``reports/metrics.json``: the score, each head's metrics and their baselines.

    Args:
        heads: The heads by name.
        measured: Each head's metrics on the test subset.
        baselines: Each head's baseline metrics.
        n: Number of test samples.
    """
    main = {name: measured[name][head.main_metric] for name, head in heads.items()}
    main_baselines = {name: baselines[name][head.main_metric] for name, head in heads.items()}
    score = round(total_score(heads, main, main_baselines), 4)
    return {"n": n, "score": score, **_rounded(measured), "baseline": _rounded(baselines)}


def _rounded(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {name: {key: round(value, 4) for key, value in values.items()} for name, values in metrics.items()}


def flat_metrics(heads: Mapping[str, Head], metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of an evaluation that MLflow gets.

    Groups, intervals and metrics of single classes are left out. They stand in ``reports/evaluation.json``.

    Args:
        heads: The heads by name.
        metrics: Content of ``reports/metrics.json``.

    Returns:
        ``test/score``, ``test/n``, each head's ``tracked_metrics`` such as ``test/age/mae``, and the baseline of its
        main metric such as ``test_baseline/age/mae``.
    """
    found = {"test/score": float(metrics["score"]), "test/n": float(metrics["n"])}
    for name, head in heads.items():
        found |= {f"test/{name}/{key}": metrics[name][key] for key in head.tracked_metrics if key in metrics[name]}
        found[f"test_baseline/{name}/{head.main_metric}"] = metrics["baseline"][name][head.main_metric]
    return found
