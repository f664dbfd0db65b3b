"""The model of a run in MLflow: a function of a data frame with the answers of ``python -m manyheads predict``.

It has the folder of the saved model as ``artifacts/model/`` and the code that answers as ``code/``, so that it needs no
project where it is loaded. After ``evaluate`` and ``report`` the folder also has the evaluation and the cards.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from manyheads.tracking import descriptions

if TYPE_CHECKING:
    import keras

    from manyheads.heads import Head
    from manyheads.inputs import Input

SCRIPT = Path(__file__).parent / "templates/mlflow_model.py"
PACKAGE = Path(__file__).parents[1]
FOLDER = "artifacts/model"
"""The folder of the saved model in the logged model."""

CODE = (
    "__init__.py",
    "errors.py",
    "extensions.py",
    "paths.py",
    "encoders",
    "heads",
    "inputs",
    "modeling",
    "prediction/__init__.py",
    "prediction/answers.py",
    "prediction/frames.py",
    "prediction/tables.py",
    "preprocessing/__init__.py",
    "preprocessing/decoding.py",
    "runtime/__init__.py",
    "runtime/exhaustion.py",
    "runtime/files.py",
    "runtime/hardware.py",
    "runtime/processes.py",
    "runtime/tensorflow.py",
)
"""The files and folders of the package that an answer needs."""

REQUIREMENTS = (
    *("keras", "mlflow", "numpy", "opencv-python-headless"),
    *("pandas", "pebble", "pillow", "psutil", "pydantic", "threadpoolctl"),
)
"""The packages that this code imports, beside TensorFlow."""

NAME = "model"
"""Name of the logged model in its run."""


def find(run_id: str) -> str | None:
    """Return the id of the last model that a run logged as a whole, or None."""
    import mlflow

    client = mlflow.MlflowClient()
    outputs = client.get_run(run_id).outputs
    ids = [output.model_id for output in (outputs.model_outputs if outputs else [])]
    return str(ids[-1]) if ids else None


def add(run_id: str, texts: Mapping[str, str], description: str) -> None:
    """Add texts to the model of a run, if it has one; see ``Run.add_to_model``."""
    import mlflow

    client = mlflow.MlflowClient()
    if (model_id := find(run_id)) is None:
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in texts.items():
            Path(temporary, name).write_text(text, encoding="utf-8")
        client.log_model_artifacts(model_id, temporary, FOLDER)
    if description:
        client.set_logged_model_tags(model_id, {descriptions.TAG: description})


def log(run_id: str, model: Path, network: keras.Model, inputs: Mapping[str, Input], heads: Mapping[str, Head]) -> None:
    """Log a saved model into a run; see ``save``."""
    import mlflow
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    client = mlflow.MlflowClient()
    if find(run_id) is not None:
        return  # a training that is recorded again, because its end was not recorded
    run = client.get_run(run_id)
    # Not `mlflow.pyfunc.log_model`, which loads the model into this process to answer the example.
    logged = client.create_logged_model(run.info.experiment_id, NAME, run_id, params=run.data.params)
    filled = Model(logged.artifact_location, run_id, model_uuid=logged.model_id, model_id=logged.model_id)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, NAME)
        try:
            save(folder, model, network, inputs, heads, filled)
            client.log_model_artifacts(logged.model_id, str(folder))
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])


def save(
    folder: Path,
    model: Path,
    network: keras.Model,
    inputs: Mapping[str, Input],
    heads: Mapping[str, Head],
    logged: Any,
) -> None:
    """Write a saved model as a model of MLflow.

    Args:
        folder: A folder that does not exist yet.
        model: The folder of the saved model.
        network: The same model, loaded.
        inputs: Its inputs by name.
        heads: Its heads by name.
        logged: The ``mlflow.models.Model`` to fill.
    """
    import mlflow
    from mlflow.models import ModelSignature

    kinds = [kind.kind for kind in inputs.values()] + [head.kind for head in heads.values()]
    extensions = sorted({kind.partition(":")[0].partition(".")[0] for kind in kinds if ":" in kind})
    example = {name: kind.example for name, kind in inputs.items()}
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about how MLflow compares the columns of the example
        # Copies, because MLflow keeps the names of the folders and writes the paths into the model.
        script, artifacts, code = (Path(temporary, name) for name in (SCRIPT.name, "model", "code"))
        shutil.copyfile(SCRIPT, script)
        shutil.copytree(model, artifacts)
        _copy_code(code, extensions)
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(script),
            artifacts={"model": str(artifacts)},
            code_paths=[str(path) for path in sorted(code.iterdir())],
            model_config={"extensions": extensions},
            signature=ModelSignature(
                _schema(example, required=True), _schema(_answers(network, heads), required=False)
            ),
            input_example=pd.DataFrame([example]),
            pip_requirements=requirements(),
            metadata={
                "digest": json.loads((model / "model.json").read_text(encoding="utf-8"))["digest"],
                "heads": {
                    name: {"unit": head.label_unit, "classes": list(head.class_names)} for name, head in heads.items()
                },
            },
            mlflow_model=logged,
        )


def _copy_code(folder: Path, extensions: Sequence[str]) -> None:
    """Copy what an answer needs of the package, and a user's own packages, into a new folder."""
    for name in CODE if not extensions else [""]:  # a user's own code may import any part of the package
        _copy(PACKAGE / name, folder / PACKAGE.name / name)
    for name in extensions:
        found = importlib.util.find_spec(name)
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}")
        source = Path(next(iter(found.submodule_search_locations or [str(found.origin)])))
        _copy(source, folder / source.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)


def requirements() -> list[str]:
    """Return the installed versions of the packages that an answer needs."""
    return sorted(f"{name}=={version(name)}" for name in (*REQUIREMENTS, _tensorflow()))


def _tensorflow() -> str:
    try:
        version("tensorflow-cpu")
    except PackageNotFoundError:
        return "tensorflow"
    return "tensorflow-cpu"


def _answers(network: keras.Model, heads: Mapping[str, Head]) -> dict[str, Any]:
    """Return a cell of each column of the answers, of the type that it has."""
    cells: dict[str, Any] = {}
    for head in heads.values():
        units = sum(network.output[name].shape[1] for name in head.output_names(network.output))
        cells |= head.prediction_columns(np.zeros((1, units), np.float32))
    return {name: values[0] for name, values in cells.items()} | {"note": "", "error": ""}


def _schema(cells: Mapping[str, Any], required: bool) -> Any:
    """Return the columns of a signature, of the types of some cells."""
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Array

    types: dict[type, Any] = {
        bytes: DataType.binary,
        str: DataType.string,
        int: DataType.long,
        np.integer: DataType.long,
        list: Array(AnyType()),  # type: ignore[no-untyped-call]  # in a list of doubles, MLflow refuses whole numbers
    }

    def type_of(value: Any) -> Any:
        return next((found for kind, found in types.items() if isinstance(value, kind)), DataType.double)

    return Schema([ColSpec(type_of(value), name, required=required) for name, value in cells.items()])
