"""Rendering of pages: each is one file that needs no network, with light and dark colours and Plotly's plots."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyheads.heads.metrics import Metric
from manyheads.reporting.labels import wording
from manyheads.reporting.numbers import estimate_text, number_text, signed_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FOLDER = Path(__file__).parent / "templates"

# Okabe and Ito's palette, which is safe for colour-blind readers; its colours are readable on white and on black.
ORANGE, BLUE, GREEN, PURPLE, GREY = "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#9a9a9a"
SKY, YELLOW = "#56b4e9", "#e69f00"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, GREY)


class Markdown(str):
    """A text that is Markdown already."""

    __slots__ = ()


FILTERS: Mapping[str, Callable[..., Any]] = {
    "metric": lambda name: Metric(name=name),
    "label": lambda metric: wording(metric).label,
    "digits": lambda metric: wording(metric).digits,
    "number": number_text,
    "signed": signed_text,
    "estimate": estimate_text,
    "markdown": Markdown,
}
"""Filters of every template, for metrics and numbers. ``metric`` makes a ``Metric`` of a name, and ``markdown`` marks a
text that is Markdown already."""


def render(template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """Return a page rendered from a template in ``templates/``; values are escaped for its format, HTML or Markdown.

    Args:
        template: File name of the template.
        filters: Further filters of this template.
        values: Variables of the template.
    """
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_in_markdown if template.endswith(".md") else None,
    )
    environment.filters |= {**FILTERS, **(filters or {})}
    return environment.get_template(template).render(plotly=get_plotlyjs(), **values)


def _in_markdown(value: Any) -> Any:
    """Return a value of a template so that its marks are shown and its lines stay in a cell of a table."""
    if isinstance(value, str) and not isinstance(value, Markdown):
        return re.sub(r"([\\*\[\]<>|])", r"\\\1", re.sub(r"\s*[\r\n]\s*", " ", value))
    return value


def figure_json(figure: Figure) -> str:
    """Return a figure as Plotly's JSON for a page, in which names from data are text and no link or other element.

    Plotly reads some tags of HTML in texts. Those of this project stay: line ends, bold type and the end of a template.
    """
    # Plotly's JSON has escapes for the signs of HTML.
    return re.sub(r"\\u003c(?!(?:\\u002f)?(?:br|b|extra)\\u003e)", "&lt;", figure.to_json())


def styled(figure: Figure, height: int, margin: Mapping[str, int]) -> Figure:
    """Return a figure in the style of the pages; the page sets its text and background colours.

    Args:
        figure: The figure, which is changed in place.
        height: Height in pixels; the width follows the page.
        margin: Margins ``l``, ``r``, ``t`` and ``b`` in pixels.
    """
    figure.update_layout(
        template="none",
        height=height,
        margin=dict(margin),
        showlegend=False,
        dragmode=False,
        font={"family": "system-ui, sans-serif", "size": 12},
        hoverlabel={"align": "left"},
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(zeroline=False, automargin=False)
    return figure
