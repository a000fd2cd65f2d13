"""The outermost ASGI application: correlation ids, the hot path before FastAPI's routing, and what must hold for every answer.

It is one function deep, so that bytes pass through nothing else: no middleware stack.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.archive_links import redacted
from app.api.errors import PROBLEM_JSON, ApiError, problem_body, translate
from app.api.refusal_log import RefusalLog
from app.api.services import Services
from app.archives.errors import MemberLost
from app.catalog.errors import CatalogError
from app.catalog.outage import FailedWork
from app.delivery.refusals import TransferCut
from app.opening import StartRefused
from app.storage.errors import StorageError

log = structlog.get_logger(__name__)

SETTLE_SECONDS = 4.0
"""How long the services stay open for exchanges that were cancelled."""

_PRIVATE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

HotPath = Callable[[Scope, Receive, Send, Services], Awaitable[None]]
FindHotPath = Callable[[Scope], HotPath | None]
AnswerAtOnce = Callable[[Scope, Services], tuple[bytes, bytes] | None]
OpenServices = Callable[[], AbstractAsyncContextManager[Services]]


class Front:
    """Serves `find_hot_path`'s applications and, for everything else, `app`; opens the services for both."""

    def __init__(
        self,
        app: ASGIApp,
        find_hot_path: FindHotPath,
        answer_at_once: AnswerAtOnce,
        open_services: OpenServices,
        state: Any,
    ) -> None:
        self._app = app
        self._find_hot_path = find_hot_path
        self._answer_at_once = answer_at_once
        self._open_services = open_services
        self._state = state
        self.start_failure: str | None = None
        """Why the services could not be opened, in one line."""
        self.refusals = RefusalLog()
        self._running = 0
        self._idle: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            raise RuntimeError(f"no {scope['type']} here")

    @property
    def services(self) -> Services:
        """While the application runs, from the end of its start to its shutdown."""
        return self._state.services

    def at_once(self, scope: Scope) -> tuple[bytes, bytes] | None:
        """The whole answer, as its head (a status line and header lines, without the empty line) and its body, if it needs no
        waiting; None where `__call__` is to answer. Never fails: what fails here fails there again, and is reported."""
        try:
            answer = self._answer_at_once(scope, self._state.services)
        except Exception:  # noqa: BLE001 - the outermost edge
            return None
        if answer is None:
            return None
        head, body = answer
        return b"%bx-correlation-id: %b\r\n" % (head, new_correlation_id().encode()), body

    def _is_covered(self, error: BaseException) -> bool:
        return self.services.catalog.outages.covers(error, FailedWork.REQUEST)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        opened = self._open_services()
        try:
            self._state.services = await opened.__aenter__()
        except Exception as error:  # noqa: BLE001 - the outermost edge
            self.start_failure = _start_failure(error)
            await send({"type": "lifespan.startup.failed", "message": ""})  # who runs the server tells it, in one line
            return
        await send({"type": "lifespan.startup.complete"})
        with suppress(asyncio.CancelledError):  # a second Ctrl-C: the loop ends without another word
            await receive()
        await self._exchanges_end()
        self.refusals.flush(everything=True)
        try:
            await opened.__aexit__(None, None, None)
        except Exception as error:
            log.error("the service did not close cleanly", exc_info=error)
            await send({"type": "lifespan.shutdown.failed", "message": ""})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _exchanges_end(self) -> None:
        """The server does not wait for those that it cancelled; they still put rows and objects in order."""
        if not self._running:
            return
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests still run while the service closes", count=self._running)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, send, self.refusals)
        scope["correlation_id"] = exchange.correlation_id
        structlog.contextvars.bind_contextvars(correlation_id=exchange.correlation_id)
        self._running += 1
        try:
            hot = self._find_hot_path(scope)
            if hot is not None:
                await hot(scope, receive, exchange.send, self._state.services)
            else:
                # HEAD is GET whose body the server leaves out.
                asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self._app(asked, receive, exchange.send_private)
        except TransferCut as cut:
            cause = cut.__cause__ or cut
            if not self._is_covered(cause):
                client = (scope.get("client") or ("",))[0]
                self.refusals.note_cut("transfer cut short", client, str(cause), path=redacted(scope["path"]))
        except asyncio.CancelledError:  # not raised again: the server would log it as a failure of ours
            await exchange.answer_stop()
        except Exception as error:  # noqa: BLE001 - the outermost edge
            await exchange.answer_failure(error, logged=self._is_covered(error))
        finally:
            self._running -= 1
            if self._idle is not None and not self._running:
                self._idle.set()


class Exchange:
    """One request and its answer: names it, and notes how far it got."""

    __slots__ = ("_refusals", "_scope", "_send", "complete", "correlation_id", "started")

    def __init__(self, scope: Scope, send: Send, refusals: RefusalLog) -> None:
        self._refusals = refusals
        self.correlation_id = new_correlation_id()
        self.started = False
        self.complete = False
        self._scope = scope
        self._send = send

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = [*message["headers"], (b"x-correlation-id", self.correlation_id.encode())]
            if message["status"] == 408:  # RFC 9110 section 15.5.9
                headers.append((b"connection", b"close"))
            await self._send({**message, "headers": headers})
            return
        if not message.get("more_body", False):
            self.complete = True
        await self._send(message)

    async def send_private(self, message: MutableMapping[str, Any]) -> None:
        """Like `send`; an answer in JSON is what it says it is, and nobody keeps it."""
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if headers.get(b"content-type") == b"application/json":
                missing = [field for field in _PRIVATE if field[0] not in headers]
                message = {**message, "headers": [*message["headers"], *missing]}
        await self.send(message)

    async def answer_failure(self, error: Exception, *, logged: bool) -> None:
        """Answer with the error where nothing has been sent yet; else the connection ends short. `logged`: it need not be here."""
        refusal = translate(error)
        if not logged and (refusal.status >= 500 or isinstance(error, MemberLost)):
            method, path = self._scope["method"], redacted(self._scope["path"])
            if refusal.status == 500:
                log.error("request failed", method=method, path=path, status=500, exc_info=error)
            else:
                client = (self._scope.get("client") or ("",))[0]
                told = ("request failed", client, refusal.status, str(error), self.correlation_id)
                self._refusals.note(*told, method=method, path=path)
        if not self.started:
            await send_problem(refusal, self.correlation_id, self.send, head=self._scope["method"] == "HEAD")

    async def answer_stop(self) -> None:
        """The service stops, and has waited for long enough."""
        log.warning("request cut off by the stop", method=self._scope["method"], path=redacted(self._scope["path"]))
        if not self.started:
            refusal = ApiError(503, "The service is stopping")
            await send_problem(refusal, self.correlation_id, self.send, head=self._scope["method"] == "HEAD")


async def send_problem(error: ApiError, correlation_id: str, send: Send, *, head: bool = False) -> None:
    """Answer with the one error shape."""
    headers, body = problem_answer(error, correlation_id)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def problem_answer(error: ApiError, correlation_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The header fields of the one error shape, and its body."""
    body = problem_body(error, correlation_id)
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()),
    ]
    if "cache-control" not in error.headers:
        headers.append((b"cache-control", b"no-store"))
    return headers, body


def _start_failure(error: Exception) -> str:
    if isinstance(error, (StartRefused, CatalogError, StorageError)):
        return str(error)
    log.error("the start failed", exc_info=error)
    return f"unforeseen {type(error).__name__}, see the log"


def new_correlation_id() -> str:
    return f"{random.getrandbits(64):016x}"  # a name, no secret: the kernel is not asked
