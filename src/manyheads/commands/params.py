"""Params: compose ``conf/`` into ``params.yaml``, the configuration of every DVC stage."""

from __future__ import annotations

import difflib
import logging

from manyheads.commands import parsers
from manyheads.config.composition import compose_text
from manyheads.errors import ConfigError
from manyheads.paths import project_root
from manyheads.runtime.files import write_text

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Write or check ``params.yaml``."""
    options = parsers.params().parse_args(arguments)
    path = project_root() / "params.yaml"
    composed = compose_text(path.parent, options.overrides)
    present = path.read_text(encoding="utf-8") if path.exists() else ""
    if composed == present:
        logger.info("%s is up to date", path.name)
    elif options.check:
        changes = difflib.unified_diff(
            present.splitlines(), composed.splitlines(), "params.yaml", "conf/", lineterm="", n=0
        )
        print("\n".join(changes))
        raise ConfigError(f"{path.name} differs from what conf/ composes to: run `make params`")
    else:
        write_text(path, composed)
        logger.info("wrote %s", path.name)
