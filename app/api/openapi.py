"""Serves the OpenAPI 3.1 description of the API and, at `/docs`, Swagger UI to read and try it. The page loads nothing from other hosts."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

from app.api.errors import ApiError
from app.api.openapi_files import describe_file_paths

DESCRIPTION = """\
Keeps photos and videos on a local disk or in S3 and streams them back, speaking the part of Immich's API that concerns media.

Press **Authorize** and enter the API key that the first start printed; then every call can be tried here.
"""

# Swagger UI sets style attributes and shows fetched files from blob: URLs; it needs no inline script.
DOCS_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mediavault API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/static/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

_START = """\
"use strict";
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  requestInterceptor: (request) => {
    // A file that was not chosen would go along as an empty text.
    if (request.body instanceof FormData && request.body.get("sidecarData") === "") {
      request.body.delete("sidecarData");
    }
    return request;
  },
});
"""

_STATIC = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}

_SECURITY_SCHEMES = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "An API key."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The token of a login, or an API key."},
}

_PROBLEM = {
    "type": "object",
    "description": "Every error has this shape.",
    "required": ["type", "title", "status", "detail", "message", "error", "statusCode", "correlationId"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "message": {"type": "string"},
        "error": {"type": "string"},
        "statusCode": {"type": "integer"},
        "correlationId": {"type": "string", "description": "Also in the header x-correlation-id and in the log."},
    },
    "example": {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "Missing required permission: asset.upload",
        "message": "Missing required permission: asset.upload",
        "error": "Forbidden",
        "statusCode": 403,
        "correlationId": "5b0f1c9d2e3a4b5c",
    },
}
_PROBLEM_RESPONSE = {
    "description": "Refused or failed.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def install_openapi(app: FastAPI) -> None:
    """Add the routes `/openapi.json` and `/docs`."""
    static = {name: files("fastapi_offline").joinpath("static", name).read_bytes() for name in _STATIC}
    app.openapi = lambda: _build_schema(app)

    @app.get("/openapi.json", include_in_schema=False)
    async def description() -> dict[str, Any]:
        return app.openapi()

    @app.get("/docs", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE, headers=_security_headers())

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript", headers=_security_headers())

    # Not Starlette's StaticFiles: its error responses (for a malformed Range) are not in the error format.
    @app.head("/docs/static/{name}", include_in_schema=False)
    @app.get("/docs/static/{name}", include_in_schema=False)
    async def static_file(name: str) -> Response:
        if name not in static:
            raise ApiError(404, "Not Found")
        headers = _security_headers() | {"cache-control": "max-age=3600"}
        return Response(static[name], media_type=_STATIC[name], headers=headers)


def _security_headers() -> dict[str, str]:
    return {
        "content-security-policy": DOCS_CONTENT_SECURITY_POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }


def _build_schema(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        for path, operations in describe_file_paths(_PROBLEM_RESPONSE).items():
            schema["paths"].setdefault(path, {}).update(operations)
        components = schema.setdefault("components", {})
        components["securitySchemes"] = _SECURITY_SCHEMES
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = _PROBLEM
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schema["security"] = [{"apiKey": []}, {"bearer": []}]
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                if not path.startswith("/api/"):
                    operation["security"] = []
                # FastAPI documents 422 for invalid bodies; this service answers 400, in the error format.
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = _PROBLEM_RESPONSE
        app.openapi_schema = schema
    return app.openapi_schema
