"""Cancels the work on a response when its client disconnects."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive


class CancelOnDisconnect:
    """Context manager that cancels its block when the client disconnects, and suppresses that cancellation.

    A task per block listens for the disconnect. Cancellations from elsewhere propagate. Set `complete` before the last message is sent:
    servers report the end of a response as a disconnect too.
    """

    __slots__ = ("_disconnected", "_receive", "_task", "_watcher", "complete")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._disconnected = False
        self.complete = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("not in a task")
        self._task = task
        self._watcher = asyncio.create_task(self._wait_for_disconnect())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._watcher.cancel()
        other_cancellations = self._task.uncancel() if self._disconnected else 0
        await asyncio.gather(self._watcher, return_exceptions=True)
        return self._disconnected and other_cancellations == 0 and exc_type is asyncio.CancelledError

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.complete:
            self._disconnected = True
            self._task.cancel()
