"""Sentences and labels about a comparison of trials."""

from __future__ import annotations

from collections.abc import Sequence

from manyheads.evaluation.candidates import Candidate
from manyheads.evaluation.comparison import Comparison
from manyheads.evaluation.effects import Slope
from manyheads.evaluation.settings import short_names
from manyheads.evaluation.trials import SCORE
from manyheads.heads.metrics import Metric
from manyheads.reporting.labels import wording
from manyheads.reporting.numbers import signed_text

NAMES_IN_A_SENTENCE = 4


def answer(comparison: Comparison) -> str:
    """Return the recommendation as sentences."""
    said = verdict(comparison)
    if comparison.recommendation is None:
        return said
    others = comparison.recommendation.within_noise
    if others:
        named = ", ".join(other.name for other in others[:NAMES_IN_A_SENTENCE])
        more = len(others) - NAMES_IN_A_SENTENCE
        said += f" Within noise of it: {named}{f' and {more} more' if more > 0 else ''}."
    elif comparison.noise is None and len(comparison.candidates) > 1:
        said += " This does not show that it is better."
    if not comparison.recommendation.command:
        said += " Its runs have no overrides, so there is no command for it."
    return said


def verdict(comparison: Comparison) -> str:
    """Return a sentence that names the best candidate and its figures."""
    if comparison.recommendation is None:
        return "No training finished, so there is nothing to recommend."
    best, others = comparison.recommendation.candidate, comparison.recommendation.within_noise
    seeds = f", mean of {best.seeds} seeds" if best.seeds > 1 else ""
    metrics = ", ".join(
        f"{label} {shown_value(comparison.main_metrics[head], best.metrics[head])}"
        for head, label in axis_labels(comparison).items()
    )
    what = f"score {best.score:.3f}{f' ({metrics})' if metrics else ''}{seeds}"
    if len(comparison.candidates) == 1:
        return f"{best.name} is the only candidate: {what}."
    if comparison.noise is None or others:
        return f"{best.name} is highest: {what}."
    return f"{best.name} is better than every other candidate: {what}."


def noise_sentence(comparison: Comparison) -> str:
    """Return a sentence about the noise; if it is unknown, the sentence says how to measure it."""
    if not comparison.candidates:
        return "Noise is unknown: no training finished."
    if comparison.noise is None:
        return (
            "Noise is unknown: no candidate was trained with two seeds, so a higher score may be chance. "
            "Add `seed=1,2,3` to the sweep."
        )
    noise = comparison.noise
    metrics = ", ".join(
        f"{label} by {shown_value(comparison.main_metrics[head], noise.metrics[head])}"
        for head, label in axis_labels(comparison).items()
    )
    said = (
        f"Noise: the seed alone moves the score by {noise.scores[SCORE]:.3f}{f', {metrics}' if metrics else ''} "
        f"(standard deviation, {noise.degrees} degrees of freedom)."
    )
    margins = sorted({round(other.margin, 3) for other in comparison.candidates[1:] if other.margin is not None})
    if margins:
        span = f"{margins[0]:.3f}" if len(margins) == 1 else f"{margins[0]:.3f} to {margins[-1]:.3f}"
        said += f" Less than {span} from the best is within noise."
    return said


def title_of(comparison: Comparison) -> str:
    """Return the number of trainings and candidates as a title."""
    trials, candidates = len(comparison.trials), len(comparison.candidates)
    left_out = len(comparison.left_out)
    title = f"{trials} training{'' if trials == 1 else 's'}, {candidates} candidate{'' if candidates == 1 else 's'}"
    return f"{title}, {left_out} not compared" if left_out else title


def axis_labels(comparison: Comparison) -> dict[str, str]:
    """Return the label of each head's main metric, such as ``age MAE``."""
    return {head: f"{head} {wording(metric).short}" for head, metric in comparison.main_metrics.items()}


def shown_value(metric: Metric, value: float) -> str:
    """Return a metric's value as text, with the metric's number of digits."""
    return f"{value:.{wording(metric).digits}f}"


def half_width(comparison: Comparison, candidate: Candidate, head: str | None = None) -> float | None:
    """Return half the confidence interval of a candidate's score or, with a head, main metric; None without noise."""
    if comparison.noise is None:
        return None
    deviation = comparison.noise.scores[SCORE] if head is None else comparison.noise.metrics[head]
    return comparison.noise.half_width(deviation, [candidate.seeds])


def effects_of(comparison: Comparison) -> list[dict[str, str]]:
    """Return ``setting``, ``name`` and ``slopes`` (a text) of each setting that differs among the candidates."""
    effects = []
    names = short_names(comparison.varied)
    for setting in comparison.varied:
        if len({candidate.settings[setting] for candidate in comparison.candidates}) > 1:
            slopes = [slope for slope in comparison.slopes if slope.setting == setting]
            effects.append({"setting": setting, "name": names[setting], "slopes": _slopes_sentence(slopes)})
    return effects


def _slopes_sentence(slopes: Sequence[Slope]) -> str:
    seen = [f"{outcome_label(slope.outcome)} {_slope_text(slope)}" for slope in slopes if slope.seen]
    unseen = [outcome_label(slope.outcome) for slope in slopes if not slope.seen]
    return "; ".join([*seen, *([f"no effect seen on {', '.join(unseen)}"] if unseen else [])])


def _slope_text(slope: Slope) -> str:
    return f"{signed_text(slope.slope)} ({signed_text(slope.low)} to {signed_text(slope.high)})"


def outcome_label(outcome: str) -> str:
    """Return the label of an outcome: ``score``, or the skill score of a head."""
    return outcome if outcome == SCORE else f"{outcome} skill score"
