"""Tables for ``dvc plots``, with the same columns for every head, and a page that needs no network.

The templates in ``.dvc/plots`` make one plot for each head in the tables.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from manyheads.heads import Head

# Version of Vega-Lite's schema in DVC's templates.
VEGA_LITE = "5.21"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Plots</title>
<style>body { font-family: system-ui, sans-serif; }</style>
<script>BUNDLE</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def curve_table(history: pd.DataFrame, heads: Mapping[str, Head]) -> pd.DataFrame:
    """Return the curves of a training, one row a value.

    Args:
        history: ``reports/history.csv``.
        heads: The heads by name.

    Returns:
        Columns ``epoch``, ``curve`` (such as ``age mae``), ``subset`` (``train`` or ``validation``) and ``value``. The
        curves are the loss, the score, and each head's loss and main metric.
    """
    curves = {"loss": "loss", "score": "score"}
    for name, head in heads.items():
        curves |= {f"{name} loss": f"{name}/loss", f"{name} {head.main_metric}": f"{name}/{head.main_metric}"}
    found = [
        pd.DataFrame({"epoch": history["epoch"], "curve": curve, "subset": subset, "value": history[f"{which}/{key}"]})
        for curve, key in curves.items()
        for which, subset in (("train", "train"), ("val", "validation"))
        if f"{which}/{key}" in history
    ]
    return pd.concat(found, ignore_index=True)


def prediction_pairs(heads: Mapping[str, Head], predictions: pd.DataFrame) -> pd.DataFrame:
    """Return pairs of label and prediction, one row a pair, without samples whose label is missing.

    Args:
        heads: The heads by name.
        predictions: ``reports/predictions.csv``.

    Returns:
        Columns ``head`` (for a head with several numbers, the column's name), ``scale`` (``classes`` or ``numbers``),
        ``actual``, ``predicted`` and ``samples``, the number of samples with the pair.
    """
    tables = []
    for head in heads.values():
        for column in head.label_columns:
            pairs = predictions[[f"{column}_label", column]].astype("string").replace("", pd.NA).dropna()
            counted = pairs.groupby([f"{column}_label", column], sort=True).size().reset_index(name="samples")
            counted.columns = pd.Index(["actual", "predicted", "samples"])
            counted.insert(0, "scale", "classes" if head.class_names else "numbers")
            counted.insert(0, "head", column)
            tables.append(counted)
    return pd.concat(tables, ignore_index=True)


def page_template() -> str:
    """Return the page template for ``dvc plots``, with Vega's JavaScript inside; it has about 1 MB."""
    import vl_convert

    return PAGE.replace("BUNDLE", vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE))
