"""Params: compose ``conf/`` into ``params.yaml``, the configuration of every DVC stage."""

from __future__ import annotations

import argparse
import difflib
import logging

from manyheads.config.composition import compose_text
from manyheads.errors import ConfigError
from manyheads.paths import project_root
from manyheads.runtime.files import write_text

logger = logging.getLogger(__name__)

EPILOG = """examples:
  python -m manyheads params                        the defaults
  python -m manyheads params experiment=hour        another choice; then `dvc repro`
  python -m manyheads params --check                fail if params.yaml differs from what conf/ composes to"""


def main(arguments: list[str]) -> None:
    """Write or check ``params.yaml``."""
    parser = argparse.ArgumentParser(
        prog="python -m manyheads params", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compose conf/ into params.yaml, byte for byte as `dvc exp run` does.",
    )  # fmt: skip
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or section.key=value")
    parser.add_argument("--check", action="store_true", help="write nothing; fail and show the lines that differ")
    options = parser.parse_args(arguments)
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
