"""Route classes for JSON bodies: they bound the body's size and time, and reject an invalid credential before they read the body.

Also has a dependency that refuses unknown query parameters, for routes that select assets by query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import Message

from app.api.authentication.credentials import CREDENTIAL_PARAMETERS
from app.api.errors import ApiError
from app.config import MEBIBYTE


class JsonRoute(APIRoute):
    """Answers 413 to a body of more than `max_body_bytes` bytes, with or without `Content-Length`, and 408 to a body that takes more than
    `body_timeout_seconds`."""

    max_body_bytes = MEBIBYTE
    body_timeout_seconds = 30.0

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            await self.authenticate(request)
            return await handle(_limit_body(request, self.max_body_bytes, self.body_timeout_seconds))

        return bounded

    async def authenticate(self, request: Request) -> None:
        """Called before the body is read; raises `ApiError` to refuse the request. Does nothing by default."""


class AuthenticatedJsonRoute(JsonRoute):
    """Refuses callers without a valid credential. The route's dependency checks the permission."""

    async def authenticate(self, request: Request) -> None:
        await request.app.state.services.authenticator.identify(request.scope)


class LargeJsonRoute(AuthenticatedJsonRoute):
    """For bodies that list thousands of files."""

    max_body_bytes = 10 * MEBIBYTE


async def refuse_unknown_parameters(request: Request) -> None:
    """FastAPI dependency for routes that select assets by query: an unknown parameter that is ignored would select more assets than the
    client means. Raises `ApiError` 400."""
    known = {*_list_parameters(request.scope["route"].dependant.query_params), *CREDENTIAL_PARAMETERS}
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise ApiError(400, f"{unknown[0][:100]}: not known here, and without it other assets would be meant")


def _list_parameters(declared: Iterable[Any]) -> Iterator[str]:
    """The names of the declared query parameters; of one whose type is a model, the names of its fields."""
    for parameter in declared:
        model = parameter.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (field.alias or name for name, field in model.model_fields.items())
        else:
            yield parameter.alias


def _limit_body(request: Request, limit: int, seconds: float) -> Request:
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        raise _build_too_large_error(limit)
    deadline: float | None = asyncio.get_running_loop().time() + seconds
    received = 0

    async def receive() -> Message:
        nonlocal received, deadline
        try:
            async with asyncio.timeout_at(deadline):
                message = await request.receive()
        except TimeoutError:
            raise HTTPException(408, f"The body did not arrive within {seconds:g} seconds") from None
        if not message.get("more_body", False):
            deadline = None  # from now on `receive` waits for the disconnect
        received += len(message.get("body", b""))
        if received > limit:
            raise _build_too_large_error(limit)
        return message

    return Request(request.scope, receive)


def _build_too_large_error(limit: int) -> HTTPException:
    # While FastAPI reads a body, it lets only its own exceptions pass.
    return HTTPException(413, f"The body is larger than {limit} bytes")
