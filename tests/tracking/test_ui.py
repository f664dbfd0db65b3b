"""What a person sees of a sweep in the MLflow UI, in a real browser."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest

from conftest import TINY, make_sweep_project
from serving import mlflow_server

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
METRICS = ["best/val/age/mae", "best/val/race/accuracy", "best/val/gender/accuracy"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, migrated_store, warm_python):
    """Sweep three weights of the age, serve the store, and return address, experiment, parent and children."""
    folder = tmp_path_factory.mktemp("swept")
    layout = make_sweep_project(folder, migrated_store)
    subprocess.run(
        [warm_python, "-m", "manyheads", "train", "-m", *TINY, "train.epochs=2", "loss.weights.age=0.1,1,10"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True, capture_output=True,
    )  # fmt: skip
    with mlflow_server(tmp_path_factory.mktemp("server"), layout.root / "mlflow.db") as address:
        client = mlflow.MlflowClient(address)
        experiment = client.get_experiment_by_name("manyheads").experiment_id
        runs = client.search_runs([experiment])
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        (parent,) = [run for run in runs if run not in children]
        yield address, experiment, parent, children


@pytest.fixture
def page():
    """Return an empty page of a browser that waits long for what is slow."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(90_000)
        yield page
        browser.close()


def test_the_experiment_lists_the_sweep_and_its_trials_below_it(swept, page, tmp_path):
    address, experiment, parent, children = swept
    page.goto(f"{address}/#/experiments/{experiment}/runs")
    row = page.get_by_role("row").filter(has_text=parent.info.run_name)
    row.wait_for()
    names = sorted(child.info.run_name for child in children)
    assert names == ["age=0.1", "age=1", "age=10"]
    assert page.get_by_role("link", name="age=", exact=False).count() == 0
    row.get_by_role("button").first.click()
    for name in names:
        page.get_by_role("link", name=name, exact=True).wait_for()
    page.screenshot(path=tmp_path / "experiment.png")


def test_the_trials_compare_in_parallel_coordinates(swept, page, tmp_path):
    """The weight is an axis without being chosen, because it differs. A person adds the heads' best metrics."""
    address, experiment, _, children = swept
    runs = quote(json.dumps([child.info.run_id for child in children]))
    page.goto(f"{address}/#/compare-runs?runs={runs}&experiments={quote(json.dumps([experiment]))}")
    page.get_by_text("Comparing 3 Runs").wait_for()
    page.get_by_text("Metrics:", exact=True).wait_for()
    page.locator("div:text-is('Metrics:') + div").click()
    for metric in METRICS:
        page.keyboard.type(metric)
        page.get_by_title(metric, exact=True).last.click()
    page.keyboard.press("Escape")
    plot = page.locator(".js-plotly-plot").first
    for metric in METRICS:
        plot.locator(".axis-title", has_text=metric).wait_for()
    page.screenshot(path=tmp_path / "compare.png")
    assert "loss.weights.age" in plot.locator(".axis-title").all_text_contents()
    ends = {
        title: sorted(float(text) for text in axis.locator(".axis-extent-text").all_text_contents())
        for axis in plot.locator(".y-axis").all()
        for title in axis.locator(".axis-title").all_text_contents()
    }
    assert ends["loss.weights.age"] == [0.1, 10]
    for metric in METRICS:
        values = [child.data.metrics[metric] for child in children]
        assert ends[metric] == pytest.approx([min(values), max(values)], abs=1e-4)
