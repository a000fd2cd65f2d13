"""Shutdown while transfers run: it takes bounded time, logs nothing unexpected, and completes the clean-up."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from starlette.types import Message, Receive, Scope, Send

from app.api.http import server as server_module
from app.api.http.application import ApiApplication
from app.api.http.client_address import TrustedProxies
from app.api.http.connections import ConnectionLimits, ConnectionRegistry
from app.api.http.server import DrainingServer
from app.api.http.sockets import open_listening_sockets
from app.catalog.catalog import Catalog
from app.catalog.schema.records import FileState
from tests.api.start_service import StartService
from tests.real.service import Service
from tests.real.uploads import UploadConnection, assert_next_upload_works, fresh_bytes, uploaded
from tests.real.waiting import eventually, eventually_so

PATIENCE = 10.0
MOST_SECONDS = 10.0
"""Docker kills a container after this time."""
MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_slow_transfers_are_cut_and_put_in_order(start_service: StartService, sent: signal.Signals) -> None:
    service = start_service("local")
    account = service.people.add()
    with service.client(account) as client:
        asset = uploaded(client, fresh_bytes(32 * MEBIBYTE))
    with UploadConnection(service.port, receive_buffer=4096) as download, UploadConnection(service.port) as uploading:
        download.send_head("GET", f"/api/assets/{asset}/original", account.headers)
        assert download.head()[0] == 200
        uploading.begin_upload(8 * MEBIBYTE, account.headers)
        uploading.send(fresh_bytes(MEBIBYTE))
        eventually(lambda: states(service) == {FileState.LIVE, FileState.WRITING}, "the upload has its row")

        began = time.monotonic()
        ended = service.stop(sent)

    assert ended == 0
    assert time.monotonic() - began < MOST_SECONDS
    assert states(service) == {FileState.LIVE, FileState.DOOMED}
    assert service.stack.leftovers() == []
    assert "Traceback" not in service.log
    assert service.log.count("request cut off by the stop") == 2
    service.start()
    with service.client(account) as client:
        assert_next_upload_works(client)


def states(service: Service) -> set[FileState]:
    """The states of all files in the catalogue."""

    async def read(catalog: Catalog) -> set[FileState]:
        return {file.state async for file in catalog.files.iterate_all()}

    return service.people.call(read)


def test_a_process_that_is_told_to_stop_is_not_ready_and_serves_meanwhile(start_service: StartService) -> None:
    """A load balancer needs some seconds to see that. A second signal ends the wait."""
    service = start_service("local", settings={"MEDIAVAULT_DRAIN_DELAY": "600", "MEDIAVAULT_DRAIN_SECONDS": "600"})
    account = service.people.add()
    with service.client(account) as client, UploadConnection(service.port) as uploading:
        asset = uploaded(client, fresh_bytes(100_000))
        assert client.get("/readyz").status_code == 200
        service.process.send_signal(signal.SIGTERM)

        eventually(lambda: client.get("/readyz").status_code == 503, "it is not ready")

        problem = client.get("/readyz").json()
        assert problem["message"] == "Not ready: process: is stopping"
        assert client.get("/livez").status_code == 200
        for path in (f"/api/assets/{asset}/original", f"/api/assets/{asset}"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert_next_upload_works(client)
        uploading.begin_upload(8 * MEBIBYTE, account.headers)
        uploading.send(fresh_bytes(MEBIBYTE))
        eventually(lambda: FileState.WRITING in states(service), "the upload has its row")
        assert service.stop() == 0
    assert FileState.WRITING not in states(service)
    assert service.stack.leftovers() == []


def test_running_answers_end_and_no_new_ones_begin(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_DRAIN_SECONDS": "600"})
    account = service.people.add()
    data = fresh_bytes(32 * MEBIBYTE)
    with service.client(account) as client:
        asset = uploaded(client, data)
    with (
        UploadConnection(service.port, receive_buffer=256 * 1024) as download,
        UploadConnection(service.port) as arriving,
        UploadConnection(service.port) as idle,
    ):
        download.send_head("GET", f"/api/assets/{asset}/original", account.headers)
        assert download.head()[0] == 200
        for connection in (idle, arriving):
            connection.send_head("GET", "/livez", {})
            assert connection.answer().status == 200
        arriving.send(b"GET /api/server/ping HTTP/1.1\r\nhost: here\r\n")

        service.process.send_signal(signal.SIGTERM)

        assert idle.receive(1) == b"", "the idle connection ends"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port))
        arriving.send(b"\r\n")
        answer = arriving.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        received = bytearray()
        while len(received) < len(data) and (piece := download.receive(MEBIBYTE)):
            received += piece
    assert received == data
    assert service.wait() == 0


async def test_the_services_stay_open_until_cancelled_exchanges_have_ended() -> None:
    order: list[str] = []
    running, stop = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        yield SimpleNamespace(tracing=None)
        order.append("services closed")

    async def commits(*_: Any) -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            for _turn in range(100):  # as a commit that may not be cut
                await asyncio.sleep(0)
            order.append("committed")

    async def told_to_stop() -> Message:
        if order:
            await stop.wait()
        order.append("told")
        return {"type": "lifespan"}

    async def take(message: Message) -> None:
        order.append(message["type"])

    front = ApiApplication(commits, lambda _: None, lambda *_: None, opened, SimpleNamespace())
    async with asyncio.timeout(PATIENCE):
        lifespan = asyncio.create_task(front({"type": "lifespan"}, told_to_stop, take))
        exchange = asyncio.create_task(
            front({"type": "http", "method": "GET", "path": "/", "headers": []}, told_to_stop, take)
        )
        await running.wait()
        exchange.cancel()
        stop.set()
        await asyncio.gather(lifespan, exchange)

    assert order.index("committed") < order.index("services closed")
    assert order[-1] == "lifespan.shutdown.complete"


@asynccontextmanager
async def serving_in_this_process(
    supervisor: socket.socket | None = None,
) -> AsyncIterator[tuple[DrainingServer, list[socket.socket]]]:
    """A server on this test's event loop, which answers every request with 204, and its listening socket. The block stops it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        yield SimpleNamespace(tracing=None, health=SimpleNamespace(begin_drain=lambda: None))

    async def ignore() -> None:
        """Nothing is told at the start."""

    front = ApiApplication(answer, lambda _: None, lambda *_: None, opened, SimpleNamespace())
    limits = ConnectionLimits(10, 10, PATIENCE, 0)
    registry = ConnectionRegistry(limits, front.refusal_log, TrustedProxies(()))
    server = DrainingServer(
        front,
        registry,
        drain_delay=0,
        drain_seconds=PATIENCE,
        on_started=ignore,
        on_stopped=lambda: None,
        supervisor=supervisor,
    )
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    listening = open_listening_sockets("127.0.0.1", 0)
    await server.startup(listening)
    yield server, listening
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    await eventually_so(lambda: has_no_connections(server), "all connections are closed")


def test_a_process_stops_whose_supervisor_ended_before_it_heard_from_it() -> None:
    """The kernel answers the next read with a reset, not with the end, when the supervisor has left something unread."""

    async def lose_supervisor() -> None:
        supervisor, own_end = socket.socketpair()
        with own_end:
            async with serving_in_this_process(own_end) as (server, listening):
                assert supervisor.recv(1, socket.MSG_PEEK), "it has said that it is ready"
                supervisor.close()

                async def is_to_stop() -> bool:
                    return await server.on_tick(0)

                await eventually_so(is_to_stop, "it stops")
                await server.shutdown(listening)

    uvloop.run(lose_supervisor())


def test_connections_that_wait_to_be_accepted_are_served() -> None:
    """They are in the backlog when the listener is to be closed: nothing was awaited in between."""

    async def stop_with_full_backlog() -> None:
        async with serving_in_this_process() as (server, listening):
            port = listening[0].getsockname()[1]
            with UploadConnection(port) as first, UploadConnection(port) as second:
                for connection in (first, second):
                    connection.send_head("GET", "/", {})
                    connection.end()  # so that the stop need not wait for the client's close
                await server.shutdown(listening)
                assert [connection.head()[0] for connection in (first, second)] == [204, 204]

    uvloop.run(stop_with_full_backlog())


def test_a_request_that_arrives_when_its_connection_is_to_be_closed_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "LAST_REQUESTS_SECONDS", 0.0)

    async def stop_with_unread_request() -> None:
        async with serving_in_this_process() as (server, listening):
            with UploadConnection(listening[0].getsockname()[1]) as connection:
                connection.send_head("GET", "/", {})
                await eventually_so(server_has_answered(server, 1), "the first request is answered")
                assert connection.head()[0] == 204
                connection.send_head("GET", "/", {})
                connection.end()
                await server.shutdown(listening)
                assert connection.head()[0] == 204

    uvloop.run(stop_with_unread_request())


def server_has_answered(server: DrainingServer, number: int) -> Callable[[], Awaitable[bool]]:
    async def has_answered() -> bool:
        return server.server_state.total_requests >= number

    return has_answered


async def has_no_connections(server: DrainingServer) -> bool:
    return not server.server_state.connections
