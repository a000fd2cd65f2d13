"""JSON bodies: limits of size and time, and malformed JSON. Every refusal is in the error format."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator, MutableMapping
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.api.errors import install_error_handlers
from app.api.routes import list_api_routers
from app.api.routes.json_routes import JsonRoute
from tests.real.accounts import Account
from tests.real.chosen import stack
from tests.real.service import Service
from tests.real.uploads import UploadConnection

__all__ = ["stack"]

NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"

MEBIBYTE = 1024 * 1024
JSON = {"content-type": "application/json"}
SMALL = [
    ("POST", "/api/search/metadata"),
    ("POST", "/api/api-keys"),
    ("PUT", f"/api/api-keys/{NOBODY}"),
    ("POST", "/api/auth/login"),
]
LARGE = [
    ("POST", "/api/assets/bulk-upload-check"),
    ("DELETE", "/api/assets"),
    ("POST", "/api/trash/restore/assets"),
]


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [*((*route, MEBIBYTE) for route in SMALL), *((*route, 10 * MEBIBYTE) for route in LARGE)],
)
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused(
    client: httpx.Client, method: str, path: str, limit: int, *, announced: bool
) -> None:
    body = b'{"x":"' + b"a" * limit + b'"}'

    answer = client.request(method, path, content=body if announced else _pieces(body), headers=JSON)

    assert answer.status_code == 413
    _assert_problem(answer)
    assert client.get("/api/users/me").status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"assets": [}', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b"null"],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_json_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/api/assets/bulk-upload-check", content=body, headers=JSON)

    assert answer.status_code == 400
    _assert_problem(answer)


def test_more_ids_than_a_request_may_name_are_refused(client: httpx.Client) -> None:
    answer = client.request("DELETE", "/api/assets", json={"ids": [NOBODY] * 50_001})

    assert answer.status_code == 400
    assert "ids" in answer.json()["message"]


def test_without_a_key_the_body_is_not_waited_for(service: Service) -> None:
    with UploadConnection(service.port) as wire:
        wire.send_head("POST", "/api/assets/bulk-upload-check", {**JSON, "content-length": str(9 * MEBIBYTE)})
        status, headers = wire.head()

    assert status == 401
    assert headers["connection"] == "close"


def test_a_refusal_of_a_small_body_ends_nothing(service: Service) -> None:
    """Whether the body has come by then or not."""
    with UploadConnection(service.port) as wire:
        for together in (True, False):
            head = b"POST /api/assets/bulk-upload-check HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
            wire.send(head + b"{}" * together)
            answer = wire.answer()
            wire.send(b"{}" * (not together))
            assert answer.status == 401
            assert "connection" not in answer.headers
        wire.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.answer().status == 200


def test_a_client_that_vanishes_in_its_body_leaves_the_service_well(service: Service, account: Account) -> None:
    with UploadConnection(service.port) as wire:
        wire.send_head("POST", "/api/assets/bulk-upload-check", {**JSON, **account.headers, "content-length": "1000"})
        wire.send(b'{"assets": [')
        wire.vanish()

    with service.client(account) as client:
        assert client.post("/api/assets/bulk-upload-check", json={"assets": []}).json() == {"results": []}


class ImpatientRoute(JsonRoute):
    body_timeout_seconds = 0.2


async def test_a_body_that_drips_is_given_up() -> None:
    router = APIRouter(route_class=ImpatientRoute)
    router.add_api_route("/", _echo, methods=["POST"])
    api = FastAPI()
    install_error_handlers(api)
    api.include_router(router)
    sent: list[MutableMapping[str, Any]] = []

    async def drip() -> dict[str, Any]:
        await asyncio.sleep(0.05)  # each piece is in time
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "correlation_id": "c"}
    scope["headers"] = [(b"content-type", b"application/json")]
    async with asyncio.timeout(10):
        await api(scope, drip, send)

    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["statusCode"] == 408


async def _echo(value: Annotated[Any, Body()]) -> Any:
    return value


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/assets/none", 400),
        ("PUT", "/api/assets/none", 400),
        ("GET", "/api/api-keys/none", 400),
        ("GET", f"/api/assets/{NOBODY}", 404),
        ("GET", "/api/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/api/assets/", 404),
        ("GET", "/docs/", 404),
        ("GET", "/docs/static/nothing", 404),
        ("PATCH", "/api/assets", 405),
    ],
)
def test_every_refusal_has_the_one_shape(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, json={} if method == "PUT" else None)

    assert answer.status_code == status
    _assert_problem(answer)


def _assert_problem(answer: httpx.Response) -> None:
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem.keys() == {
        *("type", "title", "status", "detail", "message", "error", "statusCode", "correlationId"),
    }
    assert problem["status"] == problem["statusCode"] == answer.status_code
    assert problem["message"]
    assert answer.headers["x-correlation-id"] == problem["correlationId"]


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 256 * 1024):
        yield body[start : start + 256 * 1024]


def test_no_request_goes_to_a_thread_to_read_its_parameters() -> None:
    """FastAPI calls dependencies and routes that are not coroutines in a thread: each costs a request more than all its parsing."""
    routes = [route for router in list_api_routers() for route in router.routes if isinstance(route, APIRoute)]

    called = {each for route in routes for each in _list_calls(route.dependant)}

    assert len(called) > len(routes) / 2
    assert [each for each in called if not inspect.iscoroutinefunction(each)] == []


def _list_calls(dependant: Dependant) -> list[Callable[..., Any] | None]:
    return [dependant.call, *(call for each in dependant.dependencies for call in _list_calls(each))]
