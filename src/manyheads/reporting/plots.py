"""Common parts of a report's plots: style, legend and error bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from manyheads.reporting.html import figure_json, styled

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MARGIN = {"l": 56, "r": 12, "t": 30, "b": 44}
HEIGHT = 300


class Plot(NamedTuple):
    """A plot on the page.

    Attributes:
        plot: The figure as Plotly's JSON.
        caption: Caption below the plot.
        alternative: Text for readers who cannot see the plot.
    """

    plot: str
    caption: str
    alternative: str


def finished(
    figure: Figure, caption: str, alternative: str, height: int = HEIGHT, *, legend: bool = False, **margin: int
) -> Plot:
    """Return a plot in the style of the page.

    Args:
        figure: The figure, which is changed in place.
        caption: See ``Plot``.
        alternative: See ``Plot``.
        height: Height in pixels.
        legend: Whether there is a legend above the plot.
        margin: Margins ``l``, ``r``, ``t`` or ``b`` in pixels that differ from ``MARGIN``.
    """
    styled(figure, height, MARGIN | margin)
    if legend:
        position = {"orientation": "h", "y": 1.03, "yanchor": "bottom", "x": 0, "font": {"size": 11}}
        # The top margin has room for a legend of two lines.
        figure.update_layout(showlegend=True, legend=position, margin_t=56)
    return Plot(figure_json(figure), caption, alternative)


def error_bars(estimates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Plotly's error bars for the intervals of estimates.

    Args:
        estimates: ``value``, ``low`` and ``high`` of each point; none is None.
    """
    return {
        "type": "data",
        "array": [each["high"] - each["value"] for each in estimates],
        "arrayminus": [each["value"] - each["low"] for each in estimates],
        "thickness": 1,
        "width": 0,
    }
