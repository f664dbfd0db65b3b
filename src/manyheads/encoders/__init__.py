"""Encoders, which turn inputs into features for the heads; one file for each family.

The fields of an encoder are its configuration: ``model`` in ``conf/model/*.yaml``. A new encoder is one new file in
this package: ``ENCODERS`` finds it by the default of its field ``encoder``. Only the methods that build layers import
Keras.
"""

from typing import Annotated

from pydantic import SerializeAsAny

from manyheads import extensions
from manyheads.encoders.article import ArticleEncoder
from manyheads.encoders.base import Encoder
from manyheads.encoders.compact import CompactEncoder
from manyheads.encoders.detector import DetectorEncoder
from manyheads.encoders.late_fusion import LateFusionEncoder
from manyheads.encoders.pass_through import PassThroughEncoder
from manyheads.encoders.pretrained import PretrainedEncoder
from manyheads.encoders.text import ReaderEncoder, TextConvolutionEncoder

__all__ = [
    "ENCODERS",
    "AnyEncoder",
    "ArticleEncoder",
    "CompactEncoder",
    "DetectorEncoder",
    "Encoder",
    "LateFusionEncoder",
    "PassThroughEncoder",
    "PretrainedEncoder",
    "ReaderEncoder",
    "TextConvolutionEncoder",
]

ENCODERS: dict[str, type[Encoder]] = extensions.built_in_classes(__name__, Encoder, "encoder")

AnyEncoder = Annotated[SerializeAsAny[Encoder], extensions.member_of(ENCODERS, Encoder, "encoder")]
