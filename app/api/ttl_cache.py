"""A bounded memory of what was just read from the catalogue, so that the hot path asks it nothing twice."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

TTL_SECONDS = 5.0
"""Revoking and deleting take effect within this time in every process; in this one at once."""


class TTLCache(Generic[K, V]):
    """Remembers at most `max_entries` values for `ttl_seconds` each, the least recently filled going first.

    A value whose loading began before the latest `invalidate` is given out but not kept: it may be what was forgotten.
    """

    def __init__(self, max_entries: int, ttl_seconds: float = TTL_SECONDS) -> None:
        self._max_entries = max_entries
        self._ttl_seconds = ttl_seconds
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V | None]] = {}
        self._epoch = 0

    def peek(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > time.monotonic() else None

    async def get(self, key: K, load: Callable[[], Awaitable[V | None]]) -> V | None:
        """The fresh value, else what `load` gives; None is not kept. Those who ask for it meanwhile share one loading, unless
        something was forgotten since it began."""
        known = self.peek(key)
        if known is not None:
            return known
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.create_task(self._load(key, load))
            loading.add_done_callback(lambda done: self._on_loaded(key, done))
        # Whoever is cancelled meanwhile leaves the loading to the others.
        return await asyncio.shield(loading)

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
            done.exception()  # each caller got it; with all of them gone it is nobody's

    def invalidate(self, *keys: K) -> None:
        self._epoch += 1
        self._loading.clear()
        for key in keys:
            self._entries.pop(key, None)

    def clear(self) -> None:
        self._epoch += 1
        self._loading.clear()
        self._entries.clear()
