"""What log lines say about the request that they belong to: correlation id, user, asset, trace.

A request only stores one small object in a context variable; the fields are put together when a line is written.
"""

from __future__ import annotations

import random
import re
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from starlette.types import Scope

REQUEST_CONTEXT = "request_context"
"""Key of the scope under which the request's `RequestContext` is found."""

FROM_TRUSTED_PROXY = "mediavault.from_trusted_proxy"
"""Key of the scope that is there if the connection is one of a trusted proxy."""

TRACE_ID = "trace_id"
"""Key of the scope under which the id of the request's own trace is found, if it is traced."""

_CLIENT_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ASSET_PATH = re.compile(r"/api/assets/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?:/|\Z)")
_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


class RequestContext:
    """`correlation_id`: the client's `X-Request-ID` if that is short and plain, else a new one. `user_id` is set once the caller is known.
    `trace_id`: 32 hexadecimal digits of a W3C `traceparent`."""

    __slots__ = ("correlation_id", "path", "trace_id", "user_id")

    def __init__(self, scope: Scope) -> None:
        self.correlation_id = choose_correlation_id(scope["headers"])
        self.path: str = scope["path"]
        self.user_id: UUID | None = None
        self.trace_id: str | None = scope.get(TRACE_ID)
        if self.trace_id is not None:
            return
        for name, value in scope["headers"]:
            if name == b"traceparent" and (match := _TRACE_PARENT.fullmatch(value)):
                self.trace_id = match[1].decode("ascii")

    def bind(self, scope: Scope) -> None:
        """Make this the context of the current task and of the tasks that it starts."""
        scope[REQUEST_CONTEXT] = self
        scope["correlation_id"] = self.correlation_id
        _current.set(self)


def record_user(scope: Scope, user_id: UUID) -> None:
    """Note whose request this is, for log lines."""
    context: RequestContext | None = scope.get(REQUEST_CONTEXT)
    if context is not None:
        context.user_id = user_id


def add_request_fields(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog. Fields that the line has already are kept."""
    context = _current.get()
    if context is None:
        return event
    event.setdefault("correlation_id", context.correlation_id)
    if context.user_id is not None:
        event.setdefault("user_id", str(context.user_id))
    if (asset := _ASSET_PATH.match(context.path)) is not None:
        event.setdefault("asset_id", asset[1].lower())
    if context.trace_id is not None:
        event.setdefault("trace_id", context.trace_id)
    return event


def choose_correlation_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The client's `X-Request-ID` if it is short and plain, else a new id."""
    for name, value in headers:
        if name == b"x-request-id" and _CLIENT_ID.fullmatch(value):
            return value.decode("ascii")
    return generate_correlation_id()


def generate_correlation_id() -> str:
    return f"{random.getrandbits(64):016x}"  # no secret, so it needs no system call for random bytes
