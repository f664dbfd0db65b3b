"""The comparison of many trainings: which candidate is best, by how much, and whether that is more than noise.

Everything is judged by validation figures of the best epoch; the test subset stays for the one candidate that is chosen.
A point is a training. Points that differ in the seed alone are repeats of one candidate; how much they vary is the
noise that a difference between candidates is held against.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.errors import DataError
from manyheads.heads import Metric

Figures = Mapping[str, float]

SCORE = "score"
CONFIDENCE = 0.95
# More values than these are drawn as points and a line; a mean for each would be a mean of little.
MAX_VALUES = 8
# Settings that shape no figure: the first is a consequence of others, the second only says where runs are kept.
IRRELEVANT = {"parameters", "tracking.experiment"}
# Overrides that chose the points, not what a point is.
OF_THE_SWEEP = re.compile(r"[+~]*(seed=|hydra[./]|(sweep|search)=)")


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        name: What differs, such as ``age=0.3 race=1``.
        status: ``FINISHED``, ``FAILED``, ``KILLED`` or ``RUNNING``, as MLflow says it.
        settings: Flat settings, such as ``loss.weights.age``: ``0.3``.
        metrics: ``best/val/…`` and ``last/val/…`` figures, ``best/epoch``, ``wall_seconds``.
        split: Digest of the split that it was judged on.
        run_id: Its MLflow run.
        error: Why it failed, in a line.
        overrides: Hydra overrides that make it.
        experiment: Name of the DVC experiment that it was, if it was one.
        main_metrics: Each head's main metric; none of a run that was recorded without them.
    """

    name: str
    status: str
    settings: Mapping[str, str]
    metrics: Figures
    split: str = ""
    run_id: str = ""
    error: str = ""
    overrides: tuple[str, ...] = ()
    experiment: str = ""
    main_metrics: Mapping[str, Metric] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """Settings that were tried, and their means over the seeds.

    Attributes:
        name: The varied settings and their values, in short.
        settings: The varied settings and their values, without the seed.
        points: Its trainings.
        seeds: How many seeds there are; trainings with the same seed are averaged first, for they are no repeats.
        figures: Means over the seeds: ``score``, and each head's gain by the head's name.
        metrics: Means over the seeds of each head's main metric, in its own unit.
        on_front: No other candidate is at least as good for every head and better for one.
        difference: Mean score less the best candidate's; 0 for the best itself, negative for the others.
        margin: Honest significant difference to the best candidate; None where noise is unknown, 0 for the best.
    """

    name: str
    settings: Mapping[str, str]
    points: tuple[Trial, ...]
    seeds: int
    figures: Figures
    metrics: Figures
    on_front: bool
    difference: float
    margin: float | None

    @property
    def score(self) -> float:
        """Mean score: the sum of the heads' gains."""
        return self.figures[SCORE]

    @property
    def within_noise(self) -> bool | None:
        """Whether it is not told apart from the best candidate; None where noise is unknown."""
        return None if self.margin is None else -self.difference <= self.margin


@dataclass(frozen=True)
class Noise:
    """How much trainings vary that differ in the seed alone: pooled standard deviations within candidates.

    Attributes:
        figures: Of ``score``, and of each head's gain by the head's name.
        metrics: Of each head's main metric, in its own unit.
        degrees: Degrees of freedom: over all candidates, the number of seeds less one.
    """

    figures: Figures
    metrics: Figures
    degrees: int

    def half_width(self, deviation: float, seeds: Sequence[int]) -> float:
        """Return half the 95 % confidence interval of a mean of candidates' means.

        Args:
            deviation: The standard deviation that applies, one of ``figures`` or ``metrics``.
            seeds: Number of seeds of each candidate in the mean.
        """
        from scipy import stats

        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.degrees))
        return quantile * deviation * math.sqrt(sum(1 / n for n in seeds)) / len(seeds)


@dataclass(frozen=True)
class Marginal:
    """Means over all candidates that share a value of one setting, each candidate counted once.

    Attributes:
        setting: The setting.
        value: The value.
        seeds: Number of seeds of each candidate that has it.
        figures: Means of ``score`` and of each head's gain.
        metrics: Means of each head's main metric.
    """

    setting: str
    value: str
    seeds: tuple[int, ...]
    figures: Figures
    metrics: Figures


@dataclass(frozen=True)
class Slope:
    """What doubling a setting does to a figure, the other numeric settings held where they are.

    Attributes:
        setting: The setting.
        figure: ``score``, or the head whose gain it is.
        slope: Change of the figure for each doubling.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
    """

    setting: str
    figure: str
    slope: float
    low: float
    high: float

    @property
    def seen(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Recommendation:
    """The candidate of the highest mean score.

    Attributes:
        candidate: That candidate.
        within_noise: The others that are not told apart from it, by score; none where noise is unknown.
        command: Shell command that makes it the project's own training; empty if the points do not say how.
    """

    candidate: Candidate
    within_noise: tuple[Candidate, ...]
    command: str


@dataclass(frozen=True)
class Comparison:
    """What many trainings say.

    Attributes:
        points: All of them, as they came.
        heads: Names of the heads.
        main_metrics: Each head's main metric, where all finished points know it; others are read by their gain alone.
        varied: Settings that differ, without the seed, in natural order.
        candidates: The finished points by candidate, the highest mean score first.
        left_out: Points that are not compared, each with the reason in ``error``.
        noise: How much seeds vary; None if no candidate has two.
        marginals: Means by setting and value, for settings of few values or of no numbers.
        slopes: Changes for each doubling, for settings of positive numbers; none where they cannot be told.
        recommendation: None if no point finished.
    """

    points: tuple[Trial, ...]
    heads: tuple[str, ...]
    main_metrics: Mapping[str, Metric]
    varied: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    left_out: tuple[Trial, ...]
    noise: Noise | None
    marginals: tuple[Marginal, ...]
    slopes: tuple[Slope, ...]
    recommendation: Recommendation | None

    def table(self) -> pd.DataFrame:
        """Return one row a point, the best candidate's first and those that are not compared last.

        Columns: ``name``, ``status``, each varied setting and ``seed``; score, main metric and gain of the best epoch
        and of the last; ``candidate`` with ``candidate_score``, ``candidate_seeds``, ``on_front``, ``difference`` (to
        the best candidate), ``within_noise`` (empty: unknown); ``best/epoch``, ``wall_seconds``, ``run_id``, ``error``.
        """
        figures = ["val/score"]
        for head in self.heads:
            figures += [f"val/{head}/{self.main_metrics[head].name}"] if head in self.main_metrics else []
            figures += [f"val/{head}/gain"]
        rows: list[dict[str, Any]] = []
        of_candidates = [(point, candidate) for candidate in self.candidates for point in candidate.points]
        for point, candidate in [*of_candidates, *((point, None) for point in self.left_out)]:
            row: dict[str, Any] = {"name": point.name, "status": point.status}
            row |= {key: point.settings.get(key, "") for key in (*self.varied, "seed")}
            row |= {
                f"{which}/{key}": point.metrics.get(f"{which}/{key}") for which in ("best", "last") for key in figures
            }
            row |= {
                "candidate": candidate.name if candidate else "",
                "candidate_score": candidate.score if candidate else None,
                "candidate_seeds": candidate.seeds if candidate else None,
                "on_front": candidate.on_front if candidate else None,
                "difference": candidate.difference if candidate else None,
                "within_noise": candidate.within_noise if candidate else None,
                "best/epoch": point.metrics.get("best/epoch"),
                "wall_seconds": point.metrics.get("wall_seconds"),
                "run_id": point.run_id,
                "error": point.error,
            }
            rows.append(row)
        table = pd.DataFrame(rows)
        whole = ["candidate_seeds", "best/epoch"]
        return table.astype(dict.fromkeys(whole, "Int64")) if rows else table


def compare(points: Iterable[Trial]) -> Comparison:
    """Compare trainings by the validation figures of their best epochs.

    Raises:
        DataError: Finished points were judged on different splits, or have different heads.
    """
    points = tuple(points)
    reasons = {id(point): _why_not(point) for point in points}
    finished = [point for point in points if not reasons[id(point)]]
    left_out = tuple(replace(point, error=reasons[id(point)]) for point in points if reasons[id(point)])
    _check_comparable(finished)
    heads = _heads(finished[0]) if finished else ()
    metrics = {
        head: metric
        for head in heads
        if (metric := finished[0].main_metrics.get(head))
        and all(
            point.main_metrics.get(head) == metric and f"best/val/{head}/{metric.name}" in point.metrics
            for point in finished
        )
    }
    varied = _varied(points)
    groups: defaultdict[tuple[str, ...], list[Trial]] = defaultdict(list)
    for point in finished:
        groups[tuple(point.settings.get(key, "") for key in varied)].append(point)
    repeats = {key: _repeats(group, heads, metrics) for key, group in groups.items()}
    noise = _noise(list(repeats.values()))
    candidates = _candidates(groups, repeats, varied, heads, noise)
    return Comparison(
        points=points,
        heads=heads,
        main_metrics=metrics,
        varied=varied,
        candidates=candidates,
        left_out=left_out,
        noise=noise,
        marginals=_marginals(candidates, varied),
        slopes=_slopes(groups, repeats, varied, heads),
        recommendation=_recommendation(candidates),
    )


def short_names(settings: Iterable[str]) -> dict[str, str]:
    """Return the shortest ends of dotted names that tell them apart, such as ``age`` for ``loss.weights.age``."""
    settings = list(settings)
    names = {}
    for setting in settings:
        parts = setting.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        names[setting] = next(
            (end for end in ends if not any(f".{other}".endswith(f".{end}") for other in settings if other != setting)),
            setting,
        )
    return names


def short_value(value: str) -> str:
    """Return a setting's value as it is read: a number with four significant digits, no value as ``none``."""
    number = number_of(value)
    if number is None:
        return value or "none"
    return f"{number:.0f}" if number == round(number) and abs(number) < 1e6 else f"{number:.4g}"


def number_of(value: str) -> float | None:
    """Return the finite number that a setting's value is, or None."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def value_order(value: str) -> tuple[bool, float, list[tuple[int, str]]]:
    """Return a sort key that puts numbers first, by size, and texts in natural order."""
    number = number_of(value)
    return (number is None, number or 0.0, _natural(value))


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text)]


def _heads(point: Trial) -> tuple[str, ...]:
    found = (re.fullmatch(r"best/val/([^/]+)/gain", name) for name in point.metrics)
    return tuple(sorted(match[1] for match in found if match))


def _why_not(point: Trial) -> str:
    if point.status != "FINISHED":
        return point.error or {"KILLED": "stopped before its end", "RUNNING": "still runs"}.get(point.status, "failed")
    figures = [point.metrics.get("best/val/score", math.nan)]
    figures += [point.metrics[f"best/val/{head}/gain"] for head in _heads(point)]
    if len(figures) == 1 or not all(map(math.isfinite, figures)):
        return "finished, but its record has no finite best/val/score and gains: train it again"
    return ""


def _check_comparable(finished: Sequence[Trial]) -> None:
    for what, of_point, remedy in (
        ("were judged on different splits", lambda point: point.split, "compare runs of one split"),
        ("have different heads", lambda point: ", ".join(_heads(point)), "compare runs of one dataset"),
    ):
        examples: dict[str, Trial] = {}
        for point in finished:
            examples.setdefault(of_point(point), point)
        if len(examples) > 1:
            named = "; ".join(
                f"{point.name}{f' (run {point.run_id[:8]})' if point.run_id else ''}: {value or 'none recorded'}"
                for value, point in list(examples.items())[:3]
            )
            raise DataError(f"these runs {what} ({named}): {remedy}, by their ids or with --filter")


def _varied(points: Sequence[Trial]) -> tuple[str, ...]:
    # A training that failed before its settings were recorded says nothing of them.
    known = [point.settings for point in points if point.settings]
    keys = {key for settings in known for key in settings} - IRRELEVANT - {"seed"}
    varied = {key for key in keys if len({settings.get(key, "") for settings in known}) > 1}
    # The name of a loss is a label for what the other settings of the loss say.
    if any(key.startswith("loss.") for key in varied - {"loss.name"}):
        varied.discard("loss.name")
    return tuple(sorted(varied, key=_natural))


def _repeats(group: Sequence[Trial], heads: Sequence[str], main_metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """Return one row a seed: ``score``, each head's gain, and as ``<head>/metric`` its main metric."""
    columns = {SCORE: "best/val/score"} | {head: f"best/val/{head}/gain" for head in heads}
    columns |= {f"{head}/metric": f"best/val/{head}/{metric.name}" for head, metric in main_metrics.items()}
    rows = pd.DataFrame([{name: point.metrics[key] for name, key in columns.items()} for point in group])
    return rows.groupby([point.settings.get("seed", "") for point in group]).mean()


def _split_columns(values: pd.Series[float]) -> tuple[dict[str, float], dict[str, float]]:
    figures = {str(name): float(value) for name, value in values.items()}
    metrics = {name.removesuffix("/metric"): figures.pop(name) for name in list(figures) if name.endswith("/metric")}
    return figures, metrics


def _noise(repeats: Sequence[pd.DataFrame]) -> Noise | None:
    degrees = sum(len(rows) - 1 for rows in repeats)
    if degrees < 1:
        return None
    deviations = pd.concat([rows - rows.mean() for rows in repeats])
    figures, metrics = _split_columns((deviations.pow(2).sum() / degrees).pow(0.5))
    return Noise(figures, metrics, degrees)


def _candidates(
    groups: Mapping[tuple[str, ...], Sequence[Trial]],
    repeats: Mapping[tuple[str, ...], pd.DataFrame],
    varied: Sequence[str],
    heads: Sequence[str],
    noise: Noise | None,
) -> tuple[Candidate, ...]:
    if not groups:
        return ()
    names = short_names(varied)
    means = {key: _split_columns(rows.mean()) for key, rows in repeats.items()}
    best = max(means, key=lambda key: means[key][0][SCORE])
    front = _front(np.array([[figures[head] for head in heads] for figures, _ in means.values()]))
    quantile = _studentized_range(len(groups), noise.degrees) if noise and len(groups) > 1 else 0.0
    candidates = []
    for (key, (figures, metrics)), on_front in zip(means.items(), front, strict=True):
        margin = None
        if noise:
            # Tukey (1949) and Kramer (1956): with it, all pairs of candidates hold together at 95 %.
            inverse = 1 / len(repeats[key]) + 1 / len(repeats[best])
            margin = 0.0 if key == best else quantile * noise.figures[SCORE] * math.sqrt(inverse / 2)
        candidates.append(
            Candidate(
                name=" ".join(f"{names[name]}={short_value(value)}" for name, value in zip(varied, key, strict=True))
                or (groups[key][0].name if len(groups[key]) == 1 else "as composed"),
                settings=dict(zip(varied, key, strict=True)),
                points=tuple(sorted(groups[key], key=lambda point: _natural(point.settings.get("seed", "")))),
                seeds=len(repeats[key]),
                figures=figures,
                metrics=metrics,
                on_front=on_front,
                difference=figures[SCORE] - means[best][0][SCORE],
                margin=margin,
            )
        )
    return tuple(sorted(candidates, key=lambda candidate: (-candidate.score, _natural(candidate.name))))


def _studentized_range(candidates: int, degrees: int) -> float:
    from scipy import stats

    return float(stats.studentized_range.ppf(CONFIDENCE, candidates, degrees))


def _front(gains: npt.NDArray[np.float64]) -> list[bool]:
    """Return which rows of an array of shape (candidates, heads) no other row dominates (Pareto)."""
    at_least = (gains[:, None, :] >= gains[None, :, :]).all(axis=2)
    more = (gains[:, None, :] > gains[None, :, :]).any(axis=2)
    dominated = np.any(at_least & more, axis=0)
    return [not row for row in dominated.tolist()]


def _marginals(candidates: Sequence[Candidate], varied: Sequence[str]) -> tuple[Marginal, ...]:
    marginals = []
    for setting in varied:
        values = sorted({candidate.settings[setting] for candidate in candidates}, key=value_order)
        numeric = all(number_of(value) is not None for value in values)
        if len(values) < 2 or (numeric and len(values) > MAX_VALUES):
            continue
        for value in values:
            sharing = [candidate for candidate in candidates if candidate.settings[setting] == value]
            marginals.append(
                Marginal(
                    setting,
                    value,
                    tuple(candidate.seeds for candidate in sharing),
                    _mean([candidate.figures for candidate in sharing]),
                    _mean([candidate.metrics for candidate in sharing]),
                )
            )
    return tuple(marginals)


def _mean(figures: Sequence[Figures]) -> Figures:
    return {name: float(np.mean([row[name] for row in figures])) for name in figures[0]}


def _slopes(
    groups: Mapping[tuple[str, ...], Sequence[Trial]],
    repeats: Mapping[tuple[str, ...], pd.DataFrame],
    varied: Sequence[str],
    heads: Sequence[str],
) -> tuple[Slope, ...]:
    """Return the slopes of one additive least-squares fit on log2 of all settings that are positive numbers.

    An observation is a candidate with one seed. For a figure ``y`` and settings ``x_j`` the model is
    ``y = b_0 + sum_j b_j log2(x_j)``, so ``b_j`` is the change for each doubling; its interval is Student's t on
    ``n - p - 1`` residual degrees of freedom. Settings that are no positive numbers are not in the model: where they
    vary, their effect counts as residual. There is no slope without a residual degree of freedom, nor where settings
    moved together so that their effects cannot be told apart.
    """
    from scipy import stats

    numeric = []
    for position, setting in enumerate(varied):
        numbers = {number_of(key[position]) for key in groups}
        if len(numbers) > 1 and all(number is not None and number > 0 for number in numbers):
            numeric.append((position, setting))
    if not numeric:
        return ()
    rows = [[1.0, *(math.log2(float(key[i])) for i, _ in numeric)] for key in groups for _ in range(len(repeats[key]))]
    inputs = np.array(rows)
    outputs = pd.concat(list(repeats.values()))[[SCORE, *heads]]
    degrees = inputs.shape[0] - inputs.shape[1]
    if degrees < 1 or np.linalg.matrix_rank(inputs) < inputs.shape[1]:
        return ()
    observed = outputs.to_numpy(dtype=np.float64)
    inverse = np.linalg.inv(inputs.T @ inputs)
    coefficients = inverse @ inputs.T @ observed
    variance = np.sum((observed - inputs @ coefficients) ** 2, axis=0) / degrees
    half = stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * np.sqrt(np.outer(np.diag(inverse), variance))
    return tuple(
        Slope(setting, figure, float(slope), float(slope - width), float(slope + width))
        for j, (_, setting) in enumerate(numeric, start=1)
        for figure, slope, width in zip(outputs.columns, coefficients[j], half[j], strict=True)
    )


def _recommendation(candidates: Sequence[Candidate]) -> Recommendation | None:
    if not candidates:
        return None
    best, *others = candidates
    return Recommendation(best, tuple(other for other in others if other.within_noise), command_for(best))


def command_for(candidate: Candidate) -> str:
    """Return the shell command that makes a candidate the project's own training, or an empty text.

    The overrides of the sweep itself and the seed are left out. Where the points have no overrides but were DVC
    experiments, the one of the highest score is applied.
    """
    for point in candidate.points:
        if point.overrides:
            kept = [override for override in point.overrides if not OF_THE_SWEEP.match(override)]
            return " ".join(["dvc exp run", *(f"-S {shlex.quote(override)}" for override in kept)])
    experiments = [point for point in candidate.points if point.experiment]
    if not experiments:
        return ""
    best = max(experiments, key=lambda point: point.metrics["best/val/score"])
    return f"dvc exp apply {shlex.quote(best.experiment)}"
