"""A text as input."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from manyheads.errors import Unreadable
from manyheads.inputs.base import Encoded, Input

if TYPE_CHECKING:
    import keras

_TOKEN = re.compile(r"\w+|[^\w\s]")
_NO_ID = re.compile(r"[^\d\s]", re.ASCII)
_ID = re.compile(r"0*(?P<digits>[1-9]\d*|0)", re.ASCII)


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
        first = list(islice(ids, self.length))
        values = np.zeros(self.length, np.int32)
        values[: len(first)] = first
        count = len(first) + sum(1 for _ in ids)  # a text of any length takes the memory of its characters alone
        return Encoded(values, "cut" if count > self.length else "", {"tokens": count})

    @property
    def example(self) -> str:
        return "1" if self.tokens == "ids" else "a text"

    @property
    def instructions(self) -> str:
        ids = f"ids from 1 to {self.vocabulary - 1}"
        if self.tokens == "words":
            ids = (
                f"the text after Unicode case folding, each match of {_TOKEN.pattern} as "
                f"1 + CRC-32 of its UTF-8 bytes modulo {self.vocabulary - 1}"
            )
        return f"{ids}; cut, or filled with 0 at the end, to exactly {self.length}"

    def _read_ids(self, text: str) -> Iterator[int]:
        if _NO_ID.search(text):
            raise Unreadable("TOKEN_MALFORMED", "not token ids separated by blanks")
        for match in _ID.finditer(text):
            # Python refuses to read thousands of digits; these are enough to be outside.
            token = int(match["digits"][: len(str(self.vocabulary)) + 1])
            if not 0 < token < self.vocabulary:
                raise Unreadable("TOKEN_RANGE", f"token id {match[0][:40]} is outside 1-{self.vocabulary - 1}")
            yield token

    def _hash_words(self, text: str) -> Iterator[int]:
        words = (match[0] for match in _TOKEN.finditer(text.casefold()))
        return (1 + zlib.crc32(word.encode()) % (self.vocabulary - 1) for word in words)

    def tensor(self, name: str) -> keras.KerasTensor:
        import keras

        return keras.Input((None,), dtype="int32", name=name)
