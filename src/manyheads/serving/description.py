"""What ``/openapi.json`` says of the routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyheads.modeling.saving import ModelCard
from manyheads.serving import bodies

SUMMARY = "A model with several heads: every head's answer for a sample"
FIND_FACES = "Find each face in the pictures, crop it as the training data is cropped, and answer for it"
CROPS_UNKNOWN = "the crops of this model's training data are not known: leave find_faces out"

_TEXT: Mapping[str, Any] = {"type": "string"}
_NUMBER: Mapping[str, Any] = {"type": "number"}
_PROBLEM = {"type": "object", "required": ["code", "reason"], "properties": {"code": _TEXT, "reason": _TEXT}}
_PROBLEMS = {
    400: "The JSON, the form, the query or the name of the server is wrong",
    408: "The body came too slowly",
    413: "The body is too large, a picture has too many pixels, or there are too many samples",
    415: "The content type is not read",
    422: "The sample cannot be read",
    503: "Too much waits: come again after Retry-After",
}

HEALTH: Mapping[str, Any] = {
    "summary": "Whether samples are answered",
    "responses": {200: {"description": "They are"}, 503: {"description": "They are not: start the server again"}},
}
METRICS: Mapping[str, Any] = {
    "summary": "Counters for Prometheus",
    "responses": {200: {"description": "Text", "content": {"text/plain": {}}}},
}


def predict(card: ModelCard) -> dict[str, Any]:
    """Return the description of ``POST /predict`` for a model, as arguments of a route of FastAPI."""
    values = {name: "the file in base64" if kind.FILE_SUFFIXES else kind.kind for name, kind in card.inputs.items()}
    inputs = {name: {"description": value} for name, value in values.items()}
    sample = {"type": "object", "required": [*inputs], "properties": inputs}
    file = {"type": "string", "format": "binary", "description": "The bytes of one file"}
    parts = {
        name: {"type": "array", "items": file if kind.FILE_SUFFIXES else _TEXT} for name, kind in card.inputs.items()
    }
    several = "One field for each input; several samples have several"
    form = {"description": f"{several}: {', '.join(inputs)}", "type": "object", "required": [*inputs]}
    schemas: dict[str, dict[str, Any]] = {
        bodies.JSON: {
            "schema": {"description": "One sample, or a list", "oneOf": [sample, {"type": "array", "items": sample}]},
            "example": values,
        },
        bodies.FORM: {"schema": form | {"properties": parts}},
    }
    content = {each: schemas.get(each, {"schema": file}) for each in bodies.media_types(card.inputs)}
    return {
        "summary": "Every head's answer for one sample or several",
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
        "responses": {
            200: {"description": "The answers", "content": {"application/json": {"schema": _answers(card)}}},
            **{
                status: {"description": text, "content": {"application/json": {"schema": _PROBLEM}}}
                for status, text in _PROBLEMS.items()
            },
        },
    }


def _answers(card: ModelCard) -> dict[str, Any]:
    heads = {
        name: {
            "type": "object",
            "description": f"{head.kind}{f', in {head.label_unit}' if head.label_unit else ''}",
            "properties": {
                "value": {"enum": list(head.class_names)} if head.class_names else {},
                "tested": {
                    "type": "object",
                    "description": "The main metric over the test samples that were answered at least as surely",
                    "properties": {
                        "metric": _TEXT, "value": _NUMBER, "low": _NUMBER, "high": _NUMBER,
                        "samples": {"type": "integer"}, "share": _NUMBER,
                    },
                },
            },
        }
        for name, head in card.heads.items()
    }  # fmt: skip
    answer = {
        "heads": {"type": "object", "properties": heads},
        "note": {"description": "What is unlike the training data", **_TEXT},
    }
    box = {"type": "object", "properties": {key: {"type": "integer"} for key in ("left", "top", "width", "height")}}
    sample: dict[str, Any] = {"type": "object", "properties": answer}
    face = {"type": "object", "properties": {"box": box, **answer}}
    model = {"type": "object", "properties": {"name": _TEXT, "digest": _TEXT}}
    several = {"type": "array", "items": {"oneOf": [sample, _PROBLEM]}}
    return {
        "type": "object",
        "properties": {**answer, "faces": {"type": "array", "items": face}, "samples": several, "model": model},
    }
