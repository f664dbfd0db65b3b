"""Images a second of a model in this project and in each format of `export`, one image and 64 at a time.

    python benchmarks/export_speed.py models

The ways are tried in turn, round after round, and the best round of each counts, because other work on the machine
slows some rounds. Seconds of the processor count the work of all cores.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import results

from manyheads.exporting.export import answering_network
from manyheads.exporting.formats import FORMATS
from manyheads.modeling import saving
from manyheads.modeling.inference import Predictor
from manyheads.runtime.tensorflow import buffered_output

ROUNDS = 15
CALLS = {1: 30, 64: 3}  # number of calls in a round, by batch size
PREDICTOR = "manyheads"
KERAS = "Keras `predict`"


def ways_of(saved, folder):
    """Return each way to run a model as a function of arrays."""
    network, card = answering_network(saved), saved.card
    ways = {PREDICTOR: saved.predictor()}
    if card.precision != "float32":
        ways[f"{PREDICTOR}, in float32"] = Predictor(saved.keras_model, card.heads, "float32", card.inputs)
    ways[KERAS] = lambda inputs: saved.keras_model.predict(inputs["image"], verbose=0)
    for name, form in FORMATS.items():
        (folder / name).mkdir()
        with buffered_output():
            form.write(network, folder / name)
            ways[f"`{name}`"] = form.open(folder / name)
    return ways


def best_rounds(ways, inputs, batch):
    """Return images a second, of the clock and of a processor, by way."""
    best = {name: [np.inf, np.inf] for name in ways}
    for round_number in range(ROUNDS + 1):
        for name, run in ways.items():
            calls = CALLS[batch] if name != KERAS else max(1, CALLS[batch] // 5)
            clock, processor = time.perf_counter(), time.process_time()
            for _ in range(calls):
                run(inputs)
            seconds = (time.perf_counter() - clock) / calls, (time.process_time() - processor) / calls
            if round_number:  # the first warms up
                best[name] = [min(pair) for pair in zip(best[name], seconds, strict=True)]
    return {name: [f"{batch / seconds:,.0f}" for seconds in pair] for name, pair in best.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="FOLDER", help="a model of one input `image`")
    options = parser.parse_args()
    rows, loads, random = [], [], np.random.default_rng(0)
    for folder in options.models:
        saved = saving.load(folder)
        (kind,) = saved.card.inputs.values()
        images = random.integers(0, 256, (max(CALLS), *kind.shape), dtype=np.uint8)
        with tempfile.TemporaryDirectory() as temporary:
            ways = ways_of(saved, Path(temporary))
            measured = {}
            for batch in CALLS:
                measured[batch] = best_rounds(ways, {"image": images[:batch]}, batch)
                loads.append(os.getloadavg()[0])
        for name in ways:
            cells = [cell for batch in CALLS for cell in measured[batch][name]]
            rows.append([f"{saved.card.data}, {kind.image_size} px, {saved.card.precision}", name, *cells])
    header = ["model", "way"]
    for batch in CALLS:
        header += [f"batch {batch}: images/s", "images per second of a processor"]
    note = (
        f"{PREDICTOR} computes batches of 64 alone. LiteRT uses one core. Best of {ROUNDS} rounds; "
        f"load of the machine meanwhile: {min(loads):.1f} to {max(loads):.1f}."
    )
    results.write("export_speed", "python benchmarks/export_speed.py FOLDER ...", header, rows, note)


if __name__ == "__main__":
    main()
