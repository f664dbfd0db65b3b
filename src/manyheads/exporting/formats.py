"""The formats of exports: how a network is written, described and run in each of them.

The packages of the formats are optional, so they are imported in the functions that need them.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from manyheads.errors import MachineError

if TYPE_CHECKING:
    import keras

Arrays = Mapping[str, Any]
Run = Callable[[Arrays], Arrays]
"""Maps inputs by name, shape (n, ...) for any n, to answers by name, shape (n, units), float32."""

OPSET = 18
"""Version of ONNX's operators; ONNX Runtime runs it from 1.14 on."""

DESCRIPTION = "export.json"
"""Name of the file that describes an export, beside the model."""


class Format(NamedTuple):
    """A format.

    Attributes:
        keras_name: Its name in ``keras.Model.export``.
        model: Path of the model in the folder of an export; empty if the model is the folder.
        packages: Packages that write and run it, beside TensorFlow.
        open: Returns the model of a folder as a function.
        describe: Writes a description in JSON into the model of a folder.
    """

    keras_name: str
    model: str
    packages: tuple[str, ...]
    open: Callable[[Path], Run]
    describe: Callable[[Path, str], None]

    def require_packages(self) -> None:
        """Raise an error if a package is not installed.

        Raises:
            MachineError: The message says how to install it.
        """
        if missing := [name for name in self.packages if importlib.util.find_spec(name) is None]:
            raise MachineError(
                f"{', '.join(missing)} is not installed: `make install`, or pip install 'manyheads[export]'"
            )

    def write(self, network: keras.Model, folder: Path) -> None:
        """Write a network into an existing folder; its batch axis stays free.

        Args:
            network: A functional model from inputs to a dictionary of outputs.
            folder: The folder.
        """
        import keras

        if self.keras_name == "onnx":
            _add_erfc()
        specs = [keras.InputSpec(shape=each.shape, dtype=each.dtype, name=each.name) for each in network.inputs]
        options = {"opset_version": OPSET} if self.keras_name == "onnx" else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of converters about NumPy
            network.export(
                folder / self.model,
                format=self.keras_name,
                input_signature=[specs] if len(specs) > 1 else specs,
                verbose=False,
                **options,
            )


def _open_onnx(folder: Path) -> Run:
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _add_erfc() -> None:
    """Have tf2onnx convert the operation Erfc, a part of the activation GELU: ONNX has Erf, and Erfc is 1 - Erf."""
    import numpy as np
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    class Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            of = {"shapes": [ctx.get_shape(node.output[0])], "dtypes": [ctx.get_dtype(node.output[0])]}
            erf = ctx.make_node("Erf", node.input, **of)
            one = ctx.make_const(utils.make_name("one"), np.float32(1))
            ctx.remove_node(node.name)
            ctx.make_node("Sub", [one.output[0], erf.output[0]], name=node.name, outputs=node.output, **of)

    tf_op("Erfc")(Erfc)


def _describe_onnx(folder: Path, description: str) -> None:
    import onnx

    model = onnx.load(folder / "model.onnx")
    onnx.helper.set_model_props(model, {"manyheads": description})
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"  # instead of the converter's numbers
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")


def _open_litert(folder: Path) -> Run:
    litert = importlib.import_module("ai_edge_litert.interpreter")
    signature = litert.Interpreter(model_path=str(folder / "model.tflite")).get_signature_runner()
    return lambda inputs: signature(**inputs)  # resizes the batch axis


def _describe_litert(folder: Path, description: str) -> None:
    # LiteRT's own convention for files that belong to a model: a zip archive after the model's bytes.
    with zipfile.ZipFile(folder / "model.tflite", "a") as archive:
        archive.writestr(zipfile.ZipInfo(DESCRIPTION), description)


def _open_saved_model(folder: Path) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    serve = loaded.signatures["serving_default"]

    def run(inputs: Arrays) -> Arrays:
        answers = serve(**{name: tf.constant(values) for name, values in inputs.items()})
        return {name: answer.numpy() for name, answer in answers.items()}

    return run


def _describe_saved_model(folder: Path, description: str) -> None:
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / "assets.extra" / DESCRIPTION).write_text(description, encoding="utf-8")


FORMATS = {
    "onnx": Format("onnx", "model.onnx", ("onnx", "onnxruntime", "tf2onnx"), _open_onnx, _describe_onnx),
    "litert": Format("litert", "model.tflite", ("ai_edge_litert",), _open_litert, _describe_litert),
    "saved_model": Format("tf_saved_model", "", (), _open_saved_model, _describe_saved_model),
}
