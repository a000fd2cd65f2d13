"""`AvailabilityMonitor`: notices that PostgreSQL has stopped answering, ends the calls that wait for it, and refuses further ones at once until
it answers again. A slow query is no sign of it: a query over a new connection must fail to be answered, too.

A server that is stopped, or whose host is gone, keeps connections open: without this, calls would wait for as long as a transaction may take.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from weakref import WeakSet

import psycopg

from app.catalog.database.outage import OutageLog
from app.catalog.errors import CatalogError, CatalogUnreachable

SILENCE_SECONDS = 2.0
"""When no call was answered for so long although there are some, the database is probed."""
PROBE_SECONDS = 5.0
"""How long a probe may take. It connects anew."""
RETRY_SECONDS = 1.0
"""Interval of the probes until the database answers again."""
GRACE_SECONDS = 0.5
"""How long after their connections were cut calls have to end by themselves, before they are cancelled."""
NO_ANSWER = "the database does not answer"


class AvailabilityMonitor:
    """Of one database. Makes no calls while there are none to watch."""

    def __init__(self, probe: Callable[[], Awaitable[None]], outages: OutageLog) -> None:
        """`probe` makes a query over a connection of its own; raises `CatalogUnreachable` if nothing answers."""
        self._probe = probe
        self._outages = outages
        self._limits: set[asyncio.Timeout] = set()
        self._connections: WeakSet[psycopg.AsyncConnection] = WeakSet()
        self._timer: asyncio.TimerHandle | None = None
        self._probing: asyncio.Task[None] | None = None
        self.is_away = False

    def add_connection(self, connection: psycopg.AsyncConnection) -> None:
        """A connection that calls may wait on."""
        self._connections.add(connection)

    @contextmanager
    def watching(self, limit: asyncio.Timeout) -> Generator[None]:
        """Around a call, or a wait for one, that `limit` can end. Raises `CatalogUnreachable` at once while the database is away."""
        if self.is_away:
            raise CatalogUnreachable(NO_ANSWER)
        self._limits.add(limit)
        if self._timer is None and self._probing is None:
            self._timer = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._on_timer)
        try:
            yield
        finally:
            self._limits.discard(limit)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    def _on_timer(self) -> None:
        self._timer = None
        if not self._limits:
            return
        silence = time.monotonic() - self._outages.answered_at
        if silence < SILENCE_SECONDS:
            self._timer = asyncio.get_running_loop().call_later(SILENCE_SECONDS - silence, self._on_timer)
        else:
            self._probing = asyncio.create_task(self._probe_until_answered(), name="probe of the catalogue")

    async def _probe_until_answered(self) -> None:
        try:
            while not await self._answers():
                if not self.is_away:
                    self.is_away = True
                    self._end_calls()
                await asyncio.sleep(RETRY_SECONDS)
            self._outages.record_answer()
        finally:
            self.is_away = False
            self._probing = None
        if self._limits:
            self._timer = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._on_timer)

    async def _answers(self) -> bool:
        """Any answer counts, also an error such as a limit of connections."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._probe()
        except (TimeoutError, CatalogUnreachable):
            return False
        except CatalogError:
            return True
        return True

    def _end_calls(self) -> None:
        """Cut the connections: calls that wait on them fail at once. psycopg needs ten seconds to cancel a call."""
        for connection in tuple(self._connections):
            if not connection.closed:
                with suppress(OSError, psycopg.Error), socket.socket(fileno=_duplicate(connection)) as transport:
                    transport.shutdown(socket.SHUT_RDWR)
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._cancel_calls, frozenset(self._limits))

    def _cancel_calls(self, limits: frozenset[asyncio.Timeout]) -> None:
        """Those that wait for a connection, free or new."""
        now = asyncio.get_running_loop().time()
        for limit in limits & self._limits:
            if not limit.expired():
                limit.reschedule(now)


def _duplicate(connection: psycopg.AsyncConnection) -> int:
    """A descriptor of the connection's socket that can be closed without closing the connection's own."""
    return socket.dup(connection.fileno())
