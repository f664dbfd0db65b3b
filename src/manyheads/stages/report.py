"""Report: what the run is worth, on one page for people, and as a model card and a data card.

Reads the tables and figures of all stages before; computes no figure of its own. Writes ``reports/report.html``, which
needs no network, ``reports/model_card.md`` and ``reports/data_card.md``. The run in MLflow gets all three, the page
without thumbnails: they stay where the data is. Its own id and its commit stand in these copies alone, so that the
files on disk are the same whenever the same model is trained.
"""

from __future__ import annotations

import json
import logging
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from manyheads import datasets
from manyheads.config.schema import Config
from manyheads.data.arrays import open_packed
from manyheads.data.tables import read_predictions, read_samples, read_splits
from manyheads.errors import IntegrityError
from manyheads.heads import Head
from manyheads.modeling import saving
from manyheads.paths import Paths
from manyheads.reporting import cards, report
from manyheads.reporting.contents import Contents
from manyheads.runtime.files import sha256_of, write_text
from manyheads.tracking import git, runs

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Write the report and the cards."""
    contents = gather(config, inputs)
    title = f"{config.data.name}, {config.model.encoder} encoder, loss {config.loss.name}"
    write_text(outputs.report, report.page(contents, title))
    write_text(outputs.model_card, cards.model_card(contents, config))
    write_text(outputs.data_card, cards.data_card(contents, config))
    tags = git.provenance(inputs.root)
    place = runs.RunSpec("report", tags, model=saving.model_tag(inputs.model))
    with runs.run(config.tracking.experiment, inputs.root, place) as record:
        edited = ", with uncommitted changes" if tags.get("git.dirty") == "true" else ""
        of_the_run = {
            "MLflow run": record.run_id,
            "git commit": tags.get("git.commit", "not in a repository") + edited,
        }
        recorded = contents._replace(thumbnails=None, provenance=of_the_run | dict(contents.provenance))
        record.text(report.page(recorded, title), "report.html")
        record.text(cards.model_card(recorded, config), outputs.model_card.name)
        record.files(outputs.data_card)
    logger.info("report: %s", outputs.report)


def gather(config: Config, inputs: Paths) -> Contents:
    """Return everything that the page shows.

    Raises:
        IntegrityError: A file is missing or damaged, or the predictions are not those of the test subset.
    """
    heads = config.data.heads
    samples, splits = read_samples(inputs.samples, heads), read_splits(inputs.splits)
    predictions = _predictions(inputs, splits, heads)
    evaluation = _json(inputs, "evaluation")
    if evaluation["n"] != len(predictions):
        raise IntegrityError(f"{inputs.evaluation} is not of {inputs.predictions}: run `dvc repro evaluate`")
    rejected = pd.concat([pd.read_csv(inputs.rejected), pd.read_csv(inputs.undecodable)])
    by_code = Counter(zip(rejected["stage"], rejected["code"], strict=True))
    learned = config.loss.weighting == "learned"
    split, words = _json(inputs, "split_counts"), datasets.get(config.data.name, config.extensions).documentation
    return Contents(
        heads=heads,
        manifest=samples,
        counts=_counts(samples, rejected, split),
        rejected=pd.DataFrame(
            [{"stage": stage, "code": code, "files": n} for (stage, code), n in sorted(by_code.items())],
            columns=["stage", "code", "files"],
        ),
        history=pd.read_csv(inputs.history),
        weights={name: None if learned else weight for name, weight in config.loss.weights.items()},
        predictions=predictions,
        evaluation=evaluation,
        confusions={
            name: json.loads((inputs.head_reports / f"{name}.json").read_text(encoding="utf-8"))["confusion"]
            for name, head in heads.items()
            if head.class_names
        },
        head_reports={name: (inputs.head_reports / f"{name}.txt").read_text(encoding="utf-8") for name in heads},
        label_issues=_table(inputs.label_issues, "audit"),
        published=words.published,
        published_by=words.published_by,
        published_bins=words.published_bins,
        thumbnails=_thumbnails(config, inputs, samples),
        provenance=_provenance(config, inputs),
    )


def _thumbnails(config: Config, inputs: Paths, samples: pd.DataFrame) -> Callable[[Sequence[str]], list[bytes]] | None:
    """Return what looks up samples' thumbnails by their paths, or None if no input has thumbnails.

    Of several inputs that have thumbnails, the first is shown.
    """
    for name, kind in config.inputs.items():
        values = open_packed(inputs.packed(name), kind)
        if kind.thumbnails(values[:0]) is not None:
            rows = dict(zip(samples["path"], samples["row"], strict=True))
            return lambda paths: kind.thumbnails(values[[rows[path] for path in paths]]) or []
    return None


def _predictions(inputs: Paths, splits: pd.DataFrame, heads: Mapping[str, Head]) -> pd.DataFrame:
    table = read_predictions(inputs.predictions, heads)
    expected, found = set(splits.loc[splits["subset"] == "test", "path"]), Counter(table["path"])
    missing, added = expected - set(found), set(found) - expected
    twice = [path for path, times in found.items() if times > 1]
    if missing or added or twice:
        raise IntegrityError(
            f"{inputs.predictions} is not of the test subset of {inputs.splits}: {len(missing)} samples are missing, "
            f"{len(added)} are not of it, {len(twice)} stand there twice: run `dvc repro evaluate`"
        )
    return table


def _table(path: Path, stage: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: run `dvc repro {stage}`") from None
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged ({error}): run `dvc repro {stage}`") from error


def _json(inputs: Paths, name: str) -> Any:
    path = getattr(inputs, name)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: run `dvc repro`") from None
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged ({error}): run `dvc repro`") from error


def _counts(samples: pd.DataFrame, rejected: pd.DataFrame, split: Mapping[str, Any]) -> dict[str, str]:
    sizes = samples.groupby("group").size()
    subsets = ", ".join(f"{subset} {split['samples'][subset]:,}" for subset in ("train", "validation", "test"))
    rules = ", ".join(f"{rule} {n:,}" for rule, n in split["excluded"].items()) or "none"
    return {
        "accepted": f"{len(samples):,}",
        "accepted with a note on the name": f"{int((samples['note'].fillna('') != '').sum()):,}",
        "rejected": f"{len(rejected):,}",
        "duplicate groups of two or more": f"{int((sizes > 1).sum()):,} ({int(sizes[sizes > 1].sum()):,} samples)",
        "of them with labels that contradict each other": f"{split['conflicting']['groups']:,} "
        f"({split['conflicting']['samples']:,} samples)",
        "left out of the split, by rule": rules,
        "subsets": subsets,
        "duplicates of test samples in train or validation": f"{split['leaked']['group']:,}",
    }


def _provenance(config: Config, inputs: Paths) -> dict[str, str]:
    model = saving.model_tag(inputs.model)
    trained_in = json.loads((inputs.model / "model.json").read_text(encoding="utf-8"))["precision"]
    return {
        "model": f"{model}, the tag `model` of its run in MLflow",
        "data": f"{config.data.path}; samples {sha256_of(inputs.samples)[:16]}",
        "split": f"{config.split.method}, seed {config.split.seed}; {sha256_of(inputs.splits)[:16]}",
        "seed": str(config.seed),
        "trained in": trained_in,
        "environment": ", ".join(
            f"{name} {version(name)}" for name in ("keras", "numpy", "pandas", "mlflow", "dvc", "hydra-core")
        )
        + f", Python {platform.python_version()}",
        "configuration": "params.yaml of this commit; its values are the run's parameters",
    }
