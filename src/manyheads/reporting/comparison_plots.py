"""Plots of a comparison of trials."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from manyheads.evaluation.candidates import Candidate
from manyheads.evaluation.comparison import Comparison
from manyheads.evaluation.effects import MAX_VALUES, Marginal
from manyheads.evaluation.settings import number_of, short_names, short_value, value_order
from manyheads.evaluation.trials import SCORE
from manyheads.reporting.comparison_text import axis_labels, half_width, outcome_label, shown_value
from manyheads.reporting.html import BLUE, GREY, ORANGE, styled

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BEST, FRONT, OTHER = ORANGE, BLUE, GREY

MAX_TICKS = 6

# Number of letters that fit side by side below a small plot.
LETTERS = 28

# Colour of the dashes for means, readable on white and on black.
MEAN = "#767676"


def _colour(candidate: Candidate, comparison: Comparison) -> str:
    return BEST if candidate is comparison.candidates[0] else FRONT if candidate.on_front else OTHER


def _hover(candidate: Candidate, comparison: Comparison) -> str:
    # Escaped, because Plotly interprets some HTML tags in its texts.
    lines = [f"<b>{html.escape(candidate.name)}</b>", f"score {candidate.score:.3f}"]
    for head, label in axis_labels(comparison).items():
        metric = shown_value(comparison.main_metrics[head], candidate.metrics[head])
        lines.append(f"{html.escape(label)} {metric} (skill score {candidate.scores[head]:.3f})")
    lines.append(f"{candidate.seeds} seed{'' if candidate.seeds == 1 else 's'}")
    return "<br>".join(lines)


def _brief(text: str, length: int = 16) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _ticks(values: Sequence[float], logarithmic: bool) -> list[float]:
    """Return the values themselves if there are few, otherwise round numbers (1, 2, 5) in their range."""
    few = sorted(set(values))
    if len(few) <= MAX_VALUES:
        return few
    low, high = few[0], few[-1]
    if logarithmic:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        round_numbers = [[step * 10.0**decade for decade in decades for step in steps] for steps in ((1, 2, 5), (1,))]
        ticks = [[tick for tick in ticks if low <= tick <= high] for ticks in round_numbers]
        return ticks[0] if len(ticks[0]) <= MAX_TICKS else ticks[1]
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step *= next(factor for factor in (1, 2, 5) if (high - low) / (step * factor) <= MAX_TICKS)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _scale(values: Sequence[str]) -> tuple[list[float], list[float], list[str]]:
    """Return the positions of a setting's values on an axis, the positions of its ticks, and the ticks' texts.

    The position of a positive number is its logarithm to base 2, that of another number the number itself, and that of
    a text its rank.
    """
    numbers = [number for number in map(number_of, values) if number is not None]
    if len(numbers) < len(values):
        order = sorted(set(values), key=value_order)
        positions = [float(order.index(value)) for value in values]
        return positions, [float(i) for i in range(len(order))], [_brief(short_value(value), 14) for value in order]
    logarithmic = min(numbers) > 0
    ticks = _ticks(numbers, logarithmic)
    position = math.log2 if logarithmic else float
    span = position(max(numbers)) - position(min(numbers))
    kept: list[float] = []
    for tick in ticks:
        # Texts that are too close would overlap.
        if not kept or position(tick) - position(kept[-1]) >= span * (len(short_value(str(tick))) + 1.5) / LETTERS:
            kept.append(tick)
    return (
        [position(number) for number in numbers],
        [position(tick) for tick in kept],
        [short_value(str(n)) for n in kept],
    )


def parallel_plot(comparison: Comparison) -> Figure:
    """Return parallel coordinates of settings, main metrics (the better end is up) and score, coloured by score."""
    import plotly.graph_objects as go

    names, dimensions = short_names(comparison.varied), []
    for setting in comparison.varied:
        positions, ticks, texts = _scale([candidate.settings[setting] for candidate in comparison.candidates])
        if len(set(positions)) > 1:
            dimensions.append(
                {
                    "label": html.escape(_brief(names[setting])),
                    "values": positions,
                    "tickvals": ticks,
                    "ticktext": texts,
                }
            )
    for head, label in axis_labels(comparison).items():
        metric = comparison.main_metrics[head]
        values = [candidate.metrics[head] for candidate in comparison.candidates]
        dimensions.append(
            {"label": html.escape(_brief(label)), "values": values, "range": _range(values, metric.greater_is_better)}
        )
    scores = [candidate.score for candidate in comparison.candidates]
    dimensions.append({"label": SCORE, "values": scores, "range": _range(scores, True)})
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": scores, "colorscale": [[0, "#e0b64a"], [0.5, "#7d8a94"], [1, "#00224e"]]},
            labelfont={"size": 13},
            # Transparent: the ends of the axes, with all their digits, would overlap the ticks.
            rangefont={"color": "rgba(0, 0, 0, 0)"},
            tickfont={"size": 11},
            unselected={"line": {"opacity": 0.08}},
        )
    )
    return styled(figure, 380, {"l": 100, "r": 50, "t": 60, "b": 24})


def _range(values: Sequence[float], greater_is_better: bool) -> list[float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.01 or 1.0
    return [low - room, high + room] if greater_is_better else [high + room, low - room]


def pair_plots(comparison: Comparison) -> list[Figure]:
    """Return scatter plots of the candidates by the main metrics of each two heads; up and right are better."""
    return [_pair_plot(comparison, across, up) for across, up in itertools.combinations(comparison.main_metrics, 2)]


def _pair_plot(comparison: Comparison, across: str, up: str) -> Figure:
    import plotly.graph_objects as go

    # The best candidate comes last, so that it is on top.
    order = sorted(comparison.candidates, key=lambda candidate: (candidate.on_front, candidate.score))
    bars = {
        f"error_{axis}": {
            "type": "data",
            "array": [half_width(comparison, candidate, head) for candidate in order],
            "thickness": 1,
            "width": 0,
            "color": "rgba(90, 90, 90, 0.4)",
        }
        for axis, head in (("x", across), ("y", up))
        if comparison.noise
    }
    figure = go.Figure(
        go.Scatter(
            x=[candidate.metrics[across] for candidate in order],
            y=[candidate.metrics[up] for candidate in order],
            mode="markers",
            marker={
                "size": [11 if candidate.on_front else 8 for candidate in order],
                "symbol": ["diamond" if candidate.on_front else "circle" for candidate in order],
                "color": [_colour(candidate, comparison) for candidate in order],
                "opacity": 1,
                "line": {"color": "white", "width": 1},
            },
            hovertext=[_hover(candidate, comparison) for candidate in order],
            hoverinfo="text",
            **bars,
        )
    )
    labels = axis_labels(comparison)
    for axis, head in (("xaxis", across), ("yaxis", up)):
        better = comparison.main_metrics[head].greater_is_better
        title = f"{html.escape(labels[head])}{'' if better else ' (reversed)'}"
        figure.update_layout(
            {axis: {"title": {"text": title, "standoff": 10}, "autorange": True if better else "reversed"}}
        )
    return styled(figure, 320, {"l": 70, "r": 12, "t": 12, "b": 50})


def effect_plots(comparison: Comparison, setting: str) -> list[Figure]:
    """Return plots of the score and each head's skill score against a setting, with means by value and fitted lines."""
    return [_effect_plot(comparison, setting, outcome) for outcome in (SCORE, *comparison.heads)]


def _effect_plot(comparison: Comparison, setting: str, outcome: str) -> Figure:
    import plotly.graph_objects as go

    settings = [candidate.settings[setting] for candidate in comparison.candidates]
    positions, ticks, texts = _scale(settings)
    figure = go.Figure(
        go.Scatter(
            x=positions,
            y=[candidate.scores[outcome] for candidate in comparison.candidates],
            mode="markers",
            marker={
                "size": 6,
                "color": [_colour(candidate, comparison) for candidate in comparison.candidates],
                "opacity": 0.65,
            },
            hovertext=[_hover(candidate, comparison) for candidate in comparison.candidates],
            hoverinfo="text",
        )
    )
    _add_fitted_line(figure, comparison, setting, outcome, positions)
    _add_means(figure, comparison, setting, outcome, dict(zip(settings, positions, strict=True)))
    room = (max(positions) - min(positions)) * 0.08
    figure.update_xaxes(
        tickvals=ticks,
        ticktext=list(map(html.escape, texts)),
        tickangle=0,
        range=[min(positions) - room, max(positions) + room],
    )
    figure.update_layout(title={"text": html.escape(outcome_label(outcome)), "x": 0, "xref": "paper", "font_size": 13})
    return styled(figure, 220, {"l": 46, "r": 8, "t": 30, "b": 36})


def _add_fitted_line(
    figure: Figure, comparison: Comparison, setting: str, outcome: str, positions: Sequence[float]
) -> None:
    slopes = [each for each in comparison.slopes if (each.setting, each.outcome) == (setting, outcome)]
    for slope in slopes:
        values = [candidate.scores[outcome] for candidate in comparison.candidates]
        middle, height = sum(positions) / len(positions), sum(values) / len(values)
        ends = [min(positions), max(positions)]
        figure.add_scatter(
            x=ends,
            y=[height + slope.slope * (end - middle) for end in ends],
            mode="lines",
            line={"color": OTHER, "width": 1.5, "dash": "dot"},
            hoverinfo="skip",
        )


def _add_means(
    figure: Figure, comparison: Comparison, setting: str, outcome: str, position_of: Mapping[str, float]
) -> None:
    marginals = [marginal for marginal in comparison.marginals if marginal.setting == setting]
    if not marginals:
        return
    bars = {"type": "data", "array": _bars(comparison, marginals, outcome), "color": MEAN, "thickness": 1.2}
    figure.add_scatter(
        x=[position_of[marginal.value] for marginal in marginals],
        y=[marginal.scores[outcome] for marginal in marginals],
        mode="markers",
        marker={"size": 16, "symbol": "line-ew", "line": {"width": 2.5, "color": MEAN}},
        error_y=bars,
        hovertext=[_marginal_hover(comparison, marginal) for marginal in marginals],
        hoverinfo="text",
    )


def _bars(comparison: Comparison, marginals: Sequence[Marginal], name: str) -> list[float] | None:
    if comparison.noise is None:
        return None
    return [comparison.noise.half_width(comparison.noise.scores[name], marginal.seeds) for marginal in marginals]


def _marginal_hover(comparison: Comparison, marginal: Marginal) -> str:
    lines = [f"<b>mean of {len(marginal.seeds)}</b>", f"score {marginal.scores[SCORE]:.3f}"]
    for head, label in axis_labels(comparison).items():
        metric = shown_value(comparison.main_metrics[head], marginal.metrics[head])
        lines.append(f"{html.escape(label)} {metric} (skill score {marginal.scores[head]:.3f})")
    return "<br>".join(lines)
