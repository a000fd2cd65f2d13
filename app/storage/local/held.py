"""Files that were just read, held open for a moment: the next range of a film costs one call to the kernel in place of four.

A managed file is written once, so a descriptor gives the same bytes as its name would. It is given back within two seconds of
being opened, however much it is used: the space of a file that another process deletes is not kept for longer, nor is a mount.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MOST_HELD = 256
TICK_SECONDS = 1.0
"""Each file is given back at the second tick after it was opened."""


class HeldFiles:
    """Descriptors by key, with the size that each file has. For the loop's thread only."""

    def __init__(self, release: Callable[[int], None]) -> None:
        """`release` closes a descriptor, in a thread: the last one of a large deleted file takes long to close."""
        self._release = release
        self._new: dict[str, tuple[int, int]] = {}
        self._old: dict[str, tuple[int, int]] = {}
        self._tick: asyncio.TimerHandle | None = None

    def find(self, key: str) -> tuple[int, int] | None:
        """Descriptor and size."""
        return self._new.get(key) or self._old.get(key)

    def keep(self, key: str, descriptor: int, size: int) -> bool:
        """Take over the descriptor of a file that `find` does not know; False where there are enough, and it stays the caller's."""
        if len(self._new) + len(self._old) >= MOST_HELD:
            return False
        self._new[key] = descriptor, size
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._age)
        return True

    def drop(self, key: str) -> None:
        """The file was deleted or replaced."""
        for files in (self._new, self._old):
            if (held := files.pop(key, None)) is not None:
                self._release(held[0])

    def close(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        for key in (*self._new, *self._old):
            self.drop(key)

    def _age(self) -> None:
        for descriptor, _ in self._old.values():
            self._release(descriptor)
        self._old, self._new = self._new, {}
        self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self._age) if self._old else None
