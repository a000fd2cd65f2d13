"""Caches the open descriptors of recently read files: the next range of a film takes one system call instead of four.

A managed file is written once, so its descriptor gives the same bytes as its name. A descriptor is closed within two seconds of
being opened, however often it is used: otherwise it would keep the disk space of a file that another process deletes, or keep a mount busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MAX_DESCRIPTORS = 256
GENERATION_SECONDS = 1.0
"""Interval of the timer. A descriptor is closed at the second tick after it was added."""


class DescriptorCache:
    """Descriptors and file sizes by key. Not thread-safe: for the event loop's thread only."""

    def __init__(self, close_descriptor: Callable[[int], None]) -> None:
        """`close_descriptor` closes a descriptor, in a thread: closing the last descriptor of a large deleted file takes long."""
        self._close_descriptor = close_descriptor
        self._young: dict[str, tuple[int, int]] = {}
        self._old: dict[str, tuple[int, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def get(self, key: str) -> tuple[int, int] | None:
        """Descriptor and size."""
        return self._young.get(key) or self._old.get(key)

    def add(self, key: str, descriptor: int, size: int) -> bool:
        """Take over a descriptor whose key is not cached; False where the cache is full, and the caller keeps the descriptor."""
        if len(self._young) + len(self._old) >= MAX_DESCRIPTORS:
            return False
        self._young[key] = descriptor, size
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GENERATION_SECONDS, self._rotate_generations)
        return True

    def evict(self, key: str) -> None:
        """Close the descriptor of a file that was deleted or replaced."""
        for files in (self._young, self._old):
            if (entry := files.pop(key, None)) is not None:
                self._close_descriptor(entry[0])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for key in (*self._young, *self._old):
            self.evict(key)

    def _rotate_generations(self) -> None:
        for descriptor, _ in self._old.values():
            self._close_descriptor(descriptor)
        self._old, self._young = self._young, {}
        self._timer = (
            asyncio.get_running_loop().call_later(GENERATION_SECONDS, self._rotate_generations) if self._old else None
        )
