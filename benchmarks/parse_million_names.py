"""Time and memory of parsing a million generated names.

    python benchmarks/parse_million_names.py --names 1000000 --kind tar.gz

The names follow UTKFace's grammar, and the files are empty. Parse runs in a process of its own, whose memory is
measured. The time does not include making the files.
"""

import argparse
import io
import multiprocessing
import resource
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def names(count: int) -> Iterator[str]:
    for index in range(count):
        yield f"{index % 117}_{index % 2}_{index % 5}_20170116{index:09d}.jpg.chip.jpg"


def generate(target: Path, kind: str, count: int) -> None:
    if kind == "folder":
        target.mkdir()
        for name in names(count):
            (target / name).touch()
    elif kind == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            for name in names(count):
                archive.writestr(f"UTKFace/{name}", b"")
    else:
        with tarfile.open(target, "w:gz", compresslevel=1) as archive:
            for name in names(count):
                archive.addfile(tarfile.TarInfo(f"UTKFace/{name}"), io.BytesIO())
                archive.members.clear()


def parse(source: Path, count: int) -> None:
    start = time.perf_counter()

    from manyheads.config import composition
    from manyheads.data.tables import read_manifest
    from manyheads.paths import Paths
    from manyheads.stages import parse as stage

    chosen = composition.compose(ROOT, ["data=utkface", f"data.path={source.name}"])
    layout = Paths(source.parent)
    stage.run(chosen, layout, layout)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    accepted = len(read_manifest(layout.manifest, chosen.data.heads))
    print(f"{source.name}: {accepted} of {count} names accepted")
    print(f"{seconds:.1f} s with imports, {count / seconds:.0f} names/s, peak RSS {peak:.0f} MiB")


def in_own_process(function: Callable[..., None], *arguments: object) -> None:
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{function.__name__} failed with exit code {process.exitcode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=("tar.gz", "zip", "folder"), default="tar.gz")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / ("UTKFace" if arguments.kind == "folder" else f"UTKFace.{arguments.kind}")
        # A process inherits the peak memory of the process that starts it, so this one stays small.
        in_own_process(generate, source, arguments.kind, arguments.names)
        in_own_process(parse, source, arguments.names)


if __name__ == "__main__":
    main()
