"""Kinds of inputs: images, texts, numbers; one file for each. Each kind defines how its bytes are read and packed.

The fields of an input are its configuration: ``inputs.<name>``. A new kind is one new file in this package: ``INPUTS``
finds it by the default of its field ``kind``. Only the methods that build tensors import Keras.
"""

from typing import Annotated

from pydantic import SerializeAsAny

from manyheads import extensions
from manyheads.inputs.base import Encoded, Input
from manyheads.inputs.image import ImageInput
from manyheads.inputs.numbers import NumbersInput
from manyheads.inputs.text import TextInput

__all__ = ["INPUTS", "AnyInput", "Encoded", "ImageInput", "Input", "NumbersInput", "TextInput"]

INPUTS: dict[str, type[Input]] = extensions.built_in_classes(__name__, Input, "kind")

AnyInput = Annotated[SerializeAsAny[Input], extensions.member_of(INPUTS, Input, "kind")]
