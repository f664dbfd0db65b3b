"""Encoders turn images into features for the heads; one file for each family.

An encoder's fields are its configuration, ``model`` in ``conf/model/*.yaml``. Keras is imported only by the methods
that build.
"""

from typing import Annotated

from pydantic import Field

from manyheads.encoders.article import ArticleEncoder
from manyheads.encoders.compact import CompactEncoder
from manyheads.encoders.pretrained import PretrainedEncoder

AnyEncoder = Annotated[ArticleEncoder | CompactEncoder | PretrainedEncoder, Field(discriminator="encoder")]
