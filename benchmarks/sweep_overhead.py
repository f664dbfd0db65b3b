"""Time of a trial of a sweep beyond that of its training.

    python benchmarks/sweep_overhead.py
    python benchmarks/sweep_overhead.py experiment=quick train.epochs=1

Run `dvc repro split` before. The trainings run in a temporary project that shares the packed data and has an MLflow
store of its own, in one process that has loaded TensorFlow before. Each turn is a bare training and a sweep of one
trial, with the same settings and two seeds. The difference includes the sweep's plan, its parent run and its
comparison, so a trial of a longer sweep takes less than this.
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
from manyheads.paths import project_root

SHARED = ("conf", "data", "dvc.yaml", "dvc.lock", "params.yaml", "reports/split.json", "src")


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
    parser.add_argument("--turns", type=int, default=5, help="trainings of each way (default: 5)")
    options = parser.parse_args()
    root = project_root()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "reports").mkdir()
        for name in SHARED:
            (Path(folder) / name).symlink_to(root / name)
        os.chdir(folder)
        logging.disable(logging.INFO)
        seconds(["train", *options.overrides, "seed=1000"])
        bare, trial = [], []
        for turn in range(options.turns):
            bare.append(seconds(["train", *options.overrides, f"seed={2000 + turn}"]))
            with contextlib.redirect_stdout(io.StringIO()):  # the comparison's table
                trial.append(seconds(["train", "-m", *options.overrides, f"seed={3000 + turn}"]))
        os.chdir(root)
    extra = [ours - theirs for ours, theirs in zip(trial, bare, strict=True)]
    print("bare training, s:     ", "  ".join(f"{value:6.2f}" for value in bare))
    print("sweep of one trial, s:", "  ".join(f"{value:6.2f}" for value in trial))
    median = statistics.median(extra)
    print(f"median difference: {median:+.2f} s, {median / statistics.median(bare):+.1%}")


if __name__ == "__main__":
    main()
