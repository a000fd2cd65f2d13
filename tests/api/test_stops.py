"""Shutdown while transfers run: it takes bounded time, logs nothing unexpected, and completes the clean-up."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message

from app.api.http.application import ApiApplication
from app.catalog.catalog import Catalog
from app.catalog.schema.records import FileState
from tests.api.start_service import StartService
from tests.real.service import Service
from tests.real.uploads import UploadConnection, assert_next_upload_works, fresh_bytes, uploaded
from tests.real.waiting import eventually

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
        yield SimpleNamespace()
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
