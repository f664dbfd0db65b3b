"""Plots of the data: distributions of the labels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from manyheads.heads import Head, Labels
from manyheads.reporting.contents import Contents
from manyheads.reporting.html import BLUE, COLOURS
from manyheads.reporting.plots import Plot, finished

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HEIGHT = 260


def data_plots(contents: Contents) -> list[Plot]:
    """Return the distribution of each head's labels, and the distributions in published bins."""
    return [
        *(_label_shares(contents, name) for name in contents.heads),
        *(_published_bin_shares(contents, name, bins) for name, bins in contents.published_bins.items()),
    ]


def _label_shares(contents: Contents, name: str) -> Plot:
    head = contents.heads[name]
    labels = head.labels_of(contents.manifest)
    labels = labels[head.present(labels)]
    counts = head.stratum_counts(labels)
    shares = dict(zip(head.stratum_names, counts / counts.sum(), strict=True))
    shares_text = ", ".join(f"{each} {100 * share:.1f} %" for each, share in shares.items())
    if head.class_names:
        figure = _class_bars(shares, counts.tolist())
        caption = f"{name}: share of each class among the accepted samples; the bars show the number of samples."
    elif np.issubdtype(labels.dtype, np.integer):
        figure = _number_bars(name, labels)
        caption = f"{name}: number of samples with each label; in bins, {shares_text}."
    else:
        figure = _histograms(head, labels)
        caption = f"{name}: number of samples by value."
    return finished(figure, caption, f"Bar chart of {name}: {shares_text}", HEIGHT)


def _class_bars(shares: Mapping[str, float], counts: Sequence[int]) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Bar(
            x=list(shares),
            y=list(shares.values()),
            text=[f"{n:,}" for n in counts],
            marker_color=BLUE,
            hovertemplate="%{x}: %{y:.1%}<extra></extra>",
        )
    )
    return figure.update_yaxes(title="share", tickformat=".0%")


def _histograms(head: Head, labels: Labels) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    columns = zip(head.label_columns, labels.reshape(len(labels), -1).T, strict=True)
    for i, (column, numbers) in enumerate(columns):
        figure.add_histogram(x=numbers, name=column, opacity=0.6, marker_color=COLOURS[i % len(COLOURS)])
    figure.update_layout(barmode="overlay")
    return figure.update_yaxes(title="samples")


def _number_bars(name: str, labels: Labels) -> Figure:
    import plotly.graph_objects as go

    counts = np.bincount(labels)
    figure = go.Figure(
        go.Bar(x=list(range(len(counts))), y=counts, marker_color=BLUE, hovertemplate="%{x}: %{y:,}<extra></extra>")
    )
    figure.update_layout(bargap=0.05)
    figure.update_xaxes(title=name)
    return figure.update_yaxes(title="samples")


def _published_bin_shares(contents: Contents, name: str, bins: Sequence[int]) -> Plot:
    import plotly.graph_objects as go

    counts = np.bincount(np.digitize(contents.manifest[name].to_numpy(), bins), minlength=len(bins) + 1)
    names = [
        f"below {bins[0]}",
        *(f"{low}-{high - 1}" for low, high in itertools.pairwise(bins)),
        f"{bins[-1]} and more",
    ]
    shares_text = ", ".join(f"{each} {n / counts.sum():.1%}" for each, n in zip(names, counts, strict=True))
    figure = go.Figure(
        go.Bar(x=names, y=counts / counts.sum(), text=[f"{n:,}" for n in counts], marker_color=BLUE, hoverinfo="skip")
    )
    figure.update_yaxes(title="share", tickformat=".0%")
    figure.update_xaxes(title=name)
    caption = f"{name} in the bins of {contents.published_by.partition(',')[0]}; the bars show the number of samples."
    return finished(figure, caption, f"Bar chart of {name}: {shares_text}", HEIGHT)
