"""`ReadConnections`: shares the connections to the store between the accounts for which objects are read.

A free connection goes to the waiting account that has the fewest. While somebody waits, connections are also taken away: at once from a
read whose client does not take what was read, and at the next chunk from an account that has more than the one that waits, or from a read
that has had its turn. Such a read goes on over another connection, at the byte where it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable

from app.storage.backend import find_reading_account

IDLE_SECONDS = 0.25
"""A read whose client takes nothing for so long gives its connection to any read that waits."""
LARGER_SHARE_IDLE_SECONDS = 0.02
"""The same, for a read of an account that has more connections than the one that waits."""
TURN_SECONDS = 5.0
"""How long a read keeps its connection while others of its account wait."""
RECLAIM_SECONDS = 0.05
"""Interval at which connections are reclaimed while reads wait."""
RESERVE_DIVISOR = 8
"""One account alone leaves the limit divided by this free, so that another one's first reads find open connections."""


class ReadConnection:
    """One of the connections, until `release`. The read that has it tells when it waits for its client, and how it can be interrupted."""

    __slots__ = ("_connections", "_is_held", "account", "granted_at", "idle_since", "is_recalled", "on_revoked")

    def __init__(self, connections: ReadConnections, account: Hashable, granted_at: float) -> None:
        self._connections = connections
        self._is_held = True
        self.account = account
        self.granted_at = granted_at
        self.idle_since: float | None = None
        """By the loop's clock: since when the read waits for its client; None while it waits for the store."""
        self.on_revoked: Callable[[], None] | None = None
        """Closes the connection of a read that waits for its client; None for a read that cannot be continued."""
        self.is_recalled = False
        """The read must close the connection before it takes the next chunk from it."""

    def is_idle(self, now: float, seconds: float = LARGER_SHARE_IDLE_SECONDS) -> bool:
        """True where the client has taken nothing for `seconds`."""
        return self.idle_since is not None and now - self.idle_since >= seconds

    def release(self) -> None:
        """Idempotent."""
        if self._is_held:
            self._is_held = False
            self.on_revoked = None  # it refers to the read, which refers to this object
            self._connections.on_released(self)


class ReadConnections:
    """`limit` connections. `in_use`, `waiting` and `refused_total` (reads that got none in time) are for metrics."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.refused_total = 0
        self._account_limit = limit - limit // RESERVE_DIVISOR
        self._held: set[ReadConnection] = set()
        self._counts: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, OrderedDict[asyncio.Future[ReadConnection], None]] = OrderedDict()
        """By account: its waiting reads in the order of arrival. The account that was served last comes last."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_use(self) -> int:
        return len(self._held)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def has_spare(self) -> bool:
        """True where one more read of the current task's account takes nothing from anybody: nobody waits, and half of all connections, and
        of those that the account may have, are free."""
        is_free = not self._waiting and len(self._held) < self.limit // 2
        return is_free and self._counts[find_reading_account()] < self._account_limit // 2

    async def acquire(self) -> ReadConnection:
        """A connection for the account of the current task. The caller limits the time."""
        account, loop = find_reading_account(), asyncio.get_running_loop()
        if not self._waiting and self._may_take(account):
            return self._take(account, loop.time())
        future: asyncio.Future[ReadConnection] = loop.create_future()
        self._waiting.setdefault(account, OrderedDict())[future] = None
        self._grant_free()
        if not future.done():
            self._interrupt_one(account, loop.time())
        if self._timer is None:
            self._timer = loop.call_later(RECLAIM_SECONDS, self._on_timer)
        try:
            return await future
        except BaseException:
            if future.done() and not future.cancelled():
                future.result().release()  # granted at the moment of the cancellation
            raise
        finally:
            self._remove(account, future)

    def on_released(self, connection: ReadConnection) -> None:
        """For `ReadConnection.release`."""
        self._held.discard(connection)
        self._counts[connection.account] -= 1
        if not self._counts[connection.account]:
            del self._counts[connection.account]
        if self._waiting:
            self._grant_free()

    def _may_take(self, account: Hashable) -> bool:
        return len(self._held) < self.limit and self._counts[account] < self._account_limit

    def _take(self, account: Hashable, now: float) -> ReadConnection:
        connection = ReadConnection(self, account, now)
        self._held.add(connection)
        self._counts[account] += 1
        return connection

    def _remove(self, account: Hashable, future: asyncio.Future[ReadConnection]) -> None:
        futures = self._waiting.get(account)
        if futures is not None:
            futures.pop(future, None)
            if not futures:
                del self._waiting[account]

    def _on_timer(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        on_their_way = sum(connection.is_recalled and not connection.is_idle(now) for connection in self._held)
        for account in sorted(self._waiting, key=self._counts.__getitem__):
            needed = len(self._waiting.get(account, ())) - on_their_way
            on_their_way = max(0, -needed)
            while needed > 0 and self._interrupt_one(account, now):
                needed -= 1
        if self._waiting:
            self._timer = loop.call_later(RECLAIM_SECONDS, self._on_timer)

    def _grant_free(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting and len(self._held) < self.limit:
            account = min(self._waiting, key=self._counts.__getitem__)
            if not self._may_take(account):
                return
            future = next(iter(self._waiting[account]))
            self._remove(account, future)
            if account in self._waiting:
                self._waiting.move_to_end(account)
            if not future.done():
                future.set_result(self._take(account, now))

    def _interrupt_one(self, account: Hashable, now: float) -> bool:
        """Interrupt a read so that one of `account` gets its connection. False where that would not be fair."""
        victim = self._find_victim(account, now)
        if victim is None:
            return False
        if victim.idle_since is not None and victim.on_revoked is not None:
            victim.on_revoked()  # releases the connection, which is granted to the next
        else:
            victim.is_recalled = True
        return True

    def _find_victim(self, account: Hashable, now: float) -> ReadConnection | None:
        """The read whose client has been idle for longest, else the one that has had its connection for longest; of the largest account."""
        own_count = self._counts[account]
        own_only = own_count >= self._account_limit
        best: ReadConnection | None = None
        best_rank = (False, 0, 0.0)
        for each in self._held:
            if each.on_revoked is None or (own_only and each.account != account):
                continue
            count, held = self._counts[each.account], now - each.granted_at
            is_larger = count > own_count + 1
            is_idle = each.is_idle(now, LARGER_SHARE_IDLE_SECONDS if is_larger else IDLE_SECONDS)
            had_turn = is_larger or (count >= own_count and held >= TURN_SECONDS)
            if not is_idle and (each.is_recalled or not had_turn):
                continue
            rank = (is_idle, count, held if each.idle_since is None else now - each.idle_since)
            if best is None or rank > best_rank:
                best, best_rank = each, rank
        return best
