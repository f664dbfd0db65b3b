"""Export: write a saved model for other runtimes, if it answers there as it does here."""

from __future__ import annotations

import logging
from pathlib import Path

from manyheads import datasets
from manyheads.commands import parsers, saved_model
from manyheads.config.loading import read_params
from manyheads.data.subsets import Subset, load_subset
from manyheads.errors import ConfigError
from manyheads.exporting.export import export
from manyheads.exporting.formats import FORMATS
from manyheads.exporting.parity import Parity
from manyheads.modeling.saving import ModelCard
from manyheads.paths import Paths, project_root

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Parse the command line and export the model."""
    options = parsers.export().parse_args(arguments)
    form = FORMATS[options.format]
    form.require_packages()
    root = project_root()
    target = options.output or root / "exports" / options.format
    if target.suffix in {Path(each.model).suffix for each in FORMATS.values()} - {""}:
        raise ConfigError(f"--output {target} is a folder, in which the model is {form.model}: leave the ending out")
    place = saved_model.find(options.model)
    card = place.card()
    subset = validation_subset(card, root)
    documentation = datasets.get(card.data, place.extensions).documentation
    logger.info("exporting %s to %s", place.folder, options.format)
    found = export(place.load, options.format, target, subset, documentation)
    for line in report(found):
        logger.info("%s", line)
    logger.info("wrote %s", target / form.model)


def validation_subset(card: ModelCard, root: Path) -> Subset:
    """Return the validation subset of a project, if its data is that of a model.

    Args:
        card: The description of the model.
        root: The project.

    Raises:
        ConfigError: The project is set to other data.
        IntegrityError: The packed samples or the split are missing or damaged.
    """
    params = root / "params.yaml"
    config = read_params(params)
    for name, here, of_model in (
        ("data.name", config.data.name, card.data),
        ("data.columns", config.data.columns, card.columns),
        ("inputs", config.inputs, card.inputs),
        ("data.heads", set(config.data.heads), set(card.heads)),
    ):
        if here != of_model:
            raise ConfigError(
                f"{params} has another {name} than the model, whose validation samples an export is compared on: "
                "choose its settings with `python -m manyheads params`, then `dvc repro split`"
            )
    return load_subset(Paths(root), card.heads, card.inputs, "validation")


def report(found: Parity) -> list[str]:
    """Return the differences of an export in lines for people."""
    numbers = ", ".join(f"{name} by at most {each.largest:.1e}" for name, each in found.from_model.items())
    lines = [f"{found.samples} validation samples, compared with the model in float32: no class differs; {numbers}"]
    if found.from_predict:
        parts = [
            f"{name} in {each.changed_classes} of {found.samples} classes"
            if each.changed_classes is not None
            else f"{name} by {each.mean:.2g} on average and at most {each.largest:.2g}"
            for name, each in found.from_predict.items()
        ]
        lines.append(
            f"predict computes this model in bfloat16 on this machine, so its answers differ: {', '.join(parts)}"
        )
    return lines
