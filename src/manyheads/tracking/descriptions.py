"""The description of a run in the MLflow UI: what it reached, what differs, and how to get it again.

It is made from what the run has in the store, so each stage that adds something makes it anew. Links in it are relative
to the UI, so they hold for every address that the UI is served at.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping
from typing import NamedTuple

from manyheads.tracking.views import SCORE, View, key_by_score, page_of_run

TAG = "mlflow.note.content"
"""MLflow shows the value of this tag as the description of a run."""

LINKS = {
    "report.html": "report",
    "network.html": "network",
    "layers.txt": "layers",
    "evaluation.json": "groups and intervals",
    "model_card.md": "model card",
    "params.yaml": "settings",
}
"""Artifacts that a description links to, by file name, in this order."""

MOST_DIFFERENCES = 12


class Described(NamedTuple):
    """What the store has of a run.

    Attributes:
        run_id: Its id.
        experiment_id: Id of its experiment.
        params: Flat settings.
        metrics: The last value of each metric.
        tags: Its tags.
        artifacts: Names of its files.
    """

    run_id: str
    experiment_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: Collection[str]


def describe(run: Described) -> str:
    """Return the description of a training in Markdown."""
    parts = [_headline(run), _figures(run), _differences(run), _again(run), _links(run)]
    return "\n\n".join(part for part in parts if part)


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
    """Return a text as code in Markdown."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def cell(text: str) -> str:
    """Return a text as it is written in a cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _heads(run: Described) -> Mapping[str, str]:
    """Return the name of each head's main metric."""
    return {head: metric["name"] for head, metric in json.loads(run.tags.get("main_metrics", "{}")).items()}


def _headline(run: Described) -> str:
    of = f" of at most {len(_heads(run))}"
    scores = [
        f"**{where} score {run.metrics[name]:.3f}**"
        for where, name in (("Test", "test/score"), ("Validation", SCORE)) if name in run.metrics
    ]  # fmt: skip
    if not scores:
        return ""
    epochs, seconds = run.metrics.get("best/epoch"), run.metrics.get("wall_seconds")
    facts = [", ".join(scores).replace(", **V", ", **v") + of + " (0 is the baseline)"]
    if epochs is not None:
        facts.append(f"best epoch {epochs:.0f} of {run.params.get('train.epochs', '?')}")
    if seconds is not None:
        facts.append(f"trained in {_duration(seconds)}")
    return "; ".join(facts) + "."


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _figures(run: Described) -> str:
    columns = {
        "test": "test/{head}/{metric}", "its baseline": "test_baseline/{head}/{metric}",
        "validation": "best/val/{head}/{metric}", "its baseline ": "val_baseline/{head}/{metric}",
    }  # fmt: skip
    rows = [
        [head, metric, *(run.metrics.get(pattern.format(head=head, metric=metric)) for pattern in columns.values())]
        for head, metric in _heads(run).items()
    ]
    used = [i for i in range(len(columns)) if any(row[i + 2] is not None for row in rows)]
    if not used:
        return ""
    titles = list(columns)
    lines = [["head", "metric", *(titles[i].strip() for i in used)], ["---"] * (len(used) + 2)]
    for head, metric, *values in rows:
        lines.append([cell(str(head)), cell(str(metric)), *(_number(values[i]) for i in used)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else ""


def _differences(run: Described) -> str:
    if "differs" not in run.tags:
        return ""
    differs = json.loads(run.tags["differs"])
    if not differs:
        return "**Differs from the default in** nothing."
    more = len(differs) - MOST_DIFFERENCES
    named = " ".join(code(each) for each in differs[:MOST_DIFFERENCES])
    return f"**Differs from the default in** {named}{f' and {more} more settings' if more > 0 else ''}"


def _again(run: Described) -> str:
    tags, lines = run.tags, []
    commit = tags.get("dvc.baseline") or tags.get("git.commit")
    if commit:
        edited = tags.get("git.dirty") == "true" and "dvc.experiment" not in tags
        lines.append(f"git checkout {commit[:12]}" + ("    # files were edited after this commit" if edited else ""))
    if "promote" in tags:
        lines.append(tags["promote"])
        title = "**Promote it**, that is train it again, evaluate it on the test subset and keep it:"
    else:
        title = "**Get it again:**"
        if "dvc.experiment" in tags:
            lines.append(f"dvc exp apply {shlex.quote(tags['dvc.experiment'])}")
        elif "params.yaml" in run.artifacts:
            lines.append(f"mlflow artifacts download --run-id {run.run_id} --artifact-path params.yaml --dst-path .")
            lines.append("dvc repro")
    return "\n".join([title, "", "```", *lines, "```"]) if len(lines) > 1 else ""


def _links(run: Described) -> str:
    links = [
        f"[{text}]({page_of_run(run.experiment_id, run.run_id, name)[1:]})"
        for name, text in LINKS.items() if name in run.artifacts
    ]  # fmt: skip
    if parent := run.tags.get("mlflow.parentRunId"):
        links.append(f"[the {'search' if 'search' in run.tags else 'sweep'} that it belongs to]"
                     f"({page_of_run(run.experiment_id, parent)[1:]})")  # fmt: skip
    return f"**Open:** {' · '.join(links)}" if links else ""
