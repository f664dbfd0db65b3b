"""Search: Optuna chooses settings, trial by trial, and all trials are compared at the end."""

from __future__ import annotations

import argparse
import os
import shlex

from manyheads.errors import ConfigError
from manyheads.paths import project_root
from manyheads.sweeps import search

TRIALS = 20

EPILOG = """examples:
  python -m manyheads search                                              every head's weight, 0.1 to 10
  python -m manyheads search --trials 40 experiment=quick                 the same on other data
  python -m manyheads search 'loss.weights.age=tag(log,interval(0.1,10))' loss=balanced,learned train.epochs=6

Words of Hydra: interval(a,b) is any number between, int(interval(a,b)) a whole one, range(a,b,step) as in Python,
a,b,c or choice(a,b,c) one of a few; tag(log,...) takes each power of ten for equally likely. What has one value is the
same for all trials.

A search trains on the data as `dvc repro split` left it, and writes to reports/searches/. The same command goes on
where it was stopped, tries again what failed, and in a second terminal shares the work; --trials may grow."""


def main(arguments: list[str]) -> None:
    """Search settings that no other choice beats for every head."""
    parser = argparse.ArgumentParser(
        prog="python -m manyheads search", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Let Optuna choose settings, trial by trial, and compare them all at the end.",
    )  # fmt: skip
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or section.key=value")
    parser.add_argument("--trials", type=int, default=TRIALS, metavar="N", help=f"in all; {TRIALS} if not given")
    options = parser.parse_intermixed_args(arguments)
    if options.trials < 1:
        raise ConfigError(f"--trials {options.trials}: a search has at least one trial")
    root = project_root()
    os.chdir(root)
    command = shlex.join(["python", "-m", "manyheads", "search", *arguments])
    search.run(root, options.overrides, options.trials, command)
