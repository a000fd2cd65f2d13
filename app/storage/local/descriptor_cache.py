"""Files that were just read, held open for a moment: the next range of a film costs one call to the kernel in place of four.

A managed file is written once, so a descriptor gives the same bytes as its name would. It is given back within two seconds of
being opened, however much it is used: the space of a file that another process deletes is not kept for longer, nor is a mount.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MAX_DESCRIPTORS = 256
GENERATION_SECONDS = 1.0
"""Each file is given back at the second tick after it was opened."""


class DescriptorCache:
    """Descriptors by key, with the size that each file has. For the loop's thread only."""

    def __init__(self, close_descriptor: Callable[[int], None]) -> None:
        """`close_descriptor` closes a descriptor, in a thread: the last one of a large deleted file takes long to close."""
        self._close_descriptor = close_descriptor
        self._young: dict[str, tuple[int, int]] = {}
        self._old: dict[str, tuple[int, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def get(self, key: str) -> tuple[int, int] | None:
        """Descriptor and size."""
        return self._young.get(key) or self._old.get(key)

    def add(self, key: str, descriptor: int, size: int) -> bool:
        """Take over the descriptor of a file that `get` does not know; False where there are enough, and it stays the caller's."""
        if len(self._young) + len(self._old) >= MAX_DESCRIPTORS:
            return False
        self._young[key] = descriptor, size
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GENERATION_SECONDS, self._rotate_generations)
        return True

    def evict(self, key: str) -> None:
        """The file was deleted or replaced."""
        for files in (self._young, self._old):
            if (held := files.pop(key, None)) is not None:
                self._close_descriptor(held[0])

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
