import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from manyheads.commands import plots
from manyheads.data.tables import write_table
from manyheads.heads import Binary, Box, Categorical, Regression, Vector
from manyheads.reporting.dvc_plots import curve_table, page_template, prediction_pairs

ROOT = Path(__file__).parents[2]
RACE = Categorical(name="race", classes=("None", "1"))
SYSTEMS = {
    "numbers alone": {
        "height": Vector(name="height", unit="m", minimum=0, maximum=9),
        "position": Vector(name="position", unit="m", width=2, minimum=0, maximum=9),
    },
    "classes alone": {"race": RACE},
    "both": {
        "age": Regression(name="age", unit="years", minimum=0, maximum=99),
        "gender": Binary(name="gender", classes=("f", "m")),
    },
    "boxes": {"race": RACE, "box": Box(name="box", of="race")},
}


def history(heads):
    epochs = pd.DataFrame({"epoch": [1, 2], "train/loss": [2.0, 1.0], "val/loss": [2.5, 1.5], "val/score": [0.1, 0.2]})
    for name, head in heads.items():
        for subset in ("train", "val"):
            epochs[f"{subset}/{name}/loss"] = epochs[f"{subset}/{name}/{head.main_metric}"] = [0.5, 0.25]
    return epochs


def predictions(heads):
    columns = {}
    for head in heads.values():
        for column in head.label_columns:
            values = np.array(head.class_names)[[0, 1, 1]] if head.class_names else [1.0, 2.5, 3.0]
            columns |= {f"{column}_label": values, column: values}
    return pd.DataFrame(columns)


def test_curves_have_the_same_columns_whatever_the_heads_are():
    table = curve_table(history(SYSTEMS["both"]), SYSTEMS["both"])
    assert list(table) == ["epoch", "curve", "subset", "value"]
    assert list(table["curve"].unique()) == ["loss", "score", "age loss", "age mae", "gender loss", "gender accuracy"]
    assert set(table.loc[table["curve"] == "score", "subset"]) == {"validation"}
    assert table.loc[(table["curve"] == "loss") & (table["subset"] == "train"), "value"].tolist() == [2.0, 1.0]


def test_pairs_are_counted_and_missing_labels_left_out():
    table = pd.DataFrame({"race_label": ["1", "1", "", "None"], "race": ["1", "1", "1", "1"]})
    assert prediction_pairs({"race": RACE}, table).to_dict("list") == {
        "head": ["race", "race"], "scale": ["classes"] * 2, "actual": ["1", "None"], "predicted": ["1", "1"],
        "samples": [2, 1],
    }  # fmt: skip


def test_a_head_of_several_numbers_has_a_plot_of_each():
    heads = SYSTEMS["boxes"]
    pairs = prediction_pairs(heads, predictions(heads))
    assert list(pairs["head"].unique()) == ["race", "box_left", "box_top", "box_width", "box_height"]
    assert pairs.groupby("head")["samples"].sum().eq(3).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_dvc_shows_any_system_without_a_warning_and_without_a_network(name, tmp_path, monkeypatch):
    heads, folder = SYSTEMS[name], tmp_path / "reports/plots"
    write_table(folder / "curves.csv", curve_table(history(heads), heads))
    write_table(folder / "predictions.csv", prediction_pairs(heads, predictions(heads)))
    pipeline = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text(pipeline[pipeline.index("\nplots:") :], encoding="utf-8")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/config.yaml").touch()
    for template in (ROOT / ".dvc/plots").glob("*.json"):
        target = tmp_path / ".dvc/plots" / template.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(template.read_bytes())
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    monkeypatch.chdir(tmp_path)
    plots.main([])
    done = subprocess.run([sys.executable, "-m", "dvc", "plots", "show"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    page = (tmp_path / "dvc_plots/index.html").read_text(encoding="utf-8")
    specs = [json.loads(spec) for spec in re.findall(r"var spec = (\{.*?\});\s+vegaEmbed", page, re.DOTALL)]
    assert len(specs) == 2
    assert {row["head"] for row in specs[1]["data"]["values"]} == set(
        prediction_pairs(heads, predictions(heads))["head"]
    )
    assert "window.vegaEmbed" in page
    without_bundle = re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", without_bundle)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("template", ["curves", "predictions"])
def test_vega_draws_the_templates_without_a_warning(name, template, capfd):
    import vl_convert

    heads = SYSTEMS[name]
    table = {
        "curves": curve_table(history(heads), heads),
        "predictions": prediction_pairs(heads, predictions(heads)),
    }[template]
    # As DVC fills it in: every value is a text.
    rows = table.astype(str).assign(rev="workspace").to_dict("records")
    text = (ROOT / f".dvc/plots/{template}.json").read_text(encoding="utf-8")
    picture = vl_convert.vegalite_to_svg(json.loads(text.replace('"<DVC_METRIC_DATA>"', json.dumps(rows))))
    for shown in table["curve" if template == "curves" else "head"].unique():
        assert f">{shown}<" in picture
    assert "NaN" not in picture
    assert "WARN" not in capfd.readouterr().err


def test_the_page_has_what_dvc_fills_in():
    page = page_template()
    assert page.count("{plot_divs}") == page.count("{refresh_tag}") == 1
    assert "{scripts}" not in page
