"""Texts for the terminal: what files and names hold must not act on it, such as clear it or turn its text around."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

JOINERS = "\u200c\u200d"
"""Characters between letters of some scripts and parts of emoji, which cannot be seen and do no harm."""


def printable(text: str, kept: str = "") -> str:
    r"""Return a text with escapes, such as ``\x1b``, for characters that cannot be printed.

    These are control characters, line ends, undecodable bytes, and characters that turn the direction of writing.

    Args:
        text: Any text.
        kept: Characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_printable(c) or c in kept else c.encode("unicode_escape").decode("ascii") for c in text)


def _is_printable(character: str) -> bool:
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def console(**options: Any) -> Console:
    """Return a console that prints texts as ``printable`` returns them, with options of ``rich.console.Console``."""
    from rich.console import Console
    from rich.segment import Segment

    class Printable(Console):
        def render(self, *arguments: Any, **named: Any) -> Iterable[Segment]:
            for text, style, control in super().render(*arguments, **named):
                yield Segment(text if control else printable(text, kept="\n"), style, control)

    return Printable(**options)
