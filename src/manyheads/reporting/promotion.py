"""What the gate of the registry found, for people: on the terminal and as the record of a version."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from manyheads.evaluation.paired import Difference, Disagreement
from manyheads.evaluation.promotion import Judgement
from manyheads.reporting import paired
from manyheads.reporting.labels import wording
from manyheads.reporting.numbers import estimate_text, number_text

if TYPE_CHECKING:
    from rich.console import Console


def reason(judgement: Judgement) -> str:
    """Return why a model was promoted or not, without the end of a sentence.

    Example:
        >>> reason(Judgement(False, None, obstacle="the two runs were evaluated on different splits"))
        'not comparable: the two runs were evaluated on different splits'
    """
    if judgement.obstacle:
        return f"not comparable: {judgement.obstacle.rstrip('.')}"
    if judgement.compared is None:
        return "there was no champion"
    better, worse = (_listed(judgement.which(each)) for each in (True, False))
    if worse:
        return f"worse in {worse}" + (f", though better in {better}" if better else "")
    if judgement.promoted:
        return f"better in {better}, and no main metric is worse"
    if better:
        return f"not better in {judgement.required}, which is required, though better in {better}"
    return f"not better in {judgement.required or 'any head'}"


def record(judgement: Judgement, heads: Collection[str]) -> dict[str, str]:
    """Return the difference of each head's main metric, with McNemar's test if the head has classes, by tag."""
    compared = judgement.compared
    if compared is None:
        return {f"gate.{head}": "not compared" for head in heads}
    tests = {test.head: test for test in compared.disagreements}
    return {f"gate.{row.head}": _difference(row, tests.get(row.head)) for row in compared.differences}


def show(judgement: Judgement, names: tuple[str, str], console: Console) -> None:
    """Print the main metric of each head, if the two models could be compared.

    Args:
        judgement: What the gate found.
        names: Names of the champion and of the candidate.
        console: Console to print on.
    """
    if judgement.compared is not None:
        paired.show(judgement.compared, names, console)


def _listed(rows: list[Difference]) -> str:
    return ", ".join(f"{row.head} {wording(row.metric).label} by {_size(row)}" for row in rows)


def _size(row: Difference) -> str:
    """Return a difference and its interval without signs; both ends have the same sign if it is better or worse."""
    low, high = sorted((abs(row.difference.low or 0), abs(row.difference.high or 0)))
    size = {"value": abs(row.difference.value or 0), "low": low, "high": high}
    return estimate_text(size, wording(row.metric).digits)


def _difference(row: Difference, test: Disagreement | None) -> str:
    digits = wording(row.metric).digits
    first, second = ("-" if each.value is None else number_text(each.value, digits) for each in (row.first, row.second))
    said = f"{paired.VERDICTS[row.better]}: {row.metric.name} {first} to {second}"
    said += f", difference {estimate_text(row.difference._asdict(), digits)}"
    return said if test is None else f"{said}; McNemar {test.only_first} : {test.only_second}, p = {test.p_value:.2g}"
