"""Evaluate: the only reader of the test subset, every sample of it.

Reads ``models/``, the packed inputs, the test subset, the validation subset (temperatures are fitted on it) and the
train subset's labels (for the baselines). Writes ``reports/metrics.json``, ``reports/evaluation.json`` with intervals
and groups, ``reports/predictions.csv``, a report for each head as text and JSON, and the tables that ``dvc plots``
shows. All but these tables also go into the MLflow run of the training, which gets their plots with the page of report.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from manyheads.config.schema import Config
from manyheads.data.subsets import Subset, label_table, load_subset
from manyheads.data.tables import write_table
from manyheads.errors import IntegrityError
from manyheads.evaluation.head_reports import head_report
from manyheads.evaluation.summary import Predicted, summarise
from manyheads.heads import Head, Outputs, baseline_metrics, total_score
from manyheads.modeling import saving
from manyheads.paths import Paths
from manyheads.reporting.dvc_plots import curve_table, prediction_pairs
from manyheads.runtime import tensorflow
from manyheads.runtime.files import atomic_write, write_text
from manyheads.tracking import git, runs

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Judge the trained model on the test subset."""
    tensorflow.require_tensorflow()
    saved = saving.load(inputs.model, config.extensions)
    heads = config.data.heads
    if saved.card.heads != heads or saved.card.inputs != config.inputs:
        raise IntegrityError(f"{inputs.model} was trained with other heads or inputs: run `dvc repro train`")
    test, validation = (
        load_subset(inputs, config.data.heads, config.inputs, "test"),
        load_subset(inputs, config.data.heads, config.inputs, "validation"),
    )
    predictor = saved.predictor()
    predicted = predictor(test.inputs, test.rows)
    for_temperatures = predictor(validation.inputs, validation.rows)
    _refuse_what_is_not_finite({**predicted, **for_temperatures}, inputs)
    train = load_subset(inputs, config.data.heads, config.inputs, "train")
    baselines = baseline_metrics(heads, train.labels, test.labels)
    measured = {name: head.evaluate(test.labels[name], predicted[name]) for name, head in heads.items()}
    metrics = summary(heads, measured, baselines, len(test))
    evaluation = summarise(
        heads,
        Predicted(test.labels, predicted, test.groups),
        Predicted(validation.labels, for_temperatures, validation.groups),
        train.groups,
        baselines,
    )
    _write(outputs, inputs, heads, test, predicted, metrics, evaluation)
    _record(config, inputs, outputs, test, metrics, evaluation)
    logger.info("evaluated %d test samples: score %.3f of at most %d", len(test), metrics["score"], len(heads))


def summary(
    heads: Mapping[str, Head],
    measured: Mapping[str, Mapping[str, float]],
    baselines: Mapping[str, Mapping[str, float]],
    n: int,
) -> dict[str, Any]:
    """Return the content of ``metrics.json``: each head's metrics, the baselines beside them, the score.

    Args:
        heads: The heads by name.
        measured: Each head's metrics on the test subset.
        baselines: The same for the best constant answer.
        n: How many test samples there are.
    """
    main = {name: measured[name][head.main_metric] for name, head in heads.items()}
    main_baselines = {name: baselines[name][head.main_metric] for name, head in heads.items()}
    score = round(total_score(heads, main, main_baselines), 4)
    return {"n": n, "score": score, **_rounded(measured), "baseline": _rounded(baselines)}


def _rounded(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {name: {key: round(value, 4) for key, value in values.items()} for name, values in metrics.items()}


def _refuse_what_is_not_finite(predicted: Mapping[str, Outputs], inputs: Paths) -> None:
    if not all(np.isfinite(values).all() for values in predicted.values()):
        raise IntegrityError(f"{inputs.model} gives values that are not finite: train it anew")


def prediction_table(heads: Mapping[str, Head], subset: Subset, outputs: Mapping[str, Outputs]) -> pd.DataFrame:
    """Return one row a sample: ``path``, ``group``, and each head's label (``<head>_label``) and prediction columns."""
    columns: dict[str, Any] = {"path": subset.paths, "group": subset.groups}
    for name, head in heads.items():
        columns |= head.label_cells(subset.labels[name]) | head.prediction_columns(outputs[name])
    return pd.DataFrame(columns)


def _write(
    outputs: Paths,
    inputs: Paths,
    heads: Mapping[str, Head],
    test: Subset,
    predicted: dict[str, Outputs],
    metrics: dict[str, Any],
    evaluation: dict[str, Any],
) -> None:
    predictions = prediction_table(heads, test, predicted)
    write_table(outputs.predictions, predictions)
    with atomic_write(outputs.head_reports) as folder:
        folder.mkdir()
        for name, head in heads.items():
            known = head.present(test.labels[name])
            report = head_report(head, test.labels[name][known], predicted[name][known])
            (folder / f"{name}.txt").write_text(report.text, encoding="utf-8")
            (folder / f"{name}.json").write_text(json.dumps(report.data, indent=2) + "\n", encoding="utf-8")
    with atomic_write(outputs.plots) as folder:
        folder.mkdir()
        write_table(folder / "curves.csv", curve_table(pd.read_csv(inputs.history), heads))
        write_table(folder / "predictions.csv", prediction_pairs(heads, predictions))
    write_text(outputs.metrics, json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    write_text(outputs.evaluation, json.dumps(evaluation, indent=1, allow_nan=False) + "\n")


def group_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics of groups under names that MLflow allows: ``test/groups/race_gender/black_male/age/mae``."""
    found = {}
    for cell in evaluation["groups"]:
        group = f"test/groups/{'_'.join(cell['attributes'])}/{'_'.join(cell['group'])}"
        found[f"{group}/n"] = float(cell["n"])
        for metric, shown in cell["metrics"].items():
            if shown["value"] is not None:
                found[f"{group}/{cell['head']}/{metric}"] = shown["value"]
    return found


def _record(
    config: Config,
    inputs: Paths,
    outputs: Paths,
    test: Subset,
    metrics: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> None:
    flat = {f"test/{name}/{key}": value for name in config.data.heads for key, value in metrics[name].items()}
    flat |= {
        f"test_baseline/{name}/{key}": value for name, row in metrics["baseline"].items() for key, value in row.items()
    }
    spec = runs.RunSpec("evaluate", git.provenance(inputs.root), model=runs.model_tag(inputs.model))
    with runs.run(config.tracking.experiment, inputs.root, spec) as record:
        record.metrics(flat | {"test/score": metrics["score"], "test/n": metrics["n"]} | group_metrics(evaluation))
        record.dataset(label_table(config.data.heads, test), f"{config.data.name}-test", config.data.path, "test")
        record.files(outputs.metrics)
        record.files(outputs.evaluation)
        record.files(outputs.predictions)
        record.files(outputs.head_reports, "heads")
