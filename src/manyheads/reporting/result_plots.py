"""Plots of the results: predictions against labels, confidence, and metrics by group."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from manyheads.heads import Head
from manyheads.reporting.contents import Contents
from manyheads.reporting.html import BLUE, GREY, ORANGE
from manyheads.reporting.labels import wording
from manyheads.reporting.numbers import estimate_text
from manyheads.reporting.plots import Plot, error_bars, finished


def result_plots(contents: Contents, name: str) -> list[Plot]:
    """Return the plots of one head."""
    head, found = contents.heads[name], contents.evaluation["heads"][name]
    plots = []
    if head.class_names:
        plots.append(_confusion(name, head, contents.confusions[name]))
        plots.append(_reliability(name, found["calibration"]))
    else:
        plots += [_scatter(contents, column) for column in head.label_columns]
    if "by_predicted" in found:
        plots.append(_by_bin(contents, name))
    if "coverage" in found:
        plots.append(_coverage(name, found["coverage"]))
    if "selective" in found:
        plots.append(_selective(name, head, found["selective"]))
    return plots


def _confusion(name: str, head: Head, counts: list[list[int]]) -> Plot:
    import plotly.graph_objects as go

    matrix = np.asarray(counts)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    classes = list(head.class_names)
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=classes,
            y=classes,
            text=[
                [f"{share:.2f}<br>{n}" for share, n in zip(*rows, strict=True)]
                for rows in zip(shares, matrix, strict=True)
            ],
            texttemplate="%{text}",
            meta="ink",
            colorscale=[[0, "rgba(0,114,178,0.04)"], [1, "rgba(0,114,178,0.55)"]],
            zmin=0,
            zmax=1,
            showscale=False,
            hovertemplate="labelled %{y}, predicted %{x}: %{z:.1%}<extra></extra>",
        )
    )
    # The standoff is from the names of the classes; without it a long one runs into the title.
    figure.update_yaxes(autorange="reversed", title={"text": "as labelled", "standoff": 6}, automargin=True)
    figure.update_xaxes(title="as predicted")
    recall = ", ".join(f"{each} {shares[i, i]:.0%}" for i, each in enumerate(classes))
    return finished(
        figure,
        f"{name}: share and number of each label's samples with each prediction.",
        f"Confusion matrix of {name}; correct: {recall}",
        120 + 52 * len(classes),
        l=90,
    )


def _reliability(name: str, calibration: Mapping[str, Any]) -> Plot:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, name="calibrated")
    for which, colour in (("before", ORANGE), ("after", BLUE)):
        rows = [
            (confidence, accuracy)
            for confidence, accuracy in zip(
                calibration[which]["confidence"], calibration[which]["accuracy"], strict=True
            )
            if accuracy["low"] is not None
        ]
        figure.add_scatter(
            x=[confidence for confidence, _ in rows],
            y=[accuracy["value"] for _, accuracy in rows],
            error_y=error_bars([accuracy for _, accuracy in rows]),
            mode="lines+markers",
            marker={"color": colour, "size": 6},
            line={"color": colour, "width": 1.5},
            name=f"{which} temperature scaling",
        )
    start = min(calibration["before"]["confidence"])
    figure.update_xaxes(title="confidence", range=[max(0, start - 0.05), 1.01])
    figure.update_yaxes(title="accuracy", range=[max(0, start - 0.15), 1.02])
    eces = {which: estimate_text(calibration[which]["metrics"]["ece"]) for which in ("before", "after")}
    return finished(
        figure,
        f"{name}: accuracy by confidence, in 15 bins of equal mass. Expected calibration error {eces['before']}; "
        f"{eces['after']} with the temperature that fits the validation subset best, {calibration['temperature']:.2f}.",
        f"Reliability of {name}: calibration error {eces['before']} before and {eces['after']} after scaling",
        legend=True,
    )


def _scatter(contents: Contents, name: str) -> Plot:
    import plotly.graph_objects as go

    table = contents.predictions.dropna(subset=[f"{name}_label"])
    labels, predicted = table[f"{name}_label"], table[name]
    ends = [float(min(labels.min(), predicted.min())), float(max(labels.max(), predicted.max()))]
    edges = np.linspace(ends[0], ends[1], 61)
    counts, _, _ = np.histogram2d(predicted, labels, bins=[edges, edges])
    middle = (edges[1:] + edges[:-1]) / 2
    figure = go.Figure(
        go.Heatmap(
            x=middle,
            y=middle,
            z=np.where(counts > 0, counts, np.nan),
            colorscale="Viridis",
            showscale=False,
            hovertemplate="labelled %{x:.0f}, predicted %{y:.0f}: %{z}<extra></extra>",
        )
    )
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip")
    figure.update_xaxes(title="as labelled")
    figure.update_yaxes(title="as predicted")
    return finished(
        figure,
        f"{name}: number of samples by label and prediction; lighter cells have more. Predictions on the dotted line "
        "are correct.",
        f"Map of labels and predictions of {name}",
        380,
    )


def _by_bin(contents: Contents, name: str) -> Plot:
    """Return the metrics by bin of the label and by bin of the prediction, which can differ much."""
    import plotly.graph_objects as go

    head, by_predicted = contents.heads[name], contents.evaluation["heads"][name]["by_predicted"]
    metrics = [head.metric(each) for each in by_predicted[0]["metrics"]]
    labels = " and ".join(wording(metric).label for metric in metrics)
    labelled = [
        {"group": cell["group"][0], "metrics": cell["metrics"]}
        for cell in contents.evaluation["groups"]
        if cell["attributes"] == [name] and cell["head"] == name
    ]
    figure = go.Figure()
    for rows, colour, label in (
        (labelled, BLUE, "by label"),
        (by_predicted, ORANGE, "by prediction"),
    ):
        for metric, dash in zip(metrics, itertools.cycle(("solid", "dot")), strict=False):
            estimates = [(row["group"], row["metrics"][metric.name]) for row in rows]
            known = [(group, value) for group, value in estimates if value["low"] is not None]
            figure.add_scatter(
                x=[group for group, _ in known],
                y=[value["value"] for _, value in known],
                error_y=error_bars([value for _, value in known]),
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 1.5},
                name=f"{wording(metric).short} {label}",
            )
    figure.update_xaxes(title=name, type="category", categoryorder="array", categoryarray=list(head.stratum_names))
    figure.update_yaxes(title=head.label_unit)
    return finished(
        figure,
        f"{name}: {labels} by bin of the label, and by bin of the prediction. "
        "The first shows which samples have large errors, the second how far to trust a prediction.",
        f"{labels[0].upper()}{labels[1:]} of {name} by bin of label and of prediction",
        340,
        legend=True,
        r=30,
    )


def _coverage(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(x=[0.4, 1], y=[0.4, 1], mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip")
    figure.add_scatter(
        x=[row["level"] for row in rows],
        y=[row["value"] for row in rows],
        error_y=error_bars(rows),
        mode="lines+markers",
        line={"color": BLUE},
    )
    figure.update_xaxes(title="nominal coverage", tickformat=".0%", range=[0.45, 1.0])
    figure.update_yaxes(title="measured coverage", tickformat=".0%", range=[0.4, 1.02])
    levels = ", ".join(f"{row['level']:.0%}: {row['value']:.1%}, {row['width']:.1f} wide" for row in rows)
    return finished(
        figure, f"{name}: share of the labels inside the central intervals. {levels}.", f"Coverage of {name}: {levels}"
    )


def _selective(name: str, head: Head, rows: Sequence[Mapping[str, Any]]) -> Plot:
    import plotly.graph_objects as go

    metric = wording(head.metric(head.main_metric))
    known = [row for row in rows if row["metric"]["low"] is not None]
    figure = go.Figure()
    figure.add_scatter(
        x=[row["kept"] for row in known] + [row["kept"] for row in reversed(known)],
        y=[row["metric"]["high"] for row in known] + [row["metric"]["low"] for row in reversed(known)],
        fill="toself",
        mode="none",
        fillcolor="rgba(0,114,178,0.2)",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[row["kept"] for row in known],
        y=[row["metric"]["value"] for row in known],
        mode="lines+markers",
        line={"color": BLUE},
    )
    figure.update_xaxes(title="share of the samples, most confident first", tickformat=".0%", autorange="reversed")
    figure.update_yaxes(title=metric.label)
    half = next((row for row in known if row["kept"] == 0.5), known[0])
    at_half = f"for the most confident {half['kept']:.0%}, {estimate_text(half['metric'], metric.digits)}"
    return finished(
        figure,
        f"{name}: {metric.label} of the most confident predictions; {at_half}.",
        f"Selective {metric.label} of {name}; {at_half}",
    )


def group_plots(contents: Contents) -> dict[str, Plot]:
    """Return heat maps of each head's main metric by two attributes.

    The keys are the names of both attributes and of the head, separated by spaces.
    """
    return {
        f"{first} {second} {name}": _group_map(contents, first, second, name)
        for first, second in itertools.combinations(contents.heads, 2)
        for name in contents.heads
    }


def _group_map(contents: Contents, first: str, second: str, name: str) -> Plot:
    import plotly.graph_objects as go

    heads, small = contents.heads, contents.evaluation["small"]
    metric = heads[name].metric(heads[name].main_metric)
    label, digits = wording(metric).label, max(wording(metric).digits - 1, 0)
    rows, columns = heads[first].stratum_names, heads[second].stratum_names
    values = np.full((len(rows), len(columns)), np.nan)
    text = [["" for _ in columns] for _ in rows]
    for cell in contents.evaluation["groups"]:
        if cell["attributes"] == [first, second] and cell["head"] == name:
            value = cell["metrics"][metric.name]["value"]
            if value is not None:
                i, j = rows.index(cell["group"][0]), columns.index(cell["group"][1])
                values[i, j] = value
                text[i][j] = f"{value:.{digits}f}{'*' if cell['n'] < small else ''}"
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(columns),
            y=list(rows),
            text=text,
            texttemplate="%{text}",
            colorscale="Blues" if metric.greater_is_better else "Oranges",
            showscale=False,
            hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", title=first, type="category")
    figure.update_xaxes(title=second, type="category")
    return finished(
        figure,
        f"{name}, {label}, by {first} and {second}; * fewer than {small} samples.",
        f"{label} of {name} by {first} and {second}",
        100 + 30 * len(rows),
        l=90,
    )
