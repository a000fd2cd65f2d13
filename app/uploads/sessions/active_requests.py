"""`ActiveRequests`: the requests of this process that have an upload session. A newer request ends the older one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import UUID

import structlog

from app.catalog.errors import CatalogError
from app.uploads.body_stream import Receive
from app.uploads.sessions.errors import UploadTakenOver

HANDOVER_SECONDS = 5.0
"""How long a newer request waits for the older one of the same process to make durable what has arrived."""
POLL_SECONDS = 1.0
"""How often a request looks whether another process has taken its session over."""
MAX_BYTES_AFTER_STOP = 1024 * 1024
"""A request that is ended takes what has arrived already, but not from a client that goes on sending for ever."""

_log = structlog.get_logger(__name__)


class ActiveRequest:
    """One request that has the session. `generation` is set once the request has taken the session over."""

    def __init__(self) -> None:
        self.generation: int | None = None
        self.is_stopped = False
        self.is_superseded = False
        self.ended = asyncio.Event()
        self._bytes_after_stop = 0
        self._waiting: asyncio.Task[Any] | None = None

    def stop(self, *, is_superseded: bool = False) -> None:
        """End the request's wait for its client. `is_superseded`: another process has the session, and nothing more can be saved."""
        if self._waiting is not None and not self.is_stopped:
            self._waiting.cancel()
        self.is_stopped = True
        self.is_superseded |= is_superseded

    def raise_if_superseded(self) -> None:
        if self.is_superseded:
            raise UploadTakenOver

    async def check_each(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Passes the body on; raises `UploadTakenOver` once the request is superseded."""
        async for chunk in body:
            self.raise_if_superseded()
            yield chunk

    def wrap_receive(self, receive: Receive) -> Receive:
        """`receive`, which tells a disconnect once the request is stopped and what had arrived is received."""

        async def receive_until_stopped() -> MutableMapping[str, Any]:
            if self.is_stopped:
                return await self._receive_buffered(receive)
            self._waiting = task = asyncio.current_task()
            former_cancellations = task.cancelling() if task is not None else 0
            try:
                return await receive()
            except asyncio.CancelledError:
                if not self.is_stopped or task is None or task.uncancel() > former_cancellations:
                    raise
            finally:
                self._waiting = None
            return await self._receive_buffered(receive)

        return receive_until_stopped

    async def _receive_buffered(self, receive: Receive) -> MutableMapping[str, Any]:
        """What has arrived by now, without waiting for more."""
        try:
            async with asyncio.timeout(0):
                if self._bytes_after_stop >= MAX_BYTES_AFTER_STOP:
                    return _disconnect()
                message = await receive()
        except TimeoutError:
            return _disconnect()
        self._bytes_after_stop += len(message.get("body", b""))
        return message


class ActiveRequests:
    def __init__(self, get_generations: Callable[[Iterable[UUID]], Awaitable[dict[UUID, int]]]) -> None:
        """`get_generations` returns the generations of those of the sessions that have not ended."""
        self._get_generations = get_generations
        self._requests: dict[tuple[UUID, UUID], ActiveRequest] = {}
        """By user and session: a user who knows the id of another's session does not end that one's request."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Look every second for sessions that another process has taken over, until the block ends."""
        task = asyncio.create_task(self._poll(), name="upload takeovers")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def enter(self, user_id: UUID, upload_id: UUID) -> AsyncIterator[ActiveRequest]:
        """End the user's older request for this session, and wait for its end, at most `HANDOVER_SECONDS`. Raises `UploadTakenOver` where
        a still newer one came meanwhile."""
        name = (user_id, upload_id)
        request, older = ActiveRequest(), self._requests.get(name)
        self._requests[name] = request
        try:
            if older is not None:
                older.stop()
                await _wait_for_end(older)
                if request.is_stopped:
                    raise UploadTakenOver
            yield request
        finally:
            request.ended.set()
            if self._requests.get(name) is request:
                del self._requests[name]

    def is_active(self, user_id: UUID, upload_id: UUID) -> bool:
        return (user_id, upload_id) in self._requests

    async def stop_superseded(self) -> None:
        """End the requests whose sessions another process has taken over, or that have ended."""
        active = {
            upload_id: request
            for (_, upload_id), request in self._requests.items()
            if request.generation is not None  # so only the owner's
        }
        if not active:
            return
        generations = await self._get_generations(active)
        for upload_id, request in active.items():
            if generations.get(upload_id) != request.generation:
                request.stop(is_superseded=True)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.stop_superseded()
            except CatalogError as error:
                _log.warning("it is not known whether uploads were taken over", reason=str(error))


async def _wait_for_end(request: ActiveRequest) -> None:
    try:
        async with asyncio.timeout(HANDOVER_SECONDS):
            await request.ended.wait()
    except TimeoutError:
        return  # its generation ends it


def _disconnect() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}
