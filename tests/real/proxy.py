"""A recording HTTP proxy in front of a real S3 store. It records requests, forwards them unchanged, and injects faults on demand.

It runs on a thread of its own, so that a busy test does not slow it down. Signatures stay valid: nothing is rewritten
unless a `Fault` says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

_START_SECONDS = 10.0
_HOLD_SECONDS = 60.0
_PIECE = 64 * 1024
_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as received. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return {
            name: values[0] for name, values in parse_qs(urlsplit(self.target).query, keep_blank_values=True).items()
        }


def everything(_request: Recorded) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer of the store. Header names are in lower case; the body is complete, and empty for a HEAD."""

    status: int
    headers: dict[str, str]
    body: bytes

    def having(self, **headers: str | None) -> Answered:
        """A copy with these headers (`_` stands for `-`); None removes a header."""
        changed = self.headers | {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        for name, value in headers.items():
            if value is None:
                changed.pop(name.replace("_", "-"), None)
        return Answered(self.status, changed, self.body)


Rewrite = Callable[[Recorded, Answered], Answered]


@dataclass(frozen=True, slots=True)
class Hold:
    """Delays a request in the proxy: `arrived` is set when it was received completely; it is forwarded once `released` is set, even if its sender
    is gone."""

    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class Fault:
    """A fault that is injected into requests for which `matches` is true, `times` times (None: always)."""

    matches: Callable[[Recorded], bool] = everything
    times: int | None = None
    delay: float = 0.0
    """Seconds before the request is forwarded."""
    hold: Hold | None = None
    """Delays the request until it is released. Its body needs a `Content-Length`."""
    status: int | None = None
    """The proxy answers with this status and an S3 error of `code`; the store never receives the request."""
    code: str = "InternalError"
    date: str = ""
    """The `Date` of that answer."""
    swallow: bool = False
    """The proxy answers with 200 and an ETag, as if the object had been stored; the store never receives the request."""
    lose_answer: bool = False
    """The store executes the request, but the connection is closed instead of an answer."""
    cut_after: int | None = None
    """The connection is closed after so many bytes of the answer's body."""
    without: frozenset[str] = frozenset()
    """Request headers that are removed, as by a store that ignores them (only unsigned ones, or the store refuses)."""
    flip: bool = False
    """One bit of the request's body is changed in transit."""
    rewrite: Rewrite | None = None
    """Replaces the store's complete answer by the result of this function. `Content-Length` is set to that of the body, unless the
    rewritten answer has another one or none: then the connection is closed after the body."""
    retarget: Callable[[str], str] | None = None
    """Replaces the request's target (only before a store that checks no signatures)."""
    seen: int = field(default=0, init=False)
    """Number of requests that the fault was injected into."""


class Proxy:
    """`with Proxy(port) as proxy:` forwards `proxy.endpoint` to that port of 127.0.0.1."""

    def __init__(self, port: int, *, rate: int | None = None) -> None:
        self._upstream = port
        self.rate = rate
        """Limit on the bytes per second of all bodies together, in both directions; None: unlimited."""
        self.requests: list[Recorded] = []
        self.faults: list[Fault] = []
        self.on_request: Callable[[Recorded], object] | None = None
        """Called on the proxy's thread before a request is forwarded."""
        self.passed = 0
        """Bytes of all bodies so far, in both directions."""
        self.read: Counter[str] = Counter()
        """Bytes that answers to GETs announced so far, by path."""
        self.open_connections = 0
        self.most_connections = 0
        self._port = 0
        self._free_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)

    @property
    def port(self) -> int:
        return self._port

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def of(self, method: str, **query: str) -> list[Recorded]:
        """The recorded requests with this method, and with these query parameters (`''`: present)."""
        return [
            request
            for request in list(self.requests)
            if request.method == method
            and all(name in request.query and value in ("", request.query[name]) for name, value in query.items())
        ]

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        try:
            server = loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_LIMIT))
            self._port = server.sockets[0].getsockname()[1]
            self._ready.set()
            loop.run_forever()
            server.close()
            loop.run_until_complete(self._end_connections())
        finally:
            loop.close()

    async def _end_connections(self) -> None:
        tasks = tuple(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        self.most_connections = max(self.most_connections, self.open_connections)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream, limit=_LIMIT)
            while await self._exchange(reader, writer, answers, upstream):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open_connections -= 1
            _abort(writer)
            if upstream is not None:
                _abort(upstream)

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> bool:
        """Forward one request and its answer; False if the connection must be closed."""
        head = await reader.readuntil(b"\r\n\r\n")
        line, headers = _parse(head)
        method, target, _ = line.split(" ", 2)
        request = Recorded(method, target, headers)
        self.requests.append(request)
        if self.on_request is not None:
            self.on_request(request)
        fault = self._fault(request)
        if fault and fault.delay:
            await asyncio.sleep(fault.delay)
        if fault and fault.swallow:
            await self._body(reader, headers, None)
            writer.write(b'HTTP/1.1 200 OK\r\nETag: "d41d8cd98f00b204e9800998ecf8427e"\r\nContent-Length: 0\r\n\r\n')
            await writer.drain()
            return True
        if fault and fault.status is not None:
            await self._body(reader, headers, None)
            await self._refuse(writer, fault, method)
            return True
        held = await self._hold(reader, headers, fault.hold) if fault and fault.hold else None
        upstream.write(_changed(head, fault) if fault else head)
        await self._body(held or reader, headers, upstream, flip=fault is not None and fault.flip)
        answer = await answers.readuntil(b"\r\n\r\n")
        status, answer_headers = _parse(answer)
        bodiless = method == "HEAD" or status.split(" ")[1] in ("204", "304")
        if method == "GET":
            self.read[request.path] += int(answer_headers.get("content-length", "0"))
        if fault and fault.lose_answer:
            if not bodiless:
                await self._body(answers, answer_headers, None)
            return False
        if fault and fault.rewrite:
            body = b"" if bodiless else await self._whole(answers, answer_headers)
            return await _rewritten(writer, request, fault.rewrite, int(status.split(" ")[1]), answer_headers, body)
        writer.write(answer)
        if bodiless:
            await writer.drain()
            return True
        return await self._body(answers, answer_headers, writer, fault.cut_after if fault else None)

    async def _body(
        self,
        source: asyncio.StreamReader,
        headers: dict[str, str],
        sink: asyncio.StreamWriter | None,
        cut_after: int | None = None,
        *,
        flip: bool = False,
    ) -> bool:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                line = await source.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                await _pass(sink, line)
                await self._bytes(source, size + 2, sink, None)
                if size == 0:
                    return True
        length = int(headers.get("content-length", "0"))
        if flip and length:
            first = await source.readexactly(1)
            await _pass(sink, bytes([first[0] ^ 1]))
            length -= 1
        return await self._bytes(source, length, sink, cut_after)

    async def _hold(self, source: asyncio.StreamReader, headers: dict[str, str], hold: Hold) -> asyncio.StreamReader:
        """Receive the complete body, then wait until it is released."""
        body = asyncio.StreamReader()
        body.feed_data(await source.readexactly(int(headers["content-length"])))
        hold.arrived.set()
        await asyncio.to_thread(hold.released.wait, _HOLD_SECONDS)
        return body

    async def _whole(self, source: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        """Read the complete body of an answer; a chunked one gets a `Content-Length`."""
        if headers.pop("transfer-encoding", "").lower() != "chunked":
            return await source.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int((await source.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await source.readexactly(size + 2))[:-2]
        await source.readexactly(2)
        headers["content-length"] = str(len(body))
        return body

    async def _bytes(
        self, source: asyncio.StreamReader, count: int, sink: asyncio.StreamWriter | None, cut_after: int | None
    ) -> bool:
        kept = count if cut_after is None else min(count, cut_after)
        while kept:
            piece = await source.read(min(kept, _PIECE))
            if not piece:
                raise EOFError
            kept -= len(piece)
            self.passed += len(piece)
            await self._pace(len(piece))
            await _pass(sink, piece)
        if sink is not None:
            await sink.drain()
        if cut_after is not None and cut_after < count:
            if sink is not None:
                sink.close()
                await sink.wait_closed()
            return False
        return True

    async def _pace(self, count: int) -> None:
        if self.rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + count / self.rate
        if self._free_at - now > 0.01:
            await asyncio.sleep(self._free_at - now)

    def _fault(self, request: Recorded) -> Fault | None:
        for fault in self.faults:
            if fault.matches(request) and (fault.times is None or fault.seen < fault.times):
                fault.seen += 1
                return fault
        return None

    async def _refuse(self, writer: asyncio.StreamWriter, fault: Fault, method: str) -> None:
        text = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{fault.code}</Code><Message>no</Message></Error>'
        body = text.encode()
        date = f"Date: {fault.date}\r\n" if fault.date else ""
        writer.write(
            f"HTTP/1.1 {fault.status} Refused\r\n{date}Content-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + (b"" if method == "HEAD" else body)
        )
        await writer.drain()


def _abort(end: asyncio.StreamWriter) -> None:
    # If the peer closed before the last bytes were sent, asyncio has already dropped the transport's loop, and abort() raises
    # AttributeError.
    with suppress(OSError, AttributeError):
        end.transport.abort()


async def _pass(sink: asyncio.StreamWriter | None, piece: bytes) -> None:
    if sink is not None:
        sink.write(piece)
        await sink.drain()


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    return first, {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _changed(head: bytes, fault: Fault) -> bytes:
    first, *lines = head.split(b"\r\n")
    if fault.retarget is not None:
        method, target, version = first.decode("latin-1").split(" ", 2)
        first = f"{method} {fault.retarget(target)} {version}".encode("latin-1")
    kept = [line for line in lines if line.split(b":")[0].decode("latin-1").lower() not in fault.without]
    return b"\r\n".join([first, *kept])


async def _rewritten(
    writer: asyncio.StreamWriter, request: Recorded, rewrite: Rewrite, status: int, headers: dict[str, str], body: bytes
) -> bool:
    """Send the rewritten answer; False if the connection must be closed."""
    before = headers.get("content-length")
    answer = rewrite(request, Answered(status, headers, body))
    changed = dict(answer.headers)
    if request.method != "HEAD" and changed.get("content-length") == before and len(answer.body) != len(body):
        changed["content-length"] = str(len(answer.body))
    lines = [f"HTTP/1.1 {answer.status} Rewritten", *(f"{name}: {value}" for name, value in changed.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body)
    await writer.drain()
    return request.method == "HEAD" or changed.get("content-length") == str(len(answer.body))
