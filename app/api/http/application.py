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

from app.api.errors import PROBLEM_JSON, ApiError, encode_problem, to_api_error
from app.api.handlers.archive_requests import redact_path
from app.api.http.refusal_log import RefusalLog
from app.api.services import Services
from app.archives.errors import MemberLost
from app.catalog.database.outage import FailedWork
from app.catalog.errors import CatalogError
from app.delivery.errors import TransferAborted
from app.startup import StartupError
from app.storage.errors import StorageError

log = structlog.get_logger(__name__)

SHUTDOWN_GRACE_SECONDS = 4.0
"""How long the services stay open for exchanges that were cancelled."""

_PRIVATE_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

FileHandler = Callable[[Scope, Receive, Send, Services], Awaitable[None]]
FindFileHandler = Callable[[Scope], FileHandler | None]
AnswerFromMemory = Callable[[Scope, Services], tuple[bytes, bytes] | None]
OpenServices = Callable[[], AbstractAsyncContextManager[Services]]


class ApiApplication:
    """Serves `find_file_handler`'s applications and, for everything else, `app`; opens the services for both."""

    def __init__(
        self,
        app: ASGIApp,
        find_file_handler: FindFileHandler,
        answer_from_memory: AnswerFromMemory,
        open_services: OpenServices,
        state: Any,
    ) -> None:
        self._app = app
        self._find_file_handler = find_file_handler
        self._answer_from_memory = answer_from_memory
        self._open_services = open_services
        self._state = state
        self.start_failure: str | None = None
        """Why the services could not be opened, in one line."""
        self.refusal_log = RefusalLog()
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

    def answer_from_memory(self, scope: Scope) -> tuple[bytes, bytes] | None:
        """The whole answer, as its head (a status line and header lines, without the empty line) and its body, if it needs no
        waiting; None where `__call__` is to answer. Never fails: what fails here fails there again, and is reported."""
        try:
            answer = self._answer_from_memory(scope, self._state.services)
        except Exception:  # noqa: BLE001 - the outermost edge
            return None
        if answer is None:
            return None
        head, body = answer
        return b"%bx-correlation-id: %b\r\n" % (head, generate_correlation_id().encode()), body

    def _is_covered(self, error: BaseException) -> bool:
        return self.services.catalog.outages.covers(error, FailedWork.REQUEST)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        opened = self._open_services()
        try:
            self._state.services = await opened.__aenter__()
        except Exception as error:  # noqa: BLE001 - the outermost edge
            self.start_failure = _describe_startup_error(error)
            await send({"type": "lifespan.startup.failed", "message": ""})  # who runs the server tells it, in one line
            return
        await send({"type": "lifespan.startup.complete"})
        with suppress(asyncio.CancelledError):  # a second Ctrl-C: the loop ends without another word
            await receive()
        await self._wait_for_requests()
        self.refusal_log.flush(include_current=True)
        try:
            await opened.__aexit__(None, None, None)
        except Exception as error:
            log.error("the service did not close cleanly", exc_info=error)
            await send({"type": "lifespan.shutdown.failed", "message": ""})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _wait_for_requests(self) -> None:
        """The server does not wait for those that it cancelled; they still put rows and objects in order."""
        if not self._running:
            return
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(SHUTDOWN_GRACE_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests still run while the service closes", count=self._running)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = AsgiRequestCycle(scope, send, self.refusal_log)
        scope["correlation_id"] = exchange.correlation_id
        structlog.contextvars.bind_contextvars(correlation_id=exchange.correlation_id)
        self._running += 1
        try:
            hot = self._find_file_handler(scope)
            if hot is not None:
                await hot(scope, receive, exchange.send, self._state.services)
            else:
                # HEAD is GET whose body the server leaves out.
                asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self._app(asked, receive, exchange.send_uncached_json)
        except TransferAborted as cut:
            cause = cut.__cause__ or cut
            if not self._is_covered(cause):
                client = (scope.get("client") or ("",))[0]
                self.refusal_log.log_cut_short(
                    "transfer cut short", client, str(cause), path=redact_path(scope["path"])
                )
        except asyncio.CancelledError:  # not raised again: the server would log it as a failure of ours
            await exchange.answer_shutdown()
        except Exception as error:  # noqa: BLE001 - the outermost edge
            await exchange.answer_error(error, logged=self._is_covered(error))
        finally:
            self._running -= 1
            if self._idle is not None and not self._running:
                self._idle.set()


class AsgiRequestCycle:
    """One request and its answer: names it, and notes how far it got."""

    __slots__ = ("_refusals", "_scope", "_send", "complete", "correlation_id", "started")

    def __init__(self, scope: Scope, send: Send, refusal_log: RefusalLog) -> None:
        self._refusals = refusal_log
        self.correlation_id = generate_correlation_id()
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

    async def send_uncached_json(self, message: MutableMapping[str, Any]) -> None:
        """Like `send`; an answer in JSON is what it says it is, and nobody keeps it."""
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if headers.get(b"content-type") == b"application/json":
                missing = [field for field in _PRIVATE_HEADERS if field[0] not in headers]
                message = {**message, "headers": [*message["headers"], *missing]}
        await self.send(message)

    async def answer_error(self, error: Exception, *, logged: bool) -> None:
        """Answer with the error where nothing has been sent yet; else the connection ends short. `logged`: it need not be here."""
        refusal = to_api_error(error)
        if not logged and (refusal.status >= 500 or isinstance(error, MemberLost)):
            method, path = self._scope["method"], redact_path(self._scope["path"])
            if refusal.status == 500:
                log.error("request failed", method=method, path=path, status=500, exc_info=error)
            else:
                client = (self._scope.get("client") or ("",))[0]
                told = ("request failed", client, refusal.status, str(error), self.correlation_id)
                self._refusals.log_refusal(*told, method=method, path=path)
        if not self.started:
            await send_problem(refusal, self.correlation_id, self.send, head=self._scope["method"] == "HEAD")

    async def answer_shutdown(self) -> None:
        """The service stops, and has waited for long enough."""
        log.warning("request cut off by the stop", method=self._scope["method"], path=redact_path(self._scope["path"]))
        if not self.started:
            refusal = ApiError(503, "The service is stopping")
            await send_problem(refusal, self.correlation_id, self.send, head=self._scope["method"] == "HEAD")


async def send_problem(error: ApiError, correlation_id: str, send: Send, *, head: bool = False) -> None:
    """Answer with the one error shape."""
    headers, body = build_problem_response(error, correlation_id)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def build_problem_response(error: ApiError, correlation_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The header fields of the one error shape, and its body."""
    body = encode_problem(error, correlation_id)
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()),
    ]
    if "cache-control" not in error.headers:
        headers.append((b"cache-control", b"no-store"))
    return headers, body


def _describe_startup_error(error: Exception) -> str:
    if isinstance(error, (StartupError, CatalogError, StorageError)):
        return str(error)
    log.error("the start failed", exc_info=error)
    return f"unforeseen {type(error).__name__}, see the log"


def generate_correlation_id() -> str:
    return f"{random.getrandbits(64):016x}"  # a name, no secret: the kernel is not asked
