"""What a point of a sweep costs beyond its training: bare trainings and points of the same settings, side by side.

    python benchmarks/sweep_overhead.py
    python benchmarks/sweep_overhead.py experiment=utkface_quick train.epochs=1

Needs the packed data (`dvc repro split`). Everything else happens in a temporary project that shares it, with an MLflow
store of its own, in one process that has loaded TensorFlow before: bare trainings, a sweep of one point, a sweep of
more, each training with a seed of its own. What the longer sweep takes beyond the shorter one is the points' own.
"""

import argparse
import contextlib
import io
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

from manyheads.__main__ import main as manyheads
from manyheads.layout import project_root

SHARED = ("conf", "data", "dvc.yaml", "dvc.lock", "params.yaml", "src")


def seconds(arguments):
    began = time.perf_counter()
    try:
        manyheads(arguments)
    except SystemExit as stop:
        if stop.code:
            raise
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="settings of the training")
    parser.add_argument("--repeats", type=int, default=5, help="trainings of each way (default: 5)")
    options = parser.parse_args()
    root = project_root()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        for name in SHARED:
            (Path(folder) / name).symlink_to(root / name)
        os.chdir(folder)
        logging.disable(logging.INFO)
        seconds(["train", *options.overrides, "seed=1000"])
        bare = [seconds(["train", *options.overrides, f"seed={2000 + i}"]) for i in range(options.repeats)]
        seeds = ",".join(str(4000 + i) for i in range(options.repeats + 1))
        with contextlib.redirect_stdout(io.StringIO()):  # the comparisons' tables
            one = seconds(["train", "-m", *options.overrides, "seed=3000"])
            more = seconds(["train", "-m", *options.overrides, f"seed={seeds}"])
        os.chdir(root)
    each = (more - one) / options.repeats
    mean = statistics.mean(bare)
    print(f"bare training: mean {mean:.2f} s of {options.repeats}, from {min(bare):.2f} to {max(bare):.2f}")
    print(f"point of a sweep: {each:.2f} s: {each - mean:+.2f} s, {each / mean - 1:+.1%}")
    print(f"once a sweep (plan, parent run, comparison): {one - each:.2f} s")


if __name__ == "__main__":
    main()
