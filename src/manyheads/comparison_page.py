"""A comparison as people read it: a page that needs no network, a CSV, and a table on the terminal."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyheads.comparison import (
    CONFIDENCE,
    MAX_VALUES,
    SCORE,
    Candidate,
    Comparison,
    Marginal,
    Slope,
    number_of,
    short_names,
    short_value,
    value_order,
)
from manyheads.files import write_text
from manyheads.heads import Metric
from manyheads.page import BLUE, GREY, ORANGE, render, styled
from manyheads.tables import write_table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from rich.console import Console

PAGE = "comparison.html"
TABLE = "points.csv"

ROWS_ON_TERMINAL = 20
MAX_TICKS = 6
# So many stand side by side below a small plot.
LETTERS = 28
NAMES_IN_A_SENTENCE = 4
# More settings than these do not fit a terminal as columns of their own.
SETTING_COLUMNS = 3
BEST, FRONT, OTHER = ORANGE, BLUE, GREY
# Of dashes that stand for means, on white and on black.
MEAN = "#767676"


def write(folder: Path, comparison: Comparison, about: Mapping[str, str]) -> None:
    """Write ``comparison.html`` and ``points.csv``.

    Args:
        folder: Where to; it is made if it is missing.
        comparison: What to show.
        about: Where the points come from, such as the command, the data and the git commit; shown as it is.
    """
    effects = _effects(comparison)
    page = render(
        "comparison.html",
        {"signed": _signed, "short": short_value},
        comparison=comparison,
        title=_title(comparison),
        answer=answer(comparison),
        noise=noise_sentence(comparison),
        names=short_names(comparison.varied),
        labels=_labels(comparison),
        shown=_shown,
        half_width=_half_width,
        effects=effects,
        parallel=_parallel(comparison).to_json() if len(comparison.candidates) > 1 else "",
        pairs=[figure.to_json() for figure in _pairs(comparison)],
        plots={
            effect["setting"]: [figure.to_json() for figure in _effect_plots(comparison, effect["setting"])]
            for effect in effects
        },
        confidence=f"{CONFIDENCE:.0%}",
        table=TABLE,
        about=about,
    )
    write_text(folder / PAGE, page)
    points = comparison.table()
    for column in {"name", "error"} & set(points):
        # A spreadsheet would take these for formulae.
        points[column] = points[column].str.replace(r"^([=+\-@\t\r])", r"'\1", regex=True)
    write_table(folder / TABLE, points)


def show(comparison: Comparison, console: Console) -> None:
    """Print the table of candidates, what failed, the effects, the noise and the recommendation.

    Args:
        comparison: What to show.
        console: Where to. 100 columns hold three heads and three settings.
    """
    from rich.markup import escape

    console.print(f"[bold]{_title(comparison)}[/bold]", soft_wrap=True)
    if comparison.candidates:
        console.print(_terminal_table(comparison))
        more = len(comparison.candidates) - ROWS_ON_TERMINAL
        rest = f"; {more} more in {TABLE}" if more > 0 else ""
        first = "best" if comparison.noise else "highest"
        console.print(f"  * {first}   ~ within noise of it   F on the Pareto front{rest}\n", soft_wrap=True)
    for point in comparison.left_out:
        console.print(escape(f"{point.status.lower()}: {point.name}: {' '.join(point.error.split())}"[:200]))
    for effect in _effects(comparison):
        if effect["slopes"]:
            console.print(escape(f"{effect['name']} doubled: {effect['slopes']}"))
    for sentence in (noise_sentence(comparison), answer(comparison)):
        console.print(escape(sentence))
    if comparison.recommendation and comparison.recommendation.command:
        console.print(escape(comparison.recommendation.command), soft_wrap=True)


def answer(comparison: Comparison) -> str:
    """Return the recommendation in words."""
    if comparison.recommendation is None:
        return "No training finished, so there is nothing to recommend."
    best, others = comparison.recommendation.candidate, comparison.recommendation.within_noise
    seeds = f", mean of {best.seeds} seeds" if best.seeds > 1 else ""
    figures = ", ".join(
        f"{label} {_shown(comparison.main_metrics[head], best.metrics[head])}"
        for head, label in _labels(comparison).items()
    )
    what = f"score {best.score:.3f}{f' ({figures})' if figures else ''}{seeds}"
    if len(comparison.candidates) == 1:
        said = f"{best.name} is the only candidate: {what}."
    elif comparison.noise is None:
        said = f"{best.name} is highest: {what}. That is no proof that it is better."
    elif others:
        named = ", ".join(other.name for other in others[:NAMES_IN_A_SENTENCE])
        more = len(others) - NAMES_IN_A_SENTENCE
        said = f"{best.name} is highest: {what}. Within noise of it: {named}{f' and {more} more' if more > 0 else ''}."
    else:
        said = f"{best.name} is better than every other candidate: {what}."
    if not comparison.recommendation.command:
        said += " Its runs do not say which overrides made it, so there is no command for it."
    return said


def noise_sentence(comparison: Comparison) -> str:
    """Return what is known of the noise, in words, and without repeated seeds how to come to know it."""
    if not comparison.candidates:
        return "Noise is unknown: no training finished."
    if comparison.noise is None:
        return (
            "Noise is unknown: no candidate was trained with two seeds, so nothing is called better, only higher. "
            "Add `seed=1,2,3` to the sweep."
        )
    noise = comparison.noise
    metrics = ", ".join(
        f"{label} by {_shown(comparison.main_metrics[head], noise.metrics[head])}"
        for head, label in _labels(comparison).items()
    )
    said = (
        f"Noise: the seed alone moves the score by {noise.figures[SCORE]:.3f}{f', {metrics}' if metrics else ''} "
        f"(standard deviation, {noise.degrees} degrees of freedom)."
    )
    margins = sorted({round(other.margin, 3) for other in comparison.candidates[1:] if other.margin is not None})
    if margins:
        span = f"{margins[0]:.3f}" if len(margins) == 1 else f"{margins[0]:.3f} to {margins[-1]:.3f}"
        said += f" Less than {span} from the best is within noise."
    return said


def _title(comparison: Comparison) -> str:
    points, candidates = len(comparison.points), len(comparison.candidates)
    finished = points - len(comparison.left_out)
    title = f"{points} training{'' if points == 1 else 's'}, {candidates} candidate{'' if candidates == 1 else 's'}"
    return title if finished == points else f"{title}, {points - finished} not compared"


def _labels(comparison: Comparison) -> dict[str, str]:
    """Return the label of each head's main metric, such as ``age MAE``."""
    return {head: f"{head} {metric.label}" for head, metric in comparison.main_metrics.items()}


def _shown(metric: Metric, value: float) -> str:
    return f"{value:.{metric.digits}f}"


def _signed(value: float) -> str:
    # A true minus sign, as wide as the plus.
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _half_width(comparison: Comparison, candidate: Candidate, head: str | None = None) -> float | None:
    """Return half the confidence interval of a candidate's score or of a head's main metric, if noise is known."""
    if comparison.noise is None:
        return None
    deviation = comparison.noise.figures[SCORE] if head is None else comparison.noise.metrics[head]
    return comparison.noise.half_width(deviation, [candidate.seeds])


def _terminal_table(comparison: Comparison) -> Any:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("")
    names = short_names(comparison.varied)
    apart = 0 < len(comparison.varied) <= SETTING_COLUMNS
    for name in names.values() if apart else ["candidate"]:
        table.add_column(escape(name), overflow="fold")
    table.add_column("seeds", justify="right")
    for head, label in _labels(comparison).items():
        table.add_column(escape(label.replace(f"{head} ", f"{head}\n")), justify="right")
    for name in ("score", "to best"):
        table.add_column(name, justify="right", no_wrap=True)
    for candidate in comparison.candidates[:ROWS_ON_TERMINAL]:
        first = candidate is comparison.candidates[0]
        mark = ("*" if first else "~" if candidate.within_noise else " ") + ("F" if candidate.on_front else " ")
        values = [short_value(candidate.settings[name]) for name in comparison.varied] if apart else [candidate.name]
        table.add_row(
            mark,
            *map(escape, values),
            str(candidate.seeds),
            *(_shown(metric, candidate.metrics[head]) for head, metric in comparison.main_metrics.items()),
            f"{candidate.score:.3f}",
            "" if first else f"{candidate.difference:+.3f}",
            style="bold" if first else None,
        )
    return table


def _effects(comparison: Comparison) -> list[dict[str, str]]:
    """Return for each setting that differs among the candidates its name and, in words, what doubling it does."""
    effects = []
    names = short_names(comparison.varied)
    for setting in comparison.varied:
        if len({candidate.settings[setting] for candidate in comparison.candidates}) > 1:
            slopes = [slope for slope in comparison.slopes if slope.setting == setting]
            effects.append({"setting": setting, "name": names[setting], "slopes": _slopes_sentence(slopes)})
    return effects


def _slopes_sentence(slopes: Sequence[Slope]) -> str:
    seen = [
        f"{_figure_label(slope.figure)} {_signed(slope.slope)} ({_signed(slope.low)} to {_signed(slope.high)})"
        for slope in slopes
        if slope.seen
    ]
    unseen = [_figure_label(slope.figure) for slope in slopes if not slope.seen]
    return "; ".join([*seen, *([f"no effect seen on {', '.join(unseen)}"] if unseen else [])])


def _figure_label(figure: str) -> str:
    return figure if figure == SCORE else f"{figure} gain"


def _colour(candidate: Candidate, comparison: Comparison) -> str:
    return BEST if candidate is comparison.candidates[0] else FRONT if candidate.on_front else OTHER


def _hover(candidate: Candidate, comparison: Comparison) -> str:
    # Plotly reads a few tags in its texts; names are no tags.
    lines = [f"<b>{html.escape(candidate.name)}</b>", f"score {candidate.score:.3f}"]
    for head, label in _labels(comparison).items():
        metric = _shown(comparison.main_metrics[head], candidate.metrics[head])
        lines.append(f"{html.escape(label)} {metric} (gain {candidate.figures[head]:.3f})")
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


def _parallel(comparison: Comparison) -> Figure:
    """Return the parallel coordinates: settings, main metrics with the better end up, score; colour is the score."""
    import plotly.graph_objects as go

    names, dimensions = short_names(comparison.varied), []
    for setting in comparison.varied:
        places, ticks, texts = _scale([candidate.settings[setting] for candidate in comparison.candidates])
        if len(set(places)) > 1:
            dimensions.append(
                {"label": html.escape(_brief(names[setting])), "values": places, "tickvals": ticks, "ticktext": texts}
            )
    for head, label in _labels(comparison).items():
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


def _pairs(comparison: Comparison) -> list[Figure]:
    """Return the candidates by the main metrics of each two heads; up and right are better."""
    import plotly.graph_objects as go

    # The best is drawn last, on top.
    order = sorted(comparison.candidates, key=lambda candidate: (candidate.on_front, candidate.score))
    labels, figures = _labels(comparison), []
    for across, up in itertools.combinations(labels, 2):
        bars = {
            f"error_{axis}": {
                "type": "data",
                "array": [_half_width(comparison, candidate, head) for candidate in order],
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
        for axis, head in (("xaxis", across), ("yaxis", up)):
            better = comparison.main_metrics[head].greater_is_better
            title = f"{html.escape(labels[head])}{'' if better else ' (reversed)'}"
            figure.update_layout(
                {axis: {"title": {"text": title, "standoff": 10}, "autorange": True if better else "reversed"}}
            )
        figures.append(styled(figure, 320, {"l": 70, "r": 12, "t": 12, "b": 50}))
    return figures


def _effect_plots(comparison: Comparison, setting: str) -> list[Figure]:
    """Return the score and each head's gain against a setting: candidates, means by value, and the fitted line."""
    import plotly.graph_objects as go

    candidates = comparison.candidates
    places, ticks, texts = _scale([candidate.settings[setting] for candidate in candidates])
    place_of = dict(zip((candidate.settings[setting] for candidate in candidates), places, strict=True))
    marginals = [marginal for marginal in comparison.marginals if marginal.setting == setting]
    slopes = {slope.figure: slope.slope for slope in comparison.slopes if slope.setting == setting}
    figures = []
    for name in (SCORE, *comparison.heads):
        values = [candidate.figures[name] for candidate in candidates]
        figure = go.Figure()
        figure.add_scatter(
            x=places,
            y=values,
            mode="markers",
            marker={"size": 6, "color": [_colour(candidate, comparison) for candidate in candidates], "opacity": 0.65},
            hovertext=[_hover(candidate, comparison) for candidate in candidates],
            hoverinfo="text",
        )
        if name in slopes:
            middle, height = sum(places) / len(places), sum(values) / len(values)
            ends = [min(places), max(places)]
            figure.add_scatter(
                x=ends,
                y=[height + slopes[name] * (end - middle) for end in ends],
                mode="lines",
                line={"color": OTHER, "width": 1.5, "dash": "dot"},
                hoverinfo="skip",
            )
        if marginals:
            figure.add_scatter(
                x=[place_of[marginal.value] for marginal in marginals],
                y=[marginal.figures[name] for marginal in marginals],
                mode="markers",
                marker={"size": 16, "symbol": "line-ew", "line": {"width": 2.5, "color": MEAN}},
                error_y={"type": "data", "array": _bars(comparison, marginals, name), "color": MEAN, "thickness": 1.2},
                hovertext=[_marginal_hover(comparison, marginal) for marginal in marginals],
                hoverinfo="text",
            )
        room = (max(places) - min(places)) * 0.08
        figure.update_xaxes(
            tickvals=ticks,
            ticktext=list(map(html.escape, texts)),
            tickangle=0,
            range=[min(places) - room, max(places) + room],
        )
        figure.update_layout(title={"text": html.escape(_figure_label(name)), "x": 0, "xref": "paper", "font_size": 13})
        figures.append(styled(figure, 220, {"l": 46, "r": 8, "t": 30, "b": 36}))
    return figures


def _bars(comparison: Comparison, marginals: Sequence[Marginal], name: str) -> list[float] | None:
    if comparison.noise is None:
        return None
    return [comparison.noise.half_width(comparison.noise.figures[name], marginal.seeds) for marginal in marginals]


def _marginal_hover(comparison: Comparison, marginal: Marginal) -> str:
    lines = [f"<b>mean of {len(marginal.seeds)}</b>", f"score {marginal.figures[SCORE]:.3f}"]
    for head, label in _labels(comparison).items():
        metric = _shown(comparison.main_metrics[head], marginal.metrics[head])
        lines.append(f"{html.escape(label)} {metric} (gain {marginal.figures[head]:.3f})")
    return "<br>".join(lines)
