"""Time and peak memory of an epoch of training, for several numbers of samples.

    python benchmarks/training_memory.py --recipe hour 1000 10000 100000

Images are random numbers in a packed array on disk, as pack writes it. Each number of samples is trained in a fresh
process. The resident memory includes pages of the array that the system can drop. The anonymous memory is what the
process itself needs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import results

from manyheads.config import composition
from manyheads.data.tables import write_table
from manyheads.paths import Paths, project_root
from manyheads.runtime import tensorflow
from manyheads.training.tracked import train_and_record

STATUS = Path("/proc/self/status")


class Peak(threading.Thread):
    """Peak memory in MiB, measured ten times a second: ``resident``, and ``own``, its anonymous part."""

    def __init__(self):
        super().__init__(daemon=True)
        self.resident = self.own = 0.0

    def run(self):
        """Measure until the process ends."""
        while True:
            lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
            self.resident = max(self.resident, int(lines["VmRSS"].split()[0]) / 1024)
            self.own = max(self.own, int(lines["RssAnon"].split()[0]) / 1024)
            time.sleep(0.1)


def write_project(folder, settings, n):
    layout = Paths(folder)
    layout.samples.parent.mkdir(parents=True)
    layout.split_counts.parent.mkdir()
    size, generator = settings.inputs["image"].image_size, np.random.default_rng(0)
    array = np.lib.format.open_memmap(layout.packed("image"), mode="w+", dtype=np.uint8, shape=(n, size, size, 3))
    for start in range(0, n, 1000):
        array[start : start + 1000] = generator.integers(0, 256, array[start : start + 1000].shape, dtype=np.uint8)
    array.flush()
    heads = settings.data.heads
    ends = {name: len(head.class_names) or head.maximum for name, head in heads.items()}
    labels = {name: generator.integers(0, end, n) for name, end in ends.items()}
    common = {"path": [f"{i}.jpg" for i in range(n)], "sha256": [f"{i:064x}" for i in range(n)]}
    common["group"] = [f"{i:016x}" for i in range(n)]
    write_table(layout.samples, pd.DataFrame({"row": range(n), **common, **labels, "note": ""}))
    subset = np.where(np.arange(n) % 10 == 9, "validation", "train")
    write_table(layout.splits, pd.DataFrame({**common, "subset": subset, "rule": ""}))
    layout.split_counts.write_text("{}\n")
    (folder / "dvc.yaml").symlink_to(project_root() / "dvc.yaml")


def measure(recipe, n):
    overrides = [f"experiment={recipe}", "train.epochs=1"]
    settings = composition.compose(project_root(), overrides)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_project(folder, settings, n)
        tensorflow.require_tensorflow()
        peak = Peak()
        peak.start()
        trained = train_and_record(settings, Paths(folder), Paths(folder))
        return {"seconds": trained.metrics["wall_seconds"], "resident": peak.resident, "own": peak.own}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", nargs="*", type=int, default=[1000, 10000, 100000], help="numbers of samples")
    parser.add_argument("--recipe", default="hour", help="whose settings (default: hour)")
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.recipe, options.samples[0])))
        return
    rows = []
    for n in options.samples:
        command = [sys.executable, __file__, "--only", "--recipe", options.recipe, str(n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        measured = json.loads(done.stdout.splitlines()[-1])
        rows.append([f"{n:,}", *(f"{measured[key]:,.0f}" for key in ("seconds", "resident", "own"))])
    results.write(
        "training_memory",
        f"python benchmarks/training_memory.py --recipe {options.recipe}",
        ["samples", "seconds an epoch", "resident, MiB", "anonymous, MiB"],
        rows,
        "One sample in ten is in the validation subset, the others in the training subset.",
    )


if __name__ == "__main__":
    main()
