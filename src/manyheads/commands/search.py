"""Search: choose settings with Optuna, trial by trial, and compare all trials at the end."""

from __future__ import annotations

import os
import shlex

from manyheads.commands import parsers
from manyheads.errors import ConfigError
from manyheads.paths import project_root
from manyheads.sweeps import search


def main(arguments: list[str]) -> None:
    """Search for settings on the Pareto front of the heads' skill scores."""
    options = parsers.search().parse_intermixed_args(arguments)
    if options.trials < 1:
        raise ConfigError(f"--trials {options.trials}: a search has at least one trial")
    root = project_root()
    os.chdir(root)
    command = shlex.join(["python", "-m", "manyheads", "search", *arguments])
    search.run(root, options.overrides, options.trials, command)
