"""Search: choose settings with Optuna, trial by trial, and compare all trials at the end."""

from __future__ import annotations

import argparse
import os
import shlex

from manyheads.errors import ConfigError
from manyheads.paths import project_root
from manyheads.sweeps import search

TRIALS = 20
"""Number of trials if none is given."""

EPILOG = """examples:
  python -m manyheads search                                              every head's weight, 0.1 to 10
  python -m manyheads search --trials 40 experiment=quick                 the same on other data
  python -m manyheads search 'loss.weights.age=tag(log,interval(0.1,10))' loss=balanced,learned train.epochs=6

Hydra's syntax: interval(a,b) is any number between a and b, int(interval(a,b)) any whole number, range(a,b,step) as in
Python, a,b,c or choice(a,b,c) one of these values; tag(log,...) makes each power of ten equally likely. A setting with
one value is the same for all trials.

A search trains on the output of `dvc repro split` and writes to reports/searches/. The same command continues a stopped
search and repeats failed trials. In a second terminal it shares the work. --trials may be increased."""


def main(arguments: list[str]) -> None:
    """Search for settings on the Pareto front of the heads' skill scores."""
    parser = argparse.ArgumentParser(
        prog="python -m manyheads search", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Choose settings with Optuna, trial by trial, and compare all trials at the end.",
    )  # fmt: skip
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or section.key=value")
    parser.add_argument(
        "--trials", type=int, default=TRIALS, metavar="N", help=f"total number of trials (default: {TRIALS})"
    )
    options = parser.parse_intermixed_args(arguments)
    if options.trials < 1:
        raise ConfigError(f"--trials {options.trials}: a search has at least one trial")
    root = project_root()
    os.chdir(root)
    command = shlex.join(["python", "-m", "manyheads", "search", *arguments])
    search.run(root, options.overrides, options.trials, command)
