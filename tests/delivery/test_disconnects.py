"""`CancelOnDisconnect` cancels its block when the client disconnects, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from app.delivery.disconnects import CancelOnDisconnect


class Client:
    """The receiving side of a request; `leave` makes it report a disconnect."""

    def __init__(self) -> None:
        self._gone = asyncio.Event()
        self._body_read = False

    def leave(self) -> None:
        self._gone.set()

    async def receive(self) -> MutableMapping[str, Any]:
        if not self._body_read:
            self._body_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}


async def test_the_block_is_left_quietly_when_the_client_goes() -> None:
    client = Client()
    cleaned = False
    asyncio.get_running_loop().call_soon(client.leave)
    async with asyncio.timeout(10), CancelOnDisconnect(client.receive):
        try:
            await asyncio.Event().wait()
        finally:
            cleaned = True
    assert cleaned
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_ends_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with CancelOnDisconnect(Client().receive):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_the_end_of_the_response_is_no_disconnect() -> None:
    client = Client()
    async with CancelOnDisconnect(client.receive) as connection:
        connection.complete = True
        client.leave()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_cancellation_from_elsewhere_passes_through() -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with CancelOnDisconnect(Client().receive):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_from_elsewhere_passes_through_when_the_client_goes_too() -> None:
    client = Client()
    entered = asyncio.Event()

    async def work() -> None:
        async with CancelOnDisconnect(client.receive):
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await entered.wait()
    client.leave()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_failures_of_the_block_pass_through() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with CancelOnDisconnect(Client().receive):
            raise ValueError("mine")


class Connection:
    """A `DisconnectSource`; `leave` disconnects the client."""

    def __init__(self) -> None:
        self.disconnected = False
        self.on_disconnect: Callable[[], None] | None = None

    def leave(self) -> None:
        self.disconnected = True
        if self.on_disconnect is not None:
            self.on_disconnect()


@pytest.mark.parametrize("before", [True, False])
async def test_a_source_that_calls_needs_no_task(*, before: bool) -> None:
    connection, cleaned = Connection(), False
    if before:
        connection.leave()
    tasks = asyncio.all_tasks()
    async with asyncio.timeout(10), CancelOnDisconnect(Client().receive, connection):
        assert asyncio.all_tasks() == tasks
        asyncio.get_running_loop().call_soon(connection.leave)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned = True
    assert cleaned
    assert connection.on_disconnect is None
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_source_that_calls_after_the_response_disturbs_nothing() -> None:
    connection = Connection()
    async with CancelOnDisconnect(Client().receive, connection) as block:
        block.complete = True
        connection.leave()
        await asyncio.sleep(0)
    connection.leave()
    await asyncio.sleep(0)
