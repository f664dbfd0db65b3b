"""Plots of a training: losses and metrics by epoch, and each head's share of the loss."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from manyheads.reporting.contents import Contents
from manyheads.reporting.html import BLUE, COLOURS, GREY, ORANGE
from manyheads.reporting.labels import wording
from manyheads.reporting.plots import Plot, finished

COLOUR_OF = {"train": ORANGE, "val": BLUE}
NAME_OF = {"train": "training (as augmented)", "val": "validation"}


def training_plots(contents: Contents) -> list[Plot]:
    """Return the losses, each head's loss and main metric, the heads' shares of the loss, and the learning rate."""
    plots = [_both(contents, "loss", "loss", "The training objective, the weighted sum of the heads' losses.")]
    for name, head in contents.heads.items():
        metric = head.metric(head.main_metric)
        plots += [
            _both(contents, f"{name}/loss", f"{name}: loss", f"{name}: its loss without weight."),
            _both(contents, f"{name}/{metric.name}", f"{name}: {metric.name}", f"{name}: {wording(metric).label}."),
        ]
    rate = {"learning rate": ("train/learning_rate", BLUE)}
    caption = "The learning rate at the end of each epoch."
    return [*plots, _loss_shares(contents), _curves(contents, rate, "learning rate", caption, l=72)]


def _both(contents: Contents, column: str, title: str, caption: str) -> Plot:
    """Return a plot of a column of the history, for the train and the validation subset."""
    columns = {NAME_OF[subset]: (f"{subset}/{column}", colour) for subset, colour in COLOUR_OF.items()}
    return _curves(contents, columns, title, caption)


def _curves(
    contents: Contents, columns: Mapping[str, tuple[str, str]], title: str, caption: str, **margin: int
) -> Plot:
    """Return a plot of columns of the history by epoch.

    Args:
        contents: Contents of the page, with the history.
        columns: The column and the colour of each curve, by its name in the legend. A missing column has no curve.
        title: Title of the vertical axis.
        caption: Start of the caption.
        margin: See ``finished``.
    """
    import plotly.graph_objects as go

    history, figure, last = contents.history, go.Figure(), {}
    best = int(history["epoch"].iloc[history["val/score"].argmax()])
    for name, (column, colour) in columns.items():
        if column in history:
            last[name] = history[column].iloc[-1]
            line = {"color": colour, "width": 2}
            figure.add_scatter(x=history["epoch"], y=history[column], name=name, mode="lines", line=line)
    figure.add_vline(x=best, line={"color": GREY, "dash": "dot", "width": 1})
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title=title)
    return finished(
        figure,
        f"{caption} Dotted: the best epoch, {best}, which is kept.",
        f"{title} by epoch; at the end {', '.join(f'{name} {value:.3g}' for name, value in last.items())}",
        legend=True,
        **margin,
    )


def _loss_shares(contents: Contents) -> Plot:
    """Return a plot of each head's share of the training loss, the effect of the weights."""
    import plotly.graph_objects as go

    history, figure, losses = contents.history, go.Figure(), {}
    for name, weight in contents.weights.items():
        weights = history[f"train/{name}/weight"] if weight is None else weight
        losses[name] = history[f"train/{name}/loss"] * weights
    total = np.sum([np.abs(values) for values in losses.values()], axis=0)
    for (name, values), colour in zip(losses.items(), itertools.cycle(COLOURS), strict=False):
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
    shares = ", ".join(f"{name} {abs(values.iloc[-1]) / total[-1]:.0%}" for name, values in losses.items())
    return finished(
        figure,
        "Weight times loss of each head, as a share of their sum. A head's share of the gradient may differ. "
        f"At the end: {shares}.",
        f"Stacked areas of each head's share of the training loss; at the end {shares}",
        legend=True,
    )
