import html
import io
import json
import re

import pandas as pd
import pytest
from plotly.offline import get_plotlyjs
from rich.console import Console

from manyheads.evaluation.comparison import compare
from manyheads.evaluation.trials import Trial
from manyheads.heads.metrics import Metric
from manyheads.reporting import comparison

HEADS = {"age": ("mae", 10.0), "race": ("accuracy", 1.0), "gender": ("accuracy", 1.0)}
MAIN = {head: Metric(name=metric, greater_is_better=metric != "mae") for head, (metric, _) in HEADS.items()}
NASTY = "<script>alert('x')</script>"


def trial(age, race, seed, status="FINISHED", error="", functions="mae"):
    metrics = {"best/val/score": 0.0, "best/epoch": 3, "wall_seconds": 10.0}
    for i, (head, (metric, _)) in enumerate(HEADS.items()):
        skill = 0.5 + 0.01 * age * (1 - i / 2) + 0.02 * race * i + 0.002 * seed
        metrics[f"best/val/{head}/skill"] = skill
        metrics[f"best/val/{head}/{metric}"] = 10 * (1 - skill) if metric == "mae" else skill
        metrics["best/val/score"] += skill
    settings = {"loss.weights.age": str(age), "loss.weights.race": str(race), "loss.functions.x": functions}
    overrides = (f"loss.weights.age={age}", f"loss.weights.race={race}", f"seed={seed}")
    name = f"age={age} race={race} seed={seed}"
    return Trial(name, status, settings | {"seed": str(seed)}, metrics, "abc", "0" * 32, error, overrides, "", MAIN)


def grid(seeds=(1, 2)):
    return [
        trial(age, race, seed, functions=NASTY if age == 1 else "mae")
        for age in (0.3, 1, 4)
        for race in (1, 2)
        for seed in seeds
    ]


def written(folder, trials, about=None):
    """Return the page without Plotly's own text, which nobody here wrote."""
    comparison.write(folder, compare(trials), about or {"command": "a command"})
    text = (folder / "comparison.html").read_text(encoding="utf-8")
    assert text.count(get_plotlyjs()) == (1 if text else 0)
    return text.replace(get_plotlyjs(), "")


def printed(trials):
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, highlight=False)
    comparison.show(compare(trials), console)
    return console.file.getvalue()


def test_the_page_loads_nothing(tmp_path):
    page = written(tmp_path, grid())
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", page)
    assert not re.search(r"https?://|url\(|@import", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "trials",
    [grid(), grid(seeds=(1,)), grid()[:1], [trial(1, 1, 1, "FAILED", "no space")], []],
    ids=["seeds", "no seeds", "one", "failed", "nothing"],
)
def test_a_page_and_a_table_come_of_any_trials(tmp_path, trials):
    page = written(tmp_path, trials)
    figures = [json.loads(html.unescape(text)) for text in re.findall(r'data-figure="([^"]*)"', page)]
    several = len(compare(trials).candidates) > 1
    # Parallel coordinates, a plot for each pair of heads, and for each setting one for the score and each head.
    assert len(figures) == (1 + 3 + 3 * 4 if several else 0)
    assert all(figure["data"] for figure in figures)
    assert printed(trials)


def test_what_others_wrote_is_text(tmp_path):
    page = written(tmp_path, [*grid(), trial(9, 9, 1, "FAILED", NASTY)], {NASTY: NASTY})
    assert NASTY not in page
    assert page.count("<script") == 2
    for text in re.findall(r'data-figure="([^"]*)"', page):
        assert "<script" not in html.unescape(text)
    assert NASTY in printed([*grid(), trial(9, 9, 1, "FAILED", NASTY)])


def test_the_csv_has_every_trial_and_no_formula(tmp_path):
    trials = [*grid(), trial(9, 9, 1, "FAILED", "=1+1")]
    written(tmp_path, trials)
    table = pd.read_csv(tmp_path / "trials.csv", keep_default_na=False)
    assert sorted(table["name"]) == sorted(each.name for each in trials)
    assert table["error"].tolist()[-1] == "'=1+1"


def test_axes_have_the_better_end_up(tmp_path):
    page = written(tmp_path, grid())
    first = json.loads(html.unescape(re.findall(r'data-figure="([^"]*)"', page)[0]))
    ranges = {axis["label"]: axis["range"] for axis in first["data"][0]["dimensions"] if "range" in axis}
    assert ranges["age MAE"][0] > ranges["age MAE"][1]
    assert ranges["race accuracy"][0] < ranges["race accuracy"][1]
    weights = next(axis for axis in first["data"][0]["dimensions"] if axis["label"] == "age")
    assert weights["ticktext"] == ["0.3", "1", "4"]
    assert weights["tickvals"][1:] == [0, 2]


def test_the_terminal_says_what_is_best_what_is_noise_and_what_to_type():
    text = printed([*grid(), trial(9, 9, 1, "FAILED", "out of\nmemory" + " x" * 200)])
    lines = text.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert re.search(r"^ *\*F +mae +4 +2 ", text, re.MULTILINE)
    assert "failed: age=9 race=9 seed=1: out of memory" in text
    assert lines[-1] == "dvc exp run -S loss.weights.age=4 -S loss.weights.race=2"
    assert "Noise: the seed alone moves the score by 0.004" in text
    assert "x=mae age=4 race=2 is better than every other candidate" in " ".join(text.split())


def test_without_repeated_seeds_it_says_how_to_get_them():
    text = " ".join(printed(grid(seeds=(1,))).split())
    assert "Noise is unknown" in text
    assert "`seed=1,2,3`" in text
    assert "better than every" not in text


def test_a_long_command_is_one_line():
    long = [
        Trial(**{**vars(each), "overrides": (*each.overrides, *(f"model.long_name_{i}={i}" for i in range(20)))})
        for each in grid()
    ]
    assert printed(long).splitlines()[-1].endswith("model.long_name_19=19")
