"""What a person sees of a sweep in the MLflow UI, in a real browser, served by the command ``ui``."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from conftest import TINY, make_sweep_project
from manyheads.tracking import runs, views

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
METRICS = ["best/val/age/mae", "best/val/race/accuracy", "best/val/gender/accuracy"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, migrated_store, warm_python):
    """Sweep three weights of the age and serve the store; return what was printed, the runs and the address."""
    folder = tmp_path_factory.mktemp("swept")
    layout = make_sweep_project(folder, migrated_store)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [warm_python, "-m", "manyheads", "train", "-m", *TINY, "train.epochs=2", "loss.weights.age=0.1,1,10"],
        cwd=folder, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    port = free_port()
    command = [sys.executable, "-m", "manyheads", "ui", "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    printed = server.stdout.readline().strip()
    try:
        client = mlflow.MlflowClient(f"http://127.0.0.1:{port}")
        experiment = client.get_experiment_by_name("manyheads").experiment_id
        runs = client.search_runs([experiment])
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        (parent,) = [run for run in runs if run not in children]
        yield SimpleNamespace(
            root=layout.root, base=f"http://127.0.0.1:{port}", printed=printed, said=done.stderr,
            experiment=experiment, parent=parent, children=children, command=command, environment=environment,
        )  # fmt: skip
    finally:
        server.send_signal(signal.SIGINT)
        rest = server.communicate(timeout=60)
        assert server.returncode == 0
        assert "Deprecat" not in "".join(rest)
        log = (folder / ".cache/ui.log").read_text()
        assert not re.search("Deprecat|Traceback|huey|child process", log), log


@pytest.fixture(scope="module")
def browser(swept):
    """Return a browser that has closed MLflow's assistant, which opens on the first visit."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        context = launched.new_context(viewport={"width": 1600, "height": 1000})
        context.set_default_timeout(90_000)
        page = context.new_page()
        page.goto(swept.base)
        page.get_by_role("button", name="Close").last.click()
        page.close()
        yield context
        launched.close()


@pytest.fixture
def page(browser):
    page = browser.new_page()
    yield page
    page.close()


def ranked(runs):
    """Return the names of runs, the highest score first."""
    return [run.info.run_name for run in sorted(runs, key=lambda run: -run.data.metrics["best/val/score"])]


def test_the_printed_address_lists_the_runs_by_score_with_metrics_and_weights(swept, page, tmp_path):
    page.goto(swept.printed)
    page.get_by_role("link", name="age=10", exact=True).wait_for()
    page.screenshot(path=tmp_path / "list.png")
    headers = [header for header in page.get_by_role("columnheader").all() if "/" in header.inner_text()]
    headers.sort(key=lambda header: header.bounding_box()["x"])
    names = list(dict.fromkeys(header.inner_text().strip() for header in headers))
    assert names == ["best/val/score", *METRICS]
    assert page.get_by_role("columnheader", name="loss.weights.age").first.is_visible()
    listed = page.locator("a[href*='/runs/']").filter(has_text=re.compile("^age=")).all_inner_texts()
    assert listed == ranked(swept.children)


def test_the_sweeps_address_opens_charts_of_weights_and_unweighted_metrics(swept, page, tmp_path):
    (address,) = re.findall(r"in MLflow: (\S+)", swept.said)
    assert address.startswith("http://127.0.0.1:5000/#/")
    assert address.replace("&", "&amp;") in (next(swept.root.glob("reports/sweeps/*/comparison.html"))).read_text()
    page.goto(address.replace("http://127.0.0.1:5000", swept.base))
    plot = page.locator(".parcoords").first
    plot.wait_for()
    page.get_by_text("best/val/score", exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "charts.png")
    chosen = views.state_of(
        mlflow.MlflowClient(swept.base)
        .get_experiment(swept.experiment)
        .tags[f"{views.TAG}{swept.parent.data.tags['sweep']}"]
    )["compareRunCharts"][0]
    assert chosen["selectedParams"] == ["loss.weights.age"]
    assert chosen["selectedMetrics"] == [
        *sorted(METRICS, key=lambda name: ["age", "gender", "race"].index(name.split("/")[2])), "best/val/score",
    ]  # fmt: skip
    assert plot.locator(".dimension").count() == len(METRICS) + 2
    names = page.locator("a[href*='/runs/']").filter(has_text=re.compile("^age=")).all_inner_texts()
    assert names == ranked(swept.children)


def test_side_by_side_opens_on_a_metric_that_no_weight_changes(swept, page, tmp_path):
    """MLflow's own page chooses the settings that differ and the first metric that the runs have."""
    ids = [child.info.run_id for child in swept.children]
    page.goto(swept.base + views.page_side_by_side(swept.experiment, ids))
    page.get_by_text("Comparing 3 Runs").wait_for()
    plot = page.locator(".js-plotly-plot").first
    plot.locator(".axis-title", has_text="best/val/score").wait_for()
    page.screenshot(path=tmp_path / "compare.png")
    assert plot.locator(".axis-title").all_text_contents() == ["loss.weights.age", "best/val/score"]
    ends = {
        title: sorted(float(text) for text in axis.locator(".axis-extent-text").all_text_contents())
        for axis in plot.locator(".y-axis").all()
        for title in axis.locator(".axis-title").all_text_contents()
    }
    assert ends["loss.weights.age"] == [0.1, 10]
    scores = [child.data.metrics["best/val/score"] for child in swept.children]
    assert ends["best/val/score"] == pytest.approx([min(scores), max(scores)], abs=1e-4)


def link_of_description(page, text):
    """Return a link of a description; wide fonts make it so long that MLflow covers its end until one asks for more."""
    link = page.get_by_test_id("note-editor-preview-content").get_by_role("link", name=text, exact=True)
    link.wait_for()
    if (more := page.get_by_text("Show more", exact=True)).is_visible():
        more.click()
    return link


def test_the_sweeps_run_answers_at_its_top(swept, page, tmp_path):
    page.goto(swept.base + views.page_of_run(swept.experiment, swept.parent.info.run_id))
    page.get_by_text("Promote it:").wait_for()
    page.screenshot(path=tmp_path / "parent.png")
    seen = page.locator("body").inner_text()
    assert swept.parent.data.tags["promote"] in seen
    assert f"score {swept.parent.data.metrics['best/val/score']:.3f}" in seen
    with page.context.expect_page() as opened:
        link_of_description(page, "the best trial").click()
    assert swept.parent.data.tags["winner.run_id"] in opened.value.url


def test_the_drawing_of_the_network_is_shown_among_the_artifacts(swept, page, tmp_path):
    run_id = swept.children[0].info.run_id
    page.goto(swept.base + views.page_of_run(swept.experiment, run_id, "network.html"))
    drawing = page.frame_locator("iframe")
    drawing.get_by_text("layers that all heads share").wait_for()
    page.screenshot(path=tmp_path / "network.png")
    said = drawing.locator("body").inner_text()
    assert "image 16 x 16 x 3" in said
    for head in ("age", "race", "gender"):
        assert f"→ {head}:" in said


def test_a_run_leads_to_its_model_which_has_its_card(swept, page, tmp_path):
    run_id, card = (
        swept.children[0].info.run_id,
        "# Model card: sample\n\n| head | metric |\n| --- | --- |\n| age | 4.2 |",
    )
    with runs.run("manyheads", swept.root, runs.RunSpec(run_id=run_id)) as record:
        record.add_to_model({"model_card.md": card}, card)
    page.goto(swept.base + views.page_of_run(swept.experiment, run_id))
    with page.context.expect_page() as opened:
        link_of_description(page, "model").click()
    model = opened.value
    model.get_by_role("heading", name="Model card: sample").wait_for()
    model.get_by_role("cell", name="4.2").wait_for()
    model.screenshot(path=tmp_path / "model.png")
    model.close()


def test_a_busy_port_is_one_line(swept):
    done = subprocess.run(
        swept.command, cwd=swept.root, env=swept.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: port {swept.command[-1]} cannot be used")


def test_a_server_elsewhere_is_named_and_not_started(swept):
    environment = {**swept.environment, "MLFLOW_TRACKING_URI": swept.base}
    done = subprocess.run(
        swept.command, cwd=swept.root, env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.strip() == swept.printed
    assert done.stderr == ""
