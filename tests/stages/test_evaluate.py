import json

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score

from conftest import TWO_BLOCKS, make_tiny_project
from manyheads.commands import results
from manyheads.errors import IntegrityError
from manyheads.paths import Paths
from manyheads.stages import evaluate, train
from manyheads.tracking import runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, migrated_store, tiny_config):
    layout = make_tiny_project(tmp_path_factory.mktemp("project"), migrated_store)
    config = tiny_config(*TWO_BLOCKS, "train.epochs=8")
    train.run(config, layout, layout)
    evaluate.run(config, layout, layout)
    return layout, config


def test_every_test_sample_is_evaluated(evaluated):
    layout, _ = evaluated
    splits = pd.read_csv(layout.splits)
    predictions = pd.read_csv(layout.predictions)
    assert sorted(predictions["path"]) == sorted(splits.loc[splits["subset"] == "test", "path"])
    assert json.loads(layout.metrics.read_text())["n"] == len(predictions) == 60


def test_the_metrics_follow_from_the_predictions(evaluated):
    layout, _ = evaluated
    table, metrics = pd.read_csv(layout.predictions), json.loads(layout.metrics.read_text())
    age = metrics["age"]
    assert age["mae"] == pytest.approx(mean_absolute_error(table["age_label"], table["age"]), abs=0.01)
    assert age["r2"] == pytest.approx(r2_score(table["age_label"], table["age"]), abs=0.001)
    assert age["bias"] == pytest.approx((table["age"] - table["age_label"]).mean(), abs=0.01)
    assert age["within_5"] == pytest.approx(((table["age"] - table["age_label"]).abs() <= 5).mean(), abs=0.02)
    for head in ("race", "gender"):
        assert metrics[head]["accuracy"] == pytest.approx(accuracy_score(table[f"{head}_label"], table[head]), abs=1e-4)
    assert metrics["race"]["accuracy"] > 0.9


def test_labels_in_the_table_are_those_of_the_file_names(evaluated):
    layout, config = evaluated
    classes = config.data.heads["race"].class_names
    for row in pd.read_csv(layout.predictions).itertuples():
        age, _, race, _ = row.path.removeprefix("UTKFace/").split("_")
        assert (int(age), classes[int(race)]) == (row.age_label, row.race_label)


def test_baselines_stand_beside_the_metrics(evaluated):
    layout, _ = evaluated
    samples, splits = pd.read_csv(layout.samples), pd.read_csv(layout.splits)
    median = samples.loc[splits["subset"] == "train", "age"].median()
    ages = samples.loc[splits["subset"] == "test", "age"]
    baseline = json.loads(layout.metrics.read_text())["baseline"]
    assert baseline["age"]["mae"] == pytest.approx((ages - median).abs().mean(), abs=1e-4)
    assert baseline["age"]["r2"] <= 0
    assert set(baseline) == {"age", "race", "gender"}


def test_each_head_has_its_report_and_its_plots(evaluated):
    layout, config = evaluated
    for name in config.data.heads:
        assert (layout.head_reports / f"{name}.txt").read_text(encoding="utf-8")
        data = json.loads((layout.head_reports / f"{name}.json").read_text())
        if name == "race":
            assert np.sum(data["confusion"]) == 60
    pairs = pd.read_csv(layout.plots / "predictions.csv")
    assert pairs.groupby("head")["samples"].sum().to_dict() == dict.fromkeys(config.data.heads, 60)
    curves = pd.read_csv(layout.plots / "curves.csv")
    assert set(curves["epoch"]) == set(range(1, 9))
    history = pd.read_csv(layout.history)
    shown = curves[(curves["curve"] == "age mae") & (curves["subset"] == "validation")]["value"]
    assert shown.to_numpy() == pytest.approx(history["val/age/mae"].to_numpy())


def test_it_writes_into_the_run_of_the_training(evaluated):
    layout, _ = evaluated
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["1"])
    metrics = json.loads(layout.metrics.read_text())
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/age/mae"] == metrics["age"]["mae"]
    assert run.data.metrics["test/score"] == metrics["score"]
    assert run.data.metrics["test_baseline/race/accuracy"] == metrics["baseline"]["race"]["accuracy"]
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {
        "metrics.json",
        "predictions.csv",
        "heads",
    }
    assert {tag.value for entry in run.inputs.dataset_inputs for tag in entry.tags} == {"training", "test"}


def test_without_the_trainings_run_a_new_one_names_the_model(evaluated, tmp_path, migrated_store):
    layout, config = evaluated
    elsewhere = make_tiny_project(tmp_path, migrated_store)
    for name in ("models", "reports"):
        (tmp_path / name).exists() or (tmp_path / name).mkdir()
    for path in [*layout.model.iterdir(), layout.history]:
        (tmp_path / path.relative_to(layout.root)).write_bytes(path.read_bytes())
    evaluate.run(config, elsewhere, elsewhere)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = mlflow.MlflowClient().search_runs(["1"])
    assert run.data.tags["model"] == runs.model_tag(layout.model)
    assert "test/score" in run.data.metrics


def test_a_trained_variance_goes_all_the_way(tiny_project, tiny_config, monkeypatch, capsys):
    layout, config = tiny_project, tiny_config("loss=gaussian_age", "train.optimizer=adamw", "train.epochs=8")
    train.run(config, layout, layout)
    evaluate.run(config, layout, layout)
    table, metrics = pd.read_csv(layout.predictions), json.loads(layout.metrics.read_text())
    inside = (table["age_low"] <= table["age_label"]) & (table["age_label"] <= table["age_high"])
    assert metrics["age"]["coverage_90"] == pytest.approx(inside.mean(), abs=1e-4)
    width = (table["age_high"] - table["age_low"]).mean()
    assert metrics["age"]["interval_width"] == pytest.approx(width, abs=0.02)
    assert width < 3.29 * table["age_label"].std()
    assert ((table["age_low"] + table["age_high"]) / 2).to_numpy() == pytest.approx(table["age"].to_numpy(), abs=0.011)
    assert set(metrics["age"]) - set(metrics["baseline"]["age"]) == {"coverage_90", "interval_width"}
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    (run,) = mlflow.MlflowClient().search_runs(["1"])
    assert run.data.metrics["test/age/coverage_90"] == metrics["age"]["coverage_90"]
    (logged,) = mlflow.search_logged_models(["1"], output_format="list")
    outputs = mlflow.models.get_model_info(logged.model_uri).signature.outputs
    assert outputs.input_names()[:4] == ["age", "age_low", "age_high", "race"]
    monkeypatch.chdir(layout.root)
    results.main([])
    said = capsys.readouterr().out
    assert "coverage_90" in said
    assert f"http://127.0.0.1:5000/#/experiments/1/runs/{run.info.run_id}" in said
    assert "viewStateShareKey=by-score-sample" in said


def test_learned_weights_are_in_the_run(tiny_project, tiny_config):
    layout, config = tiny_project, tiny_config("loss=learned")
    train.run(config, layout, layout)
    evaluate.run(config, layout, layout)
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["1"])
    history = pd.read_csv(layout.history)
    for name in ("train/age/weight", "train/race/weight"):
        logged = [metric.value for metric in client.get_metric_history(run.info.run_id, name)]
        assert logged == pytest.approx(history[name].tolist())
    assert json.loads(layout.metrics.read_text())["score"] == pytest.approx(run.data.metrics["test/score"])


def test_a_model_of_other_heads_is_refused(evaluated, tiny_config):
    layout, _ = evaluated
    other = tiny_config("data=utkface")
    with pytest.raises(IntegrityError, match="other heads"):
        evaluate.run(other, layout, Paths(layout.root / "elsewhere"))
    assert not (layout.root / "elsewhere").exists()


def test_what_to_type_next_follows_from_the_heads():
    assert "dvc exp run -S loss.weights.petals=2" in results.next_steps(["petals", "kind"], None)
    other = results.next_steps(["petals", "kind"], "data=garden")
    assert "dvc exp run -S data=garden -S ++loss.weights.petals=2" in other
