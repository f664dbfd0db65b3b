"""The pages of the server: one to try the model on, and one that describes its routes. Neither needs a network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from manyheads import datasets
from manyheads.datasets import Documentation
from manyheads.errors import ConfigError
from manyheads.heads import Head
from manyheads.modeling.saving import ModelCard
from manyheads.reporting.labels import wording
from manyheads.serving.evaluated import Evaluated
from manyheads.serving.limits import Limits

if TYPE_CHECKING:
    import jinja2
    from markdown_it import MarkdownIt

FOLDER = Path(__file__).parent / "templates"


class Field(NamedTuple):
    """A field of the form for a sample.

    Attributes:
        input: Name of the input that it belongs to; several numbers of one input are sent side by side.
        label: What the field is called.
        kind: ``file``, ``number`` or ``text``.
        accept: Endings of the files that are read.
    """

    input: str
    label: str
    kind: str
    accept: str = ""


class Page:
    """A page that stays the same.

    Attributes:
        path: Its path.
    """

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._text = text
        inline = {
            kind: " ".join(f"'sha256-{_digest(block)}'" for block in re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.S))
            or "'none'"
            for kind in ("script", "style")
        }
        self._headers = {
            "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors 'none'; connect-src 'self'; img-src blob: data:; "
            f"script-src {inline['script']}; style-src {inline['style']}",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }

    async def answer(self, _: Request) -> Response:
        """Return the page."""
        return HTMLResponse(self._text, headers=self._headers)


def _digest(block: str) -> str:
    return base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()


def main_page(
    card: ModelCard, name: str, evaluated: Evaluated, finds_faces: bool, limits: Limits, extensions: Sequence[str]
) -> Page:
    """Return the page to try the model on.

    Args:
        card: The description of the model.
        name: What the model is called.
        evaluated: The model's evaluation.
        finds_faces: Whether the crops of the model's faces are known.
        limits: The limits.
        extensions: Packages that the dataset may be imported from.
    """
    fields = [field for each in card.inputs for field in _fields(card, each)]
    about = {
        "limit": limits.body,
        "only_files": [field.kind for field in fields] == ["file"],
        "metrics": {each: _metric(head) for each, head in card.heads.items()},
    }
    text = _environment().get_template("page.html").render(
        name=name, card=card, fields=fields, about=about, finds_faces=finds_faces,
        documentation=documentation(card, extensions), evaluated=evaluated,
        model_card=_markdown_reader().render(evaluated.model_card),
    )  # fmt: skip
    return Page("/", text)


def routes_page(openapi: dict[str, Any]) -> Page:
    """Return the page that describes the routes; that of FastAPI loads scripts from elsewhere.

    Args:
        openapi: The content of ``/openapi.json``.
    """
    return Page("/docs", _environment().get_template("docs.html").render(openapi=openapi))


def documentation(card: ModelCard, extensions: Sequence[str]) -> Documentation | None:
    """Return the documentation of a model's dataset; None if the dataset is not here."""
    try:
        return datasets.get(card.data, extensions).documentation
    except ConfigError:
        return None


def _metric(head: Head) -> dict[str, Any]:
    """Return how the page writes a head's main metric; an error is in the label's unit."""
    metric = head.metric(head.main_metric)
    return {
        "label": wording(metric).label,
        "digits": wording(metric).digits,
        "unit": "" if metric.greater_is_better else head.label_unit,
        "is_share_of_right": metric.name == "accuracy",
    }


def _fields(card: ModelCard, name: str) -> list[Field]:
    kind = card.inputs[name]
    if kind.FILE_SUFFIXES:
        return [Field(name, name, "file", ",".join(kind.FILE_SUFFIXES))]
    columns = card.columns.get(name, name)
    if isinstance(columns, str):
        return [Field(name, columns, "text")]
    return [Field(name, column, "number") for column in columns]


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = _markdown_reader().renderInline
    return environment


def _markdown_reader() -> MarkdownIt:
    """Return what makes HTML of Markdown; HTML inside of it stays text."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table")
