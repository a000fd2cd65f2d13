"""`ReadAhead`: fetches pieces of a large object over several connections ahead of its reader, where one connection is the bottleneck.

A read begins with one connection. Only if its reader has waited for the store most of the time, and at a rate that a faster link would
exceed, pieces after the current position are fetched at once: four at first, two more whenever the reader has to wait, fewer when pieces
lie ready. They are in memory, within `AheadBudget` for all readers, and take connections that nobody else wants. However the fetch of a
piece ends early, the plain read fetches its bytes once more, and reports the error. A reader that stalls loses its pieces.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Protocol, Self

from app.storage.backend import ObjectInfo
from app.storage.errors import StorageError
from app.storage.ranges import ByteRange
from app.storage.s3.reads.chunks import RangeReader, ReadChunks

MEBIBYTE = 1024 * 1024
PIECE_BYTES = 4 * MEBIBYTE
FIRST_PIECES, MORE_PIECES, MAX_PIECES = 4, 2, 8
"""Of one read."""
MAX_PIECES_OF_ALL = 8
"""32 MiB: ten downloads at once are to grow the process by less than 64 MiB, all buffers together."""
MAX_READY = 2
"""Pieces that lie ready before a further one is fetched."""
SMALLEST_REST = 3 * PIECE_BYTES
"""Nothing is fetched ahead for a read with fewer bytes left."""
OBSERVED_BYTES, OBSERVED_SECONDS = MEBIBYTE, 0.05
"""How much of a read is observed first, at least."""
WAITING_SHARE = 0.6
"""Of the time, that the reader has waited for the store."""
FAST_BYTES_PER_SECOND = 100 * MEBIBYTE
"""One connection that is as fast suffices."""
JUDGED_PIECES = 8
USEFUL_RATIO = 1.3
"""By how much the read has to be faster after `JUDGED_PIECES`, or it goes on over one connection."""
STALL_SECONDS = 2.0


class SpareConnections(Protocol):
    """The part of `ReadConnections` that is needed."""

    @property
    def has_spare(self) -> bool: ...


class AheadReader(RangeReader, Protocol):
    """The part of `S3Reader` that is needed."""

    @property
    def spare_connections(self) -> SpareConnections: ...

    @property
    def ahead_budget(self) -> AheadBudget: ...


class AheadBudget:
    """Bounds the pieces of all reads. `used` is for metrics and tests."""

    def __init__(self, limit: int = MAX_PIECES_OF_ALL) -> None:
        self.limit = limit
        self.used = 0

    def try_take(self) -> bool:
        if self.used >= self.limit:
            return False
        self.used += 1
        return True

    def give_back(self) -> None:
        self.used -= 1


class _Piece:
    """One piece that is being fetched, or lies ready."""

    def __init__(self, byte_range: ByteRange) -> None:
        self.range = byte_range
        self.position = byte_range.first
        """Of the first of `chunks` in the object."""
        self.chunks: deque[bytes] = deque()
        self.is_whole = False
        self.has_ended = False
        """No more bytes arrive, whatever the reason: with all of them, an error or a cancellation."""
        self.arrived = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def wait_for_bytes(self) -> None:
        """Returns when there are bytes to take, or none will arrive."""
        while not self.chunks and not self.has_ended:
            self.arrived.clear()
            await self.arrived.wait()


class ReadAhead:
    """Iterates over the bytes of one read. `aclose` ends it."""

    def __init__(self, reader: AheadReader, first: ReadChunks, info: ObjectInfo, served: ByteRange) -> None:
        """`first` is the read that has begun; the caller closes it, too."""
        self._reader = reader
        self._budget = reader.ahead_budget
        self._info = info
        self._single: ReadChunks | None = first
        self._position = served.first
        self._end = served.first + served.length
        self._single_end = self._end
        self._next_first = self._end
        """Where the piece after the last one begins."""
        self._pieces: deque[_Piece] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._target = 0
        self._is_useless = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._taken_at = self._began_at = self._loop.time()
        self._waited = 0.0
        self._observed = self._ahead_bytes = 0
        self._single_rate = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._position >= self._end:
            raise StopAsyncIteration
        chunk = await self._take_ahead() if self._pieces else None
        if chunk is None:
            chunk = await self._take_single()
        self._position += len(chunk)
        self._taken_at = self._loop.time()
        return chunk

    async def aclose(self) -> None:
        self._drop_pieces()
        self._close_single()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _take_single(self) -> bytes:
        if self._single is None:
            await self._open_single()
        single = self._single
        assert single is not None  # noqa: S101 - for the type checker
        began = self._loop.time()
        chunk = await anext(single)
        self._waited += self._loop.time() - began
        self._observed += len(chunk)
        position = self._position + len(chunk)
        if self._pieces and position >= self._single_end:
            chunk = chunk[: self._single_end - self._position]
            self._close_single()
        elif not self._pieces and self._is_store_slow(self._end - position):
            self._begin_ahead(position)
        return chunk

    def _is_store_slow(self, left: int) -> bool:
        elapsed = self._loop.time() - self._began_at
        if self._is_useless or left < SMALLEST_REST or self._observed < OBSERVED_BYTES or elapsed < OBSERVED_SECONDS:
            return False
        rate = self._observed / max(self._waited, 1e-6)
        if self._waited < WAITING_SHARE * elapsed or rate > FAST_BYTES_PER_SECOND:
            self._observe_anew()
            return False
        self._single_rate = rate
        return True

    def _observe_anew(self) -> None:
        self._began_at = self._loop.time()
        self._waited, self._observed, self._ahead_bytes = 0.0, 0, 0

    def _begin_ahead(self, position: int) -> None:
        """The connection that there is goes on for one piece, so that the reader does not wait for the others."""
        self._observe_anew()
        self._target = FIRST_PIECES
        self._next_first = position + PIECE_BYTES
        self._start_pieces()
        if self._pieces:
            self._single_end = position + PIECE_BYTES
            self._timer = self._loop.call_later(STALL_SECONDS, self._drop_if_stalled)

    def _start_pieces(self) -> None:
        ready = sum(piece.is_whole for piece in self._pieces)
        while len(self._pieces) < self._target and ready < MAX_READY and self._next_first < self._end:
            if not self._reader.spare_connections.has_spare or not self._budget.try_take():
                return
            last = min(self._next_first + PIECE_BYTES, self._end) - 1
            piece = _Piece(ByteRange(self._next_first, last))
            piece.task = self._loop.create_task(self._fetch(piece))
            self._tasks.add(piece.task)
            piece.task.add_done_callback(partial(self._on_fetch_ended, piece))
            self._pieces.append(piece)
            self._next_first = last + 1

    async def _fetch(self, piece: _Piece) -> None:
        with suppress(StorageError):
            reply = await self._reader.send_get(self._info.key, piece.range, self._info.etag)
            with ReadChunks(self._reader, reply, piece.range) as chunks:
                async for chunk in chunks:
                    piece.chunks.append(chunk)
                    piece.arrived.set()
            piece.is_whole = True

    def _on_fetch_ended(self, piece: _Piece, task: asyncio.Task[None]) -> None:
        """Called however the task ends, also where it was cancelled before it began: the reader must not wait any longer."""
        self._tasks.discard(task)
        piece.has_ended = True
        piece.arrived.set()

    async def _take_ahead(self) -> bytes | None:
        """The next chunk of the first piece; None where the plain read has to go on."""
        piece = self._pieces[0]
        if self._position < piece.range.first:
            return None  # the connection of the beginning has the bytes before it
        if self._position != piece.position:
            self._drop_pieces()
            return None
        if not piece.chunks and not piece.has_ended:
            self._target = min(self._target + MORE_PIECES, MAX_PIECES)
            self._start_pieces()
            await piece.wait_for_bytes()
        if not piece.chunks:
            self._drop_pieces()
            return None
        chunk = piece.chunks.popleft()
        piece.position += len(chunk)
        self._ahead_bytes += len(chunk)
        if self._position + len(chunk) > (piece.range.last or 0):
            self._pieces.popleft()
            self._budget.give_back()
            self._judge()
            self._start_pieces()
        return chunk

    def _judge(self) -> None:
        """Goes back to one connection where several are not faster."""
        if self._ahead_bytes < JUDGED_PIECES * PIECE_BYTES:
            return
        rate = (self._observed + self._ahead_bytes) / max(self._loop.time() - self._began_at, 1e-6)
        if rate < USEFUL_RATIO * self._single_rate:
            self._is_useless = True
            self._drop_pieces()
        self._observe_anew()

    async def _open_single(self) -> None:
        byte_range = ByteRange(self._position, self._end - 1)
        reply = await self._reader.send_get(self._info.key, byte_range, self._info.etag)
        self._single = ReadChunks(self._reader, reply, byte_range)
        self._single.__enter__()
        self._single_end = self._end
        self._observe_anew()

    def _close_single(self) -> None:
        single, self._single = self._single, None
        if single is not None:
            single.__exit__(None, None, None)

    def _drop_pieces(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for piece in self._pieces:
            self._budget.give_back()
            piece.chunks.clear()
            if piece.task is not None:
                piece.task.cancel()
        self._pieces.clear()
        self._target = 0  # what follows the dropped pieces would leave a gap
        self._single_end = self._end

    def _drop_if_stalled(self) -> None:
        self._timer = None
        if not self._pieces:
            return
        idle = self._loop.time() - self._taken_at
        is_waiting_for_store = not self._pieces[0].chunks and self._position >= self._pieces[0].range.first
        if idle >= STALL_SECONDS and not is_waiting_for_store:
            self._drop_pieces()
            return
        self._timer = self._loop.call_later(max(STALL_SECONDS - idle, 0.1), self._drop_if_stalled)
