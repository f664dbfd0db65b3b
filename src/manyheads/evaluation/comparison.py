"""The comparison of many trainings: which candidate is best, by how much, and whether that is more than noise.

Trials are compared by the validation metrics of their best epochs; the test subset is kept for the candidate that is
chosen. A trial is one training. Trials that differ in the seed alone are repeats of one candidate. Their variation is
the noise that differences between candidates are compared with.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from manyheads.evaluation.candidates import Candidate, Key, find_candidates
from manyheads.evaluation.effects import Marginal, Slope, find_marginals, fit_slopes
from manyheads.evaluation.noise import Noise, pooled_noise, repeats_of
from manyheads.evaluation.trials import (
    Trial,
    check_comparable,
    common_main_metrics,
    reason_left_out,
    varied_settings,
)
from manyheads.heads.metrics import Metric

# Overrides that start a sweep. They are not settings of a trial.
OF_LAUNCH = re.compile(r"[+~]*(hydra[./]|(sweep|search)=)")
OF_SEED = re.compile(r"[+~]*seed=")


@dataclass(frozen=True)
class Recommendation:
    """The candidate with the highest mean score.

    Attributes:
        candidate: That candidate.
        within_noise: The other candidates whose score is within noise of it; empty where noise is unknown.
        command: Shell command that makes it the project's training; an empty text if the trials have no overrides.
    """

    candidate: Candidate
    within_noise: tuple[Candidate, ...]
    command: str


@dataclass(frozen=True)
class Comparison:
    """The result of comparing many trainings.

    Attributes:
        trials: All trials, in the given order.
        heads: Names of the heads.
        main_metrics: Each head's main metric, where all finished trials have it. A head without it is compared by its
            skill score alone.
        varied: Settings that differ, without the seed, in natural order.
        candidates: The finished trials by candidate, the highest mean score first.
        left_out: Trials that are not compared, each with the reason in ``error``.
        noise: How much seeds vary; None if no candidate has two.
        marginals: Means by setting and value, for settings with few values or with values that are not numbers.
        slopes: Changes for each doubling, for settings that are positive numbers; empty where they cannot be estimated.
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
        """Return one row a trial: the best candidate's first, those that are not compared last.

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
        DataError: Finished trials were evaluated on different splits, or have different heads.

    Example:
        >>> def trial(weight: str, skill: float) -> Trial:
        ...     metrics = {"best/val/score": skill, "best/val/age/skill": skill}
        ...     return Trial(f"age={weight}", "FINISHED", {"loss.weights.age": weight}, metrics)
        >>> [candidate.name for candidate in compare([trial("1", 0.4), trial("2", 0.5)]).candidates]
        ['age=2', 'age=1']
    """
    trials = tuple(trials)
    reasons = [reason_left_out(trial) for trial in trials]
    finished = [trial for trial, reason in zip(trials, reasons, strict=True) if not reason]
    left_out = tuple(replace(trial, error=reason) for trial, reason in zip(trials, reasons, strict=True) if reason)
    check_comparable(finished)
    heads = finished[0].heads if finished else ()
    metrics = common_main_metrics(finished, heads)
    varied = varied_settings(trials)
    by_candidate: defaultdict[Key, list[Trial]] = defaultdict(list)
    for trial in finished:
        by_candidate[tuple(trial.settings.get(key, "") for key in varied)].append(trial)
    repeats = {key: repeats_of(of_candidate, heads, metrics) for key, of_candidate in by_candidate.items()}
    noise = pooled_noise(list(repeats.values()))
    candidates = find_candidates(by_candidate, repeats, varied, heads, noise)
    return Comparison(
        trials=trials,
        heads=heads,
        main_metrics=metrics,
        varied=varied,
        candidates=candidates,
        left_out=left_out,
        noise=noise,
        marginals=find_marginals(candidates, varied),
        slopes=fit_slopes(repeats, varied),
        recommendation=_recommendation(candidates),
    )


def _recommendation(candidates: Sequence[Candidate]) -> Recommendation | None:
    if not candidates:
        return None
    best, *others = candidates
    return Recommendation(best, tuple(other for other in others if other.within_noise), command_for(best))


def promotion(overrides: Iterable[str]) -> str:
    """Return the shell command that makes a trial with these overrides the project's training.

    Example:
        >>> promotion(["+sweep=sample", "loss.weights.age=3", "seed=2"])
        'dvc exp run -S loss.weights.age=3 -S seed=2'
    """
    kept = [override for override in overrides if not OF_LAUNCH.match(override)]
    return " ".join(["dvc exp run", *(f"-S {shlex.quote(override)}" for override in kept)])


def command_for(candidate: Candidate) -> str:
    """Return the shell command that makes a candidate the project's training, or an empty text if none is known.

    The overrides of the sweep itself and the seed are left out. If the trials have no overrides but are DVC
    experiments, the command applies the experiment with the highest score.
    """
    for trial in candidate.trials:
        if trial.overrides:
            # A seed is no setting to choose, and the score of a candidate is the mean over its seeds.
            return promotion([override for override in trial.overrides if not OF_SEED.match(override)])
    experiments = [trial for trial in candidate.trials if trial.experiment]
    if not experiments:
        return ""
    best = max(experiments, key=lambda trial: trial.metrics["best/val/score"])
    return f"dvc exp apply {shlex.quote(best.experiment)}"
