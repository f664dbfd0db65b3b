"""TODO manyheads.reporting.report_plots."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from manyheads.heads import Head
from manyheads.reporting.contents import Contents
from manyheads.reporting.html import BLUE, COLOURS, GREY, ORANGE, styled
from manyheads.reporting.numbers import estimate_text, figure_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


MARGIN = {"l": 56, "r": 12, "t": 30, "b": 44}


HEIGHT = 300


class Plot(NamedTuple):
    """A figure on the page.

    Attributes:
        plot: Plotly's JSON.
        caption: What it shows.
        alternative: The same in words, for who cannot see it.
    """

    plot: str
    caption: str
    alternative: str


def _plot(figure: Figure, caption: str, alternative: str, height: int = HEIGHT, **margin: int) -> Plot:
    plot: str = styled(figure, height, MARGIN | margin).to_json()
    return Plot(plot, caption, alternative)


def label_shares(contents: Contents, name: str) -> Plot:
    import plotly.graph_objects as go

    head = contents.heads[name]
    labels = head.labels_of(contents.manifest)
    labels = labels[head.present(labels)]
    counts = head.stratum_counts(labels)
    shares = counts / counts.sum()
    words = ", ".join(f"{each} {100 * share:.1f} %" for each, share in zip(head.stratum_names, shares, strict=True))
    figure = go.Figure()
    if head.class_names:
        figure.add_bar(
            x=list(head.class_names),
            y=shares,
            text=[f"{n:,}" for n in counts],
            marker_color=BLUE,
            hovertemplate="%{x}: %{y:.1%}<extra></extra>",
        )
        figure.update_yaxes(tickformat=".0%")
        caption = f"{name}: share of each class among the accepted samples; in the bars, how many."
    elif labels.ndim > 1:
        for i, column in enumerate(head.label_columns):
            figure.add_histogram(x=labels[:, i], name=column, opacity=0.6, marker_color=COLOURS[i % len(COLOURS)])
        figure.update_layout(barmode="overlay")
        caption = f"{name}: samples with each value."
    else:
        every = np.bincount(labels)
        figure.add_bar(
            x=list(range(len(every))), y=every, marker_color=BLUE, hovertemplate="%{x}: %{y:,}<extra></extra>"
        )
        figure.update_layout(bargap=0.05)
        figure.update_xaxes(title=name)
        caption = f"{name}: samples with each label; in bins, {words}."
    figure.update_yaxes(title="share" if head.class_names else "samples")
    return _plot(figure, caption, f"Bar chart of {name}: {words}", 260)


def published_bin_shares(contents: Contents, name: str, bins: Sequence[int]) -> Plot:
    import plotly.graph_objects as go

    counts = np.bincount(np.digitize(contents.manifest[name].to_numpy(), bins), minlength=len(bins) + 1)
    names = [
        f"below {bins[0]}",
        *(f"{low}-{high - 1}" for low, high in itertools.pairwise(bins)),
        f"{bins[-1]} and more",
    ]
    words = ", ".join(f"{each} {n / counts.sum():.1%}" for each, n in zip(names, counts, strict=True))
    figure = go.Figure(
        go.Bar(x=names, y=counts / counts.sum(), text=[f"{n:,}" for n in counts], marker_color=BLUE, hoverinfo="skip")
    )
    figure.update_yaxes(title="share", tickformat=".0%")
    figure.update_xaxes(title=name)
    caption = f"{name} in the bins of {contents.published_by.partition(',')[0]}; in the bars, how many."
    return _plot(figure, caption, f"Bar chart of {name}: {words}", 260)


def training_plots(contents: Contents) -> list[Plot]:
    import plotly.graph_objects as go

    history, drawn = contents.history, []
    epochs = history["epoch"]
    best = int(epochs.iloc[history["val/score"].argmax()])

    def curves(columns: Mapping[str, tuple[str, str]], title: str, caption: str, **margin: int) -> None:
        figure = go.Figure()
        for label, (column, colour) in columns.items():
            if column in history:
                figure.add_scatter(
                    x=epochs, y=history[column], name=label, mode="lines", line={"color": colour, "width": 2}
                )
        figure.add_vline(x=best, line={"color": GREY, "dash": "dot", "width": 1})
        figure.update_xaxes(title="epoch")
        figure.update_yaxes(title=title)
        last = {label: history[column].iloc[-1] for label, (column, _) in columns.items() if column in history}
        words = ", ".join(f"{label} {value:.3g}" for label, value in last.items())
        one = _plot(
            figure,
            f"{caption} Dotted: the epoch that was kept, {best}.",
            f"{title} by epoch; at the end {words}",
            **margin,
        )
        drawn.append(one._replace(plot=_with_legend(figure)))

    both = {"train": ORANGE, "val": BLUE}
    words = {"train": "training (as augmented)", "val": "validation"}
    curves({words[p]: (f"{p}/loss", c) for p, c in both.items()}, "loss", "What is minimised: the weighted sum.")
    for name, head in contents.heads.items():
        metric = head.main_metric
        for column in ("loss", metric):
            curves(
                {words[part]: (f"{part}/{name}/{column}", colour) for part, colour in both.items()},
                f"{name}: {column}",
                f"{name}: {'its loss, not weighted' if column == 'loss' else figure_name(metric)}.",
            )
    drawn.append(_contributions(contents))
    curves(
        {"learning rate": ("train/learning_rate", BLUE)},
        "learning rate",
        "The learning rate at the end of each epoch.",
        l=72,
    )
    return drawn


def _with_legend(figure: Figure) -> str:
    legend = {"orientation": "h", "y": 1.03, "yanchor": "bottom", "x": 0, "font": {"size": 11}}
    # A legend of four entries takes two lines.
    figure.update_layout(showlegend=True, legend=legend, margin_t=56)
    text: str = figure.to_json()
    return text


def _contributions(contents: Contents) -> Plot:
    """Return how much of the training loss each head is: what the weights really do."""
    import plotly.graph_objects as go

    history, figure, parts = contents.history, go.Figure(), {}
    for name, weight in contents.weights.items():
        along = history[f"train/{name}/weight"] if weight is None else weight
        parts[name] = history[f"train/{name}/loss"] * along
    total = np.sum([np.abs(values) for values in parts.values()], axis=0)
    for (name, values), colour in zip(parts.items(), itertools.cycle(COLOURS), strict=False):
        figure.add_scatter(
            x=history["epoch"],
            y=np.abs(values) / total,
            name=name,
            stackgroup="one",
            mode="none",
            fillcolor=colour,
            hovertemplate=f"{name}: %{{y:.1%}}<extra></extra>",
        )
    figure.update_yaxes(title="share of the loss", tickformat=".0%", range=[0, 1])
    figure.update_xaxes(title="epoch")
    words = ", ".join(f"{name} {abs(values.iloc[-1]) / total[-1]:.0%}" for name, values in parts.items())
    drawn = _plot(
        figure,
        "Weight times loss of each head, as a share of their sum: who has the say in a step. It is not the share of "
        f"the gradient. At the end: {words}.",
        f"Stacked areas of each head's share of the training loss; at the end {words}",
    )
    return drawn._replace(plot=_with_legend(figure))


def result_plots(contents: Contents, name: str) -> list[Plot]:
    head, found = contents.heads[name], contents.evaluation["heads"][name]
    drawn = []
    if head.class_names:
        drawn.append(_confusion(name, head, contents.confusions[name]))
        drawn.append(_reliability(name, found["calibration"]))
    else:
        drawn += [_scatter(contents, column) for column in head.label_columns]
    if "by_predicted" in found:
        drawn.append(_by_bin(contents, name))
    if "coverage" in found:
        drawn.append(_coverage(name, found["coverage"]))
    if "selective" in found:
        drawn.append(_selective(name, head, found["selective"]))
    return drawn


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
    figure.update_yaxes(autorange="reversed", title="as labelled")
    figure.update_xaxes(title="as predicted")
    right = ", ".join(f"{each} {shares[i, i]:.0%}" for i, each in enumerate(classes))
    return _plot(
        figure,
        f"{name}: of the samples of each label, the share with each prediction, and how many.",
        f"Confusion matrix of {name}; right: {right}",
        120 + 52 * len(classes),
        l=90,
    )


def _reliability(name: str, calibration: Mapping[str, Any]) -> Plot:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, name="calibrated")
    for which, colour in (("before", ORANGE), ("after", BLUE)):
        rows = [
            (sure, right)
            for sure, right in zip(calibration[which]["confidence"], calibration[which]["accuracy"], strict=True)
            if right["low"] is not None
        ]
        figure.add_scatter(
            x=[sure for sure, _ in rows],
            y=[right["value"] for _, right in rows],
            error_y=_error_bars([right for _, right in rows]),
            mode="lines+markers",
            marker={"color": colour, "size": 6},
            line={"color": colour, "width": 1.5},
            name=f"{which} temperature scaling",
        )
    start = min(calibration["before"]["confidence"])
    figure.update_xaxes(title="confidence", range=[max(0, start - 0.05), 1.01])
    figure.update_yaxes(title="share right", range=[max(0, start - 0.15), 1.02])
    eces = {which: estimate_text(calibration[which]["figures"]["ece"], "ece") for which in ("before", "after")}
    drawn = _plot(
        figure,
        f"{name}: what a confidence is worth, in 15 bins of equal mass. Expected calibration error {eces['before']}, "
        f"with the temperature that fits the validation subset best, {calibration['temperature']:.2f}, {eces['after']}.",
        f"Reliability of {name}: calibration error {eces['before']} before and {eces['after']} after scaling",
    )
    return drawn._replace(plot=_with_legend(figure))


def _error_bars(estimates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Plotly's setting for the intervals of estimates."""
    return {
        "type": "data",
        "array": [each["high"] - each["value"] for each in estimates],
        "arrayminus": [each["value"] - each["low"] for each in estimates],
        "thickness": 1,
        "width": 0,
    }


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
    return _plot(
        figure,
        f"{name}: how many samples have which label and prediction, the lighter the more; on the dotted line a "
        "prediction is right.",
        f"Map of labels and predictions of {name}",
        380,
    )


def _by_bin(contents: Contents, name: str) -> Plot:
    """Return error and bias by bin of the label and of the prediction: they tell opposite stories."""
    import plotly.graph_objects as go

    by_predicted = contents.evaluation["heads"][name]["by_predicted"]
    figures = list(by_predicted[0]["figures"])
    words = " and ".join(figure_name(shown) for shown in figures)
    labelled = [
        {"group": cell["group"][0], "figures": cell["figures"]}
        for cell in contents.evaluation["groups"]
        if cell["attributes"] == [name] and cell["head"] == name
    ]
    figure = go.Figure()
    for rows, colour, label in (
        (labelled, BLUE, "by label"),
        (by_predicted, ORANGE, "by prediction"),
    ):
        for shown, dash in zip(figures, ("solid", "dot"), strict=False):
            known = [(row["group"], row["figures"][shown]) for row in rows if row["figures"][shown]["low"] is not None]
            figure.add_scatter(
                x=[group for group, _ in known],
                y=[value["value"] for _, value in known],
                error_y=_error_bars([value for _, value in known]),
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 1.5},
                name=f"{contents.heads[name].metric(shown).label} {label}",
            )
    figure.update_xaxes(
        title=name, type="category", categoryorder="array", categoryarray=list(contents.heads[name].stratum_names)
    )
    figure.update_yaxes(title=getattr(contents.heads[name], "unit", ""))
    drawn = _plot(
        figure,
        f"{name}: {words} by bin of the label, and by bin of the prediction. "
        "The first says for whom the model fails, the second what an answer is worth.",
        f"{words[0].upper()}{words[1:]} of {name} by bin of label and of prediction",
        340,
        r=30,
    )
    return drawn._replace(plot=_with_legend(figure))


def _coverage(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(x=[0.4, 1], y=[0.4, 1], mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip")
    figure.add_scatter(
        x=[row["level"] for row in rows],
        y=[row["value"] for row in rows],
        error_y=_error_bars(rows),
        mode="lines+markers",
        line={"color": BLUE},
    )
    figure.update_xaxes(title="promised", tickformat=".0%", range=[0.45, 1.0])
    figure.update_yaxes(title="held", tickformat=".0%", range=[0.4, 1.02])
    words = ", ".join(f"{row['level']:.0%}: {row['value']:.1%}, {row['width']:.1f} wide" for row in rows)
    return _plot(
        figure, f"{name}: share of the labels inside the central intervals. {words}.", f"Coverage of {name}: {words}"
    )


def _selective(name: str, head: Head, rows: Sequence[Mapping[str, Any]]) -> Plot:
    import plotly.graph_objects as go

    known = [row for row in rows if row["figure"]["low"] is not None]
    figure = go.Figure()
    figure.add_scatter(
        x=[row["kept"] for row in known] + [row["kept"] for row in reversed(known)],
        y=[row["figure"]["high"] for row in known] + [row["figure"]["low"] for row in reversed(known)],
        fill="toself",
        mode="none",
        fillcolor="rgba(0,114,178,0.2)",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[row["kept"] for row in known],
        y=[row["figure"]["value"] for row in known],
        mode="lines+markers",
        line={"color": BLUE},
    )
    figure.update_xaxes(title="share that is answered, the surest first", tickformat=".0%", autorange="reversed")
    figure.update_yaxes(title=figure_name(head.main_metric))
    half = next((row for row in known if row["kept"] == 0.5), known[0])
    words = f"of the surest {half['kept']:.0%}, {estimate_text(half['figure'], head.main_metric)}"
    return _plot(
        figure,
        f"{name}: {figure_name(head.main_metric)} if the model may decline; {words}.",
        f"Selective {figure_name(head.main_metric)} of {name}; {words}",
    )


def group_plots(contents: Contents) -> dict[str, Plot]:
    """Return, for each two attributes, each head's main metric as a map."""
    import plotly.graph_objects as go

    drawn = {}
    small = contents.evaluation["small"]
    for first, second in itertools.combinations(contents.heads, 2):
        cells = [cell for cell in contents.evaluation["groups"] if cell["attributes"] == [first, second]]
        for name, head in contents.heads.items():
            rows, columns = contents.heads[first].stratum_names, contents.heads[second].stratum_names
            values, metric = np.full((len(rows), len(columns)), np.nan), head.metric(head.main_metric)
            text = [["" for _ in columns] for _ in rows]
            for cell in cells:
                if cell["head"] == name:
                    i, j = rows.index(cell["group"][0]), columns.index(cell["group"][1])
                    value = cell["figures"][head.main_metric]["value"]
                    if value is not None:
                        values[i, j] = value
                        few = "*" if cell["n"] < small else ""
                        text[i][j] = f"{value:.{max(metric.digits - 1, 0)}f}{few}"
            scale = "Blues" if metric.greater_is_better else "Oranges"
            figure = go.Figure(
                go.Heatmap(
                    z=values, x=list(columns), y=list(rows), text=text, texttemplate="%{text}", colorscale=scale,
                    showscale=False, hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
                )
            )  # fmt: skip
            figure.update_yaxes(autorange="reversed", title=first, type="category")
            figure.update_xaxes(title=second, type="category")
            drawn[f"{first} {second} {name}"] = _plot(
                figure,
                f"{name}, {figure_name(head.main_metric)}, by {first} and {second}; * fewer than {small} samples.",
                f"{figure_name(head.main_metric)} of {name} by {first} and {second}",
                100 + 30 * len(rows),
                l=90,
            )
    return drawn
