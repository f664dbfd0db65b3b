"""Evaluate: predict every sample of the test subset and compute its metrics. Only this stage reads the test subset.

Reads ``models/``, the packed inputs, the test subset, the validation subset (temperatures are fitted on it) and the
train subset's labels (for the baselines). Writes ``reports/metrics.json``, ``reports/evaluation.json`` with intervals
and groups, ``reports/predictions.csv``, a report for each head as text and JSON, and the tables for ``dvc plots``.
All of them except these tables are also recorded in the MLflow run of the training.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from manyheads.config.schema import Config
from manyheads.data.subsets import Subset, label_table, load_subset
from manyheads.data.tables import write_table
from manyheads.errors import IntegrityError
from manyheads.evaluation.head_reports import head_report
from manyheads.evaluation.prediction_table import prediction_table
from manyheads.evaluation.summary import Predicted, flat_metrics, metric_summary, summarise
from manyheads.heads import Head, Outputs, baseline_metrics
from manyheads.modeling import saving
from manyheads.paths import Paths
from manyheads.reporting.dvc_plots import curve_table, prediction_pairs
from manyheads.runtime import tensorflow
from manyheads.runtime.files import atomic_write, write_text
from manyheads.tracking import git, runs

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Evaluate the trained model on the test subset.

    Raises:
        IntegrityError: The model has other heads or inputs than the configuration, or its outputs are not finite.
    """
    tensorflow.require_tensorflow()
    saved = saving.load(inputs.model, config.extensions)
    heads = config.data.heads
    if saved.card.heads != heads or saved.card.inputs != config.inputs:
        raise IntegrityError(f"{inputs.model} was trained with other heads or inputs: run `dvc repro train`")
    test = load_subset(inputs, heads, config.inputs, "test")
    validation = load_subset(inputs, heads, config.inputs, "validation")
    train = load_subset(inputs, heads, config.inputs, "train")
    predictor = saved.predictor()
    test_predicted, validation_predicted = (
        Predicted(subset.labels, predictor(subset.inputs, subset.rows), subset.groups) for subset in (test, validation)
    )
    for predicted in (test_predicted, validation_predicted):
        _check_finite(predicted.outputs, inputs)
    baselines = baseline_metrics(heads, train.labels, test.labels)
    measured = {name: head.evaluate(test.labels[name], test_predicted.outputs[name]) for name, head in heads.items()}
    metrics = metric_summary(heads, measured, baselines, len(test))
    summary = summarise(heads, test_predicted, validation_predicted, train.groups, baselines)
    evaluation = {"model": saved.card.digest, **summary}
    _write(inputs, outputs, heads, test.paths, test_predicted, metrics, evaluation)
    _record(config, inputs, outputs, test, metrics)
    logger.info("evaluated %d test samples: score %.3f of at most %d", len(test), metrics["score"], len(heads))


def _check_finite(predicted: Mapping[str, Outputs], inputs: Paths) -> None:
    if not all(np.isfinite(values).all() for values in predicted.values()):
        raise IntegrityError(f"{inputs.model} predicts values that are not finite: train it again")


def _write(
    inputs: Paths,
    outputs: Paths,
    heads: Mapping[str, Head],
    paths: Sequence[str],
    predicted: Predicted,
    metrics: dict[str, Any],
    evaluation: dict[str, Any],
) -> None:
    predictions = prediction_table(heads, paths, predicted)
    write_table(outputs.predictions, predictions)
    with atomic_write(outputs.head_reports) as folder:
        folder.mkdir()
        for name, head in heads.items():
            labels = predicted.labels[name]
            known = head.present(labels)
            report = head_report(head, labels[known], predicted.outputs[name][known])
            (folder / f"{name}.txt").write_text(report.text, encoding="utf-8")
            (folder / f"{name}.json").write_text(json.dumps(report.data, indent=2) + "\n", encoding="utf-8")
    with atomic_write(outputs.plots) as folder:
        folder.mkdir()
        write_table(folder / "curves.csv", curve_table(pd.read_csv(inputs.history), heads))
        write_table(folder / "predictions.csv", prediction_pairs(heads, predictions))
    write_text(outputs.metrics, json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    write_text(outputs.evaluation, json.dumps(evaluation, indent=1, allow_nan=False) + "\n")


def _record(
    config: Config,
    inputs: Paths,
    outputs: Paths,
    test: Subset,
    metrics: Mapping[str, Any],
) -> None:
    spec = runs.RunSpec("evaluate", git.provenance(inputs.root), model=runs.model_tag(inputs.model))
    with runs.run(config.tracking.experiment, inputs.root, spec) as record:
        record.results(flat_metrics(config.data.heads, metrics))
        record.dataset(label_table(config.data.heads, test), f"{config.data.title}-test", config.data.path, "test")
        record.files(outputs.metrics)
        record.files(outputs.evaluation)
        record.files(outputs.predictions)
        record.files(outputs.head_reports, "heads")
        record.add_to_model({outputs.evaluation.name: outputs.evaluation.read_text(encoding="utf-8")})
        record.describe()
