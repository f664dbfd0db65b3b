"""Names that are formulas, markup or commands of a terminal, in files, classes, settings, runs and options."""

import html
import html.parser
import io
import json
import logging
import re
import shutil
import signal
import sys
import tarfile

import mlflow
import numpy as np
import pandas as pd
import pytest

from conftest import ROOT, TINY, compose, make_tiny_project
from manyheads import __main__
from manyheads.config import loading
from manyheads.data import tables
from manyheads.evaluation.comparison import compare
from manyheads.evaluation.paired import pair
from manyheads.evaluation.trials import Trial
from manyheads.heads import Categorical
from manyheads.heads.metrics import Metric
from manyheads.paths import Paths
from manyheads.preprocessing.split_counts import count_split
from manyheads.reporting import comparison, paired
from manyheads.runtime import printing
from manyheads.runtime.credentials import log_to_stderr
from manyheads.runtime.files import write_text
from manyheads.stages import evaluate, parse, report, train

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

HOSTILE = [
    "=cmd()|' /C calc'!A0",
    "<script>window.hit=1</script>",
    '<a href="https://example.org/">x</a>',
    '"onmouseover="window.hit=1',
    "100 %{x} {{ 7 * 7 }} %s",
    "family 👩‍👧 [/b]",
    "two\nlines",
    "\u202etxt.gpj",
    "\x1b[2J\x1b]0;title\x07",
    "é" * 120,
]
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal acts on, or cannot show."""


class Elements(html.parser.HTMLParser):
    """Counts the elements of a page, and keeps what they refer to and react to."""

    def __init__(self, page):
        super().__init__()
        self.names, self.links = {}, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names[tag] = self.names.get(tag, 0) + 1
        self.links += [f"{name}={value}" for name, value in attrs if name.startswith("on") or name in ("href", "src")]


def require_no_foreign_element(page, scripts=2):
    elements = Elements(page)
    assert elements.names["script"] == scripts
    assert not [link for link in elements.links if "example.org" in link or "hit" in link]
    for text in re.findall(r'data-figure="([^"]*)"', page):
        assert not re.search("<(?!/?(?:br|b|extra)>)", json.dumps(json.loads(html.unescape(text)), ensure_ascii=False))


def seen_in_a_browser(path):
    """Open a page and return the number of links and of scripts in it, whether one ran, and what it asked for."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_function("!document.querySelector('[data-figure]') || document.querySelector('.main-svg')")
        for element in page.locator("details").all():
            element.evaluate("each => each.open = true")
        counts = page.evaluate(
            '[document.querySelectorAll(\'[href*="example.org"], a[*|href*="example.org"]\').length,'
            " document.querySelectorAll('script').length, window.hit || 0]"
        )
        browser.close()
    return *counts, [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


# In data


def class_folders(root, names):
    with tarfile.open(root / "set.tar", "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))


def test_row_26_a_path_of_any_bytes_is_the_same_in_the_manifest_or_is_rejected(tmp_path):
    hostile = [*HOSTILE, "\udcff\udcfe", "a\rb", "a\tb", "'quoted", "''=1+1", "-1", " ", "NULL", "nan", "1e5", "\ufeff"]
    names = [f"set/{'red' if i % 2 else 'blue'}/{name.replace('/', ':')}.jpg" for i, name in enumerate(hostile)]
    class_folders(tmp_path, names)
    config = compose("data=utkface")
    values = config.model_dump(mode="json")
    values["data"] |= {"name": "class_folders", "path": "set.tar", "max_reject_fraction": 0.5, "columns": {}}
    values["data"]["heads"] = {"class": {"kind": "categorical", "classes": ["red", "blue"]}}
    values["loss"] |= {"weights": {"class": 1}, "functions": {"class": "categorical_crossentropy"}}
    config = loading.load(values)
    layout = Paths(tmp_path)
    parse.run(config, layout, layout)
    kept = tables.read_manifest(layout.manifest, config.data.heads)["path"].tolist()
    rejected = tables.read_table(layout.rejected, "parse", ["path"])
    assert len(kept) + len(rejected) == len(names)
    assert set(kept) <= set(names)
    for path in (layout.manifest, layout.rejected):
        cells = pd.read_csv(path, dtype=str, keep_default_na=False).to_numpy().ravel().tolist()
        assert not [cell for cell in cells if re.match(r"[=@\t\r]|[+-](?![\d.])", cell)]


def test_row_27_class_names_that_differ_in_unicode_form_alone_are_one(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    with pytest.raises(ValueError, match="classes must differ, and not in Unicode form alone"):
        Categorical(name="place", classes=(composed, decomposed))
    head = Categorical(name="place", classes=("bar", composed))
    assert head.read(decomposed) == head.read(composed) == (1,)


# On pages, in records


@pytest.fixture(scope="module")
def reported(tmp_path_factory, migrated_store):
    """Return a project whose classes, samples and data have hostile names, after training, evaluation and report."""
    root = tmp_path_factory.mktemp("project")
    layout = make_tiny_project(root, migrated_store)
    values = compose(*TINY, "train.epochs=1").model_dump(mode="json")
    values["data"]["path"] = f"data/raw/{HOSTILE[1].replace('/', ':')} {HOSTILE[6]} {HOSTILE[8]}.tar"
    values["data"]["heads"]["race"]["classes"] = HOSTILE[:5]
    values["data"]["heads"]["gender"]["classes"] = [HOSTILE[6], HOSTILE[8]]
    config = loading.load(values)
    for path in (layout.samples, layout.splits):
        frame = tables.with_formulas(pd.read_csv(path, keep_default_na=False))
        frame["path"] = [f"{HOSTILE[i % len(HOSTILE)]}/{i}" for i in range(len(frame))]
        tables.write_table(path, frame)
    samples = tables.read_samples(layout.samples, config.data.heads)
    splits = tables.read_splits(layout.splits)
    write_text(layout.split_counts, json.dumps(count_split(samples, config.data.heads, splits, {})))
    tables.write_rejected(layout.rejected, [(printing.printable(name), "parse", "CODE", name) for name in HOSTILE])
    for stage in (train, evaluate, report):
        stage.run(config, layout, layout)
    return layout, config


@pytest.mark.slow
def test_row_27_the_report_and_the_cards_show_names_as_text(reported):
    layout, config = reported
    require_no_foreign_element(layout.report.read_text(encoding="utf-8"))
    for card in sorted(layout.report.parent.rglob("*card*.md")):
        text = card.read_text(encoding="utf-8")
        assert not re.search(r"(?<!\\)<(?:script|a)\b", text), card
        assert not re.search(r"^(?:two|lines)", text, re.MULTILINE), card
    predictions = tables.read_predictions(layout.predictions, config.data.heads)
    assert set(predictions["race_label"]) <= set(HOSTILE[:5])
    raw = pd.read_csv(layout.predictions, dtype=str, keep_default_na=False)
    assert not [cell for cell in raw[["path", "race", "gender"]].to_numpy().ravel() if re.match("[=@+\t\r]", cell)]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_row_27_the_report_runs_and_links_nothing_in_a_browser(reported):
    links, scripts, hit, asked = seen_in_a_browser(reported[0].report)
    assert (links, scripts, hit, asked) == (0, 2, 0, [])


@pytest.mark.slow
def test_row_27_the_record_in_mlflow_has_the_names_as_they_are(reported):
    layout, _ = reported
    mlflow.set_tracking_uri(f"sqlite:///{layout.root}/mlflow.db")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FINISHED"
    description = run.data.tags["mlflow.note.content"]
    assert "<script" not in re.sub("`+[^`]*`+", "", description)
    assert not ACTING.search(description)


MAIN = {"race": Metric(name="accuracy", greater_is_better=True)}


def trial(number, name):
    metrics = {"best/val/score": 0.1 * number, "best/val/race/skill": 0.1 * number, "best/val/race/accuracy": 0.5}
    return Trial(
        name, "FINISHED", {"loss.functions.race": name, "seed": "1"}, metrics | {"best/epoch": 1, "wall_seconds": 2.0},
        "abc", "0" * 32, "", (f"loss.functions.race={name}",), "", MAIN,
    )  # fmt: skip


def test_row_26_a_comparison_of_hostile_values_is_text_and_no_formula(tmp_path):
    compared = compare([*(trial(i, name) for i, name in enumerate(HOSTILE)), trial(1, "\x1b[31mred")])
    comparison.write(tmp_path, compared, {HOSTILE[1]: HOSTILE[3]})
    require_no_foreign_element((tmp_path / "comparison.html").read_text(encoding="utf-8"))
    console = printing.console(file=io.StringIO(), width=100, highlight=False)
    comparison.show(compared, console)
    assert not ACTING.search(console.file.getvalue())
    names = pd.read_csv(tmp_path / "trials.csv", keep_default_na=False)["name"]
    assert not [name for name in names if re.match("[=+@-]", name)]


def test_row_27_the_paired_page_and_its_table_show_names_as_text(tmp_path):
    heads = {"race": Categorical(name="race", classes=tuple(HOSTILE))}
    generator = np.random.default_rng(0)
    labels = np.array(HOSTILE)[generator.integers(0, len(HOSTILE), 300)]
    frames = [
        pd.DataFrame(
            {"path": [str(i) for i in range(300)], "group": [str(i) for i in range(300)], "race_label": labels,
             "race": np.where(generator.random(300) < share, labels, HOSTILE[0])}
        )
        for share in (0.5, 0.8)
    ]  # fmt: skip
    names = (HOSTILE[2], HOSTILE[8])
    compared = pair(heads, *frames)
    paired.write(tmp_path, compared, names)
    require_no_foreign_element((tmp_path / "paired.html").read_text(encoding="utf-8"))
    console = printing.console(file=io.StringIO(), width=100, highlight=False)
    paired.show(compared, names, console)
    assert not ACTING.search(console.file.getvalue())


# On the terminal


WHOLE = "\x1b[2J\x1b]0;title\x07\u202e=cmd()\n<b>[/b]"


@pytest.fixture
def run(capsys, monkeypatch):
    """Return a function that runs a command in this process and returns its status and what it prints."""
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    logs = logging.getLogger().handlers[:]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            __main__.main(list(arguments))
        return end.value.code or 0, "".join(capsys.readouterr())

    yield run
    logging.getLogger().handlers[:] = logs
    for number, handler in handlers:
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "command",
    [
        ["{}"], ["parse", "data={}"], ["parse", "data.name={}"], ["parse", "train.{}=1"], ["parse", "--{}"],
        ["parse", "data=utkface", "data.path={}"], ["predict", "{}"], ["predict", "a.jpg", "--model", "{}"],
        ["new", "{}", "--from", "a.csv"], ["new", "wine", "--from", "{}"], ["results", "{}"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_row_27_the_terminal_shows_a_name_and_does_not_act_on_it(command, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for file in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / file, tmp_path)
    status, said = run(*(word.replace("{}", WHOLE) for word in command))
    assert status in (2, 3, 4, 5)
    assert not ACTING.search(said)
    assert "Traceback" not in said


def test_row_27_the_log_shows_a_name_and_does_not_act_on_it(run, capsys):
    log_to_stderr("%(message)s")
    logging.getLogger("test").info("%s: an error of \udcff", WHOLE)
    said = capsys.readouterr().err
    assert "an error" in said
    assert not ACTING.search(said)
