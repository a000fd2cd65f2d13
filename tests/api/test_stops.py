"""Shutdown while transfers run: it takes bounded time, logs nothing unexpected, and completes the clean-up."""

from __future__ import annotations

import asyncio
import signal
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


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_slow_transfers_are_cut_and_put_in_order(
    start_service: StartService, sent: signal.Signals, status: int
) -> None:
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

    assert ended == status
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
