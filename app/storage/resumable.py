"""`ResumableWrites`: the protocol for objects whose bytes arrive in several requests, to several processes, over days.

A write is known by its state, which the caller keeps in the catalogue. Bytes count as stored when the caller has saved the state that
counts them; whatever lies in the store beyond that state is forgotten by the next append. Nothing is visible before the commit.

An append may overlap with an older one of the same write that hangs, is stopped, or runs in a process that is believed dead. `save` decides
between the two: it raises for the older one. The guarantees are in `tests/storage/guarantees/resumable.py`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from app.storage.digests import UpdateDigest
from app.storage.key import Key


@dataclass(frozen=True, slots=True)
class ResumableWriteState:
    """`value` is JSON that only the backend reads; on S3 it takes about 40 bytes for each stored part (at most 10,000)."""

    value: str

    @property
    def offset(self) -> int:
        """Bytes that are durable."""
        return int(json.loads(self.value)["offset"])


SaveState = Callable[[ResumableWriteState], Awaitable[None]]
"""Saves the state, and returns when it is durable; raises where a newer append has taken over. Called with an unchanged state, it only has
to check the latter."""


class ResumableAppender(Protocol):
    """Appends bytes to one write. After any error it is of no further use; the saved state stays valid."""

    @property
    def offset(self) -> int:
        """The offset of the next byte: durable bytes, and those written since."""
        ...

    async def write(self, data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None = None) -> None:
        """As `ObjectWriter.write`. May call `save`, without a new offset. Raises `ObjectTooLarge` past the write's size."""
        ...

    async def checkpoint(self) -> None:
        """Make all bytes written so far durable, and `save` the state that counts them. What only the old state needs is deleted
        afterwards."""
        ...

    async def discard(self) -> None:
        """Forget the bytes written since the last checkpoint; `offset` goes back to it."""
        ...


class ResumableWrites(Protocol):
    """Methods raise only `StorageError`s, `CancelledError`, and what `save` raises."""

    async def begin(self, key: Key, *, size: int | None, content_type: str | None) -> ResumableWriteState:
        """The state of a new write of `size` bytes (None: not known yet). Raises `ObjectExists`, `StorageFull`, `ObjectTooLarge`, …"""
        ...

    def append(
        self, key: Key, state: ResumableWriteState, *, size: int | None, save: SaveState, is_contested: bool
    ) -> AbstractAsyncContextManager[ResumableAppender]:
        """Go on from `state`, the last one saved. `size` is the number of bytes of the whole object, where it is known by now.
        `is_contested`: an older append of this write may still run. Leaving the context forgets what was written since the last
        checkpoint. On entry or at a write, raises `ObjectNotFound` where stored bytes have been lost, or the write was committed: where
        all bytes are durable, only `commit` tells."""
        ...

    async def commit(self, key: Key, state: ResumableWriteState, size: int, *, is_contested: bool = False) -> None:
        """Make the object visible, which has `size` bytes. Idempotent, also where the process that committed died before it could
        tell. A cancelled commit runs to its end before the cancellation is raised. Raises `ObjectIncomplete` where `state` counts
        another number of bytes; `ObjectExists` where another object has the key; `ObjectNotFound` where stored bytes have been lost."""
        ...

    async def abort(self, key: Key, state: ResumableWriteState | None) -> None:
        """Remove what the write has left: files, parts, tails, but not a committed object. Idempotent. Without a state, and for what
        no state names, by the key alone. Bytes that a killed process had sent may arrive later still: a second call removes them."""
        ...

    async def check(self, key: Key, state: ResumableWriteState) -> None:
        """Raises `ObjectNotFound` where bytes that `state` counts are no longer stored, as far as the store tells without reading
        them."""
        ...
