"""Images a second of the command ``predict``, for a model of each recipe.

    python benchmarks/predict_speed.py --archive data/raw/UTKFace.tar.gz

The whole command `python -m manyheads predict` is timed, from JPEG files to a table. The models have random weights,
which do not change the time.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import results

from manyheads.config import composition
from manyheads.heads import LabelStatistics
from manyheads.modeling import saving
from manyheads.modeling.build import averaged_over_flip, build_network
from manyheads.modeling.objective import HeadObjective
from manyheads.paths import project_root
from manyheads.runtime import tensorflow
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=Path("data/raw/UTKFace.tar.gz"), help="JPEG files")
    options = parser.parse_args()
    tensorflow.require_tensorflow()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for recipe in RECIPES:
            folder = Path(temporary) / recipe
            folder.mkdir()
            about = save(folder, recipe)
            table = folder / "predictions.csv"
            command = [sys.executable, "-m", "manyheads", "predict", str(options.archive)]
            began = time.perf_counter()
            subprocess.run([*command, "--model", str(folder), "--output", str(table)], check=True)
            seconds = time.perf_counter() - began
            images = len(table.read_text(encoding="utf-8").splitlines()) - 1
            rows.append([f"`experiment={recipe}`, {about}", images, f"{seconds:.1f}", f"{images / seconds:.0f}"])
    results.write(
        "predict_speed", "python benchmarks/predict_speed.py", ["model", "images", "seconds", "images/s"], rows
    )


if __name__ == "__main__":
    main()
