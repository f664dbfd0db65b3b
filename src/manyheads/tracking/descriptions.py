"""The description of a run in the MLflow UI: what it reached, what differs, and how to get it again.

It is made from what the run has in the store, so each stage that adds something makes it anew. Links in it are relative
to the UI, so they hold for every address that the UI is served at.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from manyheads.runtime.printing import printable
from manyheads.tracking.views import SCORE, View, key_by_score, page_of_model, page_of_run

TAG = "mlflow.note.content"
"""MLflow shows the value of this tag as the description of a run."""

SUBSETS = {
    "Test": ("test/score", "test", "test_baseline"),
    "Validation": (SCORE, "best/val", "val_baseline"),
}
"""Metric of the score, and start of the names of metrics and baselines; the first subset that a run has is shown."""

LINKS = {
    "report.html": "report",
    "network.html": "network",
    "layers.txt": "layers",
    "evaluation.json": "groups and intervals",
    "model_card.md": "model card",
    "params.yaml": "settings",
}
"""Artifacts that a description links to, by file name, in this order."""

MOST_DIFFERENCES = 6


class Described(NamedTuple):
    """What the store has of a run.

    Attributes:
        run_id: Its id.
        experiment_id: Id of its experiment.
        params: Flat settings.
        metrics: The last value of each metric.
        tags: Its tags.
        artifacts: Names of its files.
        model: Id of its model, or an empty text.
    """

    run_id: str
    experiment_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: Collection[str]
    model: str = ""


def describe(run: Described) -> str:
    """Return the description of a training in Markdown.

    The figures, links, how the figures came about, and the way back. Links come early: of a long description MLflow
    shows about five rows, and covers the last of them.
    """
    lines = [_figures(run), _links(run), _course(run), _again(run)]
    return "\n".join(line for line in lines if line)


def view_by_score(run: Described) -> View | None:
    """Return the view of all runs of the same data by score, or None if the run has no record of its heads."""
    heads, data = _heads(run), run.tags.get("data", "")
    if not heads or "'" in data:
        return None
    return View(
        key=key_by_score(data),
        name=f"{data} by score",
        query=f"tags.data = '{data}'",
        metrics=tuple(f"best/val/{head}/{metric}" for head, metric in heads.items()),
        params=tuple(name for name in run.params if name.startswith("loss.weights.")),
        columns=("test/score",),
    )


def code(text: str) -> str:
    """Return a text as code in Markdown, which has no line ends."""
    text = printable(text)
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _heads(run: Described) -> Mapping[str, str]:
    """Return the name of each head's main metric."""
    return {head: metric["name"] for head, metric in json.loads(run.tags.get("main_metrics", "{}")).items()}


def _figures(run: Described) -> str:
    shown = next((subset for subset, (score, *_) in SUBSETS.items() if score in run.metrics), None)
    if shown is None:
        return ""
    score, values, baselines = SUBSETS[shown]
    heads: list[str] = []
    for head, metric in _heads(run).items():
        value, baseline = (run.metrics.get(f"{prefix}/{head}/{metric}") for prefix in (values, baselines))
        if value is not None:
            word = "" if heads else "baseline "
            beside = "" if baseline is None else f" ({word}{baseline:.3f})"
            heads.append(f"{head} {metric} **{value:.3f}**{beside}")
    said = f"**{shown} score {run.metrics[score]:.3f} of at most {len(_heads(run))}**"
    return f"{said}{': ' if heads else ''}{', '.join(heads)}"


def _course(run: Described) -> str:
    said = []
    if "test/score" in run.metrics and SCORE in run.metrics:
        said.append(f"Validation score {run.metrics[SCORE]:.3f}")
    epoch, seconds = run.metrics.get("best/epoch"), run.metrics.get("wall_seconds")
    if epoch is not None:
        said.append(f"Best epoch {epoch:.0f} of {run.params.get('train.epochs', '?')}")
    if seconds is not None:
        said.append(f"Trained in {seconds:.0f} s" if seconds < 100 else f"Trained in {seconds / 60:.0f} min")
    if "differs" in run.tags:
        said.append(f"Differs from the default: {_differences(json.loads(run.tags['differs']))}")
    return "; ".join(text if i == 0 else text[0].lower() + text[1:] for i, text in enumerate(said))


def _differences(differs: Sequence[str]) -> str:
    if not differs:
        return "nothing"
    more = len(differs) - MOST_DIFFERENCES
    named = " ".join(code(each) for each in differs[:MOST_DIFFERENCES])
    return f"{named}{f' and {more} more settings' if more > 0 else ''}"


def _again(run: Described) -> str:
    tags = run.tags
    commit = tags.get("dvc.baseline") or tags.get("git.commit")
    steps = [f"git checkout {commit[:12]}"] if commit else []
    if "promote" in tags:
        return f"**Promote it:** {code(tags['promote'])}" + (f", with the code of {code(steps[0])}" if steps else "")
    if "dvc.experiment" in tags:
        steps.append(f"dvc exp apply {shlex.quote(tags['dvc.experiment'])}")
    elif "differs" in tags:
        steps += [shlex.join(["python", "-m", "manyheads", "params", *json.loads(tags["differs"])]), "dvc repro"]
    else:
        return ""
    edited = tags.get("git.dirty") == "true" and "dvc.experiment" not in tags
    return f"**Get it again:** {code(' && '.join(steps))}" + (
        " (files were edited after this commit)" if edited else ""
    )


def _links(run: Described) -> str:
    links = [
        f"[{text}]({page_of_run(run.experiment_id, run.run_id, name)[1:]})"
        for name, text in LINKS.items() if name in run.artifacts
    ]  # fmt: skip
    if run.model:
        links.append(f"[model]({page_of_model(run.experiment_id, run.model)[1:]})")
    if parent := run.tags.get("mlflow.parentRunId"):
        links.append(f"[the {'search' if 'search' in run.tags else 'sweep'} that it belongs to]"
                     f"({page_of_run(run.experiment_id, parent)[1:]})")  # fmt: skip
    return f"**Open:** {' · '.join(links)}" if links else ""
