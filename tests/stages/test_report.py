import html
import json
import re

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from conftest import make_tiny_project
from manyheads.config import loading
from manyheads.errors import IntegrityError
from manyheads.evaluation.summary import Predicted, summarise
from manyheads.heads import baseline_metrics
from manyheads.reporting import numbers
from manyheads.reporting import report as report_page
from manyheads.stages import evaluate, report, train
from manyheads.training import label_issues

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reported(tmp_path_factory, migrated_store, tiny_config):
    layout = make_tiny_project(tmp_path_factory.mktemp("project"), migrated_store)
    config = tiny_config("loss.functions.age=soft_label", "train.epochs=6")
    for stage in (train, evaluate, report):
        stage.run(config, layout, layout)
    return layout, config


def figures(page):
    return [json.loads(html.unescape(text)) for text in re.findall(r'data-figure="([^"]*)"', page)]


def test_the_page_has_every_section_and_needs_no_network(reported):
    layout, _ = reported
    page = layout.report.read_text(encoding="utf-8")
    for section in ("At a glance", "Results", "Groups", "Examples", "Training", "Data", "Provenance"):
        assert f">{section}<" in page
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="https?:', re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))
    assert layout.report.stat().st_size < 8_000_000


def test_every_figure_has_a_caption_and_a_text_for_screen_readers(reported):
    layout, _ = reported
    page = layout.report.read_text(encoding="utf-8")
    labels = re.findall(r'<div role="img" aria-label="([^"]+)" data-figure=', page)
    assert len(labels) == len(figures(page)) == page.count("<figcaption>") > 20
    assert "<figcaption></figcaption>" not in page


def test_metrics_of_the_page_are_those_of_the_evaluation(reported):
    layout, _ = reported
    page, metrics = layout.report.read_text(encoding="utf-8"), json.loads(layout.metrics.read_text())
    evaluation = json.loads(layout.evaluation.read_text())
    for name in ("age", "race", "gender"):
        for metric, estimate in evaluation["heads"][name]["metrics"].items():
            assert round(estimate["value"], 4) == metrics[name][metric]
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
    accuracy = evaluation["heads"]["race"]["metrics"]["accuracy"]
    assert f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})" in page


def test_pictures_are_on_the_local_page_and_not_in_the_run(reported):
    layout, _ = reported
    assert layout.report.read_text(encoding="utf-8").count("data:image/jpeg;base64,") > 20
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    (run,) = mlflow.MlflowClient().search_runs(["1"])
    logged = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/report.html")
    assert "At a glance" in logged
    assert "data:image/jpeg" not in logged
    for card in ("model_card.md", "data_card.md"):
        assert "# " in mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{card}")


def test_every_label_that_looks_wrong_is_shown_and_most_are_folded(reported):
    layout, config = reported
    contents = report.gather(config, layout)
    seen = contents.manifest["path"].head(label_issues.LISTED).tolist()
    ranked = {"rank": range(1, len(seen) + 1), "path": seen, "label": "red", "predicted": "blue"}
    tables = [pd.DataFrame({"head": name, **ranked}) for name in config.data.heads]
    contents = contents._replace(label_issues=pd.concat(tables))
    plots = report_page.plots_of(contents)
    page = report_page.page(contents, "title", plots)
    section = page[page.index('id="labels"') : page.index('id="training"')]
    assert section.count("data:image/jpeg;base64,") == 3 * label_issues.LISTED == 600
    assert section.count("<details>") == 3
    assert re.sub(r"<details>.*?</details>", "", section, flags=re.DOTALL).count("data:image/jpeg;base64,") == 24
    assert f'title="{seen[-1]}"' in section
    assert "200: labelled red, looks like blue" in section
    without = report_page.page(contents._replace(thumbnails=None), "title", plots)
    assert without.count(f"<span>{seen[-1]}</span>") == 3
    assert "data:image/jpeg" not in without


def test_the_run_has_few_metrics_and_the_groups_as_a_file(reported):
    layout, _ = reported
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["1"])
    assert len(run.data.metrics) <= 60
    assert not any("groups" in name for name in run.data.metrics)
    groups = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/evaluation.json")["groups"]
    assert {(cell["head"], *cell["group"]) for cell in groups} >= {("age", "blue"), ("gender", "red", "rows")}


def test_the_description_has_the_figures_with_their_baseline_and_the_way_back(reported):
    layout, config = reported
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    (run,) = mlflow.MlflowClient().search_runs(["1"])
    described, metrics = run.data.tags["mlflow.note.content"], json.loads(layout.metrics.read_text())
    assert f"Test score {metrics['score']:.3f}" in described
    assert f"age mae **{metrics['age']['mae']:.3f}** (baseline {metrics['baseline']['age']['mae']:.3f})" in described
    assert f"/runs/{run.info.run_id}/artifacts/report.html" in described
    again = yaml.safe_load(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/params.yaml"))
    assert loading.load(again, "params.yaml") == config


def test_cards_have_no_blanks(reported):
    layout, config = reported
    model_card, data_card = (path.read_text(encoding="utf-8") for path in (layout.model_card, layout.data_card))
    for heading in ("Model details", "Intended use", "Factors", "Metrics", "Training data", "Quantitative", "Ethical"):
        assert heading in model_card
    for heading in ("Motivation", "Labels", "Collection", "Uses", "terms", "cite"):
        assert heading in data_card
    for card in (model_card, data_card):
        assert not re.search(r"TODO|TBD|None|nan|\{\{|\{%", card)
    assert "Out of scope:" in model_card
    assert all(name in data_card for name in config.data.heads)


def test_a_planted_leak_bias_and_miscalibration_stand_in_the_tables(reported):
    layout, config = reported
    heads, generator, n = config.data.heads, np.random.default_rng(0), 1500
    labels = {name: generator.integers(0, len(head.class_names) or 60, n) for name, head in heads.items()}
    in_group, leaked = labels["race"] == 2, np.arange(n) < 200
    group = heads["race"].class_names[2]
    age = labels["age"] + generator.normal(0, 3, n) + 12 * in_group
    age[leaked] = labels["age"][leaked]
    # Gender is right seven times of ten, and said to be certain.
    right = generator.random(n) < 0.7
    certain = 0.98 * np.eye(2)[np.where(right, labels["gender"], 1 - labels["gender"])] + 0.01
    outputs = {"age": age[:, None], "race": 0.9 * np.eye(5)[labels["race"]] + 0.02, "gender": certain}
    outputs = {name: values.astype(np.float32) for name, values in outputs.items()}
    test = Predicted(labels, outputs, [f"{i}" for i in range(n)])
    validation = test._replace(groups=[f"v{i}" for i in range(n)])
    baselines = baseline_metrics(heads, labels, labels)
    planted = summarise(heads, test, validation, [f"{i}" for i in np.flatnonzero(leaked)], baselines)
    contents = report.gather(config, layout)._replace(evaluation=planted)
    page = report_page.page(contents, "planted", report_page.plots_of(contents))
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)))
    assert "200 test samples leaked" in text
    assert "age mean absolute error 0.00 (0.00 to 0.00)" in text
    assert f"age, mean absolute error: worst for {group}" in text
    error = planted["heads"]["gender"]["calibration"]
    assert error["before"]["metrics"]["ece"]["low"] > 0.2
    assert error["after"]["metrics"]["ece"]["high"] < 0.1
    for which in ("before", "after"):
        assert numbers.estimate_text(error[which]["metrics"]["ece"]) in text


def test_labels_are_also_shown_in_the_bins_that_others_published(reported):
    layout, config = reported
    contents = report.gather(config, layout)._replace(published_bins={"age": (10, 20, 60)}, published_by="them, 2020")
    page = html.unescape(report_page.page(contents, "t", report_page.plots_of(contents)))
    ages = pd.read_csv(layout.samples)["age"]
    below, last = (ages < 10).mean(), (ages >= 60).mean()
    assert f"Bar chart of age: below 10 {below:.1%}, 10-19 " in page
    assert f"60 and more {last:.1%}" in page
    assert "age in the bins of them;" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.iloc[2:], "2 samples are missing, 0 are not in it"),
        (lambda table: table.assign(path=["other.jpg", *table["path"][1:]]), "1 samples are missing, 1 are not in it"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "1 occur twice"),
    ],
)
def test_predictions_of_other_samples_are_refused(change, message, reported):
    layout, config = reported
    whole = layout.predictions.read_bytes()
    try:
        change(pd.read_csv(layout.predictions)).to_csv(layout.predictions, index=False)
        with pytest.raises(IntegrityError, match=message) as raised:
            report.run(config, layout, layout)
        assert "predictions.csv" in str(raised.value)
    finally:
        layout.predictions.write_bytes(whole)


@pytest.mark.parametrize("content", ["{}", "[]", '"n"'])
@pytest.mark.parametrize(
    ("name", "command"),
    [("evaluation.json", "evaluate"), ("split.json", "split"), ("heads/race.json", "evaluate")],
)
def test_a_file_with_other_content_is_named_with_the_command_that_writes_it(name, command, content, reported):
    layout, config = reported
    path = layout.metrics.parent / name
    whole = path.read_bytes()
    try:
        path.write_text(content)
        with pytest.raises(IntegrityError, match=rf"{name} is damaged \(it lacks .*\): run `dvc repro {command}`"):
            report.run(config, layout, layout)
    finally:
        path.write_bytes(whole)


def test_a_class_without_test_samples_and_a_group_of_one_are_said_to_be_too_few(
    tmp_path, migrated_store, tiny_config, recwarn
):
    layout, config = make_tiny_project(tmp_path, migrated_store), tiny_config()
    splits, samples = pd.read_csv(layout.splits), pd.read_csv(layout.samples)
    violet = np.flatnonzero((splits["subset"] == "test") & (samples["race"] == 4))
    splits.loc[violet, "subset"] = "train"
    blue = np.flatnonzero((splits["subset"] == "test") & (samples["race"] == 3))
    splits.loc[blue[1:], "subset"] = "train"
    splits.to_csv(layout.splits, index=False)
    for stage in (train, evaluate, report):
        stage.run(config, layout, layout)
    page = layout.report.read_text(encoding="utf-8")
    assert "not enough samples" in page
    assert "too few for an interval" in page
    assert not re.search(r"\bnan\b", re.sub(r"<script>.*?</script>|data-figure=\"[^\"]*\"", "", page, flags=re.DOTALL))
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]
