"""Encoders turn inputs into features for the heads; one file for each family.

An encoder's fields are its configuration, ``model`` in ``conf/model/*.yaml``. Keras is imported only by the methods
that build.
"""

from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny, ValidationInfo

from manyheads import extensions
from manyheads.encoders.article import ArticleEncoder
from manyheads.encoders.base import Encoder
from manyheads.encoders.compact import CompactEncoder
from manyheads.encoders.detector import DetectorEncoder
from manyheads.encoders.pass_through import PassThroughEncoder
from manyheads.encoders.pretrained import PretrainedEncoder
from manyheads.encoders.text import ReaderEncoder, TextConvolutionEncoder

ENCODERS: dict[str, type[Encoder]] = {
    "article": ArticleEncoder,
    "compact": CompactEncoder,
    "pretrained": PretrainedEncoder,
    "text_convolution": TextConvolutionEncoder,
    "reader": ReaderEncoder,
    "detector": DetectorEncoder,
    "pass_through": PassThroughEncoder,
}


def _chosen(values: Any, info: ValidationInfo) -> Any:
    return extensions.chosen(values, "encoder", ENCODERS, Encoder, info)


AnyEncoder = Annotated[SerializeAsAny[Encoder], PlainValidator(_chosen)]
