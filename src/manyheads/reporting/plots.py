"""What the plots of a report share: their form, legend and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from manyheads.reporting.html import styled

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MARGIN = {"l": 56, "r": 12, "t": 30, "b": 44}
HEIGHT = 300


class Plot(NamedTuple):
    """A plot on the page.

    Attributes:
        plot: Plotly's JSON.
        caption: What it shows.
        alternative: The same in words, for readers who cannot see it.
    """

    plot: str
    caption: str
    alternative: str


def finished(
    figure: Figure, caption: str, alternative: str, height: int = HEIGHT, *, legend: bool = False, **margin: int
) -> Plot:
    """Return a plot in the manner of the page.

    Args:
        figure: Changed in place.
        caption: See ``Plot``.
        alternative: See ``Plot``.
        height: In pixels.
        legend: Whether it has a legend, above the plot.
        margin: ``l``, ``r``, ``t`` or ``b`` in pixels, where they differ from ``MARGIN``.
    """
    styled(figure, height, MARGIN | margin)
    if legend:
        place = {"orientation": "h", "y": 1.03, "yanchor": "bottom", "x": 0, "font": {"size": 11}}
        # A legend of four entries takes two lines.
        figure.update_layout(showlegend=True, legend=place, margin_t=56)
    return Plot(figure.to_json(), caption, alternative)


def error_bars(estimates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return Plotly's setting for the intervals of estimates."""
    return {
        "type": "data",
        "array": [each["high"] - each["value"] for each in estimates],
        "arrayminus": [each["value"] - each["low"] for each in estimates],
        "thickness": 1,
        "width": 0,
    }
