"""Images a second of the command ``predict``, and what share of the machine's limit that is.

    python benchmarks/predict_speed.py --archive data/raw/UTKFace.tar.gz

Decoding alone is timed in one process for each core, the network alone by ``Predictor`` on the decoded arrays with all
cores. Both need all cores, so the limit is 1 / (1 / decoding + 1 / network). The whole command
``python -m manyheads predict`` is timed from JPEG files to a CSV; "after the start" leaves out what one image takes,
which is the start of Python and TensorFlow. All are repeated in turn, and the best of each counts. The last column
compares processor time: that of decoding and network alone, with that of the command after its start. It is the one to
read on a machine that does other work. Unless a model is given, the models have random weights, which do not change the
time, and write no notes, which take 2 % of it.
"""

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import results

from manyheads.config import composition
from manyheads.datasets import archives
from manyheads.heads import LabelStatistics
from manyheads.modeling import saving
from manyheads.modeling.build import averaged_over_flip, build_network
from manyheads.modeling.objective import HeadObjective
from manyheads.paths import project_root
from manyheads.runtime import tensorflow
from manyheads.runtime.hardware import available_cores
from manyheads.training import fingerprint

RECIPES = ("minutes", "hour")


def save(folder, recipe):
    settings = composition.compose(project_root(), [f"experiment={recipe}"])
    heads, size = settings.data.heads, settings.inputs["image"].image_size
    objective = tuple(
        HeadObjective(head, settings.loss.functions[name], 1.0, LabelStatistics(30.0, 20.0))
        for name, head in heads.items()
    )
    network = build_network(settings.model, objective, settings.inputs, folded=True)
    if settings.train.flip_tta:
        network = averaged_over_flip(network, settings.inputs)
    card = saving.ModelCard(
        data="utkface",
        inputs=settings.inputs,
        heads=heads,
        precision=fingerprint.precision_of(settings.train),
    )
    saving.save(folder, network, card)
    return f"{size} px" + (", flip_tta" if settings.train.flip_tta else "")


def cpu_seconds():
    """Return the processor time of this process and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def timed(work, *arguments):
    """Return the result of a function, its seconds, and its processor time."""
    began, cpu_began = time.perf_counter(), cpu_seconds()
    result = work(*arguments)
    return result, time.perf_counter() - began, cpu_seconds() - cpu_began


def decode(source, kind, share, shares, gate, queue):
    files = [data for number, (_, data) in enumerate(archives.contents(source)) if number % shares == share]
    gate.wait()
    _, seconds, cpu = timed(lambda: [kind.encode(data) for data in files])
    queue.put((len(files), seconds, cpu))


def decoding_alone(source, kind):
    """Return images, seconds and processor time of decoding in one process for each core."""
    context, shares = multiprocessing.get_context("spawn"), available_cores()
    gate, queue = context.Barrier(shares), context.Queue()
    workers = [context.Process(target=decode, args=(source, kind, i, shares, gate, queue)) for i in range(shares)]
    for worker in workers:
        worker.start()
    counts, seconds, cpu = zip(*(queue.get() for _ in workers), strict=True)
    for worker in workers:
        worker.join()
    return sum(counts), max(seconds), sum(cpu)


def predict(source, folder):
    command = [sys.executable, "-m", "manyheads", "predict", str(source), "--model", str(folder)]
    with tempfile.TemporaryDirectory() as temporary:
        command += ["--output", f"{temporary}/predictions.csv"]
        _, seconds, cpu = timed(lambda: subprocess.run(command, check=True))
    return seconds, cpu


def measured(source, first, folder, repetitions):
    """Return for each way the smallest seconds and the smallest processor time."""
    card = saving.read_card(folder)
    (kind,) = card.inputs.values()
    packed = [kind.encode(data) for number, (_, data) in enumerate(archives.contents(source)) if number < 4096]
    arrays = {name: np.stack([each.values for each in packed]) for name in card.inputs}
    predictor = saving.load(folder).predictor()
    predictor(arrays)
    found = {way: [] for way in ("decoding", "network", "command", "start")}
    for _ in range(repetitions):
        count, seconds, cpu = decoding_alone(source, kind)
        found["decoding"].append((seconds, cpu))
        _, seconds, cpu = timed(predictor, arrays)
        found["network"].append((seconds * count / len(packed), cpu * count / len(packed)))
        found["command"].append(predict(source, folder))
        found["start"].append(predict(first, folder))
    best = {way: tuple(min(each) for each in zip(*values, strict=True)) for way, values in found.items()}
    return count, best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("data/raw/UTKFace.tar.gz"), help="JPEG files, or a folder")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--model", type=Path, help="a trained model instead of the recipes")
    options = parser.parse_args()
    tensorflow.require_tensorflow()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        first = Path(temporary) / "first.jpg"
        first.write_bytes(next(data for name, data in archives.contents(options.archive) if name.endswith(".jpg")))
        for recipe in [None] if options.model else options.recipes:
            folder, about = options.model, "the model of `--model`"
            if recipe:
                folder = Path(temporary) / recipe
                folder.mkdir()
                about = f"`experiment={recipe}`, {save(folder, recipe)}"
            count, best = measured(options.archive, first, folder, options.repetitions)
            (decoding, decoding_cpu), (network, network_cpu) = best["decoding"], best["network"]
            (command, command_cpu), (start, start_cpu) = best["command"], best["start"]
            limit, limit_cpu = decoding + network, decoding_cpu + network_cpu
            rows.append(
                [about, count]
                + [f"{count / seconds:.0f}" for seconds in (decoding, network, limit, command, command - start)]
                + [f"{limit / (command - start):.0%}", f"{limit_cpu / (command_cpu - start_cpu):.0%}"]
            )
    header = ["model", "images", "decoding alone, images/s", "network alone", "limit of both", "the command"]
    header += ["after the start", "share of the limit", "of its processor time"]
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    results.write(
        "predict_speed", "python benchmarks/predict_speed.py", header, rows, f"Load averages at the end: {load}."
    )


if __name__ == "__main__":
    main()
