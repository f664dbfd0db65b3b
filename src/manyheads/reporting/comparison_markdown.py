"""The comparison of trials as Markdown, for the description of a sweep's run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from manyheads.evaluation.comparison import Comparison
from manyheads.reporting.comparison_text import answer, axis_labels, noise_sentence, shown_value, title_of
from manyheads.reporting.numbers import signed_text

ROWS = 6
"""Maximum number of candidates, so that the description fits a screen."""


def description(comparison: Comparison, links: Mapping[str, str]) -> str:
    """Return the answer, the first candidates, the command that promotes the best, and links.

    Args:
        comparison: The comparison.
        links: Pages of the MLflow UI by the text of the link, each with a path that begins with ``/#``.
    """
    parts = [f"**{answer(comparison)}**"]
    if comparison.recommendation and comparison.recommendation.command:
        parts.append(f"**Promote it:** `{comparison.recommendation.command}`")
    parts.append("**Open:** " + " · ".join(f"[{text}]({address[1:]})" for text, address in links.items()))
    parts.append(f"{title_of(comparison)}. {noise_sentence(comparison)}")
    if comparison.candidates:
        parts.append(_table(comparison))
    return "\n\n".join(parts)


def _table(comparison: Comparison) -> str:
    labels = axis_labels(comparison)
    lines = [["", "candidate", "seeds", *labels.values(), "score", "to the best"]]
    lines.append(["---"] * len(lines[0]))
    for candidate in comparison.candidates[:ROWS]:
        first = candidate is comparison.candidates[0]
        marks = {
            "best" if comparison.noise else "highest": first,
            "within noise": not first and candidate.within_noise,
            "front": candidate.on_front,
        }
        lines.append([
            ", ".join(mark for mark, holds in marks.items() if holds),
            candidate.name.replace("|", "\\|"),
            str(candidate.seeds),
            *(shown_value(comparison.main_metrics[head], candidate.metrics[head]) for head in labels),
            f"{candidate.score:.3f}",
            "" if first else signed_text(candidate.difference),
        ])  # fmt: skip
    more = len(comparison.candidates) - ROWS
    rest = f"\n\n{more} more in trials.csv." if more > 0 else ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + rest
