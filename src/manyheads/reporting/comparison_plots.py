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

# How many letters fit side by side below a small plot.
LETTERS = 28

# The colour of dashes that stand for means, on white and on black.
MEAN = "#767676"


def _colour(candidate: Candidate, comparison: Comparison) -> str:
    return BEST if candidate is comparison.candidates[0] else FRONT if candidate.on_front else OTHER


def _hover(candidate: Candidate, comparison: Comparison) -> str:
    # Plotly reads a few tags in its texts; names are no tags.
    lines = [f"<b>{html.escape(candidate.name)}</b>", f"score {candidate.score:.3f}"]
    for head, label in axis_labels(comparison).items():
        metric = shown_value(comparison.main_metrics[head], candidate.metrics[head])
        lines.append(f"{html.escape(label)} {metric} (skill score {candidate.scores[head]:.3f})")
    lines.append(f"{candidate.seeds} seed{'' if candidate.seeds == 1 else 's'}")
    return "<br>".join(lines)


def _brief(text: str, length: int = 16) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _ticks(values: Sequence[float], logarithmic: bool) -> list[float]:
    """Return the values themselves if they are few, and else round numbers (1, 2, 5) among them."""
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
    """Return where a setting's values stand on a plot's axis, its ticks and their texts.

    Positive numbers stand by their logarithm to base 2, other numbers as they are, texts in their order.
    """
    numbers = [number for number in map(number_of, values) if number is not None]
    if len(numbers) < len(values):
        order = sorted(set(values), key=value_order)
        places = [float(order.index(value)) for value in values]
        return places, [float(i) for i in range(len(order))], [_brief(short_value(value), 14) for value in order]
    logarithmic = min(numbers) > 0
    ticks = _ticks(numbers, logarithmic)
    place = math.log2 if logarithmic else float
    span = place(max(numbers)) - place(min(numbers))
    kept: list[float] = []
    for tick in ticks:
        # Texts that stand too close would run into one another.
        if not kept or place(tick) - place(kept[-1]) >= span * (len(short_value(str(tick))) + 1.5) / LETTERS:
            kept.append(tick)
    return [place(number) for number in numbers], [place(tick) for tick in kept], [short_value(str(n)) for n in kept]


def parallel_plot(comparison: Comparison) -> Figure:
    """Return the parallel coordinates: settings, main metrics with the better end up, score; colour is the score."""
    import plotly.graph_objects as go

    names, dimensions = short_names(comparison.varied), []
    for setting in comparison.varied:
        places, ticks, texts = _scale([candidate.settings[setting] for candidate in comparison.candidates])
        if len(set(places)) > 1:
            dimensions.append(
                {"label": html.escape(_brief(names[setting])), "values": places, "tickvals": ticks, "ticktext": texts}
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
            # The ends of the axes, with all their digits, stand between ticks and labels.
            rangefont={"color": "rgba(0, 0, 0, 0)"},
            tickfont={"size": 11},
            unselected={"line": {"opacity": 0.08}},
        )
    )
    return styled(figure, 380, {"l": 100, "r": 50, "t": 60, "b": 24})


def _range(values: Sequence[float], more_is_better: bool) -> list[float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.01 or 1.0
    return [low - room, high + room] if more_is_better else [high + room, low - room]


def pair_plots(comparison: Comparison) -> list[Figure]:
    """Return the candidates by the main metrics of each two heads; up and right are better."""
    return [_pair_plot(comparison, across, up) for across, up in itertools.combinations(comparison.main_metrics, 2)]


def _pair_plot(comparison: Comparison, across: str, up: str) -> Figure:
    import plotly.graph_objects as go

    # The best is drawn last, on top.
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
    """Return the score and each head's skill score against a setting: candidates, means by value, the fitted line."""
    return [_effect_plot(comparison, setting, outcome) for outcome in (SCORE, *comparison.heads)]


def _effect_plot(comparison: Comparison, setting: str, outcome: str) -> Figure:
    import plotly.graph_objects as go

    settings = [candidate.settings[setting] for candidate in comparison.candidates]
    places, ticks, texts = _scale(settings)
    figure = go.Figure(
        go.Scatter(
            x=places,
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
    _add_fitted_line(figure, comparison, setting, outcome, places)
    _add_means(figure, comparison, setting, outcome, dict(zip(settings, places, strict=True)))
    room = (max(places) - min(places)) * 0.08
    figure.update_xaxes(
        tickvals=ticks,
        ticktext=list(map(html.escape, texts)),
        tickangle=0,
        range=[min(places) - room, max(places) + room],
    )
    figure.update_layout(title={"text": html.escape(outcome_label(outcome)), "x": 0, "xref": "paper", "font_size": 13})
    return styled(figure, 220, {"l": 46, "r": 8, "t": 30, "b": 36})


def _add_fitted_line(
    figure: Figure, comparison: Comparison, setting: str, outcome: str, places: Sequence[float]
) -> None:
    slopes = [each for each in comparison.slopes if (each.setting, each.outcome) == (setting, outcome)]
    for slope in slopes:
        values = [candidate.scores[outcome] for candidate in comparison.candidates]
        middle, height = sum(places) / len(places), sum(values) / len(values)
        ends = [min(places), max(places)]
        figure.add_scatter(
            x=ends,
            y=[height + slope.slope * (end - middle) for end in ends],
            mode="lines",
            line={"color": OTHER, "width": 1.5, "dash": "dot"},
            hoverinfo="skip",
        )


def _add_means(
    figure: Figure, comparison: Comparison, setting: str, outcome: str, place_of: Mapping[str, float]
) -> None:
    marginals = [marginal for marginal in comparison.marginals if marginal.setting == setting]
    if not marginals:
        return
    bars = {"type": "data", "array": _bars(comparison, marginals, outcome), "color": MEAN, "thickness": 1.2}
    figure.add_scatter(
        x=[place_of[marginal.value] for marginal in marginals],
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
