"""A bounded in-memory cache with a time to live, which saves the fast path repeated catalogue queries, and outlasts an outage of the catalogue."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from app.catalog.errors import CatalogUnreachable

K = TypeVar("K")
V = TypeVar("V")

TTL_SECONDS = 5.0
"""Revocations and deletions take effect within this time in other processes, and at once in the process that made them."""


class TTLCache(Generic[K, V]):
    """Keeps at most `max_entries` values for `ttl_seconds` each, and evicts the least recently loaded.

    While loads fail because the catalogue is unreachable, an expired value is good for `stale_seconds` more: nobody can revoke or delete
    anything then. A value whose load began before the latest `invalidate` or `clear` is returned but not kept: it may be the invalidated value.
    """

    def __init__(self, max_entries: int, ttl_seconds: float = TTL_SECONDS, stale_seconds: float = 0.0) -> None:
        self._max_entries = max_entries
        self._ttl_seconds = ttl_seconds
        self._stale_seconds = stale_seconds
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V | None]] = {}
        self._epoch = 0

    def peek(self, key: K) -> V | None:
        """The value if it is cached and fresh; never loads."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > time.monotonic() else None

    async def get(self, key: K, load: Callable[[], Awaitable[V | None]]) -> V | None:
        """The cached value, else the result of `load`; None is not kept. Concurrent callers share one load, unless an invalidation
        happened since it began."""
        cached = self.peek(key)
        if cached is not None:
            return cached
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.create_task(self._load(key, load))
            loading.add_done_callback(lambda done: self._on_loaded(key, done))
        # A cancelled caller must not cancel the load that others wait for.
        try:
            return await asyncio.shield(loading)
        except CatalogUnreachable:
            expired = self._entries.get(key)
            if expired is None or time.monotonic() >= expired[0] + self._stale_seconds:
                raise
            return expired[1]

    async def _load(self, key: K, load: Callable[[], Awaitable[V | None]]) -> V | None:
        epoch, started = self._epoch, time.monotonic()
        value = await load()
        if value is not None and epoch == self._epoch:
            self._entries.pop(key, None)
            self._entries[key] = (started + self._ttl_seconds, value)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        return value

    def _on_loaded(self, key: K, done: asyncio.Task[V | None]) -> None:
        if self._loading.get(key) is done:
            del self._loading[key]
        if not done.cancelled():
            done.exception()  # retrieved, so that asyncio does not log it: each caller got it, and all callers may be gone

    def invalidate(self, *keys: K) -> None:
        """Remove these values, and do not keep any value whose load has begun already."""
        self._epoch += 1
        self._loading.clear()
        for key in keys:
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Like `invalidate`, for all keys."""
        self._epoch += 1
        self._loading.clear()
        self._entries.clear()
