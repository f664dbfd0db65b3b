"""Kinds of inputs: images, texts, numbers; one file for each. Nothing else knows how an input is read or packed.

An input's fields are its configuration, ``pack.<name>`` in ``conf/inputs/*.yaml``. Keras is imported only by the methods
that build.
"""

from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny, ValidationInfo

from manyheads import extensions
from manyheads.inputs.base import Encoded, Input
from manyheads.inputs.image import ImageInput
from manyheads.inputs.numbers import NumbersInput
from manyheads.inputs.text import TextInput

__all__ = ["INPUTS", "AnyInput", "Encoded", "ImageInput", "Input", "NumbersInput", "TextInput"]

INPUTS: dict[str, type[Input]] = {"image": ImageInput, "text": TextInput, "numbers": NumbersInput}


def _chosen(values: Any, info: ValidationInfo) -> Any:
    return extensions.chosen(values, "kind", INPUTS, Input, info)


AnyInput = Annotated[SerializeAsAny[Input], PlainValidator(_chosen)]
