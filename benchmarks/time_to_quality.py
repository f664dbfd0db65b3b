"""Time until a recipe is as good as the article, beside the time of the article's 100 epochs.

    python -m manyheads params experiment=minutes && dvc repro split
    python benchmarks/time_to_quality.py

The training is that of `params.yaml`. The time ends with the first epoch that reaches the metrics that the article
reports, for every head, on the validation subset: race .80, gender .90, R² .58. The speed of the article's generator
and network is measured before and after the training, and gives the time of 100 epochs of its 11,614 training images.
"""

import tempfile
import time
from pathlib import Path

import results
import training_speed

from manyheads.config import loading
from manyheads.paths import Paths, project_root
from manyheads.runtime import tensorflow
from manyheads.training import run
from manyheads.training.callbacks import TrainingCallback

ARTICLE = {"val/race/accuracy": 0.80, "val/gender/accuracy": 0.90, "val/age/r2": 0.58}
ARTICLE_IMAGES = 11_614 * 100
STEPS = 6


def main():
    tensorflow.require_tensorflow()
    inputs = Paths(project_root())
    settings = loading.read_params(inputs.root / "params.yaml")
    archive = inputs.root / settings.data.path
    article = [training_speed.article(archive, STEPS)["training"]]
    reached = {}
    with tempfile.TemporaryDirectory() as folder:
        outputs = Paths(Path(folder))
        began = time.perf_counter()

        class NoteTime(TrainingCallback):
            def on_epoch(self, epoch, row):
                for metric, least in ARTICLE.items():
                    if row[metric] >= least:
                        reached.setdefault(metric, (epoch, time.perf_counter() - began))
                if all(row[metric] >= least for metric, least in ARTICLE.items()):
                    reached.setdefault("all three", (epoch, time.perf_counter() - began))

        run.train(settings, inputs, outputs, outputs.root / "checkpoint.npz", [NoteTime()])
    article.append(training_speed.article(archive, STEPS)["training"])
    hundred_epochs = ARTICLE_IMAGES / (sum(article) / len(article))
    rows = [
        [metric, least, *shown(reached.get(metric), hundred_epochs)]
        for metric, least in [*ARTICLE.items(), ("all three", "")]
    ]
    results.write(
        "time_to_quality",
        "python benchmarks/time_to_quality.py",
        ["validation", "the article's", "epoch", "seconds", "x sooner"],
        rows,
        f"The article's 100 epochs: {hundred_epochs / 3600:.1f} h at {sum(article) / len(article):.0f} images/s.",
    )


def shown(when, hundred_epochs):
    if when is None:
        return ["not reached", "", ""]
    epoch, seconds = when
    return [epoch, f"{seconds:.0f}", f"{hundred_epochs / seconds:.0f}"]


if __name__ == "__main__":
    main()
