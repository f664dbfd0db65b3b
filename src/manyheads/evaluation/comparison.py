"""The comparison of many trainings: which candidate is best, by how much, and whether that is more than noise.

Everything is judged by validation metrics of the best epoch; the test subset is kept for the one candidate that is
chosen. A trial is a training. Trials that differ in the seed alone are repeats of one candidate; how much they vary is
the noise that a difference between candidates is held against.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.errors import DataError
from manyheads.evaluation.bootstrap import CONFIDENCE
from manyheads.heads.metrics import Metric

Values = Mapping[str, float]

SCORE = "score"
# More values than these are shown as dots and a line: a mean for each value would be a mean of few.
MAX_VALUES = 8
# Settings that shape no metric: the first is a consequence of others, the second only says where runs are kept.
IRRELEVANT = {"parameters", "tracking.experiment"}
# Overrides that choose the trials of a sweep. They are no setting of a trial.
OF_THE_SWEEP = re.compile(r"[+~]*(seed=|hydra[./]|(sweep|search)=)")


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        name: What differs, such as ``age=0.3 race=1``.
        status: ``FINISHED``, ``FAILED``, ``KILLED`` or ``RUNNING``, as MLflow says it.
        settings: Flat settings, such as ``loss.weights.age``: ``0.3``.
        metrics: ``best/val/…`` and ``last/val/…``, ``best/epoch``, ``wall_seconds``.
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
    metrics: Values
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
        trials: Its trainings.
        seeds: How many seeds there are; trainings with the same seed are averaged first, for they are no repeats.
        scores: Means over the seeds: ``score``, and each head's skill score by the head's name.
        metrics: Means over the seeds of each head's main metric, in its own unit.
        on_front: No other candidate is at least as good for every head and better for one.
        difference: Mean score less the best candidate's; 0 for the best itself, negative for the others.
        margin: Honest significant difference to the best candidate; None where noise is unknown, 0 for the best.
    """

    name: str
    settings: Mapping[str, str]
    trials: tuple[Trial, ...]
    seeds: int
    scores: Values
    metrics: Values
    on_front: bool
    difference: float
    margin: float | None

    @property
    def score(self) -> float:
        """Mean score: the sum of the heads' skill scores."""
        return self.scores[SCORE]

    @property
    def within_noise(self) -> bool | None:
        """Whether it is not told apart from the best candidate; None where noise is unknown."""
        return None if self.margin is None else -self.difference <= self.margin


@dataclass(frozen=True)
class Noise:
    """How much trainings vary that differ in the seed alone: pooled standard deviations within candidates.

    Attributes:
        scores: Of ``score``, and of each head's skill score by the head's name.
        metrics: Of each head's main metric, in its own unit.
        degrees: Degrees of freedom: over all candidates, the number of seeds less one.
    """

    scores: Values
    metrics: Values
    degrees: int

    def half_width(self, deviation: float, seeds: Sequence[int]) -> float:
        """Return half the 95 % confidence interval of a mean of candidates' means.

        Args:
            deviation: The standard deviation that applies, one of ``scores`` or ``metrics``.
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
        scores: Means of ``score`` and of each head's skill score.
        metrics: Means of each head's main metric.
    """

    setting: str
    value: str
    seeds: tuple[int, ...]
    scores: Values
    metrics: Values


@dataclass(frozen=True)
class Slope:
    """What doubling a setting does to a score, the other numeric settings held where they are.

    Attributes:
        setting: The setting.
        outcome: ``score``, or the head whose skill score changes.
        slope: Change of the outcome for each doubling.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
    """

    setting: str
    outcome: str
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
        command: Shell command that makes it the project's own training; empty if the trials do not say how.
    """

    candidate: Candidate
    within_noise: tuple[Candidate, ...]
    command: str


@dataclass(frozen=True)
class Comparison:
    """What many trainings say.

    Attributes:
        trials: All of them, as they came.
        heads: Names of the heads.
        main_metrics: Each head's main metric, where all finished trials know it. A head without it is compared by its
            skill score alone.
        varied: Settings that differ, without the seed, in natural order.
        candidates: The finished trials by candidate, the highest mean score first.
        left_out: Trials that are not compared, each with the reason in ``error``.
        noise: How much seeds vary; None if no candidate has two.
        marginals: Means by setting and value, for settings of few values or of no numbers.
        slopes: Changes for each doubling, for settings of positive numbers; none where they cannot be told.
        recommendation: None if no trial finished.
    """

    trials: tuple[Trial, ...]
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
        """Return one row a trial, the best candidate's first and those that are not compared last.

        Columns: ``name``, ``status``, each varied setting and ``seed``; score, main metric and skill score of the best
        epoch and of the last; ``candidate`` with ``candidate_score``, ``candidate_seeds``, ``on_front``, ``difference``
        (to the best candidate), ``within_noise`` (empty: unknown); ``best/epoch``, ``wall_seconds``, ``run_id``,
        ``error``.
        """
        shown = ["val/score"]
        for head in self.heads:
            shown += [f"val/{head}/{self.main_metrics[head].name}"] if head in self.main_metrics else []
            shown += [f"val/{head}/skill"]
        rows: list[dict[str, Any]] = []
        of_candidates = [(trial, candidate) for candidate in self.candidates for trial in candidate.trials]
        for trial, candidate in [*of_candidates, *((trial, None) for trial in self.left_out)]:
            row: dict[str, Any] = {"name": trial.name, "status": trial.status}
            row |= {key: trial.settings.get(key, "") for key in (*self.varied, "seed")}
            row |= {
                f"{which}/{key}": trial.metrics.get(f"{which}/{key}") for which in ("best", "last") for key in shown
            }
            row |= {
                "candidate": candidate.name if candidate else "",
                "candidate_score": candidate.score if candidate else None,
                "candidate_seeds": candidate.seeds if candidate else None,
                "on_front": candidate.on_front if candidate else None,
                "difference": candidate.difference if candidate else None,
                "within_noise": candidate.within_noise if candidate else None,
                "best/epoch": trial.metrics.get("best/epoch"),
                "wall_seconds": trial.metrics.get("wall_seconds"),
                "run_id": trial.run_id,
                "error": trial.error,
            }
            rows.append(row)
        table = pd.DataFrame(rows)
        whole = ["candidate_seeds", "best/epoch"]
        return table.astype(dict.fromkeys(whole, "Int64")) if rows else table


def compare(trials: Iterable[Trial]) -> Comparison:
    """Compare trainings by the validation metrics of their best epochs.

    Raises:
        DataError: Finished trials were judged on different splits, or have different heads.
    """
    trials = tuple(trials)
    reasons = {id(trial): _why_not(trial) for trial in trials}
    finished = [trial for trial in trials if not reasons[id(trial)]]
    left_out = tuple(replace(trial, error=reasons[id(trial)]) for trial in trials if reasons[id(trial)])
    _check_comparable(finished)
    heads = _heads(finished[0]) if finished else ()
    metrics = _main_metrics(finished, heads)
    varied = _varied(trials)
    groups: defaultdict[tuple[str, ...], list[Trial]] = defaultdict(list)
    for trial in finished:
        groups[tuple(trial.settings.get(key, "") for key in varied)].append(trial)
    repeats = {key: _repeats(group, heads, metrics) for key, group in groups.items()}
    noise = _noise(list(repeats.values()))
    candidates = _candidates(groups, repeats, varied, heads, noise)
    return Comparison(
        trials=trials,
        heads=heads,
        main_metrics=metrics,
        varied=varied,
        candidates=candidates,
        left_out=left_out,
        noise=noise,
        marginals=_marginals(candidates, varied),
        slopes=_slopes(groups, repeats, varied),
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


def _heads(trial: Trial) -> tuple[str, ...]:
    found = (re.fullmatch(r"best/val/([^/]+)/skill", name) for name in trial.metrics)
    return tuple(sorted(match[1] for match in found if match))


def _main_metrics(finished: Sequence[Trial], heads: Sequence[str]) -> dict[str, Metric]:
    """Return each head's main metric, without the heads whose main metric is not the same in every trial."""
    found = {}
    for head in heads:
        metrics = [trial.main_metrics.get(head) for trial in finished]
        first = metrics[0]
        same = first and {metric.name if metric else "" for metric in metrics} == {first.name}
        if first and same and all(f"best/val/{head}/{first.name}" in trial.metrics for trial in finished):
            found[head] = first
    return found


def _why_not(trial: Trial) -> str:
    if trial.status != "FINISHED":
        return trial.error or {"KILLED": "stopped before its end", "RUNNING": "still runs"}.get(trial.status, "failed")
    scores = [trial.metrics.get("best/val/score", math.nan)]
    scores += [trial.metrics[f"best/val/{head}/skill"] for head in _heads(trial)]
    if len(scores) == 1 or not all(map(math.isfinite, scores)):
        return "finished, but its record has no finite best/val/score and skill scores: train it again"
    return ""


def _check_comparable(finished: Sequence[Trial]) -> None:
    for what, of_trial, remedy in (
        ("were judged on different splits", lambda trial: trial.split, "compare runs of one split"),
        ("have different heads", lambda trial: ", ".join(_heads(trial)), "compare runs of one dataset"),
    ):
        examples: dict[str, Trial] = {}
        for trial in finished:
            examples.setdefault(of_trial(trial), trial)
        if len(examples) > 1:
            named = "; ".join(
                f"{trial.name}{f' (run {trial.run_id[:8]})' if trial.run_id else ''}: {value or 'none recorded'}"
                for value, trial in list(examples.items())[:3]
            )
            raise DataError(f"these runs {what} ({named}): {remedy}, by their ids or with --filter")


def _varied(trials: Sequence[Trial]) -> tuple[str, ...]:
    # A training that failed before its settings were recorded says nothing of them.
    known = [trial.settings for trial in trials if trial.settings]
    keys = {key for settings in known for key in settings} - IRRELEVANT - {"seed"}
    varied = {key for key in keys if len({settings.get(key, "") for settings in known}) > 1}
    # The name of a loss is a label for what the other settings of the loss say.
    if any(key.startswith("loss.") for key in varied - {"loss.name"}):
        varied.discard("loss.name")
    return tuple(sorted(varied, key=_natural))


class _Repeats(NamedTuple):
    """The trials of one candidate, one row a seed.

    Attributes:
        scores: Columns ``score`` and each head's skill score, by the head's name.
        metrics: Each head's main metric, by the head's name.
    """

    scores: pd.DataFrame
    metrics: pd.DataFrame


def _repeats(group: Sequence[Trial], heads: Sequence[str], main_metrics: Mapping[str, Metric]) -> _Repeats:
    """Return the means over the trials of each seed: trainings with the same seed are no repeats."""
    scores = {SCORE: "best/val/score"} | {head: f"best/val/{head}/skill" for head in heads}
    metrics = {head: f"best/val/{head}/{metric.name}" for head, metric in main_metrics.items()}
    seeds = [trial.settings.get("seed", "") for trial in group]

    def by_seed(columns: Mapping[str, str]) -> pd.DataFrame:
        rows = [{name: trial.metrics[key] for name, key in columns.items()} for trial in group]
        return pd.DataFrame(rows, index=range(len(group))).groupby(seeds).mean()

    return _Repeats(by_seed(scores), by_seed(metrics))


def _means(rows: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(value) for name, value in rows.mean().items()}


def _noise(repeats: Sequence[_Repeats]) -> Noise | None:
    degrees = sum(len(each.scores) - 1 for each in repeats)
    if degrees < 1:
        return None

    def pooled(tables: Sequence[pd.DataFrame]) -> dict[str, float]:
        squares = pd.concat([rows - rows.mean() for rows in tables]).pow(2).sum()
        return {str(name): math.sqrt(value / degrees) for name, value in squares.items()}

    return Noise(pooled([each.scores for each in repeats]), pooled([each.metrics for each in repeats]), degrees)


def _candidates(
    groups: Mapping[tuple[str, ...], Sequence[Trial]],
    repeats: Mapping[tuple[str, ...], _Repeats],
    varied: Sequence[str],
    heads: Sequence[str],
    noise: Noise | None,
) -> tuple[Candidate, ...]:
    if not groups:
        return ()
    names = short_names(varied)
    means = {key: _means(each.scores) for key, each in repeats.items()}
    best = max(means, key=lambda key: means[key][SCORE])
    front = _front(np.array([[scores[head] for head in heads] for scores in means.values()]))
    quantile = _studentized_range(len(groups), noise.degrees) if noise and len(groups) > 1 else 0.0
    candidates = []
    for (key, scores), on_front in zip(means.items(), front, strict=True):
        margin, seeds = None, len(repeats[key].scores)
        if noise:
            # Tukey (1949) and Kramer (1956): with it, all pairs of candidates hold together at 95 %.
            inverse = 1 / seeds + 1 / len(repeats[best].scores)
            margin = 0.0 if key == best else quantile * noise.scores[SCORE] * math.sqrt(inverse / 2)
        candidates.append(
            Candidate(
                name=" ".join(f"{names[name]}={short_value(value)}" for name, value in zip(varied, key, strict=True))
                or (groups[key][0].name if len(groups[key]) == 1 else "as composed"),
                settings=dict(zip(varied, key, strict=True)),
                trials=tuple(sorted(groups[key], key=lambda trial: _natural(trial.settings.get("seed", "")))),
                seeds=seeds,
                scores=scores,
                metrics=_means(repeats[key].metrics),
                on_front=on_front,
                difference=scores[SCORE] - means[best][SCORE],
                margin=margin,
            )
        )
    return tuple(sorted(candidates, key=lambda candidate: (-candidate.score, _natural(candidate.name))))


def _studentized_range(candidates: int, degrees: int) -> float:
    from scipy import stats

    return float(stats.studentized_range.ppf(CONFIDENCE, candidates, degrees))


def _front(skills: npt.NDArray[np.float64]) -> list[bool]:
    """Return which rows of an array of shape (candidates, heads) no other row dominates (Pareto)."""
    at_least = (skills[:, None, :] >= skills[None, :, :]).all(axis=2)
    more = (skills[:, None, :] > skills[None, :, :]).any(axis=2)
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
                    _mean([candidate.scores for candidate in sharing]),
                    _mean([candidate.metrics for candidate in sharing]),
                )
            )
    return tuple(marginals)


def _mean(rows: Sequence[Values]) -> Values:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _slopes(
    groups: Mapping[tuple[str, ...], Sequence[Trial]],
    repeats: Mapping[tuple[str, ...], _Repeats],
    varied: Sequence[str],
) -> tuple[Slope, ...]:
    """Return the slopes of one additive least-squares fit on log2 of all settings that are positive numbers.

    An observation is a candidate with one seed. For an outcome ``y`` and settings ``x_j`` the model is
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
    rows = [
        [1.0, *(math.log2(float(key[i])) for i, _ in numeric)]
        for key in groups
        for _ in range(len(repeats[key].scores))
    ]
    inputs = np.array(rows)
    outputs = pd.concat([each.scores for each in repeats.values()])
    degrees = inputs.shape[0] - inputs.shape[1]
    if degrees < 1 or np.linalg.matrix_rank(inputs) < inputs.shape[1]:
        return ()
    observed = outputs.to_numpy(dtype=np.float64)
    inverse = np.linalg.inv(inputs.T @ inputs)
    coefficients = inverse @ inputs.T @ observed
    variance = np.sum((observed - inputs @ coefficients) ** 2, axis=0) / degrees
    half = stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * np.sqrt(np.outer(np.diag(inverse), variance))
    return tuple(
        Slope(setting, outcome, float(slope), float(slope - width), float(slope + width))
        for j, (_, setting) in enumerate(numeric, start=1)
        for outcome, slope, width in zip(outputs.columns, coefficients[j], half[j], strict=True)
    )


def _recommendation(candidates: Sequence[Candidate]) -> Recommendation | None:
    if not candidates:
        return None
    best, *others = candidates
    return Recommendation(best, tuple(other for other in others if other.within_noise), command_for(best))


def command_for(candidate: Candidate) -> str:
    """Return the shell command that makes a candidate the project's own training, or an empty text.

    The overrides of the sweep itself and the seed are left out. Where the trials have no overrides but were DVC
    experiments, the one of the highest score is applied.
    """
    for trial in candidate.trials:
        if trial.overrides:
            kept = [override for override in trial.overrides if not OF_THE_SWEEP.match(override)]
            return " ".join(["dvc exp run", *(f"-S {shlex.quote(override)}" for override in kept)])
    experiments = [trial for trial in candidate.trials if trial.experiment]
    if not experiments:
        return ""
    best = max(experiments, key=lambda trial: trial.metrics["best/val/score"])
    return f"dvc exp apply {shlex.quote(best.experiment)}"
