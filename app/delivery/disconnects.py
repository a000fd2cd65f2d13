"""Stopping work for a client that has gone away."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive


class CancelOnDisconnect:
    """Runs its block until the client goes away, which cancels the block at whatever it waits for and leaves it quietly.

    One task per block listens; a cancellation from elsewhere passes through. Set `complete` before the last message is
    sent, since servers report the end of a response as a disconnect, too.
    """

    __slots__ = ("_gone", "_receive", "_task", "_watcher", "complete")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
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
        others = self._task.uncancel() if self._gone else 0
        await asyncio.gather(self._watcher, return_exceptions=True)
        return self._gone and others == 0 and exc_type is asyncio.CancelledError

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.complete:
            self._gone = True
            self._task.cancel()
