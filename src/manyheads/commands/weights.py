"""Weights: fetch the published weights of pretrained networks, or list them."""

from __future__ import annotations

import logging
import os

from manyheads.commands import parsers
from manyheads.encoders.published import PUBLISHED, load_weights, weights_path
from manyheads.errors import ConfigError, IntegrityError, MachineError
from manyheads.paths import project_root
from manyheads.weights.sources import convert, fetch

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Write the weights that the command line names, unless they are there; without a name, list all."""
    options = parsers.weights().parse_args(arguments)
    package = options.package.expanduser().absolute() if options.package else None
    os.chdir(project_root())
    if options.name:
        if _are_here(options.name):
            print(f"{options.name} is in {weights_path(options.name)} already: nothing to do")
            return
        path = convert(options.name, package) if package else fetch(options.name)
        print(f"wrote {path}\n{_described(options.name)}")
    elif package:
        raise ConfigError(f"--from {package} needs a name: {' or '.join(PUBLISHED)}")
    else:
        for name in PUBLISHED:
            where = weights_path(name) if _are_here(name) else f"not here: python -m manyheads weights {name}"
            print(f"{name}  {where}\n{_described(name)}")


def _are_here(name: str) -> bool:
    try:
        load_weights(name)
    except MachineError:
        return False
    except IntegrityError as error:
        logger.info("%s", error)
        return False
    return True


def _described(name: str) -> str:
    return "\n".join(f"  {topic}: {text}" for topic, text in PUBLISHED[name].description.items())
