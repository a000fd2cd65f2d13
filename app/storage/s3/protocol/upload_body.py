"""`UploadBody`: the body of one upload request, kept as received pieces; `WriteBudget`: the memory limit of all bodies.

`UploadBody` is seekable for the SDK's retries and signatures. It is also an async iterable, so that the HTTP client sends it piece by piece,
without copying and without a call in a thread for every 64 KiB.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections import deque
from collections.abc import AsyncIterator

from app.storage.crc32 import crc32
from app.storage.errors import StorageUnavailable
from app.storage.s3.protocol.errors import BACKEND

_SMALL_PIECE_BYTES = 8 * 1024
"""Shorter pieces are joined: a list of very small pieces would take more memory than their bytes."""
_GATHERED_BYTES = 64 * 1024
_SEND_BYTES = 256 * 1024


class UploadBody:
    """Appended to in pieces, readable any number of times. `crc32_base64` covers all bytes."""

    def __init__(self, data: bytes = b"", *, with_checksum: bool = True) -> None:
        self._with_checksum = with_checksum
        self._pieces: list[bytes] = []
        self._tail = bytearray()
        self._size = 0
        self._crc = 0
        self._position = 0
        if data:
            self.append(data)

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return True  # an empty body is still a body

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """`bytes` are kept without a copy, other types are copied."""
        self._size += len(data)
        if self._with_checksum:
            self._crc = crc32(data, self._crc)
        if len(data) < _SMALL_PIECE_BYTES:
            self._tail += data
            if len(self._tail) >= _GATHERED_BYTES:
                self._flush_tail()
            return
        self._flush_tail()
        self._pieces.append(data if isinstance(data, bytes) else bytes(data))

    @property
    def crc32_base64(self) -> str | None:
        """The CRC-32 as in S3's header: base64 of four bytes, big-endian; None where the SDK computes the checksum."""
        if not self._with_checksum:
            return None
        return base64.b64encode(self._crc.to_bytes(4, "big")).decode("ascii")

    @property
    def crc32(self) -> int:
        """The CRC-32 over all bytes."""
        if self._with_checksum:
            return self._crc
        value = 0
        for piece in (*self._pieces, self._tail):
            value = crc32(piece, value)
        return value

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, count: int | None = None) -> bytes:
        """Used only by the SDK's checksums, not by the HTTP client."""
        self._flush_tail()
        remaining = self._size - self._position if count is None or count < 0 else count
        parts: list[bytes] = []
        start = 0
        for piece in self._pieces:
            first = max(self._position - start, 0)
            if remaining > 0 and first < len(piece):
                part = piece[first : first + remaining]
                parts.append(part)
                remaining -= len(part)
                self._position += len(part)
            start += len(piece)
            if remaining <= 0:
                break
        return b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        self._flush_tail()
        for piece in self._pieces:
            if len(piece) <= _SEND_BYTES:
                yield piece
                continue
            view = memoryview(piece)
            for first in range(0, len(piece), _SEND_BYTES):
                yield view[first : first + _SEND_BYTES]

    def _flush_tail(self) -> None:
        if self._tail:
            self._pieces.append(bytes(self._tail))
            self._tail.clear()


class WriteBudget:
    """The memory limit that all uploads of the process share, in bytes.

    Parts that wait for memory cannot deadlock: when nothing is free, one part at a time may use a reserve that is large enough to fill it.
    After it has been sent, the next part may use the reserve.
    """

    def __init__(self, total: int, reserve: int, timeout_seconds: float) -> None:
        self._free = total - reserve
        self._timeout_seconds = timeout_seconds
        self._reserve_holder: WriteReservation | None = None
        self._waiting: deque[tuple[WriteReservation, int, asyncio.Future[None]]] = deque()

    def create_reservation(self, key: str) -> WriteReservation:
        return WriteReservation(self, key)

    async def acquire(self, reservation: WriteReservation, count: int) -> None:
        if reservation is self._reserve_holder:
            return
        if not self._waiting and self._grant(reservation, count):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (reservation, count, granted)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await granted
        except TimeoutError:
            raise StorageUnavailable(
                reservation.key, BACKEND, "too many uploads at once: no memory for this one"
            ) from None
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._wake()

    def release(self, reservation: WriteReservation) -> None:
        self._free += reservation.held_bytes
        reservation.held_bytes = 0
        if reservation is self._reserve_holder:
            self._reserve_holder = None
        self._wake()

    def _grant(self, reservation: WriteReservation, count: int) -> bool:
        if count <= self._free:
            self._free -= count
            reservation.held_bytes += count
            return True
        if self._reserve_holder is None:
            self._reserve_holder = reservation
            return True
        return False

    def _wake(self) -> None:
        while self._waiting:
            reservation, count, granted = self._waiting[0]
            if not granted.done():
                if not self._grant(reservation, count):
                    return
                granted.set_result(None)
            self._waiting.popleft()


class WriteReservation:
    """The share of one part in the budget: `held_bytes` bytes, without those in the reserve."""

    def __init__(self, budget: WriteBudget, key: str) -> None:
        self._budget = budget
        self.key = key
        self.held_bytes = 0

    async def grow(self, count: int) -> None:
        """Waits until `count` more bytes are granted. Raises `StorageUnavailable` after the budget's timeout."""
        await self._budget.acquire(self, count)

    def release(self) -> None:
        self._budget.release(self)


def parse_whole_crc32(value: str | None, kind: str | None) -> int | None:
    """The CRC-32 in S3's header; None for a composite checksum of the parts (type `COMPOSITE`, or `…-<parts>` where a store names no
    type)."""
    if value is None or kind == "COMPOSITE" or "-" in value:
        return None
    try:
        decoded = base64.b64decode(value, validate=True)
    except ValueError:
        return None
    return int.from_bytes(decoded, "big") if len(decoded) == 4 else None
