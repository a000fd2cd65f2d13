"""`SocketPoller`: waits until sockets are writable, beside uvloop's transports, which allow no second watcher of their descriptors.

It has an epoll instance of its own, which the event loop watches. A duplicate of each descriptor, watched by the loop, would do too, at several
system calls for each wait and a descriptor more for each slow client.
"""

from __future__ import annotations

import asyncio
import select

MAX_EVENTS = 64
"""Sockets whose waits end in one pass of the event loop."""


class SocketPoller:
    """One per server and event loop. Not thread-safe."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._waits: dict[int, asyncio.Future[None]] = {}
        self._is_closed = False

    def begin_wait(self, descriptor: int) -> asyncio.Future[None]:
        """A future that is done when the socket is writable or has failed. `end_wait` must follow before the socket is closed. Raises
        `ConnectionAbortedError` after `close`: a download that outlives the drain is cut."""
        if self._is_closed:
            raise ConnectionAbortedError("the server has stopped")
        loop = asyncio.get_running_loop()
        if self._epoll is None:
            self._epoll = select.epoll()
            loop.add_reader(self._epoll.fileno(), self._end_waits, self._epoll)
        self._epoll.register(descriptor, select.EPOLLOUT | select.EPOLLONESHOT)
        wait = self._waits[descriptor] = loop.create_future()
        return wait

    def end_wait(self, descriptor: int) -> None:
        """Also ends the future."""
        wait = self._waits.pop(descriptor)
        if self._epoll is not None:
            self._epoll.unregister(descriptor)
        if not wait.done():
            wait.set_result(None)

    def close(self) -> None:
        self._is_closed = True
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _end_waits(self, epoll: select.epoll) -> None:
        for descriptor, _ in epoll.poll(0, MAX_EVENTS):
            wait = self._waits.get(descriptor)
            if wait is not None and not wait.done():
                wait.set_result(None)
