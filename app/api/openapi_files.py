"""OpenAPI descriptions of the routes that send files. FastAPI cannot generate them: the fast path serves those routes before its routing."""

from __future__ import annotations

from typing import Any

_Schema = dict[str, Any]

_FILE_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in (
        ("ETag", "Strong; from the content."),
        ("Accept-Ranges", "`bytes`, or `none` where the answer can only be sent from its start."),
        ("Content-Length", "Bytes of this answer."),
        ("Content-Disposition", "The file's name."),
    )
}


def describe_file_paths(problem: _Schema) -> _Schema:
    """OpenAPI path items by path; `problem` is the response object for errors."""
    return {
        "/api/assets/{id}/original": {method: _describe_original(method, problem) for method in ("get", "head")},
        "/api/assets/{id}/thumbnail": {method: _describe_thumbnail(method, problem) for method in ("get", "head")},
        "/api/assets/{id}/video/playback": {method: _describe_playback(method, problem) for method in ("get", "head")},
        "/api/people/{id}/thumbnail": {
            method: _describe_portrait(method, problem, _PERSON) for method in ("get", "head")
        },
        "/api/users/{id}/profile-image": {
            method: _describe_portrait(method, problem, _PROFILE) for method in ("get", "head")
        },
        "/api/download/archives/{token}/{name}": {
            method: _describe_archive(method, problem) for method in ("get", "head")
        },
    }


def _describe_original(method: str, problem: _Schema) -> _Schema:
    return {
        "tags": ["assets"],
        "summary": f"{method.capitalize()} Original",
        "operationId": f"{method}_original",
        "description": "The file as it was uploaded. Needs the permission `asset.download`.",
        "parameters": [_ID, _DOWNLOAD, _VERSION, *_conditional_headers()],
        "responses": _file_responses(method, problem) | _redirect_response(method, _LINK),
    }


def _describe_thumbnail(method: str, problem: _Schema) -> _Schema:
    sizes: _Schema = {"type": "string", "enum": ["thumbnail", "preview", "fullsize"], "default": "thumbnail"}
    text = "`thumbnail`: WebP, 250 pixels on its short edge. `preview`: JPEG, 1440. `fullsize`: JPEG, for originals that browsers do not show."
    elsewhere = "`fullsize` of an original that browsers show: the way there. `fullsize` that there is not: the way to the preview."
    return {
        "tags": ["assets"],
        "summary": f"{method.capitalize()} Thumbnail",
        "operationId": f"{method}_thumbnail",
        "description": "A picture of the photo or video. Needs the permission `asset.view`.",
        "parameters": [_ID, _query_parameter("size", sizes, text), _DOWNLOAD, _VERSION, *_conditional_headers()],
        "responses": _file_responses(method, problem)
        | {"302": {"description": f"{elsewhere} {_LINK}"}, "400": problem, "404": _missing_response(problem)},
    }


def _describe_playback(method: str, problem: _Schema) -> _Schema:
    return {
        "tags": ["assets"],
        "summary": f"{method.capitalize()} Video",
        "operationId": f"{method}_playback",
        "description": "The video as browsers play it: converted where that is needed, else the original. Needs the permission `asset.view`.",
        "parameters": [_ID, _DOWNLOAD, _VERSION, *_conditional_headers()],
        "responses": _file_responses(method, problem)
        | _redirect_response(method, _LINK)
        | {"404": _missing_response(problem)},
    }


def _describe_portrait(method: str, problem: _Schema, subject: tuple[str, str, str]) -> _Schema:
    tag, title, text = subject
    return {
        "tags": [tag],
        "summary": f"{method.capitalize()} {title}",
        "operationId": f"{method}_{title.lower().replace(' ', '_')}",
        "description": text,
        "parameters": [_ID, *_conditional_headers()],
        "responses": _file_responses(method, problem) | _redirect_response(method, _LINK) | {"404": problem},
    }


def _describe_archive(method: str, problem: _Schema) -> _Schema:
    gone = {**problem, "description": "A file that this range needs is gone, or is not what it was."}
    return {
        "tags": ["download"],
        "summary": f"{method.capitalize()} Archive",
        "operationId": f"{method}_archive",
        "description": "The zip of a link that `POST /api/download/links` made. The token is all it takes.",
        "security": [],
        "parameters": [
            _path_parameter("token", {"type": "string"}),
            _path_parameter("name", {"type": "string"}),
            *_conditional_headers(),
        ],
        "responses": _file_responses(method, problem) | {"404": problem} | ({"410": gone} if method == "get" else {}),
    }


def _redirect_response(method: str, text: str) -> _Schema:
    return {"302": {"description": text}} if method == "get" else {}


def _missing_response(problem: _Schema) -> _Schema:
    soon = {
        "description": "Seconds after which to ask again; only while it is being made.",
        "schema": {"type": "integer"},
    }
    return {
        **problem,
        "description": "There is none. `detail` says why: it is being made, or could not be made.",
        "headers": {"Retry-After": soon},
    }


def _file_responses(method: str, problem: _Schema) -> _Schema:
    whole: _Schema = {"description": "The whole file.", "headers": _FILE_HEADERS}
    unchanged = {"description": "Not changed since the copy that the conditions name."}
    if method == "head":
        return {"200": whole, "304": unchanged, "412": problem}
    content = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
    partial: _Schema = {"description": "The ranges that were asked for.", "headers": _FILE_HEADERS}
    return {"200": whole | content, "206": partial | content, "304": unchanged, "412": problem, "416": problem}


def _conditional_headers() -> list[_Schema]:
    return [
        _header_parameter("Range", "One or more byte ranges.", "bytes=0-65535"),
        _header_parameter("If-None-Match", "Answer 304 if the file is still the one with this ETag."),
        _header_parameter("If-Range", "Honour Range only if the file is still the one with this ETag."),
    ]


def _path_parameter(name: str, schema: _Schema) -> _Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameter(name: str, schema: _Schema, text: str) -> _Schema:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _header_parameter(name: str, text: str, example: str | None = None) -> _Schema:
    schema: _Schema = {"type": "string"} if example is None else {"type": "string", "examples": [example]}
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


_ID = _path_parameter("id", {"type": "string", "format": "uuid", "examples": ["6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d"]})
_DOWNLOAD = _query_parameter("download", {"type": "boolean", "default": False}, "As an attachment that browsers save.")
_VERSION = _query_parameter("c", {"type": "string"}, "Any version of yours: the answer may then be cached for a year.")
_LINK = "Where direct links are on (S3_DELIVERY=redirect): the signed link."
_PERSON = ("people", "Person Thumbnail", "A square picture of the person. Needs the permission `person.read`.")
_PROFILE = (
    "users",
    "Profile Image",
    "Your picture, or for administrators anybody's. Needs the permission `userProfileImage.read`.",
)
