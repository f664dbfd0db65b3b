"""The comparison of trials as Markdown, for the description of a sweep's run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from manyheads.evaluation.comparison import Comparison
from manyheads.evaluation.trials import SCORE
from manyheads.reporting.comparison_text import verdict
from manyheads.reporting.numbers import signed_text

NEXT = 3
"""Maximum number of candidates after the best; MLflow shows about five lines before one asks for more."""


def description(comparison: Comparison, links: Mapping[str, str]) -> str:
    """Return which candidate is best, the next ones and the noise, the command that promotes the best, and links.

    Args:
        comparison: The comparison.
        links: Pages of the MLflow UI by the text of the link, each with a path that begins with ``/#``.
    """
    # Links come early: of a long description MLflow shows about five rows, and covers the last of them.
    opening = "**Open:** " + " · ".join(f"[{text}]({address[1:]})" for text, address in links.items())
    lines = [f"**{verdict(comparison)}**", opening]
    others = comparison.candidates[1:]
    if others:
        named = ", ".join(
            f"{other.name} {signed_text(other.difference)}{' (within noise)' if other.within_noise else ''}"
            for other in others[:NEXT]
        )
        more = f" and {len(others) - NEXT} more" if len(others) > NEXT else ""
        noise = (
            f"the seed alone moves the score by {comparison.noise.scores[SCORE]:.3f}"
            if comparison.noise
            else "noise is unknown, add `seed=1,2,3`"
        )
        lines.append(f"Next: {named}{more}; {noise}.")
    if comparison.left_out:
        lines.append(f"{len(comparison.left_out)} of {len(comparison.trials)} trainings are not compared.")
    if comparison.recommendation and comparison.recommendation.command:
        lines.append(f"**Promote it:** `{comparison.recommendation.command}`")
    return "\n".join(lines)
