"""The outermost ASGI application: adds correlation ids, calls the fast path before FastAPI, and converts exceptions to error responses.

There is no middleware stack: the bytes of a file pass through no other ASGI layer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.authentication.credentials import TRUSTED_ORIGIN
from app.api.errors import PROBLEM_JSON, ApiError, encode_problem, to_api_error
from app.api.handlers.archive_requests import redact_path
from app.api.http.cors import CorsPolicy, with_fields
from app.api.http.refusal_log import RefusalLog
from app.api.http.request_metrics import ROUTED_SCOPE, RequestMetrics
from app.api.http.request_tracing import trace_request
from app.api.request_context import RequestContext, choose_correlation_id
from app.api.services import Services
from app.archives.errors import MemberLost
from app.catalog.database.outage import FailedWork
from app.catalog.errors import CatalogError
from app.delivery.errors import TransferAborted
from app.startup import StartupError
from app.storage.errors import StorageError
from app.tracing import Tracing

log = structlog.get_logger(__name__)

SHUTDOWN_GRACE_SECONDS = 4.0
"""How long the services stay open for cancelled requests that still clean up."""

_PRIVATE_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

FileHandler = Callable[[Scope, Receive, Send, Services], Awaitable[None]]
FindFileHandler = Callable[[Scope], FileHandler | None]
AnswerFromMemory = Callable[[Scope, Services], tuple[bytes, bytes] | None]
OpenServices = Callable[[], AbstractAsyncContextManager[Services]]


class ApiApplication:
    """Calls the handler that `find_file_handler` returns, or `app` if it returns None. Opens the services for both in its lifespan."""

    def __init__(
        self,
        app: ASGIApp,
        find_file_handler: FindFileHandler,
        answer_from_memory: AnswerFromMemory,
        open_services: OpenServices,
        state: Any,
        cors: CorsPolicy | None = None,
        metrics: RequestMetrics | None = None,
    ) -> None:
        self._app = app
        self._find_file_handler = find_file_handler
        self._answer_from_memory = answer_from_memory
        self._open_services = open_services
        self._state = state
        self._cors = cors
        self.metrics = metrics
        self._tracing: Tracing | None = None
        self.start_failure: str | None = None
        """The reason in one line, if the services could not be opened."""
        self.refusal_log = RefusalLog()
        self._running = 0
        self._idle: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        elif self.metrics is not None:
            await self.metrics.observe(self._trace, scope, receive, send)
        else:
            await self._trace(scope, receive, send)

    async def _trace(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._tracing is None:
            await self._http(scope, receive, send)
        else:
            await trace_request(self._tracing, self._http, scope, receive, send)

    @property
    def services(self) -> Services:
        """Available from the end of the start-up to the shutdown."""
        return self._state.services

    def answer_from_memory(self, scope: Scope) -> tuple[bytes, bytes] | None:
        """Head (status line and header lines, without the empty line) and body of the response, if it needs no waiting; otherwise None,
        and `__call__` answers.

        Never raises: a failure here happens again in `__call__`, which reports it.
        """
        try:
            answer = self._answer_from_memory(scope, self._state.services) if self._tracing is None else None
        except Exception:  # noqa: BLE001 - the outermost edge
            return None
        if answer is None:
            return None
        head, body = answer
        if self._cors is not None:
            head += b"".join(b"%b: %b\r\n" % field for field in self._cors.build_fields(scope))
        return b"%bx-correlation-id: %b\r\n" % (head, choose_correlation_id(scope["headers"]).encode()), body

    def _is_outage(self, error: BaseException) -> bool:
        return self.services.catalog.outages.record_failure(error, FailedWork.REQUEST)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        services_context = self._open_services()
        try:
            services = self._state.services = await services_context.__aenter__()
            self._tracing = services.tracing
        except Exception as error:  # noqa: BLE001 - the outermost edge
            self.start_failure = _describe_startup_error(error)
            await send({"type": "lifespan.startup.failed", "message": ""})  # the command prints `start_failure`
            return
        await send({"type": "lifespan.startup.complete"})
        with suppress(asyncio.CancelledError):  # after a second Ctrl-C the event loop ends without another message
            await receive()
        await self._wait_for_requests()
        self.refusal_log.flush(include_current=True)
        try:
            await services_context.__aexit__(None, None, None)
        except Exception as error:
            log.error("the service did not close cleanly", exc_info=error)
            await send({"type": "lifespan.shutdown.failed", "message": ""})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _wait_for_requests(self) -> None:
        """Wait for cancelled requests, which still clean up rows and objects. uvicorn does not wait for requests that it cancelled."""
        if not self._running:
            return
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(SHUTDOWN_GRACE_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("requests still run while the service closes", count=self._running)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._cors is not None:
            preflight = self._cors.answer_preflight(scope)
            if preflight is not None:
                await send({"type": "http.response.start", "status": 204, "headers": preflight})
                await send({"type": "http.response.body", "body": b""})
                return
            scope[TRUSTED_ORIGIN] = self._cors.is_trusted(scope)
            send = with_fields(send, self._cors.build_fields(scope))
        context = RequestContext(scope)
        context.bind(scope)
        cycle = AsgiRequestCycle(scope, send, self.refusal_log, context.correlation_id)
        self._running += 1
        try:
            handle_file = self._find_file_handler(scope)
            if handle_file is not None:
                await handle_file(scope, receive, cycle.send, self._state.services)
            else:
                # FastAPI sees GET for HEAD; uvicorn omits the body.
                routed_scope = scope
                if scope["method"] == "HEAD":
                    routed_scope = scope[ROUTED_SCOPE] = {**scope, "method": "GET"}
                await self._app(routed_scope, receive, cycle.send_uncached_json)
        except TransferAborted as aborted:
            cause = aborted.__cause__ or aborted
            if not self._is_outage(cause):
                client = (scope.get("client") or ("",))[0]
                self.refusal_log.log_cut_short(
                    "transfer cut short", client, str(cause), path=redact_path(scope["path"])
                )
        except asyncio.CancelledError:  # not raised again: uvicorn would log it as a failure of the application
            await cycle.answer_shutdown()
        except Exception as error:  # noqa: BLE001 - the outermost edge
            await cycle.answer_error(error, is_logged=self._is_outage(error))
        finally:
            self._running -= 1
            if self._idle is not None and not self._running:
                self._idle.set()


class AsgiRequestCycle:
    """One request and its response: adds the correlation id, and records whether the response has started and is complete."""

    __slots__ = ("_refusal_log", "_scope", "_send", "complete", "correlation_id", "started")

    def __init__(self, scope: Scope, send: Send, refusal_log: RefusalLog, correlation_id: str) -> None:
        self._refusal_log = refusal_log
        self.correlation_id = correlation_id
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
        """Like `send`; adds `nosniff` and `no-store` to JSON responses that do not set these fields."""
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if headers.get(b"content-type") == b"application/json":
                missing = [field for field in _PRIVATE_HEADERS if field[0] not in headers]
                message = {**message, "headers": [*message["headers"], *missing]}
        await self.send(message)

    async def answer_error(self, error: Exception, *, is_logged: bool) -> None:
        """Send the error response. If the response has started already, send nothing: the connection ends short of its length.

        `is_logged`: the failure has a log line already.
        """
        api_error = to_api_error(error)
        if not is_logged and (api_error.status >= 500 or isinstance(error, MemberLost)):
            method, path = self._scope["method"], redact_path(self._scope["path"])
            if api_error.status == 500:
                log.error("request failed", method=method, path=path, status=500, exc_info=error)
            else:
                client = (self._scope.get("client") or ("",))[0]
                self._refusal_log.log_refusal(
                    "request failed",
                    client,
                    api_error.status,
                    str(error),
                    self.correlation_id,
                    method=method,
                    path=path,
                )
        if not self.started:
            await send_problem(api_error, self.correlation_id, self.send, head=self._scope["method"] == "HEAD")

    async def answer_shutdown(self) -> None:
        """Answer a request that the server cancelled at the end of its shutdown grace."""
        log.warning("request cut off by the stop", method=self._scope["method"], path=redact_path(self._scope["path"]))
        if not self.started:
            api_error = ApiError(503, "The service is stopping")
            await send_problem(api_error, self.correlation_id, self.send, head=self._scope["method"] == "HEAD")


async def send_problem(error: ApiError, correlation_id: str, send: Send, *, head: bool = False) -> None:
    """Send a response in the error format; `head`: without its body."""
    headers, body = build_problem_response(error, correlation_id)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def build_problem_response(error: ApiError, correlation_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Header fields and body of a response in the error format."""
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
