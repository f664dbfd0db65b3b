"""Images a second that pack decodes, beside a plain loop.

    python benchmarks/pack.py --archive data/raw/UTKFace.tar.gz --size 96

Both read the archive, decode every image to an RGB square of that size, and give one array. Pack writes it to disk and
decodes in one process for each core. The plain loop keeps it in memory and uses one process. Pack also hashes and
fingerprints each image. Each way runs in a fresh process. The peak is the resident memory of that process and, for
pack, of its workers, each counted as large as the largest.
"""

import argparse
import io
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from manyheads.datasets import archives
from manyheads.inputs import ImageInput
from manyheads.preprocessing import decoding


class Measured(NamedTuple):
    """Time and memory of one way."""

    images: int
    seconds: float
    peak_mebibytes: float


def plain(archive: Path, size: int) -> Measured:
    began = time.perf_counter()
    pixels = []
    for _, data in archives.contents(archive):
        try:
            image = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size))
        except OSError:
            continue
        pixels.append(np.asarray(image))
    count = len(np.stack(pixels))
    return Measured(count, time.perf_counter() - began, _peak(resource.RUSAGE_SELF))


def pack(archive: Path, size: int) -> Measured:
    count = sum(1 for _ in archives.names(archive))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        encoded = (
            decoding.Raw(row, data)
            for row, (_, data) in enumerate(archives.contents(archive))
            if isinstance(data, bytes)
        )
        image = ImageInput(image_size=size, duplicate_correlation=1)
        outcomes = decoding.encode_into(Path(folder) / "image.npy", count, encoded, image)
        done = sum(isinstance(outcome, decoding.Packed) for outcome in outcomes)
        seconds = time.perf_counter() - began
    workers = decoding.available_cores() * _peak(resource.RUSAGE_CHILDREN)
    return Measured(done, seconds, _peak(resource.RUSAGE_SELF) + workers)


def _peak(who: int) -> float:
    # Linux counts kibibytes, macOS bytes.
    return resource.getrusage(who).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _in_fresh_process(measure: Callable[[Path, int], Measured], archive: Path, size: int) -> Measured:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, archive, size).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("data/raw/UTKFace.tar.gz"))
    parser.add_argument("--size", type=int, default=96, help="height and width in pixels")
    options = parser.parse_args()
    rates = {}
    for measure in (plain, pack):
        images, seconds, peak = _in_fresh_process(measure, options.archive, options.size)
        rates[measure] = images / seconds
        print(
            f"{measure.__name__:>5}: {images} images in {seconds:.1f} s, {images / seconds:.0f} images/s, "
            f"peak {peak:.0f} MiB"
        )
    print(f"pack is {rates[pack] / rates[plain]:.1f} times as fast on {decoding.available_cores()} cores")


if __name__ == "__main__":
    main()
