"""The description of the paths that send files. They are served before FastAPI's routing, so that it can not describe them."""

from __future__ import annotations

from typing import Any

_Shape = dict[str, Any]

_BYTES_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in (
        ("ETag", "Strong; from the content."),
        ("Accept-Ranges", "`bytes`, or `none` where the answer can only be sent from its start."),
        ("Content-Length", "Bytes of this answer."),
        ("Content-Disposition", "The file's name."),
    )
}


def hot_paths(problem: _Shape) -> _Shape:
    """OpenAPI's path items; `problem` describes an error's answer."""
    return {
        "/api/assets/{id}/original": {method: _original(method, problem) for method in ("get", "head")},
        "/api/download/archives/{token}/{name}": {method: _archive(method, problem) for method in ("get", "head")},
    }


def _original(method: str, problem: _Shape) -> _Shape:
    redirect = {"description": "Where direct links are on (S3_DELIVERY=redirect): the signed link."}
    return {
        "tags": ["assets"],
        "summary": f"{method.capitalize()} Original",
        "operationId": f"{method}_original",
        "description": "The file as it was uploaded. Needs the permission `asset.download`.",
        "parameters": [
            _in_path("id", {"type": "string", "format": "uuid"}),
            _query("download", {"type": "boolean", "default": False}, "As an attachment that browsers save."),
            _query("c", {"type": "string"}, "Any version of yours: the answer may then be cached for a year."),
            *_conditions(),
        ],
        "responses": _answers(method, problem) | ({"302": redirect} if method == "get" else {}),
    }


def _archive(method: str, problem: _Shape) -> _Shape:
    gone = {**problem, "description": "A file that this range needs is gone, or is not what it was."}
    return {
        "tags": ["download"],
        "summary": f"{method.capitalize()} Archive",
        "operationId": f"{method}_archive",
        "description": "The zip of a link that `POST /api/download/links` made. The token is all it takes.",
        "security": [],
        "parameters": [_in_path("token", {"type": "string"}), _in_path("name", {"type": "string"}), *_conditions()],
        "responses": _answers(method, problem) | {"404": problem} | ({"410": gone} if method == "get" else {}),
    }


def _answers(method: str, problem: _Shape) -> _Shape:
    whole: _Shape = {"description": "The whole file.", "headers": _BYTES_HEADERS}
    unchanged = {"description": "Not changed since the copy that the conditions name."}
    if method == "head":
        return {"200": whole, "304": unchanged, "412": problem}
    content = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
    partial: _Shape = {"description": "The ranges that were asked for.", "headers": _BYTES_HEADERS}
    return {"200": whole | content, "206": partial | content, "304": unchanged, "412": problem, "416": problem}


def _conditions() -> list[_Shape]:
    return [
        _header("Range", "One or more byte ranges.", "bytes=0-65535"),
        _header("If-None-Match", "Answer 304 if the file is still the one with this ETag."),
        _header("If-Range", "Honour Range only if the file is still the one with this ETag."),
    ]


def _in_path(name: str, schema: _Shape) -> _Shape:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str, schema: _Shape, text: str) -> _Shape:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _header(name: str, text: str, example: str | None = None) -> _Shape:
    schema: _Shape = {"type": "string"} if example is None else {"type": "string", "examples": [example]}
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
