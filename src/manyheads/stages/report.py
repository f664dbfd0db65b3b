"""Report: write one page about the run, a model card and a data card.

Reads the outputs of all earlier stages and computes no metric. Writes ``reports/report.html``, which needs no network,
``reports/model_card.md`` and ``reports/data_card.md``. All three are also recorded in the MLflow run, the page without
thumbnails, because the images stay with the data. Only these copies name the run's id and the git commit, so that the
files on disk are the same whenever the same model is trained.
"""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import pandas as pd

from manyheads import datasets
from manyheads.config.schema import Config
from manyheads.data.arrays import open_packed
from manyheads.data.tables import REJECTED_COLUMNS, read_predictions, read_samples, read_splits, read_table
from manyheads.errors import IntegrityError
from manyheads.heads import Head
from manyheads.paths import Paths, brought_here
from manyheads.reporting import cards, report
from manyheads.reporting.contents import Contents, data_counts
from manyheads.runtime.files import read_json, sha256_of, write_text
from manyheads.tracking import by_id, git, runs, views

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Write the report and the cards."""
    contents = gather(config, inputs)
    title = f"{config.data.title}, {config.model.encoder} encoder, loss {config.loss.name}"
    plots = report.plots_of(contents)
    write_text(outputs.report, report.page(contents, title, plots))
    write_text(outputs.model_card, cards.model_card(contents, config))
    write_text(outputs.data_card, cards.data_card(contents, config))
    tags = git.provenance(inputs.root)
    spec = runs.RunSpec("report", tags, model=runs.model_tag(inputs.model))
    with runs.run(config.tracking.experiment, inputs.root, spec) as record:
        edited = ", with uncommitted changes" if tags.get("git.dirty") == "true" else ""
        of_the_run = {
            "MLflow run": record.run_id,
            "git commit": tags.get("git.commit", "not in a repository") + edited,
        }
        if experiment_id := by_id.experiment_of(inputs.root, record.run_id):
            page = views.page_of_run(experiment_id, record.run_id)
            of_the_run["in MLflow"] = views.absolute(inputs.root, page, experiment_id)
        recorded = contents._replace(thumbnails=None, provenance=of_the_run | dict(contents.provenance))
        record.text(report.page(recorded, title, plots), "report.html")
        model_card = cards.model_card(recorded, config)
        data_card = outputs.data_card.read_text(encoding="utf-8")
        record.text(model_card, outputs.model_card.name)
        record.text(data_card, outputs.data_card.name)
        record.add_to_model({outputs.model_card.name: model_card, outputs.data_card.name: data_card}, model_card)
        record.describe()
    logger.info("report on %d test samples: %s", len(contents.predictions), brought_here(outputs.report, outputs.root))


def gather(config: Config, inputs: Paths) -> Contents:
    """Read everything that the page and the cards show.

    Raises:
        IntegrityError: A file is missing or damaged, or the predictions are not those of the test subset.
    """
    heads = config.data.heads
    samples, splits = read_samples(inputs.samples, heads), read_splits(inputs.splits)
    predictions = _predictions(inputs, splits, heads)
    evaluation = read_json(inputs.evaluation, "dvc repro evaluate", ("n", "heads", "groups", "spreads", "small"))
    if evaluation["n"] != len(predictions):
        raise IntegrityError(f"{inputs.evaluation} does not fit {inputs.predictions}: run `dvc repro evaluate`")
    rejected = pd.concat(
        [
            read_table(inputs.rejected, "parse", REJECTED_COLUMNS),
            read_table(inputs.undecodable, "pack", REJECTED_COLUMNS),
        ]
    )
    by_code = Counter(zip(rejected["stage"], rejected["code"], strict=True))
    weights_are_learned = config.loss.weighting == "learned"
    split = read_json(inputs.split_counts, "dvc repro split", ("samples", "excluded", "conflicting", "leaked"))
    documentation = datasets.get(config.data.name, config.extensions).documentation
    return Contents(
        heads=heads,
        manifest=samples,
        counts=data_counts(samples, rejected, split),
        rejected=pd.DataFrame(
            [{"stage": stage, "code": code, "files": n} for (stage, code), n in sorted(by_code.items())],
            columns=["stage", "code", "files"],
        ),
        history=read_table(inputs.history, "train"),
        weights={name: None if weights_are_learned else weight for name, weight in config.loss.weights.items()},
        predictions=predictions,
        evaluation=evaluation,
        confusions={
            name: read_json(inputs.head_reports / f"{name}.json", "dvc repro evaluate", ("confusion",))["confusion"]
            for name, head in heads.items()
            if head.class_names
        },
        head_reports={name: (inputs.head_reports / f"{name}.txt").read_text(encoding="utf-8") for name in heads},
        label_issues=read_table(inputs.label_issues, "audit", ["head", "path", "subset", "label", "predicted"]),
        published=documentation.published,
        published_by=documentation.published_by,
        published_bins=documentation.published_bins,
        thumbnails=_thumbnails(config, inputs, samples),
        provenance=_provenance(config, inputs),
    )


def _thumbnails(config: Config, inputs: Paths, samples: pd.DataFrame) -> Callable[[Sequence[str]], list[bytes]] | None:
    """Return a function from samples' paths to their thumbnails, or None if no input has thumbnails.

    If several inputs have thumbnails, the first is shown.
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
            f"{inputs.predictions} does not fit the test subset of {inputs.splits}: {len(missing)} samples are "
            f"missing, {len(added)} are not in it, {len(twice)} occur twice: run `dvc repro evaluate`"
        )
    return table


def _provenance(config: Config, inputs: Paths) -> dict[str, str]:
    model = runs.model_tag(inputs.model)
    trained_in = read_json(inputs.model / "model.json", "dvc repro train", ("precision",))["precision"]
    return {
        "model": f"{model}, the tag `model` of its run in MLflow",
        "data": f"{config.data.path}; samples {sha256_of(inputs.samples)[:16]}",
        "split": f"{config.split.method}, seed {config.split.seed}; {sha256_of(inputs.splits)[:16]}",
        **{f"weights: {topic.lower()}": text for topic, text in config.model.origin_of_weights.items()},
        "seed": str(config.seed),
        "trained in": trained_in,
        "environment": ", ".join(
            f"{name} {version(name)}" for name in ("keras", "numpy", "pandas", "mlflow", "dvc", "hydra-core")
        )
        + f", Python {platform.python_version()}",
        "configuration": "params.yaml of this commit; its values are the run's parameters",
    }
