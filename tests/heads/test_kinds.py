"""Heads of a user's own, beside built-in ones, in training, evaluation, report and comparisons."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from manyheads.commands.compare import as_trial
from manyheads.data.tables import read_predictions, write_table
from manyheads.evaluation.comparison import compare
from manyheads.evaluation.paired import pair
from manyheads.reporting import comparison_text
from manyheads.stages import evaluate, report, train
from manyheads.tracking import queries
from manyheads.training.tracked import main_metrics

KIND = '''
from typing import Literal

import numpy as np

from manyheads.heads import Metric
from manyheads.heads.regression import Regression


class Missed(Regression):
    """A number whose only metric is the share of answers outside the tolerance."""

    kind: Literal["brought.kind:Missed"]

    @property
    def metrics(self):
        return (Metric(name="missed", label="missed", greater_is_better=False, digits=4),)

    def _contributions(self, labels, outputs):
        return np.stack([np.ones(len(labels)), np.abs(self.values(outputs) - labels) > self.tolerance], axis=1)

    def recorded(self, table):
        labels = self._labels_in(table, (f"{self.name}_label",))
        return labels, self.contributions(labels, table[[self.name]].to_numpy(np.float32))

    def compute_metrics(self, sums):
        with np.errstate(invalid="ignore"):
            return {"missed": sums[..., 1] / sums[..., 0]}

    def is_correct(self, contributions):
        return contributions[:, 1] == 0
'''


@pytest.fixture
def brought(tmp_path_factory, monkeypatch):
    """Register a kind of head of a user's own for configurations."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "brought").mkdir()
    (folder / "brought/kind.py").write_text(KIND)
    monkeypatch.syspath_prepend(folder)
    yield ("extensions=[brought]", "data.heads.age.kind=brought.kind:Missed")
    for name in ("brought", "brought.kind"):
        sys.modules.pop(name, None)


def shifted(table, name, by):
    """Return a table of predictions with a larger error."""
    return table.assign(**{name: table[name] + by})


@pytest.mark.slow
def test_a_kind_with_metrics_of_its_own_goes_all_the_way(tiny_project, tiny_config, brought, monkeypatch):
    layout, configs = tiny_project, [tiny_config(*brought, f"seed={seed}", "loss=age_heavy") for seed in (1, 2)]
    for config in configs:
        train.run(config, layout, layout)
    evaluate.run(config, layout, layout)
    report.run(config, layout, layout)
    metrics = json.loads(layout.metrics.read_text())
    assert list(metrics["age"]) == ["missed"]
    heads = config.data.heads
    evaluation = json.loads(layout.evaluation.read_text())
    assert [list(row["metrics"]) for row in evaluation["heads"]["age"]["by_predicted"]][:1] == [["missed"]]
    # The worst group misses more than the best.
    assert all(row["gap"]["value"] >= 0 for row in evaluation["spreads"] if row["head"] == "age")
    assert "missed" in layout.report.read_text(encoding="utf-8")

    table = read_predictions(layout.predictions, heads)
    same = next(row for row in pair(heads, table, table).differences if row.head == "age")
    assert (same.metric.name, same.better, same.difference.value) == ("missed", None, 0)
    worse = pair(heads, table, shifted(table, "age", 60)).differences
    assert next(row.better for row in worse if row.head == "age") is False
    better = pair(heads, shifted(table, "age", 60), table).differences
    assert next(row.better for row in better if row.head == "age") is True

    runs = queries.recorded_trials(config.tracking.experiment, layout.root, query="metrics.`best/val/score` > -9").runs
    compared = compare(as_trial(run) for run in runs)
    assert compared.main_metrics["age"] == heads["age"].metrics[0]
    assert "age missed 0." in comparison_text.answer(compared)
    assert main_metrics(config)["race"].name == "accuracy"


@pytest.mark.slow
def test_heads_whose_names_begin_alike_stay_apart(tiny_project, tiny_config):
    layout = tiny_project
    samples = pd.read_csv(layout.samples)
    samples.insert(4, "race_fine", samples["race"] % 3)
    samples.insert(2, "age_group", samples["age"] // 40)
    write_table(layout.samples, samples)
    config = tiny_config(
        "+data.heads.race_fine={kind: categorical, classes: [a, b, c]}",
        "+data.heads.age_group={kind: categorical, classes: [young, middle, old]}",
        *(f"+loss.functions.{name}=categorical_crossentropy" for name in ("race_fine", "age_group")),
        *(f"+loss.weights.{name}=1" for name in ("race_fine", "age_group")),
    )
    for stage in (train, evaluate, report):
        stage.run(config, layout, layout)
    history = pd.read_csv(layout.history)
    for name, head in config.data.heads.items():
        followed = {column.rpartition("/")[2] for column in history if column.startswith(f"train/{name}/")}
        assert followed == {"loss", head.main_metric}
        assert np.isfinite(history[f"train/{name}/loss"]).all()
    table = read_predictions(layout.predictions, config.data.heads)
    assert not [row for row in pair(config.data.heads, table, table).differences if row.better is not None]
    assert "race_fine: most confident mistakes" in layout.report.read_text(encoding="utf-8")
