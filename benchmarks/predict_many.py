"""Seconds and memory of the command ``predict`` for many images, written as Parquet in parts.

    python benchmarks/predict_many.py --images data/raw/UTKFace --model models --times 1 10

The images are hard links of those in a folder, repeated. The peak is the largest sum of the resident memory of the
command and its decoding processes, which counts what they share several times.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow.dataset
import results


def linked(target, files, times):
    """Fill a folder with hard links of files, repeated."""
    for repetition in range(times):
        folder = target / f"{repetition:03d}"
        folder.mkdir(parents=True)
        for file in files:
            os.link(file, folder / file.name)


def peak_of(command):
    """Run a command; return its seconds, its peak in bytes, and the peak of its main process alone."""
    began = time.perf_counter()
    process = psutil.Popen(command)
    peak = main_peak = 0
    while process.poll() is None:
        sizes = []
        for each in [process, *children_of(process)]:
            try:
                sizes.append(each.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        peak, main_peak = max(peak, sum(sizes)), max(main_peak, sizes[0] if sizes else 0)
        time.sleep(0.2)
    if process.returncode:
        sys.exit(process.returncode)
    return time.perf_counter() - began, peak, main_peak


def children_of(process):
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path("data/raw/UTKFace"), help="a folder of JPEG files")
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10], help="how often the images are repeated")
    options = parser.parse_args()
    files = sorted(options.images.rglob("*.jpg"))
    rows = []
    for times in options.times:
        # Links need the same disk.
        with tempfile.TemporaryDirectory(dir=options.images.parent) as temporary:
            photos, output = Path(temporary) / "photos", Path(temporary) / "predictions"
            linked(photos, files, times)
            command = [sys.executable, "-m", "manyheads", "predict", str(photos), "--output", f"{output}/"]
            seconds, peak, main_peak = peak_of([*command, "--model", str(options.model)])
            count = pyarrow.dataset.dataset(output).count_rows()
            size = sum(file.stat().st_size for file in output.glob("*.parquet"))
            parts = len(list(output.glob("*.parquet")))
            rows.append(
                [
                    f"{count:,}",
                    f"{seconds:.0f}",
                    f"{count / seconds:.0f}",
                    f"{peak / 2**20:.0f} MiB",
                    f"{main_peak / 2**20:.0f} MiB",
                    f"{parts} of {size / parts / 2**20:.2f} MiB",
                ]
            )
    header = ["images", "seconds", "images/s", "peak of all processes", "of the main process", "parts"]
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    results.write(
        "predict_many", "python benchmarks/predict_many.py", header, rows, f"Load averages at the end: {load}."
    )


if __name__ == "__main__":
    main()
