"""A text as input."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from manyheads.errors import Unreadable
from manyheads.inputs.base import Encoded, Input

if TYPE_CHECKING:
    import keras

_TOKEN = re.compile(r"\w+|[^\w\s]")
_IDS = re.compile(r"\s*\d+(\s+\d+)*\s*", re.ASCII)


class TextInput(Input):
    """A text as a sequence of token ids, int32, cut or padded with 0 to a fixed length. The model takes any length.

    The id of a word is its hash (hashing trick: Weinberger et al., ICML 2009), so there is no vocabulary file. Nothing
    is learned from the texts before the split, and a model reads new texts with its settings alone. Two words may share
    an id: with 50,000 ids and 10,000 words, about one word in five does.

    Attributes:
        tokens: With ``words``, each word and each punctuation mark is a token, regardless of case. With ``ids``, the
            text consists of ids separated by blanks, from 1 to below ``vocabulary``.
        vocabulary: Number of ids, including the 0 of the padding.
        length: Number of tokens of a packed text.

    Example:
        >>> text = TextInput(tokens="ids", vocabulary=100, length=4)
        >>> text.encode(b"7 42").values
        array([ 7, 42,  0,  0], dtype=int32)
    """

    TOWER: ClassVar[str] = "text"

    kind: Literal["text"] = "text"
    tokens: Literal["words", "ids"] = "words"
    vocabulary: int = Field(ge=2)
    length: PositiveInt

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def dtype(self) -> str:
        return "int32"

    def encode(self, data: bytes) -> Encoded:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Unreadable("TEXT_ENCODING", f"not UTF-8: {error.reason} at byte {error.start}") from None
        if not text.strip():
            raise Unreadable("TEXT_EMPTY", "there is no text")
        ids = self._read_ids(text) if self.tokens == "ids" else self._hash_words(text)
        values = np.zeros(self.length, np.int32)
        values[: min(len(ids), self.length)] = ids[: self.length]
        return Encoded(values, "cut" if len(ids) > self.length else "", {"tokens": len(ids)})

    @property
    def example(self) -> str:
        return "1" if self.tokens == "ids" else "a text"

    def _read_ids(self, text: str) -> list[int]:
        if not _IDS.fullmatch(text):
            raise Unreadable("TOKEN_MALFORMED", "not token ids separated by blanks")
        ids = [int(word) for word in text.split()]
        if outside := [token for token in ids if not 0 < token < self.vocabulary]:
            raise Unreadable("TOKEN_RANGE", f"token id {outside[0]} is outside 1-{self.vocabulary - 1}")
        return ids

    def _hash_words(self, text: str) -> list[int]:
        return [1 + zlib.crc32(word.encode()) % (self.vocabulary - 1) for word in _TOKEN.findall(text.casefold())]

    def tensor(self, name: str) -> keras.KerasTensor:
        import keras

        return keras.Input((None,), dtype="int32", name=name)
