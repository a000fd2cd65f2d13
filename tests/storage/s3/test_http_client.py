"""The HTTP client of reads, against a server that answers with exact bytes."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from app.storage.backend import CHUNK_BYTES
from app.storage.s3.http import client as http_client
from app.storage.s3.http.client import ConnectorError, HttpClient, RequestTarget
from app.storage.s3.http.connection import MAX_HEAD_BYTES, HttpConnection
from app.storage.s3.http.proxied import ProxiedClient
from app.storage.s3.http.response import ConnectionEnded, HttpResponse, ResponseParserError
from tests.storage.s3.conftest import eventually

PATIENCE = 20.0
OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"Content-Length: 5\r\n\r\nhello"

Answer = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ScriptedServer:
    """Answers each request by `answer`, which gets the number of the connection. `heads` are those of the requests."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.heads: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        self.open += 1
        try:
            while not writer.is_closing():
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await self._answer(number, reader, writer)
        except (EOFError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer(answer)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0, ssl=tls)
    scripted.port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(PATIENCE):
        try:
            yield scripted
        finally:
            server.close()


@asynccontextmanager
async def http(tls: ssl.SSLContext | None = None, read_seconds: float = PATIENCE) -> AsyncIterator[HttpClient]:
    client = HttpClient(tls, max_idle=8, connect_seconds=PATIENCE, read_seconds=read_seconds)
    try:
        yield client
    finally:
        await client.aclose()


def sending(*pieces: bytes, then_close: bool = False) -> Answer:
    """Each piece in a write of its own."""

    async def answer(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if then_close:
            writer.close()

    return answer


def target(server: ScriptedServer, scheme: str = "http", host: str = "127.0.0.1") -> RequestTarget:
    return RequestTarget.parse(f"{scheme}://{host}:{server.port}/a%20b?c=d")


async def read_all(response: HttpResponse) -> bytes:
    body = b""
    while chunk := await response.read_chunk():
        body += chunk
    return body


@pytest.mark.parametrize(
    ("pieces", "body", "is_kept"),
    [
        ([PLAIN], b"hello", True),
        ([PLAIN[:3], PLAIN[3:30], PLAIN[30:-2], PLAIN[-2:]], b"hello", True),
        ([OK + b"Content-Length: 0\r\n\r\n"], b"", True),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b"", True),
        ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"], b"", True),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + PLAIN], b"hello", True),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", b"2;x=y\r\nlo\r\n0\r\nX: y\r\n\r\n"], b"hello", True),
        ([OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello"], b"hello", False),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"], b"hello", False),
        ([PLAIN + b"more"], b"hello", False),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + PLAIN], b"hello", False),
    ],
    ids=["whole", "pieces", "empty", "204", "304", "interim", "chunked", "close", "HTTP/1.0", "surplus", "second answer"],
)  # fmt: skip
async def test_a_body_and_whether_its_connection_is_used_again(pieces: list[bytes], body: bytes, is_kept: bool) -> None:
    async with serving(sending(*pieces)) as server, http() as client:
        for _ in range(3):
            assert await read_all(await client.get(target(server), {})) == body
        assert server.connections == (1 if is_kept else 3)


async def test_a_body_without_length_ends_with_its_connection() -> None:
    async with serving(sending(OK + b"\r\nhel", b"lo", then_close=True)) as server, http() as client:
        response = await client.get(target(server), {})
        assert (await read_all(response), response.content_length) == (b"hello", None)


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Content-Length: +5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"X: y\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        OK + b"X: " + b"y" * MAX_HEAD_BYTES,
    ],
    ids=["no HTTP", "TLS", "two lengths", "sign", "two framings", "gzip and chunked", "gzip", "folded", "101", "long"],
)
async def test_a_malformed_head_is_an_error(head: bytes) -> None:
    async with serving(sending(head)) as server, http() as client:
        with pytest.raises(ResponseParserError):
            await client.get(target(server), {})
        await eventually(lambda: not server.open)


@pytest.mark.parametrize(
    "pieces",
    [
        [OK + b"Content-Length: 6\r\n\r\nhello"],
        [OK + b"Content-Length: 600000\r\n\r\nhello"],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n"],
    ],
    ids=["short", "long", "chunked", "no chunk"],
)
async def test_a_body_that_ends_early_gives_its_bytes_and_then_an_error(pieces: list[bytes]) -> None:
    async with serving(sending(*pieces, then_close=True)) as server, http() as client:
        response = await client.get(target(server), {})
        assert await response.read_chunk() == b"hello"
        with pytest.raises((ConnectionEnded, ResponseParserError)):
            await response.read_chunk()
        assert not response.is_complete


async def test_interim_responses_without_end_are_an_error() -> None:
    """To parse them would take the event loop's time for as long as a request may wait."""

    async def answer(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 8)
            await writer.drain()

    async with serving(answer) as server, http() as client:
        with pytest.raises(ResponseParserError, match="interim"):
            await client.get(target(server), {})
        await eventually(lambda: server.open == 0)


@pytest.mark.parametrize("begin", [b"5;x=", b"5\r\nhello\r\n0\r\nX: "], ids=["extension", "trailer"])
async def test_framing_of_a_chunked_body_without_end_is_an_error(begin: bytes) -> None:
    """It would be collected in memory for as long as a read may wait."""

    async def answer(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n" + begin)
        while True:
            writer.write(b"y" * 8192)
            await writer.drain()

    async with serving(answer) as server, http() as client:
        response = await client.get(target(server), {})
        with pytest.raises(ResponseParserError, match="too much"):
            await read_all(response)
        await eventually(lambda: server.open == 0)


async def test_a_connection_that_was_closed_while_idle_costs_no_request() -> None:
    async def close_second(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number == 0 and len(server.heads) == 2:
            writer.transport.abort()
        else:
            writer.write(PLAIN)

    async with serving(close_second) as server, http() as client:
        for _ in range(2):
            assert await read_all(await client.get(target(server), {})) == b"hello"
        assert (server.connections, len(server.heads)) == (2, 3)


async def test_the_408_of_a_server_that_closes_an_idle_connection_is_no_answer() -> None:
    async def answer(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_second = len(server.heads) == 2
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n" if is_second else PLAIN)

    async with serving(answer) as server, http() as client:
        for _ in range(2):
            response = await client.get(target(server), {})
            assert (response.status, await read_all(response)) == (200, b"hello")
        assert server.connections == 2


async def test_a_closed_client_opens_no_connection() -> None:
    async with serving(sending(PLAIN)) as server, http() as client:
        await client.aclose()
        with pytest.raises(ConnectorError):
            await client.get(target(server), {})
        await eventually(lambda: server.open == 0)


async def test_a_fresh_connection_that_ends_without_an_answer_is_an_error() -> None:
    async with serving(sending(then_close=True)) as server, http() as client:
        with pytest.raises(ConnectionEnded):
            await client.get(target(server), {})
        assert server.connections == 1


async def test_an_answer_that_is_broken_off_is_not_asked_for_again() -> None:
    async def answer(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(PLAIN if len(server.heads) == 1 else b"HTTP/1.1 20")
        await writer.drain()
        if len(server.heads) > 1:
            writer.close()

    async with serving(answer) as server, http() as client:
        await read_all(await client.get(target(server), {}))
        with pytest.raises(ConnectionEnded):
            await client.get(target(server), {})
        assert len(server.heads) == 2


async def test_requests_at_once_each_get_their_answer() -> None:
    """A connection whose response has come whole is free before the task that waits for the head goes on."""

    async def echo(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = server.heads[-1].split(b"X-Number: ")[1].split(b"\r\n")[0]
        writer.write(OK + b"Content-Length: %d\r\n\r\n%b" % (len(number), number))

    async def ask(client: HttpClient, number: int) -> None:
        for repetition in range(20):
            wanted = f"{number}-{repetition}"
            response = await client.get(target(server), {"X-Number": wanted})
            assert await read_all(response) == wanted.encode()

    async with serving(echo) as server, http() as client:
        async with asyncio.TaskGroup() as tasks:
            for number in range(8):
                tasks.create_task(ask(client, number))
        assert server.connections == 8


async def test_an_answer_of_an_idle_connection_is_never_that_of_the_next_request() -> None:
    async with serving(sending(PLAIN, OK + b"Content-Length: 4\r\n\r\nevil")) as server, http() as client:
        assert await read_all(await client.get(target(server), {})) == b"hello"
        await eventually(lambda: not server.open)
        assert await read_all(await client.get(target(server), {})) == b"hello"


async def test_a_store_that_sends_nothing_any_more_is_waited_for_in_bounds() -> None:
    async with (
        serving(sending(OK + b"Content-Length: 9\r\n\r\nhello")) as server,
        http(read_seconds=0.2) as client,
    ):
        response = await client.get(target(server), {})
        assert await response.read_chunk() == b"hello", "what has arrived when the time is over"
        with pytest.raises(TimeoutError):
            await response.read_chunk()
        response.close()
        await eventually(lambda: not server.open)


async def test_a_reader_that_stalls_holds_little() -> None:
    size = 64 * 1024 * 1024
    sent = 0

    async def flood(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(CHUNK_BYTES))
            await writer.drain()
            sent += CHUNK_BYTES

    async with serving(flood) as server, http() as client:
        response = await client.get(target(server), {})
        received = len(await response.read_chunk())
        for _ in range(100):
            await asyncio.sleep(0.001)
        held = sum(map(len, response._pieces))
        assert held <= 2 * CHUNK_BYTES
        while chunk := await response.read_chunk():
            received += len(chunk)
        assert received == size


async def test_idle_connections_are_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "KEEP_ALIVE_SECONDS", 0.1)
    async with serving(sending(PLAIN)) as server, http() as client:
        await read_all(await client.get(target(server), {}))
        await eventually(lambda: not server.open)


async def test_a_cancelled_request_closes_its_connection() -> None:
    async with serving(sending()) as server, http() as client:
        request = asyncio.create_task(client.get(target(server), {}))
        await eventually(lambda: bool(server.heads))
        request.cancel()
        await asyncio.wait([request])
        await eventually(lambda: not server.open)


async def test_a_request_is_sent_as_it_was_signed() -> None:
    async with serving(sending(PLAIN)) as server, http() as client:
        await read_all(await client.get(target(server), {"Range": "bytes=0-4"}))
        line, host, *fields = server.heads[0].decode().split("\r\n")
        assert (line, host) == ("GET /a%20b?c=d HTTP/1.1", f"Host: 127.0.0.1:{server.port}")
        assert "Range: bytes=0-4" in fields
        with pytest.raises(ValueError, match="control character"):
            await client.get(target(server), {"If-Match": '"a"\r\nX: y'})


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://s3.example.org/a", "s3.example.org"),
        ("https://s3.example.org:443/a", "s3.example.org"),
        ("http://s3.example.org:80/a", "s3.example.org"),
        ("http://S3.example.org:9000/a", "s3.example.org:9000"),
        ("http://[::1]:9000/a", "[::1]:9000"),
    ],
)
def test_the_host_is_the_signed_one(url: str, host: str) -> None:
    assert f"\r\nHost: {host}\r\n" in RequestTarget.parse(url).head.decode()


@pytest.mark.parametrize("url", ["ftp://x/a", "http:///a", "http://x/a b", "http://x/a\r\nX: y", "http://x/ä"])
def test_what_cannot_be_sent_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no URL"):
        RequestTarget.parse(url)


async def test_nobody_listens() -> None:
    async with serving(sending()) as server:
        gone = target(server)
    async with http() as client:
        with pytest.raises(ConnectorError):
            await client.get(gone, {})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for `localhost`, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", "key.pem", "-out", "certificate.pem"),
        ],
        cwd=folder, check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    return folder / "certificate.pem", folder / "key.pem"


async def test_tls_is_verified(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    body = bytes(range(256)) * 4096
    async with serving(sending(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body), context) as server:
        trusting = ssl.create_default_context(cafile=str(certificate[0]))
        async with http(trusting) as client:
            for _ in range(2):
                assert await read_all(await client.get(target(server, "https", "localhost"), {})) == body
            assert server.connections == 1
            with pytest.raises(ssl.SSLCertVerificationError):
                await client.get(target(server, "https"), {})
        async with http(ssl.create_default_context()) as client:
            with pytest.raises(ssl.SSLCertVerificationError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(target(server, "https", "localhost"), {})


async def test_a_proxy_gets_the_whole_url() -> None:
    async with (
        serving(sending(PLAIN)) as proxy,
        aiohttp.ClientSession(proxy=f"http://127.0.0.1:{proxy.port}") as session,
    ):
        client = ProxiedClient(session)
        completed: list[bool] = []
        for _ in range(2):
            response = await client.get(RequestTarget.parse("http://s3.example.org/a%20b?c=d"), {"Range": "bytes=0-4"})
            response.on_complete(lambda: completed.append(True))
            assert (response.status, response.content_length, await response.read_chunk()) == (200, 5, b"hello")
            assert await response.read_chunk() == b""
            assert not response.is_connected
            response.close()
        assert completed == [True, True]
        assert proxy.heads[0].startswith(b"GET http://s3.example.org/a%20b?c=d HTTP/1.1\r\n")
        assert proxy.connections == 1


async def test_a_chunked_body_through_a_proxy_arrives_whole() -> None:
    """The end marker of a chunk that comes after its data was read is not the end of the body."""
    go_on = asyncio.Event()

    async def answer(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel")
        await writer.drain()
        await go_on.wait()
        writer.write(b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)  # that the client has read the marker shows nowhere
        writer.write(b"2\r\nlo\r\n0\r\n\r\n")

    async with serving(answer) as proxy, aiohttp.ClientSession(proxy=f"http://127.0.0.1:{proxy.port}") as session:
        response = await ProxiedClient(session).get(RequestTarget.parse("http://s3.example.org/a"), {})
        body = await response.read_chunk()
        go_on.set()
        while piece := await response.read_chunk():
            body += piece
        assert body == b"hello"


async def test_a_body_without_length_that_the_client_broke_off_has_not_ended() -> None:
    async def answer(_number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\nhel")
        await reader.read()

    async with serving(answer) as server, http() as client:
        response = await client.get(target(server), {})
        assert await response.read_chunk() == b"hel"
        await client.aclose()
        with pytest.raises(ConnectionEnded):
            await response.read_chunk()
        assert not response.is_complete


async def test_a_request_that_is_cancelled_when_its_answer_comes_leaves_the_connection_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def greet(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(PLAIN)

    async with serving(greet) as server, http() as client:
        await read_all(await client.get(target(server), {}))
        request = asyncio.create_task(client.get(target(server), {}))
        receive = HttpConnection.data_received

        def cancel_then(connection: HttpConnection, data: bytes) -> None:
            receive(connection, data)
            request.cancel()

        monkeypatch.setattr(HttpConnection, "data_received", cancel_then)
        await asyncio.wait([request])
        assert request.cancelled()
        monkeypatch.undo()
        assert await read_all(await client.get(target(server), {})) == b"hello"
        assert server.connections == 1
