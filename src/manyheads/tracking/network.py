"""A drawing of a network, and the table of its layers, for people who look at a run in MLflow.

``keras.utils.plot_model`` draws every layer and needs a program beside Python. This page draws what the project is
about: the inputs, the layers that all heads share, by the shape of their output, and each head with its own layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import keras

    from manyheads.heads import Head

TEMPLATES = Path(__file__).parent / "templates"


class Stage(NamedTuple):
    """Consecutive layers with outputs of one shape.

    Attributes:
        shape: Shape of the output without the batch, such as ``24 x 24 x 16``.
        layers: Kinds of the layers and how many there are, such as ``2 Conv2D, 2 Activation``.
        parameters: Number of their parameters.
    """

    shape: str
    layers: str
    parameters: int


def drawing(model: keras.Model, heads: Mapping[str, Head]) -> str:
    """Return a page that draws a functional model with its inputs, shared layers and heads.

    Args:
        model: The model for inference; a model inside it, which ``train.flip_tta`` makes, is drawn in its place.
        heads: Its heads by name.
    """
    import jinja2

    inner = next((layer for layer in model.layers if getattr(layer, "layers", None)), model)
    outputs = {name: head.output_names(inner.output) for name, head in heads.items()}
    owners = _owners(inner.get_config(), outputs)
    shared = [layer for layer in inner.layers if owners[layer.name] >= set(heads)]
    tensors = {layer.name for layer in inner.layers if type(layer).__name__ == "InputLayer"}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("network.html").render(
        title=f"{model.count_params():,} parameters, {len(heads)} heads",
        note="predictions are means over each sample and its mirror image" if inner is not model else "",
        inputs=[(tensor.name, _shape(tensor.shape[1:]), tensor.dtype) for tensor in inner.inputs],
        shared=list(_stages(layer for layer in shared if layer.name not in tensors)),
        heads=[
            {
                "name": name,
                "kind": type(head).__name__,
                "labels": ", ".join(head.class_names) or head.label_unit,
                "stages": list(_stages(layer for layer in inner.layers if owners[layer.name] == {name})),
                "some": list(_stages(layer for layer in inner.layers if {name} < owners[layer.name] < set(heads))),
                "outputs": [(output, _shape(inner.output[output].shape[1:])) for output in outputs[name]],
            }
            for name, head in heads.items()
        ],
    )


def layer_table(model: keras.Model) -> str:
    """Return Keras's table of the layers, their shapes and their parameters."""
    lines: list[str] = []
    model.summary(line_length=110, print_fn=lines.append, expand_nested=True)
    return "\n".join(lines)


def _owners(config: Mapping[str, Any], outputs: Mapping[str, list[str]]) -> dict[str, set[str]]:
    """Return the heads whose outputs depend on each layer, by the layer's name."""
    sources = {layer["name"]: set(_histories(layer["inbound_nodes"])) for layer in config["layers"]}
    owners: dict[str, set[str]] = {name: set() for name in sources}
    for head, names in outputs.items():
        waiting = [config["output_layers"][name][0] for name in names]
        while waiting:
            layer = waiting.pop()
            if head not in owners[layer]:
                owners[layer].add(head)
                waiting += sources[layer]
    return owners


def _histories(node: Any) -> Iterator[str]:
    """Yield the names of the layers whose outputs occur in a part of Keras's configuration of a model."""
    if isinstance(node, Mapping):
        if "keras_history" in node:
            yield node["keras_history"][0]
        node = list(node.values())
    if isinstance(node, list | tuple):
        for each in node:
            yield from _histories(each)


def _stages(layers: Iterator[Any]) -> Iterator[Stage]:
    current: list[Any] = []
    shape = ""
    for layer in layers:
        here = _shape(getattr(layer.output, "shape", (None, "several"))[1:])
        if current and here != shape:
            yield _stage(shape, current)
            current = []
        shape = here
        current.append(layer)
    if current:
        yield _stage(shape, current)


def _stage(shape: str, layers: list[Any]) -> Stage:
    kinds = Counter(type(layer).__name__ for layer in layers)
    named = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in kinds.items())
    return Stage(shape, named, sum(layer.count_params() for layer in layers if hasattr(layer, "count_params")))


def _shape(sizes: Any) -> str:
    return " x ".join("any" if size is None else str(size) for size in sizes) or "one number"
