"""A model card (Mitchell et al., FAT* 2019) and a data card (Gebru et al., 2021), generated from a run."""

from __future__ import annotations

from collections.abc import Mapping

from manyheads import datasets
from manyheads.config.schema import Config
from manyheads.inputs import Input
from manyheads.reporting.contents import Contents, headline, main_metrics
from manyheads.reporting.html import render


def model_card(contents: Contents, config: Config) -> str:
    """Return the model card as Markdown."""
    return render(
        "model_card.md",
        name=f"{config.data.title}, {config.model.encoder}, {config.loss.name}",
        heads=list(contents.heads),
        main=main_metrics(contents.heads),
        config=config,
        inputs=inputs_text(config.inputs),
        documentation=datasets.get(config.data.name, config.extensions).documentation,
        evaluation=contents.evaluation,
        headline=headline(contents),
        counts=contents.counts,
        provenance=contents.provenance,
    )


def data_card(contents: Contents, config: Config) -> str:
    """Return the data card as Markdown."""
    labels = {}
    for name, head in contents.heads.items():
        counts = head.stratum_counts(head.labels_of(contents.manifest))
        labels[name] = ", ".join(
            f"{each} {n:,} ({n / counts.sum():.1%})" for each, n in zip(head.stratum_names, counts, strict=True)
        )
    return render(
        "data_card.md",
        config=config,
        inputs=inputs_text(config.inputs),
        documentation=datasets.get(config.data.name, config.extensions).documentation,
        counts=contents.counts,
        rejected=contents.rejected.to_dict("records"),
        labels=labels,
    )


def inputs_text(inputs: Mapping[str, Input]) -> str:
    """Return each input's kind, packed shape and dtype, and settings, as text."""
    texts = []
    for name, kind in inputs.items():
        settings = ", ".join(f"{key} {value}" for key, value in kind.model_dump(mode="json", exclude={"kind"}).items())
        texts.append(f"{name} ({kind.kind}), {' x '.join(map(str, kind.shape))} {kind.dtype} ({settings})")
    return "; ".join(texts)
